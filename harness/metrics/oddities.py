"""What was odd about the input of a metric: said in every case, refused when strict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError


@dataclass(frozen=True)
class Oddity:
    """Something odd that the official evaluator passes over in silence: where it is (line None: the whole file) and what."""

    file: Path
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}"


def refuse(oddities: Iterable[Oddity]) -> None:
    """Raise InputError for the first of them, if there is one."""
    for oddity in oddities:
        raise InputError(f"{oddity} (strict scoring refuses it: correct the file)")
