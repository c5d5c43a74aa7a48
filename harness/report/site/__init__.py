"""The page of a leaderboard: one HTML file that needs no network, made from the same figures and texts as the tables."""
