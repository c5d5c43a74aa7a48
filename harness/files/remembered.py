"""Answers that need torch, remembered: a plan looks at hundreds of cells, and importing torch takes longer than all the rest of it.

An answer is kept in the user's cache folder under its question, the code that gave it (`harness.files.fingerprint`) and the versions
of the packages behind it, so that it is asked again when any of these changes. It is asked in earnest wherever torch was loaded before
this module was, and where SAMIRO_BENCH_REMEMBER is 0. The files may be deleted at any time.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness.errors import InputError
from harness.files.fingerprint import code_of
from harness.files.stored import cache_folder, remembers, sha256_of_json, write_json

PACKAGES = ("torch", "torchvision", "timm", "pydantic")
"""What answers may depend on besides our own code."""

_LIGHT = "torch" not in sys.modules


def remembered(question: str, about: Any, modules: Sequence[str], answer: Callable[[], Any]) -> Any:
    """What `answer` gives, as JSON has it, without a call if it was given before.

    about: everything that the answer depends on besides the code of `modules` (all that they import included) and PACKAGES. What
    `answer` raises is passed on, and asked again next time.
    """
    if not _LIGHT or not remembers():
        return json.loads(json.dumps(answer()))
    asked = {"question": question, "about": about, "code": code_of(*modules), "packages": packages()}
    name = f"answers/{sha256_of_json(asked)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError, InputError):
        return json.loads((cache_folder() / name).read_text(encoding="utf-8"))["answer"]
    found = json.loads(json.dumps(answer()))
    # A cache folder that isn't known or can't be written costs time, nothing else.
    with suppress(OSError, InputError):
        write_json(cache_folder() / name, {"question": question, "about": about, "answer": found})
    return found


@cache
def packages() -> dict[str, str]:
    """Python's version and those of PACKAGES."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
