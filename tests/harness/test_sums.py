"""No Python adds up to something else: from 3.12 on `sum` of floats makes up for what it rounds away."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from harness.rendered import dataset, highway, spec
from harness.rendered.dataset import plan_clips
from harness.rendered.spec import RenderSpec
from harness.report import statistics
from harness.suite import load_suite
from harness.sums import added_in_order

TENTHS = [0.1] * 10


def test_fractions_are_rounded_after_each() -> None:
    assert added_in_order(TENTHS) == 0.9999999999999999
    assert added_in_order(np.array(TENTHS)) == 0.9999999999999999
    assert added_in_order([]) == 0.0


def compensated(values: Iterable[float]) -> float:
    """As Python 3.12 adds."""
    found = [*values]
    return math.fsum(found) if any(isinstance(value, float) for value in found) else sum(found)


def rendered_specs() -> list[RenderSpec]:
    """Those of all suites."""
    suites = ("mini", "mini-transfer", "rendered-reduced", "rendered", "field", "ablation")
    parts = [part for name in suites for part in load_suite(name).datasets.values()]
    return [part.rendered for part in parts if part.rendered is not None]


def test_which_scenario_a_clip_shows_does_not_depend_on_the_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shares of equal size the last digit decides which gets a clip more, and all roads behind it are others."""
    before = [plan_clips(one) for one in rendered_specs()]
    for module in (dataset, spec, highway, statistics):
        monkeypatch.setattr(module, "sum", compensated, raising=False)
    assert [plan_clips(one) for one in rendered_specs()] == before
