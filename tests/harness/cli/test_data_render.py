"""`samiro-bench data render`."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from harness.cli.main import main
from harness.datasets.base import open_dataset


@pytest.mark.parametrize("form", ["culane", "tusimple", "llamas"])
def test_every_form_is_rendered_and_shown_on_a_sheet(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers would take longer to start than to render these few.
    monkeypatch.setattr("harness.processes.limits.available_cores", lambda: 1)
    out, sheet = tmp_path / "roads", tmp_path / "sheet.jpg"
    sizes = ["--width", "328", "--height", "118"] if form == "culane" else []
    counts = ["--train", "2", "--val", "1", "--test", "2", "--seed", "5"]
    assert main(["data", "render", str(out), "--form", form, "--sheet", str(sheet), *counts, *sizes]) == 0
    dataset = open_dataset(form, out)
    assert [len(dataset.frames(split)) for split in ("train", "val", "test")] == [2, 1, 2]
    shown = cv2.imread(str(sheet))
    columns = shown.shape[1] // 640
    assert 1 <= columns <= 3
    assert shown.shape[1] == columns * 640
    assert (shown[:, -640:] < 250).any()  # no blank tile


def test_what_a_form_cannot_be_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "render", str(tmp_path / "roads"), "--form", "tusimple", "--frames-per-clip", "3"]) == 2
    message = capsys.readouterr().err
    assert "a TuSimple clip has one labelled frame: leave 'frames_per_clip' out" in message
    assert len(message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
