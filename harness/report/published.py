"""Published figures: results/published/*.csv, one file a dataset, each line with its source.

docs/leaderboard-columns.md describes the columns. The figures stand beside what was measured here and are never ranked with it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.errors import InputError, did_you_mean
from harness.report.columns import ALWAYS

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
"""Where the published figures lie in a checkout."""

DATASETS = ("culane", "tusimple", "llamas", "curvelanes", "models")
"""The files there are. `models` holds what belongs to no dataset: speed and size at an input size."""

NAMES = "detectors.csv"
"""Beside them: what the field calls the detectors of the registry."""

DETECTORS = frozenset(
    {
        "ADNet", "BezierLaneNet", "CLRKDNet", "CLRNet", "CLRerNet", "CondLaneNet", "ENet-SAD", "ERFNet-CULane", "GANet", "GSENet",
        "LSTR", "LaneATT", "PolarRCNN", "PolyLaneNet", "RESA", "SCNN", "SRLane", "SegBaseline", "UFLD", "UFLDv2",
    }
)  # fmt: skip
"""What the field calls its detectors."""

BACKBONES = frozenset(
    {
        "convnext_tiny", "dla34", "efficientnet_b0", "enet", "erfnet", "mobilenetv2", "mobilenetv3_large", "repvgg_a0", "repvgg_a1",
        "repvgg_b0", "repvgg_b1g2", "repvgg_b2", "resnet18", "resnet18s", "resnet18s_2x", "resnet34", "resnet50", "resnet101",
        "resnet122", "swin_tiny", "vgg16",
    }
)  # fmt: skip
"""Backbones in the spelling of `detectors.backbones`."""

POINTS = frozenset({column.key for column in ALWAYS if column.factor != 1.0} | {"f1", "precision", "recall"})
"""Metrics in points, named as the columns of leaderboard.csv. `f1`: of TuSimple, where the source doesn't say how it is made."""

COUNTS = frozenset({"cross_fp", "true_positives", "false_positives", "false_negatives", "parameters"})
"""Metrics that are whole numbers."""

RATES = frozenset({"fps", "gflops", "gmacs"})
"""Metrics of speed and size."""

ANY = "any"
"""The detector and the backbone of a line about a whole table that isn't available."""


def _known(names: frozenset[str], what: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"{name!r} is no {what}: {did_you_mean(name, sorted(names))}")
        return name

    return AfterValidator(check)


def _source(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+ \S.*|paper: \S.*", text):
        raise ValueError(f"{text!r} names no source: give 'owner/repository file', or 'paper: ...'")
    return text


class Figure(BaseModel):
    """One published figure. `value` is in the unit of leaderboard.csv (points, counts); None where it isn't available.

    implementation: whose code: the `authors`', or the repository of a re-implementation. variant: what sets it apart from others of the
    same detector and backbone. definition: what the metric is where that isn't plain. kind: of which run. evaluator: what scored it.
    selection: which checkpoint was scored. note: what else the source says. Whatever a source doesn't say is `not stated`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["culane", "tusimple", "llamas", "curvelanes", "models"]
    detector: Annotated[str, _known(DETECTORS | {ANY}, "known detector")]
    backbone: Annotated[str, _known(BACKBONES | {ANY, "not stated"}, "known backbone")]
    method: Literal["baseline", "samiro"]
    implementation: Literal[
        "authors", "pytorch-auto-drive", "lanedet", "UnLanedet", "SCNN_Pytorch", "Codes-for-Lane-Detection"
    ]
    variant: str
    split: Literal["test", "val", "not stated", "none"]
    metric: Annotated[str, _known(POINTS | COUNTS | RATES, "known metric")]
    value: Annotated[float | None, BeforeValidator(lambda text: None if text == "" else text)] = Field(
        ge=0, allow_inf_nan=False
    )
    definition: str = Field(min_length=1)
    kind: Literal[
        "best of runs", "mean of runs", "released checkpoint", "repository", "paper", "abstract", "not available"
    ]
    evaluator: Literal[
        "culane/official", "culane/clrnet", "tusimple/official", "llamas/official", "benchmark server", "not stated", "none"
    ]  # fmt: skip
    selection: Literal["test-best", "val-best", "last", "not stated", "none"]
    source: Annotated[str, AfterValidator(_source)]
    note: str

    @model_validator(mode="after")
    def _value_in_its_unit(self) -> Self:
        if (self.value is None) != (self.kind == "not available"):
            raise ValueError("a line has a 'value', or its 'kind' is 'not available'")
        if self.value is not None and self.metric in POINTS and self.value > 100:
            raise ValueError(f"'value' {self.value} is beyond 100 points")
        if self.value is not None and self.metric in COUNTS and not self.value.is_integer():
            raise ValueError(f"'value' {self.value} is no whole number")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """What no two lines of a file share."""
        return (
            *(self.detector, self.backbone, self.method, self.implementation, self.variant, self.split, self.metric),
            *(self.kind, self.evaluator, self.source),
        )


COLUMNS = tuple(name for name in Figure.model_fields if name != "dataset")
"""The columns of a file; its name is the dataset."""


@dataclass(frozen=True)
class Published:
    """All published figures, and what the field calls the detectors of the registry."""

    figures: tuple[Figure, ...] = ()
    names: tuple[tuple[str, str], ...] = ()

    def name_of(self, detector: str) -> str | None:
        """The field's name of a detector of the registry; None for one that nobody published figures of."""
        return dict(self.names).get(detector)


def read_published(folder: Path = PUBLISHED) -> Published:
    """Read every file of published figures. A folder that isn't there gives none: an installed package has no results.

    InputError, naming file, line and key: a file or a column that is missing or unknown, a line that isn't a figure or stands twice.
    """
    if not folder.is_dir():
        return Published()
    strange = sorted({path.stem for path in folder.glob("*.csv")} - {*DATASETS, Path(NAMES).stem})
    if strange:
        raise InputError(f"{folder / strange[0]}.csv: no file of published figures; move it away")
    figures = tuple(figure for dataset in DATASETS for figure in read_figures(folder / f"{dataset}.csv"))
    return Published(figures, tuple(read_names(folder / NAMES, figures)))


def read_figures(path: Path) -> Iterator[Figure]:
    """The figures of one dataset, in the order of the file."""
    seen: dict[tuple[str, ...], int] = {}
    for number, line in lines_of(path, COLUMNS):
        try:
            figure = Figure.model_validate({"dataset": path.stem, **line})
        except ValidationError as error:
            first = error.errors()[0]
            key = f"key '{first['loc'][0]}': " if first["loc"] else ""
            raise InputError(f"{path}: line {number}: {key}{first['msg'].removeprefix('Value error, ')}") from error
        if figure.key in seen:
            raise InputError(
                f"{path}: line {number}: key 'metric': the figure of line {seen[figure.key]} again; leave one of the two out"
            )
        seen[figure.key] = number
        yield figure


def read_names(path: Path, figures: tuple[Figure, ...]) -> Iterator[tuple[str, str]]:
    """The detectors of the registry that there are figures of, with the field's name."""
    published, seen = {figure.detector for figure in figures}, set()
    for number, line in lines_of(path, ("name", "detector")):
        if line["detector"] not in published:
            raise InputError(f"{path}: line {number}: key 'detector': {line['detector']!r} has no published figure")
        if line["name"] in seen:
            raise InputError(
                f"{path}: line {number}: key 'name': {line['name']!r} stands twice; leave one of the two out"
            )
        seen.add(line["name"])
        yield line["name"], line["detector"]


def lines_of(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file with their numbers; InputError unless it has exactly these columns, and every line all of them."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV file in UTF-8 ({error}); restore it") from error
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = next(reader, [])
        if tuple(header) != columns:
            wrong = next((name for name in [*columns, *header] if (name in columns) != (name in header)), "the order")
            raise InputError(f"{path}: line 1: key '{wrong}': the columns are {', '.join(columns)}")
        for cells in reader:
            if len(cells) != len(columns):
                raise InputError(
                    f"{path}: line {reader.line_num}: {len(cells)} cells instead of {len(columns)}; is a comma unquoted?"
                )
            yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not CSV ({error}); restore it") from error
