"""A process that did not get its cores is noisy, and is seen to be."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from harness.throughput.devices import TASKS, Usage, noise_flags, usage


def noise(cpu: float, waited: dict[str, float] | None = None) -> list[str]:
    """The flags of a second of wall time after which the process has used so much."""
    return noise_flags(torch.device("cpu"), Usage(5.0, 3.0, {"1": 2.0}), Usage(6.0, 3.0 + cpu, waited or {}))


def test_a_process_that_did_not_get_its_cpu_is_noisy() -> None:
    assert noise(0.9) == ["noisy"]
    assert noise(1.9) == []


def test_threads_that_wait_for_cores_are_noisy_though_together_they_have_the_time_of_one() -> None:
    assert noise(2.0, {"1": 2.5, "2": 0.5, "3": 0.5, "4": 0.5}) == ["noisy"]
    assert noise(3.5, {"1": 2.0, "2": 0.0, "3": 0.06, "4": 0.0}) == ["noisy"]
    assert noise(3.9, {"1": 2.04, "2": 0.04, "3": 0.04, "4": 0.04}) == []


@pytest.mark.skipif(not list(TASKS.glob("*/schedstat")), reason="this system doesn't tell how long a thread waits")
def test_a_thread_that_shares_its_core_is_seen_to_wait() -> None:
    """Two threads that compute on one core: each waits while the other runs."""
    cores = os.sched_getaffinity(0)
    data = bytes(1 << 20)
    stop = time.perf_counter() + 0.5

    def compute() -> None:
        os.sched_setaffinity(0, {min(cores)})
        while time.perf_counter() < stop:
            hashlib.sha256(data)

    with ThreadPoolExecutor(2) as pool:
        start = usage()
        running = [pool.submit(compute) for _ in range(2)]
        time.sleep(0.45)
        end = usage()
        for one in running:
            one.result()
    assert max(seconds - start.waited.get(task, 0.0) for task, seconds in end.waited.items()) > 0.1
    assert noise_flags(torch.device("cpu"), start, end) == ["noisy"]
