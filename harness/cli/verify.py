"""`samiro-bench verify`: whether published rows are what their archived predictions and labels give."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Json

if TYPE_CHECKING:
    from harness.publishing.verify import Verification

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench verify mini")
def verify(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="[SUITE]", help="A suite's name, the path of its YAML file or of the publication itself."
        ),
    ] = "mini",
    published: Annotated[Path, typer.Option(help="The folder that holds the published suites.")] = Path("results"),
    as_json: Json = False,
) -> int:
    """Score every published row of SUITE again and make its tables again; exit code 1 if a digit differs.

    Rows on labels that may not be shipped are scored on your own copy of the dataset where paths.yaml or the environment names it;
    elsewhere their counts are checked, and they are said to be unverified here.
    """
    from harness.publishing.verify import verify as verify_folder

    folder = publication_of(suite, published)
    found = verify_folder(folder)
    if as_json:
        print(json.dumps({"suite": folder.name, "sound": found.sound, **asdict(found)}, indent=1))
    else:
        for line in lines_of(found):
            typer.echo(line)
    return 0 if found.sound else 1


def publication_of(suite: str, published: Path) -> Path:
    """The folder of the publication that is meant: that of a suite by its name or file; any other path is one itself."""
    path = Path(suite)
    if path.suffix in {".yaml", ".yml"}:
        return published / path.stem
    return published / suite if path.name == suite else path


def lines_of(found: Verification) -> list[str]:
    """What was found: a line a row and a table, one a fault below it, one a mark, and a summary."""
    from harness.report.text import counted, one_line

    lines = []
    for checked in (*found.rows, *found.tables, *found.files):
        name = f"{checked.name}, {checked.evaluation}" if checked.evaluation else checked.name
        if len(checked.told) == 1:
            lines.append(f"{name}: {checked.outcome}: {checked.told[0]}")
        else:
            lines += [f"{name}: {checked.outcome}", *(f"    {line}" for line in checked.told)]
    lines += [f"mark: {told}" for told in found.marks]
    outcomes = [row.outcome for row in found.rows]
    tables = sum(table.outcome == "verified" for table in found.tables)
    lines.append(
        f"{outcomes.count('verified')} of {counted(len(outcomes), 'row')} verified, {outcomes.count('differs')} differ, "
        f"{outcomes.count('unverified')} unverified here; {tables} of {counted(len(found.tables), 'table')} as made again; "
        f"{counted(len(found.files), 'file')} at fault"
    )
    return [one_line(line) if not line.startswith("    ") else f"    {one_line(line)}" for line in lines]
