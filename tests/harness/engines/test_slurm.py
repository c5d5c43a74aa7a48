"""What Slurm is told of a job, and what is made of what it says, without a cluster; on a real one: `test_real_clusters.py`."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.engines import slurm
from harness.engines.base import Job, Resources
from harness.engines.cluster import SchedulerState
from harness.engines.slurm import SlurmScheduler, SlurmTask, scancel
from harness.engines.spool import SpooledJob
from harness.processes.faults import InfrastructureError
from harness.processes.neighbours import SHARED_NODE


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> dict[str, SchedulerState]:
    """What is made of jobs 7_0, 7_1, 8, 9 and 10 where a program `squeue` is this script, or there is none."""
    if script is not None:
        (folder / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return SlurmScheduler(folder, "suite", 1, gpus=True).states(["7_0", "7_1", "8", "9", "10"])


def test_states_are_squeues_and_one_that_it_forgot_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("7_0|RUNNING|None|node7", "7_1|NODE_FAIL|x|node8", "8|TIMEOUT|x|", "9|PENDING|Priority|", "99|FAILED|x|")
    assert squeue(tmp_path, monkeypatch, "\n".join(f"echo '{line}'" for line in lines)) == {
        "7_0": SchedulerState("RUNNING on node7", over=False),
        "7_1": SchedulerState("NODE_FAIL on node8", over=True),
        "8": SchedulerState("TIMEOUT", over=True, decided=True),
        "9": SchedulerState("PENDING (Priority)", over=False),
    }


@pytest.mark.parametrize("script", ["exit 1", None], ids=["it fails", "no process for it"])
def test_while_squeue_does_not_answer_all_jobs_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    found = squeue(tmp_path, monkeypatch, script)
    assert len(found) == 5
    assert not any(state.over for state in found.values())


def test_what_a_job_needs_is_said_in_slurms_options() -> None:
    def told(job: Job, *, gpus: bool = True) -> dict[str, Any]:
        found = SlurmScheduler(Path("folder"), "suite", cpus=6, gpus=gpus).parameters(job)
        return {key: value for key, value in found.items() if key not in {"job_name", "srun_args"}}

    two = Resources(
        processes=2, gpu=True, hours=1.5, memory_gigabytes=1.5, slurm={"qos": "low", "array-parallelism": 3}
    )
    assert told(Job("a", print, resources=two)) == {
        "time": 90,
        "mem": "1536M",
        "cpus_per_task": 12,
        "gpus_per_node": 2,
        "array_parallelism": 3,
        "additional_parameters": {"requeue": True, "qos": "low"},
    }
    plain = {"time": 1440, "additional_parameters": {"requeue": True}}
    assert told(Job("a", print, exclusive=True)) == {**plain, "exclusive": True, "mem": "0"}
    without = replace(two, whole_node=False)
    assert told(Job("a", print, exclusive=True, resources=without)) == told(Job("a", print, resources=two))
    assert told(Job("a", print, resources=Resources(gpu=True, cpus=2)), gpus=False) == {**plain, "cpus_per_task": 2}


@pytest.mark.parametrize(
    ("task", "whole_node", "shared"),
    [(SlurmTask, True, "False"), (SlurmTask, False, "True"), (lambda job: job, False, "False")],
    ids=["alone", "shared", "another engine"],
)
def test_a_job_knows_whether_others_may_have_its_node_too(
    jobs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: Callable[[SpooledJob], Callable[[], object]],
    whole_node: bool,
    shared: str,
) -> None:
    monkeypatch.setenv(SHARED_NODE, "0")  # put back at the end
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    job = Job("a", partial(jobs.neighbours, tmp_path / "a"), exclusive=True, resources=Resources(whole_node=whole_node))
    task(SpooledJob(job, tmp_path, tmp_path / "news", tmp_path / "log", 1))()
    assert (tmp_path / "a").read_text() == shared


def test_where_some_of_several_jobs_cannot_be_queued_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="submitit isn't installed: pip install 'samiro-bench[slurm]'")
    queued: list[object] = []
    cancelled: list[str] = []

    class Executor:
        """Takes one array of jobs, and finds no room for the next."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def update_parameters(self, **_: Any) -> None: ...

        def batch(self) -> Executor:
            return self

        def __enter__(self) -> None: ...

        def __exit__(self, *_: Any) -> None: ...

        def submit(self, task: Any) -> Any:
            queued.append(task)
            if len(queued) > 1:
                raise OSError(errno.ENOSPC, "No space left on device", "1.pkl")
            return type("Submitted", (), {"job_id": "1_0"})

    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    monkeypatch.setattr(SlurmScheduler, "cancel", lambda self, ids: cancelled.extend(ids))
    jobs = [Job(name, print, resources=Resources(hours=hours)) for hours, name in enumerate("ab", 1)]
    spooled = [SpooledJob(job, tmp_path, tmp_path, tmp_path, 1) for job in jobs]
    with pytest.raises(OSError, match="No space left"):
        SlurmScheduler(tmp_path, "suite", 1, gpus=False).submit(spooled)
    assert cancelled == ["1_0"]


def test_scancel_is_asked_again_where_it_has_no_process_and_no_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"echo 'scancel: error: {slurm.UNREACHED[0]} (connect failure)' >&2; exit 1"
    script = f'echo "$@" >> {tmp_path}/asked; [ $(wc -l < {tmp_path}/asked) -gt 1 ] || {{ {away}; }}'
    (tmp_path / "later").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    (tmp_path / "later").chmod(0o755)

    def nap(seconds: float) -> None:
        if not (tmp_path / "scancel").exists():
            (tmp_path / "later").rename(tmp_path / "scancel")

    monkeypatch.setattr(slurm.time, "sleep", nap)
    monkeypatch.setenv("PATH", str(tmp_path))
    scancel("--signal=INT", "7_0")
    assert (tmp_path / "asked").read_text() == "--signal=INT 7_0\n" * 2


def test_a_cluster_that_cannot_be_asked_to_cancel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slurm, "CANCEL_SECONDS", -1.0)
    with pytest.raises(InfrastructureError, match=r"scancel can't reach the cluster .*jobs go on"):
        scancel("7_0")
