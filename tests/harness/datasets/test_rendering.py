"""What rendered data says of itself, and what is made of it where it is damaged or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.base import read_bytes
from harness.datasets.rendering import read_scenarios, rendered_key, rendering_spec, scenarios_of
from harness.errors import InputError

DEEP = b"[" * 100_000


@pytest.mark.parametrize(("read", "key"), [(rendered_key, "dataset_key"), (rendering_spec, "spec")])
@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"5",
        b"\xff",
        DEEP,
        b'{"dataset_key": "", "spec": []}',
        b'{"dataset_key": 5, "spec": "k"}',
    ],
)
def test_a_damaged_statement_is_refused_and_never_taken_for_none(
    read: Callable[[Path], object], key: str, damaged: bytes, tmp_path: Path
) -> None:
    (tmp_path / "rendering.json").write_bytes(damaged)
    with pytest.raises(InputError, match=rf'rendering\.json: no "{key}".*; render the dataset again$'):
        read(tmp_path)


def test_a_statement_is_read_and_other_data_states_nothing(tmp_path: Path) -> None:
    assert (rendered_key(tmp_path), rendering_spec(tmp_path), read_scenarios(tmp_path)) == (None, None, {})
    (tmp_path / "rendering.json").write_text(json.dumps({"dataset_key": "k", "spec": {"height": 5}}))
    assert (rendered_key(tmp_path), rendering_spec(tmp_path)) == ("k", {"height": 5})


@pytest.mark.parametrize(
    "damaged", [b"", DEEP, b"[]", b'{"a": ""}', b'{"a": " "}', b'{"a": 5}', b'{"a": "two\\nlines"}', b"\xff"]
)
def test_damaged_scenarios_are_refused(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "scenarios.json").write_bytes(damaged)
    with pytest.raises(InputError, match=r"scenarios\.json: .*; "):
        read_scenarios(tmp_path)


def test_all_frames_of_a_split_have_a_scenario_or_none_has(tmp_path: Path) -> None:
    (tmp_path / "scenarios.json").write_text('{"a": "night", "b": "rain"}')
    assert scenarios_of(tmp_path, ["b", "a"]) == {"b": "rain", "a": "night"}
    assert scenarios_of(tmp_path, ["c", "d"]) == {"c": None, "d": None}
    with pytest.raises(InputError, match="no scenario for c, though other frames of its split have one"):
        scenarios_of(tmp_path, ["a", "c", "d"])


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_bytes("a\0b")
