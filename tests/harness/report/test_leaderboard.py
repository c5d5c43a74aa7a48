"""The leaderboard as data, from hand-made records."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import block_diag

from harness.counts import read_counts, write_counts
from harness.files import sha256_of_file
from harness.records import counts_path, read_record
from harness.report.leaderboard import Leaderboard, Section, headline_keys, leaderboard
from harness.report.random_effects import random_effects
from harness.report.scored import SectionKey
from harness.report.statistics import holm
from harness.report.tables import to_markdown


def only_section(records: list[Any], folder: Path) -> Section:
    (section,) = leaderboard(records, folder).sections
    return section


def assert_left_out(board: Leaderboard, *patterns: str) -> None:
    """Whether as many records as there are patterns were left out, and why."""
    assert len(board.left_out) == len(patterns)
    for line, pattern in zip(board.left_out, patterns, strict=True):
        assert re.search(pattern, line), line


def column(section: Section, key: str) -> int:
    return [column.key for column in section.columns].index(key)


def missing(counts: Any, images: slice, lanes: int = 1) -> Any:
    """The same counts with lanes of some images neither found nor predicted."""
    true_positives, predictions = counts.true_positives.copy(), counts.predictions.copy()
    true_positives[images] -= lanes
    predictions[images] -= lanes
    return replace(counts, true_positives=true_positives, predictions=predictions)


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
    records = [*made.pairs(tmp_path, 3, better=0.02), *made.pairs(tmp_path, 3, detector="clrnet", better=0.02)]
    gains = only_section(records, tmp_path).gains
    low, high = sorted(gains, key=lambda gain: gain.p or 0)
    assert low.p is not None
    assert high.p is not None
    assert low.adjusted_p == pytest.approx(min(1, 2 * low.p))
    assert high.adjusted_p == pytest.approx(max(min(1, 2 * low.p), high.p))


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


def test_a_forged_counts_file_is_left_out_and_the_rest_reported(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 1)
    write_counts(counts_path(tmp_path, records[1].id, "test"), made.split())
    board = leaderboard(records, tmp_path)
    assert_left_out(board, r"mini-ufld-samiro-s0\.test\.counts\.npz: differs from key 'counts_sha256'")
    assert [row.arm.method for row in board.sections[0].rows] == ["baseline"]
    assert [arm.method for arm in board.timings] == ["baseline"]


def test_a_score_that_is_not_what_the_counts_give_is_left_out(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    total = record.evaluations[0].total.model_copy(update={"f1_50": 0.99})
    evaluation = record.evaluations[0].model_copy(update={"total": total})
    board = leaderboard([record.model_copy(update={"evaluations": (evaluation,)})], tmp_path)
    assert_left_out(board, r"key 'evaluations\.test\.total\.f1_50' says 0\.99")


def test_a_scenarios_score_that_is_not_what_the_counts_give_is_left_out(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    (evaluation,) = record.evaluations
    night = evaluation.scenarios["night"]

    def board(**scenarios: Any) -> Leaderboard:
        changed = evaluation.model_copy(update={"scenarios": evaluation.scenarios | scenarios})
        return leaderboard([record.model_copy(update={"evaluations": (changed,)})], tmp_path)

    forged = night.model_copy(update={"f1_50": night.f1_50 + 1e-6})
    assert_left_out(board(night=forged), rf"key 'evaluations\.test\.scenarios\.night\.f1_50' says {forged.f1_50}")
    assert_left_out(board(fog=night), r"key 'evaluations\.test\.scenarios\.fog': .* has no such scenario")
    assert board(night=night.model_copy(update={"f1_50": night.f1_50 + 1e-14})).left_out == ()


def test_an_evaluation_that_stands_twice_is_left_out_with_its_record(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    board = leaderboard([record.model_copy(update={"evaluations": record.evaluations * 2})], tmp_path)
    assert_left_out(board, r"mini-ufld-baseline-s0\.json: key 'evaluations': 'test' stands twice")


def renamed(made: Any) -> Any:
    """A split of which one image has another name."""
    counts = made.split()
    images = counts.image.copy()
    images[0] = "/99999.jpg"
    return replace(counts, image=images)


def test_counts_with_the_recorded_hash_but_other_images_than_most_are_left_out(made: Any, tmp_path: Path) -> None:
    records = [
        *(made.record(tmp_path, made.split(), seed=seed) for seed in range(2)),
        made.record(tmp_path, renamed(made), method="samiro"),
    ]
    board = leaderboard(records, tmp_path)
    assert_left_out(board, r"samiro-s0\.json: .* of other images, clips or scenarios than those of mini-ufld-baseline")
    assert [row.seeds for row in board.sections[0].rows] == [(0, 1)]


def test_of_two_splits_that_differ_neither_is_known_to_be_right(made: Any, tmp_path: Path) -> None:
    first, second = made.record(tmp_path, made.split()), made.record(tmp_path, renamed(made), method="samiro")
    assert_left_out(leaderboard([first, second], tmp_path), *[r"of other images, clips or scenarios than those of"] * 2)


def test_counts_of_other_labels_are_left_out(made: Any, tmp_path: Path) -> None:
    first, second = made.record(tmp_path, made.split()), made.record(tmp_path, made.split(lanes=3), method="samiro")
    assert_left_out(leaderboard([first, second], tmp_path), *[r"of other labels than those of"] * 2)


def test_missing_counts_are_named(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.split())
    counts_path(tmp_path, record.id, "test").unlink()
    assert_left_out(leaderboard([record], tmp_path), r"test\.counts\.npz: missing")


def test_counts_without_images_are_named(made: Any, tmp_path: Path) -> None:
    nothing = made.split(images=1, clips=1)
    empty = replace(nothing, **{name: getattr(nothing, name)[:0] for name in vars(nothing)})
    assert_left_out(leaderboard([made.record(tmp_path, empty)], tmp_path), r"has no images")


def test_what_is_left_out_and_missing_stands_in_the_page_without_the_folder(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.split())
    counts_path(tmp_path, record.id, "test").write_bytes(b"")
    faults = [f"{tmp_path}/x.json: not a readable record (*)"]
    page = to_markdown(leaderboard([record], tmp_path, faults=faults, missing=["ufld: no record of seed 1 of 2"]))
    assert "## Not used" in page
    assert "- mini-ufld-baseline-s0.test.counts.npz: differs" in page
    assert "- x.json: not a readable record (\\*)" in page
    assert "- ufld: no record of seed 1 of 2" in page
    assert str(tmp_path) not in page


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
        assert page.count(f"| Δ samiro ({variant}) - baseline ") >= 3, (
            "a gain of each detector says which variant it is of"
        )


def test_no_records_make_an_empty_leaderboard(tmp_path: Path) -> None:
    assert leaderboard([], tmp_path).sections == ()


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


def test_a_method_over_two_datasets_has_the_clips_of_each_in_common_and_no_others(made: Any, tmp_path: Path) -> None:
    """Sigma in blocks: C/(C-1) u'u among the rows of a dataset, V_seed on the diagonal, 0 across datasets."""
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
        own = [comparison.differences.var(ddof=1) / 3 for comparison in comparisons]
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
    (summary,) = leaderboard(records, tmp_path).summaries
    assert summary.effects.mean > 0 > summary.effects.low
    assert summary.verdict == "not consistent"


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
        record.model_copy(update={"flags": ("stale accepted",)}) if record.identity.method == flagged else record
        for record in made.pairs(tmp_path, 3, base=base, better=0.1)
    ]
    (gain,) = only_section(records, tmp_path).gains
    assert (gain.verdict, gain.p) == ("no verdict: not ranked", None)
    assert gain.headline is not None
    assert gain.headline.half_widths is not None
