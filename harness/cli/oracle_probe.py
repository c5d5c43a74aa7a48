"""`samiro-bench oracle probe`: what oracles know of lanes, told by frozen probes, before anything is trained towards them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from harness.cli.options import Json, height_and_width
from harness.errors import InputError

if TYPE_CHECKING:
    import torch

    from harness.methods.oracle import Oracle
    from harness.training.gate import Labelled

EPILOG = "Example: samiro-bench oracle probe oracle.safetensors timm:convnextv2_nano.fcmae --labels CULANE"

WIDTH = 200
"""Columns of the table where it doesn't go to a terminal."""


@dataclass(frozen=True, eq=False)
class Probed:
    """An oracle that was named, and the same network as a seed draws it."""

    name: str
    oracle: Oracle
    counterpart: Callable[[int], Oracle]


def probe_oracles(
    oracles: Annotated[
        list[str],
        typer.Argument(
            metavar="ORACLE...",
            help="FILE that `pretrain` or a suite made; NAME of published weights as a suite has it, such as "
            "timm:convnextv2_nano.fcmae; or NAME=FILE.",
        ),
    ],
    labels: Annotated[Path, typer.Option(metavar="ROOT", help="A dataset with labelled training images.")],
    form: Annotated[str, typer.Option(help="Of that dataset: culane, tusimple or llamas.")] = "culane",
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Height and width at which the images are looked at: the detectors'.")
    ] = "128x320",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    as_json: Json = False,
) -> int:
    """Tell how well frozen linear probes on each ORACLE's features find the cells that lanes pass through.

    A probe a tap is fitted to cells of labelled training images and judged on those of other clips, by average precision in percent;
    the test split is never looked at. Beside it the same for the network as drawn from three seeds. Exit code 1 where an oracle's mean
    over taps isn't above the drawn network's with every seed: features that tell no more of lanes than a random network's.
    """
    from harness.datasets.base import open_dataset
    from harness.inference.detector import chosen_device
    from harness.training.gate import labelled_frames, probe_gate

    used = chosen_device(device)
    labelled = labelled_frames(open_dataset(form, labels), height_and_width(size))
    named = [probed(word, labelled, used) for word in oracles]
    for one in named:
        if min(labelled.images.shape[2:]) < (coarsest := max(tap.stride for tap in one.oracle.taps)):
            raise InputError(f"--size {size}: {one.name} has cells of {coarsest} px: give sides of that and more")
    rows = []
    with Console(stderr=True).status("probing") as status:
        for one in named:
            progress = partial(tell, status, one.name)
            found = probe_gate(one.oracle, one.counterpart, labelled, device=used, progress=progress)
            strides = [tap.stride for tap in one.oracle.taps]
            rows.append({"oracle": one.name, "strides": strides, **found})
    if as_json:
        typer.echo(json.dumps({"size": list(labelled.images.shape[2:]), "oracles": rows}))
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table_of(rows))
    return 0 if all(row["passed"] for row in rows) else 1


def tell(status: Status, name: str, done: int, total: int) -> None:
    """Say how far the probes of an oracle are."""
    status.update(f"probing {name}, seed {done + 1} of {total}")


def probed(word: str, labelled: Labelled, device: torch.device) -> Probed:
    """The oracle that FILE, NAME or NAME=FILE stands for. InputError for one that isn't there, or isn't one by itself."""
    from harness.cell.oracle import weighted_oracle
    from harness.files.stored import expanded
    from harness.files.validation import validated
    from harness.methods.config import OracleConfiguration
    from harness.methods.oracle import load_oracle
    from harness.training.gate import drawn_like

    name, sign, file = word.partition("=")
    if Path(word).is_dir():
        raise InputError(f"{word}: that is a folder, give the file in it")
    if Path(word).is_file():
        oracle = load_oracle(Path(word))
        assert oracle.card is not None
        backbone = oracle.card.backbone
    elif not sign and ":" not in word:
        raise InputError(
            f"{word}: no such file: give that of an oracle, NAME such as supervised:resnet18, or NAME=FILE"
        )
    else:
        if sign and not file:
            raise InputError(f"{word}: write NAME=FILE, such as supervised:resnet18=checkpoint.safetensors")
        # The shell leaves a `~` behind the sign as it is.
        values = {"name": name, "file": str(expanded(file))} if sign else {"name": name}
        configuration = validated(OracleConfiguration, values, where=word)
        if not configuration.has_weights:
            raise InputError(
                f"{word}: has no weights that were trained before: give the file that `oracle pretrain` or a suite made, "
                "timm:<model>, or supervised:<model>"
            )
        oracle, backbone = weighted_oracle(configuration), configuration.backbone
    return Probed(word, oracle, partial(drawn_like, oracle, backbone, labelled, device=device))


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """A row an oracle, in percent: the mean over taps with the range of its seeds, that of the drawn networks, and each tap.

    On a narrow terminal it is the oracle's path that is broken, and never a figure.
    """
    figures = ("mean over taps", "as drawn", "gate", "taps by stride\n(as drawn)")
    table = Table(
        Column("oracle", overflow="fold"), *(Column(title, no_wrap=True) for title in figures), box=SIMPLE_HEAD
    )
    for row in rows:
        taps = [
            f"{stride}: {in_percent(values['oracle'])} ({in_percent(values['random'])})"
            for stride, values in zip(row["strides"], row["average_precision"].values(), strict=True)
        ]
        means = [
            f"{in_percent(values)}\n{in_percent([min(values)])} to {in_percent([max(values)])}"
            for values in (row["means"]["oracle"], row["means"]["random"])
        ]
        gate = "passed" if row["passed"] else "FAILED"
        table.add_row(*map(Text, (row["oracle"], *means, gate, "\n".join(taps))))
    return table


def in_percent(values: Sequence[float]) -> str:
    """The mean over seeds."""
    return f"{100 * sum(values) / len(values):.1f}"
