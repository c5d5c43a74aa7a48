"""Files of tensors (safetensors), with the system's own errors where the system is the cause, as all other files have them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

STORED_ERROR = re.compile(r"os error (\d+)|Os \{ code: (\d+)")
"""How safetensors, which is Rust, words an error of the system."""


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. OSError, as every other writer raises it, where the system doesn't let it."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        fault = stored_error(error, str(path))
        if fault is None:
            raise
        raise fault from error


@contextmanager
def opened_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, open on the host. OSError as the system has it: to safetensors, every file that it can't open is missing."""
    with open(path, "rb"):
        pass
    with safe_open(path, framework="pt", device="cpu") as stored:
        yield stored


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the host. OSError and SafetensorError as `opened_tensors`."""
    with opened_tensors(path) as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict


def stored_error(error: Exception, path: str) -> OSError | None:
    """The error of the system that safetensors met at `path`, None if it was something else."""
    found = STORED_ERROR.search(str(error))
    number = 0 if found is None else int(found[1] or found[2])
    return OSError(number, os.strerror(number), path) if number else None
