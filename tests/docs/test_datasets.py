"""docs/datasets.md: every kind of finding is on it, and its counts are those that the doctor holds datasets to."""

from __future__ import annotations

import re
from pathlib import Path

from harness.datasets.doctor.sources import CULANE_DRIVERS, IMAGES, SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/datasets.md").read_text()


def test_every_kind_of_finding_is_explained() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "harness/datasets/doctor").glob("*.py"))
    kinds = set(re.findall(r'"(?:error|warning|note)"(?: if [^\n]+ else "[a-z]+")?,\s*"([a-z-]+)"', source))
    kinds |= set(re.findall(r'refused\(error, root, "([a-z-]+)"\)', source))
    kinds -= {"warning", "note"}  # the severities themselves
    assert len(kinds) > 20
    explained = set(re.findall(r"`([a-z-]+)`", PAGE[PAGE.index("## What the doctor finds") :]))
    assert kinds == explained


def test_counts_and_archives_are_those_of_the_doctor() -> None:
    for splits in (*IMAGES.values(), SCENARIOS):
        for count in splits.values():
            assert f"{count:,}" in PAGE
    assert sum(IMAGES["culane"].values()) == 133_235
    assert sum(SCENARIOS.values()) == IMAGES["culane"]["test"]
    assert all(driver in PAGE for driver in CULANE_DRIVERS)
