"""Detectors out of process: their cells, how they are run, and the files that are exchanged with them."""
