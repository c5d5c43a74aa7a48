"""The page of bridges: what is known of each without its checkout, what was measured with it, and that read back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from detectors.meta import Form
from detectors.registry import UPSTREAM, bridge_class
from detectors.upstream.bridge import NO_LICENCE, Bridge, PairedBridge
from detectors.upstream.repositories import REPOSITORIES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bridges.md"
"""The page of this checkout; an installed package is without."""

ARMS = ("adapter", "baseline", "samiro")
NOT_RUN = "not run"
REPOSITORY_HEADERS = ("Bridges", "Repository, commit", "Licence", "Labels", "Not upstream's", "Stood in for")
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


def repositories_table(stand_ins: Mapping[str, Sequence[str]]) -> str:
    """One line for each class of bridges: what is run, from where, under which licence, and what of it is ours. stand_ins: the first
    of its bridges -> the packages that aren't needed, because something stands in for them.
    """
    rows = []
    for names in bridges_by_class():
        bridge = bridge_class(names[0])
        known = REPOSITORIES[bridge.reference.repository]
        rows.append(
            [
                ", ".join(f"`{name}`" for name in names),
                f"[{bridge.reference.repository}]({known.url}) {known.commit[:12]}",
                known.licence or NO_LICENCE,
                labels_of(bridge),
                bridge.departures,
                ", ".join(f"`{name}`" for name in stand_ins.get(names[0], ())),
            ]
        )
    return tabulate(rows, headers=REPOSITORY_HEADERS, tablefmt="pipe")


def bridges_by_class() -> list[list[str]]:
    """The names of all bridges, those of one class together."""
    return [[name for name, one in UPSTREAM.items() if one == place] for place in dict.fromkeys(UPSTREAM.values())]


def read_stand_ins(page: str) -> dict[str, list[str]]:
    """What `repositories_table` was told."""
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        if len(cells) == len(REPOSITORY_HEADERS) and names and names[0] in UPSTREAM:
            found[names[0]] = re.findall(r"`([^`]+)`", cells[-1])
    return found


def labels_of(bridge: type[Bridge]) -> str:
    """Who encodes the labels of a bridge."""
    return "as ours" if issubclass(bridge, PairedBridge) else bridge.labels


def measured_table(seen: Mapping[tuple[str, Form], Measured]) -> str:
    """One line for each bridge and form."""
    rows = []
    for name in UPSTREAM:
        for form in bridge_class(name).metas[name].configurations:
            found = seen.get((name, form), Measured(None, {}))
            count = NOT_RUN if found.parameters is None else f"{found.parameters:,}"
            told = [
                f"{found.checks[arm][0]} of {found.checks[arm][1]}" if arm in found.checks else NOT_RUN for arm in ARMS
            ]
            rows.append([name, form, count, *told])
    return tabulate(rows, headers=HEADERS, tablefmt="pipe", disable_numparse=True)


def read_measured(page: str) -> dict[tuple[str, Form], Measured]:
    """What `measured_table` wrote into a page."""
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
