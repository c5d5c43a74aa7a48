"""What is left of scores under corruptions, from hand-made records."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.files.stored import sha256_of_file
from harness.records.counts import scope_scores, write_counts
from harness.records.record import Record, write_record
from harness.report.beyond_cells import robustness_notes, robustness_table
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.robustness import Conditions, Robustness, all_conditions
from harness.report.rows import Difference, Gain, Row
from harness.report.scored import SectionKey
from harness.report.site.page import to_page
from harness.report.table_csv import to_csv
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard
from harness.report.transfer import transfer_of
from tests.harness.report.boards import CORRUPTIONS, scored


def corrupted_records(made: Any, folder: Path, seeds: int = 3, **found: float) -> list[Record]:
    """A baseline and a method over some seeds; `found`: what share of the lanes is found under what befell the images."""
    base = made.split(images=120, clips=24, scenarios=("normal", "night"))
    records = []
    for seed in range(seeds):
        for arm, method in enumerate(("baseline", "samiro")):
            record = made.record(folder, base, method=method, seed=seed)
            counts = {
                name.replace("_", "-"): made.noisy(base, 1000 * arm + 10 * seed + place, found=share + 0.05 * arm)
                for place, (name, share) in enumerate(found.items())
            }
            records.append(scored(folder, record, counts))
    return records


def only_table(board: Leaderboard) -> Robustness:
    (table,) = board.robustness
    return table


FOUND = {"clean": 0.9, "fog_1": 0.8, "fog_5": 0.5, "rain_3": 0.7}


def test_columns_are_means_over_severities_and_over_corruptions(made: Any, tmp_path: Path) -> None:
    records = corrupted_records(made, tmp_path, **FOUND)
    table = only_table(leaderboard(records, tmp_path))
    assert [column.title for column in table.columns] == ["F1@50, corrupted", "% of clean", "clean", "fog", "rain"]
    baseline, method, gain = table.items
    assert isinstance(baseline, Row)
    assert isinstance(gain, Gain)
    of_baseline = [
        {evaluation.name: evaluation.total.f1_50 for evaluation in record.evaluations}
        for record in records
        if record.identity.method == "baseline"
    ]
    fog = [(found["fog-1"] + found["fog-5"]) / 2 for found in of_baseline]
    corrupted = [(one + found["rain-3"]) / 2 for one, found in zip(fog, of_baseline, strict=True)]
    expected = [
        np.mean(corrupted),
        np.mean([one / found["clean"] for one, found in zip(corrupted, of_baseline, strict=True)]),
        np.mean([found["clean"] for found in of_baseline]),
        np.mean(fog),
        np.mean([found["rain-3"] for found in of_baseline]),
    ]
    assert [score.mean for score in baseline.scores if score is not None] == pytest.approx(expected)
    assert baseline.headline is not None
    assert baseline.headline.sd == pytest.approx(np.std(corrupted, ddof=1))
    differences = [part.comparison.mean for part in gain.differences if part is not None]
    assert isinstance(method, Row)
    scores = zip(method.scores, baseline.scores, strict=True)
    assert differences == pytest.approx([one.mean - other.mean for one, other in scores if one and other])


def test_corruptions_that_change_nothing_leave_all_and_have_the_clean_interval(made: Any, tmp_path: Path) -> None:
    records = []
    for record in corrupted_records(made, tmp_path, clean=0.8, fog_1=0.8):
        counts = made.noisy(
            made.split(images=120, clips=24, scenarios=("normal", "night")),
            sum(record.id.encode()), found=0.8,
        )  # fmt: skip
        records.append(scored(tmp_path, record, dict.fromkeys(("clean", *CORRUPTIONS), counts)))
    board = leaderboard(records, tmp_path)
    table = only_table(board)
    (clean,) = (section for section in board.sections if not section.key.corruption)
    (expected,) = clean.gains
    row, _, gain = table.items
    assert row.scores[1].mean == pytest.approx(1.0)  # type: ignore[union-attr]
    whole, share, *others = gain.differences  # type: ignore[union-attr]
    for part in (whole, *others):
        assert isinstance(part, Difference)
        assert part.half_widths is not None
        assert expected.headline is not None
        assert expected.headline.half_widths is not None
        assert part.comparison.mean == pytest.approx(expected.headline.comparison.mean)
        assert part.half_widths.total == pytest.approx(expected.headline.half_widths.total)
    assert share.comparison.mean == pytest.approx(0.0)
    assert share.half_widths.total == pytest.approx(0.0)


def test_what_is_scored_alike_is_one_table_and_of_equal_conditions_the_first_name_counts() -> None:
    place = SectionKey("mini", "mini", "test", "", "", "culane/official", "last", "published", "d" * 64)
    clean, again = (replace(place, evaluation=name) for name in ("clean", "clean-again"))
    fog, other = (replace(place, evaluation=name, corruption="fog-3") for name in ("fog-3", "more-fog-3"))
    assert all_conditions([again, other, fog, clean]) == [Conditions(place, clean, {"fog": {3: fog}})]
    for change in (
        {"selection": "val-best"}, {"confidence": "val-best"}, {"metric": "culane/clrnet"}, {"split": "val"},
        {"trained_on": "roads"}, {"dataset": "roads"}, {"dataset_sha256": "e" * 64},
    ):  # fmt: skip
        elsewhere = replace(fog, **change)
        found = all_conditions([clean, fog, elsewhere])
        assert sorted([one.clean for one in found], key=str) == sorted([clean, None], key=str), change
        assert [one.place for one in found] == sorted({one.place for one in found})
        assert len(found) == 2


def test_without_a_label_no_score_under_corruptions_is_defined(made: Any, tmp_path: Path) -> None:
    base = made.split(images=60, clips=20, scenarios=("cross",))
    record = made.record(tmp_path, base)
    table = only_table(
        leaderboard([scored(tmp_path, record, {"clean": base, "fog-1": base, "rain-3": base})], tmp_path)
    )
    (row,) = table.items
    assert isinstance(row, Row)
    assert row.scores == (None,) * 5


def test_robustness_is_never_judged(made: Any, tmp_path: Path) -> None:
    board = leaderboard(corrupted_records(made, tmp_path, **FOUND), tmp_path)
    gain = only_table(board).items[-1]
    assert isinstance(gain, Gain)
    assert (gain.p, gain.verdict) == (None, "no verdict: corrupted images")
    assert {gain.verdict for section in board.sections if section.key.corruption for gain in section.gains} == {
        "no verdict: corrupted images"
    }


@pytest.mark.parametrize("lost", ["clean", "rain-3"])
def test_a_record_that_lacks_a_condition_is_no_part_of_a_mean_over_them(made: Any, tmp_path: Path, lost: str) -> None:
    records = corrupted_records(made, tmp_path, **FOUND)
    kept = tuple(one for one in records[-1].evaluations if one.name != lost)
    lacking = records[-1].model_copy(update={"evaluations": kept})
    write_record(tmp_path, lacking)
    table = only_table(leaderboard([*records[:-1], lacking], tmp_path))
    baseline, method, gain = table.items
    assert (baseline.seeds, method.seeds, gain.seeds) == ((0, 1, 2), (0, 1), (0, 1))
    assert isinstance(gain, Gain)
    assert gain.not_used == ("seed 2: no record of samiro",)
    only = leaderboard([records[0], lacking], tmp_path)
    assert [arm.method for arm in only_table(only).left_out] == ["samiro"]
    assert "samiro: lacks some of these conditions" in to_markdown(only)


def test_where_every_record_lacks_a_condition_all_outputs_say_of_what(made: Any, tmp_path: Path) -> None:
    one, other = corrupted_records(made, tmp_path, seeds=1, **FOUND)
    records = [
        record.model_copy(update={"evaluations": tuple(part for part in record.evaluations if part.name != lost)})
        for record, lost in ((one, "clean"), (other, "rain-3"))
    ]
    for record in records:
        write_record(tmp_path, record)
    board = leaderboard(records, tmp_path)
    assert (only_table(board).groups, len(only_table(board).left_out)) == ((), 2)
    print_leaderboard(board, Console(file=io.StringIO()))
    for text in (to_markdown(board), to_latex(board), to_page(board)):
        for method in ("baseline", "samiro"):
            assert f"{method}: lacks some of these conditions" in text


def test_arms_of_other_datasets_lack_nothing(made: Any, tmp_path: Path) -> None:
    records = corrupted_records(made, tmp_path, seeds=1, **FOUND)
    other = made.record(tmp_path, made.split(), name="roads", detector="resa", identity_changes={"dataset": "roads"})
    assert only_table(leaderboard([*records, other], tmp_path)).left_out == ()


def test_without_clean_images_there_is_no_share(made: Any, tmp_path: Path) -> None:
    board = leaderboard(corrupted_records(made, tmp_path, fog_1=0.8, fog_5=0.6), tmp_path)
    assert [column.title for column in only_table(board).columns] == ["F1@50, corrupted", "fog"]


def test_pages_sum_up_corrupted_sections_and_the_csv_has_each(made: Any, tmp_path: Path) -> None:
    board = leaderboard(corrupted_records(made, tmp_path, **FOUND), tmp_path)
    page = to_markdown(board)
    assert [line for line in page.splitlines() if line.startswith("## ")][:2] == [
        "## mini, test: culane/official",
        "## Robustness",
    ]
    assert "- fog: severities 1, 5." in page
    assert "fog-5" not in page
    assert "<li>fog: severities 1, 5.</li>" in to_page(board)
    assert r"Robustness. mini, test: culane/official." in to_latex(board)
    corruptions = {line.split(",")[5] for line in to_csv(board).splitlines()[1:]}
    assert corruptions == {"", *CORRUPTIONS}


def test_a_board_of_clean_images_has_neither_table(made: Any, tmp_path: Path) -> None:
    board = leaderboard(made.pairs(tmp_path, 2), tmp_path)
    assert board.robustness == ()
    assert transfer_of(board.sections) is None
    assert not {"Robustness", "Transfer"} & set(to_markdown(board).split())


def test_tusimple_is_summed_up_in_accuracy(made: Any, tmp_path: Path) -> None:
    base = made.rated(images=60, clips=20)
    record = made.record(tmp_path, base)
    counts = {name: made.shaken(base, place, found=0.9 - 0.1 * place) for place, name in enumerate(("clean", "fog-1"))}
    table = only_table(leaderboard([scored(tmp_path, record, counts)], tmp_path))
    (row,) = table.items
    assert table.columns[0].title == "accuracy, corrupted"
    assert isinstance(row, Row)
    assert row.headline is not None
    assert row.headline.mean == pytest.approx(counts["fog-1"].accuracy.mean())


def f1_of(records: list[Record], method: str, name: str) -> Any:
    """F1 of the seeds of a method under what befell the images."""
    found = [
        one.total
        for record in records
        if record.identity.method == method
        for one in record.evaluations
        if one.name == name
    ]
    return np.array([total.f1_50 for total in found])


def test_the_table_of_robustness_has_points_and_their_deviation_over_seeds(made: Any, tmp_path: Path) -> None:
    records = corrupted_records(made, tmp_path, **FOUND)
    table = robustness_table(only_table(leaderboard(records, tmp_path)))
    corrupted = {
        method: (
            (f1_of(records, method, "fog-1") + f1_of(records, method, "fog-5")) / 2 + f1_of(records, method, "rain-3")
        )
        / 2
        for method in ("baseline", "samiro")
    }
    baseline, method, gain = table.rows
    gained = corrupted["samiro"] - corrupted["baseline"]
    for row, values in ((baseline, corrupted["baseline"]), (method, corrupted["samiro"])):
        assert (row[2], row[-2], row[-1]) == (
            f"{100 * values.mean():.2f}", "3", f"{100 * values.std(ddof=1):.2f}"
        )  # fmt: skip
    assert gain[1] == "Δ samiro - baseline"
    assert gain[2].startswith(f"{100 * gained.mean():+.2f} ± ")
    assert gain[-2:] == ("3", f"{100 * gained.std(ddof=1):.2f}")


def test_severities_training_sets_and_what_is_not_ranked_or_paired_are_told(made: Any, tmp_path: Path) -> None:
    records = corrupted_records(made, tmp_path, **FOUND)
    table = only_table(leaderboard(records, tmp_path))
    assert robustness_table(table).title == "mini, test: culane/official"
    elsewhere = replace(table.conditions, place=replace(table.conditions.place, trained_on="roads"))
    assert (
        robustness_table(replace(table, conditions=elsewhere)).title == "mini, test: culane/official, trained on roads"
    )
    assert robustness_notes(table) == ["fog: severities 1, 5.", "rain: severities 3."]
    section = table.conditions.place
    turned = replace(table.conditions, corrupted={"fog": {5: section, 1: section}, "rain": {1: section, 5: section}})
    assert robustness_notes(replace(table, conditions=turned)) == ["Severities of each corruption: 1, 5."]
    flagged = records[-1].model_copy(update={"flags": ("stale accepted",)})
    write_record(tmp_path, flagged)
    board = leaderboard([*records[:-1], flagged][2:], tmp_path)
    assert "† ufld, samiro: not ranked: stale accepted." in robustness_notes(only_table(board))
    lacking = leaderboard(records[:-1], tmp_path)
    assert "Δ ufld, samiro: pairs not used: seed 2: no record of samiro." in robustness_notes(only_table(lacking))
    other = records[-1].model_copy(update={"environment": made.environment(device="NVIDIA H200")})
    write_record(tmp_path, other)
    notes = robustness_notes(only_table(leaderboard([*records[:-1], other], tmp_path)))
    unlike = "Δ ufld, samiro: 1 of 3 pairs trained on unlike machines: device (NVIDIA H200, baseline cpu)."
    assert any(note.startswith(unlike) for note in notes)


def test_other_images_under_a_corruption_are_no_part_of_it(made: Any, tmp_path: Path) -> None:
    """Clips are shared by all conditions, or no interval of a mean is right."""
    (record, *_) = corrupted_records(made, tmp_path, seeds=1, **FOUND)
    other = made.split(images=120, clips=20, scenarios=("normal", "night"))
    clean, *rest = record.evaluations
    path = tmp_path / rest[0].counts_file
    write_counts(path, other)
    changed = rest[0].model_copy(
        update={"total": scope_scores(other), "counts_sha256": sha256_of_file(path), "scenarios": {}}
    )
    odd = record.model_copy(update={"evaluations": (clean, changed, *rest[1:])})
    write_record(tmp_path, odd)
    table = only_table(leaderboard([odd], tmp_path))
    assert (table.groups, [arm.method for arm in table.left_out]) == ((), [record.identity.method])
