"""`samiro-bench leaderboard`: the tables of a suite, from records and counts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console

from harness.cli.options import RESULTS, Results, Seeds, SuiteName

if TYPE_CHECKING:
    from harness.matrix import Plan

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench leaderboard mini")
def leaderboard(suite: SuiteName = "mini", seeds: Seeds = None, results: Results = RESULTS) -> None:
    """Rebuild leaderboard.md, leaderboard.csv and leaderboard.tex of SUITE and print the table."""
    from harness.errors import InputError
    from harness.matrix import make_plan, records_of
    from harness.suite import load_suite

    loaded = load_suite(suite)
    plan = make_plan(loaded, results, seeds=seeds)
    if not records_of(plan):
        raise InputError(
            f"{results / loaded.name / 'records'}: no record of this suite; run `samiro-bench bench {suite}`"
        )
    show_leaderboard(plan, Console())


def show_leaderboard(plan: Plan, console: Console) -> None:
    """Write the tables of a plan's records, print them, and name the files."""
    from harness.cell import records_folder
    from harness.matrix import failed_seeds, other_records, records_of
    from harness.report.leaderboard import leaderboard
    from harness.report.published import read_published
    from harness.report.tables import write_leaderboard
    from harness.report.terminal import print_leaderboard

    folder = plan.results / plan.suite.name
    place = records_folder(plan.results, plan.suite.name)
    board = leaderboard(records_of(plan), place, read_published(), failed=failed_seeds(plan))
    written = write_leaderboard(folder, board)
    print_leaderboard(board, console)
    others = other_records(plan)
    if others:
        console.print(
            f"{others} records of other seeds or options lie beside them and were left alone", highlight=False
        )
    console.print(f"wrote {' and '.join(str(path) for path in written)}", highlight=False, soft_wrap=True)
