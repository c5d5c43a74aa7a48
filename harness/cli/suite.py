"""`samiro-bench suite`: what a suite's file may say."""

from __future__ import annotations

import json

import typer

app = typer.Typer(add_completion=False, help="What a suite's file may say.")


@app.callback()
def suite() -> None:
    """Keep `schema` a command of its own, whatever joins it."""


@app.command(epilog="Example: samiro-bench suite schema > suite.schema.json")
def schema() -> None:
    """Print the JSON Schema of suites, for editors: `# yaml-language-server: $schema=suite.schema.json`."""
    from harness.suite.json_schema import suite_schema

    typer.echo(json.dumps(suite_schema(), indent=1))
