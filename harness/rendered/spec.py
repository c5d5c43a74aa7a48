"""What a rendered dataset is asked to be: its pydantic schema, its scenarios and its identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.errors import did_you_mean
from harness.files.stored import sha256_of_json
from harness.sums import added_in_order

RENDERER_VERSION = "6"
"""Raised whenever the pixels or labels of specs of all forms change: it is part of a rendered dataset's identity.

Equal versions and specs give equal bytes on one machine. The kernels are compiled with fast floating-point arithmetic
for the host's CPU, so the low bits of pixels, though not of labels, may differ between kinds of CPU, and between releases
of what compiles them or the way in which it is told to: such rounding is no other version."""

LABELS_SINCE = 4
"""The first version of the renderer whose labels are today's, byte for byte: versions since then changed pixels alone."""

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

HIGHWAY_SHARES: dict[str, float] = {"normal": 0.42, "crowd": 0.2, "hlight": 0.1, "shadow": 0.13, "curve": 0.15}
"""TuSimple and LLAMAS were recorded on Californian highways by day. They name no scenarios: shares are chosen here."""

SPLITS = ("train", "val", "test")

LARGEST = 3600
"""Pixels of a frame's side. Archived coordinates end at 4000, and a lane's first point may lie a twentieth of a side outside."""

SHAPES = (0.5, 6.0)
"""Width over height. Cameras of other shapes see no stretch of a lane that is long enough to be labelled."""

Form = Literal["culane", "tusimple", "llamas"]


@dataclass(frozen=True)
class FormFacts:
    """What a form settles: its frame size, how many labelled frames share a clip unless a split says so, and the scenarios
    that it has with their default shares. `version` is raised when its pixels or labels change and those of the others don't."""

    width: int
    height: int
    frames_per_clip: int
    shares: dict[str, float]
    version: str
    any_size: bool = False


FORMS: dict[Form, FormFacts] = {
    "culane": FormFacts(1640, 590, 6, DEFAULT_SHARES, RENDERER_VERSION, any_size=True),
    "tusimple": FormFacts(1280, 720, 1, HIGHWAY_SHARES, f"{RENDERER_VERSION}, tusimple 1"),
    "llamas": FormFacts(1276, 717, 6, HIGHWAY_SHARES, f"{RENDERER_VERSION}, llamas 1"),
}


class SplitSpec(BaseModel):
    """One split: how many labelled frames, how many of them share a clip's scene, and the weights of the scenarios (None:
    those of the form)."""

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

    def shares(self, form: Form) -> dict[str, float]:
        """The scenarios' shares, in the order of `SCENARIOS`, summing to 1; those of weight 0 are left out."""
        weights = FORMS[form].shares if self.scenarios is None else self.scenarios
        positive = {name: weights[name] for name in SCENARIOS if weights.get(name, 0.0) > 0}
        # In one order, whichever they were written in: that is no part of a dataset's key.
        total = added_in_order([*positive.values()])
        return {name: weight / total for name, weight in positive.items()}


class RenderSpec(BaseModel):
    """A whole rendered dataset. `difficulty` in [0, 1] wears the paint, darkens nights, crowds and bends the road,
    shakes the camera.

    Size and clip length are those of the form unless given, sides of 64 to 3600 px; TuSimple's and LLAMAS's sizes are fixed, since
    their metrics are. A TuSimple clip has 20 frames of which the 20th is labelled; the 19 before it are rendered only if
    `unlabelled_frames` says so, which costs 20 times as much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form = "culane"
    width: int = Field(default=1640, ge=64, le=LARGEST)
    height: int = Field(default=590, ge=64, le=LARGEST)
    seed: int = Field(default=0, ge=0, lt=2**63)
    difficulty: float = Field(default=0.5, ge=0.0, le=1.0)
    splits: dict[str, SplitSpec]
    unlabelled_frames: bool = False

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_form(cls, values: Any) -> Any:
        form = values.get("form", "culane") if isinstance(values, dict) else None
        if form not in ("tusimple", "llamas"):
            return values
        facts = FORMS[form]
        filled = {"width": facts.width, "height": facts.height, **values}
        if isinstance(filled.get("splits"), dict):
            filled["splits"] = {
                name: _with_clip_length(split, facts.frames_per_clip) for name, split in filled["splits"].items()
            }
        return filled

    @field_validator("splits")
    @classmethod
    def _known_splits(cls, splits: dict[str, SplitSpec]) -> dict[str, SplitSpec]:
        for name in splits:
            if name not in SPLITS:
                raise ValueError(f"unknown split {name!r}: {did_you_mean(name, list(SPLITS))}")
        if not splits:
            raise ValueError("none is given: name at least one of train, val, test")
        return splits

    @model_validator(mode="after")
    def _possible_in_the_form(self) -> Self:
        facts = FORMS[self.form]
        if not SHAPES[0] <= self.width / self.height <= SHAPES[1]:
            raise ValueError(f"{self.width}x{self.height}: give frames from half as wide as high to six times as wide")
        if not facts.any_size and (self.width, self.height) != (facts.width, facts.height):
            raise ValueError(f"form {self.form} is {facts.width}x{facts.height}: leave 'width' and 'height' out")
        for name, split in self.splits.items():
            for scenario in split.scenarios or {}:
                if scenario not in facts.shares:
                    raise ValueError(
                        f"splits.{name}: form {self.form} has no scenario {scenario!r}; it has {', '.join(facts.shares)}"
                    )
            if self.form == "tusimple" and split.frames_per_clip != 1:
                raise ValueError(f"splits.{name}: a TuSimple clip has one labelled frame: leave 'frames_per_clip' out")
            if self.form == "tusimple" and name == "train" and split.frames < 2:
                raise ValueError("splits.train: TuSimple's training labels are two files: give at least 2 frames")
        if self.unlabelled_frames and self.form != "tusimple":
            raise ValueError(f"'unlabelled_frames' is for form tusimple: every frame of form {self.form} is labelled")
        return self


def _with_clip_length(split: Any, frames_per_clip: int) -> Any:
    """A split that says nothing about the length of its clips, with the form's."""
    if isinstance(split, dict):
        return {"frames_per_clip": frames_per_clip, **split}
    if isinstance(split, SplitSpec) and "frames_per_clip" not in split.model_fields_set:
        return split.model_copy(update={"frames_per_clip": frames_per_clip})
    return split


def gives_labels_of(version: str, form: Form) -> bool:
    """Whether this renderer gives the labels, though perhaps not the pixels, that a version of it gave for a form."""
    own = FORMS[form].version.removeprefix(RENDERER_VERSION)
    return version in {f"{number}{own}" for number in range(LABELS_SINCE, int(RENDERER_VERSION) + 1)}


def dataset_key(spec: RenderSpec, version: str | None = None) -> str:
    """Hex sha256 of the canonical JSON of the spec and its form's version: equal keys mean equal datasets.

    version: of the renderer, None for this one.
    """
    # A key that other forms don't know must not change theirs.
    foreign = set() if spec.form == "tusimple" else {"unlabelled_frames"}
    content = {"renderer": version or FORMS[spec.form].version, "spec": spec.model_dump(mode="json", exclude=foreign)}
    return sha256_of_json(content)
