"""TuSimple: real label files, sampling at rows, hostile lines."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.predictions import pack_predictions, unpack_predictions
from harness.datasets.sizes import check_sizes
from harness.datasets.tusimple import (
    TuSimple,
    at_rows,
    clips_of,
    line_text,
    points_of,
    read_labels,
    sampled,
    write_labels,
    write_predictions,
)
from harness.lanes import Lane
from tests.harness.datasets.refusals import refusal

ROWS = list(range(160, 720, 10))


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """The real labels under the official names."""
    real = shared / "real/tusimple"
    for source, name in {
        "train_four": "label_data_0313",
        "train_three": "label_data_0601",
        "train_five": "label_data_0531",
        "test_label": "test_label",
    }.items():
        shutil.copy(real / f"{source}.json", tmp_path / f"{name}.json")
    return tmp_path


def test_the_real_labels_are_read_whole(root: Path) -> None:
    dataset = TuSimple(root, image_size=(720, 1280))
    assert {split: len(dataset.frames(split)) for split in dataset.splits()} == {
        "train": 2982 + 404,
        "val": 239,
        "test": 2782,
    }
    test = dataset.labels("test")
    # metrics.md: lanes a frame 2:5 3:1740 4:468 5:569; three lanes have one point
    counts = [len(test.lanes(row)) for row in range(len(test))]
    assert {lanes: counts.count(lanes) for lanes in set(counts)} == {2: 5, 3: 1740, 4: 468, 5: 569}
    assert (np.diff(test.lane_starts) == 1).sum() == 3
    frame = dataset.frames("test")[0]
    entry = json.loads((root / "test_label.json").read_text().splitlines()[0])
    assert frame.id == entry["raw_file"]
    assert frame.image == root.resolve() / frame.id
    want = [[(x, y) for x, y in zip(lane, entry["h_samples"], strict=True) if x >= 0][::-1] for lane in entry["lanes"]]
    assert [[tuple(point) for point in lane.points.tolist()] for lane in dataset.lanes(frame)] == want


def test_the_real_test_set_is_98_clips(root: Path) -> None:
    """The figure of the benchmark's statistics: days' folders overlap in time, so clips run across them."""
    frames = TuSimple(root, image_size=(720, 1280)).frames("test")
    assert len({frame.clip for frame in frames}) == 98
    times: dict[str, list[int]] = {}
    for frame in frames:
        times.setdefault(frame.clip, []).append(int(frame.id.split("/")[2].split("_")[0]))
    spans = sorted((min(found), max(found)) for found in times.values())
    assert min(later[0] - earlier[1] for earlier, later in pairwise(spans)) > 30 * 10**9
    assert max(b - a for found in times.values() for a, b in pairwise(sorted(found))) <= 30 * 10**9


def test_folders_without_a_time_are_clips_by_themselves() -> None:
    stamp = 1492626760788443246
    images = [
        "clips/0313-1/24360/20.jpg",
        f"clips/0531/{stamp + 31 * 10**9}/20.jpg",
        f"clips/0530/{stamp}_0/20.jpg",
        f"clips/0601/{stamp + 30 * 10**9}/20.jpg",
        f"clips/0601/{stamp + 62 * 10**9}/20.jpg",
    ]
    drive = str(stamp)
    assert list(clips_of(images).values()) == ["clips/0313-1/24360", drive, drive, drive, str(stamp + 62 * 10**9)]


def test_archived_predictions_are_written_again_as_they_were(root: Path, tmp_path: Path) -> None:
    dataset = TuSimple(root, image_size=(720, 1280))
    frames = dataset.frames("test")[:40]
    rng = np.random.default_rng(3)
    lanes = [
        [Lane(lane.points + rng.normal(0, 9, 2).astype(np.float32)) for lane in dataset.lanes(frame)]
        for frame in frames
    ]
    archived = dataset.archived(frames, lanes)
    pack_predictions(tmp_path / "a.npz", [frame.id for frame in frames], archived)
    ids, unpacked = unpack_predictions(tmp_path / "a.npz")
    assert ids == [frame.id for frame in frames]
    texts = []
    for number, found in enumerate((lanes, archived, unpacked)):
        dataset.write_predictions(tmp_path / str(number), frames, found)
        texts.append((tmp_path / str(number) / "predictions.json").read_bytes())
    assert texts[0] == texts[1] == texts[2]


def test_scenarios_of_rendered_data_come_from_a_file_beside_it(tmp_path: Path) -> None:
    write_labels(tmp_path / "test_label.json", [("clips/a/20.jpg", [], ROWS), ("/clips/b/20.jpg", [], ROWS)])
    assert [frame.scenario for frame in TuSimple(tmp_path).frames("test")] == [None, None]
    beside = tmp_path / "scenarios.json"
    beside.write_text('{"clips/a/20.jpg": "night", "clips/b/20.jpg": "curve"}')
    assert [frame.scenario for frame in TuSimple(tmp_path).frames("test")] == ["night", "curve"]
    for text, what in (
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ('{"clips/a/20.jpg": 3}', "the scenario is 3"),
        ('{"clips/a/20.jpg": "night"}', "no scenario for clips/b/20.jpg"),
    ):
        beside.write_text(text)
        message = refusal(TuSimple(tmp_path).frames, "test")
        assert message.startswith(str(beside))
        assert what in message


def test_rendered_data_is_identified_by_its_statement(tmp_path: Path) -> None:
    write_labels(tmp_path / "test_label.json", [("clips/a/20.jpg", [], ROWS)])
    (tmp_path / "rendering.json").write_text('{"dataset_key": "abc"}')
    assert TuSimple(tmp_path).content_key() == "abc"
    (tmp_path / "rendering.json").write_text("{}")
    assert 'no "dataset_key"' in refusal(TuSimple(tmp_path).content_key)


def test_real_labels_survive_writing(root: Path, tmp_path: Path) -> None:
    labelled = read_labels(root / "test_label.json")[:300]
    path = tmp_path / "written.json"
    write_labels(
        path,
        [(one.raw_file, [Lane(p[::-1]) for p in points_of(one)], one.rows.astype(int).tolist()) for one in labelled],
    )
    for want, got in zip(labelled, read_labels(path), strict=True):
        assert got.raw_file == want.raw_file
        assert np.array_equal(got.rows, want.rows)
        assert np.array_equal(got.xs, want.xs[(want.xs >= 0).any(axis=1)])


def test_predictions_are_official_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "pred.json"
    write_predictions(
        path, [("clips/a/20.jpg", [Lane([[100, 715], [200.2, 695]])], ROWS), ("clips/b/20.jpg", [], ROWS)]
    )
    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert first == {"raw_file": "clips/a/20.jpg", "lanes": [[-2] * 54 + [175.125, 125]], "run_time": 0}
    assert second == {"raw_file": "clips/b/20.jpg", "lanes": [], "run_time": 0}


def test_predictions_survive_a_raw_file_with_a_leading_slash(tmp_path: Path) -> None:
    lane = Lane([[100, 710], [200, 700]])
    write_labels(tmp_path / "test_label.json", [("/clips/a/20.jpg", [lane], ROWS), ("clips/b/20.jpg", [], ROWS)])
    dataset = TuSimple(tmp_path)
    frames = dataset.frames("test")
    dataset.write_predictions(tmp_path, frames, [[lane], []])
    (found,), nothing = dataset.read_predictions(tmp_path, frames)
    assert found.points.tolist() == lane.points.tolist()
    assert nothing == []


@pytest.mark.parametrize("prefix", ["train_set", ""])
def test_both_layouts_of_the_archives_are_known(tmp_path: Path, prefix: str) -> None:
    folder = tmp_path / prefix
    (folder / "clips").mkdir(parents=True)
    write_labels(folder / "label_data_0531.json", [("clips/a/20.jpg", [Lane([[1, 700], [2, 690]])], ROWS)])
    dataset = TuSimple(tmp_path)
    (frame,) = dataset.frames("val")
    assert dataset.splits() == ("val",)
    assert frame.image == tmp_path.resolve() / prefix / "clips/a/20.jpg"
    assert dataset.labelled(frame).raw_file == "clips/a/20.jpg"


def test_frames_of_one_name_in_both_archives_are_told_apart_by_their_image(tmp_path: Path) -> None:
    lanes = [Lane([[100, 700], [110, 690]]), Lane([[300, 700], [310, 690]])]
    for folder, files, lane in (("train_set", ("0313", "0601", "0531"), lanes[0]), ("test_set", (), lanes[1])):
        (tmp_path / folder / "clips").mkdir(parents=True)
        for number, file in enumerate(files):
            write_labels(tmp_path / folder / f"label_data_{file}.json", [(f"clips/{number}/20.jpg", [lane], ROWS)])
    write_labels(tmp_path / "test_set/test_label.json", [("clips/0/20.jpg", [lanes[1]], ROWS)])
    dataset = TuSimple(tmp_path)
    train, test = dataset.frames("train")[0], dataset.frames("test")[0]
    assert train.id == test.id
    assert train.image == tmp_path.resolve() / "train_set/clips/0/20.jpg"
    assert test.image == tmp_path.resolve() / "test_set/clips/0/20.jpg"
    for frame, lane in ((train, lanes[0]), (test, lanes[1])):
        assert [found.points.tolist() for found in dataset.lanes(frame)] == [lane.points.tolist()]


def test_an_image_in_both_label_files_of_a_split_is_refused(tmp_path: Path) -> None:
    for file in ("0313", "0601"):
        write_labels(tmp_path / f"label_data_{file}.json", [("clips/a/20.jpg", [], ROWS)])
    message = refusal(TuSimple(tmp_path).frames, "train")
    assert "label_data_0601.json: clips/a/20.jpg is also in" in message


@pytest.mark.parametrize(("height", "fits"), [(711, True), (710, False)])
def test_an_image_has_to_have_the_lowest_row_of_its_label(tmp_path: Path, height: int, fits: bool) -> None:
    (tmp_path / "clips/a").mkdir(parents=True)
    write_labels(tmp_path / "test_label.json", [("clips/a/20.jpg", [], ROWS), ("clips/b/20.jpg", [], ROWS)])
    cv2.imwrite(str(tmp_path / "clips/a/20.jpg"), np.zeros((height, 8, 3), np.uint8))
    dataset = TuSimple(tmp_path)
    if fits:
        check_sizes(dataset, dataset.frames("test"))
    else:
        assert "8 x 710 pixels, but its label goes down to row 710" in refusal(
            check_sizes, dataset, dataset.frames("test")
        )


def test_a_point_on_the_left_edge_is_one_of_labels_and_of_predictions(tmp_path: Path) -> None:
    entry = {"raw_file": "clips/a/20.jpg", "lanes": [[-2, 5, 0]], "h_samples": [690, 700, 710]}
    (tmp_path / "test_label.json").write_text(json.dumps(entry) + "\n")
    (tmp_path / "predictions.json").write_text(json.dumps(entry | {"run_time": 0}) + "\n")
    dataset = TuSimple(tmp_path)
    frames = dataset.frames("test")
    expected = [[0, 710], [5, 700]]
    assert dataset.lanes(frames[0])[0].points.tolist() == expected
    assert dataset.read_predictions(tmp_path, frames)[0][0].points.tolist() == expected


def test_the_files_of_a_score_are_the_labels_and_the_scenarios_where_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "test_set").mkdir()
    write_labels(tmp_path / "test_set/test_label.json", [("clips/a/20.jpg", [], ROWS)])
    assert TuSimple(tmp_path).scored_files("test") == ["test_set/test_label.json"]
    (tmp_path / "scenarios.json").write_text('{"clips/a/20.jpg": "night"}')
    assert TuSimple(tmp_path).scored_files("test") == ["test_set/test_label.json", "scenarios.json"]


def test_a_lane_is_interpolated_linearly_and_not_extrapolated() -> None:
    lane = Lane([[100, 700], [200, 600], [200, 500]])
    got = at_rows(lane, [705, 700, 690, 600, 550, 500, 499])
    np.testing.assert_array_equal(got, [np.nan, 100, 110, 200, 200, 200, np.nan])


def test_the_crossing_nearest_to_the_near_end_counts() -> None:
    hook = Lane([[0, 700], [100, 600], [200, 650]])
    np.testing.assert_array_equal(at_rows(hook, [650, 600, 625]), [50, 100, 75])


def test_lanes_of_one_or_no_point_are_sampled_too() -> None:
    np.testing.assert_array_equal(at_rows(Lane([[5, 700]]), [710, 700]), [np.nan, 5])
    assert np.isnan(at_rows(Lane([]), [710, 700])).all()
    np.testing.assert_array_equal(at_rows(Lane([[5, 700], [9, 700]]), [700]), [5])


def test_points_left_of_the_image_are_written_as_absent() -> None:
    entry = json.loads(line_text("a", [Lane([[-10, 710], [10, 690]])], [690, 700, 705, 710]))
    assert entry["lanes"] == [[10, 0, -2, -2]]


coordinates = st.floats(-2000, 2000, width=32)


@given(points=st.lists(st.tuples(coordinates, st.floats(100, 800, width=32)), max_size=8))
def test_sampling_twice_is_sampling_once(points) -> None:
    (once,) = sampled([Lane(np.array(points, np.float32).reshape(-1, 2), 0.5)], ROWS)
    (twice,) = sampled([once], ROWS)
    # A lane that turns back leaves no gap that the second sampling could bridge: between two rows it reached, it reached all.
    assert twice.points.tolist() == once.points.tolist()
    assert twice.score == 0.5
    assert (np.diff(once.points[:, 1]) == -10).all()


@given(points=st.lists(st.tuples(coordinates, st.floats(100, 800, width=32)), min_size=1, max_size=6))
def test_sampling_agrees_with_a_slow_loop(points) -> None:
    lane = Lane(np.array(points, np.float32))
    for row, got in zip(ROWS, at_rows(lane, ROWS), strict=True):
        want = None
        pairs = list(zip(lane.points, lane.points[1:], strict=False)) or [(lane.points[0], lane.points[0])]
        for (x0, y0), (x1, y1) in pairs:
            if min(y0, y1) <= row <= max(y0, y1):
                share = 0.0 if y0 == y1 else (row - float(y0)) / (float(y1) - float(y0))
                want = float(x0) + share * (float(x1) - float(x0))
                break
        assert np.isnan(got) if want is None else abs(got - want) <= 1 / 16 + 1e-6


GOOD = {"raw_file": "clips/a/20.jpg", "lanes": [[-2, 5]], "h_samples": [700, 710]}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "Expecting"),
        ("[]", "not a JSON object"),
        ("", "a blank line; delete it"),
        ("\r", "a blank line; delete it"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps({**GOOD, "lanes": [[-2, 5, 6]]}), "lane 1 has 3 values for 2 h_samples"),
        (json.dumps({**GOOD, "lanes": [[-2, "5"]]}), "lane 1 isn't a list of numbers"),
        (json.dumps({**GOOD, "lanes": [5]}), "lane 1 isn't a list of numbers"),
        (json.dumps({**GOOD, "lanes": [[-2, None]]}), "a value of lane 1 is null; -2 means no point"),
        (json.dumps({**GOOD, "lanes": [[-2, True]]}), "lane 1 isn't a list of numbers"),
        (json.dumps({**GOOD, "lanes": [[-2, float("nan")]]}), "further out"),
        (json.dumps({**GOOD, "lanes": [[-2, 1e30]]}), "further out"),
        (json.dumps({**GOOD, "lanes": [[-2, 10**400]]}), "too large"),
        (json.dumps({**GOOD, "lanes": 5}), "'lanes' isn't a list"),
        (json.dumps({**GOOD, "raw_file": "../../etc/passwd"}), "isn't a path inside"),
        (json.dumps({**GOOD, "raw_file": 5}), "isn't a path inside"),
        (json.dumps({**GOOD, "raw_file": ""}), "raw_file is empty"),
        (json.dumps({"raw_file": "a", "lanes": []}), "no 'h_samples'"),
        (json.dumps({"raw_file": "a", "h_samples": []}), "no 'lanes'"),
        (json.dumps(GOOD), "already on line 1"),
        ("\ufeff" + json.dumps(GOOD), "Unexpected UTF-8 BOM"),
        ('{"lanes": [], ' + json.dumps(GOOD)[1:], "key 'lanes' is there more than once"),
    ],
)
def test_damaged_lines_are_refused_with_file_and_line(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "test_label.json"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    message = refusal(read_labels, path)
    assert message.startswith(f"{path}:2: ")
    assert what in message


@pytest.mark.parametrize("line", ['{"lanes": []}', "5", '"raw_file"', '["raw_file"]'])
def test_a_prediction_of_no_image_is_refused_with_file_and_line(tmp_path: Path, line: str) -> None:
    write_labels(tmp_path / "test_label.json", [("clips/a/20.jpg", [], ROWS)])
    path = tmp_path / "predictions.json"
    path.write_text(line + "\n")
    dataset = TuSimple(tmp_path)
    message = refusal(dataset.read_predictions, tmp_path, dataset.frames("test"))
    assert message.startswith(f"{path}:1: raw_file '' is none of the images")
    path.write_text(line_text("/clips/a/20.jpg", [], ROWS, run_time=0))
    assert dataset.read_predictions(tmp_path, dataset.frames("test")) == [[]]
    write_labels(tmp_path / "test_label.json", [(f"clips/{name}/20.jpg", [], ROWS) for name in "ab"])
    two = TuSimple(tmp_path)
    message = refusal(two.read_predictions, tmp_path, two.frames("test"))
    assert message == f"{path}: 1 of 2 images have no line, the first is clips/b/20.jpg"


def test_a_file_cut_off_is_refused_at_its_last_line(root: Path) -> None:
    path = root / "test_label.json"
    path.write_bytes(path.read_bytes()[:-40])
    assert f"{path}:2782: " in refusal(TuSimple(root).frames, "test")


def test_missing_files_and_unknown_names_are_refused(tmp_path: Path) -> None:
    assert "isn't TuSimple" in refusal(TuSimple, tmp_path)
    write_labels(tmp_path / "test_label.json", [("clips/a/20.jpg", [], ROWS)])
    (tmp_path / "label_data_0313.json").write_text("")
    dataset = TuSimple(tmp_path)
    assert dataset.splits() == ("test",)
    assert "label_data_0313.json and label_data_0601.json" in refusal(dataset.frames, "train")
    assert "did you mean 'test'?" in refusal(dataset.frames, "tests")
    assert "20.jpg is missing" in refusal(lambda: dataset.image_size)


def test_the_content_key_follows_content_only(tmp_path: Path) -> None:
    lanes = [Lane([[100, 700], [110, 690]])]
    one, other = tmp_path / "one", tmp_path / "other/test_set"
    (other / "clips").mkdir(parents=True)
    for folder in (one, other):
        folder.mkdir(exist_ok=True)
        write_labels(folder / "test_label.json", [("clips/a/20.jpg", lanes, ROWS)])
    key = TuSimple(one).content_key()
    assert TuSimple(tmp_path / "other").content_key() == key
    for name, changed, rows in (
        ("clips/a/20.jpg", lanes, ROWS[:-1]),
        ("clips/b/20.jpg", lanes, ROWS),
        ("clips/a/20.jpg", [Lane([[100, 700], [111, 690]])], ROWS),
    ):
        write_labels(one / "test_label.json", [(name, changed, rows)])
        assert TuSimple(one).content_key() != key
