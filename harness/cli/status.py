"""`samiro-bench status`: what runs, what is done, what failed and why, from any machine that sees the folder of results."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.cli.console import say
from harness.cli.display import DATA_MISSING
from harness.cli.options import RESULTS, Json, Only, Results, Seeds, Skip, SuiteName, Tier

if TYPE_CHECKING:
    from harness.matrix.plan import Plan
    from harness.watching.board import Board
    from harness.watching.events import EventReader
    from harness.watching.heartbeats import Heartbeat

app = typer.Typer(add_completion=False)

LOOK_SECONDS = 2.0
"""How often `--watch` looks at the folder."""

LINE_SECONDS = 30.0
"""How often it says where the whole stands where there is no terminal."""


@app.command(epilog="Example: samiro-bench status mini --watch")
def status(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    results: Results = RESULTS,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing what runs until no run of the suite is alive.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show whether a `bench` of SUITE runs, where each cell stands, its job, when all is done, and how its last run ended."""
    from harness.files.stored import no_collection
    from harness.matrix.plan import make_plan
    from harness.suite import Choice, load_suite

    choice = Choice(seeds, only or (), skip or (), tier)
    with no_collection():
        plan = make_plan(load_suite(suite), results, choice)
        seen = look(plan)
        if watch:
            if not seen.living:
                Console(stderr=True).print(f"{plan.suite.name}: no run is alive", highlight=False)
            else:
                follow(plan, seen, Console())
                plan = make_plan(plan.suite, results, choice)
                seen = look(plan)
        if as_json:
            typer.echo(json.dumps(as_object(plan, seen)))
        else:
            show(plan, seen, Console())
    return 0


@dataclass
class Seen:
    """What is known of a suite's runs now. living: the runs whose process shows life."""

    reader: EventReader
    told: Board
    board: Board
    heartbeats: dict[str, Heartbeat]
    living: list[str]


def look(plan: Plan, before: Seen | None = None) -> Seen:
    """Look at the events and heartbeats of a plan's suite; `before` spares what was read already."""
    from harness.watching.board import Board
    from harness.watching.events import EventReader, events_folder
    from harness.watching.heartbeats import alive_folder, read_heartbeats

    reader = EventReader(events_folder(plan.results, plan.suite.name)) if before is None else before.reader
    told = Board() if before is None else before.told
    told.take(reader.read())
    heartbeats = read_heartbeats(alive_folder(plan.results, plan.suite.name))
    moment = time.time()
    living = [run for run in told.runs if told.is_living(run, heartbeats, moment)]
    return Seen(reader, told, told.seen(heartbeats, moment), heartbeats, living)


def follow(plan: Plan, seen: Seen, console: Console) -> None:
    """Show the board until no run is alive any more."""
    from rich.live import Live

    from harness.cli.board_view import BoardView, summary, whole_forecast
    from harness.watching.events import now

    current = seen
    if console.is_terminal:
        view = BoardView(plan.suite.name, lambda: current.board)
        with Live(view, console=console, auto_refresh=False, transient=True) as live:
            while current.living:
                live.refresh()
                time.sleep(LOOK_SECONDS)
                current = look(plan, current)
        return
    spoken = 0.0
    while current.living:
        if time.monotonic() - spoken >= LINE_SECONDS:
            spoken = time.monotonic()
            line = summary(current.board, whole_forecast(current.board, now()))
            say(console, f"{plan.suite.name}: {line}")
        time.sleep(LOOK_SECONDS)
        current = look(plan, current)


def cell_rows(plan: Plan, seen: Seen) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row a cell, and what is known of jobs that belong to no cell or to none of the plan's."""
    from harness.engines.states import read_states, states_file
    from harness.matrix.recorded import last_outcomes

    outcomes = last_outcomes(plan.results, plan.suite.name)
    queued = {name: state.summary for name, state in read_states(states_file(plan.results / plan.suite.name)).items()}
    jobs = {job.name: job for job in seen.board.jobs.values() if job.state in {"running", "lost"}}
    rows: list[dict[str, Any]] = []
    for state in plan.cells:
        timing = f"time {state.cell.id}"
        at = jobs.pop(timing, None) or jobs.pop(state.cell.id, None)
        word = queued.pop(timing, "") or queued.pop(state.cell.id, "")
        rows.append(
            {
                "cell": state.cell.id,
                "state": state.summary if at is None or state.done else at.state,
                "job": word or ("" if at is None else doing(at)),
                "last": "" if state.done and state.recorded else outcomes.get(state.cell.id, ""),
            }
        )
    rows += [{"cell": cell.id, "state": DATA_MISSING, "job": "", "last": why} for cell, why in plan.unavailable]
    return rows, {**{name: doing(job) for name, job in jobs.items()}, **queued}


def doing(job: Any) -> str:
    """What a job does, in a few words."""
    steps = f" {job.step}/{job.total}" if job.total else ""
    place = f" on {job.host}" if job.host else ""
    return f"{job.phase or 'starts'}{steps}{place}" if job.state == "running" else f"lost{place}"


def runs_told(seen: Seen) -> list[str]:
    """A line on every run that lives, and on the last one if it ended without a word."""
    newest = seen.told.newest
    lines = []
    for name, run in seen.told.runs.items():
        beat = seen.heartbeats.get(f"bench {name}")
        who = f"bench on {run.host} (process {run.pid}, engine {run.engine}, since {local(run.time)})"
        if name in seen.living:
            lines.append(f"{who} is alive")
        elif newest is not None and name == newest.run and name not in seen.told.over:
            since = f", silent for {time.time() - beat.time:.0f} s" if beat is not None else ""
            lines.append(f"{who} ended without a word{since}; the same `bench` goes on from there")
    return lines


def clocks_told(seen: Seen) -> list[str]:
    """A line on every host whose clock is ahead: what is killed there goes on looking alive for so long."""
    moment = time.time()
    ahead: dict[str, float] = {}
    for beat in seen.heartbeats.values():
        if beat.liveness(moment) == "clock":
            ahead[beat.host] = max(ahead.get(beat.host, 0.0), -beat.age(moment))
    return [f"{host}: its clock is {seconds:.0f} s ahead of this machine's" for host, seconds in sorted(ahead.items())]


def local(moment: datetime) -> str:
    """A time by this machine's clock and zone."""
    return f"{moment.replace(tzinfo=moment.tzinfo or UTC).astimezone():%Y-%m-%d %H:%M}"


def as_object(plan: Plan, seen: Seen) -> dict[str, Any]:
    """The status as one JSON object."""
    from harness.cli.board_view import whole_forecast
    from harness.watching.events import now

    rows, jobs = cell_rows(plan, seen)
    found = whole_forecast(seen.board, now()) if seen.living else None
    return {
        "suite": plan.suite.name,
        "running": running(plan, seen),
        "runs": [
            {"run": name, "host": seen.told.runs[name].host, "pid": seen.told.runs[name].pid} for name in seen.living
        ],
        "cells": rows,
        "jobs": jobs,
        "counts": {state: count for state, count in seen.board.tally.items() if count},
        "eta_seconds": None if found is None else found.seconds,
        "jobs_of_unknown_length": None if found is None else found.unknown,
    }


def running(plan: Plan, seen: Seen) -> bool:
    """Whether a run shows life, here or anywhere."""
    from harness.files.locks import is_held

    return bool(seen.living) or is_held(plan.results / plan.suite.name)


def show(plan: Plan, seen: Seen, console: Console) -> None:
    """Print the status."""
    from harness.cli.board_view import summary, whole_forecast
    from harness.watching.events import now

    rows, jobs = cell_rows(plan, seen)
    columns = (Column(header, overflow="fold") for header in ("cell", "state", "job", "how its last run ended"))
    table = Table(*columns, title=f"{plan.suite.name}: {'running' if running(plan, seen) else 'idle'}")
    for why in dict.fromkeys(row["last"] for row in rows if row["state"] == DATA_MISSING):
        say(console, f"{DATA_MISSING}: {why}")
    for row in rows:
        last = "" if row["state"] == DATA_MISSING else row["last"]
        table.add_row(*map(Text, (row["cell"], row["state"], row["job"], last)))
    console.print(table)
    for name, told in jobs.items():
        say(console, f"{name}: {told}")
    for line in (*runs_told(seen), *clocks_told(seen)):
        say(console, line)
    if seen.living:
        line = summary(seen.board, whole_forecast(seen.board, now()))
        say(console, line)
