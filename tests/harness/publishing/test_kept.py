"""A publication of fewer rows or seeds doesn't take the place of one of more, whatever made either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.matrix.recorded import SuiteCells, expected_of
from harness.publishing.kept import check_kept
from harness.records.record import Record, read_records
from harness.suite import cells_of, load_suite

PUBLISHED = Path(__file__).parents[3] / "results/mini"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    shutil.copytree(PUBLISHED / "records", tmp_path / "mini/records")
    return tmp_path / "mini"


@pytest.fixture(scope="module")
def suite() -> SuiteCells:
    mini = load_suite("mini")
    return expected_of(mini, Path("results/local"), cells_of(mini))


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_records(PUBLISHED / "records")


def edited(target: Path, edit: Callable[[dict[str, Any]], None], name: str = "other") -> None:
    """Give the first record another content and another name, as other code or options would."""
    path = sorted((target / "records").glob("*.json"))[0]
    content = json.loads(path.read_text())
    edit(content["identity"])
    path.with_name(f"{name}.json").write_text(json.dumps(content))
    path.unlink()


def test_all_that_is_published_may_be_published_again(target: Path, suite: SuiteCells, records: list[Record]) -> None:
    check_kept(suite, records, target)
    check_kept(suite, records, target.with_name("new"))


def test_fewer_rows_are_refused_also_where_code_or_options_have_changed_since(
    target: Path, suite: SuiteCells, records: list[Record]
) -> None:
    with pytest.raises(
        InputError, match=r"mini: would lose roads-.* \(3 published cells that this choice leaves out\)"
    ):
        check_kept(suite, records[-1:], target)
    edited(target, lambda identity: identity["recipe"].update(steps=7))
    check_kept(suite, records, target)
    with pytest.raises(InputError, match=r"would lose other \(1 published cell that"):
        check_kept(suite, records[1:], target)


def test_fewer_seeds_are_refused_also_such_as_the_suite_has_not(
    target: Path, suite: SuiteCells, records: list[Record]
) -> None:
    edited(target, lambda identity: identity.update(seed=4))
    with pytest.raises(InputError, match="would lose other "):
        check_kept(suite, records, target)


def test_rows_that_the_suite_has_not_any_more_may_go(target: Path, suite: SuiteCells, records: list[Record]) -> None:
    edited(target, lambda identity: identity.update(detector="older_micro"))
    check_kept(suite, records[1:], target)


def test_a_record_that_cannot_be_read_counts_as_one_that_would_be_lost(
    target: Path, suite: SuiteCells, records: list[Record]
) -> None:
    (target / "records/torn.json").write_text('{"identity": ')
    with pytest.raises(InputError, match="would lose torn "):
        check_kept(suite, records, target)
