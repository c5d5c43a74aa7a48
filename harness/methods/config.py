"""Methods and oracles as a suite names them: data only, no torch.

Every choice that an implementer of SAMIRO has to make is a key here with a stated default, so that it can be ablated. Combinations in
which a part of the method would have no effect, or would collapse, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.errors import InputError, did_you_mean
from harness.files.strict import lists_as_tuples
from harness.files.validation import first_complaint

HERE = "harness/methods/config.py"


class Options(BaseModel):
    """Base of everything here: frozen, no value taken for one of another type, unknown keys refused, `lambda` writable by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)
    _lists_as_tuples = model_validator(mode="before")(lists_as_tuples)


class BaselineConfiguration(Options):
    """The detector as it is."""

    kind: Literal["baseline"] = "baseline"


class OracleGuidedConfiguration(Options):
    """Base of methods that learn from an oracle: which one, and what it is for. A kind states what else it wants for itself.

    oracle: name of one of the suite's oracles. taps: paths of the detector's taps, default all that train.
    """

    oracle: str | None = None
    taps: tuple[str, ...] | None = None

    @property
    def needed_oracle(self) -> str | None:
        """The name of the oracle that a training of this needs, None where it needs none."""
        return self.oracle

    @field_validator("taps")
    @classmethod
    def _distinct_taps(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("name each tap once and at least one, or leave the key out for all that train")
        return value

    @model_validator(mode="after")
    def _has_its_oracle(self) -> Self:
        if self.oracle is None:
            raise ValueError("key 'oracle': missing: give the name of one of the suite's oracles")
        return self


class RegularizedConfiguration(OracleGuidedConfiguration):
    """The options that SAMIRO and its controls share; the kinds below differ in nothing but their defaults.

    oracle: name of one of the suite's oracles; only needed where `lambda` isn't 0. taps: paths of the detector's taps, default all that
    train. attention: `spatial` or `none`. gate: `2sigmoid`, zero-initialised, is exactly 1 at the start; `cbam` is a plain sigmoid with
    random weights. site: `stream` replaces the stage's output, `regularizer` gates inside the regularizer only. mi_attention: `gate`
    predicts from A N(z); `weight` predicts from N(z) and weights positions by A without gradient; `off` ignores A. oracle_attention:
    `fixed` gates the target by the channel mean of abs(o), mean 1. normalize: N, of both networks' features; `none` also drops the
    standardisation of the target. projection: P. variance: `unit` starts at 1 above a floor of 0.05, `miro` at 0.1 above 1e-5, `fixed`
    is 1 and not learned. lambda: weight of the sum over taps; 0 only with attention in the stream. lambda_mode: `ratio` steers
    lambda so that its gradient is a tenth of the detector's at the taps. learning_rate: of P and the variances, with an AdamW of
    their own; or learning_rate_multiplier times the recipe's. pair: the oracle's tap of the same stride (else the nearest finer,
    else the nearest coarser) or of the same place in order. oracle_scale: the oracle's resolution as a share of the detector's.
    """

    attention: Literal["spatial", "none"] = "spatial"
    gate: Literal["2sigmoid", "cbam"] = "2sigmoid"
    site: Literal["stream", "regularizer"] = "stream"
    mi_attention: Literal["gate", "weight", "off"] = "gate"
    oracle_attention: Literal["none", "fixed"] = "none"
    normalize: Literal["channel_layernorm", "l2", "batch_standardize", "none"] = "channel_layernorm"
    projection: Literal["conv1x1", "identity"] = "conv1x1"
    variance: Literal["unit", "miro", "fixed"] = "unit"
    lambda_: float = Field(0.1, ge=0, allow_inf_nan=False, alias="lambda")
    lambda_mode: Literal["fixed", "ratio"] = "fixed"
    learning_rate: float | None = Field(3e-3, gt=0, allow_inf_nan=False)
    learning_rate_multiplier: float | None = Field(None, gt=0, allow_inf_nan=False)
    pair: Literal["stride", "depth"] = "stride"
    oracle_scale: float = Field(1.0, gt=0, le=1)

    @field_validator("mi_attention", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        # YAML reads a bare `off` as false.
        return "off" if value is False else value

    @field_validator("oracle_attention", mode="before")
    @classmethod
    def _no_learned_target(cls, value: object) -> object:
        if value == "learned":
            raise ValueError(
                "a learned gate on the target collapses (it makes the target vanish): give 'fixed' or 'none' instead"
            )
        return value

    @model_validator(mode="after")
    def _has_its_oracle(self) -> Self:
        if self.lambda_ > 0 and self.oracle is None:
            way_out = ", or lambda 0" if self.attends_in_stream else ""
            raise ValueError(f"key 'oracle': missing: give the name of one of the suite's oracles{way_out}")
        return self

    @model_validator(mode="after")
    def _no_void_attention(self) -> Self:
        if self.attention == "none" and self.mi_attention != "off":
            raise ValueError(
                f"key 'mi_attention': {self.mi_attention!r} has no attention to use: give 'off', or attention 'spatial'"
            )
        if self.attention == "spatial" and self.site == "regularizer":
            if self.mi_attention != "gate":
                raise ValueError(
                    f"key 'site': with 'regularizer' and mi_attention {self.mi_attention!r} the attention would never be "
                    "trained: give site 'stream', or mi_attention 'gate'"
                )
            if self.lambda_ == 0:
                raise ValueError(
                    "key 'site': with 'regularizer' and lambda 0 the attention does nothing: give site 'stream', or a "
                    "lambda above 0"
                )
        return self

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.lambda_ == 0 and not self.attends_in_stream:
            raise ValueError(
                "key 'lambda': 0 without attention in the stream is the baseline: give a lambda above 0, attention 'spatial', or "
                "kind 'baseline'"
            )
        if self.lambda_ == 0 and self.lambda_mode == "ratio":
            raise ValueError(
                "key 'lambda': 0 can't start lambda_mode 'ratio': give a lambda above 0, or lambda_mode 'fixed'"
            )
        if (self.learning_rate is None) == (self.learning_rate_multiplier is None):
            raise ValueError(
                "key 'learning_rate': give exactly one of learning_rate and learning_rate_multiplier, and null for the other"
            )
        return self

    @property
    def needed_oracle(self) -> str | None:
        """The name of the oracle, None where `lambda` is 0."""
        return self.oracle if self.lambda_ > 0 else None

    @property
    def attends_in_stream(self) -> bool:
        """Whether attention modules are part of the detector, also at inference."""
        return self.attention == "spatial" and self.site == "stream"


class SamiroConfiguration(RegularizedConfiguration):
    """Spatial attention in the stream, and the regularizer on normalised features through a learned projection (arXiv 2511.10385)."""

    kind: Literal["samiro"] = "samiro"


class AttentionOnlyConfiguration(RegularizedConfiguration):
    """Control: SAMIRO's attention without an oracle. Is it the added module?"""

    kind: Literal["attention_only"] = "attention_only"
    attention: Literal["spatial"] = "spatial"
    site: Literal["stream"] = "stream"
    lambda_: float = Field(0.0, ge=0, le=0, alias="lambda")


class MiroConfiguration(RegularizedConfiguration):
    """Control: MIRO (Cha et al., ECCV 2022): no attention, no normalisation, its initial variance."""

    kind: Literal["miro"] = "miro"
    attention: Literal["spatial", "none"] = "none"
    mi_attention: Literal["gate", "weight", "off"] = "off"
    normalize: Literal["channel_layernorm", "l2", "batch_standardize", "none"] = "none"
    variance: Literal["unit", "miro", "fixed"] = "miro"


class FeatureDistillationConfiguration(RegularizedConfiguration):
    """Control: the same normalisation and projection with the variance fixed at 1. Is it the *mutual information*?"""

    kind: Literal["feature_distillation"] = "feature_distillation"
    attention: Literal["spatial", "none"] = "none"
    mi_attention: Literal["gate", "weight", "off"] = "off"
    variance: Literal["unit", "miro", "fixed"] = "fixed"


MethodConfiguration = Annotated[
    BaselineConfiguration
    | SamiroConfiguration
    | AttentionOnlyConfiguration
    | MiroConfiguration
    | FeatureDistillationConfiguration,
    Field(discriminator="kind"),
]
"""Any method, told apart by `kind`."""


def kinds_of(models: Iterable[type[Options]]) -> dict[str, type[Options]]:
    """Kind of method -> its configuration. InputError where one has no `kind`, or two have the same."""
    found: dict[str, type[Options]] = {}
    for model in models:
        kinds = get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()
        if len(kinds) != 1:
            raise InputError(f'{HERE}: {model.__name__} has no kind of its own: give it `kind: Literal["..."] = "..."`')
        if kinds[0] in found:
            raise InputError(
                f"{HERE}: {found[kinds[0]].__name__} and {model.__name__} are both of kind {kinds[0]!r}: rename one"
            )
        found[kinds[0]] = model
    return found


KINDS = kinds_of(get_args(get_args(MethodConfiguration)[0]))
"""Kind of method -> its configuration."""


def method_configuration(name: str, mapping: Mapping[str, Any] | None, *, under: str = "") -> MethodConfiguration:
    """The configuration that a suite gives under `methods.<name>`; `kind` defaults to the name, None is "all defaults".

    Raises InputError in one line that names the key (as one that stands under the key `under`) and the fix.
    """
    options = dict(mapping or {})
    kind = options.setdefault("kind", name)
    if not isinstance(kind, str) or kind not in KINDS:
        key = f"{under}.kind" if under else "kind"
        raise InputError(f"key '{key}': unknown kind of method {kind!r}: {way_to_a_kind(str(kind))}")
    model: Any = KINDS[kind]
    try:
        configuration: MethodConfiguration = model.model_validate(options)
    except ValidationError as error:
        raise InputError(first_complaint(model, error, under=under)) from error
    return configuration


def way_to_a_kind(kind: str) -> str:
    """What to do about a kind that there isn't; a file or a module is a detector's way of coming in, and no method's."""
    if not set(kind) & set(".:/"):
        return did_you_mean(kind, list(KINDS))
    return (
        "methods lie inside the repository, below harness/methods, and not in files or packages of their own "
        f"(docs/add-a-method.md): add it there, or choose from {', '.join(KINDS)}"
    )


ORACLE_KINDS: dict[str, str] = {
    "mim": "backbone",
    "random": "backbone",
    "timm": "model",
    "supervised": "model",
    "shuffled": "oracle",
    "init": "",
}
"""Kind of oracle -> what stands behind the colon of its name; nothing for `init`."""

MADE_OF_IMAGES = ("mim", "random")
"""Kinds whose weights the harness makes from a dataset's training images. The options below are theirs."""

PUBLISHED = ("timm", "supervised")
"""Kinds whose weights were published, unless a file of them is given."""

READ_FROM_FILES = ("mim", *PUBLISHED)
"""Kinds whose weights may lie in a file."""


class OracleConfiguration(Options):
    """An oracle: `mim:<backbone>` is pre-trained by masked image modelling, `random:<backbone>` is left as it was drawn.

    `timm:<model>` has the weights that timm publishes under that name, `supervised:<model>` those of a supervised training: of a
    backbone of ours those that `weights: imagenet` stands for, else timm's. `init` is a frozen copy of the detector's own start;
    `shuffled:<oracle>`, another oracle of the suite, looks at another image. file: weights in a file instead, for `mim:`, `timm:` and
    `supervised:`: what `oracle pretrain` wrote, a state dict of the network, or for `supervised:` the checkpoint of a detector whose
    backbone it is; a path that starts at the suite's folder. What follows is for oracles that are made here: `mim:` without a file
    and `random:`.

    The defaults are for a small convnet and a machine with a GPU; a suite for a CPU gives fewer `steps`, a smaller `batch_size` and
    fewer `recalibration_batches`. image_size: (height, width) of the crops. mask_ratio: share of units hidden, a unit being
    `patch_unit` pixels square (default: the backbone's deepest stride). crop_scale: range of a crop's share of the image's area.
    decoder_width: channels at the decoder's coarsest stage, halved at each finer one. held_out: share of the clips that are kept for
    checking what was learned, in at most `held_out_images` images. seed: of its own first
    weights, crops and masks.
    """

    name: str
    file: str | None = Field(None, min_length=1)
    steps: int = Field(5000, ge=1)
    batch_size: int = Field(64, ge=1)
    image_size: tuple[int, int] = (128, 320)
    mask_ratio: float = Field(0.6, gt=0, lt=1)
    patch_unit: int | None = Field(None, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0.05, ge=0, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_share: float = Field(0.05, ge=0, le=1)
    crop_scale: tuple[float, float] = (0.4, 1.0)
    flip: float = Field(0.5, ge=0, le=1)
    decoder_width: int = Field(256, ge=16)
    recalibration_batches: int = Field(200, ge=1)
    held_out: float = Field(0.05, gt=0, lt=1)
    held_out_images: int = Field(32, ge=1)
    # It came after the first records, whose identities have none: at its default dumps leave it out.
    seed: int = Field(0, ge=0, lt=2**31, exclude_if=lambda seed: seed == 0)

    @field_validator("name")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        kind, _, rest = value.partition(":")
        names = [f"{known}:<{what}>" if what else known for known, what in ORACLE_KINDS.items()]
        if kind not in ORACLE_KINDS:
            raise ValueError(
                f"{value!r} names no kind of oracle: {did_you_mean(kind, list(ORACLE_KINDS))}; give {', '.join(names)}"
            )
        if bool(rest) != bool(ORACLE_KINDS[kind]):
            raise ValueError(f"{value!r}: give {names[list(ORACLE_KINDS).index(kind)]}")
        return value

    @model_validator(mode="after")
    def _options_that_mean_something(self) -> Self:
        options = sorted(self.model_fields_set - {"name", "file"})
        if self.file is not None and self.kind not in READ_FROM_FILES:
            raise ValueError(
                f"key 'file': means nothing for {self.name!r}: leave it out, or give {' or '.join(READ_FROM_FILES)}"
            )
        if not self.made_of_images and options:
            raise ValueError(
                f"key '{options[0]}': means nothing for {self.name!r}, which isn't trained here: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if min(self.image_size) < 1:
            raise ValueError("key 'image_size': give [height, width] in pixels, both above 0")
        if self.patch_unit is not None and any(side % self.patch_unit for side in self.image_size):
            raise ValueError(
                f"key 'image_size': {list(self.image_size)} isn't divisible by patch_unit {self.patch_unit}: give sides that are"
            )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                "key 'crop_scale': give [smallest, largest] share of the area, 0 < smallest <= largest <= 1"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("key 'betas': give two numbers, 0 <= beta < 1")
        return self

    @property
    def kind(self) -> str:
        """What stands before the colon of the name."""
        return self.name.partition(":")[0]

    @property
    def made_of_images(self) -> bool:
        """Whether the harness makes it from a dataset's training images."""
        return self.kind in MADE_OF_IMAGES and self.file is None

    @property
    def has_weights(self) -> bool:
        """Whether its weights were trained before: they lie in a file, or in the cache under the name that timm gives them."""
        return self.file is not None or self.kind in PUBLISHED

    @property
    def backbone(self) -> str:
        """What stands behind the colon of the name: a backbone of ours, a model of timm's, another oracle, or nothing."""
        return self.name.partition(":")[2]
