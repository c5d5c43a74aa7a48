"""Which dataset a folder is, and in which layout; also where it is nested in a folder, packed, or misspelt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.culane import LISTS
from harness.datasets.doctor.findings import Finding
from harness.datasets.doctor.sources import CULANE_DRIVERS, CULANE_MASKS, RENDER_AGAIN, TUSIMPLE_DAYS
from harness.datasets.doctor.tree import entries, mangled
from harness.datasets.llamas import SPLITS
from harness.datasets.rendering import RENDERING_FILE
from harness.datasets.tusimple import LABELS

TUSIMPLE_LABELS = tuple(name for names in LABELS.values() for name in names)
TUSIMPLE_TASKS = "test_tasks_0627.json"

OWN_CULANE = "CULane's layout"
OWN_TUSIMPLE = "TuSimple's form"

LOOKED_FOR = (
    "list/ with train.txt, val.txt or test.txt (CULane); label_data_*.json, test_label.json or clips/, there or in train_set/ "
    "and test_set/ (TuSimple); labels/train or color_images/train (LLAMAS); train/train.txt with train/labels (CurveLanes)"
)
"""What `recognise` goes by, in words."""

RENAME = "rename it to "
"""How the fix of what is misspelt begins, before the path that is right."""

_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Place:
    """A dataset: its folder, form and layout, and what had to be overlooked to find it."""

    root: Path
    form: str
    layout: str
    findings: tuple[Finding, ...] = ()

    @property
    def own(self) -> bool:
        """Whether it is somebody's own dataset, which is held to no known size."""
        return self.layout in (OWN_CULANE, OWN_TUSIMPLE)

    @property
    def called_otherwise(self) -> set[str]:
        """The paths that are there in other letters, which its findings say."""
        return {finding.fix.removeprefix(RENAME) for finding in self.findings if finding.kind == "case"}

    @property
    def rendered(self) -> bool:
        """Whether it was rendered here, so that no public archive holds what is missing."""
        return (self.root / RENDERING_FILE).is_file()

    def restore(self, public: str, own: str | None = None) -> str:
        """How to get back what is missing. public: how, if it is the public dataset's. own: of somebody's own, if it differs."""
        if self.rendered:
            return RENDER_AGAIN
        return own if own is not None and self.own else public


def recognise(root: Path, form: str | None = None) -> Place | None:
    """The dataset at a folder or in the one folder inside it; None if there is none (of the form, if one is given)."""
    for folder in (root, *_only_folders(root)):
        for name, layout_of in (*LAYOUTS.items(), ("culane", _culane_without_lists)):
            layout = layout_of(folder) if form in (None, name) else None
            if layout:
                return Place(folder, name, layout, tuple(_nested(root, folder) + _misspelt(folder, name)))
    return None


def _only_folders(root: Path) -> list[Path]:
    """The folders that a dataset may be nested in: one, or one within that (CULane/CULane)."""
    found: list[Path] = []
    folder = root
    for _ in range(2):
        inside = [name for name, is_folder in entries(folder).items() if is_folder and not name.startswith((".", "__"))]
        if len(inside) != 1:
            break
        folder = folder / inside[0]
        found.append(folder)
    return found


def _nested(root: Path, folder: Path) -> list[Finding]:
    if folder == root:
        return []
    what = f"the dataset lies in {folder.relative_to(root)} below the folder that was named"
    return [Finding("error", "nested", str(folder.relative_to(root)), what, f"name {folder} as its root")]


def _misspelt(folder: Path, form: str) -> list[Finding]:
    findings = []
    for path in EXPECTED[form]:
        parent, slash, name = path.rpartition("/")
        for there in mangled(entries(folder / parent), [name]).values():
            wrong = f"{parent}{slash}{there}"
            findings.append(Finding("error", "case", wrong, f"it is called {wrong}, not {path}", f"{RENAME}{path}"))
    return findings


def _lower(folder: Path) -> dict[str, bool]:
    return {name.lower(): is_folder for name, is_folder in entries(folder).items()}


def _culane(folder: Path) -> str | None:
    names = _lower(folder)
    if "list" not in names:
        return None
    official = any(driver in names for driver in CULANE_DRIVERS) or _lists_culane(folder / "list")
    return "CULane" if official else OWN_CULANE


def _lists_culane(lists: Path) -> bool:
    """Whether a list begins with an image in one of CULane's folders, which may be missing yet."""
    for path in (lists / name for names in LISTS.values() for name in names):
        if path.is_file():
            with open(path, "rb") as stream:
                first = stream.readline(_LONGEST_PATH).lstrip(b"\xef\xbb\xbf/ ")
            if first.partition(b"/")[0].decode(errors="replace") in CULANE_DRIVERS:
                return True
    return False


def _culane_without_lists(folder: Path) -> str | None:
    """The last resort: images of any form may lie in folders of these names, as those of a converted dataset do."""
    names = _lower(folder)
    if any(name in CULANE_DRIVERS or name.startswith(("list.tar", "driver_")) for name in names):
        return "CULane without its lists"
    return None


def _tusimple(folder: Path) -> str | None:
    names = _lower(folder)
    inside = [name for part in ("train_set", "test_set") if part in names for name in _lower(folder / part)]
    marks = {*TUSIMPLE_LABELS, TUSIMPLE_TASKS, "clips"}
    if marks & {*inside}:
        return "TuSimple as its archives unpack (train_set/, test_set/)"
    clips = [name for name in entries(folder) if name.lower() == "clips"]
    # Clips of other days are somebody's own; without any, the public dataset's may only be missing.
    days = {day for name in clips for day in entries(folder / name)}
    if clips and (days & {*TUSIMPLE_DAYS} or not days):
        return "TuSimple in one folder"
    return OWN_TUSIMPLE if marks & {*names} else None


def _llamas(folder: Path) -> str | None:
    names = _lower(folder)
    parts = [part for part in ("labels", "color_images") if names.get(part)]
    inside = {name for part in parts for name in _lower(folder / part)}
    return "LLAMAS" if inside & {"train", "valid", "test"} else None


def _curvelanes(folder: Path) -> str | None:
    names = entries(folder)
    splits = [split for split in ("train", "valid") if names.get(split)]
    return "CurveLanes" if any("labels" in entries(folder / split) for split in splits) else None


LAYOUTS: dict[str, Callable[[Path], str | None]] = {
    "culane": _culane,
    "tusimple": _tusimple,
    "llamas": _llamas,
    "curvelanes": _curvelanes,
}
"""Form -> what says by its lists and labels in which of its layouts a folder is, None if in none."""

EXPECTED: dict[str, tuple[str, ...]] = {
    "culane": ("list", CULANE_MASKS, *CULANE_DRIVERS),
    "tusimple": (
        "train_set",
        "test_set",
        *(f"{part}{name}" for part in ("", "train_set/", "test_set/") for name in ("clips", *TUSIMPLE_LABELS)),
    ),
    "llamas": tuple(
        f"{part}{name}"
        for part in ("labels", "color_images")
        for name in ("", *(f"/{folder}" for folder in SPLITS.values()))
    ),
    "curvelanes": (),
}
"""Form -> paths below its root whose case matters."""
