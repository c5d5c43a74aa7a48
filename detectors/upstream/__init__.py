"""Bridges to third-party code in checkouts of the user's own: for numerical parity, and to run it as it is."""
