"""The engine that a command line names, for a suite."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from harness.engines.base import Engine
from harness.errors import InputError
from harness.suite import Suite

EngineName = Literal["local", "slurm", "ray"]


def engine_for(name: EngineName, suite: Suite, results: Path) -> Engine:
    """The engine called `name`, with its files in the suite's folder of results.

    InputError, one line, where a package or the cluster is missing, or the suite asks for what no machine has.
    """
    from harness.training.board import BOARD_MISSING

    if suite.training.tensorboard and find_spec("tensorboard") is None:
        raise InputError(f"{suite.file}: {BOARD_MISSING}")
    return ENGINES[name](suite, results / suite.name)


def local_engine(suite: Suite, folder: Path) -> Engine:
    """The engine on this machine: its GPUs where the suite may use them, else its cores."""
    from harness.engines.local import LocalEngine
    from harness.engines.room import GIGABYTE, named_gpus, this_machine
    from harness.pytorch.device import resolve_device

    training = suite.training
    if resolve_device(training.device) == "cpu":
        return LocalEngine(this_machine(), folder / "logs", training.threads)
    import torch

    count = torch.cuda.device_count()
    if 0 < count < training.processes:
        raise InputError(
            f"{suite.file}: key 'training.processes' is {training.processes}, but there are {count} CUDA devices here: give "
            "as many at most, or say 'training.device: cpu'"
        )
    sizes = [torch.cuda.get_device_properties(index).total_memory / GIGABYTE for index in range(count)]
    return LocalEngine(this_machine(named_gpus(sizes)), folder / "logs", training.threads)


def slurm_engine(suite: Suite, folder: Path) -> Engine:
    """Slurm, from this machine."""
    from harness.engines.cluster import ClusterEngine
    from harness.engines.slurm import POLL_SECONDS, slurm_scheduler

    training = suite.training
    scheduler = slurm_scheduler(folder / "slurm", suite.name, training.threads + training.workers, training.device)
    return ClusterEngine(scheduler, folder, training.threads, POLL_SECONDS)


def ray_engine(suite: Suite, folder: Path) -> Engine:
    """Ray, on a cluster or on this machine."""
    from harness.engines.cluster import ClusterEngine
    from harness.engines.ray import POLL_SECONDS, ray_scheduler

    training = suite.training
    scheduler = ray_scheduler(training.threads + training.workers, training.device)
    return ClusterEngine(scheduler, folder, training.threads, POLL_SECONDS)


ENGINES: dict[EngineName, Callable[[Suite, Path], Engine]] = {
    "local": local_engine,
    "slurm": slurm_engine,
    "ray": ray_engine,
}
