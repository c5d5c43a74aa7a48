"""The published logs of trainings: what they hold, and whether they end as their records say."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.files.stored import read_bounded
from harness.publishing.checksums import RESTORE
from harness.publishing.frames import plain_file
from harness.records.record import Record
from harness.report.text import counted

TRAINING = "training"
"""Folder of the logs of trainings, `<id>.jsonl`."""

LOG_LIMIT = 4 << 20
"""Bytes of a training's log."""

WITHOUT_LOSS = ("resumed", "validation")
"""Keys of a log's lines that tell of no step: that the training was taken up again, and what a validation came to."""


def log_path(folder: Path, record: Record) -> Path:
    """Where the log of a record's training lies in a publication."""
    return folder / TRAINING / f"{record.id}.jsonl"


def copy_log(source: Path, target: Path) -> None:
    """Copy the log of a run's training: of one larger than LOG_LIMIT its first line, all from its last step on, and every second,
    fourth, ... line between them. InputError if it is no such log.
    """
    if source.stat().st_size <= LOG_LIMIT:
        shutil.copyfile(source, target)
        return
    first, *others = source.read_bytes().splitlines(keepends=True)
    try:
        last = max(place for place, line in enumerate(others) if tells_of_step(json.loads(line)))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{source}: not the log of a training ({error}); move its folder away and run `bench` again"
        ) from None
    between, end = others[:last], others[last:]
    while between and sum(map(len, (first, *between, *end))) > LOG_LIMIT:
        between = between[1::2]
    target.write_bytes(b"".join((first, *between, *end)))


def losses_of(path: Path) -> tuple[tuple[int, float], ...]:
    """The loss over the steps of a published training log; empty without one. InputError if it is no such log."""
    with log_entries(path) as entries:
        return losses_in(of_steps(entries))


def losses_in(steps: Sequence[Any]) -> tuple[tuple[int, float], ...]:
    """The loss over the steps that entries tell of; what they raise who are none shows a log to be none (`log_entries`)."""
    found = [(int(entry["step"]), entry["loss"]) for entry in steps]
    losses = tuple((step, float(loss)) for step, loss in found if loss is not None)
    if not all(math.isfinite(loss) for _, loss in losses):
        # A training writes null for it; the page's script could read none of the page's figures any more.
        raise ValueError("a loss in it is no finite number")
    return losses


def first_losses(path: Path) -> dict[str, float]:
    """The terms of the loss at step 1 by name, of a published training log; empty without one. InputError if it is no such log."""
    with log_entries(path) as entries:
        first = next((entry for entry in entries if "losses" in entry), None)
        if first is None or first["step"] != 1:
            return {}
        return {str(name): float(value) for name, value in first["losses"].items()}


def log_faults(folder: Path, record: Record) -> list[str]:
    """What is wrong with the log of a record's training, if there is one: it is none, or it ends otherwise than the record says.

    One that ends otherwise is of another training, or it was cut or written over: what is read of it shows nothing of this row.
    """
    path, training = log_path(folder, record), record.training
    if not plain_file(path):
        return []
    try:
        with log_entries(path) as entries:
            steps = of_steps(entries)
            losses_in(steps)
            last = (steps or [{}])[-1]
            # A record leaves out what isn't finite, for which a log has null.
            finite = {name: value for name, value in last.get("diagnostics", {}).items() if value is not None}
            found = {name: last.get(name) for name in ("step", "losses")} | {"diagnostics": finite}
    except InputError as error:
        return [str(error)]
    recorded = (
        {}
        if training is None
        else {"step": training.steps, "losses": training.final_losses, "diagnostics": training.final_diagnostics}
    )
    unlike = [key for key in recorded if found[key] != recorded[key]]
    return [
        f"{path}: not the log of this training: its last entry has {key} {found[key]}, the record {recorded[key]}; {RESTORE}"
        for key in unlike[:1]
    ]


def absent_logs(folder: Path, records: Sequence[Record]) -> list[str]:
    """A line if rows that were trained here lack their log: how their trainings began and went can't be seen."""
    absent = [record.id for record in records if record.training and not plain_file(log_path(folder, record))]
    return (
        [f"no training log of {len(absent)} of {counted(len(records), 'row')}, the first is {absent[0]}"]
        if absent
        else []
    )


def late_logs(folder: Path, records: Sequence[Record]) -> list[str]:
    """A line if logs are there that don't begin at step 1, as every training's does: somebody cut them, and how it began can't be seen.

    Logs that are none are passed over: `log_faults` tells them.
    """
    there = [record for record in records if record.training and plain_file(log_path(folder, record))]
    late = []
    for record in there:
        try:
            if not first_losses(log_path(folder, record)):
                late.append(record.id)
        except InputError:
            continue
    return (
        [f"training log of {len(late)} of {counted(len(there), 'row')} doesn't begin at step 1, the first is {late[0]}"]
        if late
        else []
    )


def of_steps(entries: Iterator[Any]) -> list[Any]:
    """The entries that tell of a step."""
    return [entry for entry in entries if tells_of_step(entry)]


def tells_of_step(entry: Any) -> bool:
    """Whether an entry tells of a step."""
    return not any(key in entry for key in WITHOUT_LOSS)


@contextmanager
def log_entries(path: Path) -> Iterator[Iterator[Any]]:
    """The entries of a published training log, none without one. InputError if they turn out to be none while they are used."""
    try:
        lines = read_bounded(path, LOG_LIMIT).decode().splitlines() if plain_file(path) else []
        yield (json.loads(line) for line in lines)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: not the log of a training ({error}); {RESTORE}") from None
