"""The compiled plan: its memory layout, interpreter, and the kernels of its layers, loss and update."""
