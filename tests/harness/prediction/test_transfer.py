"""`samiro-bench transfer`: every trained detector of a suite on a labelled folder, on pictures whose lanes are known."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detectors.registry import find_adapter
from harness.cell.keys import cell_phases
from harness.cell.phases import run_phase
from harness.cli.main import main
from harness.prediction import labelled_table
from harness.prediction.labelled import BrokenCandidate, candidate_of_cell
from harness.prediction.trained import recorded_sha256, trained_cells
from harness.suite import cells_of, load_suite
from harness.training.checkpoint import save_inference_checkpoint
from tests.harness.prediction.brightest import brightest

ADAPTER = brightest(frame=(590, 1640), crop=(0, 0, 590, 1640), network=(59, 410))

SUITE = """
title: Posts
datasets:
  near: {rendered: {seed: 7, splits: {train: {frames: 4}, val: {frames: 2}, test: {frames: 2}}}}
  far: {rendered: {seed: 8, splits: {train: {frames: 4}, val: {frames: 2}, test: {frames: 2}}}}
detectors:
  brightest.py:Brightest:
methods:
  baseline:
seeds: 2
training: {threads: 1, device: cpu, confidence: CONFIDENCE}
throughput: lane-latency/1-short
"""

ADAPTER_NAME = "brightest.py:Brightest"
SHIFTS = {("near", 0): -0.5, ("near", 1): 12.0, ("far", 0): 60.0, ("far", 1): 2.0}
"""Columns, of 410, that a cell's detector adds. With 2 it meets a post's middle; with -0.5 it is 9 px off, an IoU between .5 and .55;
with the others further than a lane is wide."""


def store(file: Path, add: float) -> None:
    found = find_adapter(ADAPTER_NAME)
    built = found.detector(found.meta, "culane")
    built.add.data += add  # type: ignore[operator, union-attr]
    facts = {
        "detector": "brightest", "form": "culane", "meta": found.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"}, "origin": found.origin,
    }  # fmt: skip
    save_inference_checkpoint(file, built, facts)


def train(suite: str, *, chosen: float | None = None, without: tuple[str, int] | None = None) -> None:
    """Leave what training leaves of every cell, and a chosen threshold where the suite has one chosen."""
    for cell in cells_of(load_suite(suite)):
        key = (cell.identity.dataset, cell.identity.seed)
        phases = cell_phases(Path("results/local"), cell)
        if key == without:
            continue
        run_phase(phases.train, lambda folder, key=key: store(folder / "checkpoint.safetensors", SHIFTS[key]))  # type: ignore[misc]
        if phases.threshold is not None and chosen is not None:
            text = json.dumps({"threshold": chosen})
            run_phase(phases.threshold, lambda folder, text=text: (folder / "threshold.json").write_text(text))  # type: ignore[misc]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a suite, its adapter, and three labelled pictures: a white post, which is a lane, and a lane that nobody sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("brightest.py").write_text(ADAPTER)
    Path("posts.yaml").write_text(SUITE.replace("CONFIDENCE", "published"))
    Path("photos").mkdir()
    for number, x in enumerate((300, 640, 900)):
        picture, mask = np.zeros((720, 1280, 3), np.uint8), np.zeros((720, 1280), np.uint8)
        picture[:, x - 8 : x + 8] = 200
        mask[:, x - 2 : x + 3], mask[:, 1100:1105] = 50, 120
        assert cv2.imwrite(f"photos/{number}.png", picture)
        assert cv2.imwrite(f"photos/gt_instance_{number}.png", mask)
    assert main(["data", "masks", "photos", "six"]) == 0
    return tmp_path


def transfer(*words: str) -> int:
    return main(["transfer", "posts.yaml", "six", *words])


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert transfer("--json", *words) == 0
    return json.loads(capsys.readouterr().out)


def by_hand(checkpoint: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The figures that `predict` and `score culane` give of a checkpoint."""
    assert main(["predict", ADAPTER_NAME, "--checkpoint", str(checkpoint), "--out", str(out), "six"]) == 0
    capsys.readouterr()
    assert main(["score", "culane", "--labels", "six", "--predictions", str(out), "six/list/test.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["iou"]
    half, strict = found["0.50"], found["0.75"]
    return {
        "f1_50": half["f1"] or 0.0, "f1_75": strict["f1"] or 0.0,
        "found": half["tp"], "false": half["fp"], "missed": half["fn"],
    }  # fmt: skip


def test_the_figures_are_those_of_predict_and_score(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("posts.yaml")
    store(here / "mine.safetensors", 2.0)
    found = answer(capsys, "--checkpoint", f"{ADAPTER_NAME}=mine.safetensors", "--out", "kept/posts")
    assert (found["metric"], found["images"], found["lanes"], found["left_out"]) == ("culane/official", 3, 6, [])
    assert len(found["rows"]) == 3
    scored = 0
    for row in found["rows"]:
        for one in row["checkpoints"]:
            name = one["checkpoint"]
            weights = (
                here / row["weights_from"]
                if row["method"] is None
                else here / f"results/local/posts/cells/{name}/train/checkpoint.safetensors"
            )
            expected = by_hand(weights, here / "hand" / name, capsys)
            assert {key: one[key] for key in expected} == expected
            kept, hand = here / "kept/posts/predictions" / name, here / "hand" / name
            files = [path.relative_to(hand) for path in sorted(hand.rglob("*.lines.txt"))]
            assert len(files) == 3
            assert [(kept / path).read_bytes() for path in files] == [(hand / path).read_bytes() for path in files]
            scored += expected["found"]
    assert scored == 9  # the three posts by three of five; two are further off than a lane is wide


def test_rows_are_means_over_seeds_best_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("posts.yaml")
    store(here / "mine.safetensors", 60.0)
    words = ("--checkpoint", f"{ADAPTER_NAME}=mine.safetensors")
    far, near, mine = answer(capsys, *words)["rows"]
    # Of two lanes a picture the post is found: F1 = 2 * 3 / (6 + 3). Where F1@50 is equal, F1@75 decides.
    assert [one["f1_50"] for one in far["checkpoints"]] == pytest.approx([0.0, 2 / 3])
    assert [one["f1_50"] for one in near["checkpoints"]] == pytest.approx([2 / 3, 0.0])
    assert [row["f1_75"] for row in (far, near, mine)] == pytest.approx([1 / 3, 0.0, 0.0])
    assert [row["weights_from"] for row in (far, near, mine)] == ["far", "near", "mine.safetensors"]
    assert (far["f1_50"], far["found"], far["false"], far["missed"]) == (pytest.approx(1 / 3), 3, 3, 9)
    assert transfer(*words, "--out", "kept") == 0
    said = capsys.readouterr().out
    assert "six, test: culane/official, 3 images, 6 lanes" in said
    page = Path("kept/transfer.md").read_text()
    for text in (said, page):
        (line,) = [line for line in text.splitlines() if "far" in line]
        assert line.replace("|", " ").split() == [
            "brightest", "baseline", "far", "2", "33.3", "0.0,", "66.7", "3", "3", "9", "33.3",
        ]  # fmt: skip
    lines = list(csv.DictReader(Path("kept/transfer.csv").read_text().splitlines()))
    assert [(line["weights_from"], line["seed"], line["found"]) for line in lines] == [
        ("far", "0", "0"), ("far", "1", "3"), ("near", "0", "3"), ("near", "1", "0"), ("mine.safetensors", "", "0"),
    ]  # fmt: skip


def test_cells_are_chosen_and_a_crop_is_taken_as_elsewhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("posts.yaml")
    (row,) = answer(capsys, "--only", "dataset=near", "--skip", "seed=1")["rows"]
    assert [one["seed"] for one in row["checkpoints"]] == [0]
    # A part without the first picture's post: there is no bright column in it.
    (row,) = answer(capsys, "--only", "dataset=far,seed=1", "--crop", "1000x500+640+0")["rows"]
    assert (row["found"], row["missed"]) == (2, 4)


def test_stale_cells_are_scored_and_named_and_those_without_a_checkpoint_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("posts.yaml", without=("far", 1))
    (stale,) = Path("results/local/posts/cells").glob("near-*-s0-*/train/phase.json")
    phase = json.loads(stale.read_text())
    phase["fingerprint"] = dict.fromkeys(phase["fingerprint"], "other")
    stale.write_text(json.dumps(phase))
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")}
    capsys.readouterr()
    assert transfer("--out", "kept") == 0
    said = capsys.readouterr().err
    page = Path("kept/transfer.md").read_text()
    for text in (said, page):
        assert f"says which): {stale.parents[1].name}" in text
        assert "left out: far-brightest-baseline-s1-" in text
    assert {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")} == before
    found = answer(capsys)
    assert [one["stale"] for row in found["rows"] for one in row["checkpoints"]] == [True, False, False]
    assert len(found["left_out"]) == 1


def test_a_chosen_threshold_holds_and_a_cell_without_one_isnt_finished(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("posts.yaml").write_text(SUITE.replace("CONFIDENCE", "val-best"))
    train("posts.yaml")
    assert transfer() == 2
    assert "no cell is trained yet" in complaint(capsys)
    train("posts.yaml", chosen=0.95)
    assert all(row["found"] == row["false"] == 0 for row in answer(capsys)["rows"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["minni", "six"], "did you mean 'mini'"),
        (["posts.yaml", "nowhere"], "nowhere: no such folder"),
        (["posts.yaml", "photos"], "isn't in CULane's layout"),
        (["posts.yaml", "six", "--split", "val"], "no val.txt"),
        (["posts.yaml", "six", "--results", "none"], "no cell is trained yet; `samiro-bench bench posts.yaml`"),
        (["posts.yaml", "six", "--only", "seed=7"], "seed=7"),
        (["posts.yaml", "six", "--checkpoint", "mine.safetensors"], "write DETECTOR=FILE"),
        (["posts.yaml", "six", "--checkpoint", "lstr_micro=none.safetensors"], "none.safetensors is missing"),
        (["posts.yaml", "six", "--out", "photos"], "photos: exists already"),
        (["posts.yaml", "six", "--out", "posts.yaml/kept"], "posts.yaml is no folder"),
        (["posts.yaml", "six", "--out", f"{250 * 'k'}"], "can't be made in"),
        (["posts.yaml", "posts.yaml"], "posts.yaml: is a file; give a folder"),
        (["posts.yaml", "six", "--crop", "1700x590+0+0"], "too small for the crop"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line_and_leaves_nothing(
    words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("posts.yaml")
    before = sorted(here.rglob("*"))
    words = words if "--out" in words else [*words, "--out", "kept/posts"]
    capsys.readouterr()
    assert main(["transfer", *words]) == 2
    assert said in complaint(capsys)
    assert [path for path in sorted(here.rglob("*")) if "cache" not in path.parts] == [
        path for path in before if "cache" not in path.parts
    ]


def test_weights_that_are_given_twice_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(here / "mine.safetensors", 2.0)
    capsys.readouterr()
    assert transfer(*["--checkpoint", f"{ADAPTER_NAME}=mine.safetensors"] * 2) == 2
    assert "given twice" in complaint(capsys)


def damaged_image() -> None:
    Path("six/images/1.png").write_bytes(b"no picture")


def other_size() -> None:
    assert cv2.imwrite("six/images/1.png", np.zeros((100, 100, 3), np.uint8))


def no_lane() -> None:
    for file in Path("six/images").glob("*.lines.txt"):
        file.write_text("")


def lone_points() -> None:
    for file in Path("six/images").glob("*.lines.txt"):
        file.write_text("5 6\n\n")


def listed(more: str) -> None:
    with Path("six/list/test.txt").open("a") as file:
        file.write(f"/{more}\n")


def twins() -> None:
    shutil.copy("six/images/1.png", "six/images/0.jpg")
    listed("images/0.jpg")


def a_video() -> None:
    Path("six/images/0.png").rename("six/images/0.mp4")
    Path("six/list/test.txt").write_text("/images/0.mp4\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda: Path("six/images/1.png").unlink(), "list/test.txt: images/1.png is listed, but isn't there"),
        (lambda: Path("six/images/1.lines.txt").unlink(), "images/1.lines.txt"),
        (lambda: Path("six/images/1.lines.txt").write_text("1 2 three"), "images/1.lines.txt:1"),
        (damaged_image, "images/1.png"),
        (other_size, "100 x 100 pixels"),
        (no_lane, "no lane of two points"),
        (lone_points, "no lane of two points"),
        (twins, "list/test.txt:4: images/0.jpg has the label file of images/0.png, images/0.lines.txt: rename one"),
        (a_video, "list/test.txt: images/0.mp4 is no image by its name"),
    ],
)
def test_a_folder_that_is_damaged_or_has_no_labels_is_told_by_the_file(
    damage: Any, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("posts.yaml")
    damage()
    capsys.readouterr()
    assert transfer("--out", "kept") == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("kept").exists()


def cell_folder(dataset: str, seed: int) -> Path:
    (found,) = Path("results/local/posts/cells").glob(f"{dataset}-*-s{seed}-*")
    return found


def without_numbers(file: Path) -> None:
    store(file, float("nan"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(b"torn"), "not a readable safetensors file"),
        (lambda file: file.unlink(), "No such file or directory"),
        (without_numbers, "coordinates that are no numbers; its weights are broken"),
    ],
)
def test_a_cell_whose_weights_are_damaged_is_named_and_the_others_are_scored(
    damage: Any, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("posts.yaml")
    cell = cell_folder("near", 0)
    damage(cell / "train/checkpoint.safetensors")
    capsys.readouterr()
    assert transfer("--out", "kept") == 1
    told = capsys.readouterr().err
    for text in (told, Path("kept/transfer.md").read_text()):
        (line,) = [line for line in text.splitlines() if "not scored: " in line]
        assert cell.name in line
        assert said in line
    lines = list(csv.DictReader(Path("kept/transfer.csv").read_text().splitlines()))
    assert [(line["weights_from"], line["seed"]) for line in lines] == [("far", "0"), ("far", "1"), ("near", "1")]
    assert len(list(Path("kept/predictions").iterdir())) == 3
    assert transfer("--json") == 1
    assert len(json.loads(capsys.readouterr().out)["broken"]) == 1
    assert transfer("--only", "dataset=near,seed=0", "--out", "none") == 2
    assert said in complaint(capsys)
    assert not Path("none").exists()


def test_weights_that_are_not_the_recorded_ones_are_not_scored(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train("posts.yaml")
    weights = cell_folder("near", 0) / "train/checkpoint.safetensors"
    recorded = {weights.parents[1].name: hashlib.sha256(weights.read_bytes()).hexdigest()}
    found, _ = trained_cells("posts.yaml", Path("results/local"))
    candidates = [replace(one, recorded_sha256=recorded.get(one.cell.id)) for one in found]
    assert [candidate_of_cell(one).sha256 for one in candidates if one.recorded_sha256] == list(recorded.values())
    # One bit of one weight.
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (other,) = [one for one in candidates if one.recorded_sha256]
    with pytest.raises(BrokenCandidate, match=r"near-.*: not the weights that its record tells of"):
        candidate_of_cell(other)


def test_what_was_recorded_is_read_from_the_record_and_one_that_is_torn_tells_nothing(tmp_path: Path) -> None:
    (record,) = (Path(__file__).parents[3] / "results/mini/records").glob("*resa_micro-baseline-*.json")
    assert recorded_sha256(record) == json.loads(record.read_text())["checkpoint_sha256"]
    torn = tmp_path / record.name
    torn.write_text(record.read_text()[:-9])
    assert recorded_sha256(torn) is None


def test_checkpoints_from_elsewhere_need_no_trained_cell(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(here / "mine.safetensors", 2.0)
    (row,) = answer(capsys, "--checkpoint", f"{ADAPTER_NAME}=mine.safetensors")["rows"]
    assert row["found"] == 3


def test_a_tier_takes_its_cells_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiers = "tiers: {A: [{dataset: near}], B: [{dataset: far}]}\n"
    Path("posts.yaml").write_text(SUITE.replace("CONFIDENCE", "published") + tiers)
    train("posts.yaml")
    assert [row["weights_from"] for row in answer(capsys, "--tier", "A")["rows"]] == ["near"]
    assert {row["weights_from"] for row in answer(capsys, "--tier", "B")["rows"]} == {"near", "far"}


def test_a_name_that_another_takes_meanwhile_costs_nothing_that_was_made(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train("posts.yaml")
    made = labelled_table.to_csv

    def meanwhile(rows: Any) -> str:
        Path("kept").mkdir()
        Path("kept/theirs").write_text("")
        return made(rows)

    monkeypatch.setattr(labelled_table, "to_csv", meanwhile)
    capsys.readouterr()
    assert transfer("--out", "kept") == 2
    said = complaint(capsys)
    assert said.startswith("samiro-bench: --out kept: can't be made now (")
    assert (Path(said.rpartition(" lies in ")[2]) / "transfer.csv").is_file()


def test_a_time_limits_signal_stops_it_as_ctrl_c_does(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("posts.yaml")
    Path("brightest.py").write_text(
        ADAPTER.replace("raise KeyboardInterrupt", "os.kill(os.getpid(), 15)").replace(
            "import torch\n", "import os\n\nimport torch\n", 1
        )
    )
    store(here / "mine.safetensors", 2000.0)
    before = {path for path in here.iterdir() if path.name != "cache"}
    capsys.readouterr()
    assert transfer("--checkpoint", f"{ADAPTER_NAME}=mine.safetensors", "--out", "kept/posts") == 130
    assert complaint(capsys) == "samiro-bench: stopped"
    assert {path for path in here.iterdir() if path.name != "cache"} == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_stopped_it_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("posts.yaml")
    store(here / "mine.safetensors", 2000.0)
    before = {path for path in here.iterdir() if path.name != "cache"}
    capsys.readouterr()
    assert transfer("--checkpoint", f"{ADAPTER_NAME}=mine.safetensors", "--out", "kept/posts") == 130
    assert complaint(capsys) == "samiro-bench: stopped"
    assert {path for path in here.iterdir() if path.name != "cache"} == before
