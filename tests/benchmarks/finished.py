"""A finished matrix on the disk, made without training: what plans, engines and leaderboards of hundreds of cells are measured on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from harness.cell.keys import records_folder
from harness.cell.phases import Phase
from harness.files.stored import write_json
from harness.matrix.plan import Plan, make_plan
from harness.records.record import Record, read_records, write_record
from harness.suite import Choice, load_suite

MINI = Path(__file__).resolve().parents[2] / "results" / "mini" / "records"


def finished(results: Path, seeds: int) -> Plan:
    """The plan of the mini suite with so many seeds, all of whose cells have their phases, records and counts."""
    suite = load_suite("mini")
    plan = make_plan(suite, results, Choice(seeds=seeds))
    published = {(record.identity.detector, record.identity.method): record for record in read_records(MINI)}
    folder = records_folder(results, suite.name)
    folder.mkdir(parents=True)
    with unsynced():
        for phase, _ in plan.artefacts:
            finish(phase)
            if phase.folder.parent.name == "oracle":
                (phase.folder / "oracle.safetensors").touch()
        for state in plan.cells:
            for phase, _ in state.states:
                finish(phase)
            (state.states[0][0].folder / "checkpoint.safetensors").touch()
            identity = state.cell.identity
            first = published[identity.detector, identity.method]
            copy_record(first.model_copy(update={"id": state.cell.id, "identity": identity}), first, folder)
    return make_plan(suite, results, Choice(seeds=seeds))


def copy_record(record: Record, first: Record, folder: Path) -> None:
    """Write a record with the counts of another one."""
    evaluations = []
    for evaluation in first.evaluations:
        name = evaluation.counts_file.replace(first.id, record.id)
        shutil.copyfile(MINI / evaluation.counts_file, folder / name)
        evaluations.append(evaluation.model_copy(update={"counts_file": name}))
    write_record(folder, record.model_copy(update={"evaluations": tuple(evaluations)}))


def finish(phase: Phase) -> None:
    """What a phase leaves that tells that it is done."""
    phase.folder.mkdir(parents=True)
    content = {"key": phase.key, "fingerprint": dict(phase.fingerprint), "seconds": 1.0, "options": dict(phase.options)}
    write_json(phase.folder / "phase.json", content)


@contextmanager
def unsynced() -> Iterator[None]:
    """Don't wait for the disk: tens of thousands of fsyncs aren't what is measured."""
    with patch.object(os, "fsync", lambda descriptor: None):
        yield
