"""Whether what a record says of its training and its thresholds agrees with the identity that it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.publishing.expected import clipped
from harness.records.record import Evaluation, Identity, Record, Submission, TrainingCost


def disagreements(record: Record) -> Iterator[str]:
    """A line for each key that contradicts the record's identity.

    Else a training of more steps, or a threshold that was chosen on the scored images, would stand under the suite's recipe.
    """
    identity = record.identity
    if not identity.recipe:  # a program, trained elsewhere by rules of its own
        if record.training is not None:
            yield "key 'training' tells of a training, but key 'identity.recipe' is empty, as that of a program is"
        return
    if record.training is None:
        yield "key 'training' is null, but key 'identity.recipe' says how it was trained"
    else:
        yield from training_disagreements(record.training, identity)
    chosen = "val" if "val-best" in (identity.selection, identity.confidence) else None
    if record.selected_on != chosen:
        yield f"key 'selected_on' is {record.selected_on!a}, keys 'selection' and 'confidence' of the identity give {chosen!a}"
    yield from threshold_disagreements([*record.evaluations, *record.submissions], identity)


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
    if isinstance(epochs, int) and epochs > 0 and training.steps % epochs:
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


def threshold_disagreements(scored: list[Evaluation | Submission], identity: Identity) -> Iterator[str]:
    """Thresholds that aren't the recipe's or, where one was chosen on the validation split, that aren't one and the same."""
    published = identity.recipe.get("confidence_threshold")
    for part in scored:
        expected = published if identity.confidence == "published" else scored[0].confidence_threshold
        if part.confidence_threshold != expected:
            yield f"key '{part.name}.confidence_threshold' is {part.confidence_threshold}, key 'identity' gives {expected!a}"
