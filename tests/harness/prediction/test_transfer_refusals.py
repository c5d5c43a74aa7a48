"""What `samiro-bench transfer` can't do is told in a line and leaves nothing; weights that are damaged cost their cell alone."""

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

from harness.cli.main import main
from harness.prediction import labelled_table
from harness.prediction.labelled import BrokenCandidate, candidate_of_cell
from harness.prediction.trained import recorded_sha256, trained_cells
from tests.harness.prediction.posts import ADAPTER, ADAPTER_NAME, cell_folder, complaint, store, train, transfer


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
