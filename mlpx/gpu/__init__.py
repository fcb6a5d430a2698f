"""Training and checking on a GPU: a network's step as launches over fixed buffers, captured as one graph."""
