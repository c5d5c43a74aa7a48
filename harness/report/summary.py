"""What a method does over all its rows, detectors and datasets alike: the number behind "consistently improves"."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.files.stored import canonical_json
from harness.report.arms import what_differs
from harness.report.estimates import Floats
from harness.report.random_effects import RandomEffects, averaged_within, clip_covariance, random_effects
from harness.report.rows import Gain
from harness.report.statistics import ROUNDING, Comparison
from harness.report.text import counted

DETECTORS_FOR_A_VERDICT = 5

DETECTORS_FOR_A_SUMMARY = 2
"""One detector on several datasets tells nothing of another detector, which is what the prediction interval is about."""


@dataclass(frozen=True)
class MethodSummary:
    """Random effects of a method's headline gains. variant: what sets it apart from other configurations of the name, else empty."""

    method: str
    variant: str
    detectors: int
    datasets: int
    effects: RandomEffects
    verdict: str


def method_summaries(gains_by_section: Sequence[tuple[str, Sequence[Gain]]]) -> tuple[MethodSummary, ...]:
    """Summarise every method that has judged gains of at least two detectors; `gains_by_section` pairs a dataset with its gains.

    Detectors of one paper count as one detector with several backbones.
    """
    families: dict[tuple[str, str], list[tuple[str, list[Gain]]]] = defaultdict(list)
    for dataset, gains in gains_by_section:
        here: dict[tuple[str, str], list[Gain]] = defaultdict(list)
        for gain in gains:
            if gain.p is not None:
                identity = gain.arm.records[0].identity
                here[identity.method, canonical_json(identity.method_configuration)].append(gain)
        for family, members in here.items():
            families[family].append((dataset, members))
    ordered = sorted(families)
    summaries = [
        summary_of(method, variant, families[method, configuration])
        for (method, configuration), variant in zip(ordered, family_variants(ordered), strict=True)
    ]
    return tuple(summary for summary in summaries if summary is not None)


def family_variants(families: Sequence[tuple[str, str]]) -> list[str]:
    """What tells the configurations (canonical JSON) of one method apart; empty for a method that has one."""
    told = [""] * len(families)
    for method in {method for method, _ in families}:
        places = [place for place, family in enumerate(families) if family[0] == method]
        for place, text in zip(places, what_differs([json.loads(families[place][1]) for place in places]), strict=True):
            told[place] = text
    return told


def summary_of(method: str, variant: str, sections: Sequence[tuple[str, Sequence[Gain]]]) -> MethodSummary | None:
    """The summary of one configuration of a method; None for a single detector."""
    means, blocks, papers = [], [], []
    for _, gains in sections:
        comparisons = [gain.headline.comparison for gain in gains if gain.headline]
        names = [paper_of(gain) for gain in gains]
        mean, covariance = averaged_within(
            np.array([comparison.mean for comparison in comparisons]), covariance_of(comparisons), names
        )
        means.append(mean)
        blocks.append(covariance)
        papers.extend(names)
    differences = np.concatenate(means)
    detectors = len(set(papers))
    if detectors < DETECTORS_FOR_A_SUMMARY:
        return None
    covariance = np.zeros((len(differences), len(differences)))
    start = 0
    for block in blocks:
        covariance[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    effects = random_effects(differences, covariance)
    if detectors < DETECTORS_FOR_A_VERDICT:
        told = f"no verdict: {counted(detectors, 'detector')}"
    else:
        told = "consistently improves" if effects.low > ROUNDING else "not consistent"
    return MethodSummary(method, variant, detectors, len({dataset for dataset, _ in sections}), effects, told)


def covariance_of(comparisons: Sequence[Comparison]) -> Floats:
    """Sigma of the rows of one dataset (k, k): they share its clips, and each has the variance of its own seeds.

    V_int, which V_clip and V_seed both hold, counts once: it is taken off V_seed, so that Sigma stays positive semidefinite.
    """
    by_clips = clip_covariance([comparison.clip_influence for comparison in comparisons])
    by_seeds = [max((row.seed_variance or 0.0) - row.interaction_variance, 0.0) for row in comparisons]
    return by_clips + np.diag(by_seeds)


def paper_of(gain: Gain) -> str:
    """The paper that a gain's detector is from: what makes two backbones one detector; without one its adapter's name."""
    identity = gain.arm.records[0].identity
    meta = identity.detector_meta
    return str(meta.get("paper") or meta.get("name") or identity.detector)
