"""`samiro-bench publish`: results that can be committed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Only, Results, Seeds, Skip, SuiteName, Tier
from harness.errors import InputError
from harness.report.text import counted

app = typer.Typer(add_completion=False)

MANY = 12
"""Of a folder with more new files only the number is told."""


@app.command(epilog="Example: samiro-bench publish mini")
def publish(
    suite: SuiteName = "mini",
    seeds: Seeds = None,
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="The folder that holds the published suites.")] = Path("results"),
    readme: Annotated[Path, typer.Option(help="The page whose markers get the table and the badge.")] = Path(
        "README.md"
    ),
    tables: Annotated[
        bool,
        typer.Option(
            "--tables",
            help="Make only the tables and the page of OUT/SUITE again, from what is published there; SUITE may be the path of a "
            "publication, or of a submission, too.",
        ),
    ] = False,
    no_readme: Annotated[bool, typer.Option("--no-readme", help="Leave the README as it is.")] = False,
) -> None:
    """Copy SUITE's records, counts, predictions, labels, tables and page to OUT/SUITE, its table and badge into the README.

    Of chosen cells OUT/SUITE then holds those and nothing else, and its tables tell which rows of the suite are missing; each chosen
    cell has to have its record, and cells that OUT/SUITE has already have to be chosen again. Labels of licensed datasets are never
    copied.
    """
    from harness.cli.verify import publication_of
    from harness.matrix.plan import make_plan
    from harness.publishing.publish import publish as publish_plan
    from harness.publishing.publish import publish_tables
    from harness.publishing.statement import is_submission
    from harness.suite import Choice, load_suite

    chosen = bool(only or skip or tier or seeds)
    if tables and chosen:
        raise InputError(
            "--tables makes those of all that is published again: leave --only, --skip, --tier and --seeds out"
        )
    loaded = None if tables else load_suite(suite)
    target = publication_of(suite, out)
    page = None if no_readme or is_submission(target) else readme_page(readme, target.name)
    if loaded is None:
        written = publish_tables(target, page, results)
    else:
        plan = make_plan(loaded, results, Choice(seeds, only or (), skip or (), tier))
        every = None if seeds is None else max(seeds, loaded.seeds)
        whole = make_plan(loaded, results, Choice(every)) if chosen else plan
        written = publish_plan(plan, target, page, whole.expected)
    for line in told(written):
        typer.echo(line)


def told(written: Sequence[Path]) -> list[str]:
    """What was written, a line each; the files of a folder of many in one line. With sizes."""
    folders: dict[Path, list[Path]] = {}
    for path in written:
        folders.setdefault(path.parent, []).append(path)
    lines = []
    for folder, files in sorted(folders.items()):
        if len(files) > MANY:
            lines.append(f"wrote {len(files)} files to {folder}/, {file_size(files)}")
        else:
            lines += [f"wrote {path}, {file_size([path])}" for path in files]
    return [*lines, f"{counted(len(written), 'file')}, {file_size(written)}"]


def file_size(files: Sequence[Path]) -> str:
    """Of all together, in kB or MB."""
    size = sum(path.stat().st_size for path in files)
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def readme_page(readme: Path, suite: str) -> Path | None:
    """The README, if it shows this suite; one that doesn't is left alone, and that is said."""
    if not readme.is_file():
        raise InputError(f"{readme}: no such file; give --readme another one, or --no-readme")
    text = readme.read_text(encoding="utf-8")
    if f"<!-- leaderboard:{suite} -->" in text:
        if f"<!-- badge:{suite} -->" not in text:
            typer.echo(f"{readme} has no line <!-- badge:{suite} --> and gets no badge")
        return readme
    typer.echo(f"{readme} has no line <!-- leaderboard:{suite} --> and is left as it is")
    return None
