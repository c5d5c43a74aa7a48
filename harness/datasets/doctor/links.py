"""Links that lead to nothing, as whole datasets of links have when what they were linked to was moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.datasets.doctor.findings import Finding, Severity, grouped


def broken_link(root: Path, name: str) -> str | None:
    """The part of a path below the root that is a link to nothing: the file itself or a folder of it; None if there is none."""
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count])
        if not os.path.exists(f"{root}/{path}"):
            return path if os.path.islink(f"{root}/{path}") else None
    return None


def broken_links(root: Path, names: Sequence[str]) -> list[Finding]:
    """One finding for all links to nothing that some paths below the root lead through."""
    return _told(root, [broken_link(root, name) for name in names])


def absent(root: Path, severity: Severity, kind: str, names: Sequence[str], what: str, fix: str) -> list[Finding]:
    """What is to be said of files that aren't there: that they are missing, or that a link to them is broken.

    names: their paths below the root. kind, what, fix: of those that are missing, as `grouped` takes them.
    """
    link_of = {name: broken_link(root, name) for name in names}
    missing = [name for name in names if link_of[name] is None]
    return [*grouped(severity, kind, missing, what, fix), *_told(root, link_of.values())]


def _told(root: Path, found: Iterable[str | None]) -> list[Finding]:
    links = list(dict.fromkeys(link for link in found if link is not None))
    where = f" (the first to {os.readlink(root / links[0])})" if links else ""
    return grouped(
        "error", "broken-link", links, f"links lead to what isn't there{where}",
        "link them to where the files are now: ln -sfn TARGET LINK; or delete them and put the files there",
    )  # fmt: skip
