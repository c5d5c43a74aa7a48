"""Processes that load data: what it means that one was killed, and that one met an error."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from harness.processes.faults import fault_of
from harness.training.loading import batches_in_order


def own_process(position: int) -> int:
    return os.getpid()


def error_of_torch(position: int) -> int:
    raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")


def by_a_worker(build: Any, count: int) -> Any:
    return batches_in_order(build, list, range(count), batch_size=1, workers=1, pin_memory=False)


def kill_during_a_step(worker: int) -> None:
    os.kill(worker, signal.SIGKILL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.01)


def test_a_loader_that_is_killed_during_a_step_is_infrastructure_as_between_two() -> None:
    coming = by_a_worker(own_process, 100)
    (worker,) = next(coming)
    # torch hears of it by a signal, and raises in the middle of what is being done.
    with pytest.raises(RuntimeError, match="is killed by signal") as raised:
        kill_during_a_step(worker)
    assert fault_of(raised.value).kind == "infrastructure"
    coming.close()


def test_an_error_in_a_loader_is_the_codes_and_no_lost_process() -> None:
    with pytest.raises(RuntimeError, match="must match the size") as raised:
        list(by_a_worker(error_of_torch, 1))
    assert fault_of(raised.value).kind == "error"
