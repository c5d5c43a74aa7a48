"""`samiro-bench publish`: results that can be committed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Results, Seeds, SuiteName

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench publish mini")
def publish(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="The folder that holds the published suites.")] = Path("results"),
    readme: Annotated[Path, typer.Option(help="The page whose markers get the table.")] = Path("README.md"),
    no_readme: Annotated[bool, typer.Option("--no-readme", help="Leave the README as it is.")] = False,
) -> None:
    """Copy SUITE's records, counts, predictions and tables to OUT/SUITE, and its table into the README."""
    from harness.matrix import make_plan
    from harness.publishing.publish import publish as publish_plan
    from harness.suite import load_suite

    loaded = load_suite(suite)
    plan = make_plan(loaded, results, seeds=seeds)
    page = None if no_readme or not has_markers(readme, loaded.name) else readme
    for path in publish_plan(plan, out / loaded.name, page):
        typer.echo(f"wrote {path}")


def has_markers(readme: Path, suite: str) -> bool:
    """Whether a README shows this suite at all."""
    return readme.is_file() and f"<!-- leaderboard:{suite} -->" in readme.read_text(encoding="utf-8")
