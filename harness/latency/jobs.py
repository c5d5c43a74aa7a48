"""What one fresh process measures, and starting it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.latency.subject import Subject
from harness.processes.faults import InfrastructureError
from harness.records.counts import Stored
from harness.records.timings import BatchPoint, InferenceCost, ProtocolName, Throughput

DeviceName = Literal["cpu", "cuda"]

BAD_INPUT = 2
"""Exit code of a process whose last line on standard error says what is wrong with its input."""

NO_MEMORY = 3
"""Exit code of a process whose last line on standard error says what it had no memory for."""


class Job(BaseModel):
    """One measurement of a subject: its latency, its batches, or what its method costs; or which precisions the device has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["latency", "batches", "cost", "precisions"]
    subject: Subject
    protocol: ProtocolName
    device: DeviceName
    threads: int
    mode: str = "fp32-strict"
    flags: tuple[str, ...] = ()


class Result(Stored):
    """What a job found; the rest is empty. impossible: in a line, why torch can't compile the network here, or not once for all."""

    latency: Throughput | None = None
    batches: tuple[BatchPoint, ...] = ()
    batches_ended: str | None = None
    cost: tuple[InferenceCost, ...] = ()
    precisions: tuple[str, ...] = ()
    impossible: str | None = None


def run_fresh(job: Job) -> Result:
    """Run a job in a process of its own, with its threads; returns when that has ended.

    InputError for what that process says of its input, MemoryError where memory was full, InfrastructureError where it was killed,
    RuntimeError, with its traceback, where it ended otherwise.
    """
    threads = str(job.threads)
    settings = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    with scratch_folder() as folder:
        found = folder / "result.json"
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "harness.latency.process", str(found), str(os.getpid())],
            input=job.model_dump_json(),
            capture_output=True,
            text=True,
            env=os.environ | settings,
            check=False,
        )
        if ended.returncode == BAD_INPUT:
            raise InputError(ended.stderr.strip().splitlines()[-1])
        if ended.returncode == NO_MEMORY:
            raise MemoryError(f"{job.what} in mode {job.mode}: {ended.stderr.strip().splitlines()[-1]}")
        if ended.returncode < 0:
            name = signal.Signals(-ended.returncode).name
            raise InfrastructureError(
                f"the process that measured {job.what} in mode {job.mode} was ended by signal {name}, perhaps because memory was short"
            )
        if ended.returncode != 0:
            raise RuntimeError(
                f"the process that measured {job.what} in mode {job.mode} ended with {ended.returncode}:\n{ended.stderr}"
            )
        return Result.model_validate_json(found.read_text(encoding="utf-8"))
