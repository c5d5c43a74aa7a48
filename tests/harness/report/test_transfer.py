"""Scores on other datasets than the one that was trained on, from hand-made records."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records.record import write_record
from harness.report.beyond_cells import transfer_table
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.site.page import to_page
from harness.report.tables import to_markdown
from harness.report.transfer import place as place_of_arm
from harness.report.transfer import transfer_of
from tests.harness.report.boards import scored


def transferred(made: Any, folder: Path) -> Leaderboard:
    """Both arms of two training sets, each tested on both datasets."""
    roads, highways = made.split(images=60, clips=20, scenarios=("unnamed",)), made.rated(images=60, clips=20)
    records = []
    for trained, shares in {"roads": (0.9, 0.4), "highways": (0.3, 0.8)}.items():
        for arm, method in enumerate(("baseline", "samiro")):
            record = made.record(
                folder, roads, name=f"{trained}-{method}", method=method, identity_changes={"dataset": trained}
            )
            (first,) = record.evaluations
            record = record.model_copy(update={"evaluations": (first.model_copy(update={"scenarios": {}}),)})
            counts = {
                "on-roads": made.noisy(roads, 10 + arm, found=shares[0]),
                "on-highways": made.shaken(highways, 20 + arm, found=shares[1]),
            }
            made_so = scored(folder, record, counts, datasets={"on-roads": "roads", "on-highways": "highways"})
            evaluations = tuple(
                one.model_copy(update={"metric": "tusimple/official"}) if one.dataset == "highways" else one
                for one in made_so.evaluations
            )
            records.append(made_so.model_copy(update={"evaluations": evaluations}))
            write_record(folder, records[-1])
    return leaderboard(records, folder)


def test_transfer_stands_trained_on_by_tested_on(made: Any, tmp_path: Path) -> None:
    board = transferred(made, tmp_path)
    assert board.left_out == ()
    found = transfer_of(board.sections)
    assert found is not None
    assert [(s.key.dataset, s.headline.title) for s in found.tested] == [("highways", "accuracy"), ("roads", "F1@50")]
    assert [(arm.trained_on, arm.method) for arm in found.arms] == [
        ("highways", "baseline"), ("highways", "samiro"), ("roads", "baseline"), ("roads", "samiro"),
    ]  # fmt: skip
    for arm in found.arms:
        for column, name in enumerate(("on-highways", "on-roads")):
            total = next(one.total for one in arm.records[0].evaluations if one.name == name)
            expected = total.accuracy if column == 0 else total.f1_50
            headline = found.rows[arm, column].headline
            assert headline is not None
            assert math.isclose(headline.mean, expected)
    foggy = [
        replace(one, key=replace(one.key, corruption="fog-3", evaluation="fog")) for one in reversed(board.sections)
    ]
    with_fog = transfer_of([*foggy, *board.sections])
    assert with_fog is not None
    assert with_fog.tested == found.tested, "corrupted images are no part of it"
    # The page's filter is by the dataset that a section is scored on, which its choices are made from.
    marked = re.findall(r'data-dataset="(\w+)"', to_page(board))
    assert marked == [section.key.dataset for section in board.sections for _ in section.rows]
    assert {"highways", "roads"} == set(marked)
    page = to_markdown(board)
    assert "| Trained on   | Detector   | Method" in page
    lines = page.split("## Transfer")[1].split("\n## ")[0].splitlines()
    (line,) = (line for line in lines if line.startswith("| roads") and "Δ" not in line and "baseline" in line)
    assert [cell.strip() for cell in line.split("|")[4:6]] == [
        f"{100 * found.rows[found.arms[2], column].headline.mean:.2f}"
        for column in range(2)  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("change", [{"metric": "culane/clrnet"}, {"split": "val"}, {"dataset_sha256": "e" * 64}])
def test_what_was_tested_otherwise_stands_in_a_column_of_its_own(
    made: Any, tmp_path: Path, change: dict[str, str]
) -> None:
    board = transferred(made, tmp_path)
    sections = [
        replace(one, key=replace(one.key, **change)) if one.key.trained_on == one.key.dataset == "roads" else one
        for one in board.sections
    ]
    found = transfer_of(sections)
    assert found is not None
    assert [section.key.dataset for section in found.tested] == ["highways", "roads", "roads"]
    cells = {
        (arm.trained_on, arm.method): [column for column in range(3) if (arm, column) in found.rows]
        for arm in found.arms
    }
    assert len({tuple(columns) for columns in cells.values()}) == 2
    for row in transfer_table(found).rows:
        assert row.count("") == 1, "a row is blank where it wasn't tested"


def test_the_table_of_transfer_has_gains_in_the_unit_of_their_column(made: Any, tmp_path: Path) -> None:
    board = transferred(made, tmp_path)
    (found,) = (one for one in [transfer_of(board.sections)] if one is not None)
    table = transfer_table(found)
    assert [row[:3] for row in table.rows] == [
        (trained, "ufld", method)
        for trained in ("highways", "roads")
        for method in ("baseline", "samiro", "Δ samiro - baseline")
    ]
    for baseline, method, gain in (table.rows[:3], table.rows[3:]):
        assert (baseline[5], method[5], gain[5]) == ("1", "1", "1")
        for column in (3, 4):
            expected = float(method[column]) - float(baseline[column])
            assert gain[column][0] in "+-"
            assert float(gain[column].split(" ")[0]) == pytest.approx(expected, abs=0.011)


def test_transfer_stands_by_training_set_before_detector_and_by_tested_set(made: Any, tmp_path: Path) -> None:
    board = transferred(made, tmp_path)
    found = transfer_of(board.sections[::-1])
    assert found is not None
    assert [section.key.dataset for section in found.tested] == ["highways", "roads"]
    arms = sorted([*(replace(arm, detector="resa") for arm in found.arms), *found.arms], key=place_of_arm)
    assert [(arm.trained_on, arm.detector, arm.method) for arm in arms] == [
        (trained, detector, method)
        for trained in ("highways", "roads")
        for detector in ("resa", "ufld")
        for method in ("baseline", "samiro")
    ]
