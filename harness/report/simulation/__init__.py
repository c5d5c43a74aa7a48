"""How often the leaderboard's intervals cover what they claim to, and its verdicts err: `python -m harness.report.simulation`.

Simulated test sets whose truth is known go through the very functions that a leaderboard is made with. Nothing else imports this room.
"""
