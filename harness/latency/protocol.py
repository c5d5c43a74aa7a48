"""The whole of protocol lane-latency/1 for one trained detector."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch

from harness.datasets.base import Dataset
from harness.errors import InputWarning
from harness.latency.images import SCORED_IMAGES, stratified
from harness.latency.jobs import DeviceName, Job, Result, run_fresh
from harness.latency.score_change import TOLERANCE, score_changes
from harness.latency.subject import Subject, loaded
from harness.records.timings import InferenceCost, ProtocolName, Throughput
from harness.throughput.modes import HEADLINE, Mode, mode_of
from harness.throughput.protocol import PROTOCOLS
from harness.throughput.repeats import over_repeats

Run = Callable[[Job], Result]
"""How a job is run: in a fresh process, but for tests."""

Progress = Callable[[int, int, str], None]


def measure_all(
    subject: Subject,
    modes: Sequence[Mode],
    dataset: Dataset,
    split: str,
    *,
    protocol: ProtocolName,
    device: DeviceName,
    threads: Sequence[int],
    flags: Sequence[str] = (),
    progress: Progress,
    run: Run = run_fresh,
) -> tuple[list[Throughput], tuple[InferenceCost, ...]]:
    """Times of a subject in every mode and number of threads, what the modes do to its score, and what its method costs at inference.

    Scores are of a split of a dataset in the subject's form; without labels there are none. Costs, and scores, are measured with the
    first number of threads.
    """
    first = threads[0]
    measured = measure_latencies(
        subject, modes, protocol=protocol, device=device, threads=threads, flags=flags, progress=progress, run=run
    )
    progress(0, 1, "what the method costs")
    cost = measure_cost(subject, protocol=protocol, device=device, threads=first, run=run)
    modes = tuple(mode for mode in modes if any(one.precision == str(mode) for one in measured))
    if any(mode != HEADLINE for mode in modes) and dataset.has_labels(split):
        progress(0, 1, "scores in every mode")
        frames = stratified(dataset, split, SCORED_IMAGES)
        changes = score_changes(
            lambda: loaded(subject), dataset, split, frames, modes, device=torch.device(device), threads=first
        )
        measured = with_score_changes(measured, changes, len(frames))
    return measured, cost


def native_modes(subject: Subject, device: DeviceName) -> tuple[Mode, ...]:
    """A mode for each precision that a device has instructions for.

    Asked for in a process of its own, for this one must not be seen on a GPU while others measure there.
    """
    job = Job(what="precisions", subject=subject, protocol="lane-latency/1", device=device, threads=1)
    return tuple(mode_of(name) for name in run_fresh(job).precisions)


def measure_latencies(
    subject: Subject,
    modes: Sequence[Mode],
    *,
    protocol: ProtocolName,
    device: DeviceName,
    threads: Sequence[int],
    flags: Sequence[str] = (),
    progress: Progress = lambda done, total, what: None,
    run: Run = run_fresh,
) -> list[Throughput]:
    """A measurement of a subject in every mode and number of threads, each of its repeats and its batches in a fresh process.

    The repeats of all of them take turns, so that a slow drift of the machine falls on all alike. A mode in which torch can't compile
    the network is left out, with an InputWarning that says why.
    """
    rules = PROTOCOLS[protocol]
    rows = [
        Job(
            what="latency", subject=subject, protocol=protocol, device=device, threads=count, mode=str(mode), flags=tuple(flags),
        )
        for count in threads
        for mode in modes
    ]  # fmt: skip
    # Every batch size would be another network to compile.
    curves = [row for row in rows if rules.batch_sizes and not mode_of(row.mode).compiled]
    jobs = [*rows * rules.repeats, *(row.model_copy(update={"what": "batches"}) for row in curves)]
    results: list[Result] = []
    impossible: set[int] = set()
    for done, job in enumerate(jobs):
        if done % len(rows) in impossible and job.what == "latency":
            results.append(Result())
            continue
        where = f"{job.mode}, {job.threads} thread{'s' if job.threads > 1 else ''}"
        progress(done, len(jobs), f"{job.what} in {where}")
        results.append(run(job))
        if results[-1].impossible is not None:
            impossible.add(done % len(rows))
            told = f"mode {where}: left out: torch can't compile the network here ({results[-1].impossible})"
            warnings.warn(told, InputWarning, stacklevel=2)
    measured = []
    for place, row in enumerate(rows):
        if place in impossible:
            continue
        runs = [latency for result in results[place :: len(rows)] if (latency := result.latency) is not None]
        combined = over_repeats(runs) if rules.repeats > 1 else runs[0]
        if row in curves:
            curve = results[len(rows) * rules.repeats + curves.index(row)]
            combined = combined.model_copy(update={"batches": curve.batches, "batches_ended": curve.batches_ended})
        measured.append(combined)
    return measured


def measure_cost(
    subject: Subject, *, protocol: ProtocolName, device: DeviceName, threads: int, run: Run = run_fresh
) -> tuple[InferenceCost, ...]:
    """What the subject's method costs at inference; nothing where it left nothing in the network."""
    job = Job(what="cost", subject=subject, protocol=protocol, device=device, threads=threads)
    return run(job).cost


def with_score_changes(measured: Sequence[Throughput], changes: Mapping[Mode, float], images: int) -> list[Throughput]:
    """Measurements with what their modes do to the score, those that lose or win more than 0.1 points flagged."""
    found = []
    for one in measured:
        mode = mode_of(one.precision)
        change = changes.get(mode)
        if change is not None and mode != HEADLINE:
            flags = (*one.flags, *(["score changed"] if abs(change) > TOLERANCE else []))
            one = one.model_copy(update={"score_change": change, "score_images": images, "flags": flags})
        found.append(one)
    return found
