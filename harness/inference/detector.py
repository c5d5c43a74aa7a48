"""The finished detector of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError

from detectors.base import Detector
from detectors.meta import DetectorMeta
from detectors.registry import find_adapter
from harness.errors import InputError
from harness.methods.attach import inference_model
from harness.methods.config import method_configuration
from harness.pytorch.device import resolve_device
from harness.training.checkpoint import load_inference_checkpoint


def chosen_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for here. InputError for one that can't be used."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device can be used here; say auto or cpu")
    return torch.device(resolve_device(name))


def load_detector(path: Path, *, adapter: str | None = None, confidence_threshold: float | None = None) -> Detector:
    """The finished detector of an inference checkpoint, on the host, in eval mode.

    Its facts need `detector` (the variant), `form`, `meta` (a DetectorMeta, as the detector was trained), `method` (the method's
    configuration, with its `kind`), and `origin` (`detectors.registry.Adapter.origin`) where the detector isn't the project's own.
    adapter: how the registry finds the detector, by default under the variant's name. A detector of an adapter file has to be named,
    for a checkpoint never says which file is run. confidence_threshold: in place of the recipe's. InputError where the checkpoint is
    broken, or its parts don't fit this program or that file.
    """
    checkpoint = load_inference_checkpoint(path)
    try:
        name, form = checkpoint.facts["detector"], checkpoint.facts["form"]
        meta = DetectorMeta.model_validate(checkpoint.facts["meta"])
        method = checkpoint.facts["method"]
        configuration = method_configuration(method["kind"], method)
        if confidence_threshold is not None:
            meta = with_confidence_threshold(meta, confidence_threshold)
        meta.configurations[form]
        build = _adapter_class(name, checkpoint.facts.get("origin") or {}, adapter)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its metadata doesn't describe a detector ({reason}); train again") from None
    detector = inference_model(build(meta, form), configuration)
    try:
        detector.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its weights don't fit detector {name!r} ({reason}); train again") from None
    return detector.eval()


def with_confidence_threshold(meta: DetectorMeta, threshold: float) -> DetectorMeta:
    """The same detector with another confidence threshold, in [0, 1], in the recipes of all its forms."""
    change = {"confidence_threshold": threshold}
    configurations = {
        form: one.model_copy(update={"recipe": one.recipe.model_copy(update=change)})
        for form, one in meta.configurations.items()
    }
    return meta.model_copy(update={"configurations": configurations})


def _adapter_class(name: str, origin: dict[str, str], adapter: str | None) -> type[Detector]:
    """The class of a checkpoint's detector, which must be the one that it was trained with."""
    if "file" in origin and adapter is None:
        raise InputError(
            f"its detector {name!r} comes from an adapter file {origin['file']}: name that file too, as "
            f"path/to/{origin['file']}:Class; a run leaves a copy beside the checkpoint"
        )
    try:
        found = find_adapter(adapter or name)
    except InputError as error:
        if adapter in (None, name):
            raise
        # A suite's own name for a detector, most likely, which no adapter goes by.
        raise InputError(f"{error}; its detector is {name!r}") from error
    if found.meta.name != name:
        raise InputError(f"its detector is {name!r}, not {found.meta.name!r}; name the one that it was trained with")
    there = found.origin or {}
    if "file" in there and "file" not in origin:
        raise InputError(
            f"its detector {name!r} was trained by {origin.get('distribution', 'samiro-bench')}, not by an adapter file: "
            f"name it {name}"
        )
    if there.get("sha256") != origin.get("sha256"):
        raise InputError(
            f"its detector {name!r} was trained with other code: sha256 {origin.get('sha256', 'none'):.12}, not "
            f"{there.get('sha256', 'none'):.12} of {adapter or name}; a run leaves a copy of the file beside the checkpoint"
        )
    if there.get("distribution") != origin.get("distribution"):
        raise InputError(
            f"its detector {name!r} was trained with {origin.get('distribution', 'samiro-bench')}, but is now found in "
            f"{there.get('distribution', 'samiro-bench')}; install that package, or train again"
        )
    for key, what in (("commit", "commit"), ("changes", "local changes of the checkout, sha256")):
        if there.get(key) != origin.get(key):
            raise InputError(
                f"its detector {name!r} was trained with {what} {origin.get(key, 'none'):.12} of "
                f"{origin.get('repository', 'upstream')}, not {there.get(key, 'none'):.12}; check that out, or train again"
            )
    return found.detector
