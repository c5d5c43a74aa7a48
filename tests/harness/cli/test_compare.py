"""`samiro-bench compare` as its users call it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from harness.cli.compare import app, count_lists
from harness.datasets.predictions import unpack_predictions
from harness.errors import InputError
from harness.publishing.rescoring import LabelSource
from harness.records.record import read_record

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def arms(**paths: list[Path]) -> list[object]:
    return [word for name, given in paths.items() for path in given for word in (f"--{name}", path)]


def test_a_published_gain_comes_out_of_its_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked three times, each folder is scored once."""
    counted: dict[Path, Any] = {}

    def once(asked: Any, predictions: Path, *rest: Any, **options: Any) -> Any:
        if predictions not in counted:
            counted[predictions] = count_lists(asked, predictions, *rest, **options)
        return counted[predictions]

    monkeypatch.setattr("harness.cli.compare.count_lists", once)
    publication = ROOT / "results/ablation"
    folders: dict[str, list[Path]] = {"baseline": [], "miro": []}
    with LabelSource(publication) as labels:
        for method, given in folders.items():
            for seed in range(3):
                (path,) = publication.glob(f"records/roads-ufldv2_micro-{method}-s{seed}-*[0-9a-f].json")
                record = read_record(path)
                (evaluation,) = record.evaluations
                dataset = labels.of(record, evaluation).dataset
                ids, lanes = unpack_predictions(publication / "predictions" / f"{record.id}.test.npz")
                frames = {frame.id: frame for frame in dataset.frames("test")}
                given.append(tmp_path / f"{method}{seed}")
                given[-1].mkdir()
                dataset.write_predictions(given[-1], [frames[name] for name in ids], lanes)
        lists = sorted((dataset.root / "list/test_split").glob("*.txt"))
        common = ["culane", "--labels", dataset.root, *lists]
        pairs = arms(baseline=folders["baseline"], method=folders["miro"])
        found = json.loads(run(*common, *pairs, "--json").stdout)
        text = run(*common, *pairs).stdout
        single = run(*common, *arms(baseline=folders["baseline"][:1], method=folders["miro"][:1])).stdout
    with (publication / "leaderboard.csv").open(encoding="utf-8") as file:
        (row,) = (
            row
            for row in csv.DictReader(file)
            if (row["kind"], row["dataset"], row["method"]) == ("gain", "roads", "miro")
        )
    assert (found["metric"], found["images"], found["clips"]) == (row["metric"], int(row["images"]), int(row["clips"]))
    keys = [
        "f1_50",
        "normal",
        "crowded",
        "dazzle",
        "shadow",
        "no_line",
        "arrow",
        "curve",
        "cross_fp",
        "night",
        "f1_75",
        "mf1",
    ]
    assert list(found["scores"]) == keys
    for key in keys:
        score, factor = found["scores"][key], 1 if key == "cross_fp" else 100
        assert factor * score["difference"] == pytest.approx(float(row[key]), abs=6e-5)
        assert factor * score["half_width"] == pytest.approx(float(row[f"{key}_high"]) - float(row[key]), abs=2e-4)
        assert factor * score["seed_sd"] == pytest.approx(float(row[f"{key}_sd"]), abs=6e-5)
    assert found["p"] == pytest.approx(float(row["p"]), rel=1e-3)
    assert found["headline"] == "f1_50"
    assert f"{100 * found['scores']['f1_50']['difference']:+.2f} ± " in text
    assert "F1@50: no verdict: 1 seed" in single
    assert "another training of each may say otherwise" in single


def tusimple_file(path: Path, found: np.ndarray, *, turned: bool = False) -> Path:
    """Predictions of one lane an image, found or far off."""
    lines = [
        {"raw_file": f"clips/drive{place // 2}/{place}/20.jpg", "lanes": [[100 if hit else 900] * 4], "run_time": 1}
        for place, hit in enumerate(found)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in (reversed(lines) if turned else lines)))
    return path


@pytest.fixture
def tusimple_labels(tmp_path: Path) -> Path:
    lines = [
        {"raw_file": f"clips/drive{place // 2}/{place}/20.jpg", "lanes": [[100] * 4], "h_samples": [10, 20, 30, 40]}
        for place in range(24)
    ]
    path = tmp_path / "labels.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_lines_of_tusimple_may_stand_in_any_order(tmp_path: Path, tusimple_labels: Path) -> None:
    generator = np.random.default_rng(0)
    hits = {name: generator.random((4, 24)) < share for name, share in (("baseline", 0.6), ("method", 0.8))}
    given = {
        name: [tusimple_file(tmp_path / f"{name}{seed}.json", row, turned=seed == 1) for seed, row in enumerate(rows)]
        for name, rows in hits.items()
    }
    found = json.loads(run("tusimple", "--labels", tusimple_labels, *arms(**given), "--json").stdout)
    accuracy = found["scores"]["accuracy"]
    differences = hits["method"].mean(axis=1) - hits["baseline"].mean(axis=1)
    assert found["clips"] == 24  # folders that aren't named after a time are clips of their own
    assert accuracy["difference"] == pytest.approx(differences.mean())
    assert accuracy["seed_sd"] == pytest.approx(differences.std(ddof=1))
    # At least as wide as the paired t interval over seeds alone, which scipy knows.
    low, high = stats.t.interval(0.95, 3, loc=differences.mean(), scale=differences.std(ddof=1) / 2)
    assert 2 * accuracy["half_width"] >= (high - low) * (1 - 1e-9)
    assert found["pairs"][1] == {name: str(given[name][1]) for name in ("baseline", "method")}
    assert "sample_sizes" not in found


def test_gains_that_are_asked_for_are_told_with_the_pairs_that_they_take(tmp_path: Path, tusimple_labels: Path) -> None:
    generator = np.random.default_rng(0)
    # Each training has its own share, so that pairs vary by more than by the clips that they share.
    hits = {name: generator.random((4, 24)) < generator.normal(0.6, 0.3, (4, 1)) for name in ("baseline", "method")}
    given = {
        name: [tusimple_file(tmp_path / f"{name}{seed}.json", row) for seed, row in enumerate(rows)]
        for name, rows in hits.items()
    }
    asked = ["tusimple", "--labels", tusimple_labels, *arms(**given), "--gain", "40", "--gain", "1"]
    (large, small) = json.loads(run(*asked, "--json").stdout)["sample_sizes"]
    assert (large["gain"], small["gain"]) == (0.4, 0.01)
    assert 3 <= large["pairs"] < large["cautious"]
    assert large["why"] is None
    text = run(*asked).stdout
    assert f"a true difference of 40 takes {large['pairs']} pairs on such clips" in text
    assert (small["pairs"], small["cautious"], small["hidden_by_clips"]) == (None, None, False)
    assert "a true difference of 1 takes over 1000 pairs on such clips" in text
    single = arms(baseline=given["baseline"][:1], method=given["method"][:1])
    alone = ["tusimple", "--labels", tusimple_labels, *single, "--gain", "1"]
    assert "a true difference of 1: how many pairs it takes these can't tell (1 seed)" in run(*alone).stdout
    (untold,) = json.loads(run(*alone, "--json").stdout)["sample_sizes"]
    assert untold == {"gain": 0.01, "pairs": None, "cautious": None, "hidden_by_clips": None, "why": "1 seed"}


def test_a_gain_that_the_clips_hide_is_told_from_one_that_takes_many_pairs(
    tmp_path: Path, tusimple_labels: Path
) -> None:
    generator = np.random.default_rng(0)
    given: dict[str, list[Path]] = {"baseline": [], "method": []}
    for name in given:
        # Each arm has images of its own that it finds with every seed, but for one or two.
        found = generator.random(24) < 0.6
        for seed in range(4):
            kept = found & (generator.random(24) < 0.95)
            given[name].append(tusimple_file(tmp_path / f"{name}{seed}.json", kept))
    asked = ["tusimple", "--labels", tusimple_labels, *arms(**given), "--gain", "1"]
    (size,) = json.loads(run(*asked, "--json").stdout)["sample_sizes"]
    assert size["hidden_by_clips"]
    assert "a true difference of 1: no number of pairs tells it from 0 on so few clips" in run(*asked).stdout


def llamas_label(folder: Path, name: str) -> None:
    ends = {"world_start": {"x": "1", "y": "1", "z": "5"}, "world_end": {"x": "1", "y": "1", "z": "9"}}
    markers = [
        {"pixel_start": {"x": "600", "y": "650"}, "pixel_end": {"x": "620", "y": "550"}, **ends},
        {"pixel_start": {"x": "630", "y": "500"}, "pixel_end": {"x": "640", "y": "450"}, **ends},
    ]
    label = {"image_name": name, "projection_matrix": [], "lanes": [{"lane_id": "l0", "markers": markers}]}
    (folder / f"{name}.json").write_text(json.dumps(label))


def test_clips_of_llamas_are_a_hundred_frames_of_a_recording(tmp_path: Path) -> None:
    lanes = {"a0": "587 716 600 650 620 550 640 450\n", "b0": "87 716 100 650 120 550 140 450\n"}
    for recording, frames in (("one", 101), ("two", 1)):
        for root in ("labels", *lanes):
            (tmp_path / root / recording).mkdir(parents=True)
        for frame in range(frames):
            llamas_label(tmp_path / "labels" / recording, f"{frame:04}")
            for root, text in lanes.items():
                (tmp_path / root / recording / f"{frame:04}.lines.txt").write_text(text)
    arguments = ["llamas", "--labels", tmp_path / "labels", "--baseline", tmp_path / "a0", "--method", tmp_path / "b0"]
    found = json.loads(run(*arguments, "--json").stdout)
    assert (found["metric"], found["images"], found["clips"]) == ("llamas/official", 102, 3)
    assert found["scores"]["f1_50"] == {
        "baseline": 1.0, "method": 0.0, "difference": -1.0, "half_width": None, "seed_sd": None, "correlation": None,
    }  # fmt: skip
    assert "no interval: 3 clips" in run(*arguments).stdout


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ({"baseline": ["a", "b"], "method": ["c"]}, "2 trainings of the baseline and 1 of the method: give as many"),
        ({"baseline": ["a"], "method": ["a"]}, "a: given twice"),
        ({"baseline": ["a", "x/../a"], "method": ["c", "d"]}, "x/../a: given twice"),
        ({"baseline": [str(ROOT)], "method": ["nothing"]}, "nothing: no such file or folder: give the predictions"),
    ],
    ids=str,
)
def test_what_makes_no_pairs_is_refused_before_anything_is_scored(paths: dict[str, Any], told: str) -> None:
    given = {name: [Path(path) for path in found] for name, found in paths.items()}
    result = run("tusimple", "--labels", "nowhere.json", *arms(**given))
    assert isinstance(result.exception, InputError)
    assert told in str(result.exception)


def test_a_link_is_the_training_it_points_to_and_one_to_itself_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    for name, told in (("b", "b: given twice"), ("loop", "loop: no such file or folder")):
        result = run("tusimple", "--labels", "none", *arms(baseline=[tmp_path / "a"], method=[tmp_path / name]))
        assert isinstance(result.exception, InputError)
        assert told in str(result.exception)


def test_tusimple_has_no_bar_for_nothing_is_counted(
    tmp_path: Path, tusimple_labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich a terminal
    given = {name: [tusimple_file(tmp_path / f"{name}.json", np.ones(24))] for name in ("baseline", "method")}
    assert "scoring" not in run("tusimple", "--labels", tusimple_labels, *arms(**given)).stderr


def test_an_image_that_is_there_twice_leaves_no_pair_of_another(tmp_path: Path, tusimple_labels: Path) -> None:
    baseline = tusimple_file(tmp_path / "a.json", np.ones(24))
    method = tmp_path / "b.json"
    lines = baseline.read_text().splitlines(keepends=True)
    method.write_text("".join([lines[0], *lines[:-1]]))
    result = run("tusimple", "--labels", tusimple_labels, *arms(baseline=[baseline], method=[method]))
    assert isinstance(result.exception, InputError)
    assert "b.json: clips/drive0/0/20.jpg is there twice" in str(result.exception)


def test_a_label_without_rows_has_no_accuracy_to_compare(tmp_path: Path, tusimple_labels: Path) -> None:
    lines = tusimple_labels.read_text().splitlines(keepends=True)
    empty = {**json.loads(lines[0]), "lanes": [[]], "h_samples": []}
    tusimple_labels.write_text("".join([json.dumps(empty) + "\n", *lines[1:]]))
    given = {name: [tusimple_file(tmp_path / f"{name}.json", np.ones(24))] for name in ("baseline", "method")}
    for paths in given.values():
        first, *others = paths[0].read_text().splitlines(keepends=True)
        paths[0].write_text("".join([json.dumps({**json.loads(first), "lanes": [[]]}) + "\n", *others]))
    result = run("tusimple", "--labels", tusimple_labels, *arms(**given))
    assert isinstance(result.exception, InputError)
    assert "has no h_samples in its label" in str(result.exception)


def test_copies_of_one_training_are_told(tmp_path: Path, tusimple_labels: Path) -> None:
    hits = np.random.default_rng(0).random((3, 24)) < 0.5
    given = {
        "baseline": [tusimple_file(tmp_path / f"a{place}.json", hits[0]) for place in range(3)],
        "method": [tusimple_file(tmp_path / f"b{place}.json", row) for place, row in enumerate(hits[1:])],
    }
    given["method"].append(tusimple_file(tmp_path / "b2.json", ~hits[0]))
    arguments = ["tusimple", "--labels", tusimple_labels, *arms(**given)]
    found = run(*arguments, "--json")
    told = [warning for warning in json.loads(found.stdout)["warnings"] if "as many lanes are found" in warning["what"]]
    assert [warning["file"] for warning in told] == [str(path) for path in given["baseline"][1:]]
    assert f"a2.json: as many lanes are found as in {given['baseline'][0]}" in found.stderr


def test_who_finds_nothing_is_no_copy(tmp_path: Path, tusimple_labels: Path) -> None:
    nothing = {"baseline": [tmp_path / "a.json"], "method": [tmp_path / "b.json"]}
    for (path,) in nothing.values():
        lines = map(json.loads, tusimple_labels.read_text().splitlines())
        found = ({"raw_file": line["raw_file"], "lanes": [], "run_time": 1} for line in lines)
        path.write_text("".join(json.dumps(line) + "\n" for line in found))
    assert json.loads(run("tusimple", "--labels", tusimple_labels, *arms(**nothing), "--json").stdout)["warnings"] == []


@pytest.fixture
def roads(tmp_path: Path) -> Path:
    """Labels and two sets of predictions in CULane's form: 12 clips with a lane, which the method finds in none of `night`."""
    lane = "".join(f"800 {y} " for y in range(300, 600, 20)) + "\n"
    for place in range(12):
        for root, text in (("labels", lane), ("a", lane), ("b", lane if place % 2 else lane.replace("800", "400"))):
            file = tmp_path / root / f"drive{place}" / "0.lines.txt"
            file.parent.mkdir(parents=True)
            file.write_text(text)
    for name, drives in (("normal", range(0, 12, 2)), ("night", range(1, 12, 2))):
        (tmp_path / f"test0_{name}.txt").write_text("".join(f"drive{drive}/0.jpg\n" for drive in drives))
    return tmp_path


def culane(roads: Path, *lists: str) -> list[object]:
    pair = arms(baseline=[roads / "a"], method=[roads / "b"])
    return ["culane", "--labels", roads / "labels", *pair, *(roads / name for name in lists)]


def test_crossroads_alone_have_their_false_positives(roads: Path) -> None:
    for label in roads.glob("labels/*/*.txt"):
        label.write_text("")
    (roads / "test0_night.txt").rename(roads / "test7_cross.txt")
    found = run(*culane(roads, "test7_cross.txt"), "--json")
    scores = json.loads(found.stdout)["scores"]
    assert (scores["f1_50"], scores["cross_fp"]["baseline"], scores["cross_fp"]["difference"]) == (None, 6, 0)
    text = run(*culane(roads, "test0_normal.txt")).stdout  # no score at all
    assert "F1@50: no verdict: no labels" in text
    assert "±" not in text


def test_the_only_list_is_all_there_is_and_no_scenario_of_it(roads: Path) -> None:
    scores = json.loads(run(*culane(roads, "test0_normal.txt"), "--json").stdout)["scores"]
    assert list(scores) == ["f1_50", "f1_75", "mf1"]


def test_a_clip_of_culane_is_the_folder_of_its_images_and_none_above(roads: Path) -> None:
    """As in driver_23_30frame/05151640_0419.MP4/00000.jpg, where a driver has many clips."""
    for root in ("labels", "a", "b"):
        (roads / root / "driver").mkdir()
        for drive in (roads / root).glob("drive[0-9]*"):
            drive.rename(roads / root / "driver" / drive.name)
    lists = ["test0_normal.txt", "test0_night.txt"]
    for name in lists:
        (roads / name).write_text((roads / name).read_text().replace("drive", "driver/drive"))
    assert json.loads(run(*culane(roads, *lists), "--json").stdout)["clips"] == 12


def test_two_lists_of_one_name_but_for_the_number_stay_two_scenarios(roads: Path) -> None:
    (roads / "test0_night.txt").rename(roads / "normal.txt")
    scores = json.loads(run(*culane(roads, "test0_normal.txt", "normal.txt"), "--json").stdout)["scores"]
    assert [scores[key]["difference"] for key in ("f1_50", "normal", "scenario_test0_normal")] == [-0.5, 0, -1]


def test_scores_without_an_interval_are_named_and_so_are_lists_as_they_are(roads: Path) -> None:
    (roads / "test0_night.txt").rename(roads / "at [night].txt")
    text = run(*culane(roads, "test0_normal.txt", "at [night].txt")).stdout
    assert "│ at [night] │" in text
    assert "no interval: 6 clips (normal, at [night]); a clip is" in text
    assert "±: of these two trainings" in text


def test_a_warning_of_labels_is_told_once_and_each_path_has_its_first(roads: Path) -> None:
    (roads / "labels/drive0/0.lines.txt").write_text("800 500\n")
    for place in range(12):
        (roads / f"a/drive{place}/0.lines.txt").write_text("800 500\n")
    (roads / "b/drive0/0.lines.txt").write_text("800 500\n")
    found = run(*culane(roads, "test0_normal.txt", "test0_night.txt"), "--json")
    files = [str(Path(warning["file"]).relative_to(roads)) for warning in json.loads(found.stdout)["warnings"]]
    assert (files.count("labels/drive0/0.lines.txt"), files.count("b/drive0/0.lines.txt"), len(files)) == (1, 1, 14)
    assert str(roads / "b/drive0/0.lines.txt") in found.stderr


def test_of_uneven_clips_the_title_says_how_many_equal_ones_they_are(roads: Path) -> None:
    with (roads / "test0_night.txt").open("a") as file:
        file.write("drive1/0.jpg\n" * 10)
    assert "22 images in 12 clips (as good as" in run(*culane(roads, "test0_normal.txt", "test0_night.txt")).stdout
