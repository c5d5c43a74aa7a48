"""Whether the two trainings of a pair began as pairs do: on one batch, from the same weights, and so with one loss of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import InputError
from harness.publishing.logs import first_losses, log_path
from harness.records.record import Record
from harness.report.arms import arms_of, why_not_paired
from harness.report.rows import baselines_of


def unlike_starts(folder: Path, records: Sequence[Record]) -> Iterator[str]:
    """A line for each pair of a publication whose logs have other losses of the detector at step 1, or can't be read.

    Looked at are pairs that one kind of CPU and one torch trained by a method that leaves the detector's first pass as it is. There the
    losses are equal to the last bit; unlike ones are those of other weights or other data, as where seeds were named anew.
    """
    arms, _ = arms_of(records)
    baselines = {key: same[0] for key, same in baselines_of(arms).items() if len(same) == 1}
    for arm in arms:
        if arm.is_baseline or arm.pairs_with not in baselines:
            continue
        others = {record.identity.seed: record for record in baselines[arm.pairs_with].records}
        for record in arm.records:
            other = others.get(record.identity.seed)
            if other is None or why_not_paired(record, other) is not None or not begin_alike(record, other):
                continue
            try:
                ours, theirs = (first_losses(log_path(folder, one)) for one in (record, other))
            except InputError as error:
                yield str(error)
                continue
            for name in (name for name in theirs if name in ours and ours[name] != theirs[name]):
                yield (
                    f"{record.id} and {other.id}, said to be a pair, began with unlike losses: {name!r} of step 1 is "
                    f"{ours[name]} and {theirs[name]}"
                )
                break


def begin_alike(record: Record, baseline: Record) -> bool:
    """Whether the first losses of a pair are equal by right: on one kind of CPU, with one torch, and no gate in the stream that does
    anything yet.
    """
    one, other = record.environment, baseline.environment
    on_one_machine = (one.device, one.cpu, one.torch) == (other.device, other.cpu, other.torch) and one.device == "CPU"
    return on_one_machine and leaves_the_first_pass(record.identity.method_configuration)


def leaves_the_first_pass(method: Mapping[str, object]) -> bool:
    """Whether a method of this repository changes nothing at step 1 of what the detector computes (`RegularizedConfiguration`)."""
    return method.get("attention") == "none" or method.get("site") == "regularizer" or method.get("gate") == "2sigmoid"
