"""Of two submissions with the same predictions the later one is told, by the order in which the branch got them, whatever dates say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.publishing.arrivals import NOT_YET, arrivals_in
from harness.publishing.copies import PUBLISHED, copies, known_predictions, places_of
from harness.records.record import read_records
from tests.harness.publishing.forging import MINI, RECORD
from tests.harness.publishing.repositories import committed, git


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results in a repository whose branch has a file of it."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    committed(tmp_path, {"results/README.md": "x"})
    return tmp_path / "results"


def row(folder: Path) -> Path:
    """A row of the mini suite as somebody has it in a folder."""
    for path in (MINI / "records" / f"{RECORD}.json", MINI / "predictions" / f"{RECORD}.test.npz"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.parent.name)
    return folder


def said_of(results: Path, name: str, folder: Path | None = None) -> list[str]:
    """What a review says of a submission's copies."""
    place = folder or results / "submissions/mini" / name
    known, places = known_predictions(results, "mini", name), places_of(results, "mini", name, place)
    return copies(read_records(place / "records"), known, places)


def copied(where: str) -> list[str]:
    return [f"predictions copied or repeated, 1 times: {RECORD}, test are {where}, {RECORD}, test"]


def test_the_later_submission_is_told_and_not_the_one_that_was_copied(results: Path) -> None:
    alice = row(results / "submissions/mini/alice")
    committed(results, {})
    row(results / "submissions/mini/eve")
    assert (said_of(results, "alice"), said_of(results, "eve")) == ([], copied("submissions/mini/alice"))
    committed(results, {})
    assert (said_of(results, "alice"), said_of(results, "eve")) == ([], copied("submissions/mini/alice"))
    (alice / "suite.yaml").write_text("corrected")
    committed(results, {})
    assert said_of(results, "alice") == [], "whose rows stay as they were came no later"


def test_a_merge_brings_a_submission_whenever_it_was_written(results: Path) -> None:
    git(results, "switch", "--quiet", "--create", "of-eve")
    row(results / "submissions/mini/eve")
    committed(results, {})
    git(results, "switch", "--quiet", "main")
    row(results / "submissions/mini/alice")
    committed(results, {})
    git(results, "merge", "--quiet", "--no-ff", "--no-edit", "of-eve")
    assert (said_of(results, "alice"), said_of(results, "eve")) == ([], copied("submissions/mini/alice"))


def test_rows_put_into_an_old_submission_came_when_they_were_put_there(results: Path) -> None:
    """A name that was taken early is no right to rows that others handed in since."""
    old = results / "submissions/mini/old"
    committed(results, {"submissions/mini/old/predictions/" + f"{RECORD}.test.npz": "of other rows"})
    row(results / "submissions/mini/alice")
    committed(results, {})
    row(old)
    assert said_of(results, "old") == copied("submissions/mini/alice")
    committed(results, {})
    assert (said_of(results, "alice"), said_of(results, "old")) == ([], copied("submissions/mini/alice"))


def test_publications_come_before_all_submissions(results: Path) -> None:
    row(results / "submissions/mini/alice")
    committed(results, {})
    row(results / "mini")
    assert said_of(results, "alice") == [], "what is published here alone is no part of the branch"
    committed(results, {})
    assert said_of(results, "alice") == copied("mini")
    assert {one.came for one in known_predictions(results, "mini", "bob").values()} == {PUBLISHED}


def test_a_submission_of_ones_own_uncommitted_publication_is_called_no_copy(results: Path, tmp_path: Path) -> None:
    row(results / "mini")
    assert said_of(results, "alice", row(tmp_path / "elsewhere")) == []


@pytest.mark.parametrize("how", ["no repository", "not committed", "one commit"])
def test_where_git_doesnt_know_which_came_first_nobody_is_accused(results: Path, how: str) -> None:
    for name in ("alice", "eve"):
        row(results / "submissions/mini" / name)
    if how == "no repository":
        shutil.rmtree(results.parent / ".git")
    elif how == "one commit":
        committed(results, {})
    mark = "predictions equal to those of another submission, either of which may be the first, 1 times"
    for name, other in (("alice", "eve"), ("eve", "alice")):
        assert said_of(results, name) == [f"{mark}: {RECORD}, test equal submissions/mini/{other}, {RECORD}, test"]


def test_places_grow_with_the_branch_and_are_of_one_content(results: Path) -> None:
    committed(results, {"a": "1", "b": "1"})
    committed(results, {"b": "2"})
    found = arrivals_in(results)
    assert found is not None
    assert found.place_of("README.md", results / "README.md") < found.place_of("a", results / "a")
    assert found.place_of("a", results / "a") < found.place_of("b", results / "b") < NOT_YET
    assert found.place_of("b", results / "a") == NOT_YET
    assert found.place_of("c", results / "a") == NOT_YET
    assert found.place_of("a", results / "c") == NOT_YET
    (results / "a").unlink()
    committed(results, {})
    committed(results, {"a": "1"})
    again = arrivals_in(results)
    assert again is not None
    assert again.place_of("a", results / "a") < again.place_of("b", results / "b"), "taken away and put back"
    (results / "new").mkdir()
    assert arrivals_in(results / "new") is None, "nothing of it is known"
