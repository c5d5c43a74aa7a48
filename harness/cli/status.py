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
    """Show whether a `bench` of SUITE runs, where each cell stands, its job on a cluster, and how its last run ended."""
    from harness.engines.states import read_states, states_file
    from harness.locks import is_held
    from harness.matrix import make_plan
    from harness.recorded import last_outcomes
    from harness.suite import load_suite

    plan = make_plan(load_suite(suite), results, seeds=seeds)
    outcomes = last_outcomes(results, plan.suite.name)
    running = is_held(results / plan.suite.name)
    queued = {name: state.summary for name, state in read_states(states_file(results / plan.suite.name)).items()}
    rows = [
        {
            "cell": state.cell.id,
            "state": state.summary,
            "job": queued.pop(f"time {state.cell.id}", "") or queued.pop(state.cell.id, ""),
            "last": outcomes.get(state.cell.id, "") if not state.done else "",
        }
        for state in plan.cells
    ]
    rows += [{"cell": cell.id, "state": DATA_MISSING, "job": "", "last": why} for cell, why in plan.unavailable]
    if as_json:
        typer.echo(json.dumps({"suite": plan.suite.name, "running": running, "cells": rows, "jobs": queued}))
        return
    columns = ("cell", "state", "job", "how its last run ended")
    table = Table(*columns, title=f"{plan.suite.name}: {'running' if running else 'idle'}")
    for row in rows:
        table.add_row(*row.values())
    console = Console()
    console.print(table)
    for name, told in queued.items():
        console.print(f"{name}: {told}", highlight=False, markup=False, soft_wrap=True)
