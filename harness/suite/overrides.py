"""A suite's overrides laid over what a detector publishes, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectors.meta import Configuration, DetectorMeta, Form
from detectors.registry import detector_class, detector_meta
from harness.suite.schema import DetectorPart
from harness.validation import validated


def resolved_meta(name: str, part: DetectorPart, form: Form, *, where: str) -> DetectorMeta:
    """A detector's metadata with a suite's overrides laid over the configuration of one form; the other forms are left out."""
    meta = detector_meta(name)
    configuration = meta.configurations[form]
    value = configuration.model_dump()
    recipe = dict(part.recipe)
    if "steps" in recipe:
        value["recipe"]["epochs"] = None
    if "epochs" in recipe:
        value["recipe"]["steps"] = None
    value["input"] = merged(value["input"], part.input)
    value["recipe"] = merged(value["recipe"], recipe)
    options = merged(configuration.architecture, part.architecture)
    architecture = validated(detector_class(name).architecture, options, where=f"{where}.architecture")
    value["architecture"] = architecture.model_dump(mode="json")
    overridden = validated(Configuration, value, where=where)
    return meta.model_copy(update={"configurations": {form: overridden}})


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping; anything but a mapping is replaced whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result
