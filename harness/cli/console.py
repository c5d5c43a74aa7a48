"""How the verbs write on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


LISTING_WIDTH = 200
"""Columns of a listing where it doesn't go to a terminal."""


def listing_console() -> Console:
    """Where a wide table goes: as wide as the terminal, and where there is none wide enough that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else LISTING_WIDTH)


def say(console: Console, line: str) -> None:
    """Print a line as it is: nothing in it is markup, and a narrow terminal breaks it nowhere but at its edge."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def bar_on_stderr(*columns: ProgressColumn) -> Progress:
    """A bar that goes away at its end; nothing where standard error is no terminal."""
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
