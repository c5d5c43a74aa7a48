"""`samiro-bench export`: a checkpoint's network as ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json

app = typer.Typer(add_completion=False)

EPILOG = "Example: samiro-bench export ufldv2_micro --checkpoint FILE --out ufldv2.onnx"


@app.command(epilog=EPILOG)
def export(
    name: Annotated[
        str, typer.Argument(metavar="DETECTOR", help="The checkpoint's detector: a name, or path/to/file.py:Class.")
    ],
    checkpoint: Annotated[
        Path, typer.Option(metavar="FILE", help="Of a run (cells/*/train/checkpoint.safetensors) or an import.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="The file to write; replaced if it is there.")],
    as_json: Json = False,
) -> None:
    """Write the network of a checkpoint, as it is deployed, to an ONNX file, once onnxruntime gives the same outputs with it.

    Input: `images`, uint8 RGB (batch, 3, height, width), frames cropped and resized as the file's metadata says; any batch size.
    Normalisation is part of the graph, post-processing isn't. Needs the extra `export`, and says how to install it where it isn't.
    """
    from harness.inference.export import export_checkpoint

    facts = export_checkpoint(checkpoint, out, adapter=name)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **facts}))
        return
    height, width = facts["network"]
    typer.echo(f"wrote {out}: images uint8 (batch, 3, {height}, {width}) -> {', '.join(facts['outputs'])}")
