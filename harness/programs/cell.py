"""The cell of a program: nothing to train, one prediction and one score an evaluation, and a record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from detectors.meta import Form
from detectors.programs import DescribedProgram, ProgramForm, read_program
from detectors.registry import is_program
from harness.cell.artefacts import open_part
from harness.cell.assembly import assemble_evaluations, rendered_artefacts
from harness.cell.keys import (
    cell_folder,
    content_key,
    evaluation_identity,
    phase_of,
    records_folder,
    score_phase,
    scoring_of,
    set_orphans_aside,
)
from harness.cell.phases import Phase, flags_of_kept, read_json, run_phase
from harness.cell.run import worked_on
from harness.datasets.base import Dataset, reader_module
from harness.datasets.predictions import keep_predictions
from harness.errors import InputError
from harness.files.fingerprint import code_of
from harness.files.stored import sha256_of_file, sha256_of_json, write_json
from harness.methods.config import BaselineConfiguration
from harness.processes.progress import Event, Report
from harness.programs.run import ask
from harness.pytorch.device import resolve_device
from harness.records.environment import environment
from harness.records.record import Artefact, Environment, Identity, Record, identity_hash, write_record
from harness.records.timings import OwnTiming
from harness.suite import DatasetPart, EvaluationPart, Point, Suite, TrainingPart, dataset_identity, form_of
from harness.suite.choice import EVERYTHING, Choice, chosen_points
from harness.suite.evaluations import evaluations_of
from harness.throughput.protocol import latency_of

PREDICT = "predict.json"
"""What a finished prediction says of itself."""


@dataclass(frozen=True)
class ProgramCell:
    """A program on one dataset. `id` is readable and ends in a hash of the identity, which has no path in it."""

    id: str
    suite: str
    identity: Identity
    file: Path
    form: Form
    dataset: DatasetPart
    datasets: Mapping[str, DatasetPart]
    """All that it reads, by name."""
    training: TrainingPart
    evaluations: Mapping[str, EvaluationPart]

    @property
    def described(self) -> DescribedProgram:
        """Its program."""
        return read_program(self.file)


@dataclass(frozen=True)
class ProgramPhases:
    """`predict-<evaluation>` and `score-<evaluation>`."""

    folder: Path
    predict: Mapping[str, Phase]
    score: Mapping[str, Phase]

    def all(self) -> tuple[Phase, ...]:
        """All phases in the order in which they run."""
        return (*self.predict.values(), *self.score.values())


def program_cells(suite: Suite, choice: Choice = EVERYTHING) -> tuple[ProgramCell, ...]:
    """The cells of a suite's programs in the order of its points."""
    return tuple(program_cell(suite, point) for point in chosen_points(suite, choice) if is_program(point.detector))


def program_cell(suite: Suite, point: Point) -> ProgramCell:
    """Resolve a point of the matrix that is a program's."""
    dataset = suite.datasets[point.dataset]
    form, described = form_of(dataset), read_program(Path(point.detector))
    identity = Identity(
        detector=described.program.name,
        detector_meta=described_identity(described, form),
        form=form,
        method=point.method,
        method_configuration=BaselineConfiguration().model_dump(mode="json", by_alias=True),
        oracle=None,
        dataset=point.dataset,
        dataset_key=dataset_identity(point.dataset, dataset),
        recipe={},
        weights="none",
        precision="fp32",
        threads=suite.training.threads,
        selection="last",
        confidence="published",
        seed=point.seed,
    )
    evaluations = evaluations_of(suite, point.dataset)
    names = (point.dataset, *(part.dataset for part in evaluations.values()))
    return ProgramCell(
        id=f"{point.dataset}-{described.program.name}-{point.method}-{identity_hash(identity)[:10]}",
        suite=suite.name,
        identity=identity,
        file=Path(point.detector),
        form=form,
        dataset=dataset,
        datasets={name: suite.datasets[name] for name in names if name is not None},
        training=suite.training,
        evaluations=evaluations,
    )


def described_identity(described: DescribedProgram, form: Form) -> dict[str, Any]:
    """What an identity says of a program: facts, command without folders, its scripts and its checkpoint by their sha256."""
    facts = described.program.model_dump(
        mode="json", exclude={"forms", "command", "folder", "environment", "start_seconds", "seconds_per_image"}
    )
    own = described.program.forms[form].model_dump(mode="json", exclude={"checkpoint"})
    words = [Path(word).name if Path(word).is_absolute() else word for word in described.program.command]
    program = {"command": words, "scripts": described.scripts(), "checkpoint": checkpoint_sha256(described, form)}
    return facts | {"program": program | own}


def checkpoint_sha256(described: DescribedProgram, form: Form) -> str:
    """The sha256 of a program's weights; `none` where it names none. InputError where they aren't there."""
    path = described.checkpoint(form)
    if path is None:
        return "none"
    if not path.is_file():
        raise InputError(
            f"{described.file}: key 'forms.{form}.checkpoint': {path} is missing; give the file of its weights"
        )
    return sha256_of_file(path)


def program_phases(results: Path, cell: ProgramCell, contents: Mapping[str, str] | None = None) -> ProgramPhases:
    """The phases of a program's cell with their keys. contents: content keys of datasets by name, as for `cell_phases`."""
    if contents is None:
        contents = {name: content_key(results, name, part) for name, part in cell.datasets.items()}
    folder, modules = cell_folder(results, cell), program_modules(cell)
    predict, score = {}, {}
    for key, evaluation in cell.evaluations.items():
        what = {
            "phase": "ask",
            "identity": cell.identity.model_dump(mode="json"),
            "content": contents[cell.identity.dataset],
            **evaluation_identity(evaluation, contents),
        }
        predict[key] = phase_of(folder / f"predict-{key}", what, code_of(*modules[f"predict-{key}"]))
        score[key] = score_phase(folder / f"score-{key}", cell, evaluation, predict[key])
    return ProgramPhases(folder, predict, score)


def program_modules(cell: ProgramCell) -> dict[str, tuple[str, ...]]:
    """The modules that make each phase of a program's cell, by its name (`harness.cell.keys.phase_modules`)."""
    found: dict[str, tuple[str, ...]] = {}
    for name, evaluation in cell.evaluations.items():
        found[f"predict-{name}"] = ("harness.programs.run", reader_module(cell.form))
        found[f"score-{name}"] = (scoring_of(cell, evaluation).module,)
    return found


def run_program_cell(results: Path, cell: ProgramCell, report: Report) -> None:
    """Ask, score and record, whatever of that isn't done."""
    from harness.cell.score import pack_submission, score_split

    phases = program_phases(results, cell)
    dataset = open_part(results, cell.identity.dataset, cell.dataset)
    with worked_on(results, cell, report):
        set_orphans_aside(phases.all())
        for name, evaluation in cell.evaluations.items():
            predicted = run_phase(phases.predict[name], partial(ask_program, cell, dataset, evaluation, report))
            score = score_split if dataset.has_labels(evaluation.split) else pack_submission
            run_phase(phases.score[name], partial(score, cell, dataset, evaluation.split, predicted, report))
        record_program(results, cell)


def ask_program(cell: ProgramCell, dataset: Dataset, evaluation: EvaluationPart, report: Report, folder: Path) -> None:
    """Phase `predict`: the program's lanes as one archive; its log and files in exchange/."""
    device = resolve_device(cell.training.device)

    def progress(done: int, total: int) -> None:
        report(Event(cell.id, "predict", done, total, "images timed by the program"))

    frames = dataset.frames(evaluation.split)
    answer = ask(
        cell.described,
        dataset,
        frames,
        folder / "exchange",
        device=device,
        threads=cell.training.threads,
        progress=progress,
    )
    timing = None
    if answer.milliseconds is not None:
        timing = OwnTiming(
            protocol="program/1",
            device=device,
            threads=cell.training.threads,
            images=len(frames),
            latency_ms=latency_of([round(1e6 * value) for value in answer.milliseconds]),
        ).model_dump(mode="json")
    facts = {
        "confidence_threshold": form_part(cell).confidence_threshold,
        "predictions_sha256": keep_predictions(folder, dataset, frames, answer.lanes),
        "checkpoint_sha256": checkpoint_sha256(cell.described, cell.form),
        "timing": timing,
        "facts": answer.facts,
        "environment": environment(device).model_dump(mode="json"),
    }
    # The archive holds them now; a file an image is more than shared file systems take kindly.
    shutil.rmtree(folder / "exchange" / "predictions")
    write_json(folder / PREDICT, facts)


def record_program(results: Path, cell: ProgramCell) -> Record:
    """Make the record and counts of a program's cell whose phases are done, and write them; returns the record."""
    phases, own = program_phases(results, cell), form_part(cell)
    said = [read_json(phases.predict[name].folder / PREDICT) for name in cell.evaluations]
    evaluations, submissions = assemble_evaluations(results, cell, phases)
    flags = flags_of_kept(phases.all())
    program = Artefact(
        kind="program",
        name=cell.identity.detector,
        key=sha256_of_json(cell.identity.detector_meta),
        sha256=sha256_of_json(cell.described.scripts()),
        facts=said[0]["facts"],
    )
    record = Record(
        id=cell.id,
        suite=cell.suite,
        identity=cell.identity,
        fingerprints={phase.name: read_json(phase.folder / "phase.json")["fingerprint"] for phase in phases.all()},
        checkpoint_sha256=said[0]["checkpoint_sha256"],
        selected_on=own.chosen_on,
        evaluations=evaluations,
        submissions=submissions,
        throughput=(),
        training=None,
        own_timing=next((OwnTiming.model_validate(one["timing"]) for one in said if one["timing"]), None),
        artefacts=(*rendered_artefacts(results, cell), program),
        environment=Environment.model_validate(said[0]["environment"]),
        flags=(*flags, *own.flags),
    )
    write_record(records_folder(results, cell.suite), record)
    return record


def form_part(cell: ProgramCell) -> ProgramForm:
    """What the description says of datasets of the cell's form."""
    return cell.described.program.forms[cell.form]
