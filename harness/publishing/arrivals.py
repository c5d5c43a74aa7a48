"""When archives of predictions came to this repository's branch as they are, by its history: whose were there first.

Dates are whatever their author says. What counts is the order in which the branch itself took commits in (first parents), so a
submission comes with the merge that brings it, whenever it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.publishing.pull_request import git

NOT_YET = 1 << 40
"""The place in the order of what the branch doesn't have."""


@dataclass(frozen=True)
class Arrivals:
    """The files below a folder of results as the commit at hand has them.

    contents: path -> the id of its content. places: (path, id) -> in which of the branch's commits, counted from the first, it was so
    for the first time.
    """

    contents: Mapping[str, str]
    places: Mapping[tuple[str, str], int]

    def place_of(self, path: str, file: Path) -> int:
        """Since when the branch has the content of `file` at `path`: a number that grows with time, NOT_YET where it hasn't."""
        there = self.contents.get(path)
        if there is None or not file.is_file() or content_id(file, there) != there:
            return NOT_YET
        return self.places.get((path, there), NOT_YET)


def arrivals_in(results: Path) -> Arrivals | None:
    """What git knows of a folder; None without git, outside a repository, and where it has nothing of the folder."""
    try:
        listed = git(results, "ls-tree", "-r", "-z", "HEAD").decode("utf-8", "surrogateescape")
        told = git(
            results, "-c", "core.quotePath=false", "log", "--first-parent", "-m", "--no-renames", "--diff-filter=d",
            "--raw", "--no-abbrev", "--relative", "--format=%x00", "HEAD", "--", ".",
        ).decode("utf-8", "surrogateescape")  # fmt: skip
    except (InputError, OSError):
        return None
    entries = (line.partition("\t") for line in listed.split("\0") if line)
    contents = {path: facts.split()[2] for facts, _, path in entries}
    places: dict[tuple[str, str], int] = {}
    for place, changes in enumerate(reversed(told.split("\0"))):
        for line in changes.split("\n"):
            facts, _, path = line.partition("\t")
            if path:
                # `:<mode> <mode> <id before> <id> <kind>`: what is taken away and put back keeps its place.
                places.setdefault((path, facts.split()[3]), place)
    return Arrivals(contents, places) if contents else None


def content_id(file: Path, like: str) -> str:
    """The id that git gives to a file's content, by the hash that another id was made with."""
    content = file.read_bytes()
    made = hashlib.new("sha256" if len(like) == 64 else "sha1", usedforsecurity=False)
    made.update(b"blob %d\0" % len(content))
    made.update(content)
    return made.hexdigest()
