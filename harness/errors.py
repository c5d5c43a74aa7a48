"""What is said of bad or odd input: the exception is one line and exit code 2 on the command line, the warning one line."""

from __future__ import annotations


class InputError(Exception):
    """Bad input. The message is one line that names the file, the line or key, and what to do."""


class InputWarning(UserWarning):
    """Something odd that is worked with all the same. The message is one line; the command line prints it without Python's frame."""


def did_you_mean(unknown: str, known: list[str]) -> str:
    """A closing sentence for messages on unknown names: the nearest known one, then all of them."""
    import difflib

    nearest = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{guess}known: {', '.join(sorted(known)) or 'none'}"
