"""Records, and the counts per image, timings and environments that they hold."""
