"""What Slurm is told of a job, and what is made of what it says, without a cluster; on a real one: `test_real_clusters.py`."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.engines import slurm
from harness.engines.base import Job, Resources
from harness.engines.cluster import QueueFull, SchedulerState
from harness.engines.slurm import SlurmScheduler, SlurmTask, scancel
from harness.engines.spool import News, SpooledJob, say
from harness.errors import InputError
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
    lines = ("7_0|RUNNING|None|node7", "7_1|NODE_FAIL|x|node8", "8|CANCELLED|x|", "9|PENDING|Priority|", "99|FAILED|x|")
    assert squeue(tmp_path, monkeypatch, "\n".join(f"echo '{line}'" for line in lines)) == {
        "7_0": SchedulerState("RUNNING on node7", over=False, waits=False),
        "7_1": SchedulerState("NODE_FAIL on node8", over=True, waits=False),
        "8": SchedulerState("CANCELLED", over=True, decided=True, waits=False),
        "9": SchedulerState("PENDING (Priority)", over=False, waits=True),
    }


def test_what_people_let_squeue_show_them_hides_no_job_and_a_headline_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    script = 'echo "CLUSTER: north"; [ -n "$SQUEUE_PARTITION" ] || echo "8|RUNNING|None|node7"'
    assert list(squeue(tmp_path, monkeypatch, script)) == ["8"]


def test_jobs_in_a_hidden_partition_are_seen_and_one_that_runs_in_another_cluster_of_a_federation_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_ALL", "1")
    lines = ("8|REVOKED|x|", "8|RUNNING|None|node7", "9|PENDING|Priority|", "9|REVOKED|x|")
    shown = "; ".join(f"echo '{line}'" for line in lines)
    script = f'case " $* " in *" --all "*) all=1;; esac; [ -z "$all$SQUEUE_ALL" ] || {{ {shown}; }}'
    assert squeue(tmp_path, monkeypatch, script) == {
        "8": SchedulerState("RUNNING on node7", over=False, waits=False),
        "9": SchedulerState("PENDING (Priority)", over=False, waits=True),
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


def spooled(folder: Path, hours: Mapping[str, float]) -> list[SpooledJob]:
    """Jobs of these names with these needs."""
    jobs = [Job(name, print, resources=Resources(hours=needed)) for name, needed in hours.items()]
    return [SpooledJob(job, folder, folder, folder, 1) for job in jobs]


def test_jobs_with_equal_needs_are_arrays_no_larger_than_slurm_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmScheduler, "submit_array", lambda self, jobs: {job.job.name: "7" for job in jobs})
    jobs = spooled(tmp_path, {"a": 1, "b": 1.5, "c": 1, "d": 1})
    arrays = SlurmScheduler(tmp_path, "suite", 1, gpus=False, array_size=2).submit(jobs)
    assert [list(array) for array in arrays] == [["a", "c"], ["d"], ["b"]]


def test_where_slurm_takes_no_array_so_large_it_gets_smaller_ones_till_it_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a QOS lets a user have five jobs in the queue: an array counts as all of its jobs."""
    left = [5]

    def submit(self: SlurmScheduler, jobs: Sequence[SpooledJob]) -> dict[str, str]:
        if len(jobs) > left[0]:
            raise QueueFull("QOSMaxSubmitJobPerUserLimit")
        left[0] -= len(jobs)
        return {job.job.name: "7" for job in jobs}

    monkeypatch.setattr(SlurmScheduler, "submit_array", submit)
    arrays = SlurmScheduler(tmp_path, "suite", 1, gpus=False).submit(spooled(tmp_path, dict.fromkeys("abcdefgh", 1)))
    queued: list[str] = []
    with pytest.raises(QueueFull, match="QOSMaxSubmit"):
        queued.extend(name for array in arrays for name in array)
    assert queued == list("abcde")


REFUSED = (
    "QOSMaxSubmitJobPerUserLimit",
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
)
NO_ROOM = (
    "Slurm temporarily unable to accept job, sleeping and retrying",
    "Batch job submission failed: Resource temporarily unavailable",
)


@pytest.mark.parametrize(
    ("said", "raised", "told"),
    [
        (REFUSED, QueueFull, "^QOSMaxSubmitJobPerUserLimit$"),
        (("AssocGrpSubmitJobsLimit", REFUSED[1]), QueueFull, "^AssocGrpSubmitJobsLimit$"),
        (NO_ROOM, InfrastructureError, "can't reach the cluster .*temporarily unable"),
        (("Batch job submission failed: Invalid qos specification",), InputError, "takes no job like a .*Invalid qos"),
    ],
    ids=["QOS", "account", "the cluster's own limit", "an unknown QOS"],
)
@pytest.mark.parametrize("names", ["a", "ab"], ids=["job", "array"])
def test_of_what_sbatch_refuses_it_is_told_what_kind_of_refusal_it_is_and_nothing_is_left_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: Sequence[str],
    raised: type[Exception],
    told: str,
    names: str,
) -> None:
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    lines = "\n".join(f'echo "sbatch: error: {line}" >&2' for line in said)
    for program, script in (("srun", ""), ("sbatch", f"{lines}\nexit 1")):
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    scheduler = SlurmScheduler(tmp_path / "files", "suite", 1, gpus=False)
    with pytest.raises(raised, match=told):
        scheduler.submit_array(spooled(tmp_path, dict.fromkeys(names, 1)))
    assert list((tmp_path / "files").iterdir()) == []
    assert capsys.readouterr().err == ""


def leg(folder: Path, task: SlurmTask, *places: tuple[str, int], seconds: float = 3500) -> SlurmTask | None:
    """What is queued again of a job of one hour that is told to stop after so many seconds, in the last of some places."""
    news = folder / "news"
    say(news, {"attempt": "node7"})
    for phase, step in places:
        say(news, {"event": {"job": "a", "phase": phase, "step": step, "total": 9}})
    task.begun = time.monotonic() - seconds
    again = task.checkpoint()
    return None if again is None else again.function


@pytest.mark.parametrize(
    ("legs", "seconds", "ends"),
    [
        (
            [[("time", 3)], [("time", 8)], [("time", 5)]],
            3500,
            "in 'time', no further than before: give it more 'hours'",
        ),
        ([[("train", 3)]] * 3, 3500, "in 'train', no further"),
        ([[("train", 9), ("predict", 3)], [("predict", 8)], [("predict", 5)]], 3500, "in 'predict', no further"),
        ([[("train", 3)], [("train", 4)], [("train", 5)]], 3500, None),
        ([[("time", 3)], [("time", 8)], [("predict", 5)]], 3500, None),
        ([[("predict", 9), ("score", 9), ("predict", 5)]] * 3, 3500, None),
        ([[("score", 9), ("score", 3)]] * 3, 3500, None),
        ([[("score", 3), ("predict", 5)]] * 3, 3500, None),
        ([[("time", 3)], [("time", 8)], [("time", 5)]], 2000, None),
    ],
    ids=[
        "begins anew",
        "never gets further",
        "one evaluation is too long",
        "gets further",
        "gets on",
        "evaluations one by one",
        "scores one by one",
        "another phase",
        "pre-empted",
    ],
)
def test_what_its_time_limit_ends_again_and_again_in_the_same_place_is_not_queued_again(
    tmp_path: Path, legs: Sequence[Sequence[tuple[str, int]]], seconds: float, ends: str | None
) -> None:
    pytest.importorskip("submitit")
    job = Job("a", print, resources=Resources(hours=1))
    task: SlurmTask | None = SlurmTask(SpooledJob(job, tmp_path, tmp_path / "news", tmp_path / "log", 1))
    for places in legs:
        assert task is not None
        task = leg(tmp_path, task, *places, seconds=seconds)
    assert (task is None) is (ends is not None)
    said = News(tmp_path / "news").read()
    notes = [line["event"]["note"] for line in said if line.get("event", {}).get("phase") == "waits"]
    if ends is not None:
        assert (said[-2]["kind"], said[-1]) == ("scheduler", {"exit": 1})
        assert ends in said[-2]["failed"]
        assert len(notes) == 2
    if legs[0] == [("train", 3)]:
        assert notes[0] == ("met its time limit (key 'hours': 1): is queued again, and goes on from its checkpoint")


@pytest.mark.parametrize(("line", "size"), [("MaxArraySize            = 5", 5), ("MaxArraySize = 0", 1), ("", 1001)])
def test_the_size_of_an_array_is_the_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, size: int
) -> None:
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho 'MaxStepCount = 40000\n{line}'\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.array_size() == size


def test_of_an_array_that_is_not_queued_nothing_is_told_and_of_those_before_it_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(self: SlurmScheduler, jobs: Sequence[SpooledJob]) -> dict[str, str]:
        if jobs[0].job.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device", "1.pkl")
        return {job.job.name: "1_0" for job in jobs}

    monkeypatch.setattr(SlurmScheduler, "submit_array", submit)
    arrays = SlurmScheduler(tmp_path, "suite", 1, gpus=False).submit(spooled(tmp_path, {"a": 1, "b": 1.5}))
    assert next(arrays) == {"a": "1_0"}
    with pytest.raises(OSError, match="No space left"):
        next(arrays)


OVER_MEMORY = "slurmstepd-n: error: StepId=7.0 exceeded memory limit (525553664 > 524288000), being killed"
GROUP = "slurmstepd-n: error: Detected 1 oom-kill event(s) in StepId=7.0. Some of your processes may have been killed."


@pytest.mark.parametrize(
    ("state", "said", "text", "decided"),
    [
        ("FAILED", ["noise", "srun: error: task 0: Killed"], ": srun: error: task 0: Killed (in {})", False),
        (
            "FAILED",
            [OVER_MEMORY, "srun: error: x"],
            f": {OVER_MEMORY} (in {{}}); give it more 'memory_gigabytes'",
            True,
        ),
        ("FAILED", [GROUP], f": {GROUP} (in {{}}); give it more 'memory_gigabytes'", True),
        ("OUT_OF_MEMORY", [], "; give it more 'memory_gigabytes'", True),
        ("TIMEOUT", [], "; give it more 'hours'", True),
        ("CANCELLED", [], "", True),
    ],
)
def test_what_slurm_wrote_of_a_job_that_ended_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, said: list[str], text: str, decided: bool
) -> None:
    if said:
        (tmp_path / "7_1_0_log.err").write_text("\n".join(said))
    found = squeue(tmp_path, monkeypatch, f"echo '7_1|{state}|x|n'")["7_1"]
    expected = f"{state} on n" + text.format(tmp_path / "7_1_0_log.err")
    assert found.text.removesuffix(" (the suite's 'resources', or --resources)") == expected
    assert (found.over, found.decided) == (True, decided)


def test_what_people_let_scancel_spare_or_ask_them_about_is_ended_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "scancel"
    program.write_text(f'#!/bin/sh\necho "$*$SCANCEL_INTERACTIVE$SCANCEL_PARTITION" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SCANCEL_INTERACTIVE", "true")
    monkeypatch.setenv("SCANCEL_PARTITION", "debug")
    scancel("7", "8")
    assert (tmp_path / "asked").read_text() == "7 8\n"


@pytest.mark.parametrize(
    ("listed", "left"),
    [("8|RUNNING", "8"), ("8|CANCELLED", None), ("", "8")],
    ids=["it goes on", "it has ended", "squeue doesn't show other users' jobs"],
)
def test_a_job_of_another_user_that_goes_on_is_told_once_the_others_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, left: str | None
) -> None:
    """Else it would be forgotten, and the same work be submitted beside it."""
    denied = "scancel: error: Kill job error on job id 8: Access/permission denied"
    others = f"case \"$*\" in *--jobs=8*) echo '{listed}';; *) echo '7|CANCELLED|None|';; esac"
    for name, script in (
        ("scancel", f'echo "$*" >> {tmp_path}/asked; echo "{denied}" >&2; exit 210'),
        ("squeue", others),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    scheduler = SlurmScheduler(tmp_path / "suite" / "slurm", "suite", 1, gpus=True)
    if left is None:
        scheduler.cancel(["7", "8"])
    else:
        told = rf"suite: jobs of this suite that another user submitted go on.*\(scancel {left}\)"
        with pytest.raises(InfrastructureError, match=told):
            scheduler.cancel(["7", "8"])
    assert (tmp_path / "asked").read_text() == "--state=PENDING 7 8\n--signal=INT 7 8\n"


@pytest.mark.parametrize("reason", ["launch failed requeued held", "JobHeldUser"])
def test_a_job_that_would_wait_for_ever_is_told_with_what_releases_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    state = squeue(tmp_path, monkeypatch, f"echo '9|PENDING|{reason}|'")["9"]
    assert state.text == f"PENDING ({reason}); it waits until somebody releases it: scontrol release 9"
    assert state.waits


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
