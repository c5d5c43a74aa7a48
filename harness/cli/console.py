"""How the verbs write on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


def say(console: Console, line: str) -> None:
    """Print a line as it is: nothing in it is markup, and a narrow terminal breaks it nowhere but at its edge."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def bar_on_stderr(*columns: ProgressColumn) -> Progress:
    """A bar that goes away at its end; nothing where standard error is no terminal."""
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
