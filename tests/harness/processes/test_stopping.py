"""A request to stop is taken at once, or after a checkpoint where there is one to be written."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from harness.processes import stopping
from harness.processes.stopping import after_checkpoint, ask_to_stop, at_once, stop_asked, stop_on_request


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_REQUEST", stopping._Request())


def test_without_a_checkpoint_to_wait_for_it_is_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask_to_stop()


def stepping(steps: list[int]) -> None:
    """Take steps until asked to stop, which two processes do at the third: a scheduler tells all of a job's processes."""
    with after_checkpoint():
        for step in range(10):
            steps.append(step)
            if step == 2:
                ask_to_stop()
                ask_to_stop()
            if stop_asked():
                break


def validating(steps: list[int], *, asked_before: bool) -> None:
    """Do, between steps, what takes long and can't be kept."""
    with after_checkpoint():
        if asked_before:
            ask_to_stop()
        with at_once():
            steps.append(0)
            ask_to_stop()
            steps.append(1)


def test_a_block_with_checkpoints_ends_itself_and_only_then_is_it_interrupted() -> None:
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        stepping(steps)
    assert steps == [0, 1, 2]


def test_what_cannot_be_kept_is_left_at_once_within_such_a_block() -> None:
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        validating(steps, asked_before=False)
    assert steps == [0]


def test_after_what_cannot_be_kept_a_request_waits_for_a_checkpoint_again_and_for_that_of_the_outermost_block() -> None:
    steps: list[str] = []

    def nested() -> None:
        with after_checkpoint():
            with at_once():
                steps.append("validated")
            with after_checkpoint():
                ask_to_stop()
                steps.append("inner")
            steps.append("outer")

    with pytest.raises(KeyboardInterrupt):
        nested()
    assert steps == ["validated", "inner", "outer"]


def test_a_request_before_what_takes_long_is_taken_there() -> None:
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        validating(steps, asked_before=True)
    assert steps == []


def finding_no_room() -> None:
    """Be asked to stop, and fail at the checkpoint."""
    with after_checkpoint():
        ask_to_stop()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_goes_wrong_while_stopping_is_not_taken_for_a_stop() -> None:
    with pytest.raises(OSError, match="No space left"):
        finding_no_room()


def test_processes_that_a_block_waits_for_are_told() -> None:
    told = []
    with pytest.raises(KeyboardInterrupt), after_checkpoint(lambda: told.append(1)):
        ask_to_stop()
    with pytest.raises(KeyboardInterrupt):
        ask_to_stop()
    assert told == [1], "and no more when they are gone"


def test_sigterm_is_a_request_and_ctrl_c_is_for_whoever_started_this() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        stop_on_request()
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop_asked()
        with pytest.raises(KeyboardInterrupt), after_checkpoint():
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop_asked()
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
