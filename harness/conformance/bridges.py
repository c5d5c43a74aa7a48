"""What was measured of bridges, read from their page: that is known without a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from detectors.meta import Form
from detectors.registry import UPSTREAM

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bridges.md"
"""The page of this checkout; an installed package is without."""

ARMS = ("adapter", "baseline", "samiro")
NOT_RUN = "not run"
HEADERS = ("Bridge", "Form", "Parameters", "Adapter", "Baseline", "SAMIRO")


@dataclass(frozen=True)
class Measured:
    """What was seen of a bridge in one form. parameters: None where it wasn't built. checks: for each arm that was examined how many
    checks passed, and of how many.
    """

    parameters: int | None
    checks: Mapping[str, tuple[int, int]]

    @property
    def passed(self) -> bool:
        """Whether all checks that ran were passed; skipped ones ran not."""
        return all(passed == ran for passed, ran in self.checks.values())


@cache
def read_measured(page: str) -> Mapping[tuple[str, Form], Measured]:
    """The lines of a page that have `HEADERS`, read once a process: in a listing every bridge asks for its own."""
    found: dict[tuple[str, Form], Measured] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == len(HEADERS) and cells[0] in UPSTREAM:
            name, form, count, *told = cells
            checks = {
                arm: (int(words.split()[0]), int(words.split()[-1]))
                for arm, words in zip(ARMS, told, strict=True)
                if words != NOT_RUN
            }
            found[name, form] = Measured(None if count == NOT_RUN else int(count.replace(",", "")), checks)  # type: ignore[index]
    return found


def in_words(seen: Mapping[Form, Measured]) -> str:
    """Whether a bridge passes its checks, as a clause: `passed: culane; not run: tusimple`."""
    states = {form: NOT_RUN if not one.checks else "passed" if one.passed else "failed" for form, one in seen.items()}
    grouped = {state: [form for form, one in states.items() if one == state] for state in ("failed", "passed", NOT_RUN)}
    return "; ".join(f"{state}: {', '.join(forms)}" for state, forms in grouped.items() if forms)
