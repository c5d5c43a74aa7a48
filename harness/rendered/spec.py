"""What a rendered dataset is asked to be: its pydantic schema, its scenarios and its identity."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.errors import did_you_mean
from harness.files import sha256_of_json

RENDERER_VERSION = "4"
"""Raised whenever the pixels or labels of any spec change: it is part of a rendered dataset's identity.

Equal versions and specs give equal bytes on one machine. The kernels are compiled with fast floating-point arithmetic
for the host's CPU, so the low bits of pixels, though not of labels, may differ between kinds of CPU."""

SCENARIOS = ("normal", "crowd", "hlight", "shadow", "noline", "arrow", "curve", "cross", "night")
"""CULane's nine scenarios in the order of its test splits (test0_normal ... test8_night)."""

DEFAULT_SHARES: dict[str, float] = {
    "normal": 0.18,
    "crowd": 0.16,
    "hlight": 0.08,
    "shadow": 0.09,
    "noline": 0.12,
    "arrow": 0.09,
    "curve": 0.08,
    "cross": 0.06,
    "night": 0.14,
}
"""CULane's test shares (normal .28, crowd .23, night .20, noline .12, cross .09, shadow .03, arrow .03, hlight .01,
curve .01)
drawn towards equal ones, so that a small dataset holds every scenario."""

SPLITS = ("train", "val", "test")


class SplitSpec(BaseModel):
    """One split: how many frames, how many of them share a clip's scene, and the weights of the scenarios (None:
    `DEFAULT_SHARES`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int = Field(ge=1)
    frames_per_clip: int = Field(default=6, ge=1, le=200)
    scenarios: dict[str, float] | None = None

    @field_validator("scenarios")
    @classmethod
    def _known_scenarios(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        if weights is None:
            return None
        for name, weight in weights.items():
            if name not in SCENARIOS:
                raise ValueError(f"unknown scenario {name!r}: {did_you_mean(name, list(SCENARIOS))}")
            if not 0.0 <= weight < float("inf"):
                raise ValueError(f"{name}: the weight is {weight}: give a finite number >= 0")
        if not sum(weights.values()) > 0:
            raise ValueError("no scenario has a weight above 0: give at least one")
        return weights

    @property
    def shares(self) -> dict[str, float]:
        """The scenarios' shares, in the order of `SCENARIOS`, summing to 1; those of weight 0 are left out."""
        weights = DEFAULT_SHARES if self.scenarios is None else self.scenarios
        total = sum(weights.values())
        return {name: weights[name] / total for name in SCENARIOS if weights.get(name, 0.0) > 0}


class RenderSpec(BaseModel):
    """A whole rendered dataset. `difficulty` in [0, 1] wears the paint, darkens nights, crowds and bends the road,
    shakes the camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["culane"] = "culane"
    width: int = Field(default=1640, ge=64, le=8192)
    height: int = Field(default=590, ge=64, le=8192)
    seed: int = Field(default=0, ge=0, lt=2**63)
    difficulty: float = Field(default=0.5, ge=0.0, le=1.0)
    splits: dict[str, SplitSpec]

    @field_validator("splits")
    @classmethod
    def _known_splits(cls, splits: dict[str, SplitSpec]) -> dict[str, SplitSpec]:
        for name in splits:
            if name not in SPLITS:
                raise ValueError(f"unknown split {name!r}: {did_you_mean(name, list(SPLITS))}")
        if not splits:
            raise ValueError("none is given: name at least one of train, val, test")
        return splits


def dataset_key(spec: RenderSpec) -> str:
    """Hex sha256 of the canonical JSON of the spec and the renderer's version: equal keys mean equal datasets."""
    content: dict[str, Any] = {"renderer": RENDERER_VERSION, "spec": spec.model_dump(mode="json")}
    return sha256_of_json(content)
