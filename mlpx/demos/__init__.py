"""The six problems, each a demo that a beginner can read from top to bottom."""
