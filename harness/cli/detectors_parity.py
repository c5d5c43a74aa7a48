"""`samiro-bench detectors parity`: native detectors beside the code of their upstream repositories."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli.options import Json

if TYPE_CHECKING:
    from harness.parity.compare import Parity

EPILOG = "Example: samiro-bench detectors parity resa_resnet18 --checkout ~/pytorch-auto-drive"

COLOURS = {"agrees": "green", "documented": "yellow", "differs": "red", "unavailable": "yellow"}


def parity(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Variants that have an upstream model.")],
    checkout: Annotated[
        Path,
        typer.Option("--checkout", metavar="DIR", help="Upstream's repository, or a folder of repositories by name."),
    ],
    form: Annotated[str | None, typer.Option(help="One dataset form; default: all that upstream configures.")] = None,
    table: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page of markdown tables.")] = None,
    as_json: Json = False,
) -> int:
    """Compare detectors with upstream's own code, with the same weights, layer by layer; exit code 1 if one differs."""
    from harness.files.stored import write_text
    from harness.parity import compare
    from harness.parity.page import page

    console = Console(stderr=as_json)
    found: list[Parity] = []
    for name in names:
        for one in compare.forms_of(name, form):
            with console.status(f"{name}, {one}") as status:

                def report(layer: Any, title: str = f"{name}, {one}", shown: Any = status) -> None:
                    shown.update(f"{title}: {layer.name} {layer.outcome}")

                found.append(compare.parity(name, one, checkout, report))
            if not as_json:
                console.print(layers_table(found[-1]))
    if table is not None:
        write_text(table, page(found))
    if as_json:
        entries = [
            {
                "detector": one.detector,
                "form": one.form,
                "upstream": one.repository.url,
                "commit": one.commit,
                "holds": one.holds,
                "layers": [asdict(layer) for layer in one.layers],
                "differences": {name: asdict(difference) for name, difference in one.differences.items()},
            }
            for one in found
        ]
        typer.echo(json.dumps({"parity": entries}))
    return 0 if all(one.holds for one in found) else 1


def layers_table(found: Parity) -> Table:
    """One line a layer."""
    from rich.text import Text

    from harness.parity.page import allowed, measured

    table = Table(
        "layer", "", "apart", "allowed", "seen", title=escape(f"{found.detector}, {found.form}: {found.commit}")
    )
    for layer in found.layers:
        outcome = Text(layer.outcome, style=COLOURS[layer.outcome])
        table.add_row(layer.name, outcome, measured(layer), allowed(layer), Text(layer.detail))
    return table
