"""Thick lines, pixel for pixel as OpenCV 4.6 paints them, into bit masks, and the runs of such masks.

The official lane metrics are defined by `cv::line(image, p0, p1, 1, thickness)` (8-connected, integer end points). OpenCV 4.13
and later paint another shape where such a line leaves the image, so nothing here calls OpenCV: this is the geometry of
modules/imgproc/src/drawing.cpp (ThickLine, FillConvexPoly, Line2, Circle) in its 16.16 fixed-point numbers, overflow included.
A line is a quadrilateral (filled, then outlined) with a disc at either end.

A canvas is a uint64 array of shape (height, words); pixel x of row y is bit x % 64 of word x // 64. Beside it go its `bounds`, int64
of shape (height, 2): the first word of each row that may be set, and the one after the last.

Runs are a mask in raster order (row after row), uint16 of shape (R, 2): how many pixels are clear, how many then are set. No run goes
over the end of a row; what is too large for its type is cut in several runs, of which some are empty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics.compiled import ZERO, compiled

Canvas = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.int32]
Steps = npt.NDArray[np.uint16]

STAMP_REACH = 6
"""Segments of at most this many pixels in x and in y are stamped from a table."""

NOWHERE = 1 << 40
"""A column far to the right of any image: a span from here to its negative is empty."""

LARGEST = 65535
"""The largest number of a run."""

ONE = 1 << 16
HALF = 1 << 15
CORNER, END, X, STEP = range(4)
"""Columns of a chain of edges: the corner it runs to, that corner's row, its x in this row and what x gains a row."""


@compiled
def as_int32(value: int) -> int:
    """The low 32 bits as a signed number: what a C cast to int leaves of an int64."""
    return ((value + 2147483648) & 4294967295) - 2147483648


@compiled
def nearest(value: int) -> int:
    """A fixed-point number rounded to an integer, halves upwards."""
    return (value + HALF) >> 16


@compiled
def quotient(numerator: int, denominator: int) -> int:
    """Integer division that truncates towards zero, as in C."""
    if (numerator < 0) != (denominator < 0):
        return -(abs(numerator) // abs(denominator))
    return abs(numerator) // abs(denominator)


@compiled
def set_span(canvas: Canvas, bounds: Integers, width: int, y: int, left: int, right: int) -> None:
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
    bounds[y, 0] = min(bounds[y, 0], first)
    bounds[y, 1] = max(bounds[y, 1], last + 1)


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
def paint_outline(canvas: Canvas, bounds: Integers, width: int, x1: int, y1: int, x2: int, y2: int) -> None:
    """Paint a thin line between fixed-point ends, clipped to the image first (OpenCV's Line2)."""
    height = canvas.shape[0]
    inside, x1, y1, x2, y2 = clipped(x1, y1, x2, y2, width * ONE - 1, height * ONE - 1)
    if not inside:
        return
    dx, dy = x2 - x1, y2 - y1
    flat = abs(dx) > abs(dy)
    if (flat and dx < 0) or (not flat and dy < 0):
        x1, y1, x2, y2, dx, dy = x2, y2, x1, y1, -dx, -dy
    x, y = nearest(x2), nearest(y2)
    if 0 <= x < width and 0 <= y < height:
        set_span(canvas, bounds, width, y, x, x)
    if flat:
        steps, x, y = (dx >> 16) + 1, nearest(x1) << 16, y1 + HALF
        x_step, y_step = ONE, quotient(dy << 16, dx | 1)
    else:
        steps, x, y = (dy >> 16) + 1, x1 + HALF, nearest(y1) << 16
        x_step, y_step = quotient(dx << 16, dy | 1), ONE
    for _ in range(steps):
        column, row = x >> 16, y >> 16
        if 0 <= column < width and 0 <= row < height:
            word = column >> 6
            canvas[row, word] |= np.uint64(1) << np.uint64(column & 63)
            bounds[row, 0] = min(bounds[row, 0], word)
            bounds[row, 1] = max(bounds[row, 1], word + 1)
        x += x_step
        y += y_step


@compiled
def fill_quadrilateral(canvas: Canvas, bounds: Integers, width: int, corners: Integers) -> None:
    """Fill a convex quadrilateral and paint its outline. corners: (4, 2) fixed-point x, y (OpenCV's FillConvexPoly)."""
    height = canvas.shape[0]
    top = 0
    x_least = x_most = corners[0, 0]
    y_least = y_most = corners[0, 1]
    for i in range(4):
        before = (i + 3) % 4
        x, y = corners[i, 0], corners[i, 1]
        paint_outline(canvas, bounds, width, corners[before, 0], corners[before, 1], x, y)
        if y < y_least:
            y_least, top = y, i
        y_most = max(y_most, y)
        x_least, x_most = min(x_least, x), max(x_most, x)
    y_first, y_last = as_int32(nearest(y_least)), nearest(y_most)
    if (
        as_int32(nearest(x_most)) < 0
        or as_int32(y_last) < 0
        or as_int32(nearest(x_least)) >= width
        or y_first >= height
    ):
        return
    y_last = as_int32(min(y_last, height - 1))

    # Two chains of edges run down from the top corner; `end` is the row where a chain's present edge ends.
    chains = np.zeros((2, 4), np.int64)
    for side in range(2):
        chains[side, CORNER], chains[side, END], chains[side, X] = top, y_first, -ONE
    edges = 4
    y = y_first
    while True:
        for side in range(2):
            if y < chains[side, END]:
                continue
            turn = 1 if side == 0 else 3
            start = chains[side, CORNER]
            corner = (start + turn) % 4
            while True:
                edges -= 1
                if edges < 0:
                    return
                corner_row = as_int32(nearest(corners[corner, 1]))
                if corner_row > y:
                    break
                start, corner = corner, (corner + turn) % 4
            rows = as_int32(corner_row - y)
            if as_int32(2 * rows) == 0:
                raise ZeroDivisionError("OpenCV divides by zero on a line that is 2**31 rows high")
            run = corners[corner, 0] - corners[start, 0]
            chains[side, CORNER], chains[side, END], chains[side, X] = corner, corner_row, corners[start, 0]
            chains[side, STEP] = quotient(run * 2 + rows, as_int32(2 * rows))
        rows = 1
        if y >= 0:
            left = as_int32(nearest(min(chains[0, X], chains[1, X])))
            right = as_int32(nearest(max(chains[0, X], chains[1, X])))
            if right >= 0 and left < width:
                set_span(canvas, bounds, width, y, left, right)
        else:
            rows = (
                min(chains[0, END], chains[1, END], 0) - y
            )  # nothing is painted above the image: on to the next event
        for side in range(2):
            chains[side, X] += rows * chains[side, STEP]
        y += rows
        if y > y_last:
            return


@compiled
def paint_disc(canvas: Canvas, bounds: Integers, width: int, x: int, y: int, half_widths: Integers) -> None:
    """Paint the disc at a line's end."""
    radius = len(half_widths) // 2
    for row in range(max(y - radius, 0), min(y + radius, canvas.shape[0] - 1) + 1):
        half = half_widths[row - y + radius]
        set_span(canvas, bounds, width, row, x - half, x + half)


@compiled
def quadrilateral_reach(dx: int, dy: int, thickness: int) -> tuple[int, int]:
    """How far the corners lie from a line's ends in x and in y, signed, in fixed point."""
    length = np.sqrt(float(dx) * float(dx) + float(dy) * float(dy))
    if length == 0.0:
        return 0, 0
    scale = (thickness * HALF + (thickness & 1) * HALF) / length
    return int(np.rint(dy * scale)), int(np.rint(dx * scale))


@compiled
def paint_segment(
    canvas: Canvas,
    bounds: Integers,
    width: int,
    thickness: int,
    half_widths: Integers,
    x1: int,
    y1: int,
    x2: int,
    y2: int,
) -> None:
    """Paint one thick line between integer end points, each anywhere in the range of a 32-bit integer (OpenCV's ThickLine)."""
    if x1 != x2 or y1 != y2:
        across, down = quadrilateral_reach(x1 - x2, y2 - y1, thickness)
        corners = np.empty((4, 2), np.int64)
        corners[0, 0], corners[0, 1] = x1 * ONE + across, y1 * ONE + down
        corners[1, 0], corners[1, 1] = x1 * ONE - across, y1 * ONE - down
        corners[2, 0], corners[2, 1] = x2 * ONE - across, y2 * ONE - down
        corners[3, 0], corners[3, 1] = x2 * ONE + across, y2 * ONE + down
        fill_quadrilateral(canvas, bounds, width, corners)
    paint_disc(canvas, bounds, width, x1, y1, half_widths)
    paint_disc(canvas, bounds, width, x2, y2, half_widths)


@compiled
def paint_polyline(
    canvas: Canvas,
    bounds: Integers,
    width: int,
    thickness: int,
    half_widths: Integers,
    stamps: Integers,
    spans: Integers,
    points: Pixels,
) -> tuple[int, int]:
    """Paint the thick line through (N, 2) integer points, but for the rows of `spans` that it gives; nothing for fewer than two points.

    stamps: of `overlaps.make_stamps`; without any (an empty array) the result is the same, only slower, and no row is left.
    spans: of `overlaps.new_spans`; it comes empty. Short segments whose quadrilateral lies inside the image are not painted one by
    one: in each row their spans grow into one, which is painted when a span comes that it does not meet, and is left at the end.
    """
    height, reach, radius = canvas.shape[0], STAMP_REACH, len(half_widths) // 2
    stamped = stamps.shape[0] > 0
    left, right = spans[0], spans[1]
    above = radius + reach  # rows of `spans` above the image
    top, bottom = height + above, 0
    for i in range(1, len(points)):
        x1, y1, x2, y2 = int(points[i - 1, 0]), int(points[i - 1, 1]), int(points[i, 0]), int(points[i, 1])
        dx, dy = x2 - x1, y2 - y1
        if dx == 0 and dy == 0 and i > 1:
            continue  # a disc that the segment before has painted
        if not (stamped and abs(dx) <= reach and abs(dy) <= reach):
            paint_segment(canvas, bounds, width, thickness, half_widths, x1, y1, x2, y2)
            continue
        x_least, x_most, y_least, y_most = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        if x_most < -radius or y_most < -radius or x_least >= width + radius or y_least >= height + radius:
            continue
        rows = y_most - y_least + 2 * radius + 1
        v, u = dy + reach, dx + reach
        across, down = stamps[v, u, 0, rows], stamps[v, u, 1, rows]
        if (
            x_least * ONE - across < 0
            or x_most * ONE + across >= width * ONE
            or y_least * ONE - down < 0
            or y_most * ONE + down >= height * ONE
        ):
            paint_segment(canvas, bounds, width, thickness, half_widths, x1, y1, x2, y2)
            continue
        first = y_least - radius + above
        top, bottom = min(top, first), max(bottom, first + rows)
        begin = np.uint64(
            first
        )  # unsigned, so that the loops below need no test for negative indices and become vector code
        apart = 0
        for row in range(rows):
            start, end = left[begin + np.uint64(row)], right[begin + np.uint64(row)]
            meets = int(stamps[v, u, 0, row] + x1 <= end + 1) & int(stamps[v, u, 1, row] + x1 >= start - 1)
            apart |= int(start <= end) & (1 - meets)
        if apart:
            paint_spans(canvas, bounds, width, spans, first, first + rows, above)
        for row in range(rows):
            left[begin + np.uint64(row)] = min(left[begin + np.uint64(row)], stamps[v, u, 0, row] + x1)
        for row in range(rows):
            right[begin + np.uint64(row)] = max(right[begin + np.uint64(row)], stamps[v, u, 1, row] + x1)
    return top, bottom


@compiled
def paint_spans(
    canvas: Canvas, bounds: Integers, width: int, spans: Integers, first: int, last: int, above: int
) -> None:
    """Paint the rows first..last - 1 of `spans` as far as they lie in the image, and empty them."""
    for row in range(first, last):
        if 0 <= row - above < canvas.shape[0]:
            set_span(canvas, bounds, width, row - above, spans[0, row], spans[1, row])
        spans[0, row], spans[1, row] = NOWHERE, -NOWHERE


@compiled
def set_bits(word: np.uint64) -> int:
    """The number of ones in a word."""
    pairs = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    nibbles = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    octets = (nibbles + (nibbles >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((octets * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def put_step(steps: Steps, used: int, step: int) -> int:
    """Put a step behind the `used` ones, in pieces where it is too large for its type; gives how many there are then."""
    while step > LARGEST:
        steps[used], steps[used + 1] = LARGEST, 0
        used, step = used + 2, step - LARGEST
    steps[used] = step
    return used + 1


@compiled
def take_runs(
    canvas: Canvas, bounds: Integers, width: int, spans: Integers, above: int, steps: Steps, used: int, y: int, at: int
) -> tuple[int, int, int]:
    """Put the runs of rows of the canvas, together with the spans, behind the `used` steps, and clear these rows.

    y, at: the first row, and the pixel in raster order that the steps have come to. Gives `used`, `y` and `at` as they are at the end,
    or where there is no more room for a whole row.
    """
    while y < canvas.shape[0] and used + most_steps(canvas, width) <= len(steps):
        left, right = max(spans[0, y + above], 0), min(spans[1, y + above], width - 1)
        first, last = bounds[y, 0], bounds[y, 1]
        if first >= last:  # so it is in most rows: the span is all there is
            if left <= right:
                used = put_step(steps, put_step(steps, used, y * width + left - at), right + 1 - left)
                at = y * width + right + 1
            y += 1
            continue
        set_span(canvas, bounds, width, y, left, right)
        first, last = bounds[y, 0], bounds[y, 1]
        before = np.uint64(0)  # the last pixel of the word before
        for word in range(first, last + 1):
            bits = np.uint64(0)
            if word < last:
                bits, canvas[y, word] = canvas[y, word], bits
            changes = bits ^ (bits << np.uint64(1) | before)
            before = bits >> np.uint64(63)
            while changes != np.uint64(0):
                place = y * width + word * 64 + set_bits((changes & (~changes + np.uint64(1))) - np.uint64(1))
                changes &= changes - np.uint64(1)
                used = put_step(steps, used, place - at)
                at = place
        bounds[y, 0], bounds[y, 1] = canvas.shape[1], 0
        y += 1
    return used, y, at


@compiled
def most_steps(canvas: Canvas, width: int) -> int:
    """The most steps that a row can need."""
    return int(width + 2 * (canvas.shape[0] * width // LARGEST) + 2)


@compiled
def painted_runs(
    pixels: Pixels,
    ends: Integers,
    width: int,
    thickness: int,
    half_widths: Integers,
    stamps: Integers,
    spans: Integers,
    canvas: Canvas,
    bounds: Integers,
) -> tuple[Steps, Integers, Integers]:
    """See `overlaps.Painter.painted`: all runs, flat, after how many each lane ends, and its points.

    The canvas and the spans come and go empty.
    """
    steps, run_ends, points = np.empty(4096, np.uint16), np.empty(len(ends), np.int64), np.empty(len(ends), np.int64)
    above, most = len(half_widths) // 2 + STAMP_REACH, most_steps(canvas, width)
    used = start = ZERO
    for lane in range(len(ends)):
        polyline = pixels[start : ends[lane]]
        points[lane], start = len(polyline), ends[lane]
        top, bottom = paint_polyline(canvas, bounds, width, thickness, half_widths, stamps, spans, polyline)
        y = at = ZERO
        while y < canvas.shape[0]:
            if used + most > len(steps):
                grown = np.empty(2 * len(steps) + most, np.uint16)
                for step in range(used):  # a slice's assignment takes longer to compile than all else here
                    grown[step] = steps[step]
                steps = grown
            used, y, at = take_runs(canvas, bounds, width, spans, above, steps, used, y, at)
        for row in range(top, bottom):
            spans[0, row], spans[1, row] = NOWHERE, -NOWHERE
        run_ends[lane] = used // 2
    return steps[:used].copy(), run_ends, points
