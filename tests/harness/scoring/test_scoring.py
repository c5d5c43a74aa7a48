"""Every form's predictions are written, archived and scored alike: what the official metric says of the files is what is counted."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from harness.datasets.base import FORMS, Dataset, Frame, open_dataset
from harness.datasets.lines import write_lines_file
from harness.datasets.predictions import pack_predictions, unpack_predictions
from harness.datasets.tusimple import TuSimple
from harness.errors import InputError
from harness.files.fingerprint import fingerprint
from harness.files.stored import cache_folder
from harness.lanes import Lane
from harness.metrics.label_pack import PACKS, LabelPack
from harness.metrics.llamas import count_labels, find_labels
from harness.metrics.tusimple import score_file
from harness.records.counts import UNNAMED, AccuracyScores, OverlapScores, scope_scores
from harness.scoring import SCORINGS
from harness.scoring.headline import headline, score_of
from harness.scoring.images import of_images

SIZES = {"culane": (590, 1640), "tusimple": (720, 1280), "llamas": (717, 1276)}


@pytest.fixture(autouse=True)
def _labels_alone(trees: ModuleType, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring looks at no image."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(trees, "picture", lambda path, found, size: None)


def tree(trees: ModuleType, form: str, root: Path) -> Dataset:
    """A dataset of a form with ten frames in the split that is scored."""
    if form == "tusimple":
        trees.write_tusimple(root, {"train": 2, "test": 10})
    elif form == "llamas":
        trees.write_llamas(root, {"valid": 10})
    else:
        names = [f"driver_0/a.MP4/{number:05d}.jpg" for number in range(10)]
        (root / "list").mkdir(parents=True)
        (root / "list/test.txt").write_text("".join(f"/{name}\n" for name in names))
        for number, name in enumerate(names):
            path = root / name.replace(".jpg", ".lines.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_lines_file(path, trees.lanes(number, SIZES[form]))
    return open_dataset(form, root, image_size=SIZES[form])


def predictions(dataset: Dataset, split: str, seed: int = 3) -> list[list[Lane]]:
    """The labels, shaken; some frames lack a lane, some have one too many."""
    rng = np.random.default_rng(seed)
    found = []
    for number, frame in enumerate(dataset.frames(split)):
        lanes = [
            Lane(lane.points + rng.normal(0, 8, 2).astype(np.float32), 0.5 + 0.1 * k)
            for k, lane in enumerate(dataset.lanes(frame))
        ]
        if number % 3 == 0:
            lanes = lanes[1:]
        if number % 4 == 0:
            lanes.append(Lane([[700, 690], [640.3, 500], [600, 400]], 0.3))
        found.append(lanes)
    return found


def scored(dataset: Dataset, lanes: list[list[Lane]], folder: Path) -> Any:
    scoring = SCORINGS[dataset.form]
    dataset.write_predictions(folder, dataset.frames(scoring.split), lanes)
    done: list[int] = []
    counts, oddities = scoring.scorer(dataset, scoring.split, folder, progress=done.append, workers=1)
    assert sum(done) == len(counts.image)
    assert oddities == ()
    return counts


@pytest.mark.parametrize("form", FORMS)
def test_what_is_scored_is_what_is_archived(trees: ModuleType, tmp_path: Path, form: str) -> None:
    """Unpacked, written and scored again, an archive gives the same counts, image by image."""
    dataset = tree(trees, form, tmp_path / "data")
    frames, lanes = dataset.frames(SCORINGS[form].split), predictions(dataset, SCORINGS[form].split)
    first = scored(dataset, lanes, tmp_path / "first")
    pack_predictions(tmp_path / "a.npz", [frame.id for frame in frames], dataset.archived(frames, lanes))
    ids, unpacked = unpack_predictions(tmp_path / "a.npz")
    again = scored(dataset, unpacked, tmp_path / "again")
    assert ids == first.image.tolist()
    for field in fields(first):
        assert getattr(first, field.name).tolist() == getattr(again, field.name).tolist(), field.name
    files = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file()]
    assert len(files) == (1 if form == "tusimple" else 10)
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert set(first.scenario.tolist()) == {"unnamed"}
    assert first.clip.tolist() == [frame.clip for frame in frames]


@pytest.mark.parametrize("form", FORMS)
def test_a_prediction_that_repeats_a_point_is_scored(trees: ModuleType, tmp_path: Path, form: str) -> None:
    dataset = tree(trees, form, tmp_path / "data")
    split = SCORINGS[form].split
    lanes = predictions(dataset, split)
    repeating = [[Lane(np.repeat(lane.points, 2, axis=0), lane.score) for lane in found] for found in lanes]
    counts = scored(dataset, dataset.archived(dataset.frames(split), repeating), tmp_path / "repeating")
    assert scope_scores(counts) == scope_scores(scored(dataset, lanes, tmp_path / "plain"))


@pytest.mark.parametrize("form", FORMS)
def test_images_that_the_labels_arent_made_for_are_never_scored(trees: ModuleType, tmp_path: Path, form: str) -> None:
    dataset = tree(trees, form, tmp_path / "data")
    frame = dataset.frames(SCORINGS[form].split)[3]
    frame.image.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(frame.image), np.zeros((295, 820, 3), np.uint8))
    with pytest.raises(InputError, match=rf"{frame.image.name}: 820 x 295 pixels, but "):
        scored(dataset, predictions(dataset, SCORINGS[form].split), tmp_path / "out")


def test_culanes_labels_are_painted_once(trees: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tree(trees, "culane", tmp_path / "data")
    first = scored(dataset, predictions(dataset, "test"), tmp_path / "first")
    assert [path.parent.name for path in cache_folder().rglob("*.painted")] == [PACKS]
    monkeypatch.setattr(LabelPack, "add", lambda *_: pytest.fail("painted again"))
    again = scored(dataset, predictions(dataset, "test"), tmp_path / "again")
    assert again.true_positives.tolist() == first.true_positives.tolist()
    other = predictions(dataset, "test", seed=4)
    assert scored(dataset, other, tmp_path / "other").true_positives.tolist() != first.true_positives.tolist()


def test_tusimples_scores_are_those_of_the_official_metric(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "tusimple", tmp_path / "data")
    counts = scored(dataset, predictions(dataset, "test"), tmp_path / "out")
    official, _ = score_file(tmp_path / "data/test_label.json", tmp_path / "out/predictions.json")
    scores = scope_scores(counts)
    assert isinstance(scores, AccuracyScores)
    assert (scores.accuracy, scores.fp, scores.fn) == (
        official.mean(official.accuracy), official.mean(official.fp), official.mean(official.fn),
    )  # fmt: skip
    assert (scores.f1_clrnet, scores.f1_matched) == (official.f1_clrnet, official.f1_matched)
    assert scores.images_with_negative_fp == official.images_with_negative_fp
    assert 0 < scores.fn < 1
    assert 0.5 < scores.accuracy < 1
    clips = counts.clip.tolist()
    assert [one == other for one, other in pairwise(clips)] == [True, False] * 4 + [True]


def test_llamas_scores_are_those_of_the_official_metric(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "llamas", tmp_path / "data")
    counts = scored(dataset, predictions(dataset, "val"), tmp_path / "out")
    official, _ = count_labels(find_labels(tmp_path / "data/labels/valid"), tmp_path / "out")
    scores = scope_scores(counts)
    assert isinstance(scores, OverlapScores)
    assert scores.true_positives == tuple(official.tp.sum(axis=0).tolist())
    assert (scores.labels, scores.predictions) == (int(official.n_gt.sum()), int(official.n_pred.sum()))
    assert scores.f1_50 == pytest.approx(official.sums(0.5).f1)
    assert scores.mf1 == pytest.approx(official.mf1)
    assert scores.f1_75 is not None
    assert scores.f1_50 is not None
    assert 0 < scores.f1_75 < scores.f1_50 < 1
    assert headline(scores) == scores.f1_50


def test_the_two_label_files_of_tusimples_training_set_are_scored_as_one(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "tusimple", tmp_path / "data")
    assert isinstance(dataset, TuSimple)
    for file in dataset.label_files("train"):
        file.write_text(file.read_text().removesuffix("\n"))
    frames = dataset.frames("train")
    dataset.write_predictions(tmp_path / "out", frames, [dataset.lanes(frame) for frame in frames])
    counts, _ = SCORINGS["tusimple"].scorer(dataset, "train", tmp_path / "out", progress=lambda done: None, workers=1)
    assert len(counts.image) == 3
    assert counts.quality().tolist() == [1.0] * 3


@pytest.mark.parametrize("form", FORMS)
def test_predictions_of_fewer_or_more_images_than_there_are_frames_are_refused(
    trees: ModuleType, tmp_path: Path, form: str
) -> None:
    dataset = tree(trees, form, tmp_path / "data")
    frames = dataset.frames(SCORINGS[form].split)
    lanes = predictions(dataset, SCORINGS[form].split)
    for unequal in (lanes[:-1], [*lanes, []]):
        with pytest.raises(ValueError, match="argument 2 is"):
            dataset.archived(frames, unequal)
        with pytest.raises(ValueError, match="argument 2 is"):
            dataset.write_predictions(tmp_path / "out", frames, unequal)


@pytest.mark.parametrize("form", FORMS)
def test_a_prediction_that_is_missing_is_refused(trees: ModuleType, tmp_path: Path, form: str) -> None:
    dataset = tree(trees, form, tmp_path / "data")
    scored(dataset, predictions(dataset, SCORINGS[form].split), tmp_path / "out")
    victim = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())[0]
    if form == "tusimple":
        victim.write_text(victim.read_text().split("\n", 1)[1])
    else:
        victim.unlink()
    with pytest.raises(InputError, match=victim.name):
        SCORINGS[form].scorer(dataset, SCORINGS[form].split, tmp_path / "out", progress=lambda done: None, workers=1)


def test_a_label_of_culane_that_is_missing_is_refused_and_one_that_is_odd_is_scored(
    trees: ModuleType, tmp_path: Path
) -> None:
    """Lanes of an image without its label would all be false, and those that it lacks missed by nobody."""
    dataset = tree(trees, "culane", tmp_path / "data")
    lanes = predictions(dataset, "test")
    label = next(iter(sorted((tmp_path / "data").rglob("*.lines.txt"))))
    label.write_text(label.read_text() + "5 6\n")
    dataset.write_predictions(tmp_path / "out", dataset.frames("test"), lanes)
    scorer = SCORINGS["culane"].scorer
    counts, (oddity,) = scorer(dataset, "test", tmp_path / "out", progress=lambda done: None, workers=1)
    assert (oddity.file, counts.labels[0]) == (label, counts.labels[1] + 1)
    label.unlink()
    with pytest.raises(InputError, match=rf"data/.*{label.name}: there is no such file"):
        scorer(dataset, "test", tmp_path / "out", progress=lambda done: None, workers=1)


@pytest.mark.parametrize("form", ["culane", "llamas"])
def test_an_odd_prediction_is_refused_by_file_and_line(trees: ModuleType, tmp_path: Path, form: str) -> None:
    dataset = tree(trees, form, tmp_path / "data")
    split = SCORINGS[form].split
    dataset.write_predictions(tmp_path / "out", dataset.frames(split), predictions(dataset, split))
    victim = sorted((tmp_path / "out").rglob("*.lines.txt"))[1]
    victim.write_text("5 6\n")
    with pytest.raises(InputError, match=rf"out/.*{victim.name}, line 1: "):
        SCORINGS[form].scorer(dataset, split, tmp_path / "out", progress=lambda done: None, workers=1)


def test_a_frame_predicted_twice_is_refused_in_tusimple(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "tusimple", tmp_path / "data")
    scored(dataset, predictions(dataset, "test"), tmp_path / "out")
    path = tmp_path / "out/predictions.json"
    first, _, *others = path.read_text().splitlines()
    path.write_text("\n".join([first, first, *others]) + "\n")
    with pytest.raises(InputError, match=r"predictions\.json, line 2: .* predicted again"):
        SCORINGS["tusimple"].scorer(dataset, "test", tmp_path / "out", progress=lambda done: None, workers=1)


def test_run_time_is_zero_so_that_no_frame_is_too_slow(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "tusimple", tmp_path / "data")
    scored(dataset, predictions(dataset, "test"), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.json").read_text().splitlines()]
    assert {line["run_time"] for line in lines} == {0}
    assert all(x == -2 or (8 * x).is_integer() for line in lines for lane in line["lanes"] for x in map(float, lane))


def test_each_forms_code_is_its_own() -> None:
    """A change in one metric makes no other form's scores stale."""
    for form, scoring in SCORINGS.items():
        files = fingerprint([scoring.module])
        assert f"harness/metrics/{form}.py" in files
        for other in set(SCORINGS) - {form}:
            assert f"harness/metrics/{other}.py" not in files
            assert f"harness/datasets/{other}.py" not in files
        assert set(SCORINGS) == set(FORMS)
        assert scoring.metric == f"{form}/official"


def test_the_headline_of_tusimples_form_is_its_accuracy() -> None:
    scores = AccuracyScores(
        images=2, labels=8, predictions=8, matched=6, accuracy=0.9, fp=0.1, fn=0.2, f1_clrnet=0.8, f1_matched=0.75,
        images_with_negative_fp=0,
    )  # fmt: skip
    assert headline(scores) == 0.9


def test_a_frame_without_a_scenario_is_counted_under_a_name() -> None:
    frames = [Frame(f"{scenario}.jpg", Path("a.jpg"), scenario, "clip") for scenario in ("night", None)]
    assert of_images(frames)["scenario"].tolist() == ["night", UNNAMED]


def test_a_headline_score_that_is_not_defined_is_0(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "culane", tmp_path)
    frame = dataset.frames("test")[0]
    (tmp_path / frame.id).with_suffix(".lines.txt").write_text("")
    assert score_of(dataset, "test", [frame], [()], workers=1) == 0.0


def test_a_headline_score_is_of_the_chosen_frames_alone(trees: ModuleType, tmp_path: Path) -> None:
    dataset = tree(trees, "culane", tmp_path)
    chosen = [frame for frame in dataset.frames("test") if dataset.lanes(frame)][:4]
    labels = [dataset.lanes(frame) for frame in chosen]
    assert score_of(dataset, "test", chosen, labels, workers=1) == 1.0
    half: list[list[Lane]] = [*labels[:2], [], []]
    found, count = sum(map(len, labels[:2])), sum(map(len, labels))
    assert score_of(dataset, "test", chosen, half, workers=1) == pytest.approx(2 * found / (found + count))
    assert score_of(dataset, "test", chosen, [()] * 4, workers=1) == 0.0
    repeating = [[Lane(np.repeat(lane.points, 2, axis=0)) for lane in lanes] for lanes in labels]
    assert score_of(dataset, "test", chosen, repeating, workers=1) == 1.0
