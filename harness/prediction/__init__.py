"""Predictions of any pictures: what is asked for, what is written, and the loop between."""
