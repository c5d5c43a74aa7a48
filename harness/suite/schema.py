"""What a suite's file may say: one pydantic model a part. Unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from detectors.meta import Form
from harness.methods.config import BaselineConfiguration, MethodConfiguration, OracleConfiguration
from harness.rendered.spec import RenderSpec

Device = Literal["auto", "cpu", "cuda"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")]
"""A name that a suite gives: it becomes part of folders' and files' names."""

ProtocolName = Literal["lane-latency/1", "lane-latency/1-short"]


class Part(BaseModel):
    """Base of all parts of a suite: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetPart(Part):
    """A dataset: either `rendered` (made here) or real, of a `form`, found under the name `root` (default: the dataset's own name)."""

    rendered: RenderSpec | None = None
    form: Form | None = None
    root: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.rendered is None) == (self.form is None):
            raise ValueError("give either 'rendered' (a specification) or 'form' (culane, tusimple, llamas), not both")
        if self.rendered is not None and self.root is not None:
            raise ValueError("'root' is for real datasets; a rendered one lies where the harness put it")
        return self


class OraclePart(Part):
    """An oracle: what `configuration` says, pre-trained on the training split of `dataset`."""

    dataset: str
    configuration: OracleConfiguration


class DetectorPart(Part):
    """Overrides of a detector's published configuration, key by key; what is not named stays."""

    input: dict[str, Any] = {}
    architecture: dict[str, Any] = {}
    recipe: dict[str, Any] = {}


class TrainingPart(Part):
    """What holds for all cells. `threads`: CPU threads of torch in every phase, part of a cell's identity.

    selection: which checkpoint is scored; the last step's is the only rule so far.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int = Field(1, ge=1, le=256)
    device: Device = "auto"
    workers: int = Field(0, ge=0, le=64)
    selection: Literal["last"] = "last"


class EvaluationPart(Part):
    """One scoring of every cell's predictions."""

    split: Literal["train", "val", "test"] = "test"
    batch_size: int = Field(16, ge=1)


class Suite(Part):
    """A whole suite as its file says it; `name` and `file` say which file that is, and are no keys of it."""

    name: Name = Field(exclude=True)
    file: str = Field(exclude=True)
    title: str
    datasets: dict[Name, DatasetPart] = Field(min_length=1)
    oracles: dict[Name, OraclePart] = {}
    detectors: dict[str, DetectorPart] = Field(min_length=1)
    methods: dict[Name, MethodConfiguration] = Field(min_length=1)
    seeds: int = Field(1, ge=1, le=1000)
    training: TrainingPart = TrainingPart()
    evaluations: dict[Name, EvaluationPart] = Field({"test": EvaluationPart()}, min_length=1)
    throughput: ProtocolName = "lane-latency/1"


def oracle_of(method: MethodConfiguration) -> str | None:
    """The name of the oracle that a method needs, None if it needs none."""
    return None if isinstance(method, BaselineConfiguration) or method.lambda_ == 0 else method.oracle


def form_of(dataset: DatasetPart) -> Form:
    """The format of a dataset."""
    form = dataset.form if dataset.rendered is None else dataset.rendered.form
    assert form is not None
    return form
