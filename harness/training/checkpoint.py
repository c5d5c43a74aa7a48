"""Checkpoints: the state of a running training, and the weights of a finished detector.

A training's state is one file that torch writes and reads back weights-only, because a kill between two files would leave a pair
that doesn't fit. A finished detector is a safetensors file whose metadata says, as JSON, how to rebuild it.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.errors import InputError
from harness.files import canonical_json, sha256_of_file, written_aside

METADATA_KEY = "samiro_bench"
"""The one metadata entry of an inference checkpoint: the JSON text of its facts."""


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training's state atomically: nested dicts and lists of tensors, numbers, texts and None."""
    with written_aside(path) as aside:
        torch.save(state, aside)


def load_training_state(path: Path) -> dict[str, Any]:
    """Read a training's state onto the host, weights-only. InputError on a file that isn't one."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a readable training checkpoint ({reason}); delete it to train again") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a training checkpoint; delete it to train again")
    return state


@dataclass(frozen=True, eq=False)
class InferenceCheckpoint:
    """A finished detector on the host: its state dict, and the facts that say how to rebuild it."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_inference_checkpoint(path: Path, detector: nn.Module, facts: dict[str, Any]) -> str:
    """Write a detector's state dict as safetensors, atomically; returns the file's sha256.

    detector: what `TrainingModel.inference_model` gives. facts: plain JSON values, see
    `harness.inference.load_detector` for the keys that rebuild it.
    """
    # safetensors refuses tensors that share memory or aren't contiguous; a copy is neither.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in detector.state_dict().items()}
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={METADATA_KEY: canonical_json(facts)})
    return sha256_of_file(path)


def load_inference_checkpoint(path: Path) -> InferenceCheckpoint:
    """Read an inference checkpoint. InputError on a file that is missing, broken, or of another program."""
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise InputError(f"{path} is missing; give the checkpoint of a finished cell") from None
    except (SafetensorError, OSError) as error:
        if path.is_file() and _begins_as_torch_writes(path):
            raise InputError(
                f"{path}: a file as torch writes it, not a checkpoint of this program; make one of it by "
                f"`samiro-bench detectors import NAME {path} --out {path.stem}.safetensors`"
            ) from None
        raise InputError(f"{path}: not a readable safetensors file ({error}); copy it again or train again") from None
    try:
        facts = json.loads(metadata[METADATA_KEY])
    except KeyError:
        raise InputError(f"{path}: no metadata {METADATA_KEY!r}, so it isn't a checkpoint of this program") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: its metadata {METADATA_KEY!r} isn't JSON ({error}); copy it again") from None
    if not isinstance(facts, dict):
        raise InputError(f"{path}: its metadata {METADATA_KEY!r} isn't a JSON object; copy it again")
    return InferenceCheckpoint(tensors, facts)


def _begins_as_torch_writes(path: Path) -> bool:
    """Whether a file begins as a zip archive or as a pickle of protocol 2 or later does: `torch.save`, today and before 1.6."""
    with open(path, "rb") as stream:
        start = stream.read(4)
    return start == b"PK\x03\x04" or (start[:1] == pickle.PROTO and start[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"})
