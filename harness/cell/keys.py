"""The phases that a cell runs through, and their keys.

The phases lie in `results/local/<suite>/cells/<id>/`; the records and counts in `results/local/<suite>/records/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell.artefacts import image_size_of, open_part, oracle_modules
from harness.cell.phases import Phase, phase_state, set_aside
from harness.datasets.base import reader_module
from harness.files.fingerprint import code_of
from harness.files.stored import sha256_of_json
from harness.metrics.canvas import LANE_WIDTH
from harness.rendered.spec import dataset_key
from harness.scoring import SCORINGS, Scoring, scoring_on
from harness.suite import Cell, DatasetPart, EvaluationPart, ScoredCell, adapter_module, form_of
from harness.weights.cache import weights_state
from harness.weights.oracles import oracle_state


@dataclass(frozen=True)
class CellPhases:
    """The phases of one cell by name: `train`, `predict-<evaluation>`, `score-<evaluation>`, `time`.

    And `threshold`, which chooses the confidence threshold on the validation split, where a suite asks for that.
    """

    folder: Path
    train: Phase
    threshold: Phase | None
    predict: Mapping[str, Phase]
    score: Mapping[str, Phase]
    time: Phase

    def all(self) -> tuple[Phase, ...]:
        """All phases in the order in which they run."""
        threshold = () if self.threshold is None else (self.threshold,)
        return (self.train, *threshold, *self.predict.values(), *self.score.values(), self.time)


def cell_folder(results: Path, cell: ScoredCell) -> Path:
    """Where a cell's phases lie."""
    return results / cell.suite / "cells" / cell.id


def records_folder(results: Path, suite: str) -> Path:
    """Where a suite's records and counts lie."""
    return results / suite / "records"


def cell_phases(results: Path, cell: Cell, contents: Mapping[str, str] | None = None) -> CellPhases:
    """The phases of a cell with their keys: each key covers the identity fields it uses and the key before it.

    That of `train` covers the content of the dataset, of the backbone's weights and of an oracle's as well.
    contents: content keys of the cell's datasets by name, for whoever has looked them up already; without, the datasets are opened.
    """
    if contents is None:
        contents = {name: content_key(results, name, cell.datasets[name]) for name in scored_datasets(cell)}
    folder = cell_folder(results, cell)
    identity = cell.identity.model_dump(mode="json", exclude={"confidence"})
    what: dict[str, Any] = {"phase": "train", "identity": identity, "content": contents[cell.identity.dataset]}
    weights = weights_state(cell.meta, cell.form)
    if weights.state != "none":
        what["weights"] = weights.sha256
    if cell.oracle_with_weights is not None:
        what["oracle"] = oracle_state(cell.oracle_with_weights).sha256
    code = {name: code_of(*modules) for name, modules in phase_modules(cell).items()}
    train = phase_of(folder / "train", what, code["train"])
    threshold = None
    if cell.identity.confidence == "val-best":
        what = {"phase": "threshold", "before": train.key}
        threshold = phase_of(folder / "threshold", what, code["threshold"])
    before = train.key if threshold is None else threshold.key
    predict, score = {}, {}
    for name, evaluation in cell.evaluations.items():
        what = {
            "phase": "predict",
            "before": before,
            "confidence": cell.identity.confidence,
            **evaluation_identity(evaluation, contents),
        }
        predict[name] = phase_of(folder / f"predict-{name}", what, code[f"predict-{name}"])
        score[name] = score_phase(folder / f"score-{name}", cell, evaluation, predict[name])
    what = {"phase": "time", "before": before, "protocol": cell.throughput, "device": cell.training.device}
    time = phase_of(folder / "time", what, code["time"])
    return CellPhases(folder, train, threshold, predict, score, time)


def phase_modules(cell: Cell) -> dict[str, tuple[str, ...]]:
    """The modules that make each phase of a cell, by its name, in the order in which they run: its fingerprint is of their code."""
    detector = adapter_module(cell)
    training = (
        "harness.training.loop",
        "harness.training.data",
        "harness.methods.attach",
        "detectors.pretrained",
        detector,
        *oracle_modules(cell),
    )
    choosing = ("harness.inference.selection", SCORINGS[cell.form].module, reader_module(cell.form))
    found = {"train": (*training, *choosing) if cell.identity.selection == "val-best" else training}
    if cell.identity.confidence == "val-best":
        found["threshold"] = (*choosing, "harness.methods.attach", detector)
    for name, evaluation in cell.evaluations.items():
        found[f"predict-{name}"] = (
            "harness.inference.predict",
            "harness.methods.attach",
            detector,
            reader_module(form_of(scored_part(cell, evaluation))),
            *shown_by(evaluation),
        )
        found[f"score-{name}"] = (scoring_of(cell, evaluation).module,)
    steps = () if cell.method.kind == "baseline" else ("harness.training.step_cost",)
    whole = ("harness.latency.protocol", "harness.latency.process") if cell.throughput == "lane-latency/1" else ()
    measuring = ("harness.throughput.measurement", "harness.throughput.cost", *whole, *steps)
    return found | {"time": (*measuring, "harness.methods.attach", detector)}


def made_from(phase: str) -> set[str]:
    """Names of the phases whose results a phase of a cell is made from."""
    kind, _, evaluation = phase.partition("-")
    chosen = {"train", "threshold"}
    scored = {*chosen, f"predict-{evaluation}"}
    return {"train": set(), "threshold": {"train"}, "predict": chosen, "score": scored, "time": chosen}[kind]


def set_orphans_aside(phases: Sequence[Phase]) -> None:
    """Move aside the phases of a cell, given all in their order, that were made from one which isn't there any more.

    Their keys say of what options they were made, not of which training: what is trained again need not have the same weights.
    """
    gone = {phase.name for phase in phases if phase_state(phase).state in {"missing", "partial"}}
    for phase in reversed(phases):
        if phase.folder.is_dir() and gone & made_from(phase.name):
            set_aside(phase.folder)


def phase_of(folder: Path, options: Mapping[str, Any], code: Mapping[str, str]) -> Phase:
    """The phase of some options, of which its key is the hash."""
    return Phase(folder, sha256_of_json(options), code, options)


def scored_datasets(cell: ScoredCell) -> list[str]:
    """The names of the datasets that a cell is trained or scored on."""
    others = (part.dataset for part in cell.evaluations.values() if part.dataset is not None)
    return list(dict.fromkeys((cell.identity.dataset, *others)))


def evaluation_identity(evaluation: EvaluationPart, contents: Mapping[str, str]) -> dict[str, Any]:
    """What identifies the images of an evaluation, beyond the cell's own dataset."""
    found = evaluation.model_dump(mode="json", include={"split", "batch_size"})
    if evaluation.dataset is not None:
        found |= {"dataset": evaluation.dataset, "content": contents[evaluation.dataset]}
    if evaluation.corruption is not None:
        found |= {"corruption": evaluation.corruption.model_dump(mode="json")}
    return found


def shown_by(evaluation: EvaluationPart) -> tuple[str, ...]:
    """The modules that change what a detector sees of an evaluation's frames; none where it sees them as in training."""
    plain = evaluation.dataset is None and evaluation.corruption is None
    return () if plain else ("harness.inference.showing",)


def content_key(results: Path, name: str, part: DatasetPart) -> str:
    """The content key of a dataset; that of a rendered one is known before it is rendered."""
    return dataset_key(part.rendered) if part.rendered is not None else open_part(results, name, part).content_key()


def scored_part(cell: ScoredCell, evaluation: EvaluationPart) -> DatasetPart:
    """The dataset that an evaluation scores."""
    return cell.dataset if evaluation.dataset is None else cell.datasets[evaluation.dataset]


def scoring_of(cell: ScoredCell, evaluation: EvaluationPart) -> Scoring:
    """How an evaluation is scored: the metric's name, which tells sizes of one's own, and the module of the scorer."""
    part = scored_part(cell, evaluation)
    size = image_size_of(part)
    scoring = SCORINGS[form_of(part)]
    if form_of(part) != "culane" or size is None:
        return scoring
    return scoring_on(scoring, size, part.lane_width or LANE_WIDTH)


def score_phase(folder: Path, cell: ScoredCell, evaluation: EvaluationPart, predicted: Phase) -> Phase:
    """The phase that scores what another one predicted."""
    scoring = scoring_of(cell, evaluation)
    what = {"phase": "score", "before": predicted.key, "metric": scoring.metric}
    return phase_of(folder, what, code_of(scoring.module))
