"""docs/bridges.md: its tables are those of the registry and of the repositories that are known."""

from __future__ import annotations

from detectors.registry import UPSTREAM, bridge_class
from harness.conformance.bridges import PAGE, read_measured
from tests.docs.bridges_page import measured_table, read_stand_ins, repositories_table

TEXT = PAGE.read_text(encoding="utf-8")


def test_every_bridge_stands_beside_its_repository_commit_and_licence() -> None:
    assert repositories_table(read_stand_ins(TEXT)) in TEXT


def test_every_form_of_every_bridge_has_its_line_and_parameters() -> None:
    seen = read_measured(TEXT)
    assert measured_table(seen) in TEXT
    assert set(seen) == {(name, form) for name in UPSTREAM for form in bridge_class(name).metas[name].configurations}
    assert all(one.parameters for one in seen.values())


def test_each_class_of_bridges_was_seen_in_both_arms() -> None:
    seen = read_measured(TEXT)
    whole = {UPSTREAM[name] for (name, _), one in seen.items() if {"adapter", "baseline", "samiro"} <= set(one.checks)}
    assert whole == set(UPSTREAM.values())
