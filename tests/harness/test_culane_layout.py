"""The real CULane's layout, lists and file names, filled with rendered frames: what a user's own copy goes through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from harness.rendered.dataset import render_dataset
from harness.rendered.spec import SCENARIOS, RenderSpec

TRAIN, TEST = 192, 90

SUITE = """
title: CULane's layout
datasets:
  culane: {form: culane}
detectors:
  ufldv2_micro:
    recipe: {epochs: 1, warmup_steps: 0}
methods:
  baseline:
training: {threads: 2, device: cpu}
throughput: lane-latency/1-short
"""


def real_names(lists: Path, scenario: int) -> list[str]:
    """The images of one scenario as the real list has them."""
    (path,) = lists.glob(f"test_split/test{scenario}_*.txt")
    return path.read_text().split()


def training_names() -> list[str]:
    """Names as in the three folders of the real training split: 30 frames apart, recordings named by date and number."""
    folders = ("driver_23_30frame", "driver_161_90frame", "driver_182_30frame")
    return [
        f"{folders[clip % 3]}/0515{1640 + clip}_{422 + clip:04d}.MP4/{30 * frame:05d}.jpg"
        for clip in range(TRAIN // 4)
        for frame in range(4)
    ]


def moved(rendered: Path, root: Path, old: str, new: str) -> None:
    for suffix in (".jpg", ".lines.txt"):
        target = root / new.replace(".jpg", suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        (rendered / old.replace(".jpg", suffix)).rename(target)


@pytest.fixture(scope="module")
def culane(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """A few hundred rendered frames under CULane's names: lists with and without leading slashes, masks, nine test splits."""
    folder = tmp_path_factory.mktemp("culane")
    rendered, root = folder / "rendered", folder / "CULane"
    spec = {
        "seed": 23,
        "difficulty": 0.2,
        "splits": {"train": {"frames": TRAIN, "frames_per_clip": 4}, "test": {"frames": TEST}},
    }
    render_dataset(RenderSpec.model_validate(spec), rendered, workers=2)
    (root / "list" / "test_split").mkdir(parents=True)
    with_masks = []
    rows = (rendered / "list" / "train_gt.txt").read_text().splitlines()
    for row, new in zip(rows, training_names(), strict=True):
        old, _, flags = row.split(" ", 2)
        moved(rendered, root, old[1:], new)
        with_masks.append(f"/{new} /laneseg_label_w16/{new.replace('.jpg', '.png')} {flags}\n")
    # One validation frame: the list has to be there, as in the real dataset, though nothing here reads it.
    for split, part in (("train", with_masks[:-1]), ("val", with_masks[-1:])):
        (root / "list" / f"{split}_gt.txt").write_text("".join(part))
        (root / "list" / f"{split}.txt").write_text("".join(f"{row.split()[0]}\n" for row in part))
    whole = []
    for number, scenario in enumerate(SCENARIOS):
        there = rendered / "list" / "test_split" / f"test{number}_{scenario}.txt"
        olds = there.read_text().split()
        news = list(islice(real_names(shared / "real" / "culane" / "list", number), len(olds)))
        for old, new in zip(olds, news, strict=True):
            moved(rendered, root, old, new)
        (root / "list" / "test_split" / there.name).write_text("".join(f"{new}\n" for new in news))
        whole += news
    (root / "list" / "test.txt").write_text("".join(f"/{new}\n" for new in sorted(whole)))
    return root


@pytest.mark.slow
def test_one_epoch_and_an_evaluation_on_the_real_layout(culane: Path, tmp_path: Path) -> None:
    suite = tmp_path / "layout.yaml"
    suite.write_text(SUITE)
    before = sorted(path.relative_to(culane) for path in culane.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "bench", str(suite), "--results", str(tmp_path / "results")],
        env={**os.environ, "SAMIRO_BENCH_DATA_CULANE": str(culane), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results" / "layout" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["training"]["steps"] == (TRAIN - 1) // 16
    (evaluation,) = record["evaluations"]
    assert evaluation["total"]["images"] == TEST
    assert set(evaluation["scenarios"]) == set(SCENARIOS)
    assert sum(scores["images"] for scores in evaluation["scenarios"].values()) == TEST
    assert evaluation["scenarios"]["cross"]["labels"] == 0
    # The dataset's folder is only read.
    assert sorted(path.relative_to(culane) for path in culane.rglob("*")) == before
