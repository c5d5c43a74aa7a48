"""Markdown tables of hand-made records: their figures, columns and notes."""

from __future__ import annotations

import csv
import io
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.records.record import Artefact, Submission, write_record
from harness.report.cells import score_text
from harness.report.columns import Column
from harness.report.leaderboard import leaderboard
from harness.report.published_cells import gap_text
from harness.report.rows import Score
from harness.report.table_csv import to_csv
from harness.report.tables import scores_to_markdown, to_markdown, write_leaderboard
from harness.report.terminal import print_leaderboard
from tests.harness.report.boards import by_hand, csv_lines, tables_of


def test_points_intervals_and_speeds_of_a_hand_made_board(made: Any, tmp_path: Path) -> None:
    board = by_hand(made, tmp_path)
    baseline, method, gain = tables_of(to_markdown(board))[0]
    # F1 = TP / 40 here: 36/40 and 38/40. Night is every second image: 18/20 and 19/20.
    assert (baseline["F1@50"], method["F1@50"], gain["F1@50"][:5]) == ("90.00", "95.00", "+5.00")
    assert (baseline["night"], method["night"], gain["night"]) == ("90.00", "95.00", "+5.00")
    assert (baseline["FPS"], baseline["p50 ms"], baseline["p99 ms"], method["FPS"]) == (
        "100.0",
        "10.00",
        "13.00",
        "125.0",
    )
    assert (baseline["GFLOPs"], baseline["Params (M)"], baseline["Seeds"]) == ("1.50", "0.330", "1")
    assert (baseline["#"], method["#"], gain["#"]) == ("2", "1", "")
    assert gain["Verdict"] == "no verdict: 1 seed"
    # u_c = (-1/40)(-1) on the two images that only the baseline gets wrong, less the mean: .025 - .005 twice, -.005 eight times.
    # V_clip = 10/9 (2 * .02^2 + 8 * .005^2) = 10/9 * .001; t_9 = 2.262157.
    half = 2.262157 * (10 / 9 * 0.001) ** 0.5 * 100
    assert gain["F1@50"] == f"+5.00 ± {half:.2f}"
    told = tables_of(to_markdown(board))[1][0]
    assert told["95 % interval"] == f"{5 - half:+.2f} to {5 + half:+.2f} (clip interval alone)"
    assert (told["Seed interval"], told["p"], told["Detectable"]) == ("", "", "")


def test_every_interval_and_p_of_a_gain_stands_under_its_own_name(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    records = [
        record
        for name in ("ufld", "clrnet")
        for record in made.pairs(tmp_path, 3, detector=name, base=base, better=0.02)
    ]
    board = leaderboard(records, tmp_path)
    lines = tables_of(to_markdown(board))[1]
    assert any(line["p"] != line["p (Holm)"] for line in lines)
    for line, gain in zip(lines, board.sections[0].gains, strict=True):
        difference = gain.headline
        assert difference is not None
        half, mean = difference.half_widths, difference.comparison.mean
        assert half is not None
        widths = {
            "95 % interval": half.total, "Seed interval": half.seed, "Clip interval": half.clip, "Pooled seeds": gain.pooled_half_width,
        }  # fmt: skip
        assert len({line[title] for title in widths}) == len(widths)
        for title, width in widths.items():
            assert width is not None
            assert line[title] == f"{100 * (mean - width):+.2f} to {100 * (mean + width):+.2f}", title
        assert (line["p"], line["p (Holm)"]) == (f"{gain.p:.3f}", f"{gain.adjusted_p:.3f}")


def test_the_same_records_in_any_order_give_the_same_bytes(made: Any, tmp_path: Path) -> None:
    records = [*made.pairs(tmp_path, 3), *made.pairs(tmp_path, 3, detector="clrnet")]
    first = leaderboard(records, tmp_path)
    random.Random(4).shuffle(records)
    again = leaderboard(records, tmp_path)
    assert to_markdown(again) == to_markdown(first)
    assert to_csv(again) == to_csv(first)


def test_write_leaderboard_writes_both_files(made: Any, tmp_path: Path) -> None:
    board = by_hand(made, tmp_path / "records")
    paths = write_leaderboard(tmp_path / "out", board)
    assert [path.name for path in paths] == ["leaderboard.md", "leaderboard.csv", "leaderboard.tex"]
    assert paths[0].read_text(encoding="utf-8") == to_markdown(board)
    assert paths[1].read_text(encoding="utf-8") == to_csv(board)


def test_markdown_says_what_the_table_is_of(made: Any, tmp_path: Path) -> None:
    text = to_markdown(leaderboard(made.pairs(tmp_path, 3), tmp_path))
    for fact in (
        "36 rendered images in 12 clips",
        "culane/official",
        "dddddddddddd",
        "lane-latency/1-short",
        "the last step's",
    ):
        assert fact in text


def test_images_of_a_rendered_dataset_that_is_only_tested_on_are_said_to_be_so(made: Any, tmp_path: Path) -> None:
    record = made.record(
        tmp_path,
        made.split(),
        identity_changes={"dataset_key": {"form": "culane"}},
        evaluation_changes={"dataset": "posts", "dataset_sha256": "9" * 64},
        artefacts=(Artefact(kind="rendered", name="posts", key="9" * 64, sha256="8" * 64),),
    )
    assert "36 rendered images in 12 clips of posts" in to_markdown(leaderboard([record], tmp_path))


def test_images_of_a_rendered_dataset_are_said_to_be_so_without_an_artefact(made: Any, tmp_path: Path) -> None:
    """Whoever takes it out of a record makes them no photographs."""
    content = "d" * 64
    changes = {"identity_changes": {"dataset_key": {"rendered": content}}, "artefacts": ()}
    record = made.record(tmp_path, made.split(), evaluation_changes={"dataset_sha256": content}, **changes)
    assert "36 rendered images in 12 clips" in to_markdown(leaderboard([record], tmp_path))


def test_images_of_a_real_dataset_are_not_said_to_be_rendered(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 3, identity_changes={"dataset_key": {"form": "culane"}})
    text = to_markdown(leaderboard(records, tmp_path))
    assert "36 images in 12 clips" in text
    assert "rendered" not in text


def test_unranked_rows_and_unused_pairs_are_explained_under_the_table(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 3, flags=("oracle failed its gate",))
    odd = made.record(tmp_path, made.split(), seed=3, method="samiro", flags=("oracle failed its gate",))
    text = to_markdown(leaderboard([*records, odd], tmp_path))
    assert "- † ufld, baseline: not ranked: oracle failed its gate." in text
    assert "- Δ ufld, samiro: pairs not used: seed 3: no record of baseline." in text
    assert [row["Method"] for row in tables_of(text)[0]] == ["baseline †", "samiro †", "Δ samiro - baseline"]
    assert [row["#"] for row in tables_of(text)[0]] == ["", "", ""]
    assert [row["Seeds"] for row in tables_of(text)[0]] == ["3", "4", "3"]
    assert tables_of(text)[1][0]["Pairs"] == "3"


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({"device": "NVIDIA H200"}, {"device": "NVIDIA H100"}, "device (NVIDIA H200, baseline NVIDIA H100)"),
        ({"torch": "2.11.0"}, {}, "torch (2.11.0, baseline 2.13.0)"),
        ({"cpu": "Other CPU"}, {}, "cpu (Other CPU, baseline Example CPU)"),
        ({"device": "NVIDIA H200", "cpu": "Other CPU"}, {"device": "NVIDIA H200"}, None),
        ({"python": "3.12.1", "cores": 64, "commit": "a" * 40}, {}, None),
    ],
    ids=str,
)
def test_pairs_that_unlike_machines_trained_count_and_are_told_with_what_differs(
    made: Any, tmp_path: Path, ours: dict[str, str], theirs: dict[str, str], told: str | None
) -> None:
    records = made.pairs(tmp_path, 3)
    for place, record in enumerate(records[:4]):
        changes = theirs if record.identity.method == "baseline" else ours
        records[place] = record.model_copy(update={"environment": made.environment(**changes)})
        write_record(tmp_path, records[place])
    board = leaderboard(records, tmp_path)
    text = to_markdown(board).replace("\\", "")
    note = f"- Δ ufld, samiro: 2 of 3 pairs trained on unlike machines: {told}. What these do to a score"
    assert (note in text) is (told is not None)
    assert ("unlike machines" in text) is (told is not None)
    (gain,) = board.sections[0].gains
    assert gain.seeds == (0, 1, 2)


def test_a_method_without_a_baseline_is_named(made: Any, tmp_path: Path) -> None:
    text = to_markdown(leaderboard([made.record(tmp_path, made.split(), method="samiro")], tmp_path))
    assert "ufld, samiro: no baseline of the same detector, recipe and data, so no gain." in text


def test_a_method_whose_baseline_was_trained_otherwise_is_named_with_the_keys_that_differ(
    made: Any, tmp_path: Path
) -> None:
    recipes = {"baseline": {"steps": 60, "optimizer": "sgd"}, "samiro": {"steps": 600, "optimizer": "sgd"}}
    records = [
        made.record(tmp_path, made.split(), method=method, identity_changes={"recipe": recipe})
        for method, recipe in recipes.items()
    ]
    text = to_markdown(leaderboard(records, tmp_path))
    assert (
        "ufld, samiro: no baseline of the same detector, recipe and data, so no gain: recipe.steps (600, baseline 60)."
        in text.replace("\\", "")
    )


def named_by_its_suite(made: Any, folder: Path, detector: str, seed: int, **recipe: Any) -> Any:
    changes = {"detector_meta": {"name": "resa", "paper": "RESA"}, "recipe": {"optimizer": "sgd"} | recipe}
    return made.record(folder, made.split(), detector=detector, seed=seed, identity_changes=changes)


def test_detectors_under_names_of_their_suites_own_are_told_by_what_they_differ_in(made: Any, tmp_path: Path) -> None:
    records = [named_by_its_suite(made, tmp_path, "short", seed, steps=330) for seed in range(2)]
    alone = to_markdown(leaderboard(records, tmp_path))
    assert re.findall(r"^- \w+ is .*$", alone, re.MULTILINE) == ["- short is resa."]
    records.append(named_by_its_suite(made, tmp_path, "long", 0, steps=1320))
    both = to_markdown(leaderboard([*records, made.record(tmp_path, made.split())], tmp_path))
    assert re.findall(r"^- \w+ is .*$", both, re.MULTILINE) == [
        "- long is resa with steps=1320.",
        "- short is resa with steps=330.",
    ]
    records.append(named_by_its_suite(made, tmp_path, "resa", 0))
    three = to_markdown(leaderboard(records, tmp_path))
    assert "- resa with steps=none." in three


def own_names_in(records: list[Any], folder: Path) -> list[str]:
    return re.findall(r"^- \w+ is .*$", to_markdown(leaderboard(records, folder)), re.MULTILINE)


def test_a_detector_that_was_configured_twice_is_told_by_its_rows(made: Any, tmp_path: Path) -> None:
    records = []
    for detector, steps in (("long", 500), ("long", 700), ("short", 90)):
        changes = {"detector_meta": {"name": "resa", "paper": "RESA"}, "recipe": {"optimizer": "sgd", "steps": steps}}
        name = f"{detector}-{steps}"
        records.append(made.record(tmp_path, made.split(), detector=detector, name=name, identity_changes=changes))
    assert own_names_in(records, tmp_path) == ["- long is resa.", "- short is resa."]


@pytest.mark.parametrize("name", [["resa"], {"resa": 1}, 3, None, ""])
def test_a_strangers_record_whose_detector_has_no_name_makes_a_table(made: Any, tmp_path: Path, name: object) -> None:
    changes = {"detector_meta": {"name": name, "paper": "RESA"}}
    record = made.record(tmp_path, made.split(), detector="seer", identity_changes=changes)
    assert own_names_in([record], tmp_path) == []


def test_times_of_two_machines_never_share_a_table(made: Any, tmp_path: Path) -> None:
    records = [
        made.record(tmp_path, made.split()),
        made.record(tmp_path, made.split(), method="samiro", environment=made.environment(cpu="Other CPU")),
    ]
    text = to_markdown(leaderboard(records, tmp_path))
    tables = tables_of(text)
    assert {row["FPS"] for row in tables[0]} == {""}
    assert "no protocol and machine common to all rows" in text
    assert [len(table) for table in tables if "Relative" in table[0]] == [1, 1]
    assert [len(table) for table in tables if "s/step" in table[0]] == [1, 1]
    assert text.count("Other CPU, 2 cores") == 2


def test_short_and_full_protocols_never_share_a_table(made: Any, tmp_path: Path) -> None:
    both = (made.throughput(10.0), made.throughput(9.0, protocol="lane-latency/1"))
    records = [
        made.record(tmp_path, made.split(), throughput=both),
        made.record(tmp_path, made.split(), method="samiro", throughput=both[:1]),
    ]
    tables = tables_of(to_markdown(leaderboard(records, tmp_path)))
    assert [row["FPS"] for row in tables[0]] == ["100.0", "100.0", ""]
    assert [[row["FPS"] for row in table] for table in tables if "Relative" in table[0]] == [
        ["111.1"],
        ["100.0", "100.0"],
    ]


def test_missing_figures_are_blank(made: Any, tmp_path: Path) -> None:
    unknown = made.throughput(10.0, gflops=None)
    text = to_markdown(leaderboard([made.record(tmp_path, made.split(), throughput=(unknown,))], tmp_path))
    row = tables_of(text)[0][0]
    assert (row["GFLOPs"], row["Seed SD"], row["Verdict"]) == ("", "", "")
    without = to_markdown(leaderboard([made.record(tmp_path, made.split(), name="x", throughput=())], tmp_path))
    assert tables_of(without)[0][0]["FPS"] == ""


def test_a_lower_bound_of_operations_says_so(made: Any, tmp_path: Path) -> None:
    bound = made.throughput(10.0, gflops_is_lower_bound=True)
    text = to_markdown(leaderboard([made.record(tmp_path, made.split(), throughput=(bound,))], tmp_path))
    assert tables_of(text)[0][0]["GFLOPs"] == "≥ 1.50"


HOSTILE = "=cmd|'/c calc'!A0 <script>alert(1)</script>\n# [x](y) `z` *b* _i_ \x1b[31m"


def test_foreign_text_breaks_neither_table_nor_page_nor_spreadsheet(made: Any, tmp_path: Path) -> None:
    records = [
        made.record(tmp_path, made.split(), detector=HOSTILE, name=name, method=method, flags=(HOSTILE,))
        for name, method in (("one", "baseline"), ("two", HOSTILE))
    ]
    board = leaderboard(records, tmp_path)
    text = to_markdown(board)
    assert all(len(table) in (1, 2, 3) for table in tables_of(text))  # every line still has as many cells as its header
    assert "<script>" not in text
    assert "\x1b" not in text
    assert re.search(r"(?<!\\)[*`]z|\[x\]\(y\)", text) is None
    lines = to_csv(board).splitlines()
    assert len(lines) == 4
    for cells in csv.reader(lines[1:]):
        assert not any(cell.startswith(("=", "@", "+")) for cell in cells)
    assert csv_lines(board)[0]["detector"].startswith("'=cmd")


def test_scenarios_that_culane_does_not_know_get_columns_after_its_own(made: Any, tmp_path: Path) -> None:
    counts = made.split(scenarios=("normal", "tunnel", ""))
    board = leaderboard([made.record(tmp_path, counts, evaluation_changes={"scenarios": {}})], tmp_path)
    assert list(tables_of(to_markdown(board))[0][0])[3:8] == ["F1@50", "normal", "tunnel", "F1@75", "mF1"]
    line = csv_lines(board)[0]
    assert float(line["scenario_tunnel"]) == 100
    assert np.isclose(float(line["normal"]), 100)


def missed(perfect: Any, images: int) -> Any:
    """The same counts of TuSimple with one of four lanes missed, and half found by nobody, in the first images."""
    matched, accuracy, fn = perfect.matched.copy(), perfect.accuracy.copy(), perfect.fn.copy()
    matched[:images] -= 1
    accuracy[:images], fn[:images] = 0.75, 0.25
    return replace(perfect, matched=matched, predictions=matched.copy(), accuracy=accuracy, fn=fn)


def test_the_table_of_tusimple_by_hand(made: Any, tmp_path: Path) -> None:
    """Ten images of ten clips with 4 lanes each: the baseline misses one in 4 images, the method in 2; one seed."""
    perfect = made.rated(images=10, clips=10)
    worse, better = missed(perfect, 4), missed(perfect, 2)
    # One prediction too few for what it matched: two labels lay under one.
    predictions, fp = better.predictions.copy(), better.fp.copy()
    predictions[9], fp[9] = 3, -1 / 3
    records = [
        made.record(tmp_path, worse),
        made.record(tmp_path, replace(better, predictions=predictions, fp=fp), method="samiro"),
    ]
    board = leaderboard(records, tmp_path)
    text = to_markdown(board)
    baseline, method, gain = tables_of(text)[0]
    scores = ["accuracy", "F1 (CLRNet)", "F1 (matched)", "FP ↓", "FN ↓", "FP &lt; 0"]
    assert list(baseline)[3 : 3 + len(scores)] == scores
    # Baseline: FP = 0, FN = .1: F1 = 2 / 2.1; 36 of 40 lanes found by 36 predictions: 72 / 76.
    assert [baseline[name] for name in scores] == ["90.00", "95.24", "94.74", "0.00", "10.00", "0"]
    # Method: FP = -1/30, FN = .05: F1 = 2 a / (a + 1.05), a = 31/30; 38 of 40 found by 37 predictions: 76 / 77.
    assert [method[name] for name in scores] == ["95.00", "99.20", "98.70", "-3.33", "5.00", "1"]
    half = 2.262157 * (10 / 9 * 0.001) ** 0.5 * 100
    assert gain["accuracy"] == f"+5.00 ± {half:.2f}"
    assert gain["FP &lt; 0"].startswith("+1 ± ")
    assert (baseline["#"], method["#"], gain["Verdict"]) == ("2", "1", "no verdict: 1 seed")
    told = tables_of(text)[1][0]
    assert told["Δ accuracy"] == "+5.00"
    assert told["95 % interval"] == f"{5 - half:+.2f} to {5 + half:+.2f} (clip interval alone)"
    for fact in ("### Paired gains in accuracy", "`#` ranks by accuracy", "lower is better", "tusimple/official"):
        assert fact in " ".join(text.split())
    assert "cross FP" not in text
    assert "F1@50" not in text
    lines = csv_lines(board)
    assert [line["accuracy"] for line in lines] == ["90.0000", "95.0000", "5.0000"]
    assert [line["f1_clrnet"] for line in lines] == ["95.2381", "99.2000", "3.9619"]
    assert [line["images_with_negative_fp"] for line in lines] == ["0.0000", "1.0000", "1.0000"]
    assert {line["f1_50"] for line in lines} == {""}
    assert lines[2]["detectable"] == ""
    assert float(lines[2]["accuracy_high"]) == pytest.approx(5 + half, abs=1e-4)


def test_the_table_of_llamas_has_the_whole_splits_columns(made: Any, tmp_path: Path) -> None:
    perfect = made.split(images=10, clips=10, scenarios=("unnamed",))
    true_positives = perfect.true_positives.copy()
    true_positives[:4, 5:] -= 1
    changes = {"metric": "llamas/official", "dataset": "llamas", "split": "val", "scenarios": {}}
    record = made.record(tmp_path, replace(perfect, true_positives=true_positives), evaluation_changes=changes)
    (row,) = tables_of(to_markdown(leaderboard([record], tmp_path)))[0]
    assert list(row)[:7] == ["#", "Detector", "Method", "F1@50", "F1@75", "mF1", "FPS"]
    assert (row["F1@50"], row["F1@75"], row["mF1"]) == ("100.00", "90.00", "95.00")


def test_several_datasets_stand_in_one_leaderboard_each_in_its_own_table(made: Any, tmp_path: Path) -> None:
    named = {
        "identity_changes": {"dataset": "tusimple", "form": "tusimple"},
        "evaluation_changes": {"dataset": "tusimple"},
    }
    records = [
        *made.pairs(tmp_path / "records", 3),
        *[
            record.model_copy(update={"id": f"t-{record.id}"})
            for record in made.pairs(tmp_path / "other", 3, base=made.rated(), **named)
        ],
    ]
    for path in (tmp_path / "other").glob("*.npz"):
        path.rename(tmp_path / "records" / f"t-{path.name}")
    renamed = [
        record
        if not record.id.startswith("t-")
        else record.model_copy(
            update={
                "evaluations": tuple(
                    evaluation.model_copy(update={"counts_file": f"t-{evaluation.counts_file}"})
                    for evaluation in record.evaluations
                )
            }
        )
        for record in records
    ]
    board = leaderboard(renamed, tmp_path / "records")
    assert [section.headline.title for section in board.sections] == ["F1@50", "accuracy"]
    text = to_markdown(board)
    assert "ranks by F1@50 (TuSimple: accuracy)" in " ".join(text.split())
    assert [bool(line["f1_50"]) for line in csv_lines(board)] == [True] * 3 + [False] * 3
    assert [bool(line["accuracy"]) for line in csv_lines(board)] == [False] * 3 + [True] * 3
    stream = io.StringIO()
    print_leaderboard(board, Console(file=stream, width=200))
    assert "F1 (CLRNet)" in stream.getvalue()


def test_scenarios_of_rendered_tusimple_hold_accuracy(made: Any, tmp_path: Path) -> None:
    counts = made.rated(images=12, scenarios=("normal", "cross", "tunnel"))
    predictions = counts.predictions.copy()
    predictions[counts.scenario == "cross"] += 2
    board = leaderboard([made.record(tmp_path, replace(counts, predictions=predictions))], tmp_path)
    line = csv_lines(board)[0]
    assert (line["normal"], line["cross_fp"], line["scenario_tunnel"]) == ("100.0000", "8.0000", "100.0000")


def test_predictions_without_scores_are_listed_with_the_reason(made: Any, tmp_path: Path) -> None:
    submission = Submission(
        name="server", dataset="llamas", dataset_sha256="d" * 64, split="test", corruption=None, why="labels private",
        confidence_threshold=0.5, predictions_sha256="e" * 64,
    )  # fmt: skip
    records = [
        made.record(tmp_path, made.split(), seed=seed, evaluations=(), submissions=(submission,)) for seed in (0, 1)
    ]
    text = to_markdown(leaderboard(records, tmp_path))
    (table,) = [table for table in tables_of(text) if "Why" in table[0]]
    assert [list(row.values()) for row in table] == [["llamas", "test", "ufld", "baseline", "0, 1", "labels private"]]
    assert "No records yet" not in text


def test_failed_seeds_are_told_in_the_table_and_on_the_terminal(made: Any, tmp_path: Path) -> None:
    told = "ufld, samiro on mini, seed 2: ValueError: loss is nan | at step 7"
    board = leaderboard(made.pairs(tmp_path, 2), tmp_path, failed=[told])
    text = to_markdown(board)
    assert "## Failed seeds" in text
    assert "- ufld, samiro on mini, seed 2: ValueError: loss is nan \\| at step 7" in text
    stream = io.StringIO()
    print_leaderboard(board, Console(file=stream, width=200))
    assert f"failed: {told}" in stream.getvalue()
    assert "Failed" not in to_markdown(leaderboard(made.pairs(tmp_path, 2), tmp_path))


def test_the_scores_alone_are_those_of_the_whole_with_what_failed_and_is_missing(made: Any, tmp_path: Path) -> None:
    failed, missing = "hard-toy-samiro-s2-0123456789: out of memory", "toy, samiro: seeds 3 and 4"
    board = leaderboard(made.pairs(tmp_path, 2), tmp_path, failed=[failed], missing=[missing])
    scores, whole = scores_to_markdown(board), to_markdown(board)
    assert tables_of(scores) == tables_of(whole)[:1]
    assert all(part in whole.split("\n\n") for part in scores.strip().split("\n\n"))
    assert failed in scores
    assert missing in scores
    assert "## Latency" in whole
    assert "## Latency" not in scores


def test_a_count_that_sums_have_moved_by_their_rounding_is_shown_whole() -> None:
    column = Column("cross_fp", "cross FP ↓", "false_positives", "cross")
    shown = [score_text(column, Score(mean, None)) for mean in (-3.0000000000000004, 57.0, 53 + 1 / 3, 53.04)]
    assert shown == ["-3", "57", "53.3", "53.0"]
    assert [gap_text(column, gap) for gap in (59.0, 866 + 2 / 3 - 1000, 0.0)] == ["+59", "-133.3", "0"]
