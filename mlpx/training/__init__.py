"""Training: a fit's options and data, its loop, and what full-batch optimisers minimise."""
