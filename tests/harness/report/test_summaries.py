"""The summary of a method over its detectors, from hand-made records."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.linalg import block_diag

from harness.files.stored import sha256_of_file
from harness.records.record import counts_path
from harness.report.cells import summary_table
from harness.report.leaderboard import leaderboard
from harness.report.random_effects import random_effects
from harness.report.summary import family_variants
from harness.report.tables import to_markdown


def test_the_summary_tells_the_variants_of_a_method_apart(made: Any, tmp_path: Path) -> None:
    records = []
    for place, detector in enumerate(("a", "b", "c")):
        base = made.split(360, 60)
        records += made.pairs(tmp_path, 3, detector=detector, base=base, better=0.05)
        changed = {"method_configuration": {"kind": "samiro", "weight": 0.1}}
        records += [
            made.record(
                tmp_path, made.noisy(base, 100 * place + seed), detector=detector, method="samiro", seed=seed,
                name=f"variant-{detector}-{seed}", identity_changes=changed,
            )
            for seed in range(3)
        ]  # fmt: skip
    board = leaderboard(records, tmp_path)
    assert sorted(summary.variant for summary in board.summaries) == ["weight=0.1", "weight=none"]
    page = to_markdown(board)
    summary = page[page.index("## Methods over all rows") : page.index("## Latency")]
    assert "| samiro (weight=0.1) " in summary
    assert "| samiro (weight=none) " in summary
    for variant in ("weight=0.1", "weight=none"):
        assert page[: page.index("### Paired gains")].count(f"| samiro ({variant}) ") == 3
        assert page.count(f"| Δ samiro ({variant}) - baseline ") >= 3, (
            "a gain of each detector says which variant it is of"
        )


def test_a_method_is_told_apart_from_its_own_variants_and_not_from_other_methods() -> None:
    families = [("miro", {"weight": 1}), ("samiro", {"weight": 1}), ("samiro", {"weight": 2})]
    told = family_variants([(method, json.dumps(configuration)) for method, configuration in families])
    assert told == ["", "weight=1", "weight=2"]


def test_a_method_over_five_detectors_gets_a_verdict_and_below_none(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    records = [
        record
        for index in range(5)
        for record in made.pairs(tmp_path, 3, detector=f"detector{index}", base=base, better=0.12)
    ]
    (summary,) = leaderboard(records, tmp_path).summaries
    assert (summary.detectors, summary.datasets, summary.effects.rows) == (5, 1, 5)
    assert summary.verdict == "consistently improves"
    assert summary.effects.low > 0
    (fewer,) = leaderboard(records[:24], tmp_path).summaries
    assert fewer.verdict == "no verdict: 4 detectors"
    assert leaderboard(records[:6], tmp_path).summaries == ()


def test_one_detector_on_several_datasets_tells_nothing_of_another_one(made: Any, tmp_path: Path) -> None:
    base = made.split(images=120, clips=24)
    records = [
        record
        for dataset in ("roads", "few", "normal")
        for detector in ("a", "b")
        for record in made.pairs(
            tmp_path, 3, detector=f"{detector}_{dataset}", base=base, better=0.05,
            identity_changes={"dataset": dataset, "detector_meta": {"paper": detector}},
            evaluation_changes={"dataset": dataset},
        )
    ]  # fmt: skip
    one = [record for record in records if record.identity.detector.startswith("a_")]
    assert leaderboard(one, tmp_path).summaries == ()
    board = leaderboard(records, tmp_path)
    (summary,) = board.summaries
    assert (summary.detectors, summary.datasets, summary.effects.rows) == (2, 3, 6)
    assert "datasets that share frames to test on, the error is larger" in to_markdown(board)
    board = leaderboard([record for record in records if record.identity.dataset == "few"], tmp_path)
    assert len(board.summaries) == 1
    assert "share frames" not in to_markdown(board)


def test_a_method_over_two_datasets_has_the_clips_of_each_in_common_and_no_others(made: Any, tmp_path: Path) -> None:
    """Sigma in blocks: C/(C-1) u'u among the rows of a dataset, V_seed - V_int beside it on the diagonal, 0 across datasets."""
    records = []
    for dataset, detectors in {"highways": ("a", "b", "c"), "roads": ("d", "e")}.items():
        for detector in detectors:
            records += made.pairs(
                tmp_path, 3, detector=detector, base=made.split(images=120, clips=24), better=0.05,
                identity_changes={"dataset": dataset}, evaluation_changes={"dataset": dataset},
            )  # fmt: skip
    board = leaderboard(records, tmp_path)
    blocks, differences = [], []
    for section in board.sections:
        comparisons = [gain.headline.comparison for gain in section.gains if gain.headline]
        rows = np.stack([comparison.clip_influence for comparison in comparisons])
        own = [max(row.differences.var(ddof=1) / 3 - row.interaction_variance, 0.0) for row in comparisons]
        blocks.append(24 / 23 * rows @ rows.T + np.diag(own))
        differences += [comparison.mean for comparison in comparisons]
    expected = random_effects(np.array(differences), block_diag(*blocks))
    (summary,) = board.summaries
    assert (summary.detectors, summary.datasets, summary.effects.rows) == (5, 2, 5)
    assert (summary.effects.mean, summary.effects.low, summary.effects.high) == pytest.approx(
        (expected.mean, expected.low, expected.high), rel=1e-5
    )


def test_gains_without_a_verdict_are_no_part_of_the_summary(made: Any, tmp_path: Path) -> None:
    records = [
        *made.pairs(tmp_path, 3, detector="a"),
        *made.pairs(tmp_path, 3, detector="b"),
        *made.pairs(tmp_path, 3, detector="c", flags=("oracle failed its gate",)),
        *made.pairs(tmp_path, 2, detector="d"),
    ]
    (summary,) = leaderboard(records, tmp_path).summaries
    assert (summary.detectors, summary.effects.rows) == (2, 2)


def test_a_gain_in_the_mean_alone_is_not_consistent(made: Any, tmp_path: Path) -> None:
    """What a new detector would gain has to be above zero, and one of these lost."""
    base = made.split(images=360, clips=60)
    records = [
        record
        for index, better in enumerate((0.15, 0.1, 0.1, 0.05, -0.1))
        for record in made.pairs(tmp_path, 3, detector=f"detector{index}", base=base, better=better)
    ]
    board = leaderboard(records, tmp_path)
    (summary,) = board.summaries
    assert summary.effects.mean > 0 > summary.effects.low
    assert summary.verdict == "not consistent"
    effects, (shown,) = summary.effects, summary_table(board).rows
    deviations = [f"{100 * value:.2f}" for value in (effects.standard_error, math.sqrt(effects.between_variance))]
    interval = f"{100 * effects.low:+.2f} to {100 * effects.high:+.2f}"
    assert shown == ("samiro", "5", "1", "5", f"{100 * effects.mean:+.2f}", *deviations, interval, "not consistent")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("detectors", "verdict"), [(2, "no verdict: 2 detectors"), (5, "not consistent")])
def test_a_method_that_changes_nothing_over_all_detectors_is_not_consistent_and_no_figure_is_nan(
    made: Any, tmp_path: Path, detectors: int, verdict: str
) -> None:
    base = made.split(images=120, clips=12)
    records = [
        made.record(tmp_path, made.noisy(base, 10 * detector + seed), detector=f"d{detector}", method=arm, seed=seed)
        for detector in range(detectors)
        for seed in range(3)
        for arm in ("baseline", "samiro")
    ]
    board = leaderboard(records, tmp_path)
    (summary,) = board.summaries
    assert summary.verdict == verdict
    assert [gain.verdict for gain in board.sections[0].gains] == ["not separated"] * detectors
    line = f"| samiro | {detectors} | 1 | {detectors} | 0.00 | 0.00 | 0.00 | 0.00 to 0.00 | {verdict} |"
    page = to_markdown(board)
    assert line in re.sub(" +", " ", page).replace("+0.00", "0.00")
    assert "nan" not in page


def test_backbones_of_one_paper_are_one_detector(made: Any, tmp_path: Path) -> None:
    changes = {"detector_meta": {"paper": "one paper"}}
    records = [
        record
        for name in ("net-r18", "net-r34", "other")
        for record in made.pairs(
            tmp_path, 3, detector=name, identity_changes=changes if name.startswith("net") else None
        )
    ]
    (summary,) = leaderboard(records, tmp_path).summaries
    assert (summary.detectors, summary.effects.rows) == (2, 2)


def test_rows_of_one_adapter_without_a_paper_are_one_detector(made: Any, tmp_path: Path) -> None:
    records = [
        record
        for name, adapter in (("short", "net"), ("long", "net"), ("other", "other"))
        for record in made.pairs(
            tmp_path, 3, detector=name, identity_changes={"detector_meta": {"paper": "", "name": adapter}}
        )
    ]
    (summary,) = leaderboard(records, tmp_path).summaries
    assert (summary.detectors, summary.effects.rows) == (2, 2)


def test_the_same_cells_scored_by_two_metrics_count_once_in_the_summary(made: Any, tmp_path: Path) -> None:
    records = []
    for name in ("a", "b"):
        for record in made.pairs(tmp_path, 3, detector=name):
            path = counts_path(tmp_path, record.id, "test")
            copy = counts_path(tmp_path, record.id, "ports")
            copy.write_bytes(path.read_bytes())
            changed = {"name": "ports", "metric": "culane/clrnet", "counts_file": copy.name}
            second = record.evaluations[0].model_copy(update=changed | {"counts_sha256": sha256_of_file(copy)})
            records.append(record.model_copy(update={"evaluations": (*record.evaluations, second)}))
    board = leaderboard(records, tmp_path)
    assert len(board.sections) == 2
    assert [summary.effects.rows for summary in board.summaries] == [2]
    official, ports = sorted(board.sections, key=lambda section: section.key.metric != "culane/official")
    assert all(gain.p is not None for gain in official.gains)
    assert [gain.verdict for gain in ports.gains] == ["no verdict: a further evaluation"] * 2
    assert all(gain.headline and gain.headline.half_widths for gain in ports.gains)
