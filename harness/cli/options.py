"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Results = Annotated[Path, typer.Option("--results", help="The folder of runs.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, and nothing else there.")]

RESULTS = Path("results/local")
"""Where runs live, from the folder in which the command is called."""
