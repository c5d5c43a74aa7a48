"""llamas/official and its labels against what the authors' scripts said."""

from __future__ import annotations

import copy
import gzip
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.metrics.counts import LADDER
from harness.metrics.llamas import count_labels, find_labels
from harness.metrics.llamas_labels import label_rows, read_label


def score(labels, predictions, **options):
    return count_labels(find_labels(labels), predictions, **options)


def test_labels_have_the_official_rows(shared, llamas_kit):
    expected = json.loads(gzip.decompress((shared / "conformance/llamas/gt_rows.json.gz").read_bytes()))
    for name, lanes in expected.items():
        found = [
            [[x, y] for y, x in enumerate(rows) if y >= 300 and x >= 0]
            for rows in label_rows(llamas_kit / "labels/valid" / name)
        ]
        found = [lane for lane in found if lane]
        assert len(found) == len(lanes), name
        for ours, official in zip(found, lanes, strict=True):
            np.testing.assert_allclose(ours, official, atol=1e-9, err_msg=name)


def test_every_threshold_and_image_counts_as_the_official_script(shared, llamas_kit):
    counts, odd = score(llamas_kit / "labels/valid", llamas_kit / "pred_a")
    expected = json.loads((shared / "conformance/llamas/expected.json").read_text())["pred_a"]["official"]
    assert odd == ()
    for threshold in LADDER:
        sums, official = counts.sums(threshold), expected[f"{threshold:.2f}"]
        assert (sums.tp, sums.fp, sums.fn) == (official["TP"], official["FP"], official["FN"])
    assert counts.mf1 == pytest.approx(expected["mF1_0.50:0.95"], abs=1e-12)
    row_of = {"/".join(image.split("/")[-2:]): row for row, image in enumerate(counts.images)}
    with gzip.open(shared / "conformance/llamas/per_image_pred_a.jsonl.gz", "rt") as lines:
        for line in lines:
            image = json.loads(line)
            row = row_of[image["label"]]
            for column, threshold in enumerate(LADDER):
                tp, fp, fn = image["counts"][f"{threshold:.2f}"]
                found = counts.tp[row, column]
                assert (found, counts.n_pred[row] - found, counts.n_gt[row] - found) == (tp, fp, fn), image["label"]


def marker(start, end, z=(5.0, 9.0)):
    return {
        "lane_marker_id": "m",
        "pixel_start": {"x": str(start[0]), "y": str(start[1])},
        "pixel_end": {"x": str(end[0]), "y": str(end[1])},
        "world_start": {"x": "1", "y": "1.5", "z": str(z[0])},
        "world_end": {"x": "1", "y": "1.5", "z": str(z[1])},
    }


def lane(name="l0", shift=0):
    markers = [
        marker((600 + shift, 650), (620 + shift, 550)),
        marker((630 + shift, 500), (640 + shift, 450), (12.0, 16.0)),
    ]
    return {"lane_id": name, "markers": markers}


def label(*lanes):
    return {"image_name": "i", "projection_matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "lanes": list(lanes)}


def write(folder: Path, content) -> Path:
    file = folder / "labels" / "r" / "i.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_the_nearest_marker_is_prolonged_to_the_bottom_row(tmp_path):
    (rows,) = label_rows(write(tmp_path, label(lane())))
    assert rows[716] == round(600 - 66 * 20 / 100)
    assert rows[650] == 600
    assert rows[449] == -1
    # a gap is filled from above, a touch short of linear
    assert rows[501] == pytest.approx(rows[500] + (rows[550] - rows[500]) / (550 - 501 + 1))


def test_the_nearest_marker_is_the_one_that_starts_nearest(tmp_path):
    markers = [marker((600, 650), (620, 550), (5.0, 20.0)), marker((630, 500), (650, 450), (6.0, 9.0))]
    (rows,) = label_rows(write(tmp_path, label({"lane_id": "l0", "markers": markers})))
    assert rows[716] == round(600 - 66 * 20 / 100)


@pytest.mark.parametrize(("end", "inside"), [((0, 550), 1), ((1, 549), 2)])
def test_a_lane_with_one_row_inside_the_image_is_dropped(tmp_path, end, inside):
    beside = [marker((-100, 650), end, (-1.0, 9.0)), marker((-50, 500), (-90, 450), (12.0, 16.0))]
    file = write(tmp_path, label(lane(), {"lane_id": "r0", "markers": beside}))
    assert [int((rows >= 0).sum()) for rows in label_rows(file)][1:] == [inside]
    assert len(read_label(file)) == inside


def test_lanes_are_renamed_from_the_middle_out_and_only_four_are_scored(tmp_path):
    content = label(lane("l3", -300), lane("l1", -100), lane("r2", 100), lane("r5", 300), lane("r7", 500))
    lanes = read_label(write(tmp_path, content))
    # sorted names: l1 -> l0, l3 -> l1; r2 -> r0, r5 -> r1, r7 -> r2 (not scored); order l1, l0, r0, r1
    assert [points[points[:, 1] == 650, 0].item() - 600 for points in lanes] == [-300, -100, 100, 300]


def test_small_lanes_are_dropped(tmp_path):
    low = {"lane_id": "r0", "markers": [marker((600, 650), (610, 640)), marker((600, 660), (610, 645))]}
    single = {"lane_id": "r1", "markers": [marker((600, 650), (620, 450))]}
    assert len(read_label(write(tmp_path, label(lane(), low, single)))) == 1


def changed(path, value):
    content = label(lane())
    target = content
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return content


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        {},
        {"lanes": []},
        changed(["lanes", 0, "lane_id"], "x0"),
        changed(["lanes", 0, "lane_id"], ""),
        changed(["lanes", 0, "markers"], []),
        changed(["lanes", 0, "markers", 0, "pixel_start", "y"], "650.5"),
        changed(["lanes", 0, "markers", 0, "pixel_start", "y"], "900"),
        changed(["lanes", 0, "markers", 0, "pixel_end", "y"], "-718"),
        changed(["lanes", 0, "markers", 0, "pixel_start", "x"], "9" * 400),
        changed(["lanes", 0, "markers", 0, "world_end"], {"z": "9.0"}),
        "\ufeff" + json.dumps(label(lane())),
        label({**lane(), "markers": [*lane()["markers"], marker((600, 900), (601, 899))]}, lane()),
        changed(["lanes", 0, "markers", 0, "world_start", "z"], "9.0"),
        changed(["lanes", 0, "markers", 0, "world_start"], {}),
        label({"lane_id": "l0", "markers": [marker((600, 650), (600, 550)), marker((600, 500), (600, 450))]}),
        label(
            {"lane_id": "l0", "markers": [marker((600, 300), (610, 200), (-1.0, 9.0)), marker((620, 180), (630, 150))]}
        ),
        label(
            {"lane_id": "l0", "markers": [marker((600, 200), (610, 150)), marker((620, 250), (610, 240), (1.0, 1.0))]}
        ),
    ],
)
def test_labels_that_the_scripts_fail_on_are_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"i\.json: "):
        read_label(write(tmp_path, copy.deepcopy(content)))


def test_a_row_above_the_image_is_one_from_the_bottom_as_in_pythons_lists(tmp_path):
    (rows,) = label_rows(write(tmp_path, changed(["lanes", 0, "markers", 0, "pixel_end", "y"], "-717")))
    assert (rows >= 0).all()


@pytest.fixture
def scene(tmp_path):
    write(tmp_path, label(lane("l0"), lane("r0", 200)))
    prediction = tmp_path / "predictions" / "r" / "i.lines.txt"
    prediction.parent.mkdir(parents=True)
    prediction.write_text("587 716 600 650 620 550 640 450\n")
    return tmp_path / "labels", tmp_path / "predictions", prediction


def test_a_prediction_is_found_by_the_last_two_parts_of_the_label(scene):
    counts, odd = score(*scene[:2])
    assert odd == ()
    sums = counts.sums(0.5)
    assert (sums.tp, sums.fp, sums.fn) == (1, 0, 1)


def test_labels_are_found_in_the_order_of_their_absolute_paths(tmp_path, monkeypatch):
    names = [f"{folder}/{number}.json" for number in range(9, -1, -1) for folder in ("r2", "r10")]
    for name in [*names, "r2/note.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path / "r2")
    assert find_labels(Path("..")) == sorted(f"{tmp_path}/r2/../{name}" for name in names)
    assert find_labels(Path()) == [f"{tmp_path}/r2/{number}.json" for number in range(10)]


def test_further_thresholds_are_counted_at(scene):
    scene[2].write_text("601 716 614 650 634 550 654 450\n")  # 14 px beside the lane: 17 columns of 45 in common
    counts, _ = score(*scene[:2], thresholds=(0.3,))
    assert counts.thresholds == (*LADDER, 0.3)
    assert (counts.sums(0.3).tp, counts.sums(0.5).tp) == (1, 0)


def test_dropped_points_and_lanes_are_said(scene):
    scene[2].write_text("587 716 600 650 600 650 620 550 640 450\n\n5 5\n")
    counts, odd = score(*scene[:2])
    assert counts.n_pred.tolist() == [1]
    assert counts.sums(0.5).tp == 1
    assert [o.line for o in odd] == [1, 2, 3]
    with pytest.raises(InputError, match="line 1"):
        score(*scene[:2], strict=True)


@pytest.mark.parametrize("text", ["1 2 3\n", "1 2 3 x\n", "5 5 5 5\n"])
def test_predictions_that_the_script_fails_on_are_refused(scene, text):
    scene[2].write_text(text)
    with pytest.raises(InputError, match=r"i\.lines\.txt"):
        score(*scene[:2])


def test_a_far_pixel_is_refused_only_where_all_lanes_have_as_many_rows(scene):
    far = changed(["lanes", 0, "markers", 0, "pixel_end", "x"], "9" * 30)
    write(scene[0].parent, far)
    with pytest.raises(InputError, match="beyond the range of an integer"):
        score(*scene[:2])
    longer = lane("r0", 200)
    longer["markers"][1]["pixel_end"]["y"] = "430"
    write(scene[0].parent, {**far, "lanes": [*far["lanes"], longer]})
    assert score(*scene[:2])[0].n_gt.tolist() == [2]


def test_lanes_of_one_name_both_count_in_the_names_but_the_last_is_scored(tmp_path):
    lanes = read_label(write(tmp_path, label(lane("l0"), lane("l0", 50))))
    (rows,) = lanes  # both are named l1
    assert rows[rows[:, 1] == 650, 0].item() == 650


def test_a_missing_prediction_and_missing_folders_are_refused(scene, tmp_path):
    scene[2].unlink()
    with pytest.raises(InputError, match=r"i\.lines\.txt"):
        score(*scene[:2])
    with pytest.raises(InputError, match="no such folder"):
        score(tmp_path / "nowhere", scene[1])
    with pytest.raises(InputError, match="no such folder"):
        score(scene[0], tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a single"):
        score(scene[1], scene[1])


def test_empty_files_are_scored(scene):
    scene[2].write_text("")
    counts, _ = score(*scene[:2])
    assert (counts.n_gt.tolist(), counts.n_pred.tolist()) == ([2], [0])


VALUES = st.one_of(
    st.integers(-2000, 2000).map(str), st.floats().map(str), st.none(), st.text(max_size=3), st.integers()
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_labels_are_read_or_refused(tmp_path, data):
    content = label(lane("l0"), lane("r0", 200))
    for _ in range(data.draw(st.integers(1, 3))):
        target = content["lanes"][data.draw(st.integers(0, 1))]["markers"][data.draw(st.integers(0, 1))]
        end = data.draw(st.sampled_from(["pixel_start", "pixel_end", "world_start", "world_end"]))
        target[end][data.draw(st.sampled_from("xyz"))] = data.draw(VALUES)
    file = write(tmp_path, content)
    with suppress(InputError):
        lanes = read_label(file)
        assert len(lanes) <= 2
        for xs, ys in (lane.T for lane in lanes):
            assert len(ys) >= 2
            assert (ys[0] >= 300, ys[-1] <= 716, (np.diff(ys) >= 1).all(), (xs >= 0).all()) == (True, True, True, True)


def test_a_lane_of_nan_is_a_lane_that_matches_nothing(scene):
    scene[2].write_text("1 2 nan 4 5 6 7 8\n")
    counts, _ = score(*scene[:2])
    assert counts.n_pred.tolist() == [1]
    assert not counts.tp.any()


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        ("r/i_color_rect.lines.txt", "name the files without _color_rect"),
        ("valid/r/i.lines.txt", "give {}/valid as the root"),
        ("valid/r/i_color_rect.lines.txt", "give {}/valid as the root, and name the files without _color_rect"),
    ],
)
def test_predictions_of_the_two_usual_other_names_are_told(scene, tmp_path, place, fix):
    labels, predictions, prediction = scene
    (tmp_path / "all").mkdir()
    labels.rename(tmp_path / "all" / "valid")
    other = predictions / place
    other.parent.mkdir(parents=True, exist_ok=True)
    prediction.rename(other)
    with pytest.raises(InputError) as caught:
        score(tmp_path / "all", predictions)
    assert str(caught.value) == f"{prediction}: is missing, but {other} is there: {fix.format(predictions)}"


def test_labels_of_several_splits_are_told_where_predictions_are_missing(scene, tmp_path):
    _, predictions, prediction = scene
    prediction.unlink()
    (tmp_path / "all").mkdir()
    for split in ("train", "valid"):
        write(tmp_path / split, label(lane()))
        (tmp_path / split / "labels").rename(tmp_path / "all" / split)
    with pytest.raises(
        InputError, match=r"is missing; the labels are those of train and valid: give one split, such as .*all/valid"
    ):
        score(tmp_path / "all", predictions)


def test_a_pipe_in_the_place_of_a_file_is_refused_and_keeps_nobody_waiting(scene):
    labels, predictions, prediction = scene
    prediction.unlink()
    os.mkfifo(prediction)
    with pytest.raises(InputError, match="not a regular file"):
        score(labels, predictions)
