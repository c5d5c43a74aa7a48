"""Reading of .lines.txt: every expectation is what libstdc++'s `stream >> x >> y` does with the text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.lane_text import (
    DANGLING,
    EMPTY,
    NOT_A_NUMBER,
    NOT_FINITE,
    ONE_POINT,
    REPEATED,
    read_lanes,
    scan_long_numbers,
)


def lanes(text):
    return [lane.tolist() for lane in read_lanes(text).lanes()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"\n", [[]]),
        (b"1 2 3 4", [[[1, 2], [3, 4]]]),
        (b"1 2 3 4\n", [[[1, 2], [3, 4]]]),
        (b"1 2\n\n3 4\n", [[[1, 2]], [], [[3, 4]]]),
        (b"1 2\r\n3 4\r\n", [[[1, 2]], [[3, 4]]]),
        (b"\t1\v2\f3 \r4", [[[1, 2], [3, 4]]]),
        (b"1 2 3", [[[1, 2]]]),
        (b"1 2 nan 4 5 6", [[[1, 2]]]),
        (b"1 2 inf 4", [[[1, 2]]]),
        (b"1 2 3 x 5 6", [[[1, 2]]]),
        (b"0x10 2", [[]]),
        (b"1.5e2 -2.5E-1 +3 .5 5. 6", [[[150, -0.25], [3, 0.5], [5, 6]]]),
        (b"1e 2", [[]]),
        (b"1e+ 2", [[]]),
        (b". 2", [[]]),
        (b"- 2", [[]]),
        (b"+-1 2", [[]]),
        (b"1-2 3.4.5", [[[1, -2], [3.4000000953674316, 0.5]]]),
        (b"1e999 2", [[]]),
        (b"1e-999 2", [[[0, 2]]]),
        (b"1e5.3 2", [[[1e5, 0.30000001192092896]]]),
        (b"1,5 2", [[]]),
        (b"1 2\x003 4", [[[1, 2]]]),
        (b"\xff\xfe1 2", [[]]),
        (b"1 2 1e12 5", [[[1, 2], [999999995904.0, 5]]]),
    ],
)
def test_a_line_is_read_up_to_its_first_non_number(text, expected):
    assert lanes(text) == expected


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=12).filter(lambda values: len(values) % 2 == 0)))
def test_numbers_of_any_length_are_rounded_correctly(values):
    text = b"".join(" ".join(map(repr, line)).encode() + b"\n" for line in values)
    expected = [np.array(line).astype(np.float32).reshape(-1, 2).tolist() for line in values]
    assert lanes(text) == expected


@given(st.lists(st.decimals(-9999, 9999, places=4), min_size=2, max_size=20))
def test_short_decimals_are_rounded_correctly(values):
    values = values[: len(values) // 2 * 2]
    assert np.array(lanes(" ".join(f"{v:f}" for v in values).encode())).ravel().tolist() == [
        float(np.float32(float(value))) for value in values
    ]


@given(st.text("0123456789.-+eE x\n\r\t", max_size=60))
def test_the_fast_reader_and_the_one_for_long_numbers_agree(text):
    fast = read_lanes(text.encode())
    if text:
        points, ends, _ = scan_long_numbers(text.encode())
        np.testing.assert_array_equal(points, fast.points)
        np.testing.assert_array_equal(ends, fast.ends)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_fault(text):
    read = read_lanes(text)
    assert len(read.ends) == len(read.odd) == text.count(b"\n") + (bool(text) and not text.endswith(b"\n"))
    assert (read.ends[-1] if len(read.ends) else 0) == len(read.points)


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        (b"1 2 3 4", 0),
        (b"1 2 3 4\r", 0),
        (b"1 2 1 2", 0),
        (b"1 2 3 4 abc", NOT_A_NUMBER),
        (b"1 2 3 abc", NOT_A_NUMBER),
        (b"1 2 3", DANGLING),
        (b" ", EMPTY),
        (b"1 2", ONE_POINT),
        (b"1 2 1e39 4", NOT_FINITE),
        (b"1 2 3 4 3 4", REPEATED),
        (b"12345678901234567890 2 3", DANGLING),
    ],
)
def test_what_is_odd_is_noted(text, odd):
    assert read_lanes(text).odd.tolist() == [odd]


def test_thousands_of_points_in_a_lane():
    text = b" ".join(b"%d %d" % (i % 1640, i % 590) for i in range(20000))
    assert len(read_lanes(text).points) == 20000
