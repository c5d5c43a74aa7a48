"""Bounds of what records hold of sizes and times: none is negative, and none so large that a table couldn't show it.

A stranger's record states them as it likes. Read at all, a time of 0 would be divided by, and a size of thousands of digits fits no
float.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = 10**15

SHORTEST = 1e-9
"""Milliseconds, or seconds: less is no time."""

Amount = Annotated[int, Field(ge=0, le=LARGEST)]
"""Bytes, steps, parameters, images: whatever is counted."""

Positive = Annotated[int, Field(ge=1, le=LARGEST)]
"""What there is one of at least: threads, a batch's images."""

Measured = Annotated[float, Field(ge=0, le=LARGEST)]
"""Seconds, milliseconds, operations, rates: 0 where a clock or a count is too coarse to tell."""

Elapsed = Annotated[float, Field(ge=SHORTEST, le=LARGEST)]
"""Seconds or milliseconds that others are divided by: no clock here tells less than a nanosecond."""

Ratio = Annotated[float, Field(gt=0, le=LARGEST)]
"""One time over another."""
