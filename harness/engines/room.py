"""Room on one machine: which jobs fit beside those that run, and which GPUs and cores are theirs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.engines.base import Job, Resources
from harness.processes.limits import available_cores, available_memory

GIGABYTE = 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU by the name that CUDA_VISIBLE_DEVICES has for it, and its memory."""

    name: str
    gigabytes: float


@dataclass(frozen=True)
class Machine:
    """What there is to share out. Without GPUs every job runs on the cores."""

    cores: int
    memory_gigabytes: float
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Place:
    """What one running job has. gpu_gigabytes: of each of its GPUs; None is all of it."""

    cores: int
    memory_gigabytes: float
    gpus: tuple[str, ...] = ()
    gpu_gigabytes: float | None = None


def this_machine(gpus: Iterable[Gpu] = ()) -> Machine:
    """The cores and the memory that this process may use, and the GPUs that it is to use."""
    return Machine(available_cores(), available_memory() / GIGABYTE, tuple(gpus))


def named_gpus(gigabytes: Iterable[float]) -> tuple[Gpu, ...]:
    """GPUs with so much memory each, in CUDA's order, under the names that CUDA_VISIBLE_DEVICES gives them."""
    sizes = list(gigabytes)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(len(sizes))]
    return tuple(Gpu(name, size) for name, size in zip(names, sizes, strict=False))


def place_for(job: Job, machine: Machine, taken: Iterable[Place], threads: int) -> Place | None:
    """Room for a job beside those that have places, or None if it has to wait.

    Cores that nobody stated count only for jobs without a GPU: `threads` for each process. Whatever a job states, it has room on a
    machine that is otherwise idle; a GPU job only with as many GPUs as it asks for.
    """
    places, needs = list(taken), job.resources
    on_gpu = needs.gpu and bool(machine.gpus)
    unstated = 0 if on_gpu else threads * needs.processes
    cores = unstated if needs.cpus is None else needs.cpus
    memory = memory_of(needs)
    full = (
        sum(place.cores for place in places) + cores > machine.cores
        or sum(place.memory_gigabytes for place in places) + memory > machine.memory_gigabytes
    )
    if places and full:
        return None
    if not on_gpu:
        return Place(cores, memory)
    free = free_gpus(machine, places, needs)
    if len(free) < needs.processes:
        return None
    return Place(cores, memory, tuple(free[: needs.processes]), needs.gpu_memory_gigabytes)


def memory_of(needs: Resources) -> float:
    """Gigabytes of main memory that a job counts for: what it states, else what it is known to keep of images at most."""
    return needs.cache_gigabytes if needs.memory_gigabytes is None else needs.memory_gigabytes


def waits_for_memory(job: Job, machine: Machine, taken: Iterable[Place], threads: int) -> bool:
    """Whether main memory alone keeps a job from starting beside those that have places."""
    places = list(taken)
    asked = sum(place.memory_gigabytes for place in places) + memory_of(job.resources)
    if not places or asked <= machine.memory_gigabytes:
        return False
    return place_for(job, replace(machine, memory_gigabytes=math.inf), places, threads) is not None


def free_gpus(machine: Machine, places: list[Place], needs: Resources) -> list[str]:
    """The GPUs with room for a job, the fullest first: a whole one is kept for whoever needs it."""
    left = {
        gpu.name: gpu.gigabytes
        - sum(
            gpu.gigabytes if place.gpu_gigabytes is None else place.gpu_gigabytes
            for place in places
            if gpu.name in place.gpus
        )
        for gpu in machine.gpus
    }
    whole = {gpu.name: gpu.gigabytes for gpu in machine.gpus}
    used = {name for place in places for name in place.gpus}
    asked = needs.gpu_memory_gigabytes
    # More than there is means the whole of it, so that the job has its chance (and says itself that its memory is short).
    fits = [name for name in whole if name not in used or (asked is not None and min(asked, whole[name]) <= left[name])]
    return sorted(fits, key=lambda name: left[name])
