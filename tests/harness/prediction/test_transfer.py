"""`samiro-bench transfer`: every trained detector of a suite on a labelled folder, on pictures whose lanes are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from tests.harness.prediction.posts import ADAPTER_NAME, SUITE, answer, complaint, store, train, transfer


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


def test_lanes_are_as_wide_as_asked_and_the_metric_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 30 px a post that is missed by 9 px is found (IoU .5 to .55); at 20 px it isn't, at 90 px its IoU is above .75."""
    train("posts.yaml")
    words = ("--only", "dataset=near,seed=0", "--lane-width")
    found = answer(capsys, *words, "20")
    assert (found["metric"], found["rows"][0]["found"]) == ("culane/official (1640x590, lanes 20 px wide)", 0)
    (row,) = answer(capsys, *words, "30")["rows"]
    assert (row["found"], row["f1_75"]) == (3, 0.0)
    (row,) = answer(capsys, *words, "90")["rows"]
    assert (row["found"], row["f1_75"]) == (3, pytest.approx(2 / 3))


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


def test_trained_detectors_need_the_data_no_more_that_they_were_trained_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = SUITE.replace("CONFIDENCE", "published")
    rendered = suite[suite.index("{rendered: {seed: 7") : suite.index("  far:")].strip()
    Path("posts.yaml").write_text(suite.replace(rendered, "{form: culane}"))
    monkeypatch.setenv("SAMIRO_BENCH_DATA_NEAR", str(here / "near"))
    Path("near/list").mkdir(parents=True)
    for split in ("train", "test"):
        Path(f"near/list/{split}.txt").write_text(f"{split}/0.jpg\n")
        Path(f"near/{split}").mkdir()
        Path(f"near/{split}/0.lines.txt").write_text("10 500 20 300\n")
    train("posts.yaml")
    at_hand = answer(capsys)
    Path("near").rename("unplugged")
    assert answer(capsys) == at_hand
    assert len(at_hand["rows"]) == 2
    # Other code, or no training at all, is seen all the same.
    (phase,) = Path("results/local/posts/cells").glob("near-*-s0-*/train/phase.json")
    stored = json.loads(phase.read_text())
    phase.write_text(json.dumps(stored | {"fingerprint": dict.fromkeys(stored["fingerprint"], "other")}))
    (other,) = Path("results/local/posts/cells").glob("near-*-s1-*/train")
    other.rename(other.with_name("elsewhere"))
    found = answer(capsys)
    assert [one["stale"] for row in found["rows"] for one in row["checkpoints"]].count(True) == 1
    assert [name.startswith("near-") for name in found["left_out"]] == [True]
