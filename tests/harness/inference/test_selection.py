"""The best step on the validation split, from a suite to its record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml

from detectors.base import Detector, Tap
from detectors.meta import Configuration, DetectorMeta, InputSize, Recipe
from harness.cell import artefacts, predict, timing, train
from harness.cell.keys import made_from
from harness.cell.phases import phase_state
from harness.datasets.base import open_dataset
from harness.errors import InputError
from harness.inference.detector import load_detector
from harness.inference.predict import Settings
from harness.inference.selection import THRESHOLDS, Threshold, best_threshold, check_selectable
from harness.lanes import Lane
from harness.matrix.jobs import jobs_of
from harness.matrix.plan import make_plan
from harness.publishing.agreement import disagreements
from harness.records.record import Record, read_records
from harness.records.timings import Throughput
from harness.report.arms import why_not_ranked
from harness.scoring.headline import headline, score_of
from harness.suite import Suite, load_suite
from harness.suite.evaluations import splits_read
from harness.throughput.protocol import PROTOCOLS
from harness.training.checkpoint import load_training_state

SPLIT = {"frames": 8, "frames_per_clip": 2}
STEPS = 8


def suite_of(folder: Path, **training: object) -> Suite:
    """One cell of a small detector, with a validation split."""
    spec = {"seed": 7, "difficulty": 0.2, "width": 820, "height": 295, "splits": dict.fromkeys(("train", "val"), SPLIT)}
    suite = {
        "title": "chosen",
        "datasets": {"roads": {"rendered": spec}},
        "detectors": {"lstr_micro": {"recipe": {"steps": STEPS, "batch_size": 4}}},
        "methods": {"baseline": None},
        "evaluations": {"val": {"split": "val"}},
        "training": {"threads": 1, "device": "cpu", **training},
        "throughput": "lane-latency/1-short",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chosen.yaml").write_text(yaml.safe_dump(suite))
    return load_suite(str(folder / "chosen.yaml"))


def run(suite: Suite, results: Path) -> Path:
    """Run the suite's one cell in this process, without its record; gives the folder of its training."""
    plan = make_plan(suite, results)
    for job in jobs_of(plan):
        if not job.name.startswith("time "):
            job.task(lambda event: None)
    train = plan.cells[0].phases.train
    assert phase_state(train).state == "done"
    return train.folder


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Frames are rendered in this process, for others start for longer than they render, and times measured once each."""
    short = PROTOCOLS["lane-latency/1-short"]
    counts = {name: 1 for name in vars(short) if name.endswith("iterations")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artefacts, "available_cores", lambda: 1)
        patch.setitem(PROTOCOLS, "lane-latency/1-short", type(short)(**{**vars(short), **counts}))
        patch.setattr("harness.throughput.measurement.reference_milliseconds", lambda *_, **__: 1.0)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The cell's training by both rules, in one folder of results, with the states that it could have been continued from."""
    folder = tmp_path_factory.mktemp("chosen")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "drop_state", lambda folder: None)
        found = {
            rule: run(suite_of(folder, selection=rule, validations=3), folder / "results")
            for rule in ("last", "val-best")
        }
    yield found
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def record(runs: dict[str, Path]) -> Record:
    """The record of the cell whose best step was chosen."""
    folder = runs["val-best"].parents[4]
    plan = make_plan(suite_of(folder, selection="val-best", validations=3), folder / "results")
    for job in jobs_of(plan):
        job.task(lambda event: None)
    (found,) = read_records(folder / "results/chosen/records")
    return found


def test_it_is_validated_evenly_and_at_the_last_step(runs: dict[str, Path]) -> None:
    folder = runs["val-best"]
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [3, 6, 8]


def test_validation_leaves_no_trace_in_the_training(runs: dict[str, Path]) -> None:
    states = [load_training_state(folder / "training.safetensors") for folder in runs.values()]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    assert torch.equal(*(state["random"][0]["torch"] for state in states))


def test_the_record_says_what_was_chosen_on_and_that_row_is_not_ranked(record: Record) -> None:
    assert (record.identity.selection, record.identity.validations, record.selected_on) == ("val-best", 3, "val")
    assert why_not_ranked(record, record.evaluations[0]) == ["checkpoint selected on the scored split 'val'"]
    assert record.training.best_step in (3, 6, 8)
    assert list(disagreements(record)) == []
    # The same detector scored by the phases of a cell.
    assert record.training.best_score == pytest.approx(headline(record.evaluations[0].total), abs=1e-12)


def test_the_checkpoint_is_of_the_best_step(runs: dict[str, Path]) -> None:
    folder = runs["val-best"]
    best = load_training_state(folder / "best.safetensors")["model"]
    detector = load_detector(folder / "checkpoint.safetensors")
    for name, value in detector.state_dict().items():
        assert torch.equal(value, best[f"detector.{name}"])


def test_a_finished_training_keeps_nothing_to_continue_from_and_one_killed_at_its_very_end_is_not_made_again(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The frames are those of the other runs.
    shutil.copytree(runs["last"].parents[3] / "artefacts", tmp_path / "results/artefacts", copy_function=os.link)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    suite = suite_of(tmp_path, selection="val-best", validations=3)
    with monkeypatch.context() as patch:
        patch.setattr(train, "drop_state", killed)
        with pytest.raises(KeyboardInterrupt):
            run(suite, tmp_path / "results")
    (part,) = (tmp_path / "results").glob("chosen/cells/*/train.part")
    kept = {name: (part / name).stat().st_mtime_ns for name in ("checkpoint.safetensors", "training.jsonl")}
    assert (part / "training.safetensors").is_file()
    folder = run(suite, tmp_path / "results")
    assert kept == {name: (folder / name).stat().st_mtime_ns for name in kept}
    assert {path.name for path in folder.iterdir()} == {*kept, "summary.json", "begun.json", "phase.json"}


def test_lanes_that_are_the_labels_score_one(runs: dict[str, Path]) -> None:
    folder = runs["last"]
    (root,) = (folder.parents[3] / "artefacts/rendered").glob("culane-*/dataset")
    dataset = open_dataset("culane", root, image_size=(295, 820))
    frames = dataset.frames("val")
    labels = [dataset.lanes(frame) for frame in frames]
    assert score_of(dataset, "val", frames, labels, workers=1) == 1.0
    repeating = [[Lane(np.repeat(lane.points, 2, axis=0)) for lane in lanes] for lanes in labels]
    assert score_of(dataset, "val", frames, repeating, workers=1) == 1.0
    nothing: list[list[Lane]] = [[] for _ in frames]
    assert score_of(dataset, "val", frames, nothing, workers=1) == 0.0


def test_a_dataset_without_validation_split_is_refused_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train_gt.txt").write_text("/a/b/0.jpg /m.png 1 1 1 1\n")
    dataset = open_dataset("culane", tmp_path)
    for key in ("selection", "confidence"):
        with pytest.raises(
            InputError, match=rf"no split 'val' with labels, which key 'training\.{key}: val-best' chooses"
        ):
            check_selectable(dataset, f"training.{key}")


def test_a_suite_whose_rendered_dataset_lacks_it_is_refused(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, confidence="val-best")
    suite.evaluations.clear()
    assert splits_read(suite)["roads"]["val"] == "training.confidence"
    suite = suite_of(tmp_path, selection="val-best")
    assert splits_read(suite)["roads"]["val"] == "training.selection"
    text = (tmp_path / "chosen.yaml").read_text().replace("      val:", "      test:")
    (tmp_path / "chosen.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"datasets\.roads\.rendered\.splits': has no 'val', which training\.selection"
    ):
        load_suite(str(tmp_path / "chosen.yaml"))


class Scored(Detector):
    """Predicts every label of an image, and a lane that is none, with scores that depend on the label's number; it needs no weights."""

    metas: ClassVar = {}

    def __init__(self, labels: list[list[Lane]], wrong: float) -> None:
        size = InputSize(frame=(295, 820), crop=(0, 0, 295, 820), network=(32, 64))
        recipe = Recipe(
            optimizer="sgd", learning_rate=1, schedule="constant", steps=1, batch_size=1, confidence_threshold=0.5
        )
        meta = DetectorMeta(
            name="scored", paper="", year=2000, family="anchor", backbone="", upstream="", licence="",
            configurations={"culane": Configuration(input=size, recipe=recipe)},
        )  # fmt: skip
        super().__init__(meta, "culane")
        self.labels, self.wrong, self.image, self.forwards = labels, wrong, 0, 0

    def taps(self) -> tuple[Tap, ...]:
        return ()

    def encode_targets(self, lanes: Any, geometry: Any) -> dict[str, Any]:
        return {}

    def losses(self, outputs: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {}

    def forward(self, images: torch.Tensor) -> list[int]:
        self.forwards += 1
        self.image += len(images)
        return list(range(self.image - len(images), self.image))

    def decode(self, outputs: list[int], geometries: Any) -> list[list[Lane]]:
        threshold = self.configuration.recipe.confidence_threshold
        found = []
        for image in outputs:
            right = [Lane(lane.points, 0.32 + 0.1 * place) for place, lane in enumerate(self.labels[image])]
            none = Lane(np.array([[5, 290], [5, 150]], np.float32), self.wrong)
            found.append([lane for lane in (*right, none) if lane.score is not None and lane.score >= threshold])
        return found


@pytest.mark.parametrize(("wrong", "expected"), [(0.27, 0.3), (0.02, 0.3), (0.9, 0.3)])
def test_the_best_threshold_keeps_what_is_right_and_leaves_what_is_not(
    runs: dict[str, Path], wrong: float, expected: float
) -> None:
    """Right lanes score .32 and above. With a wrong one below all of them every threshold between is best, the next to .5 is taken."""
    (root,) = (runs["last"].parents[3] / "artefacts/rendered").glob("culane-*/dataset")
    dataset = open_dataset("culane", root, image_size=(295, 820))
    labels = [dataset.lanes(frame) for frame in dataset.frames("val")]
    detector = Scored(labels, wrong)
    found = best_threshold(detector, dataset, Settings(torch.device("cpu")), threads=1)
    assert detector.forwards == 1, "one forward an image, whatever the count of thresholds"
    assert detector.configuration.recipe.confidence_threshold == 0.5, "left as it was"
    assert [threshold for threshold, _ in found.tried] == sorted({*THRESHOLDS, 0.5})
    assert found.threshold == expected
    assert found.score == max(score for _, score in found.tried)
    count = sum(map(len, labels))
    score = 1.0 if wrong < expected else 2 * count / (2 * count + len(labels))
    assert found.score == pytest.approx(score)


def test_the_threshold_of_a_cell_is_chosen_on_val_recorded_and_used(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Eight steps find no lane with any threshold, so which is chosen has to be said.
    given: list[float] = []
    choose, measure = predict.best_threshold, timing.measure

    def chosen(*asked: Any, **options: Any) -> Threshold:
        found = choose(*asked, **options)
        assert (found.threshold, found.score) == (0.5, 0.0), "of equals the detector's own"
        return replace(found, threshold=0.85)

    def timed(detector: Detector, *others: Any, **options: Any) -> Throughput:
        given.append(detector.configuration.recipe.confidence_threshold)
        return measure(detector, *others, **options)

    monkeypatch.setattr(predict, "best_threshold", chosen)
    monkeypatch.setattr(timing, "measure", timed)
    folder = runs["last"].parents[4]
    suite = suite_of(folder, confidence="val-best")
    plan = make_plan(suite, folder / "results")
    cell = plan.cells[0]
    assert [phase.name for phase, _ in cell.states] == ["train", "threshold", "predict-val", "score-val", "time"]
    for job in jobs_of(plan):
        job.task(lambda event: None)
    (record,) = (
        one for one in read_records(folder / "results/chosen/records") if one.identity.confidence == "val-best"
    )
    assert record.evaluations[0].confidence_threshold == 0.85
    assert list(disagreements(record)) == []
    assert given == [0.85]
    assert record.selected_on == "val"
    assert why_not_ranked(record, record.evaluations[0]) == ["confidence threshold selected on the scored split 'val'"]
    assert make_plan(suite, folder / "results").cells[0].done
    assert made_from("predict-val") == made_from("time") == {"train", "threshold"}
    # The training is that of the other rule.
    checkpoints = [path / "checkpoint.safetensors" for path in (cell.phases.train.folder, runs["last"])]
    assert checkpoints[0].read_bytes() == checkpoints[1].read_bytes()
