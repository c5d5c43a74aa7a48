"""Thick lines, pixel for pixel as OpenCV 4.6 to 4.12 paints them, into bit masks.

The official lane metrics are defined by `cv::line(image, p0, p1, 1, thickness)` (8-connected, integer end points). OpenCV 4.13
and later paint another shape where such a line leaves the image, so nothing here calls OpenCV: this is the geometry of
modules/imgproc/src/drawing.cpp (ThickLine, FillConvexPoly, Line2, Circle) in its 16.16 fixed-point numbers, overflow included.
A line is a quadrilateral (filled, then outlined) with a disc at either end.

A canvas is a uint64 array of shape (height, words + 1); pixel x of row y is bit x % 64 of word x // 64, the last column is padding.
Beside it go `low` and `high`, int64 arrays of shape (bands,): the range of words touched in each band of 16 rows (low > high: none).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics.compiled import compiled

Canvas = npt.NDArray[np.uint64]
Ranges = npt.NDArray[np.int64]

BAND = 16
"""Rows in a band."""

STAMP_REACH = 6
"""Segments of at most this many pixels in x and in y are stamped from a table."""

WIDEST_STAMP = 48
"""Widest line in pixels whose stamps fit into one 64-bit word a row."""

ONE = 1 << 16
HALF = 1 << 15
FAR = 1 << 62


@compiled
def as_int32(value: int) -> int:
    """The low 32 bits as a signed number: what a C cast to int leaves of an int64."""
    return ((value + 2147483648) & 4294967295) - 2147483648


@compiled
def quotient(numerator: int, denominator: int) -> int:
    """Integer division that truncates towards zero, as in C."""
    if (numerator < 0) != (denominator < 0):
        return -(abs(numerator) // abs(denominator))
    return abs(numerator) // abs(denominator)


@compiled
def disc_half_widths(thickness: int) -> npt.NDArray[np.int64]:
    """Half widths of the rows -radius..radius of the disc at a line's end (OpenCV's midpoint circle)."""
    radius = (thickness * HALF + HALF) >> 16
    half_widths = np.zeros(2 * radius + 1, np.int64)
    error, dx, dy, plus, minus = 0, radius, 0, 1, 2 * radius - 1
    while dx >= dy:
        for row, half in ((dy, dx), (dx, dy)):
            half_widths[radius - row] = max(half_widths[radius - row], half)
            half_widths[radius + row] = max(half_widths[radius + row], half)
        dy += 1
        error += plus
        plus += 2
        if error > 0:
            error -= minus
            dx -= 1
            minus -= 2
    return half_widths


@compiled
def touch(low: Ranges, high: Ranges, y: int, first: int, last: int) -> None:
    """Note that words first..last of row y may be set."""
    band = y // BAND
    low[band] = min(low[band], first)
    high[band] = max(high[band], last)


@compiled
def set_span(canvas: Canvas, low: Ranges, high: Ranges, width: int, y: int, left: int, right: int) -> None:
    """Set the pixels left..right (inclusive) of row y, as far as they lie inside; y must."""
    left, right = max(left, 0), min(right, width - 1)
    if left > right:
        return
    first, last = left >> 6, right >> 6
    ones = np.uint64(0xFFFFFFFFFFFFFFFF)
    first_mask = ones << np.uint64(left & 63)
    last_mask = ones >> np.uint64(63 - (right & 63))
    if first == last:
        canvas[y, first] |= first_mask & last_mask
    else:
        canvas[y, first] |= first_mask
        for word in range(first + 1, last):
            canvas[y, word] = ones
        canvas[y, last] |= last_mask
    touch(low, high, y, first, last)


@compiled
def outside_code(x: int, y: int, right: int, bottom: int) -> int:
    """Cohen-Sutherland code: 1 left of, 2 right of, 4 above, 8 below the window."""
    return int(x < 0) + int(x > right) * 2 + int(y < 0) * 4 + int(y > bottom) * 8


@compiled
def share(offset: int, across: int, along: int) -> int:
    """offset * across / along in double precision, truncated towards zero."""
    return int(float(offset) * float(across) / float(along))


@compiled
def clipped(x1: int, y1: int, x2: int, y2: int, right: int, bottom: int) -> tuple[bool, int, int, int, int]:
    """The part of a segment inside [0, right] x [0, bottom]: whether there is one, and its ends (OpenCV's clipLine)."""
    code1, code2 = outside_code(x1, y1, right, bottom), outside_code(x2, y2, right, bottom)
    if (code1 & code2) == 0 and (code1 | code2) != 0:
        if code1 & 12:
            edge = 0 if code1 < 8 else bottom
            x1 += share(edge - y1, x2 - x1, y2 - y1)
            y1 = edge
            code1 = int(x1 < 0) + int(x1 > right) * 2
        if code2 & 12:
            edge = 0 if code2 < 8 else bottom
            x2 += share(edge - y2, x2 - x1, y2 - y1)
            y2 = edge
            code2 = int(x2 < 0) + int(x2 > right) * 2
        if (code1 & code2) == 0 and (code1 | code2) != 0:
            if code1:
                edge = 0 if code1 == 1 else right
                y1 += share(edge - x1, y2 - y1, x2 - x1)
                x1 = edge
                code1 = 0
            if code2:
                edge = 0 if code2 == 1 else right
                y2 += share(edge - x2, y2 - y1, x2 - x1)
                x2 = edge
                code2 = 0
    return (code1 | code2) == 0, x1, y1, x2, y2


@compiled
def paint_outline(
    canvas: Canvas, low: Ranges, high: Ranges, width: int, x1: int, y1: int, x2: int, y2: int
) -> None:
    """Paint a thin line between fixed-point ends, clipped to the image first (OpenCV's Line2)."""
    height = canvas.shape[0]
    inside, x1, y1, x2, y2 = clipped(x1, y1, x2, y2, width * ONE - 1, height * ONE - 1)
    if not inside:
        return
    dx, dy = x2 - x1, y2 - y1
    flat = abs(dx) > abs(dy)
    if (flat and dx < 0) or (not flat and dy < 0):
        x1, y1, x2, y2, dx, dy = x2, y2, x1, y1, -dx, -dy
    x, y = (x2 + HALF) >> 16, (y2 + HALF) >> 16
    if 0 <= x < width and 0 <= y < height:
        set_span(canvas, low, high, width, y, x, x)
    if flat:
        step = quotient(dy << 16, dx | 1)
        x, y = (x1 + HALF) >> 16, y1 + HALF
        for _ in range((dx >> 16) + 1):
            row = y >> 16
            if 0 <= x < width and 0 <= row < height:
                set_span(canvas, low, high, width, row, x, x)
            x += 1
            y += step
    else:
        step = quotient(dx << 16, dy | 1)
        x, y = x1 + HALF, (y1 + HALF) >> 16
        for _ in range((dy >> 16) + 1):
            column = x >> 16
            if 0 <= column < width and 0 <= y < height:
                set_span(canvas, low, high, width, y, column, column)
            x += step
            y += 1


@compiled
def fill_quadrilateral(canvas: Canvas, low: Ranges, high: Ranges, width: int, corners: Ranges) -> None:
    """Fill a convex quadrilateral and paint its outline. corners: (4, 2) fixed-point x, y (OpenCV's FillConvexPoly)."""
    height = canvas.shape[0]
    top = 0
    for i in range(4):
        before = (i + 3) % 4
        paint_outline(
            canvas, low, high, width, corners[before, 0], corners[before, 1], corners[i, 0], corners[i, 1]
        )
        if corners[i, 1] < corners[top, 1]:
            top = i
    x_least = as_int32((corners[:, 0].min() + HALF) >> 16)
    x_most = as_int32((corners[:, 0].max() + HALF) >> 16)
    y_least = as_int32((corners[:, 1].min() + HALF) >> 16)
    y_most = (corners[:, 1].max() + HALF) >> 16
    if x_most < 0 or as_int32(y_most) < 0 or x_least >= width or y_least >= height:
        return
    y_most = as_int32(min(y_most, height - 1))

    # Two chains of edges run down from the top corner; `end` is the row where a chain's present edge ends.
    index = np.array([top, top])
    turn = np.array([1, 3])
    end = np.array([y_least, y_least])
    x = np.array([-ONE, -ONE])
    step = np.array([0, 0])
    edges = 4
    y = y_least
    while True:
        for side in range(2):
            if y < end[side]:
                continue
            start = index[side]
            corner = (start + turn[side]) % 4
            while True:
                edges -= 1
                if edges < 0:
                    break
                corner_row = as_int32((corners[corner, 1] + HALF) >> 16)
                if corner_row > y:
                    rows = as_int32(corner_row - y)
                    run = corners[corner, 0] - corners[start, 0]
                    end[side] = corner_row
                    step[side] = quotient(run * 2 + rows, as_int32(2 * rows))
                    x[side] = corners[start, 0]
                    index[side] = corner
                    break
                start = corner
                corner = (corner + turn[side]) % 4
        if edges < 0:
            return
        rows = 1
        if y >= 0:
            left = as_int32((min(x[0], x[1]) + HALF) >> 16)
            right = as_int32((max(x[0], x[1]) + HALF) >> 16)
            if right >= 0 and left < width:
                set_span(canvas, low, high, width, y, left, right)
        else:
            rows = min(end[0], end[1], 0) - y  # nothing happens in the rows above the image: skip to the next event
        x += rows * step
        y += rows
        if y > y_most:
            return


@compiled
def paint_disc(canvas: Canvas, low: Ranges, high: Ranges, width: int, x: int, y: int, half_widths: Ranges) -> None:
    """Paint the disc at a line's end."""
    radius = len(half_widths) // 2
    for row in range(max(y - radius, 0), min(y + radius, canvas.shape[0] - 1) + 1):
        half = half_widths[row - y + radius]
        set_span(canvas, low, high, width, row, x - half, x + half)


@compiled
def paint_segment(
    canvas: Canvas,
    low: Ranges,
    high: Ranges,
    width: int,
    thickness: int,
    half_widths: Ranges,
    x1: int,
    y1: int,
    x2: int,
    y2: int,
) -> None:
    """Paint one thick line between integer end points, each anywhere in the range of a 32-bit integer (OpenCV's ThickLine)."""
    if x1 != x2 or y1 != y2:
        dx, dy = float(x1 - x2), float(y2 - y1)
        scale = (thickness * HALF + (thickness & 1) * HALF) / np.sqrt(dx * dx + dy * dy)
        across, down = int(np.rint(dy * scale)), int(np.rint(dx * scale))
        corners = np.empty((4, 2), np.int64)
        corners[0] = x1 * ONE + across, y1 * ONE + down
        corners[1] = x1 * ONE - across, y1 * ONE - down
        corners[2] = x2 * ONE - across, y2 * ONE - down
        corners[3] = x2 * ONE + across, y2 * ONE + down
        fill_quadrilateral(canvas, low, high, width, corners)
    paint_disc(canvas, low, high, width, x1, y1, half_widths)
    paint_disc(canvas, low, high, width, x2, y2, half_widths)


@compiled
def make_stamps(thickness: int, half_widths: Ranges) -> Canvas:
    """The pixels of every short segment, one word a row: (2 reach + 1, 2 reach + 1, rows), indexed by dy and dx plus reach.

    Bit 0 of row 0 lies `margin` = radius + 1 pixels to the left of and above the segment's bounding box. Away from the border a
    segment's pixels depend on (dx, dy) alone. Lines too wide for a word get no stamps (an empty array).
    """
    reach = STAMP_REACH
    if thickness > WIDEST_STAMP:
        return np.zeros((0, 0, 0), np.uint64)
    margin = len(half_widths) // 2 + 1
    rows = 2 * margin + 1 + reach
    stamps = np.zeros((2 * reach + 1, 2 * reach + 1, rows), np.uint64)
    canvas = np.zeros((rows, 2), np.uint64)
    low, high = np.zeros(rows // BAND + 1, np.int64), np.zeros(rows // BAND + 1, np.int64)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            canvas[:] = np.uint64(0)
            x, y = margin - min(dx, 0), margin - min(dy, 0)
            paint_segment(canvas, low, high, 64, thickness, half_widths, x, y, x + dx, y + dy)
            stamps[dy + reach, dx + reach] = canvas[:, 0]
    return stamps


@compiled
def paint_polyline(
    canvas: Canvas,
    low: Ranges,
    high: Ranges,
    width: int,
    thickness: int,
    half_widths: Ranges,
    stamps: Canvas,
    points: npt.NDArray[np.int32],
) -> None:
    """Paint the thick line through (N, 2) integer points; nothing for fewer than two points."""
    height, reach, margin = canvas.shape[0], STAMP_REACH, len(half_widths) // 2 + 1
    stamped = stamps.shape[0] > 0
    for i in range(1, len(points)):
        x1, y1, x2, y2 = int(points[i - 1, 0]), int(points[i - 1, 1]), int(points[i, 0]), int(points[i, 1])
        dx, dy = x2 - x1, y2 - y1
        if dx == 0 and dy == 0 and i > 1:
            continue  # a disc that the segment before has painted
        x, y = min(x1, x2) - margin, min(y1, y2) - margin
        right, bottom = max(x1, x2) + margin, max(y1, y2) + margin
        if stamped and abs(dx) <= reach and abs(dy) <= reach and x >= 0 and y >= 0 and right < width and bottom < height:
            word, shift = x >> 6, np.uint64(x & 63)
            back = np.uint64(63) - shift
            stamp = stamps[dy + reach, dx + reach]
            for row in range(1, bottom - y):
                canvas[y + row, word] |= stamp[row] << shift
                canvas[y + row, word + 1] |= (stamp[row] >> np.uint64(1)) >> back
            for row in range(y + 1, bottom, BAND):
                touch(low, high, row, word, right >> 6)
            touch(low, high, bottom - 1, word, right >> 6)
        else:
            paint_segment(canvas, low, high, width, thickness, half_widths, x1, y1, x2, y2)
