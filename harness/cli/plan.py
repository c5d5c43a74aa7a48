"""`samiro-bench plan`: the cells of a suite, where each stands and what it still costs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from harness.cli.console import say
from harness.cli.display import DATA_MISSING
from harness.cli.options import RESULTS, Json, Only, Results, Seeds, Skip, SuiteName, Tier
from harness.errors import InputError
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.matrix.budget import BuildCosts, Cost
    from harness.matrix.plan import Plan
    from harness.matrix.preflight import Preflight
    from harness.matrix.pricing import Rates

app = typer.Typer(add_completion=False)


class State(StrEnum):
    """Where a cell stands, see `harness.matrix.plan.CellState.state`."""

    DONE = "done"
    PARTIAL = "partial"
    STALE = "stale"
    MISSING = "missing"


ROWS = 200
"""Rows of the longest table: a terminal is told how many there are besides, files and pipes get a plain line a row."""


@app.command(
    epilog="Example: samiro-bench plan paper --only 'dataset=culane,detector=resa_*' --skip seed=4 --state stale"
)
def plan(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Show only the cells in this state; repeatable.")
    ] = None,
    results: Results = RESULTS,
    probe: Annotated[bool, typer.Option("--probe", help="Time a little of each kind of work first.")] = False,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine", help="Price cells by the records of this GPU or processor, by its name, not of this one."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the cells and artefacts of SUITE with their states, what it needs, and what it costs; runs nothing but a probe."""
    from harness.files.stored import no_collection
    from harness.matrix.fitting import refuse_misfits
    from harness.matrix.plan import make_plan
    from harness.matrix.preflight import preflight
    from harness.suite import Choice, load_suite

    if probe and machine is not None:
        raise InputError("--probe times this machine, and --machine is about another one; give one of the two")
    with no_collection():
        made = make_plan(load_suite(suite), results, Choice(seeds, only or (), skip or (), tier))
        refuse_misfits(made.suite, made.untrained)
        probed = None
        if probe:
            probed = probed_here(made)
        looked = preflight(made, probed, machine)
        if as_json:
            typer.echo(json.dumps(as_object(made, looked, state or ())))
        else:
            show_plan(made, looked, Console(), state or ())


def probed_here(plan: Plan) -> Rates:
    """The rates that a few steps of each kind of cell, and a little of what is built before them, show on this machine."""
    from harness.matrix.build_probe import probed_builds
    from harness.matrix.builds import builds_of
    from harness.matrix.pricing import Rates
    from harness.matrix.probe import probed_rates

    with Console(stderr=True).status("probing") as status:

        def tell(what: str) -> None:
            status.update(f"probing {what}")

        builds = probed_builds(builds_of(plan.results, plan.pending), plan.suite.training, tell)
        cells = probed_rates(plan.untrained, tell)
    return Rates({**builds.seconds, **cells.seconds}, "probe")


def as_object(plan: Plan, looked: Preflight, states: Sequence[State] = ()) -> dict[str, Any]:
    """A plan as one JSON object."""
    from harness.suite import not_yet

    return {
        "suite": plan.suite.name,
        "not_yet": [{"key": part.key, "why": part.why} for part in not_yet(plan.suite, plan.all_cells)],
        "needs": [
            {"kind": need.kind, "name": need.name, "missing": need.missing, "detail": need.detail}
            for need in looked.needs
        ],
        "prices": {name: asdict(price) for name, price in looked.prices.items()},
        "priced_on": None if looked.priced_on is None else looked.priced_on.name,
        "priced_elsewhere": [machine.name for machine in looked.elsewhere],
        "artefacts": artefact_rows(plan, looked.builds),
        "cells": cell_rows(plan, looked.costs, states),
        "tiers": [
            {
                "name": tier.name,
                "cells": tier.cells,
                "states": tier.states,
                "cost": cost_object(tier.costs),
                "cost_with_earlier": cost_object(tier.with_earlier),
            }
            for tier in tiers_of(plan, looked.costs)
        ],
        "cost": cost_object(looked.costs.values()),
        "warnings": (*looked.problems, *looked.warnings),
    }


def cost_object(costs: Collection[Cost]) -> dict[str, Any]:
    """What some cells still cost together, as JSON."""
    return {
        "cells": len(costs),
        **{unit: sum(cost.hours for cost in costs if cost.unit == unit) for unit in ("GPU-hours", "CPU-hours")},
        "disk_bytes": sum(cost.disk_bytes for cost in costs),
        "cells_of_unknown_cost": sum(cost.unknown for cost in costs),
    }


def artefact_rows(plan: Plan, builds: BuildCosts = ()) -> list[dict[str, Any]]:
    """Name, state, reason, changed files and cost of every artefact."""
    costs = {build.phase.folder: cost for build, cost in builds}
    rows = []
    for phase, state in plan.artefacts:
        cost = costs.get(phase.folder)
        unknown = phase.folder in costs and cost is None
        rows.append(
            {
                "name": f"{phase.folder.parent.name} {phase.name}",
                "state": state.state,
                "why": state.reason,
                "changed": list(state.changed),
                "hours": None if unknown else 0.0 if cost is None else cost.hours,
                "unit": None if cost is None else cost.unit,
            }
        )
    return rows


def cell_rows(plan: Plan, costs: Mapping[str, Cost], states: Sequence[State] = ()) -> list[dict[str, Any]]:
    """Every cell in one of some states (without any, every cell): name, state, from which phase, why, changed files, and cost."""
    from harness.matrix.earlier import earlier_options

    earlier = earlier_options(plan)
    rows = []
    for state in plan.cells:
        if not states or state.state in states:
            changed = dict.fromkeys(name for _, stand in state.states for name in stand.changed)
            rows.append(
                {
                    "name": state.cell.id,
                    "state": state.summary,
                    "from": state.first,
                    "why": state.why or earlier.get(state.cell.id, ""),
                    "changed": list(changed),
                    **cost_columns(costs.get(state.cell.id)),
                }
            )
    if not states:
        rows += [
            {
                "name": cell.id,
                "state": DATA_MISSING,
                "from": None,
                "why": why,
                "changed": [],
                **cost_columns(costs.get(cell.id)),
            }
            for cell, why in plan.unavailable
        ]
    return rows


def cost_columns(cost: Cost | None) -> dict[str, Any]:
    """What a cell still costs: hours (null: not known at all; `at_least`: not of everything), their unit, bytes on the disk."""
    if cost is None:
        return {"hours": 0.0, "unit": None, "at_least": False, "disk_bytes": 0}
    known = None if cost.unknown and not cost.seconds else cost.hours
    return {"hours": known, "unit": cost.unit, "at_least": cost.unknown, "disk_bytes": cost.disk_bytes}


def show_plan(plan: Plan, looked: Preflight, console: Console, states: Sequence[State] = ()) -> None:
    """Print a plan: first what can't be run yet and what is missing, then the table, then what it costs."""
    from harness.suite import not_yet

    told = [f"not yet: {part}" for part in not_yet(plan.suite, plan.all_cells)]
    told += [f"{need.kind}{' missing' if need.missing else ''}: {need.name}: {need.detail}" for need in looked.needs]
    for line in [*told, *looked.problems, *(f"warning: {line}" for line in looked.warnings)]:
        say(console, line)
    cells = cell_rows(plan, looked.costs, states)
    unit = next((cost.unit for cost in looked.costs.values()), "hours")
    rows = [
        (row["name"], row["state"], "" if row["state"] == DATA_MISSING else row["why"], *cost_texts(row, unit))
        for row in [*([] if states else artefact_rows(plan, looked.builds)), *cells]
    ]
    if len(rows) > ROWS and not console.is_terminal:
        for texts in rows:
            typer.echo("\t".join(texts))
    else:
        columns = (Column(header, overflow="fold") for header in ("what", "state", "why", unit, "disk"))
        table = Table(*columns, title=escape(f"{plan.suite.name}: {plan.suite.title}"))
        for texts in rows[:ROWS]:
            table.add_row(*map(Text, texts))
        console.print(table)
        if len(rows) > ROWS:
            console.print(
                f"and {counted(len(rows) - ROWS, 'row')} more: --only, --skip and --state choose, --json has them all"
            )
    for tier in tiers_of(plan, looked.costs):
        say(console, tier_line(tier))
    if plan.suite.tiers and (outside := states_of(plan).get(None)):
        say(console, f"of no tier: {told_states(outside)}; run without --tier, or name their seeds in a tier")
    say(console, told_states(sum(states_of(plan).values(), Counter())))
    show_cost(plan, looked, console)


def show_cost(plan: Plan, looked: Preflight, console: Console) -> None:
    """Print what of a plan is still to be done and what that takes."""
    from harness.matrix.budget import cost_line
    from harness.suite import called

    say(console, cost_line(looked.costs, looked.prices.values(), called(plan.suite), looked.builds))
    if looked.priced_on is not None:
        say(console, f"prices are of {looked.priced_on.name}, by its records here")
    for machine in looked.elsewhere:
        say(console, f"records of {machine.name} have prices of cells without one: --machine '{machine.name}'")


def cost_texts(row: dict[str, Any], unit: str) -> tuple[str, str]:
    """Hours and room of a row, as a table has them whose hours are of some unit."""
    from harness.matrix.budget import hours
    from harness.matrix.preflight import gigabytes

    if row["hours"] == 0:
        return "", ""
    time = "?" if row["hours"] is None else f"{'> ' if row.get('at_least') else ''}{hours(row['hours'])}"
    other = f" {row['unit']}" if row["unit"] not in (None, unit) else ""
    return f"{time}{other}", gigabytes(row["disk_bytes"]) if row.get("disk_bytes") else ""


def states_of(plan: Plan) -> dict[str | None, Counter[str]]:
    """How many cells of each tier are in each state; None has those of no tier, which are all where a suite has none."""
    from harness.suite import tier_of

    found: dict[str | None, Counter[str]] = defaultdict(Counter)
    for state in plan.cells:
        found[tier_of(plan.suite, state.cell.identity)][state.state] += 1
    for cell, _ in plan.unavailable:
        found[tier_of(plan.suite, cell.identity)][DATA_MISSING] += 1
    return found


def told_states(states: Mapping[str, int]) -> str:
    """How many cells there are, and how many in each state."""
    told = [f"{states[state]} {state}" for state in (*State, DATA_MISSING) if states.get(state)]
    return f"{counted(sum(states.values()), 'cell')}: {', '.join(told)}"


@dataclass(frozen=True)
class TierPlan:
    """Where a tier stands. costs: of its cells that aren't done. with_earlier: of those and of the cells of all tiers before it."""

    name: str
    states: Mapping[str, int]
    costs: tuple[Cost, ...]
    with_earlier: tuple[Cost, ...]

    @property
    def cells(self) -> int:
        """How many it has."""
        return sum(self.states.values())


def tiers_of(plan: Plan, costs: Mapping[str, Cost]) -> list[TierPlan]:
    """The tiers of a plan's suite that its cells are of, in order."""
    from harness.suite import tier_of

    found: list[TierPlan] = []
    own: dict[str | None, list[Cost]] = defaultdict(list)
    for cell in plan.all_cells if plan.suite.tiers else ():
        if cell.id in costs:
            own[tier_of(plan.suite, cell.identity)].append(costs[cell.id])
    states = states_of(plan)
    for name in plan.suite.tiers:
        earlier = found[-1].with_earlier if found else ()
        if name in states:
            found.append(TierPlan(name, states[name], tuple(own[name]), (*earlier, *own[name])))
    return found


def tier_line(tier: TierPlan) -> str:
    """Where a tier stands and what it still costs, by itself and with those before it."""
    from harness.matrix.budget import told_costs

    line = f"tier {tier.name}: {told_states(tier.states)}; to do: {told_costs(tier.costs)}"
    earlier = len(tier.with_earlier) > len(tier.costs)
    return f"{line}; with those before it: {told_costs(tier.with_earlier)}" if earlier else line
