"""Slurm, through submitit: equal jobs as arrays; a pre-empted one, or one at its time limit, goes on later from its checkpoint."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

from harness.engines.base import Job
from harness.engines.cluster import QueueFull, SchedulerState
from harness.engines.spool import GRACE_SECONDS, News, SpooledJob, say
from harness.engines.worker_process import STOPPED
from harness.errors import InputError
from harness.processes.faults import InfrastructureError
from harness.processes.limits import text_of
from harness.processes.neighbours import SHARED_NODE
from harness.processes.progress import CHECKPOINTED, WAITS, Event

MISSING = "--engine slurm: the package submitit isn't installed: pip install 'samiro-bench[slurm]'"

HOURS = 24.0
"""The time limit of jobs that state none."""

LEGS = 1000
"""How often a job may meet its time limit and be queued again."""

VAIN_LEGS = 3
"""After so many legs in a row that a time limit ended in the same place, a job isn't queued again."""

NEAR_LIMIT_SECONDS = 300.0
"""A signal so near to a job's time limit is that of the limit: 90 s before, or up to a minute earlier (sbatch(1), --signal), by a clock
that begins when Python does.
"""

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

WHERE_TO_SAY = "(the suite's 'resources', or --resources)"
"""Where one says what jobs need."""

OVER_MEMORY = re.compile(r"memory limit|oom-kill|out of memory", re.IGNORECASE)
"""What Slurm's lines have where a process of a job met its limit of memory; the job itself is only FAILED, where that was a worker."""

ARRAY_SIZE = 1001
"""How many jobs an array has at most where Slurm doesn't say: its default."""

UNREACHED = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "temporarily unable to accept job",
)
"""What sbatch says where the controller is down or busy, or has all the jobs that it can have of anybody."""

DENIED = re.compile(r"error on job id (\S+): Access/permission denied")
"""What scancel says of a job of another user's, also of one that has ended."""

HELD = re.compile(r"held", re.IGNORECASE)
"""What Slurm's reasons have for a job that somebody holds, or that it holds itself because a node couldn't start it (squeue(1)): it is
in nobody's way, and waits for ever.
"""

NO_MORE = re.compile(r"\w*Submit\w*Limit")
"""Slurm's word for a limit on how many jobs a user, an account or a QOS may have in the queue (squeue(1), JOB REASON CODES)."""

CHOICES = ("SQUEUE_", "SCANCEL_")
"""How variables begin by which people choose what squeue shows them and scancel ends, or asks about first (their manual pages,
ENVIRONMENT VARIABLES): jobs left out would count as forgotten and be submitted again, or go on.
"""

Place = tuple[str, int, int]
"""A phase, of how many steps, and the step that it came to, where it keeps what it has done."""


@dataclass
class SlurmTask:
    """What submitit calls on a node. Pickled with the job, and again with a fresh copy of it when it is queued again.

    places: where its legs stood that met the time limit one after another. begun: when this one did, by the monotonic clock.
    """

    job: SpooledJob
    places: tuple[Place, ...] = ()
    begun: float = 0.0

    def __call__(self) -> None:
        """Run the job; a failed one fails for Slurm too."""
        self.begun = time.monotonic()
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
        """Slurm announced the end: stop the worker. submitit stores what this returns, and has the job queued again; None ends it.

        That is for one that its time limit ended again and again in the same place, which would never be done.
        """
        from submitit.helpers import DelayedSubmission

        self.job.stop()
        job = self.job.job
        places: tuple[Place, ...] = ()
        if time.monotonic() - self.begun > hours_of(job) * 3600 - NEAR_LIMIT_SECONDS:
            place, got_on = place_of(self.job.news)
            phase, _, _ = place
            places = (*(found for found in self.places if found == place and not got_on), place)
            limit = f"its time limit (key 'hours': {hours_of(job):g})"
            if len(places) == VAIN_LEGS:
                where = f"'{phase}', no further than before" if phase else "its start"
                message = f"{limit} ended it {VAIN_LEGS} times in {where}: {MENDING['TIMEOUT']} {WHERE_TO_SAY}"
                say(self.job.news, {"failed": message, "kind": "scheduler"})
                say(self.job.news, {"exit": 1})
                return None
            again = "goes on from its checkpoint" if phase in CHECKPOINTED else f"begins {phase or 'it'} anew"
            said = Event(job.name, WAITS, note=f"met {limit}: is queued again, and {again}")
            say(self.job.news, {"event": asdict(said)})
        return DelayedSubmission(SlurmTask(replace(self.job, process=None, stopped=False), places))


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
            size = self.array_size
            while group:
                try:
                    queued = self.submit_array(group[:size])
                except QueueFull:
                    size = min(size, len(group)) // 2
                    if not size:
                        raise
                    continue
                yield queued
                group = group[len(queued) :]

    def submit_array(self, jobs: Sequence[SpooledJob]) -> dict[str, str]:
        """Queue jobs with equal needs; their ids by their names."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        # -P as `harness.engines.worker_process.worker_command` has it.
        python = f"{shlex.quote(sys.executable)} -P"
        executor = SlurmExecutor(self.folder.resolve(), max_num_timeout=LEGS, python=python)
        executor.update_parameters(**self.parameters(jobs[0].job))
        try:
            # submitit prints what sbatch says into the display; here it is told.
            with outside_of_job(), redirect_stderr(io.StringIO()), executor.batch():
                queued = [executor.submit(SlurmTask(job)) for job in jobs]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            reason = "; ".join(line for line in str(error).splitlines() if "error:" in line) or str(error)
            remove_unqueued(self.folder)
            if full := NO_MORE.search(str(error)):
                raise QueueFull(full[0]) from error
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
            "time": round(hours_of(job) * 60),
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
                ["squeue", "--me", "--all", "--array", "--noheader", "--states=all", "--format=%i|%T|%r|%N"],
                capture_output=True,
                text=True,
                check=True,
                env=without_choices(),
            )
        except (OSError, subprocess.CalledProcessError):  # also where this machine has no process for it now
            return {identifier: SchedulerState("squeue doesn't answer", over=False) for identifier in ids}
        wanted = set(ids)
        found: dict[str, SchedulerState] = {}
        for line in asked.stdout.splitlines():
            identifier, _, rest = line.strip().partition("|")
            # Older versions have a headline for each cluster that SLURM_CLUSTERS names. With --all, which also shows hidden partitions,
            # a federation has a job twice: where it is, and as revoked where it was submitted.
            if identifier in wanted and (identifier not in found or found[identifier].over):
                state, reason, nodes = rest.split("|", 2)
                more = f" ({reason})" if state == "PENDING" else f" on {nodes}" if nodes else ""
                if state == "PENDING" and HELD.search(reason):
                    more += f"; it waits until somebody releases it: scontrol release {identifier}"
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
        mending = f"; {MENDING[state]} {WHERE_TO_SAY}" if state in MENDING else ""
        return replace(told, text=told.text + said + mending, decided=state in DECIDED)

    def cancel(self, ids: Collection[str]) -> None:
        """See `harness.engines.cluster.Scheduler.cancel`: those that wait at once, those that run as by Ctrl-C first.

        InfrastructureError where some are another user's, once the others have ended.
        """
        if not ids:
            return
        scancel("--state=PENDING", *ids)
        denied = DENIED.findall(scancel("--signal=INT", *ids))
        try:
            over = self.all_over(ids, GRACE_SECONDS)
        except KeyboardInterrupt:
            scancel(*ids)
            raise
        if not over:
            scancel(*ids)
            self.all_over(ids, CANCEL_SECONDS)
        if left := going_on(denied):
            raise InfrastructureError(
                f"{self.folder.parent}: jobs of this suite that another user submitted go on, for Slurm lets you cancel none of them; "
                f"have that user or an administrator do so (scancel {' '.join(left)}), then the same command goes on from there"
            )

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


def hours_of(job: Job) -> float:
    """The time limit of a leg of a job."""
    return job.resources.hours or HOURS


def place_of(news: Path) -> tuple[Place, bool]:
    """Where the last process of a job stood, by what it said, three blanks where it said nothing; and whether something ended in it
    before, as the predictions or scores of another evaluation, which the next one finds done.
    """
    place, ended = ("", 0, 0), False
    last: Event | None = None
    for said in News(news).read():
        if "attempt" in said:
            place, ended, last = ("", 0, 0), False, None
        elif "event" in said and said["event"]["phase"] not in {STOPPED, WAITS}:
            event = Event(**said["event"])
            if last is not None:
                again = event.total == last.total and event.step < last.step
                ended = ended or event.phase != last.phase or again
            place, last = (event.phase, event.total, event.step if event.phase in CHECKPOINTED else 0), event
    return place, ended


def remove_unqueued(folder: Path) -> None:
    """Remove what submitit wrote of jobs that were not queued: as many files as jobs, at each attempt."""
    for pattern in ("[0-9a-f]" * 32 + ".pkl", ".submission_file_*.sh"):
        for left in folder.glob(pattern):
            if not left.is_symlink():  # as which it stays where its job is queued
                left.unlink(missing_ok=True)


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


def without_choices() -> dict[str, str]:
    """The environment of this process without what its user chose for squeue and scancel."""
    return {name: value for name, value in os.environ.items() if not name.startswith(CHOICES)}


def going_on(ids: Collection[str]) -> list[str]:
    """Of jobs of other users, which `squeue --me` leaves out, those that haven't ended; one that is kept from this user counts too."""
    if not ids:
        return []
    words = ["squeue", f"--jobs={','.join(ids)}", "--all", "--array", "--noheader", "--states=all", "--format=%i|%T"]
    asked = subprocess.run(words, capture_output=True, text=True, env=without_choices())
    told = dict(line.strip().split("|", 1) for line in asked.stdout.splitlines() if "|" in line)
    return [identifier for identifier in ids if told.get(identifier) not in OVER]


def scancel(*words: str) -> str:
    """Ask Slurm to end jobs; where it can't be asked now (no process to be had, no controller), again for a while. Its complaints.

    InfrastructureError if it can't be asked at all: then they go on, and whoever starts again finds them.
    """
    deadline = time.monotonic() + CANCEL_SECONDS
    while True:
        try:
            asked = subprocess.run(["scancel", *words], capture_output=True, text=True, env=without_choices())
            unreached = " ".join(asked.stderr.split()) if any(word in asked.stderr for word in UNREACHED) else ""
        except OSError as error:
            unreached = str(error)
        if not unreached:
            return asked.stderr
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
