"""Paint on the ground: which is near, and what share of a pixel's footprint it covers.

`lines` (n, 12) and `marks` (n, 10) are as in `scene`; s, d: road coordinates, metres; foot_s, foot_d: the footprint's sides along and
across the road, metres.
"""

from __future__ import annotations

import numpy as np

from harness.rendered.compiled import compiled
from harness.rendered.kernels import unit


@compiled(fastmath=True, error_model="numpy")
def lines_near(s_low, s_high, d_low, d_high, shift, lines, near):  # type: ignore[no-untyped-def]
    """How many lines reach into a part of the road; `near` begins with their indices."""
    f32 = np.float32
    count = 0
    for n in range(lines.shape[0]):
        at = lines[n, 0] + lines[n, 9] * shift
        room = lines[n, 1] + f32(0.03)
        if d_low < at + room and d_high > at - room and s_high > lines[n, 10] and s_low < lines[n, 11]:
            near[count] = n
            count += 1
    return count


@compiled(fastmath=True, error_model="numpy")
def marks_near(s_low, s_high, d_low, d_high, marks, near):  # type: ignore[no-untyped-def]
    """The same of marks."""
    count = 0
    for n in range(marks.shape[0]):
        beside = s_high <= marks[n, 0] or s_low >= marks[n, 0] + marks[n, 1]
        if not beside and d_high > marks[n, 2] and d_low < marks[n, 2] + marks[n, 3]:
            near[count] = n
            count += 1
    return count


@compiled(fastmath=True, error_model="numpy")
def dash(s, foot_s, period, length, phase):  # type: ignore[no-untyped-def]
    """The share of a pixel's footprint along the road that a dashed line covers."""
    f32 = np.float32
    if foot_s >= period:
        return length / period
    turn = (s + phase) / period
    along = (turn - np.floor(turn)) * period
    reach = f32(0.5) * foot_s
    dash = max(min(along + reach, length) - max(along - reach, f32(0.0)), f32(0.0))
    dash += max(min(along + reach, period + length) - period, f32(0.0))
    return min(dash / foot_s, f32(1.0))


@compiled(fastmath=True, error_model="numpy")
def line(s, d, foot_s, foot_d, shift, edging, n, lines):  # type: ignore[no-untyped-def]
    """The share of a pixel's footprint that a line covers where nothing of it is worn."""
    f32 = np.float32
    one, half = f32(1.0), f32(0.5)
    off = abs(d - lines[n, 0] - lines[n, 9] * shift) + edging * min(lines[n, 1] * f32(16.0), one)
    if off > lines[n, 1] + half * foot_d or s < lines[n, 10] or s > lines[n, 11]:
        return f32(0.0)
    cover = min((min(off + half * foot_d, lines[n, 1]) - max(off - half * foot_d, -lines[n, 1])) / foot_d, one)
    if lines[n, 2] > f32(0.0):
        cover *= dash(s, foot_s, lines[n, 2], lines[n, 3], lines[n, 4])
    return cover


@compiled(fastmath=True, error_model="numpy")
def mark(ds, dd, foot_s, foot_d, n, marks, glyphs):  # type: ignore[no-untyped-def]
    """The share of a pixel's footprint that a mark covers, ds and dd from its near left corner."""
    f32 = np.float32
    reach = f32(0.5) * foot_s
    cover = max(min(ds + reach, marks[n, 1]) - max(ds - reach, f32(0.0)), f32(0.0)) / foot_s
    kind, period = int(marks[n, 4]), marks[n, 5]
    rows, cols = glyphs.shape[1], glyphs.shape[2]
    gi = min(max(int(ds / marks[n, 1] * f32(rows)), 0), rows - 1)
    gj = min(max(int(dd / marks[n, 3] * f32(cols)), 0), cols - 1)
    share = f32(glyphs[max(kind, 0), gi, gj]) * f32(1.0 / 255.0)
    if kind < 0:
        share = f32(1.0)
        if period > f32(0.0):
            turn = dd / period
            along = abs(turn - np.floor(turn) - f32(0.5)) * period
            share = unit((marks[n, 6] * f32(0.5) - along) / foot_d + f32(0.5))
            if foot_d >= period:
                share = marks[n, 6] / period
    return cover * share


@compiled(fastmath=True, error_model="numpy")
def kept(blotch, texture, wear):  # type: ignore[no-untyped-def]
    """The share of the paint that wear, 0 to 1, has left at a place."""
    f32 = np.float32
    return unit((blotch * f32(0.65) + texture * f32(0.3) + f32(0.32) - wear) * f32(3.5))
