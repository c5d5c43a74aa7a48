"""What is known of a detector before any of its weights exist: data only, no torch.

A detector's metadata, inputs and published recipe are pydantic models, because suites override them key by key, records store them
and `samiro-bench detectors show` prints them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Form = Literal["culane", "tusimple", "llamas"]
"""The formats of lane datasets that a detector can be configured for."""

Family = Literal["segmentation", "row-wise", "anchor", "parametric", "keypoint"]


FILE = "file:"
"""What weights begin with that lie in a file."""


def _known_start(weights: str) -> str:
    if weights in {"none", "imagenet"} or (weights.startswith(FILE) and weights != FILE):
        return weights
    raise ValueError(f"{weights!r} is no start for a backbone: give imagenet, none or file:PATH")


Weights = Annotated[str, AfterValidator(_known_start)]
"""What a backbone starts from: `imagenet`, the published weights of `detectors.backbone_sources.BACKBONES`; `file:PATH`, a state dict
under the names of that backbone; `none`, random weights. Where a detector was trained already, `file:` is followed by the file's
sha256."""


class Data(BaseModel):
    """Base of all data at the seams: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalisation(Data):
    """How a network turns uint8 RGB images into its float input: (x / 255 - mean) / std, channels in `order`.

    `mean` and `std` are listed in that same `order`.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    order: Literal["rgb", "bgr"] = "rgb"


class InputSize(Data):
    """A detector's input: the part of the frame it sees and the size it sees it at.

    `crop` is (top, left, bottom, right) in pixels of a frame of size `frame` (height, width); frames of another size are cropped in
    proportion. `network` is (height, width) of the input tensor.
    """

    frame: tuple[int, int]
    crop: tuple[int, int, int, int]
    network: tuple[int, int]

    @model_validator(mode="after")
    def _something_to_see(self) -> Self:
        top, left, bottom, right = self.crop
        height, width = self.frame
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"crop {list(self.crop)} is no part of a frame of {height}x{width}: give [top, left, bottom, right] inside it"
            )
        return self

    def crop_of(self, original: tuple[int, int]) -> tuple[int, int, int, int]:
        """The crop in pixels of a frame of size `original` (height, width)."""
        scale_y, scale_x = original[0] / self.frame[0], original[1] / self.frame[1]
        top, left, bottom, right = self.crop
        return (round(top * scale_y), round(left * scale_x), round(bottom * scale_y), round(right * scale_x))


def _never(value: float) -> bool:
    return value == 0.0


def _always(value: float) -> bool:
    return value == 1.0


def _off(value: bool) -> bool:
    return not value


class Augmentation(Data):
    """Ranges of the random changes a training sample goes through; all zero is none. The same draw serves image and labels.

    `rotation` in degrees, `shift_x` and `shift_y` as a share of the frame's width and height, `scale` as a relative change, each drawn
    uniformly from +- the value; `flip` is the probability of a mirror image; `brightness`, `contrast`, `saturation` are relative
    changes of the colours, `hue` in degrees; `lift` is added to all channels, as a share of white. With `in_view` rotation, shifts and
    scale are those of the network's view, after crop and resize, whose pixels needn't be as high as wide in the frame.

    `crop` is the largest share of its height and width that a random crop takes from the view, which keeps its aspect. `blur` is the
    probability of a blur, which is Gaussian with a standard deviation up to `blur_sigma` or of motion along a streak of up to
    `blur_length`, in network pixels; where both are given, either as often. `geometric_probability` (of rotation, shift, scale and
    crop together) and `colour_probability` are the shares of samples that are changed so; the others keep geometry or colours.
    """

    # Settings with `exclude_if` came after the first records: at their defaults dumps leave them out, so that the identities of cells
    # made without them hold.
    flip: float = Field(0.0, ge=0, le=1)
    rotation: float = Field(0.0, ge=0, le=45)
    shift_x: float = Field(0.0, ge=0, le=0.5)
    shift_y: float = Field(0.0, ge=0, le=0.5)
    scale: float = Field(0.0, ge=0, lt=1)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    saturation: float = Field(0.0, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=180)
    lift: float = Field(0.0, ge=0, lt=1, exclude_if=_never)
    crop: float = Field(0.0, ge=0, lt=1, exclude_if=_never)
    blur: float = Field(0.0, ge=0, le=1, exclude_if=_never)
    blur_sigma: float = Field(0.0, ge=0, le=5, exclude_if=_never)
    blur_length: float = Field(0.0, ge=0, le=31, exclude_if=_never)
    geometric_probability: float = Field(1.0, ge=0, le=1, exclude_if=_always)
    colour_probability: float = Field(1.0, ge=0, le=1, exclude_if=_always)
    in_view: bool = Field(False, exclude_if=_off)

    @model_validator(mode="after")
    def _a_blur_of_some_size(self) -> Self:
        if (self.blur > 0) != (max(self.blur_sigma, self.blur_length) > 0):
            raise ValueError("'blur' is how often, 'blur_sigma' or 'blur_length' how much: give both or neither")
        return self


class Recipe(Data):
    """How a detector is trained. Exactly one of `epochs` and `steps` is given; `batch_size` is the global batch.

    `milestones` (schedule `multistep`) are shares of the whole training, 0 to 1. `half_cycles` (schedule `cosine`): how often the rate
    goes from one end to the other, down first, so that it ends at 0 where they are odd. `warmup_steps` rise linearly from
    `warmup_start` x learning rate. `learning_rate_factors`: submodules of the detector, by dotted path, that learn at so many times
    the rate. `ema_decay` has the detector deployed with a moving average of its weights, of that decay in the
    long run; None with the weights of a step. `confidence_threshold` is the published score below which a lane is not predicted.
    """

    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine", "multistep", "one_cycle", "poly"]
    milestones: tuple[float, ...] = ()
    gamma: float = Field(0.1, gt=0, le=1)
    power: float = Field(0.9, gt=0)
    half_cycles: int = Field(1, ge=1, exclude_if=lambda count: count == 1)
    warmup_steps: int = Field(0, ge=0)
    warmup_start: float = Field(0.0, ge=0, le=1)
    epochs: int | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    batch_size: int = Field(gt=0)
    clip_gradient_norm: float | None = Field(None, gt=0)
    # Settings with `exclude_if` are left out where they are off, so that recipes without them, and the identities made of them, stay
    # what they were.
    learning_rate_factors: dict[str, Annotated[float, Field(gt=0)]] = Field({}, exclude_if=lambda factors: not factors)
    ema_decay: float | None = Field(None, gt=0, lt=1, exclude_if=lambda decay: decay is None)
    augmentation: Augmentation = Augmentation()
    confidence_threshold: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of 'epochs' and 'steps'")
        return self

    def total_steps(self, images: int) -> int:
        """Optimizer steps of the whole training on a set of `images` images; the last incomplete batch of an epoch is dropped."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * max(1, images // self.batch_size)


class Configuration(Data):
    """A detector as configured for one dataset form: input, architecture options (the detector's own keys) and published recipe.

    `weights` is what the backbone starts from in that recipe. A detector is built with random weights whatever it says.
    """

    input: InputSize
    architecture: dict[str, Any] = {}
    weights: Weights = "none"
    recipe: Recipe


class DetectorMeta(Data):
    """Facts of one variant of a detector. `upstream`, `commit` and `licence` name the repository that the facts come from."""

    name: str
    paper: str
    year: int
    family: Family
    backbone: str
    upstream: str
    commit: str | None = None
    licence: str
    normalisation: Normalisation = Normalisation()
    configurations: dict[Form, Configuration]
