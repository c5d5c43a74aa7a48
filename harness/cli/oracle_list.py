"""`samiro-bench oracle list`: the kinds of oracles, and those that are at hand with what their cards say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.console import say
from harness.cli.options import RESULTS, Json, Results

EPILOG = "Example: samiro-bench oracle list oracle.safetensors"

WIDTH = 200
"""Columns of the listing where it doesn't go to a terminal."""

KINDS = {
    "mim:<backbone>": "pre-trained here by masked image modelling, on a dataset's training images or a folder (`oracle pretrain`)",
    "timm:<model>": "any network of timm's with the weights that it publishes: `weights fetch timm:<model>`, or a file",
    "supervised:<model>": "learned from labels: published ImageNet weights, or a file such as a detector's checkpoint",
    "random:<backbone>": "control: as drawn, batch normalisation fitted to the images",
    "init": "control: the detector's own start",
    "shuffled:<oracle>": "control: another oracle of the suite that looks at another image",
}


def list_oracles(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Oracles that `pretrain` wrote.")
    ] = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """List the kinds of oracles, and those at hand: the named FILEs, those that suites made, published weights in the cache."""
    from harness.weights.cache import weights_folder

    built = sorted((results / "artefacts" / "oracle").glob("*/oracle.safetensors"))
    rows = [made_row(path) for path in [*(files or []), *built]]
    rows += [row for path in sorted(weights_folder().glob("*.safetensors")) if (row := cached_row(path)) is not None]
    if as_json:
        typer.echo(json.dumps({"kinds": KINDS, "cache": str(weights_folder()), "oracles": rows}))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    kinds = Table("kind", "what", box=SIMPLE_HEAD)
    for kind, what in KINDS.items():
        kinds.add_row(kind, what)
    console.print(kinds)
    table = Table(
        "oracle", "sha256", "licence", "trained on", "error", "rank of taps", "checks", "file", box=SIMPLE_HEAD
    )
    for row in rows:
        failed = [name for name, passed in row["checks"].items() if not passed]
        checks = "-" if not row["checks"] else "passed" if not failed else f"failed: {'; '.join(failed)}"
        error = row["error"]
        shown = "-" if error is None else f"{error['normalised']:.3f} (means {error['normalised_mean']:.3f})"
        ranks = ", ".join(f"{tap['effective_rank']:.0f}/{tap['channels']}" for tap in row["taps"]) or "-"
        texts = (row["name"], row["sha256"][:12], row["licence"] or "?", row["data"], shown, ranks, checks, row["file"])
        table.add_row(*map(Text, texts))
    console.print(table)
    say(console, f"cache: {weights_folder()}")


def made_row(path: Path) -> dict[str, Any]:
    """What the card of an oracle that was made here says."""
    from harness.methods.oracle import load_card

    card = load_card(path)
    return {
        "name": card.name,
        "file": str(path),
        "sha256": card.sha256,
        "licence": card.licence,
        "data": f"{card.data['images']} images, {card.steps} steps",
        "error": None if card.reconstruction is None else card.reconstruction.model_dump(mode="json"),
        "taps": [tap.model_dump(mode="json") for tap in card.taps],
        "checks": card.checks,
        "probe": card.probe,
    }


def cached_row(path: Path) -> dict[str, Any] | None:
    """What the card of published weights in the cache says, None for a file without one."""
    from detectors.backbone_sources import BACKBONES
    from harness.weights.cache import read_card

    card = read_card(path)
    if card is None:
        return None
    kind = f"supervised:{card.backbone}" if card.backbone in BACKBONES else card.backbone
    return {
        "name": kind,
        "file": str(path),
        "sha256": card.sha256,
        "licence": card.licence,
        "data": card.data,
        "error": None,
        "taps": [],
        "checks": {"is the published file": card.published},
        "probe": None,
    }
