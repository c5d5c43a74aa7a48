"""The tables of docs/bridges.md as they should be: what is known of each bridge without its checkout, and what was measured with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from detectors.meta import Form
from detectors.registry import UPSTREAM, bridge_class
from detectors.upstream.bridge import NO_LICENCE, Bridge, PairedBridge
from detectors.upstream.repositories import REPOSITORIES
from harness.conformance.bridges import ARMS, HEADERS, NOT_RUN, Measured

REPOSITORY_HEADERS = ("Bridges", "Repository, commit", "Licence", "Labels", "Not upstream's", "Stood in for")


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
