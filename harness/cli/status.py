"""`samiro-bench status`: what is done, what failed and why."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.display import DATA_MISSING
from harness.cli.options import RESULTS, Json, Results, Seeds, SuiteName

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench status mini")
def status(suite: SuiteName = "mini", seeds: Seeds = None, results: Results = RESULTS, as_json: Json = False) -> None:
    """Show whether a `bench` of SUITE runs, which cells are done, and how the last run of the others ended."""
    from harness.matrix import is_running, make_plan
    from harness.recorded import last_outcomes
    from harness.suite import load_suite

    plan = make_plan(load_suite(suite), results, seeds=seeds)
    outcomes = last_outcomes(results, plan.suite.name)
    running = is_running(results, plan.suite.name)
    rows = [
        {
            "cell": state.cell.id,
            "state": state.summary,
            "last": outcomes.get(state.cell.id, "") if not state.done else "",
        }
        for state in plan.cells
    ]
    rows += [{"cell": cell.id, "state": DATA_MISSING, "last": why} for cell, why in plan.unavailable]
    if as_json:
        typer.echo(json.dumps({"suite": plan.suite.name, "running": running, "cells": rows}))
        return
    table = Table(
        "cell", "state", "how its last run ended", title=f"{plan.suite.name}: {'running' if running else 'idle'}"
    )
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
