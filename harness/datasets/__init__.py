"""Readers and writers of the lane datasets: one file a format, one seam for all (base)."""
