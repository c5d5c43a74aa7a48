"""The log of a training as TensorBoard shows it; needs the optional package `tensorboard`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import InputError

BOARD_MISSING = (
    "key 'training.tensorboard': the package tensorboard isn't installed: pip install 'samiro-bench[tensorboard]', or leave "
    "the key out"
)
"""What is said where it can't be written."""


class Board:
    """Writes every number of the log's entries as a scalar, under its path in the entry (`losses/place`, `learning_rate/detector`).

    folder: gets the event files. step: what was written of later steps, by a run that was killed, is hidden. InputError where
    tensorboard isn't installed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(BOARD_MISSING) from None
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def write(self, entry: dict[str, Any]) -> None:
        """Take up an entry of the log."""
        for path, value in scalars(entry):
            self._writer.add_scalar(path, value, entry["step"])  # type: ignore[no-untyped-call]
        self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """End the file of events."""
        self._writer.close()  # type: ignore[no-untyped-call]


def scalars(entry: dict[str, Any], under: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of an entry, each with its path; all but its step."""
    for key, value in entry.items():
        path = f"{under}/{key}" if under else key
        if isinstance(value, dict):
            yield from scalars(value, path)
        elif isinstance(value, int | float) and path != "step":
            yield path, float(value)
