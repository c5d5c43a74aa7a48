"""Variants of one method: whatever their suite calls them they are one family, and the highest is held against the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.methods.config import method_configuration
from harness.records.counts import scope_scores
from harness.records.record import write_record
from harness.report.arms import arms_of
from harness.report.cells import variant_table
from harness.report.families import Family, family_of
from harness.report.leaderboard import leaderboard
from harness.report.section_text import tries_notes
from harness.report.statistics import holm
from harness.report.tables import to_markdown
from tests.harness.report.boards import csv_lines, only_section
from tests.harness.report.tried import half_width, influences, oracle, records_of, scores_of, texts_of, tried

LAMBDAS = {"baseline": 0.7, "samiro": 0.6, "samiro_weak": 0.75, "samiro_none": 0.72}


def test_who_tries_several_lambdas_pays_for_each_whatever_they_are_called(made: Any, tmp_path: Path) -> None:
    gains = only_section(records_of(tried(made, tmp_path, LAMBDAS)), tmp_path).gains
    p_values = [gain.p for gain in gains]
    assert len({gain.arm.method for gain in gains}) == 3
    assert [gain.adjusted_p for gain in gains] == holm([p for p in p_values if p is not None])
    assert [gain.adjusted_p for gain in gains] != p_values


@pytest.mark.parametrize(
    "control",
    [
        oracle("random:resnet_micro"),
        oracle("init"),
        {"shuffled": oracle("mim:resnet_micro")},
    ],
)
def test_a_control_by_its_oracle_asks_a_question_of_its_own(made: Any, tmp_path: Path, control: dict[str, Any]) -> None:
    found = {"baseline": 0.7, "samiro": 0.6, "samiro_control": 0.66}
    rows = tried(made, tmp_path, found, oracles={"samiro_control": control})
    section = only_section(records_of(rows), tmp_path)
    assert [gain.adjusted_p for gain in section.gains] == [gain.p for gain in section.gains]
    assert not variant_table(section).rows


@pytest.mark.parametrize("other", ["timm:convnextv2_nano.fcmae", "supervised:resnet18"])
def test_two_trained_oracles_are_two_tries_and_two_kinds_of_method_are_not(
    made: Any, tmp_path: Path, other: str
) -> None:
    found = {"baseline": 0.7, "samiro": 0.6, "samiro_other": 0.66, "miro": 0.6}
    rows = tried(made, tmp_path, found, oracles={"samiro_other": oracle(other)}, kinds={"miro": "miro"})
    section = only_section(records_of(rows), tmp_path)
    assert [row[:3] for row in variant_table(section).rows] == [("ufld", "samiro_other", "samiro")]
    gains = {gain.arm.method: gain for gain in section.gains}
    assert gains["miro"].adjusted_p == gains["miro"].p
    both = [gains[name] for name in ("samiro", "samiro_other")]
    assert [gain.adjusted_p for gain in both] == holm([gain.p for gain in both if gain.p is not None])
    assert both[0].adjusted_p != both[0].p


def test_two_controls_of_one_kind_are_a_family(made: Any, tmp_path: Path) -> None:
    found = {"baseline": 0.7, "samiro_drawn": 0.6, "samiro_drawn_wide": 0.66}
    oracles = {name: oracle(f"random:{name}") for name in found if name != "baseline"}
    section = only_section(records_of(tried(made, tmp_path, found, oracles=oracles)), tmp_path)
    assert [gain.adjusted_p for gain in section.gains] == holm([gain.p for gain in section.gains if gain.p is not None])
    assert [row[:3] for row in variant_table(section).rows] == [("ufld", "samiro_drawn_wide", "samiro_drawn")]


def test_detectors_under_whatever_names_of_a_method_are_one_family_and_no_variants(made: Any, tmp_path: Path) -> None:
    records = []
    for place, (detector, method) in enumerate({"a": "samiro", "b": "samiro_for_b"}.items()):
        base = made.split(240, 60)
        for arm, share in (("baseline", 0.7), (method, 0.75)):
            for seed in range(4):
                kind = "baseline" if arm == "baseline" else "samiro"
                changes = {"method_configuration": {"kind": kind}, "detector_meta": {"name": detector}}
                counts = made.noisy(base, 10 * place + seed + (100 if arm == method else 0), share)
                records.append(
                    made.record(tmp_path, counts, detector=detector, method=arm, seed=seed, identity_changes=changes)
                )
    section = only_section(records, tmp_path)
    assert [gain.adjusted_p for gain in section.gains] == holm([gain.p for gain in section.gains if gain.p is not None])
    assert [gain.adjusted_p for gain in section.gains] != [gain.p for gain in section.gains]
    assert not variant_table(section).rows


def options(kind: str, **changes: Any) -> dict[str, Any]:
    """All options of a kind of method, as a record has them, with some changed."""
    configuration = method_configuration(kind, {"oracle": "o"} | changes)
    return {"method_configuration": configuration.model_dump(mode="json", by_alias=True)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (options("samiro"), Family("samiro")),
        (options("samiro", lambda_mode="ratio"), Family("samiro")),
        (options("attention_only"), Family("attention_only")),
        (options("miro"), Family("miro")),
        (options("feature_distillation"), Family("feature_distillation")),
        (options("samiro", **{"lambda": 0}), Family("attention_only")),
        (options("miro", attention="spatial", mi_attention="gate"), Family("samiro")),
        (options("feature_distillation", variance="unit"), Family("miro")),
        (options("miro") | {"oracle": oracle("init")}, Family("miro")),
        (options("samiro") | {"oracle": oracle("init")}, Family("samiro", control="init")),
        ({"method_configuration": {"kind": 3}, "oracle": {"configuration": "x"}}, Family("samiro")),
        ({"method_configuration": {}, "oracle": {"configuration": {"name": 4}}}, Family("samiro")),
        ({"method_configuration": {"kind": "own.py:Pull"}, "oracle": {}}, Family("own.py:Pull")),
        (
            {"method_configuration": {"kind": "miro"}, "oracle": {"shuffled": None}},
            Family("miro", control="shuffled"),
        ),
    ],
)
def test_a_family_goes_by_what_is_done_and_is_told_of_any_record(
    made: Any, tmp_path: Path, changes: dict[str, Any], expected: Family
) -> None:
    record = made.record(tmp_path, made.split(), method="samiro", identity_changes=changes)
    ((arm,), _) = arms_of([record])
    assert family_of(arm) == expected


def test_the_highest_minus_another_has_the_mean_and_the_seed_interval_of_a_paired_t(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, LAMBDAS)
    scores = scores_of(rows)
    highest, *others = sorted((name for name in scores if name != "baseline"), key=lambda name: -scores[name].mean())
    board = leaderboard(records_of(rows), tmp_path)
    lines = [line for line in csv_lines(board) if line["kind"] == "variant_difference"]
    assert [(line["detector"], line["method"], line["against"]) for line in lines] == [
        ("ufld", highest, other) for other in others
    ]
    for line, other in zip(lines, others, strict=True):
        expected = scores[highest] - scores[other]
        low, high = stats.ttest_1samp(expected, 0.0).confidence_interval()
        told = [float(line[name]) for name in ("f1_50", "f1_50_sd", "seed_low", "seed_high")]
        assert told == pytest.approx([expected.mean(), expected.std(ddof=1), low, high], abs=1e-4)
        half = half_width(expected, influences(rows[highest]) - influences(rows[other]))
        bounds = [float(line["f1_50_low"]), float(line["f1_50_high"])]
        assert bounds == pytest.approx([expected.mean() - half, expected.mean() + half], abs=1e-4)
        assert (line["seeds"], line["verdict"], line["p"], line["not_ranked"]) == ("0;1;2;3", "", "", "")
        assert len(line["records"].split(";")) == 8


def test_the_highest_is_that_of_the_seeds_that_all_variants_have(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_a": 0.7, "samiro_b": 0.72})
    lucky = made.noisy(made.split(240, 60), 7, 1.0)
    changes = rows["samiro_a"][0][0].identity.model_dump(include={"method_configuration", "oracle"})
    extra = made.record(tmp_path, lucky, method="samiro_a", seed=4, identity_changes=changes)
    scores = scores_of(rows)
    assert scores["samiro_a"].mean() < scores["samiro_b"].mean()
    section = only_section([*records_of(rows), extra], tmp_path)
    means = {row.arm.method: row.headline.mean for row in section.rows if row.headline}
    assert means["samiro_a"] > means["samiro_b"]
    (row,) = variant_table(section).rows
    assert (row[1], row[2], row[-2]) == ("samiro_b", "samiro_a", "4")


def test_the_highest_is_that_of_f1_at_50_whatever_is_highest_at_stricter_overlaps(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_a": 0.6, "samiro_b": 0.8})
    for place, (record, counts) in enumerate(rows["samiro_b"]):
        coarse = counts.true_positives.copy()
        coarse[:, 1:] = 0
        changes = record.identity.model_dump(include={"method_configuration", "oracle"})
        counts = replace(counts, true_positives=coarse)
        made_again = made.record(tmp_path, counts, method="samiro_b", seed=place, identity_changes=changes)
        rows["samiro_b"][place] = (made_again, counts)
    strict = {name: np.mean([scope_scores(counts).mf1 for _, counts in found]) for name, found in rows.items()}
    scores = scores_of(rows)
    assert scores["samiro_a"].mean() < scores["samiro_b"].mean()
    assert strict["samiro_a"] > strict["samiro_b"]
    (row,) = variant_table(only_section(records_of(rows), tmp_path)).rows
    assert row[1:3] == ("samiro_b", "samiro_a")


def test_a_seed_that_one_of_three_variants_lacks_counts_in_none(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, LAMBDAS)
    del rows["samiro_none"][1]
    assert [row[-2] for row in variant_table(only_section(records_of(rows), tmp_path)).rows] == ["3", "3"]


def test_seeds_that_were_trained_under_unequal_conditions_dont_count(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_a": 0.7, "samiro_b": 0.72})
    records = records_of(rows)
    assert [row[-2] for row in variant_table(only_section(records, tmp_path)).rows] == ["4"]
    first = rows["samiro_b"][0][0]
    identity = first.identity.model_copy(update={"threads": first.identity.threads + 1})
    records = [record.model_copy(update={"identity": identity}) if record is first else record for record in records]
    assert [row[-2] for row in variant_table(only_section(records, tmp_path)).rows] == ["3"]
    apart = [record for record in records if (record.identity.method, record.identity.seed) != ("samiro_b", 0)]
    none = [record for record in apart if record.identity.method != "samiro_a" or record.identity.seed == 0]
    assert not variant_table(only_section(none, tmp_path)).rows


def test_of_equal_variants_the_first_by_name_is_the_highest_and_leads_by_nothing(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_b": 0.7})
    changes = {"method_configuration": {"kind": "samiro", "lambda": 9}, "oracle": oracle("mim:resnet_micro")}
    copies = [
        made.record(tmp_path, counts, method="samiro_a", seed=seed, identity_changes=changes)
        for seed, (_, counts) in enumerate(rows["samiro_b"])
    ]
    (row,) = variant_table(only_section([*records_of(rows), *copies], tmp_path)).rows
    assert row[1:4] == ("samiro_a", "samiro_b", "0.00 ± 0.00")


def test_all_forms_of_the_leaderboard_have_the_table_and_only_where_there_are_variants(
    made: Any, tmp_path: Path
) -> None:
    board = leaderboard(records_of(tried(made, tmp_path, LAMBDAS)), tmp_path)
    figure = variant_table(board.sections[0]).rows[0][3].split(" ±")[0]
    for text in texts_of(board):
        assert "ariants" in text
        assert "held against each other" in text
        assert figure in text.replace("$-$", "-").replace("$+$", "+")
    plain = leaderboard(made.pairs(tmp_path / "plain", 3), tmp_path / "plain")
    for text in texts_of(plain):
        assert "held against each other" not in text


def test_what_isnt_ranked_leads_none_that_is_and_has_its_mark(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_a": 0.6, "samiro_b": 0.8})
    flagged = [
        record.model_copy(update={"flags": ("oracle failed its gate",)})
        if record.identity.method == "samiro_b"
        else record
        for record in records_of(rows)
    ]
    board = leaderboard(flagged, tmp_path)
    assert [row[:3] for row in variant_table(board.sections[0]).rows] == [("ufld", "samiro_a", "samiro_b †")]
    (line,) = (line for line in csv_lines(board) if line["kind"] == "variant_difference")
    assert line["not_ranked"] == "oracle failed its gate"
    both = [record.model_copy(update={"flags": ("oracle failed its gate",)}) for record in records_of(rows)]
    table = variant_table(only_section(both, tmp_path))
    assert [row[:3] for row in table.rows] == [("ufld", "samiro_b †", "samiro_a †")]


def test_the_order_of_the_records_means_nothing(made: Any, tmp_path: Path) -> None:
    records = records_of(tried(made, tmp_path, LAMBDAS))
    shuffled = [records[place] for place in np.random.default_rng(1).permutation(len(records))]
    assert to_markdown(leaderboard(shuffled, tmp_path)) == to_markdown(leaderboard(records, tmp_path))


def test_means_that_differ_by_the_rounding_of_a_sum_are_equal(made: Any, tmp_path: Path) -> None:
    """The same scores in another order of the seeds."""
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_drawn": 0.7}, seeds=6)
    drawn = rows.pop("samiro_drawn")
    scores = np.array([float(scope_scores(counts).f1_50 or 0.0) for _, counts in drawn])
    orders = sorted(permutations(range(6)), key=lambda order: float(np.mean(scores[list(order)])))
    lowest, highest = orders[0], orders[-1]
    assert np.mean(scores[list(lowest)]) < np.mean(scores[list(highest)])
    records = records_of(rows)
    for place, (method, order) in enumerate({"samiro_a": lowest, "samiro_b": highest}.items()):
        changes = {"method_configuration": {"kind": "samiro", "lambda": place}, "oracle": oracle("mim:resnet_micro")}
        records += [
            made.record(tmp_path, drawn[one][1], method=method, seed=seed, identity_changes=changes)
            for seed, one in enumerate(order)
        ]
    (row,) = variant_table(only_section(records, tmp_path)).rows
    assert row[1:3] == ("samiro_a", "samiro_b")


def test_unequal_numbers_of_tries_are_told_and_controls_by_their_oracle_arent_counted(
    made: Any, tmp_path: Path
) -> None:
    found = {"baseline": 0.7, "samiro": 0.6, "samiro_weak": 0.66, "samiro_random": 0.6, "miro": 0.6}
    random = {"samiro_random": oracle("random:resnet_micro")}
    rows = tried(made, tmp_path, found, oracles=random, kinds={"miro": "miro"})
    told = "ufld: unequal numbers of variants, miro 1 (miro); samiro 2 (samiro, samiro_weak): the best of several is favoured"
    for text in texts_of(leaderboard(records_of(rows), tmp_path)):
        assert told in text.replace("\\_", "_")
    del rows["samiro_weak"]
    for text in texts_of(leaderboard(records_of(rows), tmp_path)):
        assert "unequal numbers" not in text


def test_one_detector_with_two_recipes_has_its_tries_counted_for_each(made: Any, tmp_path: Path) -> None:
    records = []
    for place, optimizer in enumerate(("adamw", "sgd")):
        for method in ("baseline", "samiro", "miro", *(["samiro_weak"] if optimizer == "adamw" else [])):
            configuration = {"kind": method.partition("_")[0], "name": method}
            changes = {"method_configuration": configuration, "recipe": {"optimizer": optimizer}}
            for seed in range(2):
                counts = made.noisy(made.split(60, 15), 100 * place + 10 * len(method) + seed)
                name = f"{optimizer}-{method}-{seed}"
                records.append(
                    made.record(tmp_path, counts, method=method, seed=seed, name=name, identity_changes=changes)
                )
    (note,) = tries_notes(only_section(records, tmp_path))
    assert "miro 1 (miro (" in note
    assert "samiro 2 (samiro (" in note
    assert 'optimizer="adamw"' in note
    assert "sgd" not in note


def test_seeds_that_not_all_variants_have_are_told(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_a": 0.7, "samiro_b": 0.72})
    assert tries_notes(only_section(records_of(rows), tmp_path)) == []
    del rows["samiro_b"][0]
    (note,) = tries_notes(only_section(records_of(rows), tmp_path))
    assert note.startswith(
        "ufld: samiro_a, samiro_b are held against each other over seeds 1, 2, 3 alone: those that all"
    )
    del rows["samiro_a"][1:]
    section = only_section(records_of(rows), tmp_path)
    (note,) = tries_notes(section)
    assert note.startswith(
        "ufld: samiro_a, samiro_b are not held against each other: there is no seed that all of them have"
    )
    assert not variant_table(section).rows


def test_variants_that_unlike_machines_trained_are_told(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, {"baseline": 0.7, "samiro_a": 0.7, "samiro_b": 0.9})
    record, counts = rows["samiro_a"][2]
    other = record.model_copy(update={"environment": made.environment(device="NVIDIA H200")})
    rows["samiro_a"][2] = (other, counts)
    write_record(tmp_path, other)
    (note,) = tries_notes(only_section(records_of(rows), tmp_path))
    assert note.startswith(
        "ufld, samiro_b held against samiro_a: 1 of 4 pairs trained on unlike machines: device (cpu, samiro_a NVIDIA H200). What"
    )
