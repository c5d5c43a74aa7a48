"""`samiro-bench env`: what machine and libraries these are."""

from __future__ import annotations

import typer

from harness.cli.options import Json

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench env --json")
def env(as_json: Json = False) -> None:
    """Print the environment as a record would state it."""
    from harness.pytorch.device import resolve_device
    from harness.records.environment import environment

    found = environment("cuda:0" if resolve_device("auto") == "cuda" else "cpu")
    if as_json:
        typer.echo(found.model_dump_json())
        return
    for key, value in found.model_dump().items():
        typer.echo(f"{key:18} {'-' if value is None else value}")
