"""The doctor: which dataset a folder is, what is missing or wrong in it, and what to do about each thing."""
