"""YAML as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.errors import InputError
from harness.files.yaml import Dumper, parse_yaml, read_yaml


def test_powers_of_ten_without_a_point_are_numbers() -> None:
    found = parse_yaml("[1e-3, 1E5, 2.5e3, .5e3, -1e+2, 12, a1e3, 1e3x, '1e-3']", Path("suite.yaml"))
    assert found == [1e-3, 1e5, 2.5e3, 500.0, -1e2, 12, "a1e3", "1e3x", "1e-3"]


def test_a_text_that_looks_like_a_number_is_read_as_it_was_written() -> None:
    value = {"name": "4e2", ".5e3": ["1e-3", 0.001, 1e30]}
    assert parse_yaml(yaml.dump(value, Dumper=Dumper), Path("submission.yaml")) == value


def test_aliases_that_come_to_billions_are_refused_before_a_message_tells_of_them(tmp_path: Path) -> None:
    rows = ["&a0 [x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
    (tmp_path / "suite.yaml").write_text(f"title: [{', '.join(rows)}]")
    with pytest.raises(InputError, match=r"suite\.yaml: more than 1000000 nodes with its aliases written out"):
        read_yaml(tmp_path / "suite.yaml")


def test_a_value_may_be_named_and_used_again() -> None:
    assert parse_yaml("{a: &a [1, 2], b: *a}", Path("suite.yaml")) == {"a": [1, 2], "b": [1, 2]}
