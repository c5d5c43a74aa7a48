"""What is told of the records that a suite's cells lack, and of the files beside them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.matrix.recorded import SuiteCells, missing_seeds, strays
from harness.suite import Choice, cells_of, load_suite

MINI = Path(__file__).resolve().parents[3] / "results" / "mini" / "records"


def expected(results: Path, seeds: int) -> SuiteCells:
    """The cells of `mini` with one detector, none of which has a record."""
    found = SuiteCells(
        "mini", results, cells_of(load_suite("mini"), Choice(seeds=seeds, only=["detector=ufldv2_micro"]))
    )
    found.records.mkdir(parents=True)
    return found


def record(found: SuiteCells, method: str, *seeds: int) -> None:
    """Put a file in the place of some cells' records."""
    for cell in found.cells:
        if cell.identity.method == method and cell.identity.seed in seeds:
            (found.records / f"{cell.id}.json").touch()


def test_a_row_without_any_record_is_told(tmp_path: Path) -> None:
    found = expected(tmp_path, 3)
    record(found, "baseline", 0, 1, 2)
    assert missing_seeds(found) == ["ufldv2_micro, samiro on roads: no record of any seed of 3"]
    record(found, "samiro", 0, 1, 2)
    assert missing_seeds(found) == []


def test_a_tier_that_nobody_has_begun_is_told_in_one_line(tmp_path: Path) -> None:
    found = expected(tmp_path, 3)
    tiers = {
        cell.id: "B" if cell.identity.method == "samiro" or cell.identity.seed == 2 else "A" for cell in found.cells
    }
    found = replace(found, tiers=tiers)
    record(found, "baseline", 0)
    assert missing_seeds(found) == [
        "ufldv2_micro, baseline on roads: no record of seed 1 of 3",
        "tier B: no record of any of its 4 cells",
    ]
    record(found, "samiro", 1)
    assert missing_seeds(found) == [
        "ufldv2_micro, baseline on roads: no record of seeds 1, 2 of 3",
        "ufldv2_micro, samiro on roads: no record of seeds 0, 2 of 3",
    ]


def test_variants_of_one_name_lack_their_own_seeds(tmp_path: Path) -> None:
    found = expected(tmp_path, 2)
    changed = [
        replace(
            cell,
            id=f"{cell.id}-variant",
            identity=cell.identity.model_copy(
                update={"method_configuration": cell.identity.method_configuration | {"weight": 7}}
            ),
        )
        for cell in found.cells
        if cell.identity.method == "samiro"
    ]
    both = replace(found, cells=(*found.cells, *changed))
    record(found, "baseline", 0, 1)
    record(found, "samiro", 0, 1)
    assert missing_seeds(both) == ["ufldv2_micro, samiro (weight=7) on roads: no record of any seed of 2"]
    record(replace(both, cells=tuple(changed)), "samiro", 1)
    assert missing_seeds(both) == ["ufldv2_micro, samiro (weight=7) on roads: no record of seed 0 of 2"]


def test_long_runs_of_missing_seeds_are_told_by_their_ends(tmp_path: Path) -> None:
    found = expected(tmp_path, 9)
    record(found, "baseline", *range(9))
    record(found, "samiro", 2, 8)
    assert missing_seeds(found) == ["ufldv2_micro, samiro on roads: no record of seeds 0, 1, 3 to 7 of 9"]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_that_is_not_named_by_its_record_is_not_used(tmp_path: Path, renamed: bool) -> None:
    found = expected(tmp_path, 1)
    for path in MINI.iterdir():
        shutil.copy(path, found.records)
    victim = sorted(found.records.glob("*.json"))[0]
    assert strays(replace(found, cells=())) == (len(list(MINI.glob("*.json"))), [])
    shutil.copy(victim, found.records / "zz.json")
    if renamed:
        victim.unlink()
    others, faults = strays(replace(found, cells=()))
    assert others == len(list(MINI.glob("*.json"))) - renamed
    assert len(faults) == 1
    assert f"zz.json: key 'id' is '{victim.stem}'" in faults[0]


def test_the_leaderboard_tells_a_copied_record_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(MINI, tmp_path / "mini" / "records")
    assert main(["leaderboard", "mini", "--results", str(tmp_path)]) == 0
    victim = sorted((tmp_path / "mini" / "records").glob("*.json"))[0]
    shutil.copy(victim, victim.with_name("zz.json"))
    assert main(["leaderboard", "mini", "--results", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "zz.json: key 'id'" in said.err
    assert "other seeds" not in said.out
    assert "- zz.json: key 'id'" in (tmp_path / "mini" / "leaderboard.md").read_text(encoding="utf-8")
