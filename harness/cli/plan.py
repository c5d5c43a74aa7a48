"""`samiro-bench plan`: the cells of a suite and where each stands."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.display import DATA_MISSING
from harness.cli.options import RESULTS, Json, Only, Results, Seeds, SuiteName

if TYPE_CHECKING:
    from harness.matrix import Plan
    from harness.preflight import Preflight

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench plan paper --only 'dataset=culane,detector=resa_*'")
def plan(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    only: Only = None,
    results: Results = RESULTS,
    probe: Annotated[bool, typer.Option("--probe", help="Time a few training steps of each kind of cell.")] = False,
    as_json: Json = False,
) -> None:
    """List the cells and artefacts of SUITE with their states, what it needs, and what it costs; runs nothing but a probe."""
    from harness.fitting import refuse_misfits
    from harness.matrix import make_plan
    from harness.preflight import preflight
    from harness.suite import load_suite, not_yet

    made = make_plan(load_suite(suite), results, seeds=seeds, only=only or ())
    refuse_misfits(made.suite, made.untrained)
    probed = None
    if probe:
        from harness.probe import probed_rates

        with Console(stderr=True).status("probing") as status:
            probed = probed_rates(made.untrained, lambda cell: status.update(f"probing {cell}"))
    looked = preflight(made, probed)
    if as_json:
        missing = [{"key": part.key, "why": part.why} for part in not_yet(made.suite, made.all_cells)]
        rows = {"artefacts": artefact_rows(made), "cells": cell_rows(made)}
        needs = [
            {"kind": need.kind, "name": need.name, "missing": need.missing, "detail": need.detail}
            for need in looked.needs
        ]
        prices = {name: asdict(price) for name, price in looked.prices.items()}
        whole = {"suite": made.suite.name, "not_yet": missing, "needs": needs, "prices": prices, **rows}
        typer.echo(json.dumps({**whole, "warnings": looked.problems}))
    else:
        show_plan(made, looked, Console())


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
        rows.append({"name": state.cell.id, "state": state.summary, "why": state.why})
    return rows + [{"name": cell.id, "state": DATA_MISSING, "why": why} for cell, why in plan.unavailable]


def show_plan(plan: Plan, looked: Preflight, console: Console) -> None:
    """Print a plan: first what can't be run yet and what is missing, then the table, then what it costs."""
    from harness.preflight import cost_line
    from harness.suite import not_yet

    told = [f"not yet: {part}" for part in not_yet(plan.suite, plan.all_cells)]
    told += [f"{need.kind}{' missing' if need.missing else ''}: {need.name}: {need.detail}" for need in looked.needs]
    for line in [*told, *looked.problems]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    table = Table("what", "state", "why", title=f"{plan.suite.name}: {plan.suite.title}")
    for row in (*artefact_rows(plan), *cell_rows(plan)):
        table.add_row(row["name"], row["state"], "" if row["state"] == DATA_MISSING else row["why"])
    console.print(table)
    console.print(cost_line(list(looked.prices.values()), plan.suite.name), highlight=False, soft_wrap=True)
