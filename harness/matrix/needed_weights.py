"""Which published weights a name asks for: a backbone's, timm's, a detector's, or those of all detectors and oracles of a suite."""

from __future__ import annotations

from detectors.backbone_sources import BACKBONES
from detectors.registry import adapter_file, detector_names, find_adapter
from detectors.timm_registry import timm_name
from harness.errors import InputError, did_you_mean
from harness.suite import cells_of, load_suite, suite_names
from harness.weights.cache import published_name
from harness.weights.fetch import TIMM
from harness.weights.oracles import asked_as


def backbones_of(name: str) -> list[str]:
    """The backbones behind a backbone's name, a detector's or a suite's, as far as they start from published weights.

    timm's networks that are oracles stand there as `timm:NAME`, which is a name as well.
    InputError for a name that is none of these, a backbone without such weights, and a detector that never starts from them.
    """
    if name.startswith(TIMM):
        timm_name(name.removeprefix(TIMM))
        return [name]
    if name in BACKBONES:
        published_name(name)
        return [name]
    if name in detector_names() or adapter_file(name) is not None:
        meta = find_adapter(name).meta
        if all(configuration.weights != "imagenet" for configuration in meta.configurations.values()):
            raise InputError(f"{name} starts from random weights in every configuration: there is nothing to fetch")
        published_name(meta.backbone)
        return [meta.backbone]
    if name in suite_names() or name.endswith((".yaml", ".yml")):
        cells = cells_of(load_suite(name))
        found = [cell.meta.backbone for cell in cells if cell.configuration.weights == "imagenet"]
        oracles = [cell.oracle_with_weights for cell in cells]
        found += [asked_as(oracle) for oracle in oracles if oracle is not None and oracle.file is None]
        return list(dict.fromkeys(found))
    known = [*(name for name, source in BACKBONES.items() if source.imagenet), *detector_names(), *suite_names()]
    raise InputError(f"{name!r} is no backbone, detector or suite: {did_you_mean(name, known)}")
