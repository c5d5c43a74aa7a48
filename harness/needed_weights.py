"""Which backbones a name asks weights for: its own, a detector's, or those of all detectors of a suite."""

from __future__ import annotations

from detectors.backbones import BACKBONES
from detectors.registry import adapter_file, detector_names, find_adapter
from harness.errors import InputError, did_you_mean
from harness.suite import cells_of, load_suite, suite_names
from harness.weights.cache import published_name


def backbones_of(name: str) -> list[str]:
    """The backbones behind a backbone's name, a detector's or a suite's, as far as they start from published weights.

    InputError for a name that is none of these, a backbone without such weights, and a detector that never starts from them.
    """
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
        return list(dict.fromkeys(found))
    known = [*(name for name, source in BACKBONES.items() if source.imagenet), *detector_names(), *suite_names()]
    raise InputError(f"{name!r} is no backbone, detector or suite: {did_you_mean(name, known)}")
