"""`samiro-bench data index`: read a dataset's labels once, so that every later command finds them ready."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import Json
from harness.errors import InputError, InputWarning, did_you_mean

EPILOG = "Example: samiro-bench data index /data/CULane"


def index(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder of a dataset.")],
    form: Annotated[
        str | None, typer.Option(help="What it is: culane, tusimple, llamas; found out by default.")
    ] = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read all labels, whatever their sizes and modification times say.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build or refresh the label index of ROOT; the folder itself is never written."""
    from harness.datasets.base import FORMS, open_dataset
    from harness.datasets.doctor.layouts import recognise
    from harness.datasets.index import NotStoredWarning, index_path, place_of

    if form is not None and form not in FORMS:
        raise InputError(f"--form {form}: no such form: {did_you_mean(form, list(FORMS))}")
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; name the folder of a dataset")
    place = recognise(root.resolve(), form)
    if place is None or place.form not in FORMS or place.findings:
        raise InputError(f"{root}: no dataset that can be indexed; `samiro-bench data doctor {root}` says why")
    dataset = open_dataset(place.form, place.root, rehash=rehash)
    rows: list[dict[str, Any]] = []
    said: list[str] = []
    for split in dataset.splits():
        if not dataset.has_labels(split):
            continue
        begun = time.monotonic()
        with warnings.catch_warnings(record=True) as odd:
            warnings.simplefilter("always", InputWarning)
            found = dataset.labels(split)
        for one in odd:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        said += [str(one.message) for one in odd if issubclass(one.category, InputWarning)]
        stored = not any(issubclass(one.category, NotStoredWarning) for one in odd)
        rows.append(
            {
                "split": split,
                "images": len(found),
                "lanes": len(found.lane_starts) - 1,
                "points": len(found.points),
                "short_lanes": found.short_lanes(),
                "content": found.content,
                # TuSimple's few label files are read each time, without a word.
                "cached": stored and index_path(place_of(place.form, place.root, split)).is_file(),
                "seconds": round(time.monotonic() - begun, 3),
            }
        )
    where = index_path("").parent
    cached = [row["split"] for row in rows if row["cached"]]
    if as_json:
        values = {
            "root": str(place.root),
            "form": place.form,
            "cache": str(where) if cached else None,
            "splits": rows,
            "warnings": list(dict.fromkeys(said)),
        }
        typer.echo(json.dumps(values, indent=1))
        return
    typer.echo(f"{place.root}: {place.layout}")
    for row in rows:
        typer.echo(
            "  {split}: {images:,} images, {lanes:,} lanes ({short_lanes:,} of fewer than two points), {points:,} points, "
            "{seconds:.2f} s, content {content:.12}".format(**row)
        )
    read_again = [row["split"] for row in rows if not row["cached"]]
    if cached:
        typer.echo(f"cached in {where}" + (f": {', '.join(cached)}" if read_again else ""))
    if read_again:
        typer.echo(f"not cached, read again next time: {', '.join(read_again)}")
