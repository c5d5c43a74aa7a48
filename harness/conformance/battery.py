"""The battery that every adapter has to pass, by itself and in both arms: as the baseline and with SAMIRO.

It needs no dataset (the frames are rendered), no trained oracle (a `random:` one regularizes) and no GPU (whose check is then
skipped). What an adapter must promise is written in `detectors.base`; each check is one of those promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from detectors.meta import Form
from harness.conformance import checks
from harness.conformance.contracts import BATCHES, BUILT, LANES, LOSSES, Contract, broken_contract
from harness.conformance.round_trip import round_trip
from harness.conformance.subject import Arm, Demands, NotApplicable, Subject, subject_of, told
from harness.files.scratch import scratch_folder
from harness.pytorch.random_state import random_state, set_random_state
from harness.training.determinism import deterministic


@dataclass(frozen=True)
class CheckResult:
    """How one check of one arm ended. `detail` is a line: what was seen, what is wrong, or why it was skipped."""

    check: str
    arm: Arm
    outcome: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float


@dataclass(frozen=True)
class Check:
    """A check by name, for which arms it is made, what it needs of others, and whether it trains for long."""

    name: str
    run: Callable[[Subject, Arm], str]
    arms: tuple[Arm, ...] = ("baseline", "samiro")
    needs: tuple[Contract, ...] = (BUILT, BATCHES)
    long: bool = False


CHECKS = (
    Check("metadata", checks.metadata, ("adapter",), needs=()),
    Check("targets", checks.targets, ("adapter",), needs=(BUILT,)),
    Check("hostile labels", checks.hostile, ("adapter",), needs=(BUILT, BATCHES, LOSSES)),
    Check("taps", checks.taps, ("adapter",)),
    Check("round trip", round_trip, ("adapter",), needs=(BUILT, BATCHES, LOSSES)),
    Check("forward and backward", checks.trains),
    Check("empty labels", checks.empty_labels, needs=(BUILT, BATCHES, LOSSES)),
    Check("state dict", checks.state_dict, needs=(BUILT, BATCHES, LANES)),
    Check("batch invariance", checks.batch_invariance, needs=(BUILT, BATCHES, LANES)),
    Check("determinism", checks.determinism, needs=(BUILT, BATCHES, LOSSES)),
    Check("bf16", checks.bfloat16, needs=(BUILT, BATCHES, LOSSES, LANES)),
    Check("one device", checks.one_device, needs=(BUILT, BATCHES, LOSSES, LANES)),
    Check("CPU and GPU", checks.device_agreement),
    Check("overfits 8 images", checks.overfits, needs=(BUILT, BATCHES, LOSSES, LANES), long=True),
)
"""The battery, in the order in which it runs."""


def cases(*, quick: bool = False) -> tuple[tuple[Check, Arm], ...]:
    """Every check with every arm that it is made for; `quick` leaves out those that train for long."""
    return tuple((check, arm) for check in CHECKS for arm in check.arms if not (quick and check.long))


def check_adapter(
    name: str,
    form: Form,
    *,
    quick: bool = False,
    demands: Demands | None = None,
    report: Callable[[CheckResult], None] | None = None,
) -> tuple[CheckResult, ...]:
    """Run the battery on an adapter (a name or `path/to/file.py:Class`) in one dataset form, on one CPU thread.

    quick: without the check that trains for long. report: called after each check. Torch's settings and generators are left as they
    were. Raises InputError where there is no such adapter or form; whatever goes wrong in the adapter is a failed check.
    """
    with scratch_folder() as folder:
        subject = subject_of(name, form, folder, demands)
        results = []
        for check, arm in cases(quick=quick):
            results.append(run_check(subject, check, arm))
            if report is not None:
                report(results[-1])
    return tuple(results)


def run_check(subject: Subject, check: Check, arm: Arm) -> CheckResult:
    """Make one check; whatever the adapter raises is a failed one, but for what another check tells of."""
    started = time.monotonic()
    outcome: Literal["passed", "failed", "skipped"]
    try:
        with _quiet_settings():
            detail, outcome = check.run(subject, arm), "passed"
    except NotApplicable as reason:
        detail, outcome = str(reason), "skipped"
    except Exception as error:  # noqa: BLE001 - the adapter's code may raise anything, and the table says what
        detail, outcome = told(error), "failed"
        with _quiet_settings():
            broken = broken_contract(subject, check.needs)
        if broken is not None:
            detail, outcome = f"not looked at: see {broken.check}", "skipped"
    return CheckResult(check.name, arm, outcome, " ".join(detail.split()), time.monotonic() - started)


@contextmanager
def _quiet_settings() -> Iterator[None]:
    """One thread, deterministic kernels; afterwards torch's settings and all generators are what they were."""
    before = random_state()
    with deterministic(threads=1):
        try:
            yield
        finally:
            set_random_state(before)
