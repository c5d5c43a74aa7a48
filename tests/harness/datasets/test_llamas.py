"""LLAMAS: rows from markers as the official scripts give them, layout, hostile labels."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.datasets import llamas
from harness.datasets.lines import parse_lines
from harness.datasets.llamas import LANES, LLAMAS, clips_of, lane_rows, points_of, prediction_name, write_predictions
from harness.datasets.sizes import check_sizes
from harness.errors import InputError
from harness.lanes import Lane
from harness.metrics import llamas_labels as metric
from harness.metrics.llamas_labels import read_label
from tests.harness.datasets.refusals import refusal

CLIP = "images-2014-12-22-12-35-10_mapping_280S_ramps"


def test_size_lanes_and_the_first_scored_row_are_the_metrics() -> None:
    ours = (llamas.HEIGHT, llamas.WIDTH, LANES, llamas.FIRST_SCORED_ROW)
    assert ours == (metric.HEIGHT, metric.WIDTH, metric.SCORED_LANES, metric.FIRST_ROW)


def marker(start: tuple[int, int], end: tuple[int, int], z: float) -> dict[str, Any]:
    return {
        "lane_marker_id": "m",
        "pixel_start": {"x": str(start[0]), "y": str(start[1])},
        "pixel_end": {"x": str(end[0]), "y": str(end[1])},
        "world_start": {"x": "0", "y": "1.5", "z": str(z)},
        "world_end": {"x": "0", "y": "1.5", "z": str(z + 3)},
    }


def label(**lanes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "image_name": "1",
        "projection_matrix": np.eye(3).tolist(),
        "lanes": [{"lane_id": name, "markers": found} for name, found in lanes.items()],
    }


STRAIGHT = [marker((400, 600), (450, 550), 4), marker((500, 500), (520, 480), 8)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "valid"):
        folder = tmp_path / "labels" / split / CLIP
        folder.mkdir(parents=True)
        for name in ("20", "10"):
            (folder / f"{name}.json").write_text(json.dumps(label(l0=STRAIGHT)))
    images = tmp_path / "color_images/test" / CLIP
    images.mkdir(parents=True)
    (images / "5_color_rect.png").write_bytes(b"")
    return tmp_path


def test_rows_are_the_official_ones(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "conformance/llamas/trees.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    official = json.loads(gzip.decompress((shared / "conformance/llamas/gt_rows.json.gz").read_bytes()))
    dataset = LLAMAS(tmp_path, image_size=(717, 1276))
    frames = dataset.frames("val")
    assert len(frames) == len(official) == 300
    for frame in frames:
        path = tmp_path / dataset.label_name(frame)
        rows = lane_rows(path.read_bytes(), source=str(path))
        # The official evaluator looks at rows from 300 on only.
        got = [[[x, y] for y, x in enumerate(rows[name]) if y >= 300 and x >= 0] for name in rows]
        want = official[f"{path.parent.name}/{path.name}"]
        assert got == want
        seen = [[[x, y] for x, y in lane.points[::-1].tolist() if y >= 300] for lane in dataset.lanes(frame)]
        assert seen == [np.float32(lane).tolist() for lane in want]
    predictions = tmp_path / "pred_a"
    names = {str(path.relative_to(predictions)) for path in predictions.rglob("*.lines.txt")}
    assert {prediction_name(dataset.label_name(frame)) for frame in frames} == names


def test_a_straight_lane_in_closed_form() -> None:
    rows = lane_rows(json.dumps(label(l3=STRAIGHT)).encode(), source="x")
    assert list(rows) == ["l0"]  # renamed from l3: the only lane on the left
    x = rows["l0"]
    # The nearest marker goes on along x = 1000 - y down to the last row.
    assert x[716] == 284
    assert [x[y] for y in (600, 575, 550, 500, 490, 480)] == [400, 425, 450, 500, 510, 520]
    # Filled from the top: v[501] = v[500] + (v[550] - v[500]) / (550 - 501 + 1)
    assert x[501] == 499
    assert np.isnan(x[:480]).all()


@pytest.mark.parametrize(
    ("start", "end", "border"),
    [
        ((100, 600), (200, 550), (0, 650)),
        ((1176, 600), (1076, 550), (1276, 650)),
        # Two pixels more or less would be the last row.
        ((74, 640), (124, 590), (0, 714)),
        ((1202, 640), (1152, 590), (1276, 714)),
    ],
)
def test_a_lane_that_leaves_at_the_side_is_extended_to_the_side(start, end, border) -> None:
    lane = [marker(start, end, 4), marker(end, (end[0], 500), 8)]
    (rows,) = lane_rows(json.dumps(label(r0=lane)).encode(), source="x").values()
    assert rows[border[1]] == border[0]
    assert np.isnan(rows[border[1] + 1 :]).all()


def test_the_nearest_marker_is_extended_wherever_the_file_has_it() -> None:
    farther = marker((500, 500), (505, 480), 8)
    (rows,) = lane_rows(json.dumps(label(l0=[farther, STRAIGHT[0]])).encode(), source="x").values()
    assert rows[716] == 284


def test_images_of_another_size_are_refused(root: Path) -> None:
    dataset = LLAMAS(root)
    frames = dataset.frames("val")
    frames[1].image.parent.mkdir(parents=True)
    for size, fits in (((717, 1276), True), ((717, 1280), False), ((720, 1276), False)):
        cv2.imwrite(str(frames[1].image), np.zeros((*size, 3), np.uint8))
        if fits:
            check_sizes(dataset, frames)
        else:
            assert f"20_color_rect.png: {size[1]} x {size[0]} pixels" in refusal(check_sizes, dataset, frames)


def test_short_lanes_and_single_markers_are_dropped_and_sides_renumbered() -> None:
    short = [marker((700, 500), (710, 490), 4), marker((720, 481), (730, 470), 8)]  # starts are 19 rows apart
    lone = [marker((700, 600), (710, 500), 4)]
    content = label(l0=short, l1=lone, l2=STRAIGHT, r5=STRAIGHT, r3=STRAIGHT, r1=short)
    rows = lane_rows(json.dumps(content).encode(), source="x")
    assert sorted(rows) == ["l0", "r0", "r1"]
    assert [len(points) for points in points_of(rows)] == [716 - 480 + 1] * 3


def test_points_run_from_near_to_far_and_leave_out_negative_x() -> None:
    x = np.full(717, np.nan)
    x[[700, 650, 600]] = [-3.0, 5.0, 8.5]
    single = np.full(717, np.nan)
    single[700] = 4.0
    (points,) = points_of({"l0": single, "r0": x})
    assert points.tolist() == [[5.0, 650.0], [8.5, 600.0]]


def test_splits_frames_and_lanes(root: Path) -> None:
    dataset = LLAMAS(root)
    assert dataset.splits() == ("train", "val", "test")
    frames = dataset.frames("val")
    assert [frame.id for frame in frames] == [
        f"color_images/valid/{CLIP}/{name}_color_rect.png" for name in ("10", "20")
    ]
    assert frames[0].clip == f"{CLIP}/0"
    assert [dataset.has_labels(split) for split in dataset.splits()] == [True, True, False]
    assert dataset.label_name(frames[0]) == f"labels/valid/{CLIP}/10.json"
    (lane,) = dataset.lanes(frames[0])
    assert lane.points[0].tolist() == [284, 716]
    assert [frame.id for frame in dataset.frames("test")] == [f"color_images/test/{CLIP}/5_color_rect.png"]
    assert "private" in refusal(dataset.labels, "test")
    assert "has no label" in refusal(dataset.lanes, dataset.frames("test")[0])
    assert "did you mean 'val'?" in refusal(dataset.frames, "valid")


def test_what_macos_leaves_beside_every_file_is_no_frame(root: Path) -> None:
    plain = {split: LLAMAS(root).frames(split) for split in LLAMAS(root).splits()}
    for path in [path for path in root.rglob("*") if path.is_file() or path.parent.name in ("train", "valid", "test")]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\x05\x16\x07")
    for split in plain:
        assert LLAMAS(root).frames(split) == plain[split], split
    assert len(list(root.rglob("._*.json"))) == 4


def test_a_clip_is_a_hundred_consecutive_frames_of_a_recording() -> None:
    images = [
        f"color_images/valid/{name}/{frame:05d}.png" for name, size in (("a", 250), ("b", 3)) for frame in range(size)
    ]
    clips = clips_of(images)
    assert [(clip, clips.count(clip)) for clip in dict.fromkeys(clips)] == [
        ("a/0", 100), ("a/1", 100), ("a/2", 50), ("b/0", 3),
    ]  # fmt: skip


def test_rendered_data_may_have_labels_of_test_and_scenarios(root: Path) -> None:
    folder = root / "labels/test" / CLIP
    folder.mkdir(parents=True)
    (folder / "5.json").write_text(json.dumps(label(l0=STRAIGHT)))
    (root / "scenarios.json").write_text(json.dumps({f"color_images/test/{CLIP}/5_color_rect.png": "night"}))
    (root / "rendering.json").write_text(json.dumps({"dataset_key": "k" * 64}))
    dataset = LLAMAS(root)
    (frame,) = dataset.frames("test")
    assert dataset.has_labels("test")
    assert (frame.scenario, len(dataset.lanes(frame))) == ("night", 1)
    assert dataset.content_key() == "k" * 64
    assert {frame.scenario for frame in dataset.frames("val")} == {None}


def test_predictions_and_submissions_lie_where_the_evaluator_looks(root: Path, tmp_path: Path) -> None:
    dataset = LLAMAS(root)
    lanes = [Lane([[284.06, 716], [300, 700]])]
    for split in ("val", "test"):
        write_predictions(tmp_path / "out", dataset.frames(split), [lanes] * len(dataset.frames(split)))
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt"))
    assert files == [f"{CLIP}/{name}.lines.txt" for name in ("10", "20", "5")]
    data = (tmp_path / "out" / files[0]).read_bytes()
    assert parse_lines(data, source="x")[0].tolist() == [[284.0, 716.0], [300.0, 700.0]]


def test_the_files_of_a_score_are_the_labels_and_the_scenarios_where_there_are_any(root: Path) -> None:
    labels = [f"labels/valid/{CLIP}/{name}.json" for name in ("10", "20")]
    assert LLAMAS(root).scored_files("val") == labels
    assert "private" in refusal(LLAMAS(root).scored_files, "test")
    (root / "scenarios.json").write_text("{}")
    assert LLAMAS(root).scored_files("train")[0] == "scenarios.json"


def test_an_edited_label_changes_the_content_key(root: Path) -> None:
    key = LLAMAS(root).content_key()
    assert LLAMAS(root, rehash=True).content_key() == key
    (root / "labels/train" / CLIP / "10.json").write_text(json.dumps(label(r0=STRAIGHT, l0=STRAIGHT)))
    assert LLAMAS(root).content_key() != key


def test_folders_that_arent_llamas_are_refused(tmp_path: Path) -> None:
    assert "isn't LLAMAS" in refusal(LLAMAS, tmp_path)
    (tmp_path / "labels/train/empty").mkdir(parents=True)
    assert "no <clip>/*.json" in refusal(LLAMAS(tmp_path).frames, "train")
    assert "no split val" in refusal(LLAMAS(tmp_path).frames, "val")


def broken(**change: Any) -> dict[str, Any]:
    return label(l0=[{**STRAIGHT[0], **change}, STRAIGHT[1]])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
        ([], "the label has no 'lanes'"),
        ({"lanes": {}}, "the label has no 'lanes' that is a list"),
        ({"lanes": [{"lane_id": "l0"}]}, "lane 1 has no 'markers'"),
        ({"lanes": [{"markers": []}]}, "lane 1 has no 'lane_id'"),
        (label(l0=[]), "lane 1 has no markers"),
        (label(x0=STRAIGHT), "'x0' begins neither with l nor with r"),
        (broken(pixel_start={"x": "99.5", "y": "600"}), "lane 1, marker 1, pixel_start: x is '99.5'"),
        (broken(pixel_end={"x": "99"}), "lane 1, marker 1, pixel_end: y is 'None'"),
        (broken(pixel_end=None), "lane 1, marker 1 has no 'pixel_end'"),
        (broken(pixel_start={"x": "400", "y": "9" * 5000}), "lane 1, marker 1, pixel_start: y is"),
        (broken(world_start={"z": "near"}), "lane 1, marker 1, world_start: z is 'near'"),
        (broken(world_start={"z": "nan"}), "z is 'nan', not a number"),
        (broken(pixel_start={"x": "400", "y": "717"}), "from row 717"),
        (broken(pixel_end={"x": "450", "y": "-7"}), "to row -7"),
        (
            label(l0=[marker((400, 600), (400, 550), 4), marker((400, 500), (400, 480), 8)]),
            "lane l0 has no slanted marker",
        ),
    ],
)
def test_damaged_labels_are_refused_with_lane_and_marker(root: Path, content: Any, what: str) -> None:
    path = root / "labels/train" / CLIP / "10.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    message = refusal(LLAMAS(root).labels, "train")
    assert message.startswith(f"{path.resolve()}: ")
    assert what in message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (json.dumps(label(l0=STRAIGHT)).replace("world_end", "end"), "'world_end'"),
        (json.dumps(broken(world_end=STRAIGHT[0]["world_start"])), "a marker without depth"),
        (json.dumps({"lanes": []}), "'projection_matrix'"),
        ("\ufeff" + json.dumps(label(l0=STRAIGHT)), "Unexpected UTF-8 BOM"),
        (json.dumps(label(l0=STRAIGHT)).encode("utf-16"), "UTF-16 text"),
    ],
)
def test_labels_that_scoring_refuses_are_refused_when_read(root: Path, content: str | bytes, what: str) -> None:
    path = root.resolve() / "labels/valid" / CLIP / "10.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    read, scored = refusal(LLAMAS(root).labels, "val"), refusal(read_label, path)
    assert read.startswith(f"{path}: ")
    assert scored.startswith(f"{path}: ")
    assert what in read
    assert what.replace("UTF-16 text", "'utf-8' codec can't decode") in scored


@pytest.mark.parametrize("lowest", [60, 300])
def test_a_lane_that_scoring_has_no_two_rows_of_is_refused_in_the_split_that_is_scored(root: Path, lowest: int) -> None:
    # Nothing is extended from behind the camera.
    far = [marker((700, lowest), (690, lowest - 20), -1), marker((680, lowest - 30), (670, lowest - 50), 70)]
    for split in ("train", "valid"):
        (root / "labels" / split / CLIP / "10.json").write_text(json.dumps(label(l0=STRAIGHT, r0=far)))
    dataset = LLAMAS(root)
    assert len(dataset.labels("train").lanes(0)) == 2
    message = refusal(dataset.labels, "val")
    path = root.resolve() / "labels/valid" / CLIP / "10.json"
    assert message == f"{path}: a lane with fewer than two rows from 300 down: remove it" == refusal(read_label, path)


@pytest.mark.parametrize(("end", "rows", "lanes"), [((0, 180), 1, 1), ((1, 179), 2, None), ((1, 549), 2, 2)])
def test_two_rows_of_a_lane_that_none_is_scored_of_are_a_fault_and_one_is_no_lane(
    root: Path, end: tuple[int, int], rows: int, lanes: int | None
) -> None:
    beside = [marker((-100, end[1] + 101), end, -1), marker((-50, end[1] - 49), (-90, end[1] - 99), 12)]
    path = root.resolve() / "labels/valid" / CLIP / "10.json"
    path.write_text(json.dumps(label(l0=STRAIGHT, r0=beside)))
    found = lane_rows(path.read_bytes(), source="x")["r0"]
    assert (found >= 0).sum() == rows
    if lanes:
        assert len(read_label(path)) == len(LLAMAS(root).labels("val").lanes(0)) == lanes
    else:
        assert refusal(LLAMAS(root).labels, "val") == refusal(read_label, path)


pixels = st.integers(-20, 1300)


@given(st.lists(st.tuples(pixels, pixels, pixels, pixels, st.floats(-5, 100)), min_size=1, max_size=5))
def test_any_markers_are_read_or_refused(found) -> None:
    lane = [marker((a, b), (c, d), z) for a, b, c, d, z in found]
    try:
        rows = lane_rows(json.dumps(label(l0=lane)).encode(), source="file")
    except InputError as error:
        message = str(error)
        assert message.startswith("file: ")
        return
    assert set(rows) <= set(LANES)
    for x in rows.values():
        there = np.flatnonzero(~np.isnan(x))
        assert len(there) == 0 or len(there) == there[-1] - there[0] + 1


Dash = tuple[int, int, int, int, float]


def official_rows(lanes: dict[str, list[Dash]]) -> dict[str, list[float]]:
    """Lane -> x of every row, -1 where there is none, from dashes (x, y, x, y, depth): the official rules, one after the other.

    ValueError for a lane without a slanted dash.
    """
    found = {}
    for side in "lr":
        kept = [name for name in sorted(lanes) if name[0] == side and len(lanes[name]) >= 2]
        for place, name in enumerate(one for one in kept if np.ptp([dash[1] for dash in lanes[one]]) >= 20):
            dashes = lanes[name]
            slanted = [dash for dash in dashes if dash[0] != dash[2] and dash[1] != dash[3]]
            x, y, end_x, end_y, depth = min(slanted, key=lambda dash: dash[4])
            if depth >= 0:
                border = x + (716 - y) * ((end_x - x) / (end_y - y)), 716.0
                if not 0 <= border[0] <= 1276:
                    edge = 0 if border[0] < 0 else 1276
                    border = edge, y + (edge - x) * ((end_y - y) / (end_x - x))
                dashes = [(round(border[0]), round(border[1]), x, y, 1.0), *dashes]
            pixels: list[list[int]] = [[] for _ in range(717)]
            for x, y, end_x, end_y, _ in dashes:
                pixels[y].append(x)
                if y - end_y > 2:
                    for step in range(y - end_y + 1):
                        pixels[y - step].append(round(x + (end_x - x) / (y - end_y) * step))
            rows = [sum(xs) / len(xs) if xs else -1.0 for xs in pixels]
            seen = [row for row in range(717) if rows[row] != -1]
            for row in range(seen[0], seen[-1]):
                if rows[row] == -1:
                    below = next(other for other in seen if other > row)
                    rows[row] = rows[row - 1] + (rows[below] - rows[row - 1]) / (below - row + 1)
            found[f"{side}{place}"] = rows
    return {name: found[name] for name in ("l1", "l0", "r0", "r1") if name in found}


dashes = st.tuples(
    st.integers(0, 1276),
    st.integers(0, 716),
    st.integers(-90, 90),
    st.integers(-3, 90),
    st.just(0.0) | st.floats(-1, 90),
).map(lambda drawn: (drawn[0], drawn[1], drawn[0] + drawn[2], max(drawn[1] - drawn[3], 0), drawn[4]))
lane_names = st.tuples(st.sampled_from("lr"), st.integers(0, 9)).map(lambda drawn: f"{drawn[0]}{drawn[1]}")


# Starts 20 and 19 rows apart; a depth of 0; last rows 0.4 px on either side of either border, where the side is ten times as far.
@example(
    lanes={
        "l0": [(400, 600, 410, 595, 0.0), (420, 580, 425, 575, 5.0)],
        "r0": [(700, 600, 710, 595, 4.0), (720, 581, 725, 575, 5.0)],
    }
)
@example(
    lanes={
        "l0": [(10, 620, 20, 520, 4.0), (30, 500, 35, 480, 8.0)],
        "l1": [(10, 612, 20, 512, 4.0), (30, 500, 35, 480, 8.0)],
        "r0": [(1266, 620, 1256, 520, 4.0), (1240, 500, 1230, 480, 8.0)],
        "r1": [(1266, 612, 1256, 512, 4.0), (1240, 500, 1230, 480, 8.0)],
    }
)
@given(lanes=st.dictionaries(lane_names, st.lists(dashes, min_size=1, max_size=4), min_size=1, max_size=4))
def test_datasets_and_metric_make_the_official_rows_of_any_dashes(
    lanes: dict[str, list[Dash]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "dashes.json"
    file.write_text(
        json.dumps(
            label(**{name: [marker(dash[:2], dash[2:4], dash[4]) for dash in found] for name, found in lanes.items()})
        )
    )
    try:
        expected = official_rows(lanes)
    except ValueError:
        assert "slanted" in refusal(metric.label_rows, file)
        assert "slanted" in refusal(lane_rows, file.read_bytes(), source="x")
        return
    assert [rows.tolist() for rows in metric.label_rows(file)] == list(expected.values())
    read = lane_rows(file.read_bytes(), source="x")
    assert {name: np.nan_to_num(rows, nan=-1.0).tolist() for name, rows in read.items()} == expected
