"""`samiro-bench seeds` as its users call it, on what is published here."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.main import main
from harness.cli.seeds import app, pilot_board
from harness.errors import InputError
from harness.report.sample_size_table import cells_of, hours_a_pair, notes_of, planned_row, planned_rows, table_of

RESULTS = Path(__file__).resolve().parents[3] / "results"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def planned(*arguments: object) -> list[dict[str, object]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0
    rows: list[dict[str, object]] = json.loads(result.stdout)["planned"]
    return rows


def test_every_published_gain_is_a_pilot_with_the_figures_of_its_table() -> None:
    with (RESULTS / "undecided/leaderboard.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    gains = {row["detector"]: row for row in table if row["kind"] == "gain"}
    rows = planned(RESULTS / "undecided", "--gain", "0.5")
    assert {row["detector"] for row in rows} == set(gains)
    for row in rows:
        published = gains[str(row["detector"])]
        assert row["pilot_pairs"] == 10
        assert row["why"] is None
        assert 100 * float(str(row["difference"])) == pytest.approx(float(published["f1_50"]), abs=6e-5)
        assert 100 * float(str(row["seed_sd"])) == pytest.approx(float(published["f1_50_sd"]), abs=6e-5)
        arms = [arm for arm in table if arm["detector"] == row["detector"] and arm["training_seconds"]]
        assert len(arms) == 2
        seconds = sum(float(arm["training_seconds"]) for arm in arms)
        assert 3600 * float(str(row["hours_a_pair"])) == pytest.approx(seconds, rel=1e-3)


def test_the_gain_that_a_table_calls_detectable_takes_the_pairs_that_the_table_has() -> None:
    with (RESULTS / "undecided/leaderboard.csv").open(encoding="utf-8") as file:
        detectable = {row["detector"]: row["detectable"] for row in csv.DictReader(file) if row["kind"] == "gain"}
    for detector, points in detectable.items():
        # The table rounds: a little more than what it says is seen with its ten pairs.
        rows = planned(RESULTS / "undecided", "--gain", float(points) * 1.001)
        (sizes,) = [row["sizes"] for row in rows if row["detector"] == detector]
        assert isinstance(sizes, list)
        assert sizes[0]["pairs"] == 10 < sizes[0]["cautious"]


def test_rows_of_one_seed_say_why_they_are_no_pilot() -> None:
    result = run(RESULTS / "mini")
    assert result.exit_code == 0
    assert result.stdout.count("Δ samiro - baseline: 1 seed") == 2
    assert "no row of it is a pilot" in result.stdout
    assert "pairs: paired seeds" not in result.stdout
    assert all(row["why"] == "1 seed" and row["sizes"] == [] for row in planned(RESULTS / "mini"))


def test_more_clips_show_what_few_hide() -> None:
    (few,) = [row for row in planned(RESULTS / "rendered-reduced", "--gain", "1") if row["detector"] == "resa_micro"]
    (many,) = [
        row
        for row in planned(RESULTS / "rendered-reduced", "--gain", "1", "--clips", "4")
        if row["detector"] == "resa_micro"
    ]
    assert few["sizes"] == [{"gain": 0.01, "pairs": None, "cautious": None, "hidden_by_clips": True}]
    assert isinstance(many["sizes"], list)
    assert many["sizes"][0]["pairs"] >= 3
    text = run(RESULTS / "rendered-reduced", "--gain", "1").stdout
    assert "clips: the gain is below the least Δ" in text
    assert "360 clips" in text
    assert "on as many clips as the pilot's" in text


def test_the_tables_cells_are_the_figures_in_points_and_blank_where_there_is_none() -> None:
    board = pilot_board(str(RESULTS / "undecided"), RESULTS)
    gains = (0.5, 2.0)
    rows = planned_rows(board, [points / 100 for points in gains], clips=1.0, rows=1)
    table = table_of(rows, gains)
    assert (table.title, table.text_columns) == (rows[0].table, 2)
    assert table.header[2:] == (
        "pilot pairs", "Δ", "SD of pairs", "pairs for 0.5", "cautious for 0.5", "pairs for 2", "cautious for 2", "least Δ", "h a pair",
    )  # fmt: skip
    for row, cells in zip(rows, table.rows, strict=True):
        sizes = [str(number) for size in row.sizes for number in (size.pairs, size.cautious)]
        assert row.difference is not None
        assert cells[2:4] == ("10", f"{100 * row.difference:+.2f}")
        figures = (100 * (row.seed_sd or 0), 100 * (row.least or 0), row.hours_a_pair)
        assert (cells[4], *cells[-2:]) == tuple(f"{figure:.2f}" for figure in figures)
        assert [cell for cell in cells[5:-2] if cell not in ("clips", "> 1000")] == [
            size for size in sizes if size != "None"
        ]
        hidden = replace(
            row, hours_a_pair=None, sizes=(replace(row.sizes[0], pairs=None, cautious=None, hidden_by_clips=True),)
        )
        assert cells_of(hidden, gains[:1])[5:] == ("clips", "clips", cells[-2], "")
        far = replace(hidden, sizes=(replace(hidden.sizes[0], hidden_by_clips=False),))
        assert cells_of(far, gains[:1])[5:7] == ("> 1000", "> 1000")
        none = cells_of(replace(row, why="9 clips"), gains)
        assert len(none) == len(table.header)
        assert (none[1], none[2], set(none[3:])) == (f"{row.method}: 9 clips", "10", {""})


def test_a_pair_has_hours_only_where_one_machine_trained_both_arms() -> None:
    board = pilot_board(str(RESULTS / "undecided"), RESULTS)
    gain = board.shown[0].gains[0]
    (ours,), (theirs,) = board.training[gain.arm], board.training[gain.baseline]
    assert hours_a_pair(board, gain) == pytest.approx((ours.seconds + theirs.seconds) / 3600)
    elsewhere = replace(ours, machine="another")
    for costs in ((elsewhere,), (ours, elsewhere), ()):
        assert hours_a_pair(replace(board, training={**board.training, gain.arm: costs}), gain) is None


def test_notes_say_what_was_asked_for_and_what_there_is() -> None:
    board = pilot_board(str(RESULTS / "undecided"), RESULTS)
    row, *_ = planned_rows(board, [0.005], clips=1.0, rows=1)
    plain = notes_of([row], clips=1.0, rows=1)
    assert "80 % probability at 0.05, by what" in plain[0]
    assert plain[1].startswith("on as many clips as the pilot's; ")
    assert [line.partition(":")[0] for line in plain[2:]] == ["h a pair", "a pilot's seeds are in no later mean"]
    hidden = replace(row, sizes=(replace(row.sizes[0], hidden_by_clips=True),))
    asked = notes_of([replace(row, why="9 clips", sizes=()), hidden], clips=2.0, rows=2)
    assert "at 0.025, the strictest step of Holm's adjustment over 2 rows, by what" in asked[0]
    assert asked[1].startswith("on 2 times the pilot's clips; ")
    assert asked[2].startswith("clips: the gain is below the least Δ")
    assert len(asked) == len(plain) + 1
    assert "no row of it is a pilot" in notes_of([replace(row, why="9 clips")], clips=1.0, rows=1)[0]
    assert "no row of it has a baseline" in notes_of([], clips=1.0, rows=1)[0]
    section = board.shown[0]
    unlabelled = replace(section.gains[0], differences=(None,) * len(section.gains[0].differences))
    assert planned_row(board, section, unlabelled, [0.005], 1.0, 0.05).why == "no labels"


def test_too_few_clips_for_an_interval_are_no_plan() -> None:
    rows = planned(RESULTS / "undecided", "--clips", "0.01")
    assert {(row["why"], row["pilot_pairs"], row["least"]) for row in rows} == {("7 clips", 10, None)}


def test_more_rows_take_more_pairs_for_holm_adjusts_over_them() -> None:
    one, four = (planned(RESULTS / "undecided", "--gain", "1", "--rows", rows)[0]["sizes"] for rows in (1, 4))
    assert isinstance(one, list)
    assert isinstance(four, list)
    assert one[0]["pairs"] < four[0]["pairs"]


def test_a_record_that_was_changed_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "undecided"
    shutil.copytree(RESULTS / "undecided/records", folder / "records")
    (path,) = (folder / "records").glob("hard-laneatt_micro-samiro-s0-*[0-9a-f].json")
    path.write_text(path.read_text(encoding="utf-8").replace('"steps": 660', '"steps": 661', 1), encoding="utf-8")
    assert main(["seeds", str(folder), "--json"]) == 1
    told = capsys.readouterr()
    assert path.name in told.err
    pairs = {row["detector"]: row["pilot_pairs"] for row in json.loads(told.out)["planned"]}
    assert pairs == {"laneatt_micro": 9, "ufldv2_micro": 10}


@pytest.mark.parametrize(
    ("there", "told"), [(True, "no such folder; give the folder of a publication"), (False, "unknown suite")]
)
def test_what_is_no_pilot_is_refused(tmp_path: Path, there: bool, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "nothing").mkdir()
    assert told in str(run("nothing").exception)
    assert isinstance(run("nothing").exception, InputError)


def test_a_folder_without_records_and_a_suite_without_runs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty/records").mkdir(parents=True)
    assert "no record in it" in str(run("empty").exception)
    assert "run `samiro-bench bench mini`" in str(run("mini").exception)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
@pytest.mark.parametrize("option", ["--gain", "--clips"])
def test_gains_and_clips_are_numbers_above_0(option: str, value: str) -> None:
    result = run(RESULTS / "undecided", f"{option}={value}")
    assert result.exit_code == 2
    assert "a number above 0" in " ".join(result.output.replace("│", " ").split())
