"""`samiro-bench data unpack`: archived predictions as an official evaluator reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import InputError

EPILOG = "Example: samiro-bench data unpack results/mini/predictions/NAME.test.npz roads lanes"


def unpack(
    archive: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="predictions.npz of a run's cell, or one of a publication.")
    ],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder of the dataset that was predicted.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that doesn't exist yet.")],
) -> None:
    """Write the predictions of ARCHIVE at OUT in the official format of ROOT's form, as they were scored."""
    from harness.datasets.base import FORMS, open_dataset
    from harness.datasets.doctor.layouts import recognise
    from harness.datasets.predictions import unpack_predictions
    from harness.files.whole import refuse_existing, whole_folder
    from harness.report.text import counted

    refuse_existing(out)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; name the folder of a dataset")
    place = recognise(root.resolve())
    if place is None or place.form not in FORMS or place.findings:
        raise InputError(f"{root}: no dataset that can be read; `samiro-bench data doctor {root}` says why")
    dataset = open_dataset(place.form, place.root)
    ids, lanes = unpack_predictions(archive)
    split = next((split for split in dataset.splits() if [frame.id for frame in dataset.frames(split)] == ids), None)
    if split is None:
        raise InputError(f"{archive}: of other images than any split of {root}; name the dataset that was predicted")
    with whole_folder(out) as folder:
        dataset.write_predictions(folder, dataset.frames(split), lanes)
    typer.echo(f"wrote the predictions of {counted(len(ids), 'image')} of split {split} to {out}")
