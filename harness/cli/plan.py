"""`samiro-bench plan`: the cells of a suite and where each stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.display import DATA_MISSING
from harness.cli.options import RESULTS, Json, Only, Results, Seeds, SuiteName

if TYPE_CHECKING:
    from harness.matrix import Plan

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench plan paper --only 'dataset=culane,detector=resa_*'")
def plan(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    only: Only = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """List the cells and artefacts of SUITE with their states, and what this program can't run of it yet; runs nothing."""
    from harness.matrix import make_plan
    from harness.suite import load_suite, not_yet

    made = make_plan(load_suite(suite), results, seeds=seeds, only=only or ())
    if as_json:
        missing = [{"key": part.key, "why": part.why} for part in not_yet(made.suite, made.all_cells)]
        rows = {"artefacts": artefact_rows(made), "cells": cell_rows(made)}
        typer.echo(json.dumps({"suite": made.suite.name, "not_yet": missing, **rows}))
    else:
        show_plan(made, Console())


def artefact_rows(plan: Plan) -> list[dict[str, str]]:
    """Name, state and reason of every artefact."""
    return [
        {"name": f"{phase.folder.parent.name} {phase.name}", "state": state.state, "why": state.reason}
        for phase, state in plan.artefacts
    ]


def cell_rows(plan: Plan) -> list[dict[str, str]]:
    """Name, state and reason of every cell."""
    rows = []
    for state in plan.cells:
        why = "; ".join(f"{phase.name}: {found.reason}" for phase, found in state.states if found.reason)
        rows.append({"name": state.cell.id, "state": state.summary, "why": why})
    return rows + [{"name": cell.id, "state": DATA_MISSING, "why": why} for cell, why in plan.unavailable]


def show_plan(plan: Plan, console: Console) -> None:
    """Print a plan: first what can't be run yet and which data is missing, then the table."""
    from harness.suite import not_yet

    told = [f"not yet: {part}" for part in not_yet(plan.suite, plan.all_cells)]
    told += [f"{DATA_MISSING}: {why}" for why in dict.fromkeys(why for _, why in plan.unavailable)]
    for line in told:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    table = Table("what", "state", "why", title=f"{plan.suite.name}: {plan.suite.title}")
    for row in (*artefact_rows(plan), *cell_rows(plan)):
        table.add_row(row["name"], row["state"], "" if row["state"] == DATA_MISSING else row["why"])
    console.print(table)
