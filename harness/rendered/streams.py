"""The streams of random numbers of a clip: each part of it is drawn from one of its own.

What one part draws then moves no other: skies can gain a layer of hills without a lane's label changing, and a camera's softness says
nothing about the road that it looks at.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np


@unique
class Stream(IntEnum):
    """Parts of a clip by what is mixed into their generator's seed.

    A new part takes a new number. One that is given away again draws another's numbers, and one that changes moves every scene.
    """

    STREET = 77
    """Road, paint, weather, traffic and camera mount of CULane's form: everything that its labels depend on."""
    SHAKE = 78
    """A frame's: how the mount shakes, and where its noise begins."""
    HIGHWAY = 79
    """What `STREET` is, of TuSimple's and LLAMAS's forms."""
    WAYSIDE = 81
    """What stands behind the roadside, of either kind of road."""
    PAVEMENT = 83
    TONES = 84
    """Slabs, spots and tyre marks on the ground."""
    LOOK = 85
    """How the camera develops its frames."""
    AMERICAN_TRAFFIC = 86


def open_stream(seed: int, stream: Stream, *more: int) -> np.random.Generator:
    """A fresh generator of a part of the clip of a seed; `more` tells a frame's from another's. Equal arguments, equal numbers."""
    return np.random.default_rng(np.random.SeedSequence([seed & 0xFFFFFFFF, seed >> 32, int(stream), *more]))
