"""Oracles out of files: what `oracle pretrain` wrote, a network's state dict, or the backbone in a detector's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from detectors.backbone_sources import BACKBONES
from detectors.backbones import whole_network
from detectors.checkpoints import read_state, refuse_not_finite
from detectors.meta import DetectorMeta, Normalisation
from detectors.pretrained import fitting_part, is_counter
from detectors.registry import detector_names, find_adapter
from harness.errors import InputError
from harness.methods.attention import CHILD
from harness.methods.card import card_path
from harness.methods.config import OracleConfiguration
from harness.methods.oracle import Oracle, drawn_backbone, load_oracle, oracle_taps
from harness.methods.timm_networks import timm_oracle
from harness.training.checkpoint import METADATA_KEY, load_inference_checkpoint

FIX = "give the file of that network's weights"


def oracle_of_weights(configuration: OracleConfiguration, path: Path) -> Oracle:
    """The oracle whose weights lie at `path`, in whatever form.

    A file with a card beside it is what `oracle pretrain` wrote; a checkpoint of a detector gives its backbone, to `supervised:` only;
    anything else is a state dict under the names of the network. Raises InputError where it isn't the weights of that network.
    """
    if card_path(path).is_file() and configuration.kind == "mim":
        oracle = load_oracle(path)
        assert oracle.card is not None
        if oracle.card.backbone != configuration.backbone:
            raise InputError(f"{path}: an oracle on {oracle.card.backbone!r}: name it '{oracle.card.name}'")
        return oracle
    if is_checkpoint(path):
        return backbone_of_checkpoint(configuration, path)
    tensors = read_state(path)
    if configuration.kind == "timm" or configuration.backbone not in BACKBONES:
        return timm_oracle(configuration.backbone, tensors, where=path)
    return oracle_of_backbone(configuration.backbone, tensors, Normalisation(), where=path)


def oracle_of_backbone(name: str, tensors: dict[str, Tensor], normalisation: Normalisation, *, where: Path) -> Oracle:
    """A backbone of ours with the weights of a state dict under its names; parts that it leaves out may be in it."""
    backbone = drawn_backbone(name, seed=0)
    whole = whole_network(name).state_dict()
    kept = fitting_part(backbone, whole, tensors, where=where, what=f"the backbone {name}", fix=FIX)
    refuse_not_finite(kept, where=where, fix=FIX)
    # Batches counted are no weight, and older files lack them.
    counters = {key: value for key, value in tensors.items() if is_counter(key)}
    backbone.load_state_dict(
        kept | {key: counters[key] for key in counters if key in backbone.state_dict()}, strict=False
    )
    return Oracle(backbone, oracle_taps(backbone), normalisation)


def backbone_of_checkpoint(configuration: OracleConfiguration, path: Path) -> Oracle:
    """The backbone of a detector that this program trained, as an oracle that learned from labels.

    Raises InputError for an oracle that claims to have learned without labels, a detector on another backbone, and one with attention
    in its stream, for its backbone's stages were never used without.
    """
    checkpoint = load_inference_checkpoint(path)
    try:
        meta = DetectorMeta.model_validate(checkpoint.facts["meta"])
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: its metadata doesn't describe a detector ({reason}); give another file") from error
    if configuration.kind != "supervised":
        raise InputError(
            f"{path}: a checkpoint of the detector {meta.name!r}, which learned from labels: name the oracle "
            f"'supervised:{meta.backbone}'"
        )
    if meta.backbone != configuration.backbone:
        raise InputError(
            f"{path}: a checkpoint of the detector {meta.name!r}, whose backbone is {meta.backbone!r}, not "
            f"{configuration.backbone!r}: name the oracle 'supervised:{meta.backbone}'"
        )
    if any(name.startswith(f"{CHILD}.") for name in checkpoint.tensors):
        raise InputError(
            f"{path}: trained with spatial attention between its backbone's stages, which an oracle doesn't have: give the checkpoint "
            "of a baseline"
        )
    prefix = f"{find_adapter(meta.name).detector.backbone_path if meta.name in detector_names() else 'backbone'}."
    tensors = {
        name.removeprefix(prefix): value for name, value in checkpoint.tensors.items() if name.startswith(prefix)
    }
    return oracle_of_backbone(meta.backbone, tensors, meta.normalisation, where=path)


def facts_of_file(path: Path) -> dict[str, Any]:
    """What a file says of where its weights come from, for records: a detector's name, method and dataset form, or nothing."""
    facts: dict[str, Any] = {"source": path.name, "licence": None, "data": None}
    if is_checkpoint(path):
        stored = load_inference_checkpoint(path).facts
        method = stored.get("method")
        facts |= {"detector": stored.get("detector"), "form": stored.get("form")}
        facts |= {"method": method.get("kind") if isinstance(method, dict) else None}
    return facts


def is_checkpoint(path: Path) -> bool:
    """Whether a file is the checkpoint of a detector that this program wrote."""
    try:
        with safe_open(path, framework="pt") as stored:
            return METADATA_KEY in (stored.metadata() or {})
    except (OSError, SafetensorError):
        return False
