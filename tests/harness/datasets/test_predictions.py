"""Predictions on disk: the official layout and the archive."""

from __future__ import annotations

import errno
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.datasets.base import Frame
from harness.datasets.predictions import (
    in_official_format,
    pack_predictions,
    predictions_sha256,
    read_predictions,
    unpack_predictions,
    write_predictions,
)
from harness.errors import InputError
from harness.lanes import Lane, archived_points

scores = st.floats(0, 1, width=32)


def lanes_with(score: st.SearchStrategy[float | None]) -> st.SearchStrategy[list[Lane]]:
    points = hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(2)), elements=st.floats(-1e5, 1e5, width=32))
    return st.lists(st.builds(Lane, points, score), max_size=4)


predictions = st.lists(lanes_with(scores), max_size=5) | st.lists(lanes_with(st.none()), max_size=5)


def frames_of(count: int) -> list[Frame]:
    return [Frame(f"clip{n % 2}/{n:05d}.jpg", Path("/data") / f"{n}.jpg", None, f"clip{n % 2}") for n in range(count)]


def plain(lanes_of_frames: list[list[Lane]]) -> list[list[list[list[float]]]]:
    return [[lane.points.tolist() for lane in lanes] for lanes in lanes_of_frames]


def rounded(lanes_of_frames: list[list[Lane]]) -> list[list[Lane]]:
    return [[Lane(archived_points(lane.points), lane.score) for lane in lanes] for lanes in lanes_of_frames]


def scores_of(lanes_of_frames: list[list[Lane]]) -> list[float | None]:
    return [lane.score for lanes in lanes_of_frames for lane in lanes]


@given(found=predictions)
def test_an_archive_returns_what_it_was_given(
    found: list[list[Lane]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("archive") / "predictions.npz"
    ids = [frame.id for frame in frames_of(len(found))]
    pack_predictions(path, ids, found)
    got_ids, got = unpack_predictions(path)
    assert got_ids == ids
    assert plain(got) == plain(rounded(found))
    assert scores_of(got) == scores_of(found)
    assert predictions_sha256(got_ids, got) == predictions_sha256(ids, found)


@given(found=predictions)
def test_the_official_layout_holds_the_same_lanes(
    found: list[list[Lane]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("predictions")
    frames = frames_of(len(found))
    write_predictions(folder, frames, found)
    assert plain(read_predictions(folder, frames)) == plain(rounded(found))


def test_files_lie_where_the_official_evaluator_looks(tmp_path: Path) -> None:
    write_predictions(tmp_path, frames_of(3), [[Lane([[1.06, 590], [2, 580]])], [], [Lane([[3, 4]])]])
    files = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.txt")}
    assert files == {
        "clip0/00000.lines.txt": "1 590 2 580\n",
        "clip1/00001.lines.txt": "",
        "clip0/00002.lines.txt": "3 4\n",
    }


def test_predictions_and_frames_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(tmp_path, frames_of(2), [[]])
    with pytest.raises(ValueError, match="longer"):
        pack_predictions(tmp_path / "x.npz", ["a.jpg"], [[], []])
    assert not (tmp_path / "x.npz").exists()


def test_nan_and_odd_ids_are_never_archived(tmp_path: Path) -> None:
    broken = [[Lane([[np.nan, 1.0]])]]
    with pytest.raises(ValueError, match=r"prediction for clip0/00000\.jpg: lane 0 has NaN"):
        write_predictions(tmp_path, frames_of(1), broken)
    with pytest.raises(ValueError, match=r"prediction for c\.jpg: a lane has NaN"):
        pack_predictions(tmp_path / "x.npz", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], [[Lane([[1, 2]])], [], *broken, []])
    for ids in (["a.jpg", "a.jpg"], ["a\nb.jpg", "c.jpg"], ["", "c.jpg"]):
        with pytest.raises(ValueError, match="ids"):
            pack_predictions(tmp_path / "x.npz", ids, [[], []])


def test_a_missing_or_broken_prediction_is_named(tmp_path: Path) -> None:
    frames = frames_of(1)
    write_predictions(tmp_path, frames, [[]])
    path = tmp_path / "clip0/00000.lines.txt"
    path.write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"clip0/00000\.lines\.txt:1: 3 numbers"):
        read_predictions(tmp_path, frames)
    path.unlink()
    with pytest.raises(
        InputError, match=r"1 of 1 images have no predictions, the first would be .*clip0/00000\.lines\.txt"
    ):
        read_predictions(tmp_path, frames)


@given(found=predictions.filter(lambda found: any(len(lane) for lanes in found for lane in lanes)))
def test_the_hash_sees_every_eighth_of_a_pixel_and_no_less(found: list[list[Lane]]) -> None:
    ids = [frame.id for frame in frames_of(len(found))]
    before = predictions_sha256(ids, found)
    kept = rounded(found)
    nudged = [[Lane(lane.points + np.float32(0.05), lane.score) for lane in lanes] for lanes in kept]
    assert predictions_sha256(ids, kept) == before
    inside = all(np.abs(lane.points).max(initial=0) < 4000 for lanes in kept for lane in lanes)
    if inside:
        assert predictions_sha256(ids, nudged) == before
        moved = [[Lane(lane.points + np.float32(0.125), lane.score) for lane in lanes] for lanes in kept]
        assert predictions_sha256(ids, moved) != before


def test_lanes_moved_to_the_next_frame_change_the_hash() -> None:
    lane = Lane([[1, 2], [3, 4]])
    assert predictions_sha256(["a", "b"], [[lane], []]) != predictions_sha256(["a", "b"], [[], [lane]])
    halves = [Lane([[1, 2]]), Lane([[3, 4]])]
    assert predictions_sha256(["a"], [[lane]]) != predictions_sha256(["a"], [halves])


def test_scores_that_not_every_lane_has_are_left_out(tmp_path: Path) -> None:
    found = [[Lane([[1, 2], [3, 4]], 0.5), Lane([[5, 6]])]]
    pack_predictions(tmp_path / "x.npz", ["a.jpg"], found)
    _, got = unpack_predictions(tmp_path / "x.npz")
    assert plain(got) == plain(found)
    assert scores_of(got) == [None, None]


def test_equal_predictions_give_equal_archives(tmp_path: Path) -> None:
    found = [[Lane([[1, 2], [3, 4]], 0.5)], []]
    for name in ("one.npz", "two.npz"):
        pack_predictions(tmp_path / name, ["a.jpg", "b.jpg"], found)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    # `review` refuses one with more in it.
    assert np.load(tmp_path / "one.npz").files == ["ids", "lanes", "points", "coordinates", "scores"]


def test_an_archive_of_smooth_lanes_is_small(tmp_path: Path) -> None:
    y = np.arange(590.0, 290.0, -10.0)
    random = np.random.default_rng(0)
    found = [
        [
            Lane(np.stack([820 + (c - 820) * (y - 250) / 340 + 1e-3 * k * (590 - y) ** 2, y], 1))
            for c, k in random.uniform((0, -1), (1640, 1), (4, 2))
        ]
        for _ in range(100)
    ]
    path = tmp_path / "predictions.npz"
    pack_predictions(path, [frame.id for frame in frames_of(100)], found)
    assert path.stat().st_size < 100 * 4 * 30 * 4 / 3


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_archive_is_refused_or_whole(
    place: float, value: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("archive") / "predictions.npz"
    found = [[Lane([[1, 2], [3, 4]], 0.5)], [Lane([[5, 6]], 0.25)]]
    pack_predictions(path, ["a.jpg", "b.jpg"], found)
    data = path.read_bytes()
    at = int(place * len(data))
    path.write_bytes(data[:at] if cut else data[:at] + bytes([value]) + data[at + 1 :])
    try:
        ids, got = unpack_predictions(path)
    except InputError as error:
        message = str(error)
    else:
        assert (ids, plain(got)) == (["a.jpg", "b.jpg"], plain(found))
        return
    assert str(path) in message
    assert "\n" not in message


def rebuilt(path: Path, **changes: np.ndarray | bytes | None) -> None:
    """Write the archive again with some members replaced (None: left out)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, value in changes.items():
        if isinstance(value, np.ndarray):
            buffer = io.BytesIO()
            np.save(buffer, value, allow_pickle=True)
            value = buffer.getvalue()
        members[f"{name}.npy"] = value
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            if value is not None:
                archive.writestr(name, value)


@pytest.mark.parametrize(
    "changes",
    [
        {"lanes": np.array([1, 2], np.int32)},
        {"lanes": np.array([3, -1], np.int32)},
        {"lanes": np.array([1.0, 1.0])},
        {"points": np.array([3, -1], np.int32)},
        {"points": np.array([4, -1], np.int32)},
        {"points": np.array([2**31 - 1, 1], np.int32)},
        {"coordinates": np.zeros((3, 3), np.int16)},
        {"coordinates": np.zeros(6, np.int16)},
        {"coordinates": np.zeros((2, 3), np.int64)},
        {"coordinates": None},
        {"scores": np.zeros(3, np.float32)},
        {"scores": np.array([object(), object()])},
        {"ids": np.frombuffer(b"a.jpg", np.uint8)},
        {"ids": np.frombuffer(b"a.jpg\na.jpg", np.uint8)},
        {"ids": np.frombuffer(b"../a.jpg\nb.jpg", np.uint8)},
        {"ids": np.frombuffer(b"/a.jpg\nb.jpg", np.uint8)},
        {"ids": np.frombuffer(b"\xff\xfe\nb.jpg", np.uint8)},
        {"lanes": b"\x93NUMPY\x01\x00v\x00{'descr': '<i4', 'fortran_order': False, 'shape': (((((" + b" " * 60},
        {"lanes": b"\x93NUMPY\x09\x00"},
        {"lanes": b""},
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | bytes | None]
) -> None:
    path = tmp_path / "predictions.npz"
    pack_predictions(path, ["a.jpg", "b.jpg"], [[Lane([[1, 2], [3, 4]], 0.5)], [Lane([[5, 6]], 0.25)]])
    rebuilt(path, **changes)
    with pytest.raises(InputError, match="not a whole archive of predictions"):
        unpack_predictions(path)


def test_a_bomb_isnt_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.npz"
    pack_predictions(path, ["a.jpg"], [[]])
    monkeypatch.setattr("harness.files.arrays.ARCHIVE_LIMIT", 1 << 20)
    assert unpack_predictions(path) == (["a.jpg"], [[]])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", bytes(1 << 20))
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="would unpack to"):
        unpack_predictions(path)


def test_an_archive_that_unpacks_to_hundreds_of_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line feed a name: a megabyte of them would take ten gigabytes as names."""
    path = tmp_path / "predictions.npz"
    arrays = {"ids": np.full(17 << 20, ord("\n"), np.uint8), "lanes": np.zeros(1, np.int32)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    monkeypatch.setattr("harness.files.arrays._member", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(InputError, match="and the limit is 500 times its size"):
        unpack_predictions(path)


def test_the_same_lanes_in_all_images_with_a_point_in_every_row_are_read_again(tmp_path: Path) -> None:
    """What a network gives that has learnt nothing: an archive of it is small for what it holds."""
    ids = [f"{number}.jpg" for number in range(1000)]
    lanes = [Lane(np.stack([np.full(717, 50.0 * place), np.arange(717.0)], axis=1)) for place in range(6)]
    pack_predictions(tmp_path / "predictions.npz", ids, [lanes] * len(ids))
    names, found = unpack_predictions(tmp_path / "predictions.npz")
    assert names == ids
    np.testing.assert_array_equal(found[-1][5].points, lanes[5].points)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"predictions\.npz is missing"):
        unpack_predictions(tmp_path / "predictions.npz")


def test_where_there_is_no_room_for_what_is_laid_out_that_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who works on it writes to another disk, which has room."""

    class Full:
        def frames(self, split: str) -> list[Frame]:
            return frames_of(1)

        def write_predictions(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    frames = frames_of(1)
    pack_predictions(tmp_path / "x.npz", [frames[0].id], [[]])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    dataset: Any = Full()
    with pytest.raises(OSError, match="No space left") as full, in_official_format(tmp_path / "x.npz", dataset, "test"):
        pass
    assert Path(full.value.filename).parents[1] == tmp_path / "local"
    assert list((tmp_path / "local").iterdir()) == []


def test_full_memory_is_not_told_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.npz"
    pack_predictions(path, ["a.jpg"], [[Lane([[1, 2], [3, 4]])]])
    monkeypatch.setattr("harness.files.arrays.read_bounded", full)
    with pytest.raises(MemoryError):
        unpack_predictions(path)


def full(*_: object) -> bytes:
    raise MemoryError


def test_a_header_that_is_nested_too_deeply_is_damage(tmp_path: Path) -> None:
    """Python says of it that memory is full."""
    path = tmp_path / "predictions.npz"
    pack_predictions(path, ["a.jpg"], [[Lane([[1, 2], [3, 4]])]])
    header = b"-" * 9000 + b"1\n"
    rebuilt(path, ids=b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match="nested too deeply"):
        unpack_predictions(path)
