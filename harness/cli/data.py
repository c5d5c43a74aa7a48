"""`samiro-bench data`: datasets, made and examined. One module a verb."""

from __future__ import annotations

import typer

from harness.cli import data_convert, data_doctor, data_index, data_masks, data_render, data_unpack

app = typer.Typer(
    add_completion=False,
    help="Datasets: render them, make labels from masks, examine, index and convert them; unpack predictions.",
)
app.command(epilog=data_render.EPILOG)(data_render.render)
app.command(epilog=data_masks.EPILOG)(data_masks.masks)
app.command(epilog=data_doctor.EPILOG)(data_doctor.doctor)
app.command(epilog=data_index.EPILOG)(data_index.index)
app.command(epilog=data_convert.EPILOG)(data_convert.convert)
app.command(epilog=data_unpack.EPILOG)(data_unpack.unpack)
