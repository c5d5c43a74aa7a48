"""Where the horizon lies in the frames of each form of dataset."""

from __future__ import annotations

import numpy as np

CULANE_SHARES = ((1.78, 0.36), (2.78, 0.455))
"""Width over height of a frame and the share of its height above the horizon; between the two it is interpolated. CULane's wide frames
were cut at the top; 16:9 frames in its layout are taken to show what dash cameras show. The renderer places its horizon there."""

TUSIMPLE_SHARE = 238 / 720
"""The row where straight lines through the two lanes beside the camera meet: the median over TuSimple's 6,407 labelled frames."""

LLAMAS_SHARE = 312 / 717
"""The renderer's; real labels weren't measured. CLRNet (configs/clrnet/clr_dla34_llamas.py) cuts LLAMAS's frames at row 300."""


def horizon_of(form: str, size: tuple[int, int]) -> float:
    """The row of a level road's vanishing point as a share of the height, in frames of `size` (height, width) of a form.

    KeyError for an unknown form.
    """
    if form == "culane":
        aspects, shares = zip(*CULANE_SHARES, strict=True)
        return float(np.interp(size[1] / size[0], aspects, shares))
    return {"tusimple": TUSIMPLE_SHARE, "llamas": LLAMAS_SHARE}[form]
