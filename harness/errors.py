"""What is said of bad or odd input: the exception is one line and exit code 2 on the command line, the warning one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class InputError(Exception):
    """Bad input. The message is one line that names the file, the line or key, and what to do."""


class InputWarning(UserWarning):
    """Something odd that is worked with all the same. The message is one line; the command line prints it without Python's frame."""


@contextmanager
def telling_warnings(tell: Callable[[str], None]) -> Iterator[None]:
    """Have each InputWarning told once, as its message; others, such as those of libraries, are shown as Python does."""
    told: set[str] = set()
    with warnings.catch_warnings():
        theirs = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                theirs(message, category, *where, **more)
            elif str(message) not in told:
                told.add(str(message))
                tell(str(message))

        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        yield


def why_unread(error: Exception) -> str:
    """What was raised on a text that is none of its format, in one line."""
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


FEW, MANY = 5, 25
"""Names that a line of a message has at most, and from how many on it leaves some out."""


def mending(error: Exception, otherwise: str) -> str:
    """What to do about a file that can't be read: `otherwise`, which may cost it, only where its content or its absence is the reason.

    What the system kept from being read may be whole: another user's, one on a mount that was lost, one file too many. An InputError
    is told by what it was raised from.
    """
    if isinstance(error, InputError) and isinstance(error.__cause__, Exception):
        return mending(error.__cause__, otherwise)
    if isinstance(error, PermissionError):
        return "have whoever made it let you read it"
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return "it may be whole: see to what keeps it from being read, then run the same again"
    return otherwise


def did_you_mean(unknown: str, known: list[str]) -> str:
    """A closing sentence for messages on unknown names: the nearest known one, then all of them, of many the nearest alone."""
    import difflib

    nearest = difflib.get_close_matches(unknown, known, n=FEW, cutoff=0.5)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    if len(known) > MANY:
        return f"{guess}{len(known)} are known{', nearest: ' if nearest else ''}{', '.join(nearest)}"
    return f"{guess}known: {', '.join(sorted(known)) or 'none'}"
