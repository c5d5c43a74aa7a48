"""`samiro-bench plan`: the cells of a suite and where each stands."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.options import RESULTS, Json, Results, Seeds, SuiteName

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench plan mini --seeds 3")
def plan(suite: SuiteName = "mini", seeds: Seeds = None, results: Results = RESULTS, as_json: Json = False) -> None:
    """List the cells and artefacts of SUITE with their states; runs nothing."""
    from harness.matrix import make_plan
    from harness.suite import load_suite

    made = make_plan(load_suite(suite), results, seeds=seeds)
    artefacts: list[tuple[str, str, str]] = [
        (f"{phase.folder.parent.name} {phase.name}", state.state, state.reason) for phase, state in made.artefacts
    ]
    artefacts += [(f"weights {weights.name}", weights.state, weights.fix) for weights in made.weights]
    cells = [
        (state.cell.id, state.summary, "; ".join(f"{p.name}: {s.reason}" for p, s in state.states if s.reason))
        for state in made.cells
    ]
    if as_json:
        rows = [{"name": name, "state": state, "why": why} for name, state, why in (*artefacts, *cells)]
        typer.echo(
            json.dumps({"suite": made.suite.name, "artefacts": rows[: len(artefacts)], "cells": rows[len(artefacts) :]})
        )
        return
    table = Table("what", "state", "why", title=f"{made.suite.name}: {made.suite.title}")
    for row in (*artefacts, *cells):
        table.add_row(*row)
    Console().print(table)
