"""docs/metrics.md: its metrics are those of the code, with the code's own numbers, and the command takes each form."""

from __future__ import annotations

import re
from pathlib import Path

from harness.metrics import (
    culane,
    culane_ports,
    llamas,
    llamas_labels,
    matching,
    natural_spline,
    tusimple,
    tusimple_lanes,
)
from harness.scoring import SCORINGS

ROOT = Path(__file__).resolve().parents[2]
PAGE = " ".join((ROOT / "docs/metrics.md").read_text().split())


def test_every_metric_is_on_the_page_and_no_other() -> None:
    names = {culane.METRIC, culane_ports.METRIC, tusimple.METRIC, llamas.METRIC}
    assert set(re.findall(r"`(\w+/(?:official|clrnet))`", PAGE)) == names
    for scoring in SCORINGS.values():
        assert re.search(rf"\| `{scoring.metric}` \|[^|]+\|[^|]+\| {scoring.split}\b", PAGE), scoring.metric


def test_the_numbers_are_the_codes() -> None:
    height, width = culane.IMAGE_SIZE
    said = (
        f"painted {culane.LANE_WIDTH} pixels wide on a picture of {width} x {height}",
        f"{natural_spline.STEPS} steps an interval",
        f"a slack of {matching.SLACK:g}",
        {5: "five"}[culane_ports.SAMPLES_AN_INTERVAL] + " steps an interval",
        f"within {tusimple_lanes.PIXEL_THRESHOLD:g} pixels",
        f"from {100 * tusimple.MATCH_ACCURACY:g} % on it is matched",
        f"above {tusimple.RUN_TIME_LIMIT} ms",
        f"fewer than {({2: 'two'})[llamas_labels.LEAST_MARKERS]} of them or of less than {llamas_labels.LEAST_HEIGHT} px",
        f"rows 0 to {llamas_labels.FIRST_ROW - 1}",
        f"a curve of {llamas.SAMPLES} points in all",
        f"painted {llamas.LANE_WIDTH} px wide on 1276 x 717",
    )
    assert [text for text in said if text not in PAGE] == []


def test_the_page_says_what_no_lane_scores_and_why_a_row_may_differ_from_its_files() -> None:
    assert f"`f1_clrnet` is {100 * 2 / 3:.2f} for a submission without a single lane" in PAGE
    assert "Rows of a leaderboard score points in [1/8 px]" in PAGE


def test_files_that_the_page_names_are_there() -> None:
    for path in re.findall(r"`((?:harness|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
