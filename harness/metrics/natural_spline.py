"""The curve through a lane's points, as the CULane C++ evaluator draws it, rounded to whole pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics.compiled import compiled

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.int32]

STEPS = 50
"""Equal steps of the parameter in each interval between two points (XingangPan/SCNN, tools/lane_evaluation)."""


@compiled
def rounded(value: np.float32) -> int:
    """Round half to even; NaN and what a 32-bit integer cannot hold become its least value (OpenCV's cvRound on x86-64)."""
    if not (-2147483648.0 <= value < 2147483648.0):
        return -2147483648
    return int(np.rint(value))


@compiled
def cube(value: float) -> float:
    """value ** 3 as a good C library rounds it (pow), which two multiplications don't: the exact product, then rounded once."""
    square = value * value
    product = square * value
    scale = 134217729.0  # 2**27 + 1 halves a double's digits, so that products of halves are exact (Dekker 1971)
    value_high, square_high = scale * value - (scale * value - value), scale * square - (scale * square - square)
    value_low, square_low = value - value_high, square - square_high
    square_lost = value_low * value_low - (square - value_high * value_high - 2.0 * value_high * value_low)
    product_lost = square_low * value_low - (
        product - square_high * value_high - square_low * value_high - square_high * value_low
    )
    exact = product + (product_lost + square_lost * value)
    return exact if np.isfinite(exact) else product


@compiled
def curve_pixels(points: Floats) -> Pixels:
    """The pixels to be joined by lines, int32 (M, 2), for float32 points (N, 2).

    Up to 2 points are themselves. From 3 on: the natural cubic spline (second derivative 0 at both ends), x and y separately over
    the cumulated chord length, at 50 equal steps an interval and at the last point. As in the original, differences of points are
    float32, coefficients double and results float32, and a repeated point makes the whole curve NaN but for its last point.
    """
    n = len(points)
    if n < 3:
        few = np.empty((n, 2), np.int32)
        for i in range(n):
            few[i, 0], few[i, 1] = rounded(points[i, 0]), rounded(points[i, 1])
        return few

    chord = np.empty(n - 1)
    for i in range(n - 1):
        dx, dy = np.float64(points[i + 1, 0] - points[i, 0]), np.float64(points[i + 1, 1] - points[i, 1])
        chord[i] = np.sqrt(dx * dx + dy * dy)
    pixels = np.empty(((n - 1) * STEPS + 1, 2), np.int32)
    upper, right, bend = np.empty(n - 2), np.empty(n - 2), np.empty(n)
    for axis in range(2):
        # Second derivatives `bend` at the points: a tridiagonal system, by Thomas's algorithm.
        for i in range(n - 2):
            slope = np.float64(points[i + 1, axis] - points[i, axis]) / chord[i]
            next_slope = np.float64(points[i + 2, axis] - points[i + 1, axis]) / chord[i + 1]
            pivot = 2 * (chord[i] + chord[i + 1])
            right[i] = 6 * (next_slope - slope)
            if i > 0:
                pivot -= chord[i] * upper[i - 1]
                right[i] -= chord[i] * right[i - 1]
            upper[i] = chord[i + 1] / pivot
            right[i] /= pivot
        bend[0] = bend[n - 1] = 0.0
        for i in range(n - 2, 0, -1):
            # The last one is taken as it is: subtracting 0 * upper would turn an infinite value into NaN.
            bend[i] = right[i - 1] if i == n - 2 else right[i - 1] - upper[i - 1] * bend[i + 1]
        for i in range(n - 1):
            h = chord[i]
            a = np.float64(points[i, axis])
            b = np.float64(points[i + 1, axis] - points[i, axis]) / h - (2 * h * bend[i] + h * bend[i + 1]) / 6
            c = bend[i] / 2
            d = (bend[i + 1] - bend[i]) / (6 * h)
            step = h / STEPS
            for k in range(STEPS):
                t = step * k
                pixels[i * STEPS + k, axis] = rounded(np.float32(a + b * t + c * (t * t) + d * cube(t)))
        pixels[(n - 1) * STEPS, axis] = rounded(points[n - 1, axis])
    return pixels


@compiled
def curves(points: Floats, ends: npt.NDArray[np.int64]) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """`curve_pixels` of every lane points[ends[i - 1]:ends[i]], one after the other, and where each ends."""
    total = start = 0
    for lane in range(len(ends)):
        size = ends[lane] - start
        total += size if size < 3 else (size - 1) * STEPS + 1
        start = ends[lane]
    pixels, pixel_ends = np.empty((total, 2), np.int32), np.empty(len(ends), np.int64)
    used = start = 0
    for lane in range(len(ends)):
        curve = curve_pixels(points[start : ends[lane]])
        for i in range(len(curve)):
            pixels[used, 0], pixels[used, 1] = curve[i, 0], curve[i, 1]
            used += 1
        pixel_ends[lane] = used
        start = ends[lane]
    return pixels, pixel_ends
