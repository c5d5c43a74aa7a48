"""docs/add-a-dataset.md: its program, its commands and its suite, on frames that are drawn here; and the places that it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from detectors.meta import Form
from harness.cli.main import main
from harness.datasets.base import FORMS, open_dataset
from harness.datasets.doctor import forms, layouts
from harness.datasets.horizons import horizon_of
from harness.scoring import SCORINGS
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/add-a-dataset.md").read_text()
SIZE = (720, 1280)
CLIPS = {"train": 4, "test": 2}


def block(language: str) -> str:
    (found,) = blocks(PAGE, language)
    return found


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos/, labels.jsonl, the page's program and its suite; four straight lanes a frame, from far to near."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    rows = []
    for split, clips in CLIPS.items():
        for clip in range(clips):
            for number in range(4):
                name = f"{split}{clip}{number}.jpg"
                ends = [(x, SIZE[0] - 1) for x in (40, 420, 840, 1230)]
                lanes = [np.linspace((630 + 4 * number, 260), end, 12).round(2) for end in ends]
                image = np.full((*SIZE, 3), 90 + 5 * len(rows), np.uint8)
                cv2.polylines(image, [np.int32(lane) for lane in lanes], False, (255, 255, 255), 10)
                assert cv2.imwrite(str(tmp_path / "photos" / name), image)
                facts = {"image": name, "recording": f"{split}-{clip}", "split": split}
                rows.append(json.dumps({**facts, "lanes": [lane.tolist() for lane in lanes]}) + "\n")
    (tmp_path / "labels.jsonl").write_text("".join(rows))
    (tmp_path / "to_culane.py").write_text(block("python"))
    (tmp_path / "my-roads.yaml").write_text(block("yaml"))
    (program,) = re.findall(r"^python (to_culane.py .*)$", PAGE, re.MULTILINE)
    subprocess.run([sys.executable, *program.split()], cwd=tmp_path, check=True, timeout=60)
    monkeypatch.setenv("SAMIRO_BENCH_DATA_MY_ROADS", str(tmp_path / "my-roads"))
    return tmp_path


def test_the_program_writes_a_dataset_that_the_doctor_and_a_plan_take(
    labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "doctor", "my-roads", "--sheet", "look.jpg", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [finding for finding in found if finding["severity"] == "error"] == []
    assert (labelled / "look.jpg").is_file()
    dataset = open_dataset("culane", labelled / "my-roads")
    frames = dataset.frames("test")
    assert {frame.clip for frame in frames} == {"test-0", "test-1"}
    near = [lane.points[0].tolist() for lane in dataset.lanes(frames[0])]
    assert near == [[40, 719], [420, 719], [840, 719], [1230, 719]]
    assert main(["plan", "my-roads.yaml", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["cells"]) == 6
    assert {need["kind"] for need in plan["needs"] if need["missing"]} == set()


@pytest.mark.slow
def test_the_suite_trains_and_scores_at_its_own_size(labelled: Path) -> None:
    suite = labelled / "my-roads.yaml"
    text = (
        suite.read_text()
        .replace("steps: 200", "steps: 2")
        .replace("steps: 220", "steps: 3")
        .replace("seeds: 3", "seeds: 1")
    )
    suite.write_text(text + "training: {threads: 1, device: cpu}\nthroughput: lane-latency/1-short\n")
    assert main(["bench", "my-roads.yaml"]) == 0
    table = (labelled / "results/local/my-roads/leaderboard.md").read_text()
    assert "culane/official (1280x720, lanes 23 px wide)" in table


def test_every_form_is_in_every_place_that_the_page_names() -> None:
    known = set(get_args(Form))
    assert known == set(FORMS) == set(SCORINGS)
    assert known <= set(layouts.LAYOUTS) & set(forms.FORMS)
    assert all(0 < horizon_of(form, SIZE) < 1 for form in known)
    for path in re.findall(r"`((?:harness|detectors|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
    for form in known:
        import_module(SCORINGS[form].module)
