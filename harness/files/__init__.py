"""What everything stored stands on: atomic writes, hashes, locks, bounded reading, checked YAML, fingerprints of code."""
