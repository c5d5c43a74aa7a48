"""Jobs share a machine by cores, memory and the memory of its GPUs."""

from __future__ import annotations

import pytest

from harness.engines.base import Job, Resources
from harness.engines.room import Gpu, Machine, Place, place_for, waits_for_memory

EIGHT_CORES = Machine(cores=8, memory_gigabytes=32)
TWO_GPUS = Machine(cores=8, memory_gigabytes=32, gpus=(Gpu("0", 24.0), Gpu("5", 24.0)))


def placed(machine: Machine, *wanted: Resources, threads: int = 1) -> list[tuple[str, ...] | None]:
    """The GPUs that jobs get which come one after the other and all go on running; None for one that has to wait."""
    taken: list[Place] = []
    found = []
    for resources in wanted:
        place = place_for(Job("job", print, resources=resources), machine, taken, threads)
        found.append(None if place is None else place.gpus)
        taken += [] if place is None else [place]
    return found


def test_cores_are_shared_by_threads_and_processes_or_by_what_is_stated() -> None:
    assert placed(EIGHT_CORES, *[Resources()] * 4, threads=3) == [(), (), None, None]
    assert placed(EIGHT_CORES, *[Resources(processes=2)] * 3, threads=2) == [(), (), None]
    assert placed(EIGHT_CORES, Resources(cpus=6), Resources(cpus=4), Resources(cpus=2)) == [(), None, ()]


def test_a_job_that_asks_for_more_cores_than_there_are_runs_alone() -> None:
    assert placed(EIGHT_CORES, Resources(cpus=64), Resources()) == [(), None]


def test_main_memory_that_is_stated_is_shared_out() -> None:
    assert placed(EIGHT_CORES, *[Resources(memory_gigabytes=16)] * 3) == [(), (), None]


def test_what_jobs_keep_of_images_is_shared_out_where_no_memory_is_stated() -> None:
    assert placed(TWO_GPUS, *[Resources(gpu=True, cache_gigabytes=20)] * 2) == [("0",), None]
    stated = Resources(gpu=True, cache_gigabytes=20, memory_gigabytes=10)
    assert placed(TWO_GPUS, *[stated] * 2) == [("0",), ("5",)]


@pytest.mark.parametrize(
    ("running", "job", "waits"),
    [
        ([Resources(gpu=True, cache_gigabytes=20)], Resources(gpu=True, cache_gigabytes=13), True),
        ([Resources(gpu=True, cache_gigabytes=20)], Resources(gpu=True, cache_gigabytes=12), False),
        ([Resources(gpu=True, cache_gigabytes=20)] * 2, Resources(gpu=True, cache_gigabytes=20), True),
        ([Resources(processes=2, gpu=True, cache_gigabytes=20)], Resources(gpu=True, cache_gigabytes=20), False),
        ([Resources(cpus=8, memory_gigabytes=20)], Resources(cpus=1, memory_gigabytes=20), False),
        ([], Resources(gpu=True, cache_gigabytes=40), False),
    ],
    ids=["GPU free", "fits", "second waits", "no GPU free", "no core free", "nothing runs"],
)
def test_a_job_waits_for_memory_where_all_else_is_free(running: list[Resources], job: Resources, waits: bool) -> None:
    taken: list[Place] = []
    for resources in running:
        place = place_for(Job("", print, resources=resources), TWO_GPUS, taken, 1)
        if place is not None:
            taken.append(place)
    assert waits_for_memory(Job("", print, resources=job), TWO_GPUS, taken, 1) is waits


def test_a_gpu_belongs_to_one_job_that_states_no_memory() -> None:
    assert placed(TWO_GPUS, *[Resources(gpu=True)] * 3) == [("0",), ("5",), None]


def test_jobs_share_a_gpu_by_their_stated_memory_and_fill_one_before_the_next() -> None:
    small = Resources(gpu=True, gpu_memory_gigabytes=8)
    assert placed(TWO_GPUS, *[small] * 7) == [("0",), ("0",), ("0",), ("5",), ("5",), ("5",), None]
    assert placed(TWO_GPUS, small, Resources(gpu=True), small) == [("0",), ("5",), ("0",)]
    assert placed(Machine(8, 32, gpus=(Gpu("0", 24.0), Gpu("5", 8.0))), small) == [("5",)]


def test_a_job_of_several_processes_gets_as_many_gpus_or_waits() -> None:
    two, small = Resources(processes=2, gpu=True), Resources(gpu=True, gpu_memory_gigabytes=8)
    assert placed(TWO_GPUS, two, small) == [("0", "5"), None]
    assert placed(TWO_GPUS, small, two) == [("0",), None]
    shared = Resources(processes=2, gpu=True, gpu_memory_gigabytes=8)
    assert placed(TWO_GPUS, small, shared) == [("0",), ("0", "5")]
    assert placed(TWO_GPUS, Resources(processes=3, gpu=True)) == [None]


def test_more_gpu_memory_than_there_is_means_a_whole_gpu() -> None:
    assert placed(TWO_GPUS, *[Resources(gpu=True, gpu_memory_gigabytes=80)] * 3) == [("0",), ("5",), None]


def test_cores_hold_gpu_jobs_back_only_where_they_are_stated() -> None:
    many = Resources(gpu=True, gpu_memory_gigabytes=1)
    assert None not in placed(TWO_GPUS, *[many] * 20, threads=4)
    stated = Resources(gpu=True, gpu_memory_gigabytes=1, cpus=4)
    assert placed(TWO_GPUS, *[stated] * 3) == [("0",), ("0",), None]


def test_a_job_that_can_use_no_gpu_takes_none() -> None:
    assert placed(TWO_GPUS, Resources(), threads=1) == [()]


def test_on_a_machine_without_gpus_what_could_use_one_runs_on_cores() -> None:
    assert placed(EIGHT_CORES, *[Resources(gpu=True)] * 2, threads=4) == [(), ()]
