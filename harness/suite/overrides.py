"""A suite's overrides laid over what a detector publishes, key by key: first the suite's defaults, then the detector's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from detectors.meta import Configuration, DetectorMeta, Form
from detectors.registry import detector_class
from harness.errors import InputError
from harness.files.validation import validated
from harness.suite.known import asked_of, known_detector
from harness.suite.schema import FormOverrides, Overrides, Suite, adapter_named
from harness.weights.cache import weights_state


def layers(suite: Suite, detector: str, form: Form) -> list[tuple[str, Overrides]]:
    """The overrides of a detector (its key in the suite) on datasets of a form, each with the key at which it stands, in order."""
    found: list[tuple[str, Overrides]] = []
    for key, part in (("defaults", suite.defaults), (f"detectors.{detector}", suite.detectors[detector])):
        found.append((key, part))
        if form in part.forms:
            found.append((f"{key}.forms.{form}", part.forms[form]))
    return found


def start_of(suite: Suite, detector: str, form: Form) -> Configuration | None:
    """What overrides are laid over: the published configuration, else that of the form which the last `like` names; None without.

    InputError where `like` names a form that the detector has no configuration for either.
    """
    configurations = known_detector(adapter_named(suite, detector)).meta.configurations
    if form in configurations:
        return configurations[form]
    for key, part in reversed(layers(suite, detector, form)):
        if isinstance(part, FormOverrides) and part.like is not None:
            if part.like not in configurations:
                raise InputError(
                    f"{suite.file}: key '{key}.like': detectors.{detector} has no configuration for {part.like!r} either; "
                    f"it has {', '.join(configurations)}"
                )
            return configurations[part.like]
    return None


def resolved_meta(suite: Suite, detector: str, form: Form) -> DetectorMeta:
    """A detector's metadata with a suite's overrides laid over the configuration of one form; the other forms are left out.

    There has to be one (`start_of`). InputError names the key of the override that doesn't fit.
    """
    over = [[key, part.model_dump(mode="json", exclude_unset=True)] for key, part in layers(suite, detector, form)]
    value = asked_of(
        adapter_named(suite, detector),
        "resolved",
        [form, over],
        lambda: laid_over(suite, detector, form).model_dump(mode="json"),
        "harness.suite.overrides",
    )
    resolved = DetectorMeta.model_validate(value)
    try:
        weights_state(resolved, form)
    except InputError as error:
        raise InputError(f"{suite.file}: key '{stated_at(suite, detector, form, 'weights')}': {error}") from error
    return resolved


def laid_over(suite: Suite, detector: str, form: Form) -> DetectorMeta:
    """The same, made anew and without a look at the weights."""
    start = start_of(suite, detector, form)
    assert start is not None
    value = start.model_dump()
    adapter = adapter_named(suite, detector)
    options = detector_class(adapter).architecture
    for key, part in layers(suite, detector, form):
        if "steps" in part.recipe:
            value["recipe"]["epochs"] = None
        if "epochs" in part.recipe:
            value["recipe"]["steps"] = None
        for name in ("input", "architecture", "recipe"):
            value[name] = merged(value[name], getattr(part, name))
        value["weights"] = value["weights"] if part.weights is None else part.weights
        # Each layer is checked by itself, so that a message names the key at which the mistake stands.
        validated(options, value["architecture"], where=suite.file, under=f"{key}.architecture")
        validated(Configuration, value, where=suite.file, under=key)
    architecture = validated(options, value["architecture"], where=suite.file, under=f"detectors.{detector}")
    value["architecture"] = architecture.model_dump(mode="json")
    return known_detector(adapter).meta.model_copy(
        update={"configurations": {form: Configuration.model_validate(value)}}
    )


def stated_at(suite: Suite, detector: str, form: Form, name: Literal["input", "weights"]) -> str:
    """The key of the last override that says something of `name`; the detector's own where none does."""
    said = [key for key, part in layers(suite, detector, form) if getattr(part, name)]
    return f"{[f'detectors.{detector}', *said][-1]}.{name}"


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping; anything but a mapping is replaced whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result
