"""`samiro-bench score` as its users call it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.score import app
from harness.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The cache folder of these tests."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def culane(tmp_path):
    for name, files in {
        "labels": {"a": "100 500 200 300 300 200\n", "b": "800 500 800 300\n", "c": ""},
        "predictions": {
            "a": "100 500 200 300 300 200\n",
            "b": "805 500 805 300\n300 500 300 300\n",
            "c": "9 9 99 99\n",
        },
    }.items():
        (tmp_path / name).mkdir()
        for image, text in files.items():
            (tmp_path / name / f"{image}.lines.txt").write_text(text)
    (tmp_path / "one.txt").write_text("/a.jpg\n/b.jpg\n")
    (tmp_path / "cross.txt").write_text("c.jpg\n")
    return tmp_path


def culane_arguments(folder, *more):
    roots = ("--labels", folder / "labels", "--predictions", folder / "predictions")
    return ("culane", *roots, folder / "one.txt", folder / "cross.txt", *more)


def test_culane_prints_one_json_object_of_the_promised_form(culane):
    result = run(*culane_arguments(culane, "--json"))
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert list(found) == ["metric", "images", "iou", "mf1", "splits", "warnings"]
    assert (found["metric"], found["images"], found["warnings"]) == ("culane/official", 3, [])
    assert list(found["iou"]) == ["0.50", "0.75"]
    assert found["iou"]["0.50"] == {"tp": 2, "fp": 2, "fn": 0, "precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert found["splits"]["one"]["images"] == 2
    cross = found["splits"]["cross"]["iou"]["0.50"]
    assert cross == {"tp": 0, "fp": 1, "fn": 0, "precision": 0.0, "recall": None, "f1": None}
    # a and b match at .50 to .70 (IoU 26/36 of b), a alone from .75 on
    assert found["mf1"] == pytest.approx((5 * (2 / 3) + 5 * (2 * 1 / (4 + 2))) / 10)


def test_labels_are_kept_a_file_a_list_and_give_the_same(culane, cache):
    plain = run(*culane_arguments(culane, "--json", "--no-cache"))
    assert not any(cache.iterdir())
    for _ in range(2):
        assert run(*culane_arguments(culane, "--json")).stdout == plain.stdout
    assert len(list(cache.rglob("*.painted"))) == 2
    run(*culane_arguments(culane, "--json", "--no-cache"))
    assert not [path for path in culane.rglob("*") if path.suffix == ".painted"]


def test_further_thresholds_are_shown_beside_the_two(culane):
    found = json.loads(run(*culane_arguments(culane, "--json", "--iou", "0.6", "--iou", "0.123")).stdout)
    assert list(found["iou"]) == ["0.123", "0.50", "0.60", "0.75"]


def test_the_table_names_splits_and_total(culane):
    result = run(*culane_arguments(culane))
    assert result.exit_code == 0
    for word in ("culane/official", "one", "cross", "total", "mF1"):
        assert word in result.stdout


def test_counts_of_each_image_are_written(culane):
    run(*culane_arguments(culane, "--per-image", culane / "out" / "images.jsonl"))
    rows = [json.loads(line) for line in (culane / "out" / "images.jsonl").read_text().splitlines()]
    assert [(row["image"], row["split"], row["n_gt"], row["n_pred"]) for row in rows] == [
        ("a.jpg", "one", 1, 1),
        ("b.jpg", "one", 1, 2),
        ("c.jpg", "cross", 0, 1),
    ]
    assert rows[1]["tp"]["0.70"] == 1
    assert rows[1]["tp"]["0.75"] == 0


def test_counts_are_not_written_over_what_is_no_file_and_scoring_does_not_begin(culane):
    os.mkfifo(culane / "pipe")
    for name in ("pipe", "labels"):
        result = run(*culane_arguments(culane, "--predictions", culane / "nowhere", "--per-image", culane / name))
        assert isinstance(result.exception, InputError)
        assert str(result.exception).startswith(f"{culane / name}: ")
    assert stat.S_ISFIFO((culane / "pipe").stat().st_mode)


def test_odd_input_warns_on_stderr_and_in_json_and_is_refused_when_strict(culane):
    (culane / "predictions" / "b.lines.txt").write_text("805 500 805 300\n1 2 x\n")
    result = run(*culane_arguments(culane, "--json"))
    (warning,) = json.loads(result.stdout)["warnings"]
    assert warning == {"file": str(culane / "predictions/b.lines.txt"), "line": 2, "what": warning["what"]}
    assert "b.lines.txt, line 2" in result.stderr
    strict = run(*culane_arguments(culane, "--strict"))
    assert isinstance(strict.exception, InputError)
    assert "b.lines.txt, line 2" in str(strict.exception)


@pytest.mark.parametrize("metric", ["official", "clrnet"])
def test_images_of_another_size_and_lanes_of_another_width_are_scored_and_named_as_such(culane, metric):
    """Lanes that agree inside the image and part outside it, and lanes 8 px apart."""
    for name, labelled, predicted in (("a", "300 150 300 700", "300 150 340 700"), ("b", "20 150 20 0", "28 150 28 0")):
        (culane / "labels" / f"{name}.lines.txt").write_text(f"{labelled}\n")
        (culane / "predictions" / f"{name}.lines.txt").write_text(f"{predicted}\n")
    counts = {}
    for more in ([], ["--image-size", "640x200"], ["--image-size", "640x200", "--lane-width", 9]):
        found = json.loads(run(*culane_arguments(culane, "--json", "--metric", metric, *more)).stdout)
        counts[found["metric"].removeprefix(f"culane/{metric}")] = found["splits"]["one"]["iou"]["0.50"]["tp"]
    assert counts == {"": 1, " (640x200, lanes 30 px wide)": 2, " (640x200, lanes 9 px wide)": 1}


def test_many_warnings_are_summed_up_on_stderr(culane):
    (culane / "predictions" / "b.lines.txt").write_text("\n" * 50)
    result = run(*culane_arguments(culane))
    assert len(result.stderr.splitlines()) == 11
    assert "40 more" in result.stderr


def test_a_warning_of_another_kind_is_not_lost_among_many(culane):
    (culane / "predictions" / "b.lines.txt").write_text("\n" * 50 + "805 500 805 300\n1 2 x\n")
    said = run(*culane_arguments(culane)).stderr.splitlines()
    assert sum("b.lines.txt, line 52: something that is no number" in line for line in said) == 1
    assert [line for line in said if "more like" in line] == ["warning: 45 more like these (--json lists them all)"]
    assert len(said) <= 11


def picture(path, width, height):
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


def test_images_beside_the_labels_tell_their_size(culane):
    picture(culane / "labels" / "b.jpg", 1640, 590)
    assert "WIDTHxHEIGHT" not in run(*culane_arguments(culane)).stderr
    picture(culane / "labels" / "a.jpg", 1280, 720)
    refused = run(*culane_arguments(culane))
    assert isinstance(refused.exception, InputError)
    assert "a.jpg: is 1280x720, not CULane's 1640x590: give --image-size 1280x720" in str(refused.exception)
    assert run(*culane_arguments(culane, "--image-size", "1280x720")).stderr == ""
    other = run(*culane_arguments(culane, "--image-size", "1640x590"))
    assert other.exit_code == 0
    assert "a.jpg: is 1280x720, not 1640x590 (WIDTHxHEIGHT) as --image-size says" in other.stderr


def test_a_size_the_wrong_way_round_is_refused_unless_the_images_are_so(culane):
    turned = run(*culane_arguments(culane, "--image-size", "590x1640"))
    assert turned.exit_code == 2
    assert "did you mean 1640x590?" in " ".join(turned.output.replace("│", " ").split())
    picture(culane / "labels" / "a.jpg", 720, 1280)
    assert run(*culane_arguments(culane, "--image-size", "720x1280")).exit_code == 0


def test_images_without_a_prediction_are_counted_before_they_are_named(culane):
    (culane / "predictions" / "b.lines.txt").unlink()
    (culane / "labels" / "a.lines.txt").unlink()
    first, *others = run(*culane_arguments(culane)).stderr.splitlines()
    assert first == f"warning: {culane / 'predictions'}: 1 of 3 images have no prediction file: they count as no lanes"
    assert len(others) == 2


def test_tables_in_files_are_not_cut(culane):
    name = "test0_" + "normal" * 20
    (culane / "one.txt").rename(culane / f"{name}.txt")
    arguments = [
        culane / f"{name}.txt" if argument == culane / "one.txt" else argument for argument in culane_arguments(culane)
    ]
    table = run(*arguments).stdout
    assert name in table
    assert "precision" in table


@pytest.mark.parametrize("scale", [800 / 1280, 1 / 1280])
def test_predictions_for_tusimple_in_other_pixels_are_told_and_bad_ones_are_not(tmp_path, scale):
    rows = list(range(160, 720, 10))
    lanes = [[start + slope * (row - 160) for row in rows] for start, slope in ((600, -1), (640, 0.2), (700, 0.9))]
    wrong = {"scaled": [[x * scale for x in lane] for lane in lanes], "bad": [[x + 60 for x in lane] for lane in lanes]}
    said = {}
    for name, predicted in wrong.items():
        with open(tmp_path / "gt.json", "w") as labels, open(tmp_path / "pred.json", "w") as predictions:
            for image in range(3):
                print(json.dumps({"raw_file": str(image), "lanes": lanes, "h_samples": rows}), file=labels)
                print(json.dumps({"raw_file": str(image), "lanes": predicted, "run_time": 1}), file=predictions)
        found = run("tusimple", "--labels", tmp_path / "gt.json", "--predictions", tmp_path / "pred.json")
        assert found.exit_code == 0
        said[name] = found.stderr
    assert said["scaled"].startswith(f"warning: {tmp_path / 'pred.json'}: hardly a lane is found, and labels have x ")
    assert said["bad"] == ""


def test_predictions_in_other_pixels_are_told_where_nothing_is_found(culane):
    lanes = [[(x, y) for y in range(580, 270, -5)] for x in (100, 500, 900, 1500)]
    for root, scale in (("labels", (1.0, 1.0)), ("predictions", (800 / 1640, 288 / 590))):
        text = "".join(" ".join(f"{x * scale[0]} {y * scale[1]}" for x, y in lane) + "\n" for lane in lanes)
        (culane / root / "a.lines.txt").write_text(text)
        (culane / root / "b.lines.txt").write_text(text)
        (culane / root / "c.lines.txt").write_text("")
    (line,) = run(*culane_arguments(culane)).stderr.splitlines()
    assert line.startswith(f"warning: {culane / 'predictions'}: not a lane is found, and labels have x 100 to 1500 ")
    assert "predictions have x 48.78 to 731.7" in line
    (culane / "predictions" / "a.lines.txt").write_text((culane / "labels" / "a.lines.txt").read_text())
    assert run(*culane_arguments(culane)).stderr == ""


@pytest.mark.parametrize(("beside", "told"), [(0, True), (4, False)])
def test_labels_that_are_scored_as_predictions_are_told_and_good_lanes_are_not(culane, beside, told):
    for root, moved in (("labels", 0), ("predictions", beside)):
        # One of ten lanes isn't the label's to a hair: F1 at IoU .95 is .9 then.
        starts = [100 + moved, *range(240, 1500, 140)]
        lanes = [" ".join(f"{x} {y}" for y in range(580, 270, -10)) for x in starts]
        (culane / root / "a.lines.txt").write_text("\n".join(lanes))
        (culane / root / "b.lines.txt").write_text("\n".join(lanes))
        (culane / root / "c.lines.txt").write_text("")
    result = run(*culane_arguments(culane))
    assert "100.00" in result.stdout
    said = f"warning: {culane / 'predictions'}: F1 at IoU 0.95 is 100.00, as no detector's is; are these the labels"
    assert result.stderr.startswith(said) is told
    assert told or result.stderr == ""


@pytest.mark.parametrize(("beside", "told"), [(0, True), (15, False)])
def test_the_same_of_labels_in_tusimples_format(tmp_path, beside, told):
    rows = list(range(160, 720, 10))
    lanes = [[start + slope * (row - 160) for row in rows] for start, slope in ((600, -1), (640, 0.2), (700, 0.9))]
    # One row of a lane is out of reach, as none is of a label.
    predicted = [[x + (4 * beside if row == 160 else 0) for x, row in zip(lane, rows, strict=True)] for lane in lanes]
    with open(tmp_path / "gt.json", "w") as labels, open(tmp_path / "pred.json", "w") as predictions:
        for image in range(8):
            print(json.dumps({"raw_file": str(image), "lanes": lanes, "h_samples": rows}), file=labels)
            print(json.dumps({"raw_file": str(image), "lanes": predicted, "run_time": 1}), file=predictions)
    said = run("tusimple", "--labels", tmp_path / "gt.json", "--predictions", tmp_path / "pred.json").stderr
    assert ("accuracy is 100.00 and F1 100.00, as no detector's are" in said) is told
    assert told or said == ""


@pytest.fixture
def tusimple(tmp_path):
    """Writes labels and predictions of two images, each with the lanes given; gives the arguments that score them."""
    rows = list(range(160, 720, 10))
    there, absent = [[x + row for row in rows] for x in (100, 300)], [-2] * len(rows)

    def write(labelled, predicted):
        for name, lanes in (("gt", labelled), ("pred", predicted)):
            with open(tmp_path / f"{name}.json", "w") as file:
                for image in range(2):
                    both = there[: lanes[0]] + [absent] * lanes[1]
                    print(
                        json.dumps({"raw_file": str(image), "lanes": both, "h_samples": rows, "run_time": 0}), file=file
                    )
        return ("tusimple", "--labels", tmp_path / "gt.json", "--predictions", tmp_path / "pred.json")

    return write


@pytest.mark.parametrize(
    ("labelled", "predicted", "told"),
    [((2, 0), (2, 0), None), ((2, 1), (2, 0), "gt.json: 2 of 6 lanes"), ((2, 0), (2, 3), "pred.json: 6 of 10 lanes")],
)
def test_tusimples_lanes_without_a_point_are_told_because_they_are_scored(tusimple, labelled, predicted, told):
    said = run(*tusimple(labelled, predicted)).stderr
    assert ("have no point at any row: the official script counts each as a lane" in said) is (told is not None)
    assert told is None or told in said


@pytest.mark.parametrize(("absent", "told"), [(0, True), (-2, False)])
def test_zeros_in_the_place_of_absent_points_are_told_where_they_lose_the_lanes(tmp_path, absent, told):
    rows = list(range(160, 720, 10))
    lanes = [[-2] * 30 + [start + row for row in rows[30:]] for start in (100, 300)]
    for name, gone, moved in (("gt", -2, 0), ("pred", absent, 0 if told else 40)):
        there = [[gone if x == -2 else x + moved for x in lane] for lane in lanes]
        line = {"raw_file": "1", "lanes": there, "h_samples": rows, "run_time": 0}
        (tmp_path / f"{name}.json").write_text(json.dumps(line))
    result = run("tusimple", "--labels", tmp_path / "gt.json", "--predictions", tmp_path / "pred.json")
    assert result.exit_code == 0
    said = "pred.json: few lanes are found, and 54% of its points are at x = 0: where a lane is absent"
    assert (said in result.stderr) is told
    assert told or "x = 0" not in result.stderr


def test_tusimples_labels_without_a_lane_are_told_to_be_none(tusimple):
    result = run(*tusimple((0, 0), (2, 0)))
    assert result.exit_code == 0
    assert "gt.json: not an image has a lane" in result.stderr
    assert "test_label.json" in result.stderr
    assert "not an image has a lane" not in run(*tusimple((2, 0), (0, 0))).stderr, "a detector may find none"


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(culane):
    (culane / "predictions" / "a.lines.txt").unlink()
    os.mkfifo(culane / "predictions" / "a.lines.txt")
    command = [sys.executable, "-m", "harness.cli.main", "score", *map(str, culane_arguments(culane))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert "a.lines.txt: not a regular file: it counts as no lanes" in ended.stderr


def test_bad_arguments_are_input_errors(culane):
    for wrong in ((*culane_arguments(culane), "--iou", "1.5"), (*culane_arguments(culane), culane / "one.txt")):
        assert isinstance(run(*wrong).exception, InputError)
    assert run("culane", "--metric", "other").exit_code == 2
    for size in ("720", "1280*720", "0x720", "-1x720"):
        refused = run(*culane_arguments(culane, "--image-size", size))
        assert refused.exit_code == 2
        assert "--image-size" in refused.output


def test_ctrl_c_ends_it_with_one_line(culane):
    """A run of many seconds, stopped in its midst (or, on a slow machine, while modules are loaded: the same is promised)."""
    (culane / "one.txt").write_text("a.jpg\n" * 400_000)
    command = [sys.executable, "-m", "harness.cli.main", "score", *map(str, culane_arguments(culane))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "samiro-bench: stopped\n")


def test_scoring_needs_no_torch():
    code = "import sys, harness.cli.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", ["culane", "tusimple", "llamas"])
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "samiro-bench score" in result.stdout


def test_the_ports_metric_is_chosen_by_name_and_refuses_what_they_raise_on(culane):
    found = json.loads(run(*culane_arguments(culane, "--json", "--metric", "clrnet")).stdout)
    assert found["metric"] == "culane/clrnet"
    assert found["iou"]["0.50"]["tp"] == 2
    (culane / "predictions" / "c.lines.txt").unlink()
    assert isinstance(run(*culane_arguments(culane, "--metric", "clrnet")).exception, InputError)


def test_tusimple_prints_one_json_object_of_the_promised_form(tmp_path):
    label = {"raw_file": "a", "lanes": [[5, 6, 7]], "h_samples": [10, 20, 30]}
    (tmp_path / "gt.json").write_text(json.dumps(label) + "\n")
    (tmp_path / "pred.json").write_text(json.dumps({"raw_file": "a", "lanes": [[5, 6, 7]], "run_time": 0}) + "\n")
    arguments = ("tusimple", "--labels", tmp_path / "gt.json", "--predictions", tmp_path / "pred.json")
    assert json.loads(run(*arguments, "--json", "--per-image", tmp_path / "images.jsonl").stdout) == {
        "metric": "tusimple/official",
        "images": 1,
        "accuracy": 1.0,
        "fp": 0.0,
        "fn": 0.0,
        "f1_clrnet": 1.0,
        "f1_matched": 1.0,
        "images_with_negative_fp": 0,
        "warnings": [],
    }
    row = {"image": "a", "accuracy": 1.0, "fp": 0.0, "fn": 0.0, "matched": 1, "n_gt": 1, "n_pred": 1}
    assert json.loads((tmp_path / "images.jsonl").read_text()) == row
    assert "100.00" in run(*arguments).stdout


def test_llamas_prints_one_json_object_without_splits(tmp_path):
    ends = {"world_start": {"x": "1", "y": "1", "z": "5"}, "world_end": {"x": "1", "y": "1", "z": "9"}}
    markers = [
        {"pixel_start": {"x": "600", "y": "650"}, "pixel_end": {"x": "620", "y": "550"}, **ends},
        {"pixel_start": {"x": "630", "y": "500"}, "pixel_end": {"x": "640", "y": "450"}, **ends},
    ]
    label = {"image_name": "i", "projection_matrix": [], "lanes": [{"lane_id": "l0", "markers": markers}]}
    (tmp_path / "labels/r").mkdir(parents=True)
    (tmp_path / "out/r").mkdir(parents=True)
    (tmp_path / "labels/r/i.json").write_text(json.dumps(label))
    (tmp_path / "out/r/i.lines.txt").write_text("587 716 600 650 620 550 640 450\n")
    result = run("llamas", "--labels", tmp_path / "labels", "--predictions", tmp_path / "out", "--json")
    found = json.loads(result.stdout)
    assert list(found) == ["metric", "images", "iou", "mf1", "warnings"]
    assert (found["metric"], found["images"]) == ("llamas/official", 1)
    assert found["iou"]["0.75"] == {"tp": 1, "fp": 0, "fn": 0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
