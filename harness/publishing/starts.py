"""Whether the two trainings of a pair began as pairs do: on one batch, from the same weights, and so with one loss of the detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import InputError
from harness.publishing.logs import first_losses, log_path
from harness.records.record import Record
from harness.report.arms import arms_of, why_not_paired
from harness.report.rows import baselines_of
from harness.report.text import counted

NO_START = "without a log from step 1 on"
UNLIKE_MACHINES = "of unlike torch, CPU or device"
NO_CPU = "of another device than a CPU"


def unlike_starts(folder: Path, records: Sequence[Record]) -> Iterator[str]:
    """A line for each pair of a publication whose logs have other losses of the detector at step 1, or can't be read.

    Looked at are pairs that one kind of CPU and one torch trained by a method that leaves the detector's first pass as it is. There the
    losses are equal to the last bit; unlike ones are those of other weights or other data, as where seeds were named anew.
    """
    for record, other in alike_pairs(records):
        if why_not_comparable(record, other) is not None:
            continue
        try:
            ours, theirs = (first_losses(log_path(folder, one)) for one in (record, other))
        except InputError as error:
            yield str(error)
            continue
        # A loss that only the method has is its own; one that only the baseline has was renamed.
        for name in (name for name in theirs if ours and ours.get(name) != theirs[name]):
            yield (
                f"{record.id} and {other.id}, said to be a pair, began with unlike losses: {name!r} of step 1 is "
                f"{ours.get(name)} and {theirs[name]}"
            )
            break


def unseen_starts(folder: Path, records: Sequence[Record]) -> list[str]:
    """A line if some pairs can't be looked at by `unlike_starts`: how many, why, and which is the first.

    Whoever named seeds anew may have brought that about. Pairs of methods that change the first pass aren't meant: the suite fixes
    those.
    """
    pairs = alike_pairs(records)
    unseen = [(record, why) for record, other in pairs if (why := why_unseen(folder, record, other)) is not None]
    reasons = ", ".join(f"{count} {why}" for why, count in Counter(why for _, why in unseen).items())
    return (
        [
            f"how {len(unseen)} of {counted(len(pairs), 'pair')} began can't be looked at: {reasons}; the first is of "
            f"{unseen[0][0].id}"
        ]
        if unseen
        else []
    )


def pairs_of(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Each record of a method with that of its baseline of the same seed, where there is one baseline."""
    arms, _ = arms_of(records)
    baselines = {key: same[0] for key, same in baselines_of(arms).items() if len(same) == 1}
    for arm in arms:
        others = () if arm.is_baseline or arm.pairs_with not in baselines else baselines[arm.pairs_with].records
        of_seed = {record.identity.seed: record for record in others}
        yield from ((record, of_seed[seed]) for record in arm.records if (seed := record.identity.seed) in of_seed)


def alike_pairs(records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The pairs whose difference is shown and whose method's first pass is its baseline's."""
    return [
        (record, other)
        for record, other in pairs_of(records)
        if why_not_paired(record, other) is None and leaves_the_first_pass(record.identity.method_configuration)
    ]


def why_unseen(folder: Path, record: Record, baseline: Record) -> str | None:
    """Why it can't be looked at how a pair began, None if it can."""
    why = why_not_comparable(record, baseline)
    if why is not None:
        return why
    try:
        return None if all(first_losses(log_path(folder, one)) for one in (record, baseline)) else NO_START
    except InputError:
        return NO_START


def why_not_comparable(record: Record, baseline: Record) -> str | None:
    """Why the first losses of a pair may differ by right, None if they are equal: on one kind of CPU, with one torch."""
    one, other = record.environment, baseline.environment
    if (one.device, one.cpu, one.torch) != (other.device, other.cpu, other.torch):
        return UNLIKE_MACHINES
    return None if one.device == "CPU" else NO_CPU


def leaves_the_first_pass(method: Mapping[str, object]) -> bool:
    """Whether a method of this repository changes nothing at step 1 of what the detector computes (`RegularizedConfiguration`)."""
    return method.get("attention") == "none" or method.get("site") == "regularizer" or method.get("gate") == "2sigmoid"
