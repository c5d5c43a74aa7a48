"""How a cell is timed: phase `time`, but for what a training step costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.cell.checkpoint import finished_checkpoint
from harness.cell.predict import chosen_threshold
from harness.datasets.base import Dataset
from harness.files.stored import write_json
from harness.inference.predict import view_of_files
from harness.latency.images import TIMED_IMAGES, stratified
from harness.latency.jobs import DeviceName
from harness.latency.protocol import measure_all, native_modes
from harness.latency.subject import Subject, loaded
from harness.methods.attach import without_method
from harness.processes.neighbours import node_is_shared
from harness.processes.progress import Event, Report
from harness.pytorch.device import resolve_device
from harness.records.timings import InferenceCost, StepCost, Throughput
from harness.suite import Cell
from harness.throughput.cost import measure_inference_cost
from harness.throughput.measurement import measure
from harness.throughput.modes import HEADLINE, Mode, Precision

TIMED_PRECISION: dict[str, Precision] = {"fp32": "fp32-strict", "bf16": "amp-bf16", "fp16": "amp-fp16"}
"""A cell's precision -> the name that the throughput protocol has for it."""


def time_detector(
    cell: Cell, trained: Path, chosen: Path | None, dataset: Dataset, split: str, report: Report, folder: Path
) -> None:
    """Measure a cell's detector by the suite's protocol, on frames of a split; writes throughput.json.

    trained, chosen: the folders of phases `train` and `threshold`.
    """
    report(Event(cell.id, "time", 0, 1, cell.throughput))
    subject = Subject(
        checkpoint=finished_checkpoint(trained),
        adapter=cell.adapter,
        confidence_threshold=chosen_threshold(chosen),
        images=tuple(frame.image for frame in stratified(dataset, split, TIMED_IMAGES)),
    )
    device = resolve_device(cell.training.device)
    if cell.throughput == "lane-latency/1":
        measured, cost = whole_protocol(cell, subject, device, dataset, split, report)
    else:
        measured, cost = short_protocol(cell, subject, device)
    found = {
        "throughput": [kept(one) for one in measured],
        "inference_cost": [kept(one) for one in cost],
    }
    write_json(folder / "throughput.json", found)


def kept(measured: Throughput | InferenceCost | StepCost) -> dict[str, Any]:
    """A measurement of now as phase `time` keeps it: flagged where other work may run on the node."""
    flags = (*measured.flags, *(["shared node"] if node_is_shared() else []))
    return measured.model_copy(update={"flags": flags}).model_dump(mode="json")


def short_protocol(
    cell: Cell, subject: Subject, device: DeviceName
) -> tuple[list[Throughput], tuple[InferenceCost, ...]]:
    """Everything in this process, in the precision that the cell was trained in."""
    detector = loaded(subject)
    view, count = view_of_files(subject.images, detector.geometry_of), len(subject.images)
    where, threads = torch.device(device), cell.training.threads
    # Before the first forward, which may leave buffers in a detector.
    plain = without_method(detector)
    measured = measure(
        detector,
        view,
        count,
        protocol=cell.throughput,
        device=where,
        threads=threads,
        mode=own_mode(cell),
    )
    if plain is None:
        return [measured], ()
    return [measured], measure_inference_cost(
        plain, detector, view, count, protocol=cell.throughput, device=where, threads=threads
    )


def whole_protocol(
    cell: Cell, subject: Subject, device: DeviceName, dataset: Dataset, split: str, report: Report
) -> tuple[list[Throughput], tuple[InferenceCost, ...]]:
    """Every measurement in a process of its own, in fp32-strict, the cell's own precision and, on a GPU, all that it has."""
    native = native_modes(subject, device) if device == "cuda" else ()

    def progress(done: int, total: int, what: str) -> None:
        report(Event(cell.id, "time", done, total, what))

    return measure_all(
        subject,
        tuple(dict.fromkeys((HEADLINE, own_mode(cell), *native))),
        dataset,
        split,
        protocol=cell.throughput,
        device=device,
        threads=[cell.training.threads],
        progress=progress,
    )


def own_mode(cell: Cell) -> Mode:
    """The mode in which a cell's predictions are made."""
    return Mode(TIMED_PRECISION[cell.identity.precision])
