"""`samiro-bench transfer`: how every trained detector of a suite does on a labelled folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from harness.cli.console import say
from harness.cli.options import RESULTS, Crop, Json, LaneWidth, Only, Results, Seeds, Skip, Tier
from harness.errors import InputError
from harness.metrics.canvas import LANE_WIDTH

if TYPE_CHECKING:
    from harness.prediction.labelled import Candidate, Scored

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: samiro-bench transfer field six --checkpoint lstr_resnet18s=lstr.safetensors --out six-field"
)
def transfer(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or the path of its YAML file.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Labelled images in CULane's layout, as of `data masks`.")
    ],
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DETECTOR=FILE",
            help="A further checkpoint, as of `detectors import`: a row of its own; repeatable.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Whose images and labels: train, val or test.")] = "test",
    seeds: Seeds = None,
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    crop: Crop = None,
    lane_width: LaneWidth = LANE_WIDTH,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep transfer.md, transfer.csv and all predictions in a folder that is new."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the detectors run.")] = "auto",
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Score the trained cells of SUITE on the images of FOLDER: a row a detector and method, best first.

    The same as `predict` and `score culane` of each: nothing is trained, and what a detector sees is what `predict` would show it.
    Where pictures have another shape or horizon than the training frames, crop them by `data masks --crop`, labels with them
    (docs/real-frames.md); --crop here shows a part of each picture and scores on all of it. Cells that aren't trained yet, and
    programs, are left out and named; so are those that other code trained, which are scored all the same. A cell whose weights are
    damaged is named too, and the exit code is 1 then.
    """
    from harness.inference.detector import chosen_device
    from harness.prediction.labelled import (
        BrokenCandidate,
        candidate_of_cell,
        folder_of_predictions,
        open_labelled,
        score_candidate,
    )
    from harness.prediction.labelled_table import row_object, rows_of, table_of, to_csv, to_markdown
    from harness.prediction.trained import refuse_untrained, trained_cells
    from harness.report.terminal import show
    from harness.suite import Choice

    chosen = chosen_device(device)
    with folder_of_predictions(out) as place, Console(stderr=True).status("") as status:
        labelled = open_labelled(folder, split, lane_width)
        others = further_candidates(checkpoint or ())
        trained, left_out = trained_cells(suite, results, Choice(seeds, only or (), skip or (), tier))
        if not trained and not others:
            refuse_untrained(suite, results)

        def score(candidate: Candidate) -> Scored:
            status.update(candidate.name)
            into = place / "predictions" / candidate.name
            return score_candidate(candidate, labelled, into, device=chosen, part=crop)

        scored, broken = [score(candidate) for candidate in others], []
        for one in trained:
            try:
                scored.append(score(candidate_of_cell(one)))
            except BrokenCandidate as error:
                shutil.rmtree(place / "predictions" / one.cell.id, ignore_errors=True)
                broken.append(str(error))
        if not scored:
            raise InputError(f"{broken[0]}; no cell could be scored")
        rows = rows_of(scored)
        notes = notes_on([one.cell.id for one in trained if one.stale], left_out, broken, suite)
        (place / "transfer.md").write_text(to_markdown(rows, labelled, notes), encoding="utf-8")
        (place / "transfer.csv").write_text(to_csv(rows), encoding="utf-8")
    if as_json:
        facts = {
            "suite": suite,
            "folder": str(folder),
            "split": split,
            "images": labelled.images,
            "lanes": labelled.lanes,
            "metric": labelled.metric,
            "crop": None if crop is None else str(crop),
            "device": str(chosen),
            "out": None if out is None else str(out),
            "rows": [row_object(row) for row in rows],
            "left_out": left_out,
            "broken": broken,
        }
        typer.echo(json.dumps(facts))
        raise typer.Exit(bool(broken))
    table, console = table_of(rows, labelled), Console()
    say(console, table.title)
    show(table, range(table.text_columns, len(table.header)), console)
    if out is not None:
        typer.echo(f"wrote {out}/transfer.md, {out}/transfer.csv and {out}/predictions")
    for note in notes:
        print(note, file=sys.stderr)
    raise typer.Exit(bool(broken))


def further_candidates(words: Sequence[str]) -> list[Candidate]:
    """The checkpoints of DETECTOR=FILE, loaded. InputError for other words, one given twice, and what doesn't load."""
    from harness.prediction.labelled import candidate_of_file

    found: dict[str, Candidate] = {}
    for word in words:
        detector, sign, file = word.partition("=")
        if not detector or not sign or not file:
            raise InputError(f"--checkpoint {word}: write DETECTOR=FILE, such as lstr_resnet18s=lstr.safetensors")
        candidate = candidate_of_file(detector, Path(file))
        if candidate.name in found:
            raise InputError(f"--checkpoint {word}: these weights are given twice; leave one out")
        found[candidate.name] = candidate
    return list(found.values())


def notes_on(stale: Sequence[str], left_out: Sequence[str], broken: Sequence[str], suite: str) -> list[str]:
    """What to know of the rows: which other code trained, which cells have none, and which are missing for a fault."""
    from harness.prediction.trained import first_of, left_out_note

    notes = []
    if stale:
        notes.append(
            f"stale, trained by other code than is here (samiro-bench plan {suite} says which): {first_of(stale)}"
        )
    if left_out:
        notes.append(left_out_note(left_out))
    notes += [f"not scored: {fault}; `samiro-bench bench {suite}` says what can be done" for fault in broken]
    return notes
