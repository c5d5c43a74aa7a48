"""What a suite changes of a detector is tried before anything runs: its start from a file, and its network at another input."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from detectors.meta import FILE, DetectorMeta, Form
from detectors.registry import detector_class
from harness.errors import InputError
from harness.suite.known import asked_of, known_detector
from harness.suite.overrides import resolved_meta, stated_at
from harness.suite.schema import Suite, adapter_named
from harness.weights.cache import check_file

if TYPE_CHECKING:
    from detectors.base import Detector


def check_start(suite: Suite, detector: str, form: Form) -> None:
    """The file that a detector's backbone starts from, where it is there, holds the weights of that backbone.

    InputError names the key. Published weights were looked at when they came into the cache; a file that isn't there is told by plans.
    """
    meta = resolved_meta(suite, detector, form)
    if not meta.configurations[form].weights.startswith(FILE):
        return
    try:
        check_file(built(adapter_named(suite, detector), meta, form))
    except InputError as error:
        raise InputError(f"{suite.file}: key '{stated_at(suite, detector, form, 'weights')}': {error}") from error


def check_input(suite: Suite, detector: str, form: Form) -> None:
    """The network of a detector whose input a suite changes can take images of that size. InputError names the key."""
    meta = resolved_meta(suite, detector, form)
    size = meta.configurations[form].input.network
    adapter = adapter_named(suite, detector)
    published = known_detector(adapter).meta.configurations.get(form)
    if published is not None and published.input.network == size:
        return
    key = f"{stated_at(suite, detector, form, 'input')}.network"
    if min(size) < 1:
        raise InputError(f"{suite.file}: key '{key}': {list(size)} is no height and width; give two positive numbers")
    try:
        asked_of(adapter, "runs", [meta.model_dump(mode="json"), form], lambda: runs(adapter, meta, form))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{suite.file}: key '{key}': the network of {meta.name} can't take images of {size[0]}x{size[1]} (height x width) "
            f"({type(error).__name__}: {reason:.200}); give a larger size"
        ) from error


def built(adapter: str, meta: DetectorMeta, form: Form) -> Detector:
    """A detector without memory for its weights, or one with them where it can't be had without; no generator is moved on."""
    from harness.pytorch.weightless import weightless_if_possible

    return weightless_if_possible(lambda: detector_class(adapter)(meta, form))


def runs(adapter: str, meta: DetectorMeta, form: Form) -> bool:
    """True, after two black images went through a new detector in training. Raises whatever its code raises."""
    import torch

    from harness.pytorch.weightless import weightless_if_possible

    shape = (2, 3, *meta.configurations[form].input.network)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        weightless_if_possible(
            lambda: detector_class(adapter)(meta, form).train()(torch.zeros(shape, dtype=torch.uint8))
        )
    return True
