"""detectors/upstream/programs/predictions.py: a zip file of somebody's predictions is a row like any other."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from detectors.programs import read_program
from detectors.upstream import programs
from harness.cell.artefacts import open_part
from harness.cli.main import main
from harness.programs.cell import program_cells
from harness.records.counts import OverlapScores
from harness.records.record import read_records
from harness.suite import load_suite
from tests.harness.programs.seer import SUITE, fail

SHIPPED = Path(programs.__file__).parent
SCRIPT = SHIPPED / "predictions.py"


@pytest.fixture
def theirs(folder: Path) -> Path:
    """A suite of the shipped description, a copy of the script, and the labels, moved by a pixel, zipped below out/."""
    (folder / "suite.yaml").write_text(SUITE.replace("seer.yaml", "predictions.yaml"))
    (folder / "predictions.py").write_bytes(SCRIPT.read_bytes())
    described = yaml.safe_load((SHIPPED / "predictions.yaml").read_text())
    described["command"][0] = sys.executable
    (folder / "predictions.yaml").write_text(yaml.safe_dump(described))
    read_program.cache_clear()
    pack(folder, moved=1.0)
    return folder


def pack(folder: Path, *, moved: float, left_out: int = 0) -> None:
    """Zip the labels of the test split, moved to the right, without the first ones."""
    suite = load_suite(str(folder / "suite.yaml"))
    dataset = open_part(folder / "results", "roads", suite.datasets["roads"])
    with zipfile.ZipFile(folder / "predictions.zip", "w") as archive:
        for frame in dataset.frames("test")[left_out:]:
            lanes = [[(x + moved, y) for x, y in lane.points] for lane in dataset.lanes(frame)]
            text = "".join(" ".join(f"{x:.2f} {y:.2f}" for x, y in lane) + "\n" for lane in lanes)
            archive.writestr(f"out/{Path(frame.id).with_suffix('.lines.txt')}", text)


def test_predictions_in_an_archive_are_scored_as_a_row_and_another_archive_is_another_row(theirs: Path) -> None:
    results = theirs / "results"
    assert main(["bench", str(theirs / "suite.yaml"), "--results", str(results)]) == 0
    (record,) = read_records(results / "suite" / "records")
    total = record.evaluations[0].total
    assert isinstance(total, OverlapScores)
    assert total.true_positives[0] == total.labels > 0
    before = program_cells(load_suite(str(theirs / "suite.yaml")))[0].id
    pack(theirs, moved=2.0)
    assert program_cells(load_suite(str(theirs / "suite.yaml")))[0].id != before


def test_an_archive_without_an_image_is_refused_by_name(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(theirs, moved=1.0, left_out=1)
    assert "predictions.zip: " in (told := fail(theirs, capsys))
    assert ".lines.txt is there 0 times" in told


def test_lines_of_tusimple_are_taken_for_the_images_that_are_asked_for(tmp_path: Path) -> None:
    lines = [json.dumps({"raw_file": f"clips/{name}/20.jpg", "lanes": [[name]], "run_time": 9}) for name in range(3)]
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        archive.writestr("pred.json", "\n".join(lines) + "\n")
    (tmp_path / "out").mkdir()

    def answer(*names: int) -> subprocess.CompletedProcess[str]:
        images = [json.dumps({"id": f"clips/{name}/20.jpg", "h_samples": [240]}) for name in names]
        (tmp_path / "images.jsonl").write_text("\n".join(images) + "\n")
        words = ["--archive", "theirs.zip", "--images", "images.jsonl", "--predictions", "out"]
        return subprocess.run([sys.executable, str(SCRIPT), *words], cwd=tmp_path, text=True, capture_output=True)

    assert answer(2, 0).returncode == 0
    assert (tmp_path / "out" / "predictions.json").read_text().splitlines() == [lines[2], lines[0]]
    refused = answer(1, 7)
    assert refused.returncode == 1
    assert "theirs.zip: pred.json: no line for clips/7/20.jpg (1 of 2 images)" in refused.stderr
