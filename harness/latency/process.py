"""The fresh process of a measurement: `python -m harness.latency.process RESULT.json PARENT`, its job as JSON on standard input.

PARENT is the id of the process that starts it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from harness.errors import InputError
from harness.files.stored import write_text
from harness.inference.predict import view_of_files
from harness.latency.jobs import BAD_INPUT, NO_MEMORY, Job, Result
from harness.latency.subject import loaded
from harness.methods.attach import without_method
from harness.processes.children import die_with_parent
from harness.processes.faults import is_out_of_memory, worded
from harness.processes.limits import bound_cores
from harness.throughput.batches import measure_batches
from harness.throughput.cost import measure_inference_cost
from harness.throughput.measurement import measure, not_compiled
from harness.throughput.modes import mode_of, native_precisions


def work(job: Job) -> Result:
    """Do a job in this process."""
    device = torch.device(job.device)
    if job.what == "precisions":
        return Result(precisions=native_precisions(device))
    detector = loaded(job.subject)
    view, count = view_of_files(job.subject.images, detector.geometry_of), len(job.subject.images)
    if job.what == "cost":
        plain = without_method(detector)
        if plain is None:
            return Result()
        return Result(
            cost=measure_inference_cost(
                plain, detector, view, count, protocol=job.protocol, device=device, threads=job.threads
            )
        )
    mode = mode_of(job.mode)
    if job.what == "batches":
        points, ended = measure_batches(
            detector, view, count, protocol=job.protocol, device=device, threads=job.threads, mode=mode
        )
        return Result(batches=points, batches_ended=ended)
    try:
        measured = measure(
            detector,
            view,
            count,
            protocol=job.protocol,
            device=device,
            threads=job.threads,
            mode=mode,
            flags=job.flags,
        )
    except RuntimeError as error:
        why = not_compiled(error) if mode.compiled else None
        if why is None:
            raise
        return Result(impossible=why)
    return Result(latency=measured.model_copy(update={"peak_resident_bytes": peak_resident_bytes()}))


def peak_resident_bytes() -> int | None:
    """The most main memory that this process ever held, libraries included; None where the system doesn't tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    # getrusage's figure may be that of the process that started this one.
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def bind_to_cores(count: int) -> None:
    """Keep this process on so many of its cores, where the system can; on all that it has if they are fewer."""
    if hasattr(os, "sched_setaffinity") and count < bound_cores():
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def main() -> int:
    """Run the job; exit code 2, and one line, for bad input, 3 for full memory."""
    die_with_parent(signal.SIGKILL, int(sys.argv[2]))
    job = Job.model_validate_json(sys.stdin.read())
    if job.device == "cpu":
        bind_to_cores(job.threads)
    try:
        result = work(job)
    except InputError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(worded(error), file=sys.stderr)
        return NO_MEMORY
    write_text(Path(sys.argv[1]), result.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
