"""`samiro-bench data convert`: a dataset of one form written as another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from harness.errors import InputError, did_you_mean

EPILOG = "Example: samiro-bench data convert /data/CurveLanes roads --to culane --size 1440x2560"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A dataset: CULane, TuSimple, LLAMAS or CurveLanes.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that doesn't exist yet.")],
    to: Annotated[str, typer.Option("--to", help="culane or tusimple.")],
    images: Annotated[str, typer.Option(help="link: hard links, which cost no room; copy; symlink.")] = "link",
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Take only images of this height and width in pixels.")
    ] = None,
) -> None:
    """Write SOURCE in another form at OUT; SOURCE itself is never written. What can't be expressed is said."""
    from harness.datasets import convert as conversion
    from harness.datasets.base import open_dataset
    from harness.datasets.curvelanes import CurveLanes
    from harness.datasets.doctor.layouts import recognise

    if to in conversion.REFUSED:
        raise InputError(f"--to {to}: {conversion.REFUSED[to]}")
    for option, value, kind in (("--to", to, conversion.Target), ("--images", images, conversion.Images)):
        if value not in get_args(kind):
            raise InputError(f"{option} {value}: no such choice: {did_you_mean(value, list(get_args(kind)))}")
    match = re.fullmatch(r"(\d+)x(\d+)", size) if size is not None else None
    if size is not None and match is None:
        raise InputError(f"--size {size}: give height and width in pixels, as in 1440x2560")
    place = recognise(source.resolve()) if source.is_dir() else None
    if place is None or place.findings:
        raise InputError(f"{source}: no dataset that can be converted; `samiro-bench data doctor {source}` says why")
    if place.form == to:
        raise InputError(f"{source}: is in the form {to} already; convert it to another, or use it as it is")
    opened = CurveLanes(place.root) if place.form == "curvelanes" else open_dataset(place.form, place.root)
    left_out = conversion.convert(
        opened,
        out,
        cast(conversion.Target, to),
        images=cast(conversion.Images, images),
        size=(int(match[1]), int(match[2])) if match else None,
    )
    for line in left_out:
        typer.echo(line, err=True)
    typer.echo(f"wrote {place.layout} as {to} to {out}; look at it with `samiro-bench data doctor {out} --sheet FILE`")
