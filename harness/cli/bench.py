"""`samiro-bench bench`: run a suite's matrix and write its leaderboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from harness.cli.console import say
from harness.cli.options import RESULTS, Json, Only, ResourceOptions, Results, Seeds, Skip, SuiteName, Tier
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.engines.base import Engine, Outcome
    from harness.engines.choice import EngineName
    from harness.files.locks import Held
    from harness.matrix.budget import BuildCosts
    from harness.matrix.plan import Plan
    from harness.matrix.preflight import Preflight
    from harness.matrix.pricing import Price
    from harness.suite import Choice

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench bench mini --seeds 3")
def bench(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    results: Results = RESULTS,
    engine: Annotated[
        Literal["local", "slurm", "ray"],
        typer.Option(help="Where the cells run: here, on the Slurm cluster that this machine submits to, or on Ray."),
    ] = "local",
    resources: ResourceOptions = None,
    accept_stale: Annotated[bool, typer.Option(help="Keep results of other code, and flag their rows.")] = False,
    redo_stale: Annotated[bool, typer.Option(help="Move results of other code aside and make them again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what `plan` prints, and stop.")] = False,
    as_json: Json = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin without a question, however long it takes.")] = False,
) -> int:
    """Run the matrix of SUITE (default mini), resume what is there, then write and print its leaderboard."""
    from harness.cell.keys import records_folder
    from harness.cli.failures import show_failures
    from harness.cli.leaderboard import show_leaderboard
    from harness.cli.next_steps import show_next_steps
    from harness.cli.plan import as_object, show_plan
    from harness.engines.choice import engine_for
    from harness.errors import InputError
    from harness.files.locks import sole
    from harness.files.stored import remove_torn, sweep_cache
    from harness.matrix.budget import job_seconds
    from harness.matrix.fitting import refuse_misfits
    from harness.matrix.plan import make_plan, refuse_unavailable
    from harness.matrix.preflight import preflight
    from harness.matrix.recorded import record_paths
    from harness.matrix.stale import accept_stale as keep
    from harness.matrix.stale import redo_stale as redo
    from harness.matrix.stale import refuse_begun, refuse_stale, stale_note
    from harness.programs.cell import program_cells
    from harness.report.statistics import SEEDS_FOR_A_VERDICT
    from harness.suite import Choice, cells_of, load_suite, refuse_not_yet, with_resources

    if accept_stale and redo_stale:
        raise InputError("--accept-stale and --redo-stale exclude each other; give one")
    if as_json and not dry_run:
        raise InputError(
            "--json: what `bench` would do, so it goes with --dry-run; what it does, `status --json` tells"
        )
    console = Console()
    choice = Choice(seeds, only or (), skip or (), tier)
    loaded = with_resources(load_suite(suite), resources or ())
    if dry_run:
        plan = make_plan(loaded, results, choice)
        looked = preflight(plan)
        if as_json:
            typer.echo(json.dumps(as_object(plan, looked)))
        else:
            show_plan(plan, looked, console)
        return 0
    programs = program_cells(loaded, choice)
    trained = cells_of(loaded, choice)
    refuse_not_yet(loaded, [*trained, *programs])

    def remade() -> Plan:
        return make_plan(loaded, results, choice)

    plan = remade()
    refuse_misfits(loaded, plan.untrained)
    prices: Mapping[str, Price] = {}
    builds: BuildCosts = ()
    if plan.pending or plan.unavailable:
        looked = preflight(plan)
        prices, builds = looked.prices, looked.builds
        if lacking(plan, looked):
            return 2
        for line in looked.warnings:
            say(Console(stderr=True), f"warning: {line}")
        if not (yes or agreed(plan, looked, console)):
            console.print("nothing was run")
            return 0
    with sole(results / loaded.name) as held:
        for folder in (held.folder, held.folder / "site", records_folder(results, loaded.name)):
            remove_torn(folder)
        sweep_cache()
        if plan.pending:
            # Somebody else may have worked here since. Where nothing was left to do, nobody had anything to do either.
            plan = remade()
        # No cell is left out in silence.
        refuse_unavailable(plan)
        if plan.stale and not (accept_stale or redo_stale):
            refuse_stale(plan)
        if plan.stale:
            (keep if accept_stale else redo)(plan)
            plan = remade()
        if not redo_stale:
            refuse_begun(plan)
        cells, ready = plan.counted
        console.print(f"{loaded.name}: {counted(cells, 'cell')}, {ready} done already", highlight=False)
        forecast = partial(job_seconds, prices=prices, builds=builds)
        engines = partial(engine_for, suite=loaded, results=results)
        plan, outcomes = carried_out(plan, held, remade, engines, engine, forecast, seeds, console)
        words = words_of(suite, choice, results, engine, resources, yes=yes)
        try:
            # The tables are of the whole suite, whichever of its cells have just run.
            whole = make_plan(loaded, results, Choice(seeds)) if only or skip or tier else plan
            outdated = [note] if whole is not plan and (note := stale_note(whole)) is not None else []
            recorded = bool(record_paths(whole.expected))
            sound = show_leaderboard(whole.expected, console, outdated=outdated) if recorded else True
        finally:  # also where there is no room for the tables
            code = show_failures(outcomes, plan, words, choice.only, console)
        if code is None and sound and recorded:
            with_seeds = words_of(suite, Choice(SEEDS_FOR_A_VERDICT, tier=tier), results, engine, resources, yes=yes)
            show_next_steps(whole, with_seeds, console)
    return code if code is not None else 0 if sound else 1


def carried_out(
    plan: Plan,
    held: Held,
    remade: Callable[[], Plan],
    engine_for: Callable[[EngineName], Engine],
    name: EngineName,
    forecast: Callable[[Plan], Mapping[str, float]],
    seeds: int | None,
    console: Console,
) -> tuple[Plan, list[Outcome]]:
    """Run a plan, and again as long as cells run out of memory whose micro-batch can be halved; the last plan, and how all ended.

    forecast: the seconds that its jobs will take, by their names. seeds: of the matrix, as for `cells_of`.
    """
    from harness.cli.display import Guard, Listeners, display_for
    from harness.matrix.jobs import jobs_of
    from harness.matrix.micro_batches import halve
    from harness.matrix.run import run
    from harness.suite import Cell
    from harness.watching.journal import journal

    outcomes: dict[str, Outcome] = {}
    while True:
        jobs = jobs_of(plan)
        # Where nothing is left to run no cluster has to be at hand.
        engine = engine_for(name if jobs else "local")
        expected = forecast(plan)
        with (
            journal(plan.results, plan.suite.name, name, jobs, plan.counted, expected) as kept,
            display_for(console, plan.suite.name, kept.board) as display,
        ):
            ended = run(plan, engine, Listeners(Guard(held), kept, display))
        outcomes |= {outcome.job: outcome for outcome in ended}
        trained = [cell for cell in plan.all_cells if isinstance(cell, Cell)]
        smaller = halve(plan.suite, plan.results, trained, outcomes.values(), seeds)
        if not smaller:
            return plan, list(outcomes.values())
        for cell, told in smaller.items():
            del outcomes[cell]
            outcomes.pop(f"time {cell}", None)
            say(console, told)
        failed = {outcome.job.removeprefix("time ") for outcome in outcomes.values() if outcome.state == "failed"}
        plan = replace(remade(), given_up=frozenset(failed))


def words_of(
    suite: str,
    choice: Choice,
    results: Path,
    engine: str,
    resources: Sequence[str] | None,
    *,
    yes: bool,
) -> list[str]:
    """The command that runs a suite so, without `--only` and what becomes of stale results, which has been done."""
    from harness.cli.next_steps import program

    words = [program(), "bench", suite]
    words += [] if choice.seeds is None else ["--seeds", str(choice.seeds)]
    words += [] if choice.tier is None else ["--tier", choice.tier]
    words += [] if results == RESULTS else ["--results", str(results)]
    words += [] if engine == "local" else ["--engine", engine]
    words += [word for expression in resources or () for word in ("--resources", expression)]
    words += ["--yes"] if yes else []
    return [*words, *(word for expression in choice.skip for word in ("--skip", expression))]


def lacking(plan: Plan, looked: Preflight) -> bool:
    """Whether something that a plan needs isn't there. Each such thing is told in a line on stderr, the cost on stdout."""
    from harness.cli.plan import show_cost

    if not looked.missing:
        return False
    told = [f"{need.kind} missing: {need.name}: {need.detail}" for need in looked.missing]
    if len(told) == 1:
        told = [f"samiro-bench: {plan.suite.name}: nothing was run: {told[0]}"]
    else:
        names = ", ".join(need.name for need in looked.missing)
        told.append(f"samiro-bench: {plan.suite.name}: nothing was run, for this is missing: {names}")
    for line in [*looked.problems, *told]:
        say(Console(stderr=True), line)
    show_cost(plan, looked, Console())
    return True


def agreed(plan: Plan, looked: Preflight, console: Console) -> bool:
    """Whether what is to be done isn't long, or a user on a terminal says that it shall be. Nobody else is asked."""
    from harness.cli.plan import show_cost
    from harness.matrix.budget import is_long

    if not (console.is_terminal and sys.stdin.isatty()) or not is_long(
        looked.costs, looked.prices.values(), looked.builds
    ):
        return True
    show_cost(plan, looked, console)
    return typer.confirm("Begin?", default=True)
