"""Whether what a record says of its training, its thresholds and its oracle agrees with the identity that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from detectors.programs import ProgramForm
from harness.publishing.expected import clipped
from harness.publishing.oracles import oracle_disagreements
from harness.records.record import Evaluation, Identity, Record, Submission, TrainingCost


def disagreements(record: Record) -> Iterator[str]:
    """A line for each key that contradicts the record's identity.

    Else a training of more steps, a threshold that was chosen on the scored images or another oracle would stand under the suite's.
    """
    identity = record.identity
    if not identity.recipe:
        yield from program_disagreements(record)
        return
    if not re.fullmatch("[0-9a-f]{64}", record.checkpoint_sha256):
        yield f"key 'checkpoint_sha256' is {clipped(record.checkpoint_sha256)}, no sha256"
    if record.training is None:
        yield "key 'training' is null, but key 'identity.recipe' says how it was trained"
    else:
        yield from training_disagreements(record.training, identity)
    chosen = "val" if "val-best" in (identity.selection, identity.confidence) else None
    if record.selected_on != chosen:
        yield f"key 'selected_on' is {record.selected_on!a}, keys 'selection' and 'confidence' of the identity give {chosen!a}"
    yield from threshold_disagreements(record, identity.recipe.get("confidence_threshold"))
    yield from oracle_disagreements(record)


def program_disagreements(record: Record) -> Iterator[str]:
    """What of a record without a recipe isn't a program's: trained elsewhere, it evaluates only, as its description says."""
    identity = record.identity
    if record.training is not None:
        yield "key 'training' tells of a training, but key 'identity.recipe' is empty, as that of a program is"
    stated = identity.detector_meta.get("program")
    try:
        known = stated.items() if isinstance(stated, dict) else ()
        described = ProgramForm.model_validate({key: value for key, value in known if key in ProgramForm.model_fields})
    except ValidationError:
        yield "key 'identity.recipe' is empty, as that of a program is, but key 'identity.detector_meta.program' describes none"
        return
    pairs = {
        "identity.method_configuration.kind": (identity.method_configuration.get("kind"), "baseline"),
        "identity.oracle": (identity.oracle, None),
        "identity.selection": (identity.selection, "last"),
        "identity.confidence": (identity.confidence, "published"),
        "selected_on": (record.selected_on, described.chosen_on),
        "checkpoint_sha256": (record.checkpoint_sha256, described.checkpoint),
        # Measured in this process, and a program is never in it.
        "throughput": (record.throughput, ()),
        "step_cost": (record.step_cost, None),
        "inference_cost": (record.inference_cost, ()),
        "artefacts.oracle": (tuple(one.name for one in record.artefacts if one.kind == "oracle"), ()),
    }
    for key, (value, expected) in pairs.items():
        if value != expected:
            yield f"key '{key}' is {clipped(value)}, that of such a program is {clipped(expected)}"
    for flag in described.flags:
        if flag not in record.flags:
            yield f"key 'flags' lacks {clipped(flag)}, which key 'identity.detector_meta.program' gives"
    yield from threshold_disagreements(record, described.confidence_threshold)


def training_disagreements(training: TrainingCost, identity: Identity) -> Iterator[str]:
    """What of a training isn't as its recipe has it."""
    recipe, processes = identity.recipe, max(1, identity.processes)
    expected: dict[str, Any] = {
        "batch_size": recipe.get("batch_size"),
        "micro_batch_size": identity.micro_batch_size or training.batch_size // processes,
    }
    if recipe.get("steps") is not None:
        expected["steps"] = recipe["steps"]
    for key, value in expected.items():
        if getattr(training, key) != value:
            yield f"key 'training.{key}' is {clipped(getattr(training, key))}, key 'identity' gives {clipped(value)}"
    if training.images != training.steps * training.batch_size:
        yield "key 'training.images' isn't its steps times its batch size"
    epochs = recipe.get("epochs")
    if not isinstance(epochs, int) or epochs < 1:
        if recipe.get("steps") is None:
            yield "key 'identity.recipe' has neither steps nor epochs, so that nothing says how long a training is"
    elif training.steps % epochs:
        yield f"key 'training.steps' is {training.steps}, no multiple of the {epochs} epochs of key 'identity.recipe'"
    if not possible_best_step(training, identity):
        yield (
            f"key 'training.best_step' is {training.best_step} of {training.steps} steps, key 'identity.validations' is "
            f"{identity.validations}"
        )


def possible_best_step(training: TrainingCost, identity: Identity) -> bool:
    """Whether the step that was chosen is one of those that were validated; there is none where the last step is taken."""
    count = identity.validations or 0
    if identity.selection == "last" or count < 1:
        return training.best_step is None
    if training.best_step is None or not 1 <= training.best_step <= training.steps:
        return False
    every = -(-training.steps // count)  # rounded up
    return training.best_step == training.steps or training.best_step % every == 0


def threshold_disagreements(record: Record, published: object) -> Iterator[str]:
    """Thresholds that aren't the published one or, where one was chosen on the validation split, that aren't one and the same."""
    scored: list[Evaluation | Submission] = [*record.evaluations, *record.submissions]
    for part in scored:
        expected = published if record.identity.confidence == "published" else scored[0].confidence_threshold
        if part.confidence_threshold != expected:
            yield f"key '{part.name}.confidence_threshold' is {part.confidence_threshold}, key 'identity' gives {expected!a}"
