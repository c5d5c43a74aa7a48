"""README.md and docs/: every relative link leads to a file that is there and a heading that it has, and every page is led to."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
LINK = re.compile(r"\]\(([^()\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:")


def prose(page: Path) -> str:
    """A page without its blocks of code and without code within the text."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


def links(page: Path) -> list[str]:
    """The relative links of a page, anchors of its own included."""
    return [link for link in LINK.findall(prose(page)) if not ELSEWHERE.match(link)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a page; a second heading of one name gets `-1`."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
    return frozenset(
        f"{name}-{number}" if number else name for name, last in found.items() for number in range(last + 1)
    )


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(name: str) -> None:
    page, broken = PAGES[name], []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            broken.append(link)
    assert broken == []


def test_the_way_through_the_documentation_leads_to_every_page() -> None:
    index = ROOT / "docs/README.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert [name for name, page in PAGES.items() if page not in reached | {index, ROOT / "README.md"}] == []
    assert "docs/README.md" in links(ROOT / "README.md")
