"""The matrix of a suite: which cells there are and where they stand, what they need and cost, and their dispatch to an engine."""
