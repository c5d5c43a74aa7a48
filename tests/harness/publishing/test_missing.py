"""What a publication lacks of its suite is read again as it was written, and refused where it can't be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.publishing.missing import MISSING_FILE, read_missing, write_missing
from harness.publishing.tables import write_tables
from harness.publishing.verify import checked_tables
from harness.records.record import read_records
from harness.report.leaderboard import leaderboard
from harness.report.published import read_published
from tests.harness.publishing.forging import MINI

LACKING = ("mini, resa_micro, samiro: no record of seed 1 of 2",)


def test_lines_are_read_as_they_were_written_and_a_whole_suite_has_no_file(tmp_path: Path) -> None:
    write_missing(tmp_path, ())
    assert not (tmp_path / MISSING_FILE).exists()
    assert read_missing(tmp_path) == ()
    write_missing(tmp_path, LACKING)
    assert read_missing(tmp_path) == LACKING


@pytest.mark.parametrize("content", ["", "{}", '"a line"', '["a line", 1]', "[" * 100_000, '["a'])
def test_a_file_that_is_no_list_of_lines_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / MISSING_FILE).write_text(content)
    with pytest.raises(InputError, match=rf"{MISSING_FILE}: not a readable list of missing rows"):
        read_missing(tmp_path)


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("[]")
    (tmp_path / MISSING_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a link, and a publication has none"):
        read_missing(tmp_path)


def test_beside_a_file_that_is_none_no_table_is_verified(tmp_path: Path) -> None:
    (tmp_path / MISSING_FILE).write_text("{}")
    (table,) = checked_tables(tmp_path, [], [])
    assert table.outcome == "differs"
    assert table.told[0].startswith(f"{MISSING_FILE}: not a readable list of missing rows")


def test_tables_are_made_again_with_what_is_lacking(tmp_path: Path) -> None:
    """Without the file they would look like those of the whole suite."""
    shutil.copytree(MINI / "records", tmp_path / "records")
    records = read_records(tmp_path / "records")
    write_missing(tmp_path, LACKING)
    write_tables(tmp_path, leaderboard(records, tmp_path / "records", read_published(), missing=LACKING))
    assert {table.outcome for table in checked_tables(tmp_path, records, [])} == {"verified"}
    (tmp_path / MISSING_FILE).unlink()
    differing = {table.name for table in checked_tables(tmp_path, records, []) if table.outcome == "differs"}
    assert "leaderboard.md" in differing
