"""Trainings that stand under several names: each gives weights, a log and times that no other has."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.files.stored import read_bounded, sha256_of_json
from harness.publishing.frames import plain_file
from harness.publishing.logs import LOG_LIMIT, log_path
from harness.records.record import Record
from harness.report.text import counted

NAMED = 2
"""So many names are told of one training."""


def repeated_trainings(folder: Path, records: Sequence[Record]) -> Iterator[str]:
    """A line for each set of rows that have one checkpoint, one log or one measurement of time, to the last digit.

    Two trainings never have: other seeds start from other weights, and a clock tells nanoseconds. Rows of programs have no training and
    aren't looked at.
    """
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        for what, trace in traces_of_training(folder, record):
            rows[what, trace].append(record.id)
    shared: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (what, _), alike in rows.items():
        if len(alike) > 1:
            shared[tuple(alike)].append(what)
    for names, found in shared.items():
        more = f"; {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"one {', one '.join(found)} under {counted(len(names), 'name')}: {'; '.join(names[:NAMED])}{more}"


def traces_of_training(folder: Path, record: Record) -> Iterator[tuple[str, str]]:
    """What is one training's alone: its checkpoint, its log, how long it took and how long what it gave takes."""
    training = record.training
    if training is None:
        return
    yield "checkpoint", record.checkpoint_sha256
    log = log_path(folder, record)
    if plain_file(log) and log.stat().st_size <= LOG_LIMIT:
        yield "training log", hashlib.sha256(read_bounded(log, LOG_LIMIT)).hexdigest()
    if training.seconds > 0:
        yield "time of training", f"{training.seconds} {training.seconds_per_step}"
    if record.throughput:
        yield "measurement of latency", sha256_of_json([run.model_dump(mode="json") for run in record.throughput])
