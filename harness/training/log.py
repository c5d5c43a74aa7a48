"""The log of a training: one JSON object a line, whole lines only, in the order of the steps also after a resume."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from harness.files.stored import write_text
from harness.training.board import Board

LOG_FILE = "training.jsonl"


class TrainingLog:
    """Appends to a JSONL file from `step` on: lines of later steps, which a resumed training writes again, are dropped first.

    owed: the key of entries of `step` itself that it writes again as well, since a kill came before the checkpoint that notes them.
    board: where entries are shown as well. Close the log at the end.
    """

    def __init__(self, path: Path, *, step: int, owed: str | None = None, board: Board | None = None) -> None:
        self._path, self._board = path, board
        write_text(path, "".join(line + "\n" for line in _lines_until(path, step, owed)))

    def close(self) -> None:
        """Close the board; the file is closed after every line."""
        if self._board:
            self._board.close()

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry; it has a `step`. Numbers that aren't finite become null, which JSON has."""
        if self._board:
            self._board.write(entry)
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(_finite(entry), ensure_ascii=False, allow_nan=False) + "\n")

    def sync(self) -> None:
        """Make what was written durable, as a checkpoint is: no line up to its step is lost with the machine's power."""
        with open(self._path, "a", encoding="utf-8") as stream:
            os.fsync(stream.fileno())


def _lines_until(path: Path, step: int, owed: str | None) -> list[str]:
    """The whole lines of steps up to `step`, but what of it is owed; what a kill left half-written is later than any checkpoint."""
    if step == 0 or not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["step"] > step:
            break
        if entry["step"] < step or owed not in entry:
            kept.append(line)
    return kept


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
