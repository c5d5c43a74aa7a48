"""Methods on one detector, held against each other: SAMIRO and all others, or each two where there is no SAMIRO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from harness.report.cells import method_table
from harness.report.leaderboard import leaderboard
from harness.report.section_text import method_difference_notes
from tests.harness.report.boards import csv_lines, only_section
from tests.harness.report.tried import half_width, influences, oracle, records_of, scores_of, texts_of, tried

FOUND = {"baseline": 0.7, "samiro": 0.6, "attention_only": 0.72}
KINDS = {name: name for name in ("attention_only", "miro", "mine", "theirs")}


def pairs(made: Any, folder: Path, found: dict[str, float], **more: Any) -> list[tuple[str, ...]]:
    rows = tried(made, folder, found, kinds=KINDS, seeds=2, **more)
    return [row[:3] for row in method_table(only_section(records_of(rows), folder)).rows]


def test_samiro_is_held_against_every_other_method_a_control_among_them(made: Any, tmp_path: Path) -> None:
    found = {**FOUND, "miro": 0.6, "samiro_random": 0.6}
    assert pairs(made, tmp_path, found, oracles={"samiro_random": oracle("random:resnet_micro")}) == [
        ("ufld", "samiro", other) for other in ("attention_only", "miro", "samiro_random")
    ]


def test_each_variant_of_samiro_is_and_none_against_another(made: Any, tmp_path: Path) -> None:
    assert pairs(made, tmp_path, {**FOUND, "samiro_weak": 0.7}) == [
        ("ufld", "samiro", "attention_only"),
        ("ufld", "samiro_weak", "attention_only"),
    ]


def test_without_samiro_each_two_methods_are(made: Any, tmp_path: Path) -> None:
    found = {"baseline": 0.7, "mine": 0.6, "miro": 0.6, "theirs": 0.6}
    assert pairs(made, tmp_path, found) == [
        ("ufld", "mine", "miro"),
        ("ufld", "mine", "theirs"),
        ("ufld", "miro", "theirs"),
    ]


def test_methods_of_unlike_recipes_are_not(made: Any, tmp_path: Path) -> None:
    records = []
    for place, (method, optimizer) in enumerate({"samiro": "adamw", "attention_only": "sgd"}.items()):
        changes = {"method_configuration": {"kind": method}, "recipe": {"optimizer": optimizer}}
        counts = made.noisy(made.split(60, 15), place)
        records.append(made.record(tmp_path, counts, method=method, identity_changes=changes))
    assert not method_table(only_section(records, tmp_path)).rows


def test_the_difference_has_the_mean_and_the_intervals_of_the_two_rows_seed_by_seed(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, FOUND, kinds=KINDS)
    scores = scores_of(rows)
    (line,) = (
        line for line in csv_lines(leaderboard(records_of(rows), tmp_path)) if line["kind"] == "method_difference"
    )
    assert (line["detector"], line["method"], line["against"]) == ("ufld", "samiro", "attention_only")
    expected = scores["samiro"] - scores["attention_only"]
    low, high = stats.ttest_1samp(expected, 0.0).confidence_interval()
    told = [float(line[name]) for name in ("f1_50", "f1_50_sd", "seed_low", "seed_high")]
    assert told == pytest.approx([expected.mean(), expected.std(ddof=1), low, high], abs=1e-4)
    half = half_width(expected, influences(rows["samiro"]) - influences(rows["attention_only"]))
    bounds = [float(line["f1_50_low"]), float(line["f1_50_high"])]
    assert bounds == pytest.approx([expected.mean() - half, expected.mean() + half], abs=1e-4)
    assert (line["seeds"], line["verdict"], line["p"], line["not_ranked"]) == ("0;1;2;3", "", "", "")
    assert len(line["records"].split(";")) == 8


def test_the_baseline_falls_out_and_need_not_be_there(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, FOUND, kinds=KINDS)
    with_it = method_table(only_section(records_of(rows), tmp_path)).rows
    del rows["baseline"]
    assert method_table(only_section(records_of(rows), tmp_path)).rows == with_it


def test_seeds_that_only_one_of_the_two_has_make_no_pair_and_are_told(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, FOUND, kinds=KINDS)
    assert method_difference_notes(only_section(records_of(rows), tmp_path)) == []
    del rows["attention_only"][0]
    board = leaderboard(records_of(rows), tmp_path)
    ((*_, seeds, _),) = method_table(board.sections[0]).rows
    assert seeds == "3"
    for text in texts_of(board):
        told = "ufld: samiro, attention_only are held against each other over seeds 1, 2, 3 alone: those that all of them have"
        assert told in text.replace("\\_", "_")
    del rows["samiro"][1:]
    section = only_section(records_of(rows), tmp_path)
    ((*_, figure, _, seeds, sd),) = [(row[3], *row[-3:]) for row in method_table(section).rows]
    assert (figure, seeds, sd) == ("", "0", "")
    (note,) = method_difference_notes(section)
    assert note.startswith("ufld: samiro, attention_only are not held against each other: there is no seed")


def test_unlike_machines_are_told(made: Any, tmp_path: Path) -> None:
    rows = tried(made, tmp_path, FOUND, kinds=KINDS)
    records = [
        record.model_copy(update={"environment": record.environment.model_copy(update={"torch": "1.0"})})
        if record.identity.method == "samiro" and record.identity.seed == 2
        else record
        for record in records_of(rows)
    ]
    (note,) = method_difference_notes(only_section(records, tmp_path))
    assert note.startswith(
        "ufld, samiro held against attention_only: 1 of 4 pairs trained on unlike machines: torch (1.0, attention_only "
    )


def test_what_isnt_ranked_has_its_mark(made: Any, tmp_path: Path) -> None:
    flagged = [
        record.model_copy(update={"flags": ("oracle failed its gate",)})
        if record.identity.method == "samiro"
        else record
        for record in records_of(tried(made, tmp_path, FOUND, kinds=KINDS))
    ]
    board = leaderboard(flagged, tmp_path)
    assert [row[:3] for row in method_table(board.sections[0]).rows] == [("ufld", "samiro †", "attention_only")]
    (line,) = (line for line in csv_lines(board) if line["kind"] == "method_difference")
    assert line["not_ranked"] == "oracle failed its gate"


def test_all_forms_of_the_leaderboard_have_the_table_and_only_where_there_are_two_methods(
    made: Any, tmp_path: Path
) -> None:
    board = leaderboard(records_of(tried(made, tmp_path, FOUND, kinds=KINDS)), tmp_path)
    figure = method_table(board.sections[0]).rows[0][3].split(" ±")[0]
    for text in texts_of(board):
        assert "ethods held against each other" in text
        assert figure in text.replace("$-$", "-").replace("$+$", "+")
    one = leaderboard(records_of(tried(made, tmp_path / "one", {"baseline": 0.7, "samiro": 0.6})), tmp_path / "one")
    for text in texts_of(one):
        assert "held against each other" not in text
