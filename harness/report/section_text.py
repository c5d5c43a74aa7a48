"""What a section of a leaderboard is of, and what must be said about its rows: plain text, which Markdown and LaTeX escape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from harness.records.oracles import began_as_its_oracle, has_one_a_seed, unlike_weights
from harness.records.record import Identity
from harness.report.arms import Arm, unlike_machines, what_differs, why_no_baseline
from harness.report.leaderboard import Leaderboard, Section, Timings
from harness.report.rows import Gain, Row, RowDifference, baselines_of
from harness.report.scored import SectionKey
from harness.report.statistics import clips_text
from harness.report.text import counted, p_text
from harness.report.variants import Tries

SELECTION = {"last": "the last step's", "val-best": "the best on the validation split"}
CHOSEN_OF_A_DETECTOR = {"detector_meta", "recipe", "weights"}
"""What of an identity a suite's overrides of a detector change."""

CONFIDENCE = {"published": "the detector's published one", "val-best": "the best on the validation split"}


def section_title(section: Section) -> str:
    """A section's name."""
    return title_of(section.key)


def title_of(key: SectionKey) -> str:
    """Dataset, split and metric, and what else sets a table apart."""
    corruption = f", {key.corruption}" if key.corruption else ""
    trained = f", trained on {key.trained_on}" if key.trained_on != key.dataset else ""
    return f"{key.dataset}, {key.split}{corruption}: {key.metric}{trained}"


def section_text(section: Section) -> str:
    """What a section's table is of."""
    key = section.key
    seeds = sorted({len(row.seeds) for row in section.rows})
    images = "rendered image" if section.rendered else "image"
    machine = section.timing
    timed = (
        f"FPS and latency: {machine.protocol}, {machine.precision}, {counted(machine.threads, 'thread')}, "
        f"{machine.machine}."
        if machine
        else "FPS and latency: no protocol and machine common to all rows, see the tables below."
    )
    return (
        f"{counted(section.images, images)} in {clips_text(section.clips, section.effective_clips)} of {key.dataset} (content "
        f"{key.dataset_sha256[:12]}), trained on {key.trained_on}, scored by {key.metric}. "
        f"Seeds a row: {' or '.join(str(number) for number in seeds)}. Checkpoint: {SELECTION[key.selection]}. Confidence "
        f"threshold: {CONFIDENCE[key.confidence]}. {timed}"
    )


def unranked_notes(rows: Iterable[Row]) -> list[str]:
    """Why the rows with a † aren't ranked."""
    return [f"† {row.arm.name}: not ranked: {'; '.join(row.unranked)}." for row in rows if row.unranked]


def unpaired_notes(gains: Iterable[Gain]) -> list[str]:
    """Why seeds of a gain make no pairs."""
    return [f"Δ {gain.arm.name}: pairs not used: {'; '.join(gain.not_used)}." for gain in gains if gain.not_used]


def unlike_machine_notes(gains: Iterable[Gain]) -> list[str]:
    """Which gains are of pairs whose two cells were trained on unlike machines, and in what those differ."""
    told = ((gain, unlike_pairs(gain.arm, gain.baseline, gain.seeds)) for gain in gains)
    return [
        f"Δ {gain.arm.name}: {unlike}. What these do to a score can't be told apart from what the method does."
        for gain, unlike in told
        if unlike is not None
    ]


def unlike_pairs(arm: Arm, against: Arm, seeds: Sequence[int], called: str = "baseline") -> str | None:
    """How many pairs of two arms were trained on unlike machines, and in what those differ; None where none was."""
    ours, theirs = ({record.identity.seed: record for record in one.records} for one in (arm, against))
    unlike = [told for seed in seeds if (told := unlike_machines(ours[seed], theirs[seed], called)) is not None]
    if not unlike:
        return None
    return (
        f"{len(unlike)} of {counted(len(seeds), 'pair')} trained on unlike machines: {'; '.join(dict.fromkeys(unlike))}"
    )


def oracle_notes(rows: Iterable[Row]) -> list[str]:
    """Which rows have seeds that were trained with unlike weights of one oracle, as where it was made again in between, which have
    seeds at which oracle and detector began as one, and which have an oracle for each seed on purpose.
    """
    rows = list(rows)
    shared: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for row in rows:
        if seeds := tuple(sorted(record.identity.seed for record in row.arm.records if began_as_its_oracle(record))):
            shared[seeds].append(row.arm.name)
    notes = [
        f"{'; '.join(names)}: at seed {listed(seeds)} the oracle was drawn with the weights that the detector starts from, so that the "
        "two have features in common as at no other seed."
        for seeds, names in shared.items()
    ]
    for row in rows:
        for name, weights in unlike_weights(row.arm.records):
            told = (
                f"{sha256[:12]} at seed {listed(record.identity.seed for record in records)}"
                for sha256, records in weights.items()
            )
            notes.append(
                f"{row.arm.name}: oracle {name} has several weights: {'; '.join(told)}. The spread over seeds is that of oracles too."
            )
    if own := [row.arm.name for row in rows if any(has_one_a_seed(record.identity) for record in row.arm.records)]:
        notes.append(
            f"{'; '.join(own)}: each seed has an oracle of its own: the spread over seeds is that of oracles too."
        )
    return notes


def lost_to_holm_notes(gains: Iterable[Gain]) -> list[str]:
    """Why a gain isn't separated from 0 though its interval excludes it."""
    return [
        f"Δ {gain.arm.name}: its interval, of this row alone, excludes 0 (p {p_text(gain.p)}); the verdict is after Holm's adjustment "
        f"over the rows of one method (p {p_text(gain.adjusted_p)})."
        for gain in gains
        if gain.lost_to_holm
    ]


UNRELIABLE = ", so that they can't be relied on"
"""What ‡ beside a time says."""


def time_notes(section: Section, timings: Timings) -> list[str]:
    """Which times of a section's table are flagged, marked as in the table where they can't be relied on."""
    if section.timing is None:
        return []
    timed = [(row.arm.name, timings[row.arm].get(section.timing)) for row in section.rows]
    return [
        f"{'‡ ' if timing.doubts else ''}{name}: times flagged: {', '.join(timing.flags)}{UNRELIABLE if timing.doubts else ''}."
        for name, timing in timed
        if timing is not None and timing.flags
    ]


def own_name_notes(rows: Iterable[Row]) -> list[str]:
    """Which detectors go by a name that their suite gave them, and in what those of one adapter differ."""
    detectors: dict[str, list[Identity]] = defaultdict(list)
    for row in rows:
        detectors[row.arm.detector].append(row.arm.records[0].identity)
    named = {row.arm.detector: row.arm.adapter for row in rows}
    notes = []
    for adapter in dict.fromkeys(adapter for detector, adapter in named.items() if adapter != detector):
        alike = {detector: chosen_of(detectors[detector]) for detector, other in named.items() if other == adapter}
        # A detector that was configured in several ways has rows that say so themselves.
        single = {detector: chosen[0] for detector, chosen in alike.items() if len(chosen) == 1}
        differing = dict(zip(single, what_differs([*single.values()]), strict=True))
        for detector in alike:
            own = "" if detector == adapter else f" is {adapter}"
            with_what = f" with {differing[detector]}" if differing.get(detector) else ""
            if own or with_what:
                notes.append(f"{detector}{own}{with_what}.")
    return notes


def chosen_of(identities: Iterable[Identity]) -> list[dict[str, Any]]:
    """The different ways in which a detector was configured."""
    found = [identity.model_dump(mode="json", include=CHOSEN_OF_A_DETECTOR) for identity in identities]
    return [chosen for place, chosen in enumerate(found) if chosen not in found[:place]]


def tries_notes(section: Section) -> list[str]:
    """On which detectors one method had more tries than another, which a comparison of their best would reward; and variants that are
    held against each other over fewer seeds than they have, or that unlike machines trained.
    """
    notes = []
    by_detector: dict[str, list[Tries]] = defaultdict(list)
    for tries in section.tries:
        by_detector[tries.rows[0].arm.pairs_with].append(tries)
    for same in by_detector.values():
        counted_ones = [tries for tries in same if not tries.family.control]
        if len({len(tries.rows) for tries in counted_ones}) > 1:
            told = (f"{tries.family.kind} {len(tries.rows)} ({names_of(tries)})" for tries in counted_ones)
            notes.append(
                f"{same[0].rows[0].arm.detector}: unequal numbers of variants, {'; '.join(told)}: the best of several is favoured "
                "over the best of fewer."
            )
        for tries in same:
            notes += of_fewer_seeds(tries.rows, tries.seeds) if len(tries.rows) > 1 else []
            for lead in tries.leads:
                notes += of_unlike_machines(lead)
    return notes


def method_difference_notes(section: Section) -> list[str]:
    """Which methods are held against each other over fewer seeds than they have, or were trained by unlike machines."""
    notes = []
    for found in section.method_differences:
        notes += of_fewer_seeds((found.row, found.other), found.seeds)
        notes += of_unlike_machines(found)
    return notes


def of_fewer_seeds(rows: Sequence[Row], seeds: Sequence[int]) -> list[str]:
    """That rows are held against each other over some of their seeds alone, `seeds`, where that is so."""
    if set(seeds) == {seed for row in rows for seed in row.seeds}:
        return []
    names = ", ".join(row.arm.full_method for row in rows)
    over = f" over seeds {listed(seeds)} alone: those" if seeds else ": there is no seed"
    return [
        f"{rows[0].arm.detector}: {names} are {'' if seeds else 'not '}held against each other{over} that all of them have, trained "
        "alike."
    ]


def of_unlike_machines(found: RowDifference) -> list[str]:
    """That unlike machines trained two rows that are held against each other, where that is so."""
    row, other = found.row, found.other
    unlike = unlike_pairs(row.arm, other.arm, found.seeds, other.arm.full_method)
    if unlike is None:
        return []
    return [
        f"{row.arm.name} held against {other.arm.full_method}: {unlike}. What these do to a score can't be told apart from what the "
        "trainings differ in."
    ]


def names_of(tries: Tries) -> str:
    """The variants of a method."""
    return ", ".join(row.arm.full_method for row in tries.rows)


def listed(seeds: Iterable[int]) -> str:
    """Seeds as text."""
    return ", ".join(str(seed) for seed in seeds)


def section_notes(section: Section, board: Leaderboard) -> list[str]:
    """Which detectors go by names of the suite's own, why rows aren't ranked, why pairs aren't used or are of unlike machines, which
    rows have seeds of unlike oracles, which verdicts Holm took, what is held against each other over fewer seeds, which methods had
    more tries, which have no baseline, which times are flagged.
    """
    notes = (
        own_name_notes(section.rows)
        + unranked_notes(section.rows)
        + unpaired_notes(section.gains)
        + unlike_machine_notes(section.gains)
        + oracle_notes(section.rows)
        + lost_to_holm_notes(section.gains)
        + method_difference_notes(section)
        + tries_notes(section)
    )
    compared = {id(gain.arm) for gain in section.gains}
    arms = [row.arm for row in section.rows]
    baselines = baselines_of(arms)
    for row in section.rows:
        if not row.arm.is_baseline and id(row.arm) not in compared:
            amount = "two baselines" if row.arm.pairs_with in baselines else "no baseline"
            unlike = why_no_baseline(row.arm, arms)
            why = "" if unlike is None else f": {unlike}"
            notes.append(f"{row.arm.name}: {amount} of the same detector, recipe and data, so no gain{why}.")
    return notes + time_notes(section, board.timings)
