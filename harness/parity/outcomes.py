"""What the page of parity says of each variant, read back from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from harness.parity.layers import Outcome
from harness.parity.page import COLUMNS, WORDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "detectors.md"
"""The page of this checkout; an installed package is without."""

ORDER: tuple[Outcome, ...] = ("differs", "documented", "agrees", "unavailable")
"""Outcomes, from the one that counts most to the one that counts least."""


@cache
def outcomes(page: str) -> Mapping[str, Mapping[str, Outcome]]:
    """Variant -> form -> the outcome of its layers that counts most, of a page that `harness.parity.page.page` made.

    Read once a process: in a listing every detector asks for its own.
    """
    found: dict[str, dict[str, Outcome]] = {}
    for line in page.partition("\n## ")[0].splitlines():
        detector, form, *cells = [cell.strip() for cell in line.strip("|").split("|")] + ["", ""]
        # Behind the repository the columns, and what was added above.
        if line.startswith("| ") and detector != "Detector" and len(cells) == 1 + len(COLUMNS) + 2:
            found.setdefault(detector, {})[form] = _most(map(_outcome, cells[1:-2]))
    return found


def _outcome(cell: str) -> Outcome:
    """Of a cell of the page's first table: words that tell it, or a value where all agree; a dash where nothing was compared."""
    if cell == "-":
        return "unavailable"
    return next((outcome for outcome in ORDER if cell.startswith(WORDS[outcome])), "agrees")


def _most(seen: Iterable[Outcome]) -> Outcome:
    return min(seen, key=ORDER.index)


def in_words(compared: Mapping[str, Outcome], offered: Iterable[str]) -> str:
    """The outcomes of the forms that upstream configures, as a clause: `agrees: culane; not compared: tusimple`."""
    found = {form: compared.get(form, "unavailable") for form in offered}
    mine = {outcome: [form for form, one in found.items() if one == outcome] for outcome in ORDER}
    return "; ".join(f"{WORDS[outcome].strip('*')}: {', '.join(forms)}" for outcome, forms in mine.items() if forms)
