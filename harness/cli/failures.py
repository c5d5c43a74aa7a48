"""What a run's failures come to on the command line: what failed, why, and the command that tries just that again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from harness.cli.console import say
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.engines.base import Outcome
    from harness.matrix.plan import Plan
    from harness.processes.faults import FaultKind

KINDS: dict[FaultKind, str] = {
    "memory": "out of memory",
    "infrastructure": "infrastructure",
    "input": "input",
    "scheduler": "scheduler",
    "error": "code",
}
"""How kinds of faults are called."""

NAMED_CELLS = 8
"""So many cells are named in a command; the same command without names tries more of them again, and runs nothing that is done."""


def show_failures(
    outcomes: Sequence[Outcome], plan: Plan, command: Sequence[str], only: Sequence[str], console: Console
) -> int | None:
    """Tell every failure on standard error and what to do about all of them on `console`; the exit code, None if nothing failed.

    command: the words of the command that ran, without the choice of cells that it made by `only`.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if not failed:
        return None
    told = Console(stderr=True)
    for outcome in failed:
        log = f" (log: {outcome.log})" if outcome.log and outcome.kind != "input" else ""
        line = f"samiro-bench: {outcome.job}: {KINDS[outcome.kind or 'error']}: {outcome.message}{log}"
        say(told, line)
    fault = all(outcome.kind == "input" for outcome in failed)
    skipped = sum(outcome.state == "skipped" for outcome in outcomes)
    behind = f", and {skipped} that need them were left out" if skipped else ""
    then = "mend what is named above; then this tries them again" if fault else "this tries them again"
    console.print(
        f"{len(failed)} of {counted(len(outcomes), 'job')} failed{behind}; {then}:", highlight=False, soft_wrap=True
    )
    again = retry_command({outcome.job for outcome in outcomes if outcome.state != "done"}, plan, command, only)
    say(console, f"    {again}")
    return 2 if fault else 1


def retry_command(jobs: set[str], plan: Plan, command: Sequence[str], only: Sequence[str]) -> str:
    """The command that runs again what ended badly: the cells of some jobs by their names, where these are few."""
    cells = [cell for cell in plan.all_cells if cell.id in jobs or f"time {cell.id}" in jobs]
    chosen = list(only)
    if 0 < len(cells) <= NAMED_CELLS and len(cells) < len(plan.all_cells):
        identities = [cell.identity for cell in cells]
        chosen = [
            f"dataset={one.dataset},detector={one.detector},method={one.method},seed={one.seed}" for one in identities
        ]
    return shlex.join([*command, *(word for condition in chosen for word in ("--only", condition))])
