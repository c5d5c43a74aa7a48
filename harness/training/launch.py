"""Starting the processes of one training on this machine, and ending them all when one fails or whoever started them does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed

from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.processes.children import die_with_parent
from harness.processes.faults import InfrastructureError, OutOfMemory, fault_of
from harness.processes.progress import Event, Report
from harness.processes.stopping import after_checkpoint, stop_on_request
from harness.training.plan import TrainingDiverged
from harness.training.ranks import Ranks

Work = Callable[[Ranks, Report], None]
"""What every process does; it has to be picklable."""

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may be validating or writing: who fails is noticed without it."""

SECONDS_TO_END = 2.0
"""How long a process that was killed may take to end after its connections to the others have."""


def launch(work: Work, count: int, report: Report, *, cuda: bool) -> None:
    """Run `work` in `count` processes with a process group (gloo on the CPU; with `cuda` NCCL, a GPU to each), to their end.

    Events of all of them go to `report`. When one fails the others are killed, and its InputError, TrainingDiverged or OutOfMemory is
    raised here, InfrastructureError where it was killed, and anything else as a RuntimeError in one line (its traceback is on
    stderr). They are killed too when this process is interrupted or dies; a request to stop (`harness.processes.stopping`) goes on to
    them, and they end after a checkpoint. InputError where there are fewer GPUs.
    """
    devices = _devices(count) if cuda else [None] * count
    context = multiprocessing.get_context("spawn")
    members: dict[Connection, BaseProcess] = {}

    def stop() -> None:
        for process in members.values():
            process.terminate()

    with after_checkpoint(stop), scratch_folder() as folder:
        try:
            for rank in range(count):
                receiver, sender = context.Pipe(duplex=False)
                given = (work, Ranks(rank, count), folder / "store", devices[rank], os.getpid(), sender)
                process: BaseProcess = context.Process(target=_main, args=given)
                process.start()
                sender.close()
                members[receiver] = process
            _follow(members, report)
        finally:
            for process in members.values():
                process.kill()
                process.join()


def _follow(members: dict[Connection, BaseProcess], report: Report) -> None:
    """Pass on what the processes say until all have ended well; raise what the first that fails says."""
    running = dict(members)
    while running:
        for receiver in wait(list(running)):
            assert isinstance(receiver, Connection)
            try:
                said = receiver.recv()
            except EOFError:
                running.pop(receiver).join()
                _refuse_dead(members)
                continue
            if isinstance(said, Event):
                report(said)
            else:
                # Whoever loses its neighbour fails as well, and may be heard before that one is seen to have ended.
                wait([process.sentinel for process in running.values()], SECONDS_TO_END)
                _refuse_dead(members)
                raise said


def _refuse_dead(members: dict[Connection, BaseProcess]) -> None:
    for rank, process in enumerate(members.values()):
        if process.exitcode:
            code = process.exitcode
            how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            told = f"process {rank} of the {len(members)} of a training {how}"
            raise InfrastructureError(told) if code < 0 else RuntimeError(told)


def _main(work: Work, ranks: Ranks, store: Path, device: str | None, launcher: int, parent: Connection) -> None:
    die_with_parent(signal.SIGKILL, launcher)
    stop_on_request()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    try:
        torch.distributed.init_process_group(
            "gloo" if device is None else "cpu:gloo,cuda:nccl",
            init_method=f"file://{store}",
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=PATIENCE,
        )
        work(ranks, parent.send)
        torch.distributed.destroy_process_group()
    except KeyboardInterrupt:
        return  # asked to stop; its checkpoint, which the first process writes, may take longer
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told and the traceback is on stderr
        traceback.print_exc()
        parent.send(_told(error, ranks))
        # Its end would break the connections to the others, and who is heard first would be chance.
        signal.pause()


def _told(error: Exception, ranks: Ranks) -> Exception:
    if isinstance(error, InputError | TrainingDiverged | OutOfMemory):
        return error
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    told = f"process {ranks.rank} of the {ranks.count} of a training: {reason}"
    return InfrastructureError(told) if fault_of(error).kind == "infrastructure" else RuntimeError(told)


def _devices(count: int) -> list[str]:
    """The GPU of each process, as CUDA_VISIBLE_DEVICES names it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    if len(names) < count:
        raise InputError(
            f"key 'training.processes' is {count}, but there are {len(names)} CUDA devices here: give as many at most, or "
            "say 'training.device: cpu'"
        )
    return names[:count]
