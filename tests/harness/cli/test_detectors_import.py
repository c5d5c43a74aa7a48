"""`samiro-bench detectors import` as its users call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detectors.lstr import LSTR
from detectors.registry import detector_meta
from harness.cli.main import main
from harness.files.stored import sha256_of_file
from harness.inference.detector import load_detector
from harness.training.checkpoint import load_inference_checkpoint


def run(*arguments: Any) -> int:
    return main(["detectors", "import", *map(str, arguments)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    state = LSTR(detector_meta("lstr_resnet18s"), "tusimple").state_dict()
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "theirs.pt")
    return tmp_path / "theirs.pt"


def test_what_is_written_loads_as_the_detector_and_says_where_it_is_from(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "ours.safetensors"
    assert run("lstr_resnet18s", checkpoint, "--out", out) == 0
    shown = capsys.readouterr()
    assert "lstr_resnet18s for tusimple" in shown.out
    # The weights would fit either.
    assert "taken as trained for tusimple; where it was for culane, say so with --form" in shown.err
    detector = load_detector(out)
    assert (detector.meta.name, detector.form) == ("lstr_resnet18s", "tusimple")
    theirs = torch.load(checkpoint, weights_only=True)["model"]
    assert all(torch.equal(value, theirs[f"module.{name}"]) for name, value in detector.state_dict().items())
    facts = load_inference_checkpoint(out).facts
    assert facts["imported"] == {"file": "theirs.pt", "sha256": sha256_of_file(checkpoint)}
    assert list(facts["meta"]["configurations"]) == ["tusimple"]


def test_the_form_can_be_chosen(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ours.safetensors"
    assert run("lstr_resnet18s", checkpoint, "--out", out, "--form", "culane") == 0
    assert not capsys.readouterr().err
    assert load_detector(out).configuration.input.network == (288, 800)


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [
        ("lstr_resnet18", (), "did you mean 'lstr_resnet18s'"),
        ("lstr_resnet18s_2x", (), "doesn't fit lstr_resnet18s_2x on culane"),
        ("lstr_resnet18s", ("--form", "tusimpel"), "did you mean 'tusimple'"),
        ("lstr_resnet18s", ("--form", "llamas"), "no form 'llamas'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], name: str, more: Any, complaint: str
) -> None:
    out = tmp_path / "ours.safetensors"
    assert run(name, checkpoint, "--out", out, *more) == 2
    shown = capsys.readouterr().err
    assert complaint in shown
    assert shown.count("\n") == 1
    assert not out.exists()


def test_a_folder_to_write_into_is_answered_with_a_file_in_it(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lstr_resnet18s", checkpoint, "--out", tmp_path) == 2
    assert f"this is a folder; give the name of a file in it, as {tmp_path}/lstr_resnet18s" in capsys.readouterr().err
