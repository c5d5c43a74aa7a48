"""The titles of columns: no two of a table are alike, whatever scenarios are called."""

from __future__ import annotations

import pytest

from harness.records.counts import AccuracyCounts, OverlapCounts
from harness.report.columns import columns_of


@pytest.mark.parametrize("kind", [OverlapCounts, AccuracyCounts])
def test_a_scenario_called_like_a_score_has_a_title_of_its_own(kind) -> None:
    scenarios = ["mF1", "f1@50", "accuracy", "crowd", "crowded", "wet_road"]
    titles = [column.title for column in columns_of(kind, scenarios)]
    assert len({title.lower() for title in titles}) == len(titles)
    assert {"scenario mF1", "scenario accuracy", "crowded", "scenario crowded", "wet_road"} <= set(titles)
