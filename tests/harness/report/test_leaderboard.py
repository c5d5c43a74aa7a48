"""The leaderboard as data, from hand-made records."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.records.counts import read_counts
from harness.records.record import read_record
from harness.report.leaderboard import headline_keys, leaderboard
from harness.report.scored import SectionKey
from harness.report.statistics import holm
from harness.report.tables import to_markdown
from tests.harness.report.boards import column, missing, only_section


def test_columns_stand_in_the_fields_order(made: Any, tmp_path: Path) -> None:
    section = only_section([made.record(tmp_path, made.split())], tmp_path)
    assert [column.title for column in section.columns] == [
        "F1@50", "normal", "crowded", "dazzle", "shadow", "no line", "arrow", "curve", "cross FP ↓", "night", "F1@75", "mF1",
    ]  # fmt: skip
    assert (section.images, section.clips) == (36, 12)


def test_scores_are_means_over_seeds_with_their_sd(made: Any, tmp_path: Path) -> None:
    # Two images of one scenario, 4 lanes each: all found is F1 = 1; one missed in the first is 2 * 7 / (8 + 7) = 14/15.
    perfect = made.split(images=2, clips=2, scenarios=("normal",))
    records = [
        made.record(tmp_path, perfect, seed=0),
        made.record(tmp_path, missing(perfect, slice(0, 1)), seed=1),
    ]
    (row,) = only_section(records, tmp_path).rows
    assert row.seeds == (0, 1)
    assert row.headline is not None
    assert row.headline.mean == pytest.approx((1 + 14 / 15) / 2)
    assert row.headline.sd == pytest.approx((1 - 14 / 15) / math.sqrt(2))


def test_cross_counts_false_positives_and_has_no_f1(made: Any, tmp_path: Path) -> None:
    counts = made.split()
    predictions = counts.predictions.copy()
    predictions[counts.scenario == "cross"] = 2
    section = only_section([made.record(tmp_path, replace(counts, predictions=predictions))], tmp_path)
    (row,) = section.rows
    crossed = row.scores[column(section, "cross_fp")]
    assert crossed is not None
    assert crossed.mean == 8  # four of the 36 images are crossroads
    total = row.scores[0]
    assert total is not None
    assert total.mean == pytest.approx(2 * 128 / (128 + 128 + 8))  # and they count in the total


def test_crossings_of_tusimples_kind_count_predictions_beyond_the_matched_lanes(made: Any, tmp_path: Path) -> None:
    counts = made.rated(images=36, scenarios=("normal", "cross"))
    found = replace(counts, predictions=counts.predictions + np.int32(3), matched=counts.matched - np.int32(1))
    section = only_section([made.record(tmp_path, found)], tmp_path)
    crossed = section.rows[0].scores[column(section, "cross_fp")]
    assert crossed is not None
    assert crossed.mean == 18 * 4  # 7 predicted and 3 matched in each of 18 images


def test_a_scenario_without_labels_is_blank_rather_than_zero(made: Any, tmp_path: Path) -> None:
    counts = made.split()
    labels = np.where(counts.scenario == "night", 0, counts.labels).astype(np.int32)
    empty = replace(counts, labels=labels, predictions=labels, true_positives=np.repeat(labels[:, None], 10, axis=1))
    section = only_section([made.record(tmp_path, empty)], tmp_path)
    assert section.rows[0].scores[column(section, "night")] is None


def test_gain_is_the_mean_paired_difference_with_its_verdict(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    section = only_section(made.pairs(tmp_path, 4, base=base, better=0.1), tmp_path)
    baseline, method = section.rows
    (gain,) = section.gains
    assert gain.seeds == (0, 1, 2, 3)
    assert gain.headline is not None
    assert baseline.headline is not None
    assert method.headline is not None
    assert gain.headline.comparison.mean == pytest.approx(method.headline.mean - baseline.headline.mean)
    assert gain.verdict == "better"
    assert gain.p is not None
    assert gain.adjusted_p == gain.p  # a family of one
    assert [type(item).__name__ for item in section.groups[0]] == ["Row", "Row", "Gain"]


def test_tusimple_is_judged_by_accuracy(made: Any, tmp_path: Path) -> None:
    base = made.rated(images=360, clips=60)
    section = only_section(made.pairs(tmp_path, 4, base=base, better=0.1), tmp_path)
    baseline, method = section.rows
    (gain,) = section.gains
    assert section.headline.key == "accuracy"
    assert baseline.headline is not None
    assert method.headline is not None
    assert gain.headline is not None
    assert gain.headline.comparison.mean == pytest.approx(method.headline.mean - baseline.headline.mean)
    # Half of what is missed is accurate: .1 more lanes found are .05 more.
    assert gain.headline.comparison.mean == pytest.approx(0.05, abs=0.01)
    assert (gain.verdict, gain.headline.comparison.clips) == ("better", 60)
    assert [column.key for column in section.columns] == [
        "accuracy", "f1_clrnet", "f1_matched", "fp", "fn", "images_with_negative_fp",
    ]  # fmt: skip


def test_u_sc_of_a_mean_over_images_by_hand(made: Any, tmp_path: Path) -> None:
    """u_sc = sum over the images of a clip of (d_si - D_s) / N."""
    base = made.rated(images=60, clips=12)
    section = only_section(made.pairs(tmp_path, 3, base=base, better=0.05), tmp_path)
    comparison = section.gains[0].headline.comparison
    read = {record.name: read_counts(record) for record in tmp_path.glob("*.npz")}
    paired = np.stack(
        [
            read[f"mini-ufld-samiro-s{seed}.test.counts.npz"].accuracy
            - read[f"mini-ufld-baseline-s{seed}.test.counts.npz"].accuracy
            for seed in range(3)
        ]
    )
    influence = (paired - paired.mean(axis=1, keepdims=True)) / 60
    by_clip = np.stack([influence[:, base.clip == clip].sum(axis=1) for clip in np.unique(base.clip)], axis=1)
    assert comparison.differences == pytest.approx(paired.mean(axis=1))
    assert comparison.clip_influence == pytest.approx(by_clip.mean(axis=0))
    assert comparison.clip_variance == pytest.approx(12 / 11 * (by_clip.mean(axis=0) ** 2).sum())


def test_a_row_of_llamas_selected_on_the_scored_val_split_is_never_ranked(made: Any, tmp_path: Path) -> None:
    record = made.record(
        tmp_path,
        made.split(scenarios=("unnamed",)),
        selected_on="val",
        evaluation_changes={"metric": "llamas/official", "split": "val", "scenarios": {}},
        identity_changes={"selection": "val-best"},
    )
    (row,) = only_section([record], tmp_path).rows
    assert (row.rank, row.unranked) == (None, ("checkpoint selected on the scored split 'val'",))


def test_a_worse_method_is_called_worse_and_an_equal_one_not_separated(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    assert (
        only_section(made.pairs(tmp_path / "a", 4, base=base, better=-0.1), tmp_path / "a").gains[0].verdict == "worse"
    )
    assert only_section(made.pairs(tmp_path / "b", 4, base=base), tmp_path / "b").gains[0].verdict == "not separated"


def test_holm_runs_over_the_detectors_of_one_method(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    records = [
        record
        for name in ("ufld", "clrnet")
        for record in made.pairs(tmp_path, 3, detector=name, base=base, better=0.035)
    ]
    gains = only_section(records, tmp_path).gains
    low, high = sorted(gains, key=lambda gain: gain.p or 0)
    assert low.p is not None
    assert high.p is not None
    assert low.adjusted_p == pytest.approx(min(1, 2 * low.p))
    assert high.adjusted_p == pytest.approx(max(min(1, 2 * low.p), high.p))
    assert high.p < 0.05 < high.adjusted_p
    assert {gain.verdict for gain in gains} == {"not separated"}  # what each alone would have been called better


def test_arms_of_another_recipe_are_a_group_of_their_own(made: Any, tmp_path: Path) -> None:
    longer = {"recipe": {"optimizer": "adamw", "steps": 2000}}
    records = [*made.pairs(tmp_path, 1), made.record(tmp_path, made.split(), name="long", identity_changes=longer)]
    section = only_section(records, tmp_path)
    assert [[type(item).__name__ for item in group] for group in section.groups] == [["Row"], ["Row", "Row", "Gain"]]


@pytest.mark.parametrize(("seeds", "told"), [(1, "no verdict: 1 seed"), (2, "no verdict: 2 seeds")])
def test_below_three_seeds_there_is_an_interval_but_no_verdict(
    made: Any, tmp_path: Path, seeds: int, told: str
) -> None:
    (gain,) = only_section(made.pairs(tmp_path, seeds), tmp_path).gains
    assert (gain.verdict, gain.p, gain.detectable) == (told, None, None)
    assert gain.headline is not None
    assert gain.headline.half_widths is not None
    assert gain.headline.half_widths.kind == ("clip" if seeds == 1 else "quadrature")


def test_scenarios_with_few_clips_have_a_difference_without_an_interval(made: Any, tmp_path: Path) -> None:
    section = only_section(made.pairs(tmp_path, 3), tmp_path)
    night = section.gains[0].differences[column(section, "night")]
    assert night is not None
    assert night.comparison.clips < 10
    assert night.half_widths is None


def test_unequal_pairs_are_left_out_and_named(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 4)
    odd = made.record(tmp_path, made.split(), method="samiro", seed=3, training=made.training(micro_batch_size=8))
    lone = made.record(tmp_path, made.split(), seed=4)
    (gain,) = only_section([*records[:-1], odd, lone], tmp_path).gains
    assert gain.seeds == (0, 1, 2)
    assert gain.not_used == ("seed 3: micro-batches differ: 8 and 16", "seed 4: no record of samiro")


def test_seeds_are_paired_by_number_though_either_arm_lacks_another_one(made: Any, tmp_path: Path) -> None:
    lacking = {("samiro", 0), ("baseline", 3)}
    records = [
        record
        for record in made.pairs(tmp_path, 5, base=made.split(images=120))
        if (record.identity.method, record.identity.seed) not in lacking
    ]
    (gain,) = only_section(records, tmp_path).gains
    f1 = {(record.identity.method, record.identity.seed): record.evaluations[0].total.f1_50 for record in records}
    assert gain.seeds == (1, 2, 4)
    assert gain.not_used == ("seed 0: no record of samiro", "seed 3: no record of baseline")
    assert gain.headline is not None
    assert gain.headline.comparison.differences == pytest.approx(
        [f1["samiro", seed] - f1["baseline", seed] for seed in gain.seeds]
    )


def test_pooled_seeds_are_those_of_all_rows_of_the_method(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    records = [*made.pairs(tmp_path, 3, base=base), *made.pairs(tmp_path, 3, detector="clrnet", base=base)]
    gains = only_section(records, tmp_path).gains
    each = [gain.headline.comparison.differences.var(ddof=1) for gain in gains if gain.headline]
    seeds = stats.t.ppf(0.975, 4) * math.sqrt(sum(each) / 2 / 3)
    for gain in gains:
        assert gain.headline is not None
        clips = stats.norm.ppf(0.975) * math.sqrt(gain.headline.comparison.pure_clip_variance)
        assert gain.pooled_half_width == pytest.approx(math.hypot(seeds, clips))


def test_pairs_of_other_threads_leave_no_gain_at_all(made: Any, tmp_path: Path) -> None:
    base = made.record(tmp_path, made.split())
    other = made.record(tmp_path, made.split(), method="samiro", identity_changes={"threads": 4})
    (gain,) = only_section([base, other], tmp_path).gains
    assert (gain.seeds, gain.verdict) == ((), "no verdict: no pair")
    assert set(gain.differences) == {None}


def test_flagged_rows_and_rows_selected_on_the_scored_split_are_shown_but_not_ranked(made: Any, tmp_path: Path) -> None:
    records = [
        *made.pairs(tmp_path, 3, detector="a"),
        *made.pairs(tmp_path, 3, detector="b", flags=("oracle failed its gate",)),
        *made.pairs(tmp_path, 3, detector="c", selected_on="test", identity_changes={"selection": "val-best"}),
        *made.pairs(tmp_path, 3, detector="d", selected_on="val", identity_changes={"selection": "val-best"}),
    ]
    last, best = leaderboard(records, tmp_path).sections
    assert [(row.arm.detector, row.rank is not None) for row in last.rows] == [
        ("a", True), ("a", True), ("b", False), ("b", False),
    ]  # fmt: skip
    assert last.rows[2].unranked == ("oracle failed its gate",)
    assert last.gains[1].verdict == "no verdict: not ranked"
    assert [(row.arm.detector, row.rank) for row in best.rows if row.rank is None] == [("c", None), ("c", None)]
    assert best.rows[-1].unranked == ("checkpoint selected on the scored split 'test'",)


def test_groups_stand_by_their_best_row_and_equal_scores_share_a_rank(made: Any, tmp_path: Path) -> None:
    good, poor = made.split(), missing(made.split(), slice(0, 7))
    records = [
        made.record(tmp_path, poor, detector="a"),
        made.record(tmp_path, good, detector="b"),
        made.record(tmp_path, good, detector="c"),
    ]
    assert [(row.arm.detector, row.rank) for row in only_section(records, tmp_path).rows] == [
        ("b", 1), ("c", 1), ("a", 3),
    ]  # fmt: skip


def test_other_metrics_datasets_and_contents_never_share_a_table(made: Any, tmp_path: Path) -> None:
    for index, changes in enumerate(
        [{}, {"metric": "culane/clrnet"}, {"dataset_sha256": "0" * 64}, {"split": "val"}, {"corruption": "fog-3"}]
    ):
        made.record(tmp_path, made.split(), name=f"r{index}", seed=index, evaluation_changes=changes)
    records = [read_record(path) for path in sorted(tmp_path.glob("*.json"))]
    sections = leaderboard(records, tmp_path).sections
    assert len(sections) == 5
    assert all(len(section.rows) == 1 for section in sections)


def test_corrupted_images_get_intervals_but_no_verdict(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 3, evaluation_changes={"corruption": "fog-3"})
    assert only_section(records, tmp_path).gains[0].verdict == "no verdict: corrupted images"


def test_two_baselines_are_told_and_stop_neither_their_table_nor_another(made: Any, tmp_path: Path) -> None:
    same = {"method_configuration": {"kind": "baseline"}}
    records = made.pairs(tmp_path, 3) + made.pairs(tmp_path, 3, detector="resa")
    records += [
        made.record(tmp_path, made.split(), method="plain", seed=seed, identity_changes=same) for seed in (0, 1)
    ]
    board = leaderboard(records, tmp_path)
    (told,) = board.left_out
    assert told.startswith(
        "mini-ufld-plain-s0.json: key 'identity.method': ufld, plain is a second baseline beside mini-ufld-base"
    )
    (section,) = board.sections
    assert [gain.arm.detector for gain in section.gains] == ["resa"]
    assert {row.arm.name for row in section.rows} >= {"ufld, plain", "ufld, baseline", "ufld, samiro"}
    assert "ufld, samiro: two baselines of the same detector, recipe and data, so no gain" in to_markdown(board)


def test_no_records_make_an_empty_leaderboard(tmp_path: Path) -> None:
    assert leaderboard([], tmp_path).sections == ()


def test_a_network_tested_on_another_dataset_is_judged_there_too(made: Any, tmp_path: Path) -> None:
    base, changes = made.split(images=360, clips=60), {"dataset": "elsewhere"}
    records = [
        record
        for detector in ("a", "b")
        for record in made.pairs(tmp_path, 3, detector=detector, base=base, better=0.1, evaluation_changes=changes)
    ]
    board = leaderboard(records, tmp_path)
    assert [gain.verdict for section in board.sections for gain in section.gains] == ["better"] * 2
    assert board.summaries == ()


def test_of_several_evaluations_of_one_training_the_clean_official_one_of_the_test_split_is_judged() -> None:
    judged = SectionKey("roads", "roads", "test", "", "test", "culane/official", "last", "published", "d" * 64)
    others = [
        replace(judged, split="val"),
        replace(judged, split="a", evaluation="a"),
        replace(judged, metric="culane/clrnet"),
        replace(judged, corruption="fog-3"),
        replace(judged, evaluation="test-again"),
    ]
    assert headline_keys([*others, judged]) == {judged}
    # Another rule for the checkpoint or the threshold, other content and another training set have verdicts of their own.
    apart = [
        replace(judged, selection="val-best"),
        replace(judged, confidence="val-best"),
        replace(judged, dataset_sha256="e" * 64),
        replace(judged, trained_on="highways"),
    ]
    assert headline_keys([judged, *apart]) == {judged, *apart}
    assert headline_keys(others[:1]) == {others[0]}


def test_variants_of_a_method_are_one_family(made: Any, tmp_path: Path) -> None:
    """Two values of a weight are two chances: Holm sees both."""
    records = made.pairs(tmp_path, 3, better=0.04)
    for seed in range(3):
        counts = made.noisy(made.split(), 900 + seed, found=0.83)
        changes = {"method_configuration": {"kind": "samiro", "weight": 0.3}}
        records.append(
            made.record(tmp_path, counts, method="samiro", seed=seed, name=f"w{seed}", identity_changes=changes)
        )
    gains = only_section(records, tmp_path).gains
    p_values = [gain.p for gain in gains]
    assert len(p_values) == 2
    assert [gain.adjusted_p for gain in gains] == holm([p for p in p_values if p is not None])
    assert gains[0].adjusted_p != gains[0].p or gains[1].adjusted_p != gains[1].p


@pytest.mark.parametrize("flagged", ["baseline", "samiro"])
def test_one_unranked_arm_is_enough_to_leave_a_gain_without_a_verdict(made: Any, tmp_path: Path, flagged: str) -> None:
    base = made.split(images=360, clips=60)
    records = [
        record.model_copy(update={"flags": ("stale accepted",)})
        if (record.identity.method, record.identity.seed) == (flagged, 1)
        else record
        for record in made.pairs(tmp_path, 3, base=base, better=0.1)
    ]
    (gain,) = only_section(records, tmp_path).gains
    assert (gain.verdict, gain.p) == ("no verdict: not ranked", None)
    assert gain.headline is not None
    assert gain.headline.half_widths is not None
