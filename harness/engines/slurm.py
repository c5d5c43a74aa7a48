"""Slurm, through submitit: equal jobs as arrays; a pre-empted one, or one at its time limit, goes on later from its checkpoint."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

from harness.engines.base import Job
from harness.engines.cluster import SchedulerState
from harness.engines.spool import GRACE_SECONDS, SpooledJob
from harness.errors import InputError
from harness.processes.faults import InfrastructureError
from harness.processes.limits import text_of
from harness.processes.neighbours import SHARED_NODE

MISSING = "--engine slurm: the package submitit isn't installed: pip install 'samiro-bench[slurm]'"

HOURS = 24.0
"""The time limit of jobs that state none."""

LEGS = 1000
"""How often a job may meet its time limit and be queued again."""

POLL_SECONDS = 5.0
"""How often `squeue` is asked; once for all jobs."""

CANCEL_SECONDS = 120.0
"""How long cancelled jobs have to end: Slurm kills what is left after its KillWait, 30 s by default."""

OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
"""Job states (squeue(1), JOB STATE CODES) of which none runs or waits; a job that is queued again leaves them within seconds."""

DECIDED = frozenset({"CANCELLED", "DEADLINE", "OUT_OF_MEMORY", "TIMEOUT"})
"""Those of them that somebody or a limit brought about, which another attempt would meet again."""

MENDING = {"OUT_OF_MEMORY": "give it more 'memory_gigabytes'", "TIMEOUT": "give it more 'hours'"}
"""What helps a job that met a limit."""

OVER_MEMORY = re.compile(r"memory limit|oom-kill|out of memory", re.IGNORECASE)
"""What Slurm's lines have where a process of a job met its limit of memory; the job itself is only FAILED, where that was a worker."""

ARRAY_SIZE = 1001
"""How many jobs an array has at most where Slurm doesn't say: its default."""

UNREACHED = ("Unable to contact slurm controller", "Socket timed out", "Connection refused", "Connection timed out")
"""What sbatch says where the controller is down or busy."""


class SlurmTask:
    """What submitit calls on a node. Pickled with the job, and again with a fresh copy of it when it is queued again."""

    def __init__(self, job: SpooledJob) -> None:
        self.job = job

    def __call__(self) -> None:
        """Run the job; a failed one fails for Slurm too."""
        signal.signal(signal.SIGTERM, self.terminated)
        if not has_whole_node(self.job.job):
            os.environ[SHARED_NODE] = "1"
        code = self.job()
        if code:
            raise SystemExit(1)

    def terminated(self, number: int, frame: FrameType | None) -> None:
        """Slurm ends the job, perhaps to make room and queue it again, which it doesn't do with a job that leaves before: wait."""
        self.job.stop()
        while True:
            signal.pause()

    def checkpoint(self) -> Any:
        """Slurm announced the end: stop the worker. submitit stores what this returns, and has the job queued again."""
        from submitit.helpers import DelayedSubmission

        self.job.stop()
        return DelayedSubmission(SlurmTask(replace(self.job, process=None, stopped=False)))


@dataclass(frozen=True)
class SlurmScheduler:
    """Submits from this machine. `folder`: for submitit's files, seen by every node. cpus: cores a process where none are stated.

    array_size: how many jobs an array may have.
    """

    folder: Path
    suite: str
    cpus: int
    gpus: bool
    array_size: int = ARRAY_SIZE
    name = "slurm"
    survives = True

    def submit(self, jobs: Sequence[SpooledJob]) -> Iterator[Mapping[str, str]]:
        """See `harness.engines.cluster.Scheduler.submit`. Jobs with equal needs are one array. InputError where sbatch refuses."""
        ordered = sorted(jobs, key=lambda job: repr(self.parameters(job.job)))
        for _, equal in groupby(ordered, key=lambda job: repr(self.parameters(job.job))):
            group = list(equal)
            for begin in range(0, len(group), self.array_size):
                yield self.submit_array(group[begin : begin + self.array_size])

    def submit_array(self, jobs: Sequence[SpooledJob]) -> dict[str, str]:
        """Queue jobs with equal needs; their ids by their names."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        # -P as `harness.engines.worker_process.worker_command` has it.
        python = f"{shlex.quote(sys.executable)} -P"
        executor = SlurmExecutor(self.folder.resolve(), max_num_timeout=LEGS, python=python)
        executor.update_parameters(**self.parameters(jobs[0].job))
        try:
            with outside_of_job(), executor.batch():
                queued = [executor.submit(SlurmTask(job)) for job in jobs]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            reason = next((line for line in str(error).splitlines() if "error:" in line), str(error))
            if any(word in str(error) for word in UNREACHED):
                raise InfrastructureError(f"sbatch can't reach the cluster ({' '.join(reason.split())})") from error
            raise InputError(
                f"--engine slurm: sbatch takes no job like {jobs[0].job.name} ({' '.join(reason.split())}); "
                "see the suite's 'resources', or --resources"
            ) from error
        return {job.job.name: entry.job_id for job, entry in zip(jobs, queued, strict=True)}

    def parameters(self, job: Job) -> dict[str, Any]:
        """What submitit is told of a job."""
        needs = job.resources
        options = {key: value for key, value in needs.slurm.items() if key != "array-parallelism"}
        found: dict[str, Any] = {
            "job_name": self.suite,
            "time": round((needs.hours or HOURS) * 60),
            # Without it recent versions of Slurm bind the one task that srun starts to fewer cores than the job has.
            "srun_args": ["--cpu-bind=none"],
            "additional_parameters": {"requeue": True, **options},
        }
        if has_whole_node(job):
            found |= {"exclusive": True, "mem": "0"}
        else:
            found["cpus_per_task"] = needs.cpus or self.cpus * needs.processes
        if needs.memory_gigabytes is not None:
            found["mem"] = f"{round(needs.memory_gigabytes * 1024)}M"
        if needs.gpu and self.gpus:
            found["gpus_per_node"] = needs.processes
        if "array-parallelism" in needs.slurm:
            found["array_parallelism"] = int(needs.slurm["array-parallelism"])
        return found

    def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
        """See `harness.engines.cluster.Scheduler.states`. Asks squeue, which needs no accounting; while it fails, all go on."""
        try:
            asked = subprocess.run(
                ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r|%N"],
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):  # also where this machine has no process for it now
            return {identifier: SchedulerState("squeue doesn't answer", over=False) for identifier in ids}
        wanted = set(ids)
        found = {}
        for line in asked.stdout.splitlines():
            identifier, state, reason, nodes = line.strip().split("|", 3)
            if identifier in wanted:
                more = f" ({reason})" if state == "PENDING" else f" on {nodes}" if nodes else ""
                told = SchedulerState(
                    state + more, over=state in OVER, decided=state in DECIDED, waits=state == "PENDING"
                )
                found[identifier] = self.explained(identifier, state, told) if told.over else told
        return found

    def explained(self, identifier: str, state: str, told: SchedulerState) -> SchedulerState:
        """What became of a job, with the last error in Slurm's own file on it, and what helps where it met a limit."""
        file = self.folder.resolve() / f"{identifier}_0_log.err"
        lines = [line for line in text_of(file).splitlines() if "error:" in line]
        over_memory = [line for line in lines if OVER_MEMORY.search(line)]
        state = "OUT_OF_MEMORY" if over_memory else state
        said = f": {' '.join((over_memory or lines)[-1].split())} (in {file})" if lines else ""
        mending = f"; {MENDING[state]} (the suite's 'resources', or --resources)" if state in MENDING else ""
        return replace(told, text=told.text + said + mending, decided=state in DECIDED)

    def cancel(self, ids: Collection[str]) -> None:
        """See `harness.engines.cluster.Scheduler.cancel`: those that wait at once, those that run as by Ctrl-C first."""
        if not ids:
            return
        scancel("--state=PENDING", *ids)
        scancel("--signal=INT", *ids)
        try:
            over = self.all_over(ids, GRACE_SECONDS)
        except KeyboardInterrupt:
            scancel(*ids)
            raise
        if not over:
            scancel(*ids)
            self.all_over(ids, CANCEL_SECONDS)

    def all_over(self, ids: Collection[str], seconds: float) -> bool:
        """Wait until none waits or runs any more, so long at most; whether that is so."""
        deadline = time.monotonic() + seconds
        while any(not state.over for state in self.states(ids).values()):
            if time.monotonic() > deadline:
                return False
            time.sleep(1.0)
        return True


def has_whole_node(job: Job) -> bool:
    """Whether a job is alone on its node: it wants to be, and is to ask for that."""
    return job.exclusive and job.resources.whole_node


@contextmanager
def outside_of_job() -> Iterator[None]:
    """Without what Slurm told this process, where it is a job itself.

    sbatch hands all of it on, and srun would take the tasks and the memory of this job for those of the new one.
    """
    own: dict[str, str] = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [
            name
            for name in os.environ
            if name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and not name.startswith("SLURM_CONF")
        ]
        own = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(own)


def array_size() -> int:
    """How many jobs an array may have on this cluster."""
    asked = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    told = re.search(r"^MaxArraySize\s*=\s*(\d+)", asked.stdout, re.MULTILINE)
    return max(1, int(told[1])) if told else ARRAY_SIZE


def scancel(*words: str) -> None:
    """Ask Slurm to end jobs; where it can't be asked now (no process to be had, no controller), again for a while.

    InfrastructureError if it can't be asked at all: then they go on, and whoever starts again finds them.
    """
    deadline = time.monotonic() + CANCEL_SECONDS
    while True:
        try:
            asked = subprocess.run(["scancel", *words], capture_output=True, text=True)
            unreached = " ".join(asked.stderr.split()) if any(word in asked.stderr for word in UNREACHED) else ""
        except OSError as error:
            unreached = str(error)
        if not unreached:
            return
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"scancel can't reach the cluster ({unreached}): jobs go on that were to be cancelled"
            )
        time.sleep(1.0)


def slurm_scheduler(folder: Path, suite: str, cpus: int, device: str) -> SlurmScheduler:
    """Slurm as it is reached from here. InputError where submitit, Slurm, or a GPU that is asked for is missing."""
    if find_spec("submitit") is None:
        raise InputError(MISSING)
    for program in ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo"):
        if shutil.which(program) is None:
            raise InputError(
                f"--engine slurm: there is no {program} here: run this where jobs are submitted, or say --engine local"
            )
    asked = subprocess.run(["sinfo", "--noheader", "--format=%G"], capture_output=True, text=True)
    if asked.returncode:
        reason = " ".join(asked.stderr.split())
        raise InputError(f"--engine slurm: sinfo can't reach the cluster ({reason}): see that slurmctld runs")
    gpus = "gpu" in asked.stdout
    if device == "cuda" and not gpus:
        raise InputError(
            "--engine slurm: key 'training.device' is 'cuda', but no node of this cluster says that it has a GPU (sinfo --format=%G); "
            "say 'auto' or 'cpu'"
        )
    return SlurmScheduler(folder, suite, cpus, gpus, array_size())
