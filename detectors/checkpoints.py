"""Published checkpoints of upstream repositories as detectors of ours."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detectors.base import Detector
from detectors.meta import Form
from detectors.registry import detector_class, detector_meta
from harness.errors import InputError, did_you_mean, mending
from harness.files.tensors import read_tensors

CONTAINERS = ("model", "state_dict", "net")
"""Keys under which training programs put the state dict beside other things."""

PREFIXES = ("module.", "net.", "model.")
"""What wrappers such as DataParallel put before the name of every entry."""

COUNTERS = ("total_ops", "total_params")
"""Entries that the profiler thop leaves in a state dict that is saved after it ran."""

SHOWN = 3
"""Names that a message lists of each kind."""


def import_checkpoint(name: str, form: Form, path: Path) -> Detector:
    """The variant `name` as configured for `form`, on the host and in eval mode, with the weights of upstream's checkpoint.

    Every entry has to have its place and every place its entry, under the names that the adapter's `checkpoint_names` gives them; what
    `checkpoint_spare` names is left out.
    Raises InputError for an unknown name or form, a file that can't be read weights-only, and entries that don't fit.
    """
    meta = detector_meta(name)
    if form not in meta.configurations:
        raise InputError(f"detector {name!r} has no form {form!r}: {did_you_mean(form, list(meta.configurations))}")
    build = detector_class(name)
    spare = re.compile("|".join(build.checkpoint_spare) or "(?!)")
    stored = {key: value for key, value in read_state(path).items() if not spare.match(key)}
    tensors = renamed(stored, build.checkpoint_names, where=path)
    detector = build(meta, form)
    state = detector.state_dict()
    check_fit(tensors, state, where=path, what=f"{name} on {form}")
    weights = {key: tensors[key] for key, own in state.items() if own.is_floating_point()}
    refuse_not_finite(weights, where=path, fix="give the checkpoint of a training that went well")
    detector.load_state_dict(tensors, strict=True)
    return detector.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of torch or safetensors, without containers, common prefixes and a profiler's counters."""
    try:
        stored = (
            read_tensors(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise InputError(f"{path} is missing; give the checkpoint's file") from None
    except pickle.UnpicklingError:
        # Torch's own words advise to let the file run code.
        raise InputError(
            f"{path}: not a file of torch that holds tensors alone{_beside_tensors(path)}; give a model's state dict"
        ) from None
    except (
        Exception
    ) as error:  # for broken files torch raises a dozen unrelated types, struct.error and IndexError among them
        # With the type: some say a number and no word more, some nothing at all.
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise InputError(f"{path}: not readable as weights ({reason}); {mending(error, 'copy it again')}") from error
    # At most so deep: a hostile file may hold itself.
    for _ in CONTAINERS:
        if isinstance(stored, Mapping):
            stored = next((stored[key] for key in CONTAINERS if isinstance(stored.get(key), Mapping)), stored)
    if not isinstance(stored, Mapping) or not stored or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError(f"{path}: holds no state dict, alone or under {', '.join(CONTAINERS)}; give a model's weights")
    tensors = {str(key): value for key, value in stored.items() if str(key).rpartition(".")[2] not in COUNTERS}
    while prefix := next((p for p in PREFIXES if tensors and all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _beside_tensors(path: Path) -> str:
    """What a file of torch would import beside tensors, as a clause; empty where that can't be told without running it."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - it is broken, of the layout before torch 1.6, or no file of torch; the message says enough
        return ""
    names = [name for name in sorted(found) if name.isprintable()]
    return f" (it needs {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})" if names else ""


def renamed(tensors: Mapping[str, Tensor], names: tuple[tuple[str, str], ...], *, where: Path) -> dict[str, Tensor]:
    """The same tensors under our names; InputError where two get the same one."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        if name in result:
            raise InputError(f"{where}: two entries stand for {name!r}, one is {key!r}; give a checkpoint of one model")
        result[name] = value
    return result


def check_fit(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Any],
    *,
    where: Path,
    what: str,
    fix: str = "name the variant that it was trained as",
) -> None:
    """Raise an InputError that names the first entries that are missing, unknown or of another shape, and says what is the `fix`."""
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in tensors.items()
        if name in expected and value.shape != expected[name].shape
    ]
    found = {
        "of another shape": shapes,
        "missing": [name for name in expected if name not in tensors],
        "unknown": [name for name in tensors if name not in expected],
    }
    complaints = [
        f"{len(entries)} {kind}: {', '.join(entries[:SHOWN])}{', ...' if len(entries) > SHOWN else ''}"
        for kind, entries in found.items()
        if entries
    ]
    if complaints:
        raise InputError(f"{where}: doesn't fit {what}: {'; '.join(complaints)}; {fix}")


def refuse_not_finite(tensors: Mapping[str, Tensor], *, where: Path, fix: str) -> None:
    """InputError that names the first entry which doesn't hold a finite floating-point number for each place, and says what to do."""
    for name, value in tensors.items():
        plain = value.is_floating_point() and value.layout == torch.strided and not value.is_meta
        if not plain or not bool(torch.isfinite(value).all()):
            raise InputError(f"{where}: entry {name!r} doesn't hold finite floating-point numbers; {fix}")
