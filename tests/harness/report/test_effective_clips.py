"""Clips of unequal size count as fewer equal ones, and the leaderboard says as how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.records.counts import OverlapCounts
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.tables import to_markdown
from tests.harness.report.boards import csv_lines


def with_clips(counts: OverlapCounts, sizes: Sequence[int]) -> OverlapCounts:
    """The same images in clips of other sizes."""
    return replace(counts, clip=np.repeat([f"c{place:02d}" for place in range(len(sizes))], sizes))


def test_the_text_tells_how_many_equal_clips_uneven_ones_are_as_good_as(made: Any, tmp_path: Path) -> None:
    """One clip of 25 images and 11 of one: 36^2 / (25^2 + 11) = 2.04."""

    def board(name: str, base: OverlapCounts) -> Leaderboard:
        return leaderboard(made.pairs(tmp_path / name, 1, base=base), tmp_path / name)

    uneven, even = board("uneven", with_clips(made.split(), [25] + [1] * 11)), board("even", made.split())
    assert uneven.sections[0].effective_clips == pytest.approx(1296 / 636)
    assert "36 rendered images in 12 clips (as good as 2.0 equal ones) of mini" in to_markdown(uneven)
    assert {line["effective_clips"] for line in csv_lines(uneven)} == {"2.0"}
    assert even.sections[0].effective_clips == 12
    assert "36 rendered images in 12 clips of mini" in to_markdown(even)
    # 1 + 119 twos, as good as 119.5: from 50 on the quantile doesn't depend on it.
    many = board("many", with_clips(made.split(images=239), [1] + [2] * 119))
    assert "239 rendered images in 120 clips of mini" in to_markdown(many)


def test_every_scenario_has_the_effective_clips_of_its_own_images(made: Any, tmp_path: Path) -> None:
    """Eleven clips of a normal and a night image each, and one of a normal and ten night images."""
    base = with_clips(made.split(images=33), [2] * 11 + [11])
    scenario = np.array([*["normal", "night"] * 11, "normal", *["night"] * 10])
    base = replace(base, scenario=scenario)
    (section,) = leaderboard(made.pairs(tmp_path, 3, base=base), tmp_path).sections
    (gain,) = section.gains
    found = {
        column.key: difference.comparison.effective_clips
        for column, difference in zip(section.columns, gain.differences, strict=True)
        if difference
    }
    assert found["normal"] == 12
    assert found["night"] == pytest.approx(21**2 / (11 + 10**2))
    assert found["f1_50"] == found["mf1"] == pytest.approx(33**2 / (11 * 2**2 + 11**2)) == section.effective_clips


def test_clips_as_good_as_fewer_than_two_have_no_interval_and_the_verdict_says_why(made: Any, tmp_path: Path) -> None:
    """One clip of 49 images and 11 of one: 60^2 / (49^2 + 11) = 1.49."""
    base = with_clips(made.split(images=60), [49] + [1] * 11)
    board = leaderboard(made.pairs(tmp_path, 3, base=base), tmp_path)
    (gain,) = board.sections[0].gains
    assert gain.headline is not None
    assert gain.headline.half_widths is None
    assert gain.verdict == "no verdict: 12 clips, as good as 1.5 equal ones"
    (line,) = [line for line in csv_lines(board) if line["kind"] == "gain"]
    assert (line["f1_50_low"], line["interval"], line["p"], line["detectable"]) == ("", "", "", "")
