"""`samiro-bench seeds`: how many paired seeds a gain takes, by what the rows of a pilot varied by."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from harness.cli.console import say
from harness.cli.options import RESULTS, Json, Results, positive

if TYPE_CHECKING:
    from harness.report.leaderboard import Leaderboard

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench seeds results/undecided --gain 0.5 --clips 2")
def seeds(
    pilot: Annotated[
        str,
        typer.Argument(
            metavar="PILOT",
            help="A suite with runs at hand, by its name or YAML file; or a folder with records/, as a publication has them.",
        ),
    ],
    gain: Annotated[
        list[float] | None,
        typer.Option(
            metavar="POINTS",
            parser=positive,
            help="The true gain to tell from 0, in points of the headline score; repeatable. 0.5 and 1 where none is given.",
        ),
    ] = None,
    clips: Annotated[
        float, typer.Option(metavar="TIMES", parser=positive, help="How many test clips, as times the pilot's.")
    ] = 1.0,
    rows: Annotated[
        int, typer.Option(min=1, help="Rows that the method will have in its table, over which Holm adjusts.")
    ] = 1,
    results: Results = RESULTS,
    as_json: Json = False,
) -> int:
    """How many paired seeds tell a gain from 0 with 80 % probability: for every row of PILOT, by what its pairs varied by.

    More than half of all pilots show less noise than there is; the cautious number is enough after four of five. A pilot is a run of
    its own: what is planned by it counts none of its seeds, and fixes its own before it begins. Exit code 1 if a record was left out.
    """
    from harness.report.sample_size_table import notes_of, planned_rows, table_of
    from harness.report.terminal import show

    gains = list(dict.fromkeys(gain or (0.5, 1.0)))
    board = pilot_board(pilot, results)
    planned = planned_rows(board, [points / 100 for points in gains], clips=clips, rows=rows)
    if as_json:
        asked = {"gains": [points / 100 for points in gains], "clips": clips, "rows": rows}
        print(json.dumps({**asked, "planned": [asdict(row) for row in planned]}, indent=1, allow_nan=False))
    else:
        console = Console()
        for title in dict.fromkeys(row.table for row in planned):
            table = table_of([row for row in planned if row.table == title], gains)
            console.print(Text(title, style="bold"), soft_wrap=True)
            show(table, range(table.text_columns, len(table.header)), console)
        for line in notes_of(planned, clips=clips, rows=rows):
            say(console, line)
    for line in board.left_out:
        say(Console(stderr=True), f"samiro-bench: not used: {line}")
    return 1 if board.left_out else 0


def pilot_board(pilot: str, results: Path) -> Leaderboard:
    """The leaderboard of a folder with records, or of what of a suite is at hand. InputError where there is neither."""
    from harness.cli.leaderboard import recorded_cells
    from harness.errors import InputError
    from harness.matrix.recorded import record_paths
    from harness.records.record import read_sound_records
    from harness.report.leaderboard import leaderboard
    from harness.suite import Choice, load_suite

    folder = Path(pilot) / "records"
    if folder.is_dir():
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise InputError(f"{folder}: no record in it; a publication or the runs of a suite have them")
    elif Path(pilot).is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a publication or of a suite's runs, or a suite")
    else:
        expected = recorded_cells(load_suite(pilot), pilot, results, Choice())
        folder, paths = expected.records, record_paths(expected)
    records, faults = read_sound_records(paths)
    return leaderboard(records, folder, faults=faults)
