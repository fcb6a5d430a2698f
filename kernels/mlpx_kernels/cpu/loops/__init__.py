"""Loops over rows and elements that ops and plans share."""
