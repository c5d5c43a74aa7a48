"""From records and their counts to statistics, and from these to the tables people publish."""
