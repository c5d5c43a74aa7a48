"""Variants of one method: whatever their suite calls them they are one family, and the highest is held against the others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from harness.records.counts import scope_scores
from harness.report.arms import arms_of
from harness.report.cells import variant_table
from harness.report.families import Family, family_of
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.site.page import to_page
from harness.report.statistics import holm
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard
from tests.harness.report.boards import csv_lines, only_section

LAMBDAS = {"baseline": 0.7, "samiro": 0.6, "samiro_weak": 0.75, "samiro_none": 0.72}


def oracle(name: str) -> dict[str, Any]:
    return {"configuration": {"name": name}, "dataset": None}


def tried(
    made: Any,
    folder: Path,
    found: dict[str, float],
    *,
    seeds: int = 4,
    oracles: dict[str, dict[str, Any]] | None = None,
    kinds: dict[str, str] | None = None,
) -> dict[str, list[Any]]:
    """Records of a detector trained with methods of these names, all but the baseline of kind samiro if nothing else is said."""
    rows: dict[str, list[Any]] = {}
    for place, (method, share) in enumerate(found.items()):
        kind = (kinds or {}).get(method, "baseline" if method == "baseline" else "samiro")
        changes = {
            "method_configuration": {"kind": kind, "lambda": place},
            "oracle": (oracles or {}).get(method, None if method == "baseline" else oracle("mim:resnet_micro")),
        }
        for seed in range(seeds):
            counts = made.noisy(made.split(240, 60), 100 * place + seed, share)
            record = made.record(folder, counts, method=method, seed=seed, identity_changes=changes)
            rows.setdefault(method, []).append((record, counts))
    return rows


def records_of(rows: dict[str, list[Any]]) -> list[Any]:
    return [record for same in rows.values() for record, _ in same]


def scores_of(rows: dict[str, list[Any]]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return {
        name: np.array([100 * float(scope_scores(counts).f1_50 or 0.0) for _, counts in same])
        for name, same in rows.items()
    }


def texts_of(board: Leaderboard) -> list[str]:
    printed = Console(file=io.StringIO(), width=10_000)
    print_leaderboard(board, printed)
    assert isinstance(printed.file, io.StringIO)
    return [to_markdown(board), to_page(board), to_latex(board), printed.file.getvalue()]


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
        oracle("supervised:resnet18"),
        {"shuffled": oracle("mim:resnet_micro")},
    ],
)
def test_a_control_by_its_oracle_asks_a_question_of_its_own(made: Any, tmp_path: Path, control: dict[str, Any]) -> None:
    found = {"baseline": 0.7, "samiro": 0.6, "samiro_control": 0.66}
    rows = tried(made, tmp_path, found, oracles={"samiro_control": control})
    section = only_section(records_of(rows), tmp_path)
    assert [gain.adjusted_p for gain in section.gains] == [gain.p for gain in section.gains]
    assert not variant_table(section).rows


def test_two_pretrained_oracles_are_two_tries_and_two_kinds_of_method_are_not(made: Any, tmp_path: Path) -> None:
    found = {"baseline": 0.7, "samiro": 0.6, "samiro_general": 0.66, "miro": 0.6}
    general = {"samiro_general": oracle("timm:convnextv2_nano.fcmae")}
    rows = tried(made, tmp_path, found, oracles=general, kinds={"miro": "miro"})
    section = only_section(records_of(rows), tmp_path)
    assert [row[:3] for row in variant_table(section).rows] == [("ufld", "samiro_general", "samiro")]
    alone = {gain.arm.method: gain.adjusted_p == gain.p for gain in section.gains}
    assert alone == {"miro": True, "samiro": False, "samiro_general": alone["samiro_general"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method_configuration": {"kind": 3}, "oracle": {"configuration": "x"}}, Family("samiro")),
        ({"method_configuration": {}, "oracle": {"configuration": {"name": 4}}}, Family("samiro")),
        ({"method_configuration": {"kind": "own.py:Pull"}, "oracle": {}}, Family("own.py:Pull")),
        (
            {"method_configuration": {"kind": "miro"}, "oracle": {"shuffled": None}},
            Family("miro", control="shuffled"),
        ),
    ],
)
def test_a_family_is_told_of_any_record(made: Any, tmp_path: Path, changes: dict[str, Any], expected: Family) -> None:
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
        assert float(line["f1_50_low"]) <= round(low, 4)
        assert float(line["f1_50_high"]) >= round(high, 4)
        assert (line["seeds"], line["verdict"], line["p"]) == ("0;1;2;3", "", "")
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


def test_unequal_numbers_of_tries_are_told_and_controls_by_their_oracle_arent_counted(
    made: Any, tmp_path: Path
) -> None:
    found = {"baseline": 0.7, "samiro": 0.6, "samiro_weak": 0.66, "samiro_random": 0.6, "miro": 0.6}
    random = {"samiro_random": oracle("random:resnet_micro")}
    rows = tried(made, tmp_path, found, oracles=random, kinds={"miro": "miro"})
    told = "ufld: unequal numbers of variants, miro 1, samiro 2: the best of several is no match for the best of fewer."
    for text in texts_of(leaderboard(records_of(rows), tmp_path))[:3]:
        assert told in text.replace("\\_", "_")
    del rows["samiro_weak"]
    for text in texts_of(leaderboard(records_of(rows), tmp_path)):
        assert "no match for the best" not in text
