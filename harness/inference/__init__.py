"""Finished detectors on any images: lanes, pictures, what is chosen on the validation split, and export."""
