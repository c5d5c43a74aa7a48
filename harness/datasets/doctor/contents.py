"""What the check of a form found, and how a reader's refusal becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.datasets.base import Dataset, Frame
from harness.datasets.doctor.findings import Finding, grouped
from harness.errors import InputError
from harness.lanes import Points


@dataclass
class Contents:
    """What a form's check found. dataset is None where none can be opened.

    frames: of the splits that can be listed. labels: split -> the label file of each of its frames, relative to the root.
    read_label: the lanes of one of them, by its split and its whole path, or InputError, for forms with a file an image.
    """

    dataset: Dataset | None = None
    frames: dict[str, tuple[Frame, ...]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    read_label: Callable[[str, str], Sequence[Points]] | None = None
    findings: list[Finding] = field(default_factory=list)


def refused(error: InputError, root: Path, kind: str) -> Finding:
    """A reader's own refusal as a finding."""
    text = str(error).replace(f"{root}/", "")
    what, _, fix = text.rpartition("; ")
    return Finding(
        "error", kind, text.partition(": ")[0].split(":")[0], what or text, fix or "restore it from its source"
    )


def unexamined(finding: Finding, split: str) -> Finding:
    """A fault of a whole split, which says that it hides what else may be wrong with it."""
    return replace(finding, what=f"{finding.what} (nothing else of split {split} was examined)")


def readable_labels(found: Contents, split: str, root: Path) -> tuple[dict[str, Sequence[Points]], list[Finding]]:
    """The lanes of the label files of a split that can be read, and what is to be said of the others that are there."""
    assert found.read_label is not None
    read: dict[str, Sequence[Points]] = {}
    broken: dict[str, str] = {}
    for name in found.labels[split]:
        try:
            read[name] = found.read_label(split, f"{root}/{name}")
        except InputError as error:
            if (root / name).is_file():
                text = str(error).replace(f"{root}/", "")
                broken[name] = text.rpartition("; ")[0] or text
    return read, grouped(
        "error", "broken-label", list(broken), f"label files are refused ({next(iter(broken.values()), '')})",
        "correct them or restore them from the dataset's source",
    )  # fmt: skip
