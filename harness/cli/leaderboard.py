"""`samiro-bench leaderboard`: the tables of a suite, from records and counts alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from harness.cli.console import say
from harness.cli.options import RESULTS, Results, Seeds, SuiteName, Tier

if TYPE_CHECKING:
    from harness.matrix.recorded import SuiteCells
    from harness.suite import Choice, Suite

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench leaderboard mini")
def leaderboard(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    tier: Tier = None,
    results: Results = RESULTS,
    figures: Annotated[
        bool, typer.Option("--figures", help="Write the page's figures as SVG and PNG too, into site/figures/.")
    ] = False,
) -> int:
    """Print the table of SUITE and rebuild leaderboard.{md,csv,tex} and site/index.html. Exit code 1 if a record was left out.

    Rows of cells that don't hold any more are kept, with a warning that the tables tell as well.
    """
    from harness.files.stored import no_collection
    from harness.suite import Choice, load_suite

    choice = Choice(seeds, tier=tier)
    with no_collection():
        loaded = load_suite(suite)
        expected = recorded_cells(loaded, suite, results, choice)
        later = [] if tier is None else later_tiers(loaded, tier)
        outdated = told_of_stale(loaded, results, choice)
        return 0 if show_leaderboard(expected, Console(), figures=figures, left_out=later, outdated=outdated) else 1


def recorded_cells(loaded: Suite, suite: str, results: Path, choice: Choice) -> SuiteCells:
    """The cells of a suite and what of them is at hand; InputError where none has a record. suite: what the user called it."""
    from harness.errors import InputError
    from harness.matrix.micro_batches import current_cells, read_reductions
    from harness.matrix.recorded import expected_of, record_paths, strays
    from harness.programs.cell import program_cells
    from harness.suite import cells_of

    trained = current_cells(cells_of(loaded, choice), read_reductions(results, loaded.name))
    expected = expected_of(loaded, results, (*trained, *program_cells(loaded, choice)))
    if not record_paths(expected):
        others, _ = strays(expected)
        beside = f" as it is now ({others} of other seeds, tiers or options lie there)" if others else ""
        raise InputError(f"{expected.records}: no record of this suite{beside}; run `samiro-bench bench {suite}`")
    return expected


def told_of_stale(suite: Suite, results: Path, choice: Choice) -> list[str]:
    """What to say of rows that don't hold any more, where the runs are at hand; nothing here needs data or a sound run."""
    from harness.errors import InputError
    from harness.matrix.plan import make_plan
    from harness.matrix.stale import stale_note

    if not (results / suite.name / "cells").is_dir():
        return []
    try:
        note = stale_note(make_plan(suite, results, choice))
    except InputError as error:
        note = f"whether its cells still hold isn't known: {error}"
    return [] if note is None else [note]


def later_tiers(suite: Suite, tier: str) -> list[str]:
    """What the tables of `--tier` tell of the tiers after it, a line each."""
    from harness.suite.tiers import taken_tiers

    taken = taken_tiers(suite, tier)
    return [f"tier {name}: left out, these tables are of --tier {tier}" for name in suite.tiers if name not in taken]


def show_leaderboard(
    expected: SuiteCells,
    console: Console,
    *,
    figures: bool = False,
    left_out: Sequence[str] = (),
    outdated: Sequence[str] = (),
) -> bool:
    """Print the tables of a suite's records, write them and the page, and name the files; whether every record could be used.

    left_out: what of the suite isn't among the cells, a line each, and outdated: which rows don't hold any more. The tables tell both.

    What is wrong with the others goes to standard error, a line each.
    """
    from harness.errors import InputError
    from harness.matrix.recorded import failed_seeds, missing_seeds, record_paths, strays
    from harness.records.record import read_sound_records
    from harness.report.figures import write_figures
    from harness.report.leaderboard import leaderboard
    from harness.report.published import read_published
    from harness.report.site.page import write_page
    from harness.report.tables import write_leaderboard
    from harness.report.terminal import print_leaderboard

    folder, place = expected.results / expected.suite, expected.records
    records, faults = read_sound_records(record_paths(expected))
    others, misplaced = strays(expected)
    published = read_published()
    board = leaderboard(
        records,
        place,
        published,
        faults=[*faults, *misplaced],
        missing=[*missing_seeds(expected), *left_out],
        failed=failed_seeds(expected),
        outdated=outdated,
    )
    # Before anything is written, for whoever may only read the folder.
    print_leaderboard(board, console)
    try:
        drawn = write_figures(folder / "site" / "figures", board) if figures else []
        written = (*write_leaderboard(folder, board), write_page(folder / "site", board), *drawn)
    except InputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise InputError(
            f"{folder}: takes no file ({error.__cause__.strerror}): the tables above are whole, and written nowhere; for files and "
            f"the page copy {place} to MINE/{expected.suite}/records, and give --results MINE"
        ) from error
    if others:
        console.print(
            f"{others} records of other seeds, tiers or options lie beside them and were left alone", highlight=False
        )
    if not published.figures and any(record.identity.dataset_key.get("real") for record in records):
        console.print("published figures: results/published isn't at hand", highlight=False)
    told = Console(stderr=True)
    for line in (*board.missing, *board.outdated):
        say(told, f"warning: {line}")
    for line in board.left_out:
        say(told, f"samiro-bench: not used: {place}/{line}")
    *others_written, last = map(str, written)
    say(console, f"wrote {', '.join(others_written)} and {last}")
    return not board.left_out
