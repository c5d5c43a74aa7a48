"""Names of detectors -> the file that holds them. Listing names imports nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from harness.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from detectors.base import Detector
    from detectors.meta import DetectorMeta

TABLE: dict[str, str] = {
    "resa_micro": "detectors.resa:RESA",
    "resa_resnet18": "detectors.resa:RESA",
    "resa_resnet34": "detectors.resa:RESA",
    "ufldv2_micro": "detectors.ufldv2:UFLDv2",
    "ufldv2_resnet18": "detectors.ufldv2:UFLDv2",
    "ufldv2_resnet34": "detectors.ufldv2:UFLDv2",
}
"""Variant name -> "module:class" of its adapter."""


def detector_class(name: str) -> type[Detector]:
    """The adapter class behind a variant's name. Raises InputError with the nearest known name."""
    if name not in TABLE:
        raise InputError(f"unknown detector {name!r}: {did_you_mean(name, list(TABLE))}")
    module, attribute = TABLE[name].split(":")
    found: type[Detector] = getattr(import_module(module), attribute)
    return found


def detector_meta(name: str) -> DetectorMeta:
    """The metadata of a variant."""
    return detector_class(name).metas[name]
