"""Somebody's predictions in a zip file, as a program of protocol `program/1` (docs/programs.md): a row without a network.

Runs with any Python. The archive holds the files as their authors' code wrote them: of CULane and LLAMAS one `.lines.txt` an image, of
TuSimple one file of JSON lines. It may hold more than is asked for, and folders above.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer one list of images."""
    parser = argparse.ArgumentParser()
    for name in ("archive", "images", "predictions"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    entries = [json.loads(line) for line in Path(given.images).read_text(encoding="utf-8").splitlines()]
    with zipfile.ZipFile(given.archive) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if "h_samples" in entries[0]:
            answer_lines(archive, names, entries, Path(given.predictions))
        else:
            answer_files(archive, names, entries, Path(given.predictions))


def answer_files(archive: zipfile.ZipFile, names: list[str], entries: list[dict[str, Any]], folder: Path) -> None:
    """A file an image, found by the end of its path: all lie below one folder of the archive."""
    wanted = entries[0]["predictions"]
    above = [name.removesuffix(wanted) for name in names if name == wanted or name.endswith(f"/{wanted}")]
    if len(above) != 1:
        sys.exit(
            f"{archive.filename}: {wanted} is there {len(above)} times: put the files of one run into it, once each"
        )
    there = set(names)
    for entry in entries:
        name = above[0] + entry["predictions"]
        if name not in there:
            sys.exit(f"{archive.filename}: {name} is missing: it needs a file, if an empty one, for every image")
        target = folder / entry["predictions"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.read(name))


def answer_lines(archive: zipfile.ZipFile, names: list[str], entries: list[dict[str, Any]], folder: Path) -> None:
    """The lines of the images that are asked for, in their order."""
    if len(names) != 1:
        sys.exit(f"{archive.filename}: {len(names)} files: put the one file of JSON lines into it")
    lines = archive.read(names[0]).decode("utf-8").splitlines()
    found = {json.loads(line)["raw_file"]: line for line in lines if line.strip()}
    missing = [entry["id"] for entry in entries if entry["id"] not in found]
    if missing:
        sys.exit(f"{archive.filename}: {names[0]}: no line for {missing[0]} ({len(missing)} of {len(entries)} images)")
    (folder / "predictions.json").write_text("".join(f"{found[entry['id']]}\n" for entry in entries), encoding="utf-8")


if __name__ == "__main__":
    main()
