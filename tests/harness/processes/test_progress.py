"""Of what running work says of itself a display gets what it can show."""

from __future__ import annotations

from harness.processes.progress import Event, throttled


def test_of_each_phase_of_each_job_the_first_and_the_last_step_are_told_whenever_they_come() -> None:
    told: list[Event] = []
    report = throttled(told.append, 1000)
    steps = [("a", "train", 1), ("a", "train", 2), ("a", "predict", 1), ("b", "train", 1), ("a", "train", 9)]
    for job, phase, step in steps:
        report(Event(job, phase, step, 9))
    assert [(event.job, event.phase, event.step) for event in told] == [steps[0], *steps[2:]]
