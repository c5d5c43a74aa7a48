"""Files of tensors (safetensors), with the system's own errors where the system is the cause, as all other files have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.processes.faults import stored_error


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
