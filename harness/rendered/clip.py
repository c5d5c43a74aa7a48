"""A clip of a rendered dataset, before anything of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clip:
    """One clip to render: its split, its number within it, its folder (relative, no leading slash), scenario, seed and number
    of labelled frames."""

    split: str
    number: int
    folder: str
    scenario: str
    seed: int
    frames: int
