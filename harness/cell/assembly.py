"""The record of a cell, assembled from its finished phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.cell.artefacts import built_artefact, own_oracle_phase
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE, checkpoint_sha256
from harness.cell.keys import cell_phases, content_key, records_folder, scored_datasets, scored_part, scoring_of
from harness.cell.phases import Phase, ScoredPhases, damaged, flags_of_kept, read_json
from harness.cell.run import time_cell, worked_on
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.processes.progress import Report
from harness.records.counts import COUNTS_FILE, SUBMISSION_FILE, UNNAMED, read_counts, scope_scores, write_counts
from harness.records.record import (
    Artefact,
    Environment,
    Evaluation,
    Record,
    Submission,
    TrainingCost,
    corruption_text,
    counts_path,
    write_record,
)
from harness.records.timings import InferenceCost, StepCost, Throughput
from harness.suite import Cell, EvaluationPart, ScoredCell


def time_and_record(results: Path, cell: Cell, report: Report) -> None:
    """The last job of a cell: time it, and make its record."""
    with worked_on(results, cell, report):
        time_cell(results, cell, report)
        assemble_record(results, cell)


def assemble_record(results: Path, cell: Cell) -> Record:
    """Make the record and counts of a cell whose phases are done, and write them; returns the record.

    Counts go first, so that a record never names counts that aren't there. InputError where a phase isn't as it was finished.
    """
    phases = cell_phases(results, cell)
    target = records_folder(results, cell.suite)
    training = read_json(phases.train.folder / SUMMARY_FILE)
    evaluations, submissions = assemble_evaluations(results, cell, phases)
    timed = read_json(phases.time.folder / "throughput.json")
    flags = kept_flags(results, cell, phases.all())
    # Trainings that were kept from before backbones had a start say nothing of one.
    artefacts = assemble_artefacts(results, cell, [training.get("weights"), training.get("oracle")])
    flags += [
        f"{artefact.kind} {artefact.name}: failed its check '{check}'"
        for artefact in artefacts
        for check, passed in artefact.facts.get("checks", {}).items()
        if not passed
    ]
    record = Record(
        id=cell.id,
        suite=cell.suite,
        identity=cell.identity,
        fingerprints={phase.name: read_json(phase.folder / "phase.json")["fingerprint"] for phase in phases.all()},
        checkpoint_sha256=checkpoint_sha256(phases.train.folder),
        selected_on="val" if "val-best" in (cell.identity.selection, cell.identity.confidence) else None,
        evaluations=evaluations,
        submissions=submissions,
        throughput=throughput_of(timed),
        inference_cost=tuple(InferenceCost.model_validate(cost) for cost in timed.get("inference_cost", ())),
        training=TrainingCost.model_validate(training["cost"]),
        step_cost=step_cost_of(phases.time.folder / "step_cost.json"),
        artefacts=artefacts,
        environment=Environment.model_validate(training["environment"]),
        flags=tuple(flags),
    )
    write_record(target, record)
    return record


def kept_flags(results: Path, cell: Cell, phases: Sequence[Phase]) -> list[str]:
    """What a record says of a cell's phases, and of the oracle that it needs, that were accepted although the code changed."""
    oracle = own_oracle_phase(results, cell)
    # Its folder may be gone where a training says for itself what it was trained with.
    shared = [] if oracle is None or not oracle.folder.is_dir() else [oracle]
    return flags_of_kept([*shared, *phases])


def throughput_of(timed: dict[str, Any]) -> tuple[Throughput, ...]:
    """The measurements of phase `time`: a list, but one by itself in what was timed before there were several."""
    found = timed["throughput"]
    return tuple(Throughput.model_validate(run) for run in (found if isinstance(found, list) else [found]))


def step_cost_of(path: Path) -> StepCost | None:
    """What a method costs a step; None for the baseline, where memory was too small, and in cells timed before it was measured."""
    measured = read_json(path)["step_cost"] if path.is_file() else None
    return None if measured is None else StepCost.model_validate(measured)


def assemble_evaluations(
    results: Path, cell: ScoredCell, phases: ScoredPhases
) -> tuple[tuple[Evaluation, ...], tuple[Submission, ...]]:
    """The evaluations of a cell of either kind, and its predictions on splits whose labels are private."""
    evaluations, submissions = [], []
    for name, evaluation in cell.evaluations.items():
        folder = phases.score[name].folder
        if (folder / SUBMISSION_FILE).is_file():
            submissions.append(assemble_submission(results, cell, phases, name, evaluation))
        elif (folder / COUNTS_FILE).is_file():
            evaluations.append(assemble_evaluation(results, cell, phases, name, evaluation))
        else:
            raise damaged(folder, f"there is neither {COUNTS_FILE} nor {SUBMISSION_FILE}")
    return tuple(evaluations), tuple(submissions)


def assemble_evaluation(
    results: Path, cell: ScoredCell, phases: ScoredPhases, name: str, evaluation: EvaluationPart
) -> Evaluation:
    """One evaluation of a record, its counts copied beside the record."""
    predicted = read_json(phases.predict[name].folder / "predict.json")
    folder = phases.score[name].folder
    try:
        counts = read_counts(folder / COUNTS_FILE)
    except InputError as error:
        raise damaged(folder, str(error).partition("; ")[0], error) from error
    path = counts_path(records_folder(results, cell.suite), cell.id, name)
    write_counts(path, counts)
    scenarios = sorted(set(counts.scenario.tolist()) - {UNNAMED})
    return Evaluation(
        name=name,
        **evaluated(results, cell, evaluation),
        metric=scoring_of(cell, evaluation).metric,
        confidence_threshold=predicted["confidence_threshold"],
        total=scope_scores(counts),
        scenarios={scenario: scope_scores(counts, counts.scenario == scenario) for scenario in scenarios},
        counts_file=path.name,
        counts_sha256=sha256_of_file(path),
        predictions_sha256=predicted["predictions_sha256"],
        warnings=tuple(read_json(folder / "score.json")["warnings"]),
    )


def evaluated(results: Path, cell: ScoredCell, evaluation: EvaluationPart) -> dict[str, Any]:
    """What a record says of the images of an evaluation: dataset, its content, split and corruption."""
    name = evaluation.dataset or cell.identity.dataset
    corruption = evaluation.corruption
    return {
        "dataset": name,
        "dataset_sha256": content_key(results, name, scored_part(cell, evaluation)),
        "split": evaluation.split,
        "corruption": None if corruption is None else corruption_text(corruption.name, corruption.severities[0]),
    }


def assemble_submission(
    results: Path, cell: ScoredCell, phases: ScoredPhases, name: str, evaluation: EvaluationPart
) -> Submission:
    """Predictions of a record on a split whose labels are private."""
    predicted = read_json(phases.predict[name].folder / "predict.json")
    return Submission(
        name=name,
        **evaluated(results, cell, evaluation),
        why="labels private",
        confidence_threshold=predicted["confidence_threshold"],
        predictions_sha256=predicted["predictions_sha256"],
    )


def assemble_artefacts(results: Path, cell: Cell, met: Sequence[dict[str, Any] | None]) -> tuple[Artefact, ...]:
    """The prerequisites of a cell as its record states them. met: those that training found, as it wrote them down."""
    found = [Artefact.model_validate(one) for one in met if one is not None]
    if cell.oracle is not None and not any(artefact.kind == "oracle" for artefact in found):
        # Trainings that were kept from before they said so of one that is built: it is taken for the one that lies there.
        found.append(built_artefact(results, cell))
    return (*found, *rendered_artefacts(results, cell))


def rendered_artefacts(results: Path, cell: ScoredCell) -> Iterator[Artefact]:
    """The rendered ones of the datasets that a cell is trained or scored on."""
    for name in scored_datasets(cell):
        part = cell.datasets[name]
        if part.rendered is not None:
            key = content_key(results, name, part)
            facts = {"difficulty": part.rendered.difficulty, "seed": part.rendered.seed}
            yield Artefact(kind="rendered", name=name, key=key, sha256=key, facts=facts)


def hashed_files(results: Path, cell: Cell, trained: Path) -> list[Path]:
    """The large files that a cell's record states the hash of, which a user may have freed. trained: the folder of phase `train`."""
    checkpoint, oracle = trained / CHECKPOINT_FILE, own_oracle_phase(results, cell)
    return [checkpoint] if oracle is None else [checkpoint, oracle.folder / "oracle.safetensors"]


def states_its_oracle(trained: Path) -> bool:
    """Whether a training wrote down which oracle it had; then its record is made without the oracle's weights."""
    summary = trained / SUMMARY_FILE
    return summary.is_file() and read_json(summary).get("oracle") is not None
