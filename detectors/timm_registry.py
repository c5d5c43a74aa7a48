"""What timm's registry says of the networks that it publishes weights of: full names, and what they were trained on."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from harness.errors import InputError, did_you_mean
from harness.pytorch.torchvision_guard import ensure_torchvision

DATA = {
    "fcmae": "ImageNet-1k, masked image modelling without labels (FCMAE; Woo et al., CVPR 2023)",
    "mae": "ImageNet-1k, masked image modelling without labels (MAE; He et al., CVPR 2022)",
    "mim_in22k": "ImageNet-22k, masked image modelling without labels (EVA-02; Fang et al., 2023)",
    "mim_m38m": "Merged-38M, masked image modelling without labels (EVA-02; Fang et al., 2023)",
    "lvd142m": "LVD-142M, self-distillation without labels (DINOv2; Oquab et al., 2023)",
    "lvd1689m": "LVD-1689M, self-distillation without labels (DINOv3; Simeoni et al., 2025)",
}
"""Tag of a timm name (what stands behind its dot) -> data and manner of the training, by the papers that timm's model cards name."""

PARTS = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "laion2b": "LAION-2B",
    "yfcc100m": "YFCC-100M",
    "ig1b": "Instagram-1B",
}
"""Parts of a tag that name a dataset: timm's convention."""

HEAD = "https://huggingface.co/timm"


def timm_name(name: str) -> str:
    """A network's full name, its tag included: the one that timm takes where none is given. InputError for one without weights."""
    timm = timm_with(name)
    configuration: Any = timm.get_pretrained_cfg(name)
    if configuration is None or not configuration.has_weights:
        raise InputError(f"timm publishes no weights of {name!r}: give the oracle a `file`, or another model")
    return f"{configuration.architecture}.{configuration.tag}" if configuration.tag else str(configuration.architecture)


def timm_with(name: str) -> Any:
    """The module timm, once it is sure that it has a network, and weights, of that name. InputError otherwise."""
    ensure_torchvision()
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        # Of more than a thousand only those that look alike.
        alike = get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.3)
        raise InputError(f"timm has no model {name!r}: {did_you_mean(architecture, alike)}")
    if tag and name not in (offered := timm.list_models(f"{architecture}.*", pretrained=True)):
        raise InputError(f"timm publishes no weights {name!r}: {did_you_mean(name, offered)}")
    return timm


def data_of(name: str) -> str:
    """What the weights of a full name were trained on, as far as the name says it."""
    tag = name.partition(".")[2]
    if tag in DATA:
        return DATA[tag]
    parts = [PARTS[part] for part in tag.split("_") if part in PARTS]
    return ", then ".join(dict.fromkeys(parts)) or f"not stated; see {HEAD}/{name}"
