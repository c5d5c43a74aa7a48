"""No Python adds up to something else: from 3.12 on `sum` of floats makes up for what it rounds away."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from harness.records.counts import read_counts
from harness.rendered import dataset, highway, spec
from harness.rendered.dataset import plan_clips
from harness.rendered.spec import RenderSpec
from harness.report import statistics
from harness.suite import load_suite
from harness.sums import added_in_order

ROOT = Path(__file__).resolve().parents[2]
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


def test_clips_show_what_those_of_the_published_suite_do() -> None:
    """Which was rendered by Python 3.11."""
    roads = load_suite("mini").datasets["roads"].rendered
    assert roads is not None
    planned = {clip.folder: clip.scenario for clip in plan_clips(roads) if clip.split == "test"}
    counts = read_counts(next((ROOT / "results/mini/records").glob("*.counts.npz")))
    shown = {image.rpartition("/")[0]: scenario for image, scenario in zip(counts.image, counts.scenario, strict=True)}
    assert planned == shown


def test_which_scenario_a_clip_shows_does_not_depend_on_the_order_of_the_weights() -> None:
    weights = {"normal": 0.05, "crowd": 0.05, "hlight": 0.2}
    one, other = (
        RenderSpec.model_validate(
            {"splits": {"test": {"frames": 276, "scenarios": {name: weights[name] for name in names}}}}
        )
        for names in (["normal", "crowd", "hlight"], ["normal", "hlight", "crowd"])
    )
    assert spec.dataset_key(one) == spec.dataset_key(other)
    assert plan_clips(one) == plan_clips(other)
