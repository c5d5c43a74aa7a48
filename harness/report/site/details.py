"""What the page's script shows of a row when it is opened: its records, curves, hashes, configuration, environment and frames.

Equal configurations and environments are kept once, so that a page of many rows stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from harness.files.stored import canonical_json, sha256_of_json
from harness.records.counts import THRESHOLDS
from harness.records.record import Evaluation, Record
from harness.report.cells import difference_text, score_text
from harness.report.leaderboard import Section
from harness.report.section_text import title_of
from harness.report.site.rows import RowView, evaluation_of, minus, overlap_curve, row_id
from harness.report.text import number, one_line, p_text, points

RECORDS = "../records"
"""Where records lie, seen from the page."""

SEEDS_LIMIT = 25
"""Seeds of a row whose records are shown, the first ones."""

CURVE_POINTS = 48
"""Points of a training's curve that are kept."""


@dataclass(frozen=True)
class Extras:
    """What a page shows beyond records and counts, as far as it is at hand.

    losses: record id -> (step, loss) in order. frames: name -> a frame's picture, size and labels. overlays: row id -> its frames.
    why_no_overlays: what is said of rows without any. figures: by section's number, then by what they show,
    files for papers as paths beside the page.
    """

    losses: Mapping[str, tuple[tuple[int, float], ...]]
    frames: Mapping[str, dict[str, Any]]
    overlays: Mapping[str, dict[str, Any]]
    why_no_overlays: str
    figures: Mapping[int, Mapping[str, tuple[str, ...]]]


NO_EXTRAS = Extras({}, {}, {}, "No frames here: `samiro-bench publish` adds them.", {})
"""Of a page that is made from records and counts alone."""


class Pool:
    """Values that are kept once however often they are used."""

    def __init__(self) -> None:
        """An empty pool."""
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Where a value lies in `values`, which it joins if it is new."""
        key = canonical_json(value)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def details_of(sections: Mapping[int, tuple[Section, tuple[RowView, ...]]], extras: Extras) -> dict[str, Any]:
    """The data of a page's script: plain JSON."""
    pool = Pool()
    rows = {row.id: row_details(row, section, extras, pool) for section, rows in sections.values() for row in rows}
    used = {frame for row in rows.values() for frame in frames_in(row["overlays"])}
    return {
        "rows": rows,
        "pool": pool.values,
        "frames": {name: frame for name, frame in extras.frames.items() if name in used},
        "without": extras.why_no_overlays,
        "thresholds": THRESHOLDS,
    }


def frames_in(overlays: Mapping[str, Any] | None) -> set[str]:
    """The names of the frames that a row shows."""
    return {shown["frame"] for scenario in (overlays or {}).get("scenarios", ()) for shown in scenario["shown"]}


def row_details(row: RowView, section: Section, extras: Extras, pool: Pool) -> dict[str, Any]:
    """Everything of one row."""
    baseline = row.gain.baseline if row.gain else None
    identity = row.arm.records[0].identity.model_dump(mode="json", exclude={"seed"})
    parts = {
        "method": identity.pop("method_configuration"),
        "recipe": identity.pop("recipe"),
        "detector": identity.pop("detector_meta"),
        "oracle": identity.pop("oracle"),
        "dataset": identity.pop("dataset_key"),
        "cell": identity,
    }
    return {
        "title": f"{row.detector}, {row.method}",
        "place": title_of(section.key),
        "headline": section.headline.title,
        "score": row.score.text,
        "unranked": row.why_unranked,
        "verdict": row.verdict,
        "latency": latency_details(row),
        "kind": row.verdict_kind,
        "gain": gain_details(row),
        "baseline": row_id(baseline, section.key) if baseline else None,
        "scores": [
            [
                column.title,
                minus(score_text(column, score)),
                minus(difference_text(column, row.gain.differences[place])) if row.gain else "",
            ]
            for place, (column, score) in enumerate(zip(section.columns, row_scores(row, section), strict=True))
        ],
        "seeds": [
            seed_details(record, evaluation, extras, pool)
            for record in row.arm.records[:SEEDS_LIMIT]
            if (evaluation := evaluation_of(record, section.key)) is not None
        ],
        "seed_count": len(row.seeds),
        "configuration": {name: pool.place(value) for name, value in parts.items() if value is not None},
        "overlays": extras.overlays.get(row.id),
    }


def row_scores(row: RowView, section: Section) -> tuple[Any, ...]:
    """The scores of a row, one a column."""
    return next(found.scores for found in section.rows if found.arm is row.arm)


def latency_details(row: RowView) -> str:
    """The median latency in words, with the flags of its measurement; blank where a row wasn't timed."""
    if row.timing is None:
        return ""
    flags = f", flagged: {', '.join(row.timing.flags)}" if row.timing.flags else ""
    return one_line(f"{number(row.timing.p50, 2)} ms{flags}")


def gain_details(row: RowView) -> list[list[str]]:
    """The facts of a gain that its table has, in words."""
    if row.gain is None or row.gain.headline is None:
        return []
    gain, comparison = row.gain, row.gain.headline.comparison
    told = [
        ["Gain over the baseline", row.change.text],
        ["Paired seeds", str(len(gain.seeds))],
        ["p, after Holm", p_text(gain.adjusted_p)],
        ["Detectable with 80 %", points(gain.detectable)],
        ["Correlation of the seeds", minus(number(comparison.correlation, 2))],
        ["Pairs not used", "; ".join(gain.not_used)],
    ]
    return [[name, text] for name, text in told if text]


def seed_details(record: Record, evaluation: Evaluation, extras: Extras, pool: Pool) -> dict[str, Any]:
    """One seed of a row: what its record shows here, and the hashes that vouch for it."""
    hashes = {
        "checkpoint": record.checkpoint_sha256,
        "predictions": evaluation.predictions_sha256,
        "counts": evaluation.counts_sha256,
        "labels": evaluation.dataset_sha256,
        **{f"code of {phase}": sha256_of_json(files) for phase, files in sorted(record.fingerprints.items())},
        **{f"{artefact.kind} {artefact.name}": artefact.sha256 for artefact in record.artefacts},
    }
    training = record.training.model_dump(mode="json", exclude_none=True) if record.training else None
    return {
        "seed": record.identity.seed,
        "record": record.id,
        "file": f"{RECORDS}/{quote(record.id)}.json",
        "threshold": evaluation.confidence_threshold,
        "told": [*record.flags, *evaluation.warnings],
        "curve": overlap_curve(evaluation),
        "losses": thinned(extras.losses.get(record.id, ())),
        "hashes": [[pool.place(name), digest] for name, digest in hashes.items()],
        "environment": pool.place(record.environment.model_dump(mode="json", exclude_none=True)),
        "training": training,
    }


def thinned(points: tuple[tuple[int, float], ...]) -> list[list[float]]:
    """A curve with few enough points, the first and the last among them; losses with four significant digits."""
    step = max(1, -(-len(points) // CURVE_POINTS))
    kept = list(points[::step])
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return [[at, float(f"{loss:.4g}")] for at, loss in kept]
