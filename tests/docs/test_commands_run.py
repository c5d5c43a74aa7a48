"""The documentation's commands run, on what they need made small."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detectors.registry import find_adapter
from harness.cli.main import main
from harness.training.checkpoint import save_inference_checkpoint
from tests.docs import commands
from tests.docs.commands import ROOT
from tests.docs.how import CHECKPOINT, HOW, PAGES, Dry, Here
from tests.docs.pages import blocks
from tests.harness.trees import write_llamas


def picture(path: Path, size: tuple[int, int], value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


def checkout() -> None:
    Path("suites").symlink_to(ROOT / "suites")
    shutil.copy(ROOT / "paths.example.yaml", "paths.example.yaml")


def mine() -> None:
    suite = blocks(PAGES["docs/suites.md"], "yaml")[0]
    Path("mine.yaml").write_text(suite)


def records() -> None:
    shutil.copytree(ROOT / "results/mini/records", "results/local/mini/records")


def published() -> None:
    shutil.copytree(ROOT / "results/mini", "results/mini")
    shutil.copytree(ROOT / "results/published", "results/published")
    shutil.copy(ROOT / "README.md", "README.md")


def small_culane() -> None:
    for name in ("train", "test"):
        image = f"driver_23_30frame/{name}.MP4/00000"
        picture(Path(f"CULane/{image}.jpg"), (590, 1640))
        Path(f"CULane/{image}.lines.txt").write_text("600 589 700 300\n1000 589 900 300\n")
        Path("CULane/list/test_split").mkdir(parents=True, exist_ok=True)
        Path(f"CULane/list/{name}.txt").write_text(f"/{image}.jpg\n")
    Path("CULane/list/test_split/test0_normal.txt").write_text("driver_23_30frame/test.MP4/00000.jpg\n")


def curvelanes() -> None:
    for split in ("train", "valid"):
        picture(Path(f"CurveLanes/{split}/images/a{split}.jpg"), (1440, 2560))
        lines = [[{"x": str(x), "y": str(y)} for x, y in ((900, 1400), (1000, 1000), (1100, 800))]]
        Path(f"CurveLanes/{split}/labels").mkdir()
        Path(f"CurveLanes/{split}/labels/a{split}.lines.json").write_text(json.dumps({"Lines": lines}))
        Path(f"CurveLanes/{split}/{split}.txt").write_text(f"images/a{split}.jpg\n")


def predictions() -> None:
    shutil.copytree("CULane", "out", ignore=shutil.ignore_patterns("*.jpg", "list"))


def tusimple() -> None:
    lane = [500 + number for number in range(56)]
    row: dict[str, Any] = {"raw_file": "clips/0601/1/20.jpg", "lanes": [lane], "h_samples": list(range(160, 720, 10))}
    Path("test_label.json").write_text(json.dumps(row) + "\n")
    Path("predictions.json").write_text(json.dumps(row | {"run_time": 0}) + "\n")


def llamas() -> None:
    write_llamas(Path("llamas"), {"valid": 2})
    for label in Path("llamas/labels/valid").rglob("*.json"):
        lines = Path("out") / label.parent.name / f"{label.stem}.lines.txt"
        lines.parent.mkdir(parents=True, exist_ok=True)
        lines.write_text("400 716 600 350\n")


def frames() -> None:
    for number in range(2):
        picture(Path(f"FRAMES/image_{number}.png"), (720, 1280))
        mask = np.zeros((720, 1280), np.uint8)
        for value, x in ((50, 300), (120, 900)):
            cv2.line(mask, (x, 719), (600, 300), value, 8)
        assert cv2.imwrite(f"FRAMES/gt_instance_image_{number}.png", mask)


def roads() -> None:
    picture(Path("roads/driver_test_00/0000_abcd.MP4/00000.jpg"), (590, 1640))


def checkpoint() -> None:
    """Of a detector that has learned nothing."""
    found = find_adapter("ufldv2_micro")
    facts = {
        "detector": "ufldv2_micro", "form": "culane", "meta": found.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"}, "origin": found.origin,
    }  # fmt: skip
    file = Path(CHECKPOINT.replace("*", "0123456789"))
    file.parent.mkdir(parents=True)
    save_inference_checkpoint(file, found.detector(found.meta, "culane"), facts)


def my_lanes() -> None:
    assert main(["detectors", "new", "my_lanes"]) == 0


MADE: dict[str, Callable[[], None]] = {
    "checkout": checkout, "mine": mine, "records": records, "published": published, "CULane": small_culane,
    "CurveLanes": curvelanes, "out": predictions, "tusimple": tusimple, "llamas": llamas, "FRAMES": frames,
    "roads": roads, "checkpoint": checkpoint, "my_lanes": my_lanes,
}  # fmt: skip


def runs() -> Iterator[Any]:
    for command, how in HOW.items():
        if isinstance(how, Here | Dry):
            yield pytest.param(command, how, marks=pytest.mark.slow if how.slow else ())


@pytest.mark.usefixtures("remembering")
@pytest.mark.parametrize(("command", "how"), list(runs()))
def test_a_command_runs(command: str, how: Here | Dry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SAMIRO_BENCH_DATA_")]:
        monkeypatch.delenv(name)
    for need in how.needs:
        MADE[need]()
    words = commands.called_words(command)
    if words is None:
        assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0
    else:
        replaced = how.instead if isinstance(how, Here) else {}
        found = [glob.glob(word) or [word] for word in (replaced.get(word, word) for word in words)]
        called = [word for several in found for word in several]
        codes = how.codes if isinstance(how, Here) else (0,)
        assert main([*called, *(["--dry-run"] if isinstance(how, Dry) else [])]) in codes
    if isinstance(how, Here) and how.leaves is not None:
        assert Path(how.leaves).exists()
