"""`samiro-bench submit`: finished rows, packed for a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Only, Results, Skip, SuiteName, Tier

if TYPE_CHECKING:
    from harness.publishing.submit import Submitted

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: samiro-bench submit mini --as alice --who 'Alice Example' --contact https://example.org/alice"
)
def submit(
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="What the submission is called: a to z, 0 to 9, -.")
    ],
    who: Annotated[str, typer.Option(help="Who measured it: a person or a group.")],
    contact: Annotated[str, typer.Option(help="An address, https://... or of mail, at which questions reach you.")],
    suite: SuiteName = "mini",
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="The folder that holds submissions.")] = Path("results/submissions"),
) -> None:
    """Pack the finished cells of your runs of SUITE into OUT/SUITE/NAME, for a pull request; reviews it as CI will.

    It holds records, counts, predictions, logs of trainings, rendered labels, tables, the suite's file and a statement of who you are;
    no images, no checkpoints, and no labels of licensed datasets. What you submit is under Apache-2.0. There is no --seeds: which seeds
    a suite has is fixed in its file, and finished cells of others are named and left out.
    """
    from harness.matrix.plan import make_plan
    from harness.publishing.submit import submit as submit_plan
    from harness.suite import Choice, load_suite

    plan = make_plan(load_suite(suite), results, Choice(None, only or (), skip or (), tier))
    for line in lines_of(submit_plan(plan, name, who, contact, out)):
        typer.echo(line)


def lines_of(made: Submitted) -> list[str]:
    """What was packed, what was left out, and what to do next."""
    from harness.cli.publish import told
    from harness.publishing.review import lines_of as review_lines

    branch = f"submission-{made.folder.parent.name}-{made.folder.name}"
    return [
        *told(made.files),
        *(f"not finished, so left out: {cell}" for cell in made.left_out),
        *(f"finished, but not taken: {line}" for line in made.not_taken),
        *review_lines([made.review]),
        "next, on a branch of your fork that changes nothing else:",
        f"  git switch -c {branch}",
        f"  git add {made.folder}",
        f"  git commit -m 'Submission of {made.folder.parent.name}: {made.folder.name}'",
        f"  git push -u origin {branch}",
        "and open a pull request; its check runs `samiro-bench review`",
    ]
