"""What the doctor says: findings, and the report of a whole folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
"""error: the harness refuses it or would score wrongly. warning: something is probably wrong. note: good to know, no fault."""


@dataclass(frozen=True)
class Finding:
    """One thing about a dataset. kind: a stable name of the fault. file: where, relative to the root. fix: what to do."""

    severity: Severity
    kind: str
    file: str
    what: str
    fix: str


@dataclass(frozen=True)
class Health:
    """What a folder is and how it is. form and layout are None where it is no dataset that is known.

    images: split -> number of images on its list. scenarios: of the test split. seconds: step -> wall time.
    """

    root: Path
    form: str | None
    layout: str | None
    rendered: bool = False
    image_size: tuple[int, int] | None = None
    images: dict[str, int] = field(default_factory=dict)
    scenarios: dict[str, int] = field(default_factory=dict)
    labels: int = 0
    lanes: int = 0
    decoded: int = 0
    findings: tuple[Finding, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """No error and no warning."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "root": str(self.root), "healthy": self.healthy}


def grouped(severity: Severity, kind: str, files: Sequence[str], what: str, fix: str) -> list[Finding]:
    """One finding for any number of files with one fault, none for none; `what` continues "<n> ", as in "12 images ..."."""
    if not files:
        return []
    named = f": {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}" if len(files) > 1 else ""
    return [Finding(severity, kind, files[0], f"{len(files):,} {what}{named}", fix)]
