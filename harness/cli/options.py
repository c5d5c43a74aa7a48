"""Options that several verbs share."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import InputError
from harness.files.stored import expanded
from harness.lanes import Part

SuiteName = Annotated[str, typer.Argument(metavar="[SUITE]", help="A suite's name, or the path of its YAML file.")]
Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Seeds 0 to N-1 instead of the suite's own number.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="EXPR",
        help="Only cells that fit key=pattern,key=pattern (dataset, detector, method, seed); repeated: those that fit any.",
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="EXPR", help="Without the cells that fit, written as for --only; repeatable."),
]
Tier = Annotated[
    str | None,
    typer.Option(
        "--tier",
        metavar="NAME",
        help="Only this tier of the suite and those before it; other choices are made of these.",
    ),
]
ResourceOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--resources",
        metavar="EXPR",
        help="What jobs need, key=value,key=value (cpus, memory_gigabytes, gpu_memory_gigabytes, hours, whole_node, slurm.OPTION); "
        "with keys of --only before them, of those cells alone. Over the suite's own; repeatable.",
    ),
]


def folder(text: str | Path) -> Path:
    """A folder to write into. The shell leaves `--results=~/runs` as it is, and makes nothing of a variable without a value."""
    if not str(text):
        raise typer.BadParameter("it is empty, as a variable without a value is; give the path of a folder")
    return expanded(text)


Results = Annotated[Path, typer.Option("--results", metavar="FOLDER", parser=folder, help="The folder of runs.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, and nothing else there.")]

RESULTS = Path("results/local")
"""Where runs live, from the folder in which the command is called."""


def positive(text: str | float) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{str(text)!r} isn't a number above 0")
    return value


def picture_part(text: str) -> Part:
    """WIDTHxHEIGHT+LEFT+TOP in pixels, such as 1280x460+0+71."""
    match = re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text)
    if not match or not all(map(int, match.groups()[:2])):
        raise typer.BadParameter(f"{text!r} isn't WIDTHxHEIGHT+LEFT+TOP in pixels, such as 1280x460+0+71")
    return Part(*map(int, match.groups()))


LaneWidth = Annotated[
    int, typer.Option("--lane-width", metavar="PIXELS", min=2, max=1000, help="How wide lanes are painted.")
]
Crop = Annotated[
    Part | None,
    typer.Option(
        "--crop", metavar="WxH+X+Y", parser=picture_part, help="The part of each picture to take for a frame."
    ),
]


LONGEST_SIDE = 4096
"""In pixels, of an image that a network looks at: a digit too many would ask for more memory than there is."""


def height_and_width(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH in pixels, such as 128x320. InputError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not all(1 <= int(side) <= LONGEST_SIDE for side in match.groups()):
        raise InputError(f"--size {text!r}: isn't HEIGHTxWIDTH in pixels up to {LONGEST_SIDE}, such as 128x320")
    return int(match[1]), int(match[2])
