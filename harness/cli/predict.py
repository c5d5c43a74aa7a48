"""`samiro-bench predict`: lanes of any images and videos, in files and drawn."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from harness.cli.console import bar_on_stderr
from harness.cli.options import Crop, Json, folder
from harness.errors import InputError
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.prediction.outputs import Outputs
    from harness.prediction.run import Result

app = typer.Typer(add_completion=False)

EPILOG = "Example: samiro-bench predict ufldv2_micro --checkpoint FILE --out lanes --overlay road.jpg drive.mp4"

BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@app.command(epilog=EPILOG)
def predict(
    name: Annotated[
        str, typer.Argument(metavar="DETECTOR", help="The checkpoint's detector: a name, or path/to/file.py:Class.")
    ],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Images, videos, folders of them, or quoted patterns.")
    ],
    checkpoint: Annotated[
        Path, typer.Option(metavar="FILE", help="Of a run (cells/*/train/checkpoint.safetensors) or an import.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=folder, help="The folder to write into; made if it isn't there.")
    ],
    output_format: Annotated[
        Literal["lines", "tusimple"],
        typer.Option("--format", help="A NAME.lines.txt a picture, or JSON lines in DIR/predictions.json."),
    ] = "lines",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw the lanes as well: NAME.overlay.jpg, of a video NAME.overlay.mp4.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Of a video, take every N-th frame.")] = 1,
    crop: Crop = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Name outputs by the images' paths below this folder.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Confidence threshold; default: the checkpoint's recipe.")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the detector runs.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that go through the detector together.")] = 16,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there of the same name.")] = False,
    as_json: Json = False,
) -> None:
    """Find the lanes in images and videos, in pixels of each, whatever its size.

    A detector sees the share of each picture that it saw of its dataset's frames, stretched to its input. Where pictures have
    another shape or horizon than those, --crop a part that has the same: it matters much (docs/real-frames.md). Lanes stay in pixels of
    the whole picture.

    NAME is a file's path below the folder that was given, or its bare name; where two would share one, all get their paths below the
    folder that holds all. Frame 25 of a video is NAME/000025. A damaged file is passed over and told at the end, with exit code 2.
    """
    from harness.files.stored import sha256_of_file
    from harness.inference.detector import chosen_device, load_detector
    from harness.prediction.outputs import Outputs
    from harness.prediction.run import predict_sources
    from harness.prediction.sources import find_sources

    sources = find_sources(images, root)
    outputs = Outputs(out, output_format, overlay)
    chosen = chosen_device(device)
    detector = load_detector(checkpoint, adapter=name, confidence_threshold=threshold)
    made = not out.exists()
    outputs.prepare(sources, overwrite=overwrite)
    with bar_on_stderr(*BAR) as bar:
        task = bar.add_task("predicting", total=None)
        result = predict_sources(
            detector,
            sources,
            outputs,
            device=chosen,
            batch_size=batch_size,
            every=every,
            part=crop,
            progress=lambda done, known: bar.update(task, completed=done, total=known),
        )
    if as_json:
        facts = {
            "detector": detector.meta.name,
            "checkpoint": str(checkpoint),
            "sha256": sha256_of_file(checkpoint),
            "threshold": detector.configuration.recipe.confidence_threshold,
            "device": str(chosen),
        }
        typer.echo(json.dumps(facts | summary(result, outputs)))
    else:
        total = result.total
        lanes = f"{counted(total.lanes, 'lane')} in {counted(total.pictures, 'picture')} of {counted(len(result.of), 'file')}"
        typer.echo(f"{lanes}; wrote {out}" if result.total.pictures else f"{lanes}; wrote nothing")
    if not result.total.pictures:
        outputs.withdraw(made)
    if result.faults:
        more = f" (and {len(result.faults) - 1} more like it)" if len(result.faults) > 1 else ""
        kept = (
            "the lanes of what could be read are" if result.total.pictures else "nothing could be read, and nothing is"
        )
        raise InputError(f"{result.faults[0]}{more}; {kept} written")


def summary(result: Result, outputs: Outputs) -> dict[str, Any]:
    """What was found and written, for JSON: the sums, and one object a file."""
    files = [
        {
            "input": str(source.path),
            **asdict(found),
            "output": str(outputs.output_of(source)),
            "overlay": str(outputs.overlay_of(source)) if outputs.overlay else None,
        }
        for source, found in result.of.items()
    ]
    sums = {"out": str(outputs.folder), "format": outputs.format, **asdict(result.total)}
    return {**sums, "files": files, "faults": [str(fault) for fault in result.faults]}
