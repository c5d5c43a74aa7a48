"""A suite of this repository as what it demands of submissions (`harness.publishing.expected`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from detectors.registry import TABLE, UPSTREAM
from harness.cell.keys import phase_modules, scored_part, scoring_of
from harness.datasets.doctor.sources import IMAGES
from harness.errors import InputError, did_you_mean
from harness.files.fingerprint import code_of
from harness.files.stored import sha256_of_json
from harness.programs.cell import ProgramCell, program_cells, program_modules
from harness.publishing.expected import ExpectedCell, ExpectedEvaluation, ExpectedSuite
from harness.publishing.labels import LabelFacts, labels_name
from harness.records.record import corruption_text
from harness.rendered.spec import FORMS, dataset_key
from harness.suite import Cell, DatasetPart, EvaluationPart, ScoredCell, cells_of, form_of, load_suite, suite_names


@cache
def demands_of(name: str) -> ExpectedSuite:
    """What one of this repository's suites demands. InputError if there is none of that name; a path is never taken for one."""
    if name not in suite_names():
        raise InputError(f"this repository has no suite {name[:60]!r}: {did_you_mean(name[:60], suite_names())}")
    suite = load_suite(name)
    cells: tuple[Cell | ProgramCell, ...] = (*cells_of(suite), *program_cells(suite))
    code = [code_behind(cell) for cell in cells]
    found = [
        ExpectedCell(
            identity=cell.identity,
            evaluations={key: expected_evaluation(cell, part) for key, part in cell.evaluations.items()},
            code={phase: digest_of(files) for phase, files in phases.items()},
        )
        for cell, phases in zip(cells, code, strict=True)
    ]
    labels = {key: facts for cell in cells for part in cell.evaluations.values() for key, facts in facts_of(cell, part)}
    images = {
        key: known for key, part in suite.datasets.items() if (known := images_in(key, part, "train")) is not None
    }
    return ExpectedSuite(
        name=name,
        cells=tuple(found),
        labels=labels,
        detectors=(*TABLE, *UPSTREAM),
        training_images=images,
        code={digest_of(files): files for phases in code for files in phases.values()},
    )


def code_behind(cell: Cell | ProgramCell) -> dict[str, dict[str, str]]:
    """The fingerprint that this repository's code gives each phase of a cell, by the phase's name."""
    modules = program_modules(cell) if isinstance(cell, ProgramCell) else phase_modules(cell)
    return {phase: code_of(*names) for phase, names in modules.items()}


def digest_of(files: Mapping[str, str]) -> str:
    """What a suite calls a fingerprint, which many phases of its cells have in common."""
    return sha256_of_json(files)[:16]


def images_in(name: str, part: DatasetPart, split: str) -> int | None:
    """How many images a split of a dataset has: a rendered one says it, of public ones it is known."""
    if part.rendered is None:
        return IMAGES.get(part.root or name, {}).get(split)
    rendered = part.rendered.splits.get(split)
    return None if rendered is None else rendered.frames


def expected_evaluation(cell: ScoredCell, part: EvaluationPart) -> ExpectedEvaluation:
    """One evaluation of a cell."""
    scored, corruption = scored_part(cell, part), part.corruption
    dataset = part.dataset or cell.identity.dataset
    return ExpectedEvaluation(
        dataset=dataset,
        dataset_sha256=None if scored.rendered is None else dataset_key(scored.rendered),
        split=part.split,
        corruption=None if corruption is None else corruption_text(corruption.name, corruption.severities[0]),
        metric=scoring_of(cell, part).metric,
        # LLAMAS's, which only its server has; a rendered split has its labels.
        private=scored.rendered is None and form_of(scored) == "llamas" and part.split == "test",
        images=images_in(dataset, scored, part.split),
    )


def facts_of(cell: ScoredCell, part: EvaluationPart) -> Iterator[tuple[str, LabelFacts]]:
    """The archive of the labels of an evaluation on a rendered split, and what it has to say of itself."""
    scored, name = scored_part(cell, part), part.dataset or cell.identity.dataset
    if scored.rendered is not None:
        spec = scored.rendered
        version = FORMS[spec.form].version
        facts = LabelFacts(dataset=name, split=part.split, lane_width=scored.lane_width, renderer=version, spec=spec)
        yield labels_name(name, part.split, dataset_key(spec)), facts
