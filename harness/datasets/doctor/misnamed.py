"""Images that aren't there as they are named: several on a line, from another folder on, with backslashes, another ending or case."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from harness.datasets.base import read_bytes
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.links import absent
from harness.datasets.doctor.sources import CULANE_DRIVERS
from harness.datasets.doctor.tree import mangled

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")

IN_LISTS = "$(find list -name '*.txt')"
"""All lists, as an argument of sed; the doctor's commands are for the dataset's root."""


_SEPARATOR = re.compile(r"[\s,;]+")


def joined_lines(root: Path, missing: Sequence[str], on_disk: Collection[str]) -> tuple[list[Finding], set[str]]:
    """What is to be said of lines of lists that hold more than an image's path, and which of the missing images are such lines.

    missing, on_disk: as `misnamed` takes them. A path may have a space in it: a line is more than a path where what comes before
    the first separator is a file.
    """
    lines: dict[str, list[str]] = {}
    for name in missing:
        parts = [part.lstrip("/") for part in _SEPARATOR.split(name) if part]
        if len(parts) > 1 and parts[0] in on_disk:
            lines[name] = parts
    findings = []
    for path in sorted((root / "list").rglob("*.txt")) if lines else []:
        read = read_bytes(path).decode(errors="replace").lstrip("\ufeff").split("\n")
        numbers = {number: name for number, line in enumerate(read, 1) if (name := line.strip().lstrip("/")) in lines}
        if not numbers:
            continue
        number, name = next(iter(numbers.items()))
        separator = _SEPARATOR.search(name)
        assert separator is not None
        file, images = str(path.relative_to(root)), sum((root / part).is_file() for part in lines[name])
        quoted = shlex.quote(file)
        if images > 1:
            what = f"line {number} holds {images:,} images, parted by {separator[0]!r}: a list has one image a line"
            command = rf"tr -s ',; \t\r' '\n' < {quoted} > list.new && mv list.new {quoted}"
        else:
            what = (
                f"{len(numbers):,} lines, the first is line {number}, hold more than an image, parted by {separator[0]!r}: "
                "a list has the path alone"
            )
            command = f"sed -i 's#[,;[:space:]].*##' {quoted}"
        findings.append(
            Finding("error", "list-separator", file, what, f"write each image on a line of its own: {command}")
        )
    return findings, {*lines}


def misnamed(root: Path, missing: Sequence[str], on_disk: Collection[str]) -> tuple[list[Finding], set[str]]:
    """What is to be said of listed images that aren't there by their names, and which of them that explains.

    on_disk: the files of the root that lists may name, relative to it.
    """
    findings: list[Finding] = []
    backslashed = [name for name in missing if "\\" in name]
    findings += grouped(
        "error", "list-backslash", backslashed, "images of the lists are named with backslashes",
        rf"name them with slashes: sed -i 's#\\#/#g' {IN_LISTS}",
    )  # fmt: skip
    explained = {*backslashed}
    for prefix in _prefixes(root, [name for name in missing if name not in explained]):
        names = [name for name in missing if name.startswith(prefix) and name not in explained]
        explained |= {*names}
        findings += grouped(
            "error", "list-folder", names,
            f"images of the lists are named from outside the root: they lie here without {prefix}",
            f"name them from the root: sed -i 's#^/*{prefix}##' {IN_LISTS}",
        )  # fmt: skip
    endings: dict[tuple[str, str], list[str]] = {}
    for name in missing:
        listed = PurePosixPath(name).suffix
        there = [end for end in IMAGE_ENDINGS if end != listed and name.removesuffix(listed) + end in on_disk]
        if there and name not in explained:
            endings.setdefault((listed, there[0]), []).append(name)
    for (listed, there_instead), names in endings.items():
        explained |= {*names}
        findings += grouped(
            "error", "list-ending", names, f"images of the lists end in {listed}, but their files in {there_instead}",
            rf"name them as the files are called: sed -i 's#\{listed}#{there_instead}#' {IN_LISTS}",
        )  # fmt: skip
    return findings, explained


def missing_images(
    root: Path, names: Sequence[str], on_disk: Collection[str], *, of: str, named_by: str, fix: str
) -> list[Finding]:
    """What is to be said of images that aren't there by their names: called in other letters, linked to nothing, or missing.

    of: whose they are, as in "of the lists". named_by: what has their names, as in "lists". fix: where missing ones come from.
    """
    in_other_letters = mangled(on_disk, names)
    return [
        *grouped(
            "error", "case", sorted(in_other_letters), f"images {of} differ from the files in upper and lower case",
            f"rename the files as the {named_by} have them",
        ),
        *absent(
            root, "error", "missing-image", [name for name in names if name not in in_other_letters],
            f"images {of} aren't there", fix,
        ),
    ]  # fmt: skip


def _prefixes(root: Path, missing: Sequence[str]) -> list[str]:
    """What images are named with too much in front, an absolute path of this or of another machine say: one image a folder is tried."""
    found: list[str] = []
    for name in {name.rpartition("/")[0]: name for name in missing}.values():
        parts = name.split("/")
        # Images of CULane that lie without their driver's folder are wanted in it, not named without.
        if parts[0] in CULANE_DRIVERS or name.startswith(tuple(found)):
            continue
        for place in range(1, len(parts)):
            if (root / "/".join(parts[place:])).is_file():
                found.append("/".join(parts[:place]) + "/")
                break
    return found
