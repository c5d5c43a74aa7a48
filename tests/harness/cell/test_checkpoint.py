"""The checkpoint of a finished training is the one that it ended with, or it isn't used."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE, checkpoint_sha256, finished_checkpoint
from harness.cell.predict import THRESHOLD_FILE, chosen_threshold
from harness.errors import InputError
from harness.files.stored import sha256_of_file, write_json


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


def test_a_training_of_before_that_did_not_say_its_checkpoint_goes_on_with_the_one_that_is_there(trained: Path) -> None:
    write_json(trained / SUMMARY_FILE, {"cost": {}})
    assert finished_checkpoint(trained) == trained / CHECKPOINT_FILE


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"threshold": "high"}'])
def test_a_damaged_threshold_is_refused_with_the_folder_that_is_to_be_made_again(tmp_path: Path, text: str) -> None:
    (tmp_path / THRESHOLD_FILE).write_text(text)
    with pytest.raises(InputError, match=r"not as it was finished \(threshold.json.*move the folder away") as refused:
        chosen_threshold(tmp_path)
    assert str(tmp_path) in str(refused.value)
