"""The checkpoint of a finished training is the one that it ended with, or it isn't used."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cell import phases, predict
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE, checkpoint_sha256, finished_checkpoint
from harness.cell.phases import Phase, run_phase
from harness.cell.predict import THRESHOLD_FILE, choose_threshold, chosen_threshold, finished_detector
from harness.cell.timing import time_detector
from harness.errors import InputError
from harness.files.stored import sha256_of_file, write_json
from harness.suite import Cell, cells_of, load_suite


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"weights")
    write_json(tmp_path / SUMMARY_FILE, {"checkpoint_sha256": sha256_of_file(tmp_path / CHECKPOINT_FILE)})
    return tmp_path


def test_a_checkpoint_that_is_as_its_training_left_it_is_used(trained: Path) -> None:
    assert finished_checkpoint(trained) == trained / CHECKPOINT_FILE
    assert checkpoint_sha256(trained) == sha256_of_file(trained / CHECKPOINT_FILE)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"other weights", "isn't the one that its training ended with"), (None, "No such file or directory")],
)
def test_another_checkpoint_is_refused_with_the_folder_that_is_to_be_made_again(
    trained: Path, content: bytes | None, why: str
) -> None:
    if content is None:
        (trained / CHECKPOINT_FILE).unlink()
    else:
        (trained / CHECKPOINT_FILE).write_bytes(content)
    with pytest.raises(InputError) as refused:
        finished_checkpoint(trained)
    assert str(refused.value).startswith(f"{trained}: not as it was finished (checkpoint.safetensors")
    assert why in str(refused.value)
    assert str(refused.value).endswith("; move the folder away and run `bench` again")


def chooses(cell: Cell, trained: Path, folder: Path) -> None:
    nobody: Any = None
    choose_threshold(cell, trained, nobody, print, folder)


def predicts(cell: Cell, trained: Path, folder: Path) -> None:
    finished_detector(cell, trained, None)


def times(cell: Cell, trained: Path, folder: Path) -> None:
    nobody: Any = None
    time_detector(cell, trained, None, nobody, "test", print, folder)


@pytest.mark.parametrize("phase", [chooses, predicts, times])
def test_no_phase_uses_another_checkpoint(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Callable[[Cell, Path, Path], None]
) -> None:
    monkeypatch.setattr(predict, "make_deterministic", lambda threads: None)
    monkeypatch.setattr(predict, "check_selectable", lambda *_: None)
    (trained / CHECKPOINT_FILE).write_bytes(b"other weights")
    with pytest.raises(InputError, match="isn't the one that its training ended with"):
        phase(cells_of(load_suite("mini"))[0], trained, tmp_path)


def test_a_training_of_before_that_did_not_say_its_checkpoint_goes_on_with_the_one_that_is_there(trained: Path) -> None:
    write_json(trained / SUMMARY_FILE, {"cost": {}})
    assert finished_checkpoint(trained) == trained / CHECKPOINT_FILE


def test_a_file_that_the_system_withholds_costs_no_finished_phase(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def withheld(path: Path, *_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(phases, "sha256_of_file", withheld)
    monkeypatch.setattr(Path, "read_text", withheld)
    for read in (finished_checkpoint, chosen_threshold):
        with pytest.raises(InputError, match=r"Too many open files.*it may be whole: see to what keeps it") as refused:
            read(trained)
        assert "move" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"threshold": "high"}'])
def test_a_damaged_threshold_is_refused_and_chosen_again_by_what_the_refusal_says(tmp_path: Path, text: str) -> None:
    phase = Phase(tmp_path / "threshold", "key", {})

    def chosen() -> float | None:
        return chosen_threshold(
            run_phase(phase, lambda folder: write_json(folder / THRESHOLD_FILE, {"threshold": 0.5}))
        )

    assert chosen() == 0.5
    (phase.folder / THRESHOLD_FILE).write_text(text)
    with pytest.raises(InputError, match=r"not as it was finished \(threshold.json.*") as refused:
        chosen()
    assert str(refused.value).startswith(f"{phase.folder}: ")
    assert str(refused.value).endswith("; move the folder away and run `bench` again")
    phase.folder.rename(tmp_path / "away")
    assert chosen() == 0.5
