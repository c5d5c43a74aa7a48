"""The order of the fresh processes of a measurement, and what is made of what they find."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import InputWarning
from harness.latency import protocol as module
from harness.latency.jobs import Job, Result
from harness.latency.protocol import measure_all, measure_cost, measure_latencies, with_score_changes
from harness.latency.subject import Subject
from harness.records.timings import BatchPoint, Latency, Throughput
from harness.throughput.modes import HEADLINE, Mode

SUBJECT = Subject(checkpoint=Path("checkpoint.safetensors"), images=(Path("one.jpg"),))
BF16, COMPILED = Mode("amp-bf16"), Mode(compiled=True)


def latency(p50: float) -> Latency:
    return Latency(p50=p50, p90=p50, p95=p50, p99=p50, mean=p50, minimum=p50)


def found(mode: str, threads: int, p50: float, protocol: Any = "lane-latency/1") -> Throughput:
    return Throughput(
        protocol=protocol, device="cpu", threads=threads, precision=mode, images=1, iterations=512, latency_ms=latency(p50),
        model_ms=latency(p50), post_ms=latency(p50), fps=1000 / p50, reference_ms=(20.0, 20.0), parameters=1, gflops=None,
        gflops_is_lower_bound=False, peak_memory_bytes=None, flags=("1 of 3 repeats",) if protocol == "lane-latency/1" else (),
    )  # fmt: skip


class Machine:
    """Every further job takes a millisecond longer; keeps the jobs."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Result:
        self.jobs.append(job)
        if job.what == "latency":
            return Result(latency=found(job.mode, job.threads, float(len(self.jobs)), job.protocol))
        size = job.threads
        point = BatchPoint(
            size=size, batch_ms=1.0, images_per_second=1.0, peak_memory_bytes=None, peak_reserved_bytes=None
        )
        return Result(batches=(point,), batches_ended="largest size")


def test_repeats_of_all_rows_take_turns_and_batches_follow() -> None:
    machine = Machine()
    steps: list[tuple[int, int, str]] = []
    measured = measure_latencies(
        SUBJECT,
        [HEADLINE, BF16],
        protocol="lane-latency/1",
        device="cpu",
        threads=[1, 2],
        flags=("rendered images",),
        progress=lambda *step: steps.append(step),
        run=machine,
    )
    rows = [(1, "fp32-strict"), (1, "amp-bf16"), (2, "fp32-strict"), (2, "amp-bf16")]
    assert [(job.threads, job.mode) for job in machine.jobs] == rows * 4
    assert [job.what for job in machine.jobs] == ["latency"] * 12 + ["batches"] * 4
    assert {job.flags for job in machine.jobs} == {("rendered images",)}
    assert [(one.threads, one.precision) for one in measured] == rows
    # Its turns were the 2nd, 6th and 10th.
    assert measured[1].latency_ms.p50 == 6
    assert measured[1].p50_range_ms == (2, 10)
    assert [one.repeats for one in measured] == [3] * 4
    assert not any(one.flags for one in measured)
    assert [one.batches[0].size for one in measured] == [1, 1, 2, 2]
    assert (steps[0], steps[-1][:2]) == ((0, 16, "latency in fp32-strict, 1 thread"), (15, 16))


def test_no_batches_of_a_compiled_network_nor_in_the_short_protocol() -> None:
    machine = Machine()
    measured = measure_latencies(
        SUBJECT, [COMPILED, HEADLINE], protocol="lane-latency/1", device="cpu", threads=[1], run=machine
    )
    assert [len(one.batches) for one in measured] == [0, 1]
    machine = Machine()
    (short,) = measure_latencies(
        SUBJECT, [HEADLINE], protocol="lane-latency/1-short", device="cpu", threads=[1], run=machine
    )
    assert [job.what for job in machine.jobs] == ["latency"]
    assert (short.repeats, short.p50_range_ms, short.batches) == (1, None, ())


def test_a_mode_that_cannot_be_compiled_is_tried_once_and_left_out() -> None:
    machine = Machine()

    def without_compiler(job: Job) -> Result:
        found = machine(job)
        return Result(impossible="no compiler") if job.mode == str(COMPILED) else found

    with pytest.warns(InputWarning, match=r"mode fp32-strict\+compile, 1 thread: left out: .*\(no compiler\)"):
        measured = measure_latencies(
            SUBJECT,
            [HEADLINE, COMPILED, BF16],
            protocol="lane-latency/1",
            device="cpu",
            threads=[1],
            run=without_compiler,
        )
    assert [one.precision for one in measured] == ["fp32-strict", "amp-bf16"]
    assert [one.repeats for one in measured] == [3, 3]
    assert [one.batches[0].size for one in measured] == [1, 1]
    assert sum(job.mode == str(COMPILED) for job in machine.jobs) == 1
    machine = Machine()
    with pytest.warns(InputWarning, match="left out"):
        measured = measure_latencies(
            SUBJECT, [COMPILED, HEADLINE], protocol="lane-latency/1", device="cpu", threads=[1], run=without_compiler
        )
    # The curve of the row that can be measured comes at the place of the one that can't.
    assert [(one.precision, len(one.batches)) for one in measured] == [("fp32-strict", 1)]


def test_the_cost_is_asked_for_with_the_threads_that_are_named() -> None:
    machine = Machine()
    assert measure_cost(SUBJECT, protocol="lane-latency/1", device="cpu", threads=2, run=machine) == ()
    assert [(job.what, job.threads) for job in machine.jobs] == [("cost", 2)]


def test_scores_are_of_the_modes_that_were_measured_on_the_first_threads_and_where_there_are_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def score_changes(load: Any, dataset: Any, split: str, frames: Any, modes: Any, **how: Any) -> dict[Mode, float]:
        asked.append((split, len(frames), modes, how["threads"]))
        return {mode: 0.002 for mode in modes}

    monkeypatch.setattr(module, "score_changes", score_changes)
    monkeypatch.setattr(module, "stratified", lambda dataset, split, count: [None] * 7)
    dataset: Any = SimpleNamespace(has_labels=lambda split: split == "val")
    machine = Machine()

    def without_compiler(job: Job) -> Result:
        found = machine(job)
        return Result(impossible="no compiler") if job.mode == str(COMPILED) else found

    def measure(split: str, *modes: Mode) -> list[Throughput]:
        measured, cost = measure_all(
            SUBJECT, modes, dataset, split, protocol="lane-latency/1-short", device="cpu", threads=[2, 1],
            progress=lambda done, total, what: None, run=without_compiler,
        )  # fmt: skip
        assert cost == ()
        assert [job.threads for job in machine.jobs if job.what == "cost"] == [2]
        machine.jobs.clear()
        return measured

    with pytest.warns(InputWarning, match="no compiler"):
        measured = measure("val", HEADLINE, COMPILED, BF16)
    assert asked == [("val", 7, (HEADLINE, BF16), 2)]
    assert [(one.threads, one.precision, one.score_change, one.score_images, one.flags) for one in measured] == [
        (threads, *mode) for threads in (2, 1) for mode in
        (("fp32-strict", None, None, ()), ("amp-bf16", 0.002, 7, ("score changed",)))
    ]  # fmt: skip
    asked.clear()
    assert all(one.score_change is None for one in [*measure("test", HEADLINE, BF16), *measure("val", HEADLINE)])
    assert asked == []


@pytest.mark.parametrize(
    ("change", "flags"), [(0.0, ()), (-0.0009, ()), (-0.0011, ("score changed",)), (0.0011, ("score changed",))]
)
def test_a_mode_that_moves_the_score_by_more_than_a_tenth_of_a_point_is_flagged(
    change: float, flags: tuple[str, ...]
) -> None:
    rows = [found("fp32-strict", 1, 1.0, "lane-latency/1-short"), found("amp-bf16", 1, 1.0, "lane-latency/1-short")]
    strict, mixed = with_score_changes(rows, {HEADLINE: 0.0, BF16: change}, 2000)
    assert (strict.score_change, strict.score_images) == (None, None)
    assert (mixed.score_change, mixed.score_images, mixed.flags) == (change, 2000, flags)
