"""`samiro-bench data doctor`: is a folder a dataset, which one, and is it whole?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Json
from harness.errors import InputError, did_you_mean
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.datasets.doctor.findings import Health

EPILOG = "Example: samiro-bench data doctor /data/CULane --sheet culane.jpg"


def doctor(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder of a dataset.")],
    form: Annotated[
        str | None, typer.Option(help="What it should be: culane, tusimple, llamas; found out by default.")
    ] = None,
    images: Annotated[
        int, typer.Option(min=0, help="How many images are opened, evenly over the clips; 0: all.")
    ] = 200,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a JPEG of images with their labels, for your eyes: don't publish it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which dataset ROOT is, what is missing or wrong in it, and what to do. Exit code 0: healthy, 1: not, 2: no dataset."""
    from harness.datasets.doctor.examine import examine
    from harness.datasets.doctor.layouts import LAYOUTS, LOOKED_FOR

    if form is not None and form not in LAYOUTS:
        raise InputError(f"--form {form}: no such form: {did_you_mean(form, list(LAYOUTS))}")
    health = examine(root, form, images=images, sheet=sheet)
    if health.form is None:
        kind = f"no dataset of form {form}" if form else "none of the datasets that are known"
        raise InputError(f"{root}: {kind}; looked for {LOOKED_FOR}")
    typer.echo(json.dumps(health.as_dict(), indent=1) if as_json else "\n".join(described(health)))
    raise typer.Exit(0 if health.healthy else 1)


def described(health: Health) -> list[str]:
    """A report in lines of plain text."""
    kind = f"{health.layout}{', rendered' if health.rendered else ''}"
    size = f", images {health.image_size[1]} x {health.image_size[0]}" if health.image_size else ""
    lines = [f"{health.root}: {kind}{size}"]
    if health.images:
        lines.append("  " + ", ".join(f"{split} {count:,}" for split, count in health.images.items()) + " images")
    if health.scenarios:
        lines.append("  test: " + ", ".join(f"{name} {count:,}" for name, count in sorted(health.scenarios.items())))
    timed = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in health.seconds.items())
    lines.append(
        f"  read {counted(health.labels, 'label')} with {counted(health.lanes, 'lane')}, opened "
        f"{counted(health.decoded, 'image')} ({timed})"
    )
    for finding in health.findings:
        lines.append(f"{finding.severity} [{finding.kind}] {finding.file}: {finding.what}")
        lines.append(f"    -> {finding.fix}")
    lines.append("healthy" if health.healthy else "not healthy: see above")
    return lines
