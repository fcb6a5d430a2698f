"""Threads: how many, how rows are shared, the worker pool and its work queue."""
