"""Processes that work: how they end, stop, fail, and what they say meanwhile."""
