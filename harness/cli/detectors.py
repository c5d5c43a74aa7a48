"""`samiro-bench detectors`: the field of detectors."""

from __future__ import annotations

import typer

from harness.cli.detectors_import import EPILOG, import_published

app = typer.Typer(add_completion=False, help="The field of detectors.", no_args_is_help=True)
app.command("import", epilog=EPILOG)(import_published)


@app.callback()
def detectors() -> None:
    """Keep `import` a command of its own, whatever joins it."""
