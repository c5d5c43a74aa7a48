"""Arms: the seeds of one detector trained with one method. Which records belong together, which may be paired, which are ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.files.stored import canonical_json
from harness.records.record import Evaluation, Identity, Record

_OF_THE_SEED = {"seed", "threads", "micro_batch_size"}
"""What may differ between the records of an arm. Threads and micro-batches must agree in a pair, which is checked seed by seed."""

_OF_THE_METHOD = {"method", "method_configuration", "oracle"}
"""What differs between the two arms of a pair: everything else must be equal."""

_OF_A_TRAINING = ("device", "torch", "timm", "numpy", "opencv", "cuda", "cudnn")
"""What of an environment the figures of a training depend on; where it computes on no GPU, its processor does too."""

KEYS = 3
"""So many keys in which arms differ are named, and how many there are besides."""


@dataclass(frozen=True, eq=False)
class Arm:
    """A row of a leaderboard: one detector, one method, one training set; `records` are its seeds in order.

    variant: what sets it apart from arms of the same names (`weight=0.1`), else empty. pairs_with: equal for arms that may be compared.
    """

    trained_on: str
    detector: str
    method: str
    variant: str
    is_baseline: bool
    pairs_with: str
    records: tuple[Record, ...]

    @property
    def full_method(self) -> str:
        """The method with what sets it apart."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def adapter(self) -> str:
        """The detector that it is of: `detector`, or what that stands for where it is a name of the suite's own; `detector` as well
        where a stranger's record doesn't say it as a text.
        """
        name = self.records[0].identity.detector_meta.get("name")
        return name if isinstance(name, str) and name else self.detector

    @property
    def name(self) -> str:
        """How messages and notes call it."""
        return f"{self.detector}, {self.full_method}"


def arms_of(records: Sequence[Record]) -> tuple[list[Arm], list[str]]:
    """Group records into arms, in the order of names; and what is wrong with those left out, a line each.

    Left out are all records of an id or of a seed of one arm that is there more than once: nothing says which of them is right.
    """
    by_id: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_id[record.id].append(record)
    faults = [f"{name}.json: given twice; leave one of the two out" for name, same in by_id.items() if len(same) > 1]
    groups: dict[str, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for _, same in sorted(by_id.items()):
        if len(same) == 1:
            identity = same[0].identity
            groups[row_key(identity)][identity.seed].append(same[0])
    grouped = []
    for seeds in groups.values():
        for seed, same in seeds.items():
            for record, other in zip(same, [*same[1:], same[0]], strict=True) if len(same) > 1 else ():
                faults.append(
                    f"{record.id}.json: key 'identity.seed': seed {seed} of this row is also {other.id}.json; "
                    "move one of the two away"
                )
        alone = tuple(seeds[seed][0] for seed in sorted(seeds) if len(seeds[seed]) == 1)
        grouped += [alone] if alone else []
    told_apart = variants([records[0].identity for records in grouped])
    arms = [arm_of(records, variant) for records, variant in zip(grouped, told_apart, strict=True)]
    arms.sort(key=lambda arm: (arm.trained_on, arm.detector, not arm.is_baseline, arm.method, arm.variant))
    return arms, faults


def arm_of(records: tuple[Record, ...], variant: str) -> Arm:
    """One arm from its records, which differ in seed, and perhaps in threads and micro-batches, only."""
    identity = records[0].identity
    return Arm(
        trained_on=identity.dataset,
        detector=identity.detector,
        method=identity.method,
        variant=variant,
        is_baseline=identity.method_configuration.get("kind") == "baseline",
        pairs_with=identity_without(identity, _OF_THE_SEED | _OF_THE_METHOD),
        records=records,
    )


def row_key(identity: Identity) -> str:
    """Equal for the seeds of one row."""
    return identity_without(identity, _OF_THE_SEED)


def identity_without(identity: Identity, fields: set[str]) -> str:
    """The canonical JSON of an identity without some of its fields."""
    return canonical_json(identity.model_dump(mode="json", exclude=fields))


def variants(rows: Sequence[Identity]) -> list[str]:
    """What tells each row apart from the others of its dataset, detector and method: `key=value, ...`, mostly empty.

    A row is given by the identity of any of its seeds.
    """
    namesakes: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, identity in enumerate(rows):
        namesakes[identity.dataset, identity.detector, identity.method].append(index)
    labels = [""] * len(rows)
    for indices in namesakes.values():
        if len(indices) == 1:
            continue
        told = what_differs([rows[index].model_dump(mode="json", exclude=_OF_THE_SEED) for index in indices])
        for index, text in zip(indices, told, strict=True):
            labels[index] = text
    return labels


def what_differs(mappings: Sequence[dict[str, Any]]) -> list[str]:
    """For each of some nested mappings `key=value, ...` of the leaves in which they differ; empty where there is one alone."""
    flattened = [flat(mapping) for mapping in mappings]
    keys = sorted({key for leaves in flattened for key in leaves})
    differing = [key for key in keys if len({leaves.get(key) for leaves in flattened}) > 1]
    return [
        ", ".join(f"{key.partition('.')[2] or key}={leaves.get(key, 'none')}" for key in differing)
        for leaves in flattened
    ]


def flat(value: Any, path: str = "") -> dict[str, str]:
    """A nested mapping as `a.b.c` -> canonical JSON of the leaf."""
    if not isinstance(value, dict):
        return {path: canonical_json(value)}
    nested = [flat(part, f"{path}.{key}" if path else str(key)) for key, part in value.items()]
    return {key: leaf for part in nested for key, leaf in part.items()}


def why_not_paired(method: Record, baseline: Record) -> str | None:
    """Why two records of one seed don't make a pair, None if they do. The rest of their identities is equal already."""
    if method.training is None or baseline.training is None:
        return "one of them was trained elsewhere"
    for name, values in {
        "threads": (method.identity.threads, baseline.identity.threads),
        "micro-batches": (method.training.micro_batch_size, baseline.training.micro_batch_size),
        "batches": (method.training.batch_size, baseline.training.batch_size),
        "backbone weights": (backbone_weights(method), backbone_weights(baseline)),
    }.items():
        if values[0] != values[1]:
            return f"{name} differ: {values[0]} and {values[1]}"
    return None


def unlike_machines(record: Record, against: Record, called: str = "baseline") -> str | None:
    """In what the machines differ that trained the two records of a pair: `device (NVIDIA H200, baseline NVIDIA H100)`.

    None if in nothing that a training's figures depend on. called: what the second record is.
    """
    own, other = record.environment, against.environment
    on_processors = own.device.lower() == other.device.lower() == "cpu"
    keys = (*_OF_A_TRAINING, "cpu") if on_processors else _OF_A_TRAINING
    differ = [(key, getattr(own, key), getattr(other, key)) for key in keys]
    return ", ".join(f"{key} ({one}, {called} {two})" for key, one, two in differ if one != two) or None


def why_no_baseline(arm: Arm, arms: Sequence[Arm]) -> str | None:
    """The keys in which an arm by a method differs from the baselines of its detector and data that it can't be compared to:
    `recipe.steps (600, baseline 60)`. None where there is no such baseline, or one that it can be compared to.

    Of several baselines it is the one that differs in the fewest.
    """
    baselines = [
        other
        for other in arms
        if other.is_baseline and (other.trained_on, other.detector) == (arm.trained_on, arm.detector)
    ]
    if not baselines or any(other.pairs_with == arm.pairs_with for other in baselines):
        return None
    keys = min((differing_keys(arm, other) for other in baselines), key=len)
    more = [f"{len(keys) - KEYS} more"] if len(keys) > KEYS else []
    return ", ".join([*keys[:KEYS], *more])


def differing_keys(arm: Arm, baseline: Arm) -> list[str]:
    """The keys of what must be equal in a pair and isn't, with what stands there in both."""
    own, other = (
        flat(one.records[0].identity.model_dump(mode="json", exclude=_OF_THE_SEED | _OF_THE_METHOD))
        for one in (arm, baseline)
    )
    return [
        f"{key} ({own.get(key, 'none'):.40}, baseline {other.get(key, 'none'):.40})"
        for key in sorted({*own, *other})
        if own.get(key) != other.get(key)
    ]


def backbone_weights(record: Record) -> str | None:
    """How the sha256 of the weights begins that a record's backbone started from, None where it started at random."""
    return next((artefact.sha256[:12] for artefact in record.artefacts if artefact.kind == "backbone weights"), None)


def why_not_ranked(record: Record, evaluation: Evaluation) -> list[str]:
    """Reasons for which a record's score is shown but not ranked."""
    reasons = list(record.flags)
    if evaluation.dataset == record.identity.dataset and evaluation.split == record.selected_on:
        threshold = record.identity.confidence == "val-best"
        if threshold:
            reasons.append(f"confidence threshold selected on the scored split {evaluation.split!r}")
        if record.identity.selection == "val-best" or not threshold:
            reasons.append(f"checkpoint selected on the scored split {evaluation.split!r}")
    return reasons
