"""YAML as people write it."""

from __future__ import annotations

from pathlib import Path

from harness.files.yaml import parse_yaml


def test_powers_of_ten_without_a_point_are_numbers() -> None:
    found = parse_yaml("[1e-3, 1E5, 2.5e3, -1e+2, 12, a1e3, 1e3x, '1e-3']", Path("suite.yaml"))
    assert found == [1e-3, 1e5, 2.5e3, -1e2, 12, "a1e3", "1e3x", "1e-3"]
