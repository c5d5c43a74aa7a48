"""The mini suite's publication is what its predictions say; one changed digit anywhere is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.cli.verify import publication_of
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.publishing.checksums import RESTORE, SUMS_FILE, write_sums
from harness.publishing.publish import publish_tables
from harness.publishing.verify import record_faults, verify
from harness.records.counts import read_counts, write_counts
from harness.records.record import read_any_record, write_record
from tests.harness.publishing.forging import MINI
from tests.harness.publishing.published_rows import COUNTS, OTHER, PREDICTIONS, RECORD, another_lane, outcomes, told

pytestmark = pytest.mark.usefixtures("labelled_once")


def test_every_row_of_the_published_mini_suite_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.main import main

    assert main(["verify", "mini", "--published", str(MINI.parent), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"] is True
    assert [(row["outcome"], row["told"]) for row in said["rows"]] == [("verified", [])] * len(
        list((MINI / "records").glob("*.json"))
    )
    assert {table["name"] for table in said["tables"]} >= {"leaderboard.md", "leaderboard.csv"}
    assert {table["outcome"] for table in said["tables"]} == {"verified"}
    assert said["files"] == []
    assert said["marks"] == []


def test_neither_torch_nor_the_suites_are_needed() -> None:
    code = "import sys, harness.publishing.verify; sys.exit('torch' in sys.modules or 'harness.suite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=MINI.parents[1]).returncode == 0


@pytest.mark.parametrize(
    ("key", "digits"),
    [
        ('"f1_50": 0.', "1"),
        ('"confidence_threshold": 0.', "4"),
        # Whatever was measured.
        ('"p50": ', "98"),
        ('"seconds": ', "98"),
        ('"published",\n  "seed": ', "1"),
    ],
)
def test_a_changed_digit_of_a_record_is_found(mini: Path, key: str, digits: str) -> None:
    path = mini / "records" / f"{RECORD}.json"
    text = path.read_text()
    at = text.rindex(key) + len(key)
    digit = next(digit for digit in digits if digit != text[at])
    path.write_text(text[:at] + digit + text[at + 1 :])
    found = verify(mini)
    assert outcomes(found) == ["differs", *["verified"] * (len(found.rows) - 1)]
    assert "content_sha256" in told(found)
    assert "was changed" in told(found, f"records/{RECORD}.json")
    if "f1_50" in key:
        assert "f1_50: recorded 0.1" in told(found)
        assert "re-scored" in told(found)
    if "seed" in key:
        assert "key 'identity' gives an id that ends in" in told(found)
    if "p50" in key or "seconds" in key:  # neither can be made again, but the tables show which figure it was
        assert "made again from the records" in told(found, "leaderboard.csv")


def test_a_score_that_was_hashed_again_everywhere_is_found_by_scoring(mini: Path) -> None:
    """What a forger can't make up: record, counts, tables and sums agree, but not with the predictions."""
    path = mini / "records" / f"{RECORD}.json"
    record = read_any_record(path).record
    counts = read_counts(mini / COUNTS)
    better = counts.true_positives.copy()  # type: ignore[attr-defined]
    row = int(np.flatnonzero(better[:, 0] < np.minimum(counts.labels, counts.predictions))[0])
    better[row, 0] += 1
    write_counts(mini / COUNTS, replace(counts, true_positives=better))
    evaluation = record.evaluations[0].model_copy(update={"counts_sha256": sha256_of_file(mini / COUNTS)})
    write_record(mini / "records", record.model_copy(update={"evaluations": (evaluation,)}))
    write_sums(mini)
    found = verify(mini)
    assert not found.files
    assert outcomes(found)[0] == "differs"
    assert f"counts of {counts.image[row]}: true_positives: recorded" in told(found)


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv", "leaderboard.tex"])
def test_a_changed_digit_of_a_table_is_found_with_its_line(mini: Path, name: str) -> None:
    lines = (mini / name).read_text().split("\n")
    score = read_any_record(mini / "records" / f"{RECORD}.json").record.evaluations[0].total.f1_50
    assert score is not None
    decimals = {"leaderboard.csv": 4, "leaderboard.md": 2, "leaderboard.tex": 2}[name]
    shown, other = (f"{100 * value:.{decimals}f}" for value in (score, score + 0.003))
    number = next(at for at, line in enumerate(lines) if shown in line)
    lines[number] = lines[number].replace(shown, other, 1)
    (mini / name).write_text("\n".join(lines))
    write_sums(mini)
    found = verify(mini)
    assert not found.sound
    assert outcomes(found) == ["verified"] * len(found.rows)
    assert told(found, name).startswith(f"line {number + 1}: published ")
    assert other in told(found, name)


def test_predictions_that_are_not_the_recorded_ones_are_found(mini: Path) -> None:
    another_lane(mini / PREDICTIONS)
    found = verify(mini)
    assert outcomes(found) == ["differs", *["verified"] * (len(found.rows) - 1)]
    assert "key 'predictions_sha256'" in told(found)
    assert "was changed" in told(found, PREDICTIONS)


def test_records_that_cannot_be_read_leave_the_others_verified(mini: Path) -> None:
    (mini / "records" / f"{RECORD}.json").write_text("[" * 100_000)
    with open(mini / "records" / "large.json", "wb") as stream:
        stream.truncate(100_000_000)
    (mini / "records" / "folder.json").mkdir()
    (mini / "records" / "link.json").symlink_to("/etc/passwd")
    found = verify(mini)
    rows = {row.name: row for row in found.rows}
    assert "nested too deeply" in told(found, RECORD)
    assert "100000000 bytes" in told(found, "large")
    assert "a folder, not a file" in told(found, "folder")
    assert told(found, "link") == "records/link.json: no plain file"
    assert rows[OTHER].outcome == "verified"
    assert told(found, "records/link.json") == "a link, and a publication has none"


def test_files_that_are_missing_or_were_put_in_are_named(mini: Path) -> None:
    (mini / "overlays.jpg").unlink()
    (mini / "notes.txt").write_text("mine")
    found = verify(mini)
    assert told(found, "overlays.jpg") == f"missing, though {SUMS_FILE} lists it"
    assert told(found, "notes.txt") == f"not listed in {SUMS_FILE}"
    assert not found.sound
    (mini / SUMS_FILE).unlink()
    assert RESTORE in told(verify(mini), SUMS_FILE)


def test_the_summary_names_every_row_and_the_exit_code_says_it(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.main import main

    another_lane(mini / PREDICTIONS)
    assert main(["verify", "mini", "--published", str(mini.parent)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(": verified" in line for line in lines) >= 4
    assert lines[-1].startswith("1 of 2 rows verified, 1 differ")
    capsys.readouterr()
    assert main(["verify", "minni", "--published", str(mini.parent)]) == 2
    assert "no publication is called 'minni': did you mean 'mini'? known: mini" in capsys.readouterr().err


def test_a_path_is_the_publication_that_lies_there_not_one_of_its_name_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    (tmp_path / "mini").mkdir()
    for path in ("mini", "nowhere/mini"):
        assert main(["verify", str(tmp_path / path), "--published", str(MINI.parent)]) == 2
        assert f"{tmp_path / path}: no publication" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("mini", "results/mini"),
        ("lr0.1", "results/lr0.1"),
        ("mine/lr0.1.yaml", "results/lr0.1"),
        ("results/submissions/mini/alice", "results/submissions/mini/alice"),
        ("./mini", "mini"),
        (".", "."),
    ],
)
def test_a_name_or_a_file_means_what_is_published_of_that_suite(said: str, meant: str) -> None:
    assert publication_of(said, Path("results")) == Path(meant)


def test_tables_and_page_are_made_again_only_from_rows_that_are_verified(mini: Path, tmp_path: Path) -> None:
    publish_tables(mini, None, tmp_path)
    before = {path: path.read_bytes() for path in mini.rglob("*") if path.is_file()}
    (mini / "leaderboard.md").write_text("of older code\n")
    (mini / "site" / "index.html").write_text("of older code\n")
    assert {table.name for table in verify(mini).tables if table.outcome == "differs"} == {
        "leaderboard.md",
        "site/index.html",
    }
    publish_tables(mini, None, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    (mini / "overlays.jpg").write_bytes(b"another picture")
    with pytest.raises(InputError, match=r"mini: overlays\.jpg: SHA256SUMS says"):
        publish_tables(mini, None, tmp_path)
    another_lane(mini / PREDICTIONS)
    with pytest.raises(InputError, match="key 'predictions_sha256'"):
        publish_tables(mini, None, tmp_path)


def test_counts_that_no_scoring_gives_are_told_and_the_rest_is_verified(mini: Path) -> None:
    counts = read_counts(mini / COUNTS)
    write_counts(mini / COUNTS, replace(counts, labels=-counts.predictions))
    record = read_any_record(mini / "records" / f"{RECORD}.json").record
    evaluation = record.evaluations[0].model_copy(update={"counts_sha256": sha256_of_file(mini / COUNTS)})
    write_record(mini / "records", record.model_copy(update={"evaluations": (evaluation,)}))
    write_sums(mini)
    found = verify(mini)
    assert outcomes(found) == ["differs", "verified"]
    assert "that no scoring gives" in told(found)
    assert "that no scoring gives" in told(found, "leaderboard.md")


def test_what_cannot_be_read_is_named_with_the_tables_and_mended_as_a_publication_is(mini: Path) -> None:
    path = mini / "records" / f"{RECORD}.json"
    value = json.loads(path.read_text()) | {"schema_version": 1}
    del value["content_sha256"]
    path.write_text(json.dumps(value, indent=1))
    found = verify(mini)
    assert "key 'schema_version' is 1: written before records carried a hash" in told(found)
    assert told(found).endswith(RESTORE)
    assert told(found, "leaderboard.md") == f"made without what can't be used: {RECORD}.json can't be read"
    assert not any("`bench`" in line for row in (*found.rows, *found.tables, *found.files) for line in row.told)


def test_a_record_that_shows_nothing_is_not_verified(mini: Path) -> None:
    path = mini / "records" / f"{RECORD}.json"
    write_record(mini / "records", read_any_record(path).record.model_copy(update={"evaluations": ()}))
    (mini / COUNTS).unlink()
    write_sums(mini)
    found = verify(mini)
    assert outcomes(found) == ["differs", "verified"]
    assert "neither evaluations nor submissions" in told(found)


def test_links_are_never_followed(mini: Path, tmp_path: Path) -> None:
    for name in ("leaderboard.md", COUNTS, PREDICTIONS):
        elsewhere = shutil.move(mini / name, tmp_path / Path(name).name)
        (mini / name).symlink_to(elsewhere)
    found = verify(mini)
    assert "missing, or no plain file" in told(found, "leaderboard.md")
    assert told(found).count("a link, and a publication has none") == 2
    shutil.move(mini / "records", tmp_path / "records")
    (mini / "records").symlink_to(tmp_path / "records")
    found = verify(mini)
    assert found.rows == ()
    assert told(found, "records") == "a link, and a publication has none"


def test_rows_on_another_dataset_than_the_own_are_faultless() -> None:
    paths = sorted((MINI.parent / "mini-transfer/records").glob("*.json"))
    assert [record_faults(path, read_any_record(path)) for path in paths] == [[]] * 4


def test_a_folder_that_is_no_publication_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no publication: it has no folder records/"):
        verify(tmp_path)
