"""YAML as people write it."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.files.yaml import Dumper, parse_yaml


def test_powers_of_ten_without_a_point_are_numbers() -> None:
    found = parse_yaml("[1e-3, 1E5, 2.5e3, .5e3, -1e+2, 12, a1e3, 1e3x, '1e-3']", Path("suite.yaml"))
    assert found == [1e-3, 1e5, 2.5e3, 500.0, -1e2, 12, "a1e3", "1e3x", "1e-3"]


def test_a_text_that_looks_like_a_number_is_read_as_it_was_written() -> None:
    value = {"name": "4e2", ".5e3": ["1e-3", 0.001, 1e30]}
    assert parse_yaml(yaml.dump(value, Dumper=Dumper), Path("submission.yaml")) == value
