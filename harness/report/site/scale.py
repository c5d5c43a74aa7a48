"""Linear and logarithmic axes of the page's plots: where a value lies, and which round values are marked."""

from __future__ import annotations

import math
from dataclasses import dataclass

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances of marks, times a power of ten."""


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` laid over `start` to `end` in pixels; those beyond are held at the edge."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies, in pixels to two decimals."""
        held = min(max(value, self.low), self.high)
        low, high, at = (
            (math.log(self.low), math.log(self.high), math.log(held))
            if self.logarithmic
            else (self.low, self.high, held)
        )
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, wanted: int = 5) -> tuple[float, ...]:
        """About so many round values within the scale."""
        if self.logarithmic:
            return log_ticks(self.low, self.high)
        span = self.high - self.low
        if span <= 0:
            return (self.low,)
        power = 10.0 ** math.floor(math.log10(span / wanted))
        step = next(factor * power for factor in STEPS if span / (factor * power) <= wanted)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(round(number * step, 10) + 0.0 for number in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times the powers of ten between two positive values."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (factor * 10.0**power for power in powers for factor in (1, 2, 5))
    return tuple(value for value in values if low <= value <= high)


def tick_text(value: float) -> str:
    """A mark as short as it can be, with a true minus."""
    return f"{value:g}".replace("-", "−")


def padded(values: list[float], share: float = 0.08) -> tuple[float, float]:
    """The lowest and highest of some values with some room on either side; a lone value gets room of its own size or 1."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room
