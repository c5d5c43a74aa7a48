"""The page of a publication: its frames, their pictures, and what is said where there are none."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.errors import InputError
from harness.publishing.frames import chosen, frames_of, write_pictures
from harness.publishing.labels import opened, unpack_labels
from harness.publishing.site import PAGE, page_of
from harness.publishing.verify import checked_page
from harness.records.counts import OverlapCounts
from harness.records.record import read_records
from harness.report.leaderboard import Leaderboard, leaderboard

MINI = Path(__file__).resolve().parents[3] / "results" / "mini"


def counted(found: list[int], *, labels: int = 4, finer: list[int] | None = None) -> OverlapCounts:
    count = len(found)
    matched = np.zeros((count, 10), np.int32)
    matched[:, 0] = found
    matched[:, 1] = finer or found
    lanes = np.full(count, labels, np.int32)
    names = np.array([f"{place}.jpg" for place in range(count)])
    return OverlapCounts(names, names, np.array(["night"] * count), lanes, lanes, matched)


def test_frames_are_ranked_by_their_own_score_then_by_higher_overlaps() -> None:
    assert chosen(counted([4, 2, 0, 3, 1])) == {"night": [("best", 0), ("median", 1), ("worst", 2)]}
    assert chosen(counted([4, 4, 4], finer=[1, 3, 2])) == {"night": [("best", 1), ("median", 2), ("worst", 0)]}


def test_frames_without_lanes_are_ranked_by_their_false_positives() -> None:
    predictions = np.array([3, 1, 4, 0, 2], np.int32)
    crossroads = replace(counted([0] * 5, labels=0), predictions=predictions)
    assert chosen(crossroads) == {"night": [("best", 3), ("median", 4), ("worst", 2)]}


def test_no_frame_is_shown_twice_and_equal_ones_are_the_first() -> None:
    assert chosen(counted([4])) == {"night": [("best", 0)]}
    assert chosen(counted([0, 4])) == {"night": [("best", 1), ("median", 0)]}
    assert chosen(counted([4, 4, 4, 4]))["night"][0] == ("best", 0)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(MINI, tmp_path_factory.mktemp("published") / "mini"))


@pytest.fixture(scope="module")
def board(published: Path) -> Leaderboard:
    return leaderboard(read_records(published / "records"), published / "records")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found
    made: dict[str, Any] = json.loads(found[1])
    return made


def test_the_page_shows_three_frames_a_scenario_with_lanes_labels_and_pictures(
    published: Path, board: Leaderboard
) -> None:
    data = data_of(page_of(published, board))
    for row in data["rows"].values():
        assert [len(scenario["shown"]) for scenario in row["overlays"]["scenarios"]] == [3] * 9
        for shown in (shown for scenario in row["overlays"]["scenarios"] for shown in scenario["shown"]):
            frame = data["frames"][shown["frame"]]
            assert frame["labels"] is not None
            assert frame["picture"] == f"frames/{shown['frame']}.webp"
            assert (published / "site" / frame["picture"]).is_file()
    assert sum(path.stat().st_size for path in (published / "site").rglob("*") if path.is_file()) < 3_000_000


def test_frames_whose_labels_may_not_be_shown_have_neither_labels_nor_pictures(published: Path, tmp_path: Path) -> None:
    for name in ("records", "predictions"):
        shutil.copytree(published / name, tmp_path / name)
    data = data_of(page_of(tmp_path, leaderboard(read_records(tmp_path / "records"), tmp_path / "records")))
    assert {(frame["labels"], frame["picture"]) for frame in data["frames"].values()} == {(None, None)}
    assert {tuple(frame["size"]) for frame in data["frames"].values()} == {(1640, 590)}
    assert all("blank canvas" in row["overlays"]["told"] for row in data["rows"].values())


def test_pictures_are_kept_without_their_images_bounded_and_those_of_other_frames_go(
    published: Path, board: Leaderboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = frames_of(published, board)
    folder = Path(shutil.copytree(published / "site" / "frames", tmp_path / "frames"))
    (folder / "0123456789ab.webp").write_bytes(b"of another frame")
    before = {path.name for path in folder.iterdir()} - {"0123456789ab.webp"}
    write_pictures(folder, found, {})
    assert {path.name for path in folder.iterdir()} == before
    monkeypatch.setattr("harness.publishing.frames.PICTURES_LIMIT", 50_000)
    write_pictures(folder, found, {})
    assert 40_000 < sum(path.stat().st_size for path in folder.iterdir()) <= 50_000


def test_a_picture_is_made_of_the_frame_where_its_dataset_is_at_hand(
    published: Path, board: Leaderboard, tmp_path: Path
) -> None:
    found = frames_of(published, board)
    (archive,) = (published / "labels").iterdir()
    facts = unpack_labels(archive).facts
    from harness.publishing.labels import laid_out

    dataset = laid_out(unpack_labels(archive), tmp_path / "dataset")
    name, (content, image) = next(iter(found.wanted.items()))
    frame = next(frame for frame in dataset.frames(facts.split) if frame.id == image)
    cv2.imwrite(str(frame.image), np.full((590, 1640, 3), (10, 120, 240), np.uint8))
    found.wanted.clear()
    found.wanted[name] = content, image
    write_pictures(tmp_path / "frames", found, {content: opened(facts, tmp_path / "dataset")})
    made = cv2.imread(str(tmp_path / "frames" / f"{name}.webp"))
    assert made.shape == (144, 400, 3)
    assert np.abs(made.astype(int) - (10, 120, 240)).max() < 12


def test_a_page_that_cannot_be_made_again_differs_by_the_reason(
    published: Path, board: Leaderboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, board: Leaderboard) -> str:
        raise InputError(f"{folder}/training/cell.jsonl: not the log of a training")

    monkeypatch.setattr("harness.publishing.verify.page_of", broken)
    (page,) = checked_page(published, board, ())
    assert (page.name, page.outcome, page.told) == (
        PAGE, "differs", ("training/cell.jsonl: not the log of a training",),
    )  # fmt: skip
