"""Checkpoints: the state of a running training, and the weights of a finished detector. Both are safetensors files.

A training's state (weights, optimizers, generators) is one file, because a kill between two files would leave a pair that doesn't
fit: its tensors lie under their paths, and the metadata holds all the rest as JSON. A finished detector's metadata says, as JSON, how
to rebuild it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from harness.errors import InputError, mending
from harness.files.stored import canonical_json, sha256_of_file, written_aside
from harness.files.tensors import opened_tensors, write_tensors

METADATA_KEY = "samiro_bench"
"""The one metadata entry of an inference checkpoint: the JSON text of its facts."""

STATE_KEY = "samiro_bench_training"
"""The one metadata entry of a training's state: the JSON text of its structure."""

TENSOR, ITEMS = "tensor", "items"
"""In that structure an object has one of these keys: the path of a tensor, or the pairs of a dict."""


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training's state atomically: nested dicts and lists of tensors, numbers, texts and None.

    Tuples come back as lists. TypeError on anything else.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_taken_apart(state, "", tensors))
    with written_aside(path) as aside:
        write_tensors(tensors, aside, {STATE_KEY: structure})


def load_training_state(path: Path) -> dict[str, Any]:
    """Read a training's state onto the host. InputError on a file that isn't one or can't be read."""
    try:
        with opened_tensors(path) as stored:
            structure = json.loads((stored.metadata() or {})[STATE_KEY])
            state = _put_together(structure, stored.get_tensor)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = reason_of(error)
        what_to_do = mending(error, "delete it to train again")
        raise InputError(f"{path}: not a readable training checkpoint ({reason}); {what_to_do}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a training checkpoint; delete it to train again")
    return state


def reason_of(error: Exception) -> str:
    """Why a file can't be read, in a line: the system's own words without the path, which messages begin with."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    return told.splitlines()[0] if told else type(error).__name__


def _taken_apart(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """What JSON has of a value; its tensors go into `tensors` under their paths, copied: safetensors refuses shared memory."""
    if isinstance(value, Tensor):
        if path in tensors:
            raise TypeError(f"two tensors lie at {path!r}")
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {TENSOR: path}
    if isinstance(value, dict):
        # Keys may be numbers, which those of JSON's objects may not.
        return {ITEMS: [[key, _taken_apart(item, f"{path}/{key}".lstrip("/"), tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_taken_apart(item, f"{path}/{place}", tensors) for place, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} at {path!r} can't be kept in a checkpoint")


def _put_together(structure: Any, tensor: Callable[[str], Tensor]) -> Any:
    if isinstance(structure, list):
        return [_put_together(item, tensor) for item in structure]
    if isinstance(structure, dict):
        if TENSOR in structure:
            return tensor(structure[TENSOR])
        return {key: _put_together(item, tensor) for key, item in structure[ITEMS]}
    return structure


@dataclass(frozen=True, eq=False)
class InferenceCheckpoint:
    """A finished detector on the host: its state dict, and the facts that say how to rebuild it."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_inference_checkpoint(path: Path, detector: nn.Module, facts: dict[str, Any]) -> str:
    """Write a detector's state dict as safetensors, atomically; returns the file's sha256.

    detector: what `TrainingModel.inference_model` gives. facts: plain JSON values, see
    `harness.inference.detector.load_detector` for the keys that rebuild it.
    """
    # safetensors refuses tensors that share memory or aren't contiguous; a copy is neither.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in detector.state_dict().items()}
    with written_aside(path) as aside:
        write_tensors(tensors, aside, {METADATA_KEY: canonical_json(facts)})
    return sha256_of_file(path)


def load_inference_checkpoint(path: Path) -> InferenceCheckpoint:
    """Read an inference checkpoint. InputError on a file that is missing, broken, of another program, or can't be read."""
    try:
        with opened_tensors(path) as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise InputError(f"{path} is missing; give the checkpoint of a finished cell") from None
    except (SafetensorError, OSError) as error:
        if isinstance(error, SafetensorError) and _begins_as_torch_writes(path):
            raise InputError(
                f"{path}: a file as torch writes it, not a checkpoint of this program; make one of it by "
                f"`samiro-bench detectors import NAME {path} --out {path.stem}.safetensors`"
            ) from None
        what_to_do = mending(error, "copy it again or train again")
        raise InputError(f"{path}: not a readable safetensors file ({reason_of(error)}); {what_to_do}") from error
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
