"""Matrix products: which implementation takes one, register tiles, row dot products, the BLAS."""
