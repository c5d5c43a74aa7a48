"""The .lines.txt form: what is written, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.datasets.lines import lines_text, parse_lines, write_lines_file
from harness.errors import InputError
from harness.lanes import Lane, archived_points

any_lanes = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(2)), elements=st.floats(-5000, 5000, width=32)).map(
        Lane
    ),
    max_size=5,
)


@given(lanes=any_lanes)
def test_written_lanes_are_read_in_eighths(lanes: list[Lane]) -> None:
    parsed = parse_lines(lines_text(lanes).encode(), source="x")
    assert [points.tolist() for points in parsed] == [archived_points(lane.points).tolist() for lane in lanes]


@given(lanes=any_lanes)
def test_numbers_are_plain_and_short(lanes: list[Lane]) -> None:
    for word in lines_text(lanes).split():
        whole, _, decimals = word.partition(".")
        assert whole.lstrip("-").isdigit()
        assert len(decimals) <= 3
        assert not decimals.endswith("0")
        assert word != "-0"
        assert "." not in word or decimals


def test_a_file_is_ascii_with_line_feeds(tmp_path: Path) -> None:
    path = tmp_path / "00000.lines.txt"
    write_lines_file(path, [Lane([[583.2791, 590], [-12.5, 3999.99]]), Lane([[1, 2], [9e9, -9e9]])])
    assert path.read_bytes() == b"583.25 590 -12.5 4000\n1 2 4000 -4000\n"
    write_lines_file(path, [])
    assert path.read_bytes() == b""


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="lane 1 has NaN"):
        lines_text([Lane([[1, 2]]), Lane([[np.nan, 2]])])


def test_white_space_of_any_kind_is_read() -> None:
    (points,) = parse_lines(b" 1.5e2\t590\v+7 .5 \r\n", source="x")
    assert points.tolist() == [[150.0, 590.0], [7.0, 0.5]]
    assert parse_lines(b"", source="x") == []
    assert len(parse_lines(b"1 2 3 4\n5 6 7 8", source="x")) == 2


def test_every_line_is_a_lane_whatever_number_of_points_it_has() -> None:
    assert [len(points) for points in parse_lines(b"1 2 3 4\n\n5 6\n", source="x")] == [2, 0, 1]
    assert [len(points) for points in parse_lines(b"\n", source="x")] == [0]


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"1 2 3 4\n1 2 x 4\n", 2, "value 3 is 'x', not a decimal number"),
        (b"1 2 3 4\n1 2 3\n", 2, "3 numbers, an odd count"),
        (b"1 2 nan 4\n", 1, "'nan'"),
        (b"1 2 inf 4\n", 1, "'inf'"),
        (b"1 2 1e999 4\n", 1, "further out"),
        (b"1 2 -1e7 4\n", 1, "further out"),
        (b"1 2 1_0 4\n", 1, "'1_0'"),
        (b"1 2 1,5 4\n", 1, "'1,5'"),
        (b"1 2 3 4\n1 2 0x1F 4\n", 2, "'0x1F'"),
        (b"1 2 1.2.3 4\n", 1, "'1.2.3'"),
        (b"1 2 - 4\n", 1, "'-'"),
        (b"1 2 3 4\n\x00\x00\x00\x00", 2, "not a decimal number"),
        ("1 2 ٣ 4\n".encode(), 1, "not a decimal number"),
        (b"1 2 \xff\xfe 4\n", 1, "not a decimal number"),
        (b"\xef\xbb\xbf1 2 3 4\n", 1, "not a decimal number"),
    ],
)
def test_damage_is_refused_with_file_and_line(data: bytes, line: int, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_lines(data, source="a/b.lines.txt")
    message = str(caught.value)
    assert message.startswith(f"a/b.lines.txt:{line}: ")
    assert what in message
    assert "\n" not in message
    assert "correct the line" in message


@given(data=st.binary(max_size=60) | st.text("0123456789.-+e \n\r", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        lanes = parse_lines(data, source="file")
    except InputError as error:
        message = str(error)
    else:
        assert all(points.shape[1] == 2 and np.isfinite(points).all() for points in lanes)
        return
    assert message.startswith("file:")
    assert "\n" not in message
