"""`samiro-bench detectors`: the field, whether an adapter keeps its promises, and a start for a new one."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli import detectors_fetch, detectors_import, detectors_parity, detectors_show
from harness.cli.console import listing_console, say
from harness.cli.options import Json

if TYPE_CHECKING:
    from detectors.meta import DetectorMeta, Form
    from harness.conformance.battery import CheckResult

app = typer.Typer(add_completion=False, help="The detectors, their conformance, and a scaffold for a new one.")
app.command("import", epilog=detectors_import.EPILOG)(detectors_import.import_published)
app.command("fetch", epilog=detectors_fetch.EPILOG)(detectors_fetch.fetch)
app.command("parity", epilog=detectors_parity.EPILOG)(detectors_parity.parity)
app.command(epilog=detectors_show.EPILOG)(detectors_show.show)

MICRO = "_micro"
"""How the names of the variants end that are small enough to be checked on a CPU in minutes."""


@app.command("list", epilog="Example: samiro-bench detectors list --json")
def list_detectors(as_json: Json = False) -> None:
    """List the detectors of the project and of installed packages."""
    from detectors.registry import UPSTREAM, detector_names

    rows = [describe(name) for name in detector_names() if name not in UPSTREAM]
    bridges = [describe_bridge(name) for name in UPSTREAM]
    if as_json:
        typer.echo(json.dumps({"detectors": rows, "upstream": bridges}))
        return
    console = listing_console()
    table = listing("detector", "family", "datasets: parameters", "licence", "parity", "year", "paper")
    for row in rows:
        if "problem" not in row:
            facts = (parameter_counts(row), row["licence"], row["parity"] or "", str(row["year"]), row["paper"])
            table.add_row(row["name"], row["family"], *facts)
    console.print(table)
    third = listing(
        "third-party code", "family", "datasets: parameters", "licence", "checks", "ours", "checkout", "paper"
    )
    for row in bridges:
        facts = (row["licence"], row["checks"], row["parity"] or "no variant", row["checkout"], row["paper"])
        third.add_row(row["name"], row["family"], parameter_counts(row), *facts)
    console.print(third)
    for row in rows:
        if "problem" in row:
            say(console, row["problem"])


def parameter_counts(row: dict[str, Any]) -> str:
    """The forms of a detector with its parameters in each, as far as they are known."""
    counts = row["parameters"].items()
    return ", ".join(form if count is None else f"{form}: {count / 1e6:.2f} M" for form, count in counts)


def listing(*headers: str) -> Table:
    """A table whose first column is kept whole: what is asked for is the name, the rest may take more lines."""
    table = Table(box=SIMPLE_HEAD)
    for place, header in enumerate(headers):
        table.add_column(header, no_wrap=place == 0)
    return table


def describe_bridge(name: str) -> dict[str, Any]:
    """What is known of third-party code that is run from a checkout, and of that checkout."""
    from detectors.registry import bridge_class
    from detectors.upstream.bridge import native_name
    from harness.conformance.bridges import PAGE, Measured, in_words, read_measured

    bridge = bridge_class(name)
    meta, repository = bridge.metas[name], bridge.reference.repository
    read = read_measured(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
    seen = {form: read.get((name, form), Measured(None, {})) for form in meta.configurations}
    return {
        **meta.model_dump(mode="json", exclude={"configurations", "normalisation"}),
        "datasets": list(meta.configurations),
        "parameters": {form: one.parameters for form, one in seen.items()},
        "parity": parity_of(native_name(meta)),
        "checks": in_words(seen) if PAGE.is_file() else "see docs/bridges.md of the repository",
        "repository": repository,
        "checkout": describe_checkout(repository),
    }


def describe_checkout(repository: str) -> str:
    """Which commit of a repository is here, and which one is known where it is another."""
    from detectors.upstream.checkouts import VARIABLE, Commit, commit_of, is_clone, known_checkout, named_folder
    from detectors.upstream.repositories import REPOSITORIES
    from harness.errors import InputError

    try:
        named_folder()
    except InputError:
        return f"none: {VARIABLE} names no folder"
    try:
        checkout = known_checkout(repository)
    except InputError:
        return f"none: samiro-bench detectors fetch {repository}"
    commit = commit_of(checkout)
    known = Commit(REPOSITORIES[repository].commit, modified=False)
    if commit == known:
        return str(commit)
    unknown = "git can't say" if is_clone(checkout) else "no git checkout"
    return f"{commit or unknown}, known is {known}"


def describe(name: str) -> dict[str, Any]:
    """What is known of a detector; `problem` in place of that where its package can't be used."""
    from harness.errors import InputError
    from harness.suite import known_detector

    try:
        found = known_detector(name)
        meta = found.meta
        parameters = {form: parameters_of(name, meta, form) for form in meta.configurations}
    except InputError as error:
        return {"name": name, "problem": str(error)}
    facts = meta.model_dump(mode="json", exclude={"configurations", "normalisation"})
    found_in = (found.origin or {}).get("distribution", "samiro-bench")
    parity = parity_of(name)
    return {**facts, "datasets": list(parameters), "parameters": parameters, "from": found_in, "parity": parity}


def parameters_of(name: str, meta: DetectorMeta, form: Form) -> int:
    """Parameters of a detector in one form."""
    from detectors.registry import detector_class
    from harness.suite import parameter_count

    return parameter_count(name, meta, form, lambda: detector_class(name)(meta, form))


def parity_of(name: str) -> str | None:
    """How a detector compares with its upstream, by form, as docs/detectors.md has it; None where it has no upstream model."""
    from detectors.upstream.references import REFERENCES
    from harness.parity.compare import forms_of
    from harness.parity.outcomes import PAGE, in_words, outcomes

    if name not in REFERENCES:
        return None
    if not PAGE.is_file():
        return "see docs/detectors.md of the repository"
    return in_words(outcomes(PAGE.read_text(encoding="utf-8")).get(name, {}), forms_of(name, None))


@app.command(epilog="Example: samiro-bench detectors check ufldv2_micro --quick")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names, or path/to/file.py:Class; none: every *_micro detector."),
    ] = None,
    form: Annotated[str | None, typer.Option(help="One dataset form; default: all that it is configured for.")] = None,
    quick: Annotated[bool, typer.Option(help="Leave out the check that trains for long.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to overfit in; default: the recipe's.")] = None,
    f1: Annotated[float, typer.Option(min=0, max=1, help="F1@50 that overfitting has to reach.")] = 0.95,
    table: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page of markdown tables.")] = None,
    as_json: Json = False,
) -> int:
    """Run the conformance battery on adapters, by themselves and as baseline and SAMIRO; exit code 1 if a check fails."""
    from detectors.registry import TABLE
    from harness.conformance.battery import check_adapter
    from harness.conformance.subject import Demands, forms_of
    from harness.conformance.table import Report, page
    from harness.files.stored import write_text
    from harness.records.environment import environment

    console = Console(stderr=as_json)
    reports: list[Report] = []
    for name in names or [name for name in TABLE if name.endswith(MICRO)]:
        for one in forms_of(name, form):
            with console.status(f"{name}, {one}") as status:

                def report(result: CheckResult, title: str = f"{name}, {one}", shown: Any = status) -> None:
                    shown.update(f"{title}: {result.check} ({result.arm}) {result.outcome}")

                # What an adapter prints must not stand between the JSON and its reader.
                with redirect_stdout(sys.stderr) if as_json else nullcontext():
                    results = check_adapter(name, one, quick=quick, demands=Demands(steps, f1), report=report)
            reports.append(Report(name, one, results))
            if not as_json:
                console.print(results_table(f"{name}, {one}", results))
    if table is not None:
        import torch

        has_gpu = torch.cuda.is_available()
        here = environment("cuda" if has_gpu else "cpu")
        machine = f"{here.cpu} and {here.device}" if has_gpu else f"{here.cpu} without a GPU"
        write_text(table, page(reports, f"{machine}, torch {here.torch}"))
    if as_json:
        entries = [
            {"detector": r.detector, "form": r.form, "passed": r.passed, "checks": [asdict(c) for c in r.results]}
            for r in reports
        ]
        typer.echo(json.dumps({"detectors": entries}))
    return 0 if all(report.passed for report in reports) else 1


def results_table(title: str, results: tuple[CheckResult, ...]) -> Table:
    """One line a check."""
    from rich.text import Text

    colours = {"passed": "green", "failed": "red", "skipped": "yellow"}
    table = Table("check", "of", "outcome", "seconds", "seen", title=escape(title))
    for result in results:
        outcome = Text(result.outcome, style=colours[result.outcome])
        table.add_row(result.check, result.arm, outcome, f"{result.seconds:.1f}", Text(result.detail))
    return table


@app.command(epilog="Example: samiro-bench detectors new my_lanes --out my_lanes")
def new(
    name: Annotated[str, typer.Argument(help="Small letters, digits and underscores.")],
    out: Annotated[Path, typer.Option(help="The folder to write into; made if it isn't there.")] = Path(),
) -> None:
    """Write a small adapter that works, a suite that runs it, and a test: put your network and head in its place."""
    from harness.scaffold.write import write_scaffold

    adapter, suite, test = write_scaffold(name, out)
    class_name = "".join(word.capitalize() for word in name.split("_"))
    typer.echo(f"wrote {adapter}, {suite} and {test}")
    typer.echo(f"check it:  samiro-bench detectors check {adapter}:{class_name} --quick")
    typer.echo(f"run it:    samiro-bench bench {suite}")
