"""What a suite's file may say: one pydantic model a part. Unknown keys are refused, and what stands under a key explains it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from detectors.meta import Form, Weights
from harness.datasets.roots import ROOT_NAME
from harness.files.strict import lists_as_tuples
from harness.methods.config import MethodConfiguration, OracleConfiguration, OracleGuidedConfiguration
from harness.records.timings import ProtocolName
from harness.rendered.spec import RenderSpec

Device = Literal["auto", "cpu", "cuda"]
LONGEST_NAME = 48
"""In characters: four names and more make that of a file, which may have 255."""

NAME = rf"^[A-Za-z0-9_][A-Za-z0-9_.+-]{{0,{LONGEST_NAME - 1}}}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
"""A name that a suite gives: it becomes part of folders' and files' names."""

CorruptionName = Literal["fog", "rain", "blur", "defocus", "low_light", "compression", "noise"]
"""What can befall the images of an evaluation, each in severities from 1 (slight) to 5."""


def listed(value: object) -> object:
    """One thing is a list of one."""
    return value if isinstance(value, list | tuple | None) else (value,)


def filled(value: object) -> object:
    """`name:` without a value in YAML is None: all defaults."""
    return {} if value is None else value


def number(value: object) -> object:
    """`seeds: true` in YAML, which pydantic takes for 1, is no number."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


Patterns = Annotated[
    tuple[str, ...], Field(min_length=1), BeforeValidator(listed, json_schema_input_type=str | list[str])
]
"""Names, or shell patterns of names such as `resa_*`; any of them will do."""

Seeds = Annotated[int, Field(ge=1, le=1000), BeforeValidator(number)]
"""How many."""
Seed = Annotated[int, Field(ge=0, lt=1000), BeforeValidator(number)]
Severity = Annotated[int, Field(ge=1, le=5)]


class Part(BaseModel):
    """Base of all parts of a suite: frozen, no value taken for one of another type, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    _lists_as_tuples = model_validator(mode="before")(lists_as_tuples)


class DatasetPart(Part):
    """A dataset: either `rendered` (made here) or real, of a `form`."""

    rendered: RenderSpec | None = None
    form: Form | None = None
    root: str | None = None
    """The name under which paths.yaml and the environment know a real dataset's folder; default: the dataset's own name."""
    image_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """Height and width of the images of a real dataset of form culane; default: CULane's own, 590 and 1640."""
    lane_width: int | None = Field(None, ge=2, le=1000)
    """Pixels that lanes are painted wide when a real dataset of form culane is scored; default: the official 30, whatever the size."""

    @field_validator("form", mode="before")
    @classmethod
    def _known_form(cls, value: object) -> object:
        if value is not None and value not in get_args(Form):
            raise ValueError(
                f"{value!r} isn't a form: {', '.join(get_args(Form))}. Own data is written in culane's; a form of your own is added "
                "inside this repository, as docs/add-a-dataset.md says (A format of its own)"
            )
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.rendered is None) == (self.form is None):
            raise ValueError("give either 'rendered' (a specification) or 'form' (culane, tusimple, llamas), not both")
        if self.rendered is not None and self.root is not None:
            raise ValueError("'root' is for real datasets; a rendered one lies where the harness put it")
        if self.root is not None and not ROOT_NAME.fullmatch(self.root):
            raise ValueError(
                f"key 'root': {self.root!r} isn't a name: write `NAME: {self.root}` into paths.yaml, and `root: NAME` here"
            )
        if self.form != "culane" and (self.image_size or self.lane_width):
            raise ValueError("'image_size' and 'lane_width' are for real datasets of form culane: leave them out")
        return self


class OraclePart(Part):
    """An oracle: what `configuration` says."""

    dataset: str | None = None
    """Whose training split the harness makes it from; default: that of the dataset which a cell trains on."""
    per_seed: bool = False
    """Whether each seed of the matrix has one of its own, made with that seed; else one oracle serves them all."""
    configuration: OracleConfiguration

    @model_validator(mode="after")
    def _images_for_a_purpose(self) -> Self:
        given = [key for key in ("dataset", "per_seed") if getattr(self, key) not in (None, False)]
        if given and not self.configuration.made_of_images:
            raise ValueError(
                f"key '{given[0]}': {self.configuration.name!r} isn't made from a dataset's images: leave it out"
            )
        if self.per_seed and "seed" in self.configuration.model_fields_set:
            raise ValueError(
                "key 'configuration.seed': with 'per_seed' the matrix gives the seeds: leave one of them out"
            )
        return self

    def of_seed(self, seed: int) -> OraclePart:
        """The one oracle that a seed of the matrix has."""
        if not self.per_seed:
            return self
        own = self.configuration.model_copy(update={"seed": seed})
        return self.model_copy(update={"configuration": own, "per_seed": False})


class Overrides(Part):
    """What differs from a detector's published configuration, key by key; what is not named stays."""

    input: dict[str, Any] = {}
    """Frame, crop and network size."""
    architecture: dict[str, Any] = {}
    """Options of the detector's own."""
    weights: Weights | None = None
    """What the backbone starts from: `imagenet`, `none` or `file:PATH`, a path that starts at the suite's folder."""
    recipe: dict[str, Any] = {}
    """How it is trained. `steps` takes the place of `epochs`, and the other way round."""


class FormOverrides(Overrides):
    """Overrides that hold on datasets of one form."""

    like: Form | None = None
    """The form whose configuration is the start, where the detector has none for this one."""


class DetectorPart(Overrides):
    """Overrides of a detector's published configurations."""

    forms: dict[Form, FormOverrides] = {}
    """Overrides for one form of dataset, laid over those for all."""


class NamedDetectorPart(DetectorPart):
    """What a suite lists among its detectors."""

    adapter: str | None = None
    """The detector that a name of the suite's own stands for: with other overrides it is a row of its own. Default: the key."""


class TrainingPart(Part):
    """What holds for all cells. All but `device`, `workers`, `cache_gigabytes`, `checkpoint_seconds`, `tensorboard` is identity."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    """Whether images and convolutions lie in memory channel by channel of a pixel, which GPUs prefer in bf16 and fp16."""
    compile: bool = False
    """Whether the training runs through torch.compile."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Samples that go through the model at once, of each process's share of a batch; default: all. The gradients are accumulated."""
    processes: int = Field(1, ge=1, le=64)
    """Among how many processes each batch of a training is shared out, with a GPU each where there are GPUs; it divides the batch."""
    threads: int = Field(1, ge=1, le=256)
    """CPU threads of torch in every phase, in each process."""
    device: Device = "auto"
    workers: int = Field(0, ge=0, le=64)
    """Processes that load data."""
    cache_gigabytes: float = Field(1.0, ge=0, le=100_000, allow_inf_nan=False)
    """Memory for decoded training images, of all loader processes of a cell together. What doesn't fit is decoded each time."""
    checkpoint_seconds: float = Field(60.0, gt=0, le=86_400, allow_inf_nan=False)
    """How often a training is written down: what is lost at most when it is killed or pre-empted."""
    selection: Literal["last", "val-best"] = "last"
    """Which step's weights are scored: the last, or the best on the validation split of the dataset that a cell trains on."""
    confidence: Literal["published", "val-best"] = "published"
    """Below which score a lane isn't predicted: the recipe's, or what is best on the validation split, chosen for every cell alike."""
    validations: int = Field(10, ge=1, le=1000)
    """How often a training is validated where `selection` is `val-best`: evenly over its steps, and at the last."""
    tensorboard: bool = False
    """Whether the log of a training is written as TensorBoard's events as well; needs the extra `tensorboard`."""


class CorruptionPart(Part):
    """What befalls the test images, once in every severity: each is an evaluation of its own, `<evaluation>-<severity>`."""

    name: CorruptionName
    severities: Annotated[
        tuple[Severity, ...], Field(min_length=1), BeforeValidator(listed, json_schema_input_type=int | list[int])
    ] = (1, 2, 3, 4, 5)


class EvaluationPart(Part):
    """One scoring of the cells' predictions."""

    split: Literal["train", "val", "test"] = "test"
    batch_size: int = Field(16, ge=1)
    dataset: str | None = None
    """The dataset that is predicted and scored; default: the one that a cell was trained on."""
    corruption: CorruptionPart | None = None
    trained_on: Patterns | None = None
    """Only cells that were trained on these datasets; default: all."""


class Condition(Part):
    """Which cells are meant: those that fit every key that is given."""

    dataset: Patterns | None = None
    detector: Patterns | None = None
    """Names of variants, as tables show them."""
    method: Patterns | None = None
    seed: (
        Annotated[
            tuple[Seed, ...], Field(min_length=1), BeforeValidator(listed, json_schema_input_type=int | list[int])
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("names nothing: give at least one of dataset, detector, method, seed")
        return self


class Needs(Part):
    """What a job asks of the machine that it runs on. No part of any identity: results don't depend on it."""

    cpus: int | None = Field(None, ge=1, le=4096)
    """Cores; default: `training.threads` and `training.workers` of every process of a job, on one's own machine only the threads."""
    memory_gigabytes: float | None = Field(None, gt=0, le=100_000, allow_inf_nan=False)
    """Main memory; default: the scheduler's, on one's own machine `training.cache_gigabytes`, or less where all images fill less."""
    gpu_memory_gigabytes: float | None = Field(None, gt=0, le=100_000, allow_inf_nan=False)
    """Memory on each GPU that a job uses: cells share a GPU by it. Default: a GPU to itself."""
    hours: float | None = Field(None, ge=0.1, le=10_000, allow_inf_nan=False)
    """Time limit of a job on Slurm, at which it is queued again and goes on from its checkpoint; default: 24."""
    whole_node: bool = True
    """Of Slurm alone: whether jobs that want to be alone (times, renderers, programs) ask for a whole node; else times are flagged."""
    slurm: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$")], str | int] = {}
    """Options of sbatch by their long names (`partition`, `account`, `qos`, `constraint`), and `array-parallelism`."""

    @model_validator(mode="after")
    def _ours(self) -> Self:
        for key in sorted(OURS & self.slurm.keys()):
            raise ValueError(
                f"key 'slurm.{key}': the engine sets this option itself: {OURS_INSTEAD.get(key, 'leave it out')}"
            )
        return self


OURS_INSTEAD = {
    "time": "say 'hours'",
    "mem": "say 'memory_gigabytes'",
    "cpus-per-task": "say 'cpus'",
    "gpus-per-node": "say 'training.processes'",
    "exclusive": "say 'whole_node'",
}
OURS = OURS_INSTEAD.keys() | {
    "array", "error", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "signal", "wckey",
}  # fmt: skip
"""Options of sbatch that the engine sets itself."""


class CellNeeds(Condition, Needs):
    """What cells need that fit a condition, laid over what all need."""

    @model_validator(mode="after")
    def _conditional(self) -> Self:
        if not self.model_fields_set & Condition.model_fields.keys():
            raise ValueError("names no cells: give at least one of dataset, detector, method, seed")
        return self


class ResourcesPart(Needs):
    """What jobs need, and `cells`, which need something else; of several that fit, the last decides, key by key."""

    cells: tuple[CellNeeds, ...] = ()


class Inclusion(Part):
    """Cells that join the matrix after all exclusions: the product of what is named here, an axis left out being whole."""

    dataset: Patterns | None = None
    detector: Patterns | None = None
    method: Patterns | None = None
    seeds: Seeds | Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    """How many, from 0 on, or a list of which; default: the suite's."""


class Suite(Part):
    """A whole suite as its file says it; `name` and `file` say which file that is, and are no keys of it."""

    name: Name = Field(exclude=True)
    file: str = Field(exclude=True)
    title: str
    datasets: dict[Name, DatasetPart] = Field(min_length=1)
    oracles: dict[Name, OraclePart] = {}
    defaults: DetectorPart = DetectorPart()
    """What every detector's own overrides are laid over."""
    detectors: dict[
        str, Annotated[NamedDetectorPart, BeforeValidator(filled, json_schema_input_type=NamedDetectorPart | None)]
    ] = Field(min_length=1)
    """Names, or path/to/file.py:Class from the suite's folder, with overrides or nothing; or names of its own, with an `adapter`."""
    methods: dict[Name, MethodConfiguration] = Field(min_length=1)
    """Names with options; `kind` defaults to the name."""
    seeds: Seeds = 1
    """How many: 0 to seeds - 1."""
    exclude: tuple[Condition, ...] = ()
    """Points of datasets x detectors x methods x seeds that are left out."""
    include: tuple[Inclusion, ...] = ()
    tiers: dict[Name, Annotated[tuple[Condition, ...], Field(min_length=1)]] = {}
    """In which order cells are run, name by name: a cell is of the first tier one of whose conditions it fits."""
    training: TrainingPart = TrainingPart()
    evaluations: dict[
        Name, Annotated[EvaluationPart, BeforeValidator(filled, json_schema_input_type=EvaluationPart | None)]
    ] = Field({}, min_length=1)
    """By default one, of the split that the field scores: `test`, but of LLAMAS, whose test labels are private, `val`."""
    throughput: ProtocolName = "lane-latency/1"
    resources: ResourcesPart = ResourcesPart()
    """What jobs ask of the machines that they run on, on any engine."""


def oracle_of(method: MethodConfiguration) -> str | None:
    """The name of the oracle that a method needs, None if it needs none."""
    return method.needed_oracle if isinstance(method, OracleGuidedConfiguration) else None


def adapter_named(suite: Suite, detector: str) -> str:
    """How the registry finds a detector that a suite lists: by its key, or by what the key stands for."""
    return suite.detectors[detector].adapter or detector


def form_of(dataset: DatasetPart) -> Form:
    """The format of a dataset."""
    form = dataset.form if dataset.rendered is None else dataset.rendered.form
    assert form is not None
    return form
