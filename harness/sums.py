"""Sums whose last digit is the same on every Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def added_in_order(values: Sequence[float] | npt.NDArray[np.number]) -> float:
    """The sum of some fractions, rounded after each: `sum` of Python 3.12 and later, and numpy's, round otherwise.

    For whatever decides by that digit: which of two equal shares gets a clip more, whether a table comes out byte for byte.
    """
    return float(np.cumsum(values)[-1]) if len(values) else 0.0
