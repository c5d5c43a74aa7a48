"""The checkpoint of a finished training, held against what the training said of it at its end."""

from __future__ import annotations

from pathlib import Path

from harness.cell.phases import damaged, hashed, read_json

CHECKPOINT_FILE = "checkpoint.safetensors"
"""Of phase `train`: the inference model."""

SUMMARY_FILE = "summary.json"
"""Of phase `train`, written last: what its record will say of the training."""


def checkpoint_sha256(trained: Path) -> str:
    """The hash of a checkpoint in the folder of a finished training. InputError where it isn't the one that the training ended with.

    Trainings of before didn't say which one that is: the one that lies there is taken for it.
    """
    found = hashed(trained / CHECKPOINT_FILE)
    if found != read_json(trained / SUMMARY_FILE).get("checkpoint_sha256", found):
        raise damaged(trained, f"{CHECKPOINT_FILE} isn't the one that its training ended with")
    return found


def finished_checkpoint(trained: Path) -> Path:
    """The file of the checkpoint in the folder of a finished training. InputError likewise."""
    checkpoint_sha256(trained)
    return trained / CHECKPOINT_FILE
