"""Gains of one method in several rows of a detector, held against each other."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from harness.records.counts import scope_scores
from harness.report.cells import contrast_table
from harness.report.leaderboard import Section, leaderboard
from harness.report.site.page import to_page
from harness.report.table_csv import to_csv
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard

FOUND = {("short", "baseline"): 0.7, ("short", "samiro"): 0.6, ("long", "baseline"): 0.75, ("long", "samiro"): 0.8}


def made_rows(
    made: Any,
    folder: Path,
    found: dict[tuple[str, str], float],
    *,
    seeds: int = 4,
    adapter: str | None = "resa",
    paper: str = "one",
) -> dict[tuple[str, str], list[Any]]:
    """Records of rows of one paper and one adapter, each row's own without one, and the counts that they were made of."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for place, ((detector, method), share) in enumerate(found.items()):
        for seed in range(seeds):
            counts = made.noisy(made.split(240, 60), 100 * place + seed, share)
            meta = {"name": adapter or detector, "paper": paper}
            changes = {"detector_meta": meta, "recipe": {"row": detector}}
            record = made.record(folder, counts, detector=detector, method=method, seed=seed, identity_changes=changes)
            rows.setdefault((detector, method), []).append((record, counts))
    return rows


def section_of(rows: dict[tuple[str, str], list[Any]], folder: Path) -> Section:
    board = leaderboard([record for same in rows.values() for record, _ in same], folder)
    (section,) = board.sections
    return section


def f1(counts: Any) -> float:
    score = scope_scores(counts).f1_50
    assert score is not None
    return 100 * float(score)


def test_the_difference_of_two_gains_has_the_mean_and_the_seed_interval_of_a_paired_t(
    made: Any, tmp_path: Path
) -> None:
    rows = made_rows(made, tmp_path, FOUND)
    scores = {name: np.array([f1(counts) for _, counts in same]) for name, same in rows.items()}
    gains = {name: scores[name, "samiro"] - scores[name, "baseline"] for name in ("short", "long")}
    # The reference is the one whose name comes first.
    expected = gains["short"] - gains["long"]
    board = leaderboard([record for same in rows.values() for record, _ in same], tmp_path)
    (line,) = (line for line in csv.DictReader(io.StringIO(to_csv(board))) if line["kind"] == "gain_difference")
    assert (line["detector"], line["against"], line["method"], line["seeds"]) == ("short", "long", "samiro", "0;1;2;3")
    low, high = stats.ttest_1samp(expected, 0.0).confidence_interval()
    told = [float(line[name]) for name in ("f1_50", "f1_50_sd", "seed_low", "seed_high")]
    assert told == pytest.approx([expected.mean(), expected.std(ddof=1), low, high], abs=1e-4)
    assert float(line["f1_50_low"]) < low < high < float(line["f1_50_high"]), "clips add to it"
    assert len(line["records"].split(";")) == 16
    assert line["verdict"] == line["p"] == ""


def test_clips_that_move_both_gains_alike_add_nothing(made: Any, tmp_path: Path) -> None:
    """Which clips are in the test moves a gain; where another row gains on the very same frames, it moves their difference not."""
    one = made_rows(made, tmp_path / "one", {("a", "baseline"): 0.7, ("a", "samiro"): 0.6})
    both = dict(one)
    for (_, method), same in one.items():
        copies = []
        for seed, (_, counts) in enumerate(same):
            changes = {"detector_meta": {"name": "resa", "paper": "one"}, "recipe": {"row": "b"}}
            record = made.record(
                tmp_path / "one", counts, detector="b", method=method, seed=seed, identity_changes=changes
            )
            copies.append((record, counts))
        both["b", method] = copies
    (contrast,) = section_of(both, tmp_path / "one").contrasts
    (headline, *_) = contrast.differences
    assert headline is not None
    assert headline.half_widths is not None
    assert (headline.comparison.mean, headline.half_widths.total) == (0.0, 0.0)
    gain = contrast.gain.headline
    assert gain is not None
    assert gain.half_widths is not None
    assert gain.half_widths.clip > 0.01


def test_every_pair_of_rows_of_a_papers_detector_is_there_and_the_adapters_own_name_is_what_others_are_held_against(
    made: Any, tmp_path: Path
) -> None:
    found = {(name, method): 0.7 for name in ("a", "resa", "z") for method in ("baseline", "samiro")}
    rows = made_rows(made, tmp_path, found, seeds=2)
    other: dict[tuple[str, str], float] = {("other", "baseline"): 0.7, ("other", "samiro"): 0.7}
    rows |= made_rows(made, tmp_path, other, seeds=2, paper="another")
    table = contrast_table(section_of(rows, tmp_path))
    assert [row[:3] for row in table.rows] == [
        ("samiro", "a", "resa"),
        ("samiro", "z", "resa"),
        ("samiro", "z", "a"),
    ]


def test_backbones_of_one_paper_are_held_against_each_other_from_the_smallest_number_up(
    made: Any, tmp_path: Path
) -> None:
    names = ("resa_resnet101", "resa_resnet18", "resa_resnet34")
    found = {(name, method): 0.7 for name in names for method in ("baseline", "samiro")}
    table = contrast_table(section_of(made_rows(made, tmp_path, found, seeds=2, adapter=None), tmp_path))
    assert [row[1:3] for row in table.rows] == [
        ("resa_resnet34", "resa_resnet18"),
        ("resa_resnet101", "resa_resnet18"),
        ("resa_resnet101", "resa_resnet34"),
    ]


def test_only_seeds_of_both_gains_count_and_without_one_nothing_is_shown(made: Any, tmp_path: Path) -> None:
    rows = made_rows(made, tmp_path, FOUND)
    del rows["long", "samiro"][0], rows["short", "baseline"][3]
    (contrast,) = section_of(rows, tmp_path).contrasts
    assert contrast.seeds == (1, 2)
    scores = {(name, record.identity.seed): f1(counts) for name, same in rows.items() for record, counts in same}
    gains = [
        [scores[(name, "samiro"), seed] - scores[(name, "baseline"), seed] for seed in (1, 2)]
        for name in ("short", "long")
    ]
    (headline, *_) = contrast.differences
    assert headline is not None
    assert 100 * headline.comparison.differences == pytest.approx(np.subtract(*gains))
    del rows["long", "samiro"][:2], rows["short", "baseline"][2:]
    (contrast,) = section_of(rows, tmp_path).contrasts
    assert (contrast.seeds, set(contrast.differences), contrast.seed_sd) == ((), {None}, None)


def test_all_forms_of_the_leaderboard_have_the_table_and_only_where_there_are_such_rows(
    made: Any, tmp_path: Path
) -> None:
    rows = made_rows(made, tmp_path, FOUND)
    board = leaderboard([record for same in rows.values() for record, _ in same], tmp_path)
    figure = contrast_table(board.sections[0]).rows[0][3].split(" ±")[0]
    printed = Console(file=io.StringIO())
    print_leaderboard(board, printed)
    assert isinstance(printed.file, io.StringIO)
    for text in (to_markdown(board), to_page(board), to_latex(board), printed.file.getvalue()):
        assert "ains held against each other" in text
        assert figure in text.replace("$-$", "-")
    plain = leaderboard(made.pairs(tmp_path / "plain", 3), tmp_path / "plain")
    for text in (to_markdown(plain), to_page(plain), to_latex(plain)):
        assert "held against each other" not in text
