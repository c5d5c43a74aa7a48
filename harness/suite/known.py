"""What suites and plans ask of detectors, without an import of those of the project that were asked before (`files.remembered`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

from detectors.meta import DetectorMeta, Form
from detectors.registry import find_adapter, own_module
from harness.files.remembered import remembered


@dataclass(frozen=True)
class KnownDetector:
    """What is known of a detector that needn't be imported: its metadata, its module, and where it comes from (see `Adapter`)."""

    meta: DetectorMeta
    module: str
    origin: dict[str, str] | None


def known_detector(name: str) -> KnownDetector:
    """A detector by its name or file. InputError as `find_adapter`."""
    module = own_module(name)
    return _imported(name) if module is None else _own(name, module)


@cache
def _own(name: str, module: str) -> KnownDetector:
    def answer() -> dict[str, Any]:
        found = _imported(name)
        return {"meta": found.meta.model_dump(mode="json"), "module": found.module, "origin": found.origin}

    value = remembered("detector", name, (module,), answer)
    return KnownDetector(DetectorMeta.model_validate(value["meta"]), value["module"], value["origin"])


def _imported(name: str) -> KnownDetector:
    found = find_adapter(name)
    return KnownDetector(found.meta, found.detector.__module__, found.origin)


def asked_of(name: str, question: str, about: Any, answer: Callable[[], Any], *more: str) -> Any:
    """The answer to a question about a detector: remembered for the project's own, whose code decides it together with `more`."""
    module = own_module(name)
    if module is not None:
        return remembered(question, [name, about], (module, *more), answer)
    # What code from outside prints is no part of what a command answers, which may be JSON.
    with redirect_stdout(sys.stderr):
        return answer()


def parameter_count(name: str, meta: DetectorMeta, form: Form, build: Callable[[], Any]) -> int:
    """Parameters of the network that `build` makes of a detector with such metadata. Raises what `build` does."""

    def answer() -> int:
        from harness.pytorch.weightless import weightless

        with weightless():
            return sum(parameter.numel() for parameter in build().parameters())

    return int(asked_of(name, "parameters", [meta.model_dump(mode="json"), form], answer))
