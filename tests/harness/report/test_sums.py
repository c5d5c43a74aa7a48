"""Sums by clip and scenario against sums made image by image."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from harness.records.counts import OverlapCounts, scope_scores
from harness.report.scored import scores_of
from harness.report.sums import by_clip, counts_digest, layout_of, sums_of

ARRAYS = [field.name for field in fields(OverlapCounts)]


def shuffled(made: Any, seed: int = 3) -> OverlapCounts:
    """A split whose clips and scenarios are interleaved: clips run through scenarios and are torn apart."""
    counts = made.noisy(made.split(images=200, clips=17), seed)
    order = np.random.default_rng(seed).permutation(200)
    return OverlapCounts(**{name: getattr(counts, name)[order] for name in ARRAYS})


def test_sums_by_clip_equal_those_made_image_by_image(made: Any) -> None:
    counts = shuffled(made)
    sums = sums_of(counts, layout_of(counts, counts_digest(counts)))
    for scenario in (None, *sorted(set(counts.scenario.tolist()))):
        inside = [i for i in range(200) if scenario is None or counts.scenario[i] == scenario]
        clips = sorted({str(counts.clip[i]) for i in inside})
        scope = {name: by_clip(sums.layout, values, scenario, axis=0) for name, values in sums.parts.items()}
        assert len(scope["images"]) == len(clips)
        for position, clip in enumerate(clips):
            images = [i for i in inside if counts.clip[i] == clip]
            assert scope["images"][position] == len(images)
            assert scope["labels"][position] == sum(int(counts.labels[i]) for i in images)
            assert scope["predictions"][position] == sum(int(counts.predictions[i]) for i in images)
            for threshold in range(10):
                expected = sum(int(counts.true_positives[i, threshold]) for i in images)
                assert scope["true_positives"][position, threshold] == expected


def test_scores_from_sums_are_those_that_records_hold(made: Any) -> None:
    counts = shuffled(made)
    sums = sums_of(counts, layout_of(counts, counts_digest(counts)))
    assert scores_of(sums, None) == scope_scores(counts)
    assert scores_of(sums, "cross") == scope_scores(counts, counts.scenario == "cross")


def test_scores_of_tusimple_from_sums_are_those_that_records_hold(made: Any) -> None:
    counts = made.shaken(made.rated(images=200, clips=17, scenarios=("a", "b")), 5)
    counts = replace(counts, fp=np.where(np.arange(200) % 7 == 0, -0.25, counts.fp))
    sums = sums_of(counts, layout_of(counts, counts_digest(counts)))
    for scenario, rows in ((None, slice(None)), ("b", counts.scenario == "b")):
        summed, plain = scores_of(sums, scenario), scope_scores(counts, rows)
        assert summed.model_dump() == pytest.approx(plain.model_dump(), abs=1e-14)
        assert plain.images_with_negative_fp == (counts.fp[rows] < 0).sum()
        assert plain.accuracy == pytest.approx(counts.accuracy[rows].mean())


def test_digest_tells_another_order_or_another_clip_but_not_other_predictions(made: Any) -> None:
    counts = made.split()
    assert counts_digest(made.noisy(counts, 1)) == counts_digest(counts)
    assert counts_digest(replace(counts, image=counts.image[::-1])) != counts_digest(counts)
    assert counts_digest(replace(counts, clip=np.roll(counts.clip, 1))) != counts_digest(counts)
