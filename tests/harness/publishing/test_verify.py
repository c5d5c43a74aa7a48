"""The mini suite's publication is what its predictions and labels give; one changed digit anywhere is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.predictions import pack_predictions, unpack_predictions
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.lanes import Lane
from harness.publishing.labels import laid_out, unpack_labels
from harness.publishing.publish import publish_tables
from harness.publishing.rescoring import ABSENT, LabelSource, scored_again
from harness.publishing.sums import RESTORE, SUMS_FILE, write_sums
from harness.publishing.verify import Verification, record_faults, rows_of, verify
from harness.records.counts import read_counts, scope_scores, write_counts
from harness.records.record import Submission, counts_path, identity_hash, read_any_record, write_record
from tests.harness.publishing.forging import hashed_again

MINI = Path(__file__).resolve().parents[3] / "results" / "mini"
RECORD, OTHER, *REST = (path.stem for path in sorted((MINI / "records").glob("*.json")))
COUNTS = f"records/{RECORD}.test.counts.npz"
PREDICTIONS = f"predictions/{RECORD}.test.npz"
(LABELS,) = (f"labels/{path.name}" for path in (MINI / "labels").iterdir())

pytestmark = pytest.mark.usefixtures("labelled_once")


@pytest.fixture(scope="module")
def two_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published mini suite with two of its rows and without its page, to be quick."""
    folder = Path(shutil.copytree(MINI, tmp_path_factory.mktemp("published") / "mini"))
    shutil.rmtree(folder / "site")
    for name in REST:
        for path in folder.glob(f"*/{name}.*"):
            path.unlink()
    hashed_again(folder)
    return folder


@pytest.fixture
def mini(two_rows: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(two_rows, tmp_path / "mini"))


def told(found: Verification, name: str = RECORD) -> str:
    """All that was said of a row, table or file."""
    return "\n".join(
        line for checked in (*found.rows, *found.tables, *found.files) if checked.name == name for line in checked.told
    )


def outcomes(found: Verification) -> list[str]:
    return [row.outcome for row in found.rows]


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
    ("key", "digit"),
    [
        ('"f1_50": 0.', "1"),
        ('"confidence_threshold": 0.', "4"),
        ('"p50": ', "9"),
        ('"seconds": ', "9"),
        ('"published",\n  "seed": ', "1"),
    ],
)
def test_a_changed_digit_of_a_record_is_found(mini: Path, key: str, digit: str) -> None:
    path = mini / "records" / f"{RECORD}.json"
    text = path.read_text()
    at = text.rindex(key) + len(key)
    assert text[at] != digit
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


def another_lane(path: Path) -> None:
    """Move one archived lane by an eighth of a pixel."""
    ids, lanes = unpack_predictions(path)
    at = next(at for at, found in enumerate(lanes) if found)
    first = lanes[at][0]
    lanes[at] = [Lane(first.points + np.float32(0.125), first.score), *lanes[at][1:]]
    pack_predictions(path, ids, lanes)


def test_predictions_that_are_not_the_recorded_ones_are_found(mini: Path) -> None:
    another_lane(mini / PREDICTIONS)
    found = verify(mini)
    assert outcomes(found) == ["differs", *["verified"] * (len(found.rows) - 1)]
    assert "key 'predictions_sha256'" in told(found)
    assert "was changed" in told(found, PREDICTIONS)


def rebuilt(path: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Write an archive of labels with other arrays."""
    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    edit(arrays)
    with open(path, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=True, **arrays)


def change_a_digit(arrays: dict[str, np.ndarray]) -> None:
    content = arrays["content"].tobytes()
    names, sizes = arrays["names"].tobytes().decode().split("\n"), arrays["sizes"].tolist()
    starts = np.cumsum([0, *sizes])
    label = next(at for at, name in enumerate(names) if name.endswith(".lines.txt") and sizes[at] > 100)
    at = int(starts[label])
    arrays["content"] = np.frombuffer(content[:at] + b"1" + content[at + 1 :], np.uint8)


def test_a_changed_label_is_found(mini: Path) -> None:
    rebuilt(mini / LABELS, change_a_digit)
    assert "was changed" in told(verify(mini), LABELS)


def leave(arrays: dict[str, np.ndarray]) -> None:
    names = arrays["names"].tobytes().decode().split("\n")
    names[3] = "../" * 20 + "tmp/escaped.txt"
    arrays["names"] = np.frombuffer("\n".join(names).encode(), np.uint8)


def pickled(arrays: dict[str, np.ndarray]) -> None:
    arrays["content"] = np.array([{}], dtype=object)


def floating(arrays: dict[str, np.ndarray]) -> None:
    arrays["sizes"] = arrays["sizes"].astype(np.float64)


def shorter(arrays: dict[str, np.ndarray]) -> None:
    arrays["content"] = arrays["content"][:-1]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (leave, "isn't a path inside the dataset"),
        (pickled, "of a kind that no writer here makes"),
        (floating, "sizes is of type float64"),
        (shorter, "its parts contradict each other"),
    ],
)
def test_a_hostile_archive_of_labels_is_refused_in_a_line_and_counts_are_checked_all_the_same(
    mini: Path, edit: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    rebuilt(mini / LABELS, edit)
    found = verify(mini)
    assert set(outcomes(found)) == {"differs"}
    assert f"{LABELS}: not a whole archive of labels" in told(found)
    assert said in told(found)
    assert {table.outcome for table in found.tables} == {"verified"}


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more.npy", "w") as stream:
        for _ in range(1100):
            stream.write(bytes(1 << 20))


def doubled(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("content.npy", b"")


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (bomb, "would unpack to"),
        (doubled, "content stands twice"),
        (Path.unlink, "is missing"),
        (linked, "a link, and a publication has none"),
    ],
)
def test_bombs_doubles_links_and_missing_archives_are_told(
    mini: Path, break_it: Callable[[Path], None], said: str
) -> None:
    break_it(mini / LABELS)
    found = verify(mini)
    assert set(outcomes(found)) == {"differs"}
    assert said in told(found)
    assert told(found, LABELS)


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


def relabelled(folder: Path, content: str) -> None:
    """Make a publication's rows those of a dataset that isn't rendered: identity, id, names and all."""
    shutil.rmtree(folder / "labels")
    for path in sorted((folder / "records").glob("*.json")):
        record = read_any_record(path).record
        key = {"real": "roads", "form": "culane", "image_size": [590, 1640]}
        identity = record.identity.model_copy(update={"dataset_key": key})
        name = f"{record.id.rpartition('-')[0]}-{identity_hash(identity)[:10]}"
        (evaluation,) = record.evaluations
        counts = counts_path(path.parent, name, "test")
        (path.parent / evaluation.counts_file).rename(counts)
        (folder / f"predictions/{record.id}.test.npz").rename(folder / f"predictions/{name}.test.npz")
        evaluation = evaluation.model_copy(update={"counts_file": counts.name, "dataset_sha256": content})
        path.unlink()
        write_record(
            path.parent, record.model_copy(update={"id": name, "identity": identity, "evaluations": (evaluation,)})
        )
    hashed_again(folder)


def test_rows_of_a_licensed_dataset_are_scored_on_ones_own_copy_and_are_unverified_without(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    dataset = laid_out(unpack_labels(mini / LABELS), own)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    relabelled(mini, dataset.content_key())
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(own))
    assert outcomes(verify(mini)) == ["verified"] * 2
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(tmp_path / "nowhere"))
    found = verify(mini)
    assert (found.sound, outcomes(found)) == (True, ["unverified"] * 2)
    assert all(row.told[0].startswith(ABSENT) for row in found.rows)
    label = next(own.rglob("*.lines.txt"))
    label.write_text("1 2 3 4\n")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(own))
    assert all("has other content" in row.told[0] for row in verify(mini).rows)
    another_lane(sorted((mini / "predictions").glob("*.npz"))[0])
    assert outcomes(verify(mini)) == ["differs", "unverified"]


def rescored(folder: Path) -> None:
    """Make counts, scores, tables and every hash what the archived labels give, as a forger would."""
    with tempfile.TemporaryDirectory() as place:
        dataset = laid_out(unpack_labels(folder / LABELS), Path(place))
        for path in sorted((folder / "records").glob("*.json")):
            record = read_any_record(path).record
            (evaluation,) = record.evaluations
            ids, lanes = unpack_predictions(folder / f"predictions/{record.id}.test.npz")
            counts = scored_again(dataset, evaluation, ids, lanes, Path(tempfile.mkdtemp(dir=place)))
            write_counts(folder / "records" / evaluation.counts_file, counts)
            change = {
                "total": scope_scores(counts),
                "scenarios": {name: scope_scores(counts, counts.scenario == name) for name in evaluation.scenarios},
                "counts_sha256": sha256_of_file(folder / "records" / evaluation.counts_file),
            }
            evaluation = evaluation.model_copy(update=change)
            write_record(path.parent, record.model_copy(update={"evaluations": (evaluation,)}))
    hashed_again(folder)


def all_lanes_away(arrays: dict[str, np.ndarray]) -> None:
    """Labels without lanes, where nothing can be missed."""
    names, sizes = arrays["names"].tobytes().decode().split("\n"), arrays["sizes"].tolist()
    stops = np.cumsum(sizes)
    pieces = [
        b"" if name.endswith(".lines.txt") and at % 2 else arrays["content"].tobytes()[stop - size : stop]
        for at, (name, size, stop) in enumerate(zip(names, sizes, stops, strict=True))
    ]
    arrays["sizes"] = np.array([len(piece) for piece in pieces], np.int64)
    arrays["content"] = np.frombuffer(b"".join(pieces), np.uint8)


def test_labels_that_were_replaced_are_found_though_everything_agrees_with_them(mini: Path) -> None:
    rebuilt(mini / LABELS, all_lanes_away)
    rescored(mini)
    found = verify(mini)
    assert not found.files
    assert {table.outcome for table in found.tables} == {"verified"}
    assert set(outcomes(found)) == {"differs"}
    assert not found.sound, "by its rows alone"
    assert "isn't what the specification gives" in told(found)


def facts_with(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, np.ndarray]], None]:
    def edit(arrays: dict[str, np.ndarray]) -> None:
        facts = json.loads(arrays["facts"].tobytes())
        change(facts)
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)

    return edit


def overlong(arrays: dict[str, np.ndarray]) -> None:
    names = arrays["names"].tobytes().decode().split("\n")
    names[0] = "x" * 300
    arrays["names"] = np.frombuffer("\n".join(names).encode(), np.uint8)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (facts_with(lambda facts: facts["spec"].update(width=900_000)), "key 'spec.width' can't be 900000"),
        (facts_with(lambda facts: facts.update(lane_width=-5)), "key 'lane_width' can't be -5"),
        (facts_with(lambda facts: facts.update(lane_width=10**9)), "key 'lane_width' can't be 1000000000"),
        (facts_with(lambda facts: facts["spec"].update(seed=1)), "their specification has the hash"),
        (facts_with(lambda facts: facts.pop("spec")), "key 'spec' is missing"),
        (overlong, "isn't what the specification gives"),
    ],
)
def test_the_cause_is_told_in_every_row_that_rests_on_an_archive(
    mini: Path, edit: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    rebuilt(mini / LABELS, edit)
    write_sums(mini)
    found = verify(mini)
    assert [said in told(found, name) for name in (RECORD, OTHER)] == [True, True]
    assert {table.outcome for table in found.tables} == {"verified"}


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


def test_labels_of_another_specification_need_another_identity(mini: Path) -> None:
    """The hash that the labels are held against is that in the identity, in whose hash the record's id ends."""
    path = mini / "records" / f"{RECORD}.json"
    record = read_any_record(path).record
    evaluation = record.evaluations[0].model_copy(update={"dataset_sha256": "0" * 64})
    write_record(mini / "records", record.model_copy(update={"evaluations": (evaluation,)}))
    assert "'dataset_sha256' isn't the 'dataset_key' of the identity" in told(verify(mini))


def test_links_are_never_followed(mini: Path, tmp_path: Path) -> None:
    shutil.copy(mini / "leaderboard.md", tmp_path / "leaderboard.md")
    (mini / "leaderboard.md").unlink()
    (mini / "leaderboard.md").symlink_to(tmp_path / "leaderboard.md")
    assert "missing, or no plain file" in told(verify(mini), "leaderboard.md")
    shutil.move(mini / "records", tmp_path / "records")
    (mini / "records").symlink_to(tmp_path / "records")
    found = verify(mini)
    assert found.rows == ()
    assert told(found, "records") == "a link, and a publication has none"


def scored_better(folder: Path) -> None:
    """State another score in a record than its counts give."""
    path = min((folder / "records").glob("*.json"))
    record = read_any_record(path).record
    total = record.evaluations[0].total.model_copy(update={"f1_50": 0.99})
    evaluation = record.evaluations[0].model_copy(update={"total": total})
    write_record(path.parent, record.model_copy(update={"evaluations": (evaluation,)}))
    write_sums(folder)


def test_without_labels_scores_are_held_against_their_counts_all_the_same(mini: Path) -> None:
    relabelled(mini, "a" * 64)
    assert outcomes(verify(mini)) == ["unverified"] * 2
    scored_better(mini)
    found = verify(mini)
    assert outcomes(found) == ["differs", "unverified"]
    assert "f1_50: recorded 0.99, its counts give" in found.rows[0].told[0]
    another_lane(min((mini / "predictions").glob("*.npz")))
    said = "\n".join(verify(mini).rows[0].told)
    assert "f1_50: recorded 0.99, its counts give" in said
    assert "key 'predictions_sha256'" in said


def test_predictions_for_a_server_are_held_against_the_record(mini: Path) -> None:
    record = read_any_record(mini / "records" / f"{RECORD}.json").record
    kept = record.evaluations[0].model_dump(include=set(Submission.model_fields))
    submission = Submission.model_validate(kept | {"why": "labels private"})

    def publish(**changes: str) -> str:
        submissions = (submission.model_copy(update=changes),)
        path = write_record(mini / "records", record.model_copy(update={"evaluations": (), "submissions": submissions}))
        with LabelSource(mini) as labels:
            (row,) = rows_of(mini, path, read_any_record(path), labels)
        return "\n".join((row.outcome, *row.told))

    assert publish() == "unverified\nlabels private: predictions checked"
    assert publish(dataset_sha256="0" * 64) == (
        "differs\nkey 'test': 'dataset_sha256' isn't the 'dataset_key' of the identity"
    )
    assert publish(predictions_sha256="0" * 64).startswith(f"differs\n{PREDICTIONS}: key 'predictions_sha256'")


def test_rows_on_another_dataset_than_the_own_are_faultless() -> None:
    paths = sorted((MINI.parent / "mini-transfer/records").glob("*.json"))
    assert [record_faults(path, read_any_record(path)) for path in paths] == [[]] * 4


def test_labels_that_cannot_be_made_again_leave_a_row_unverified(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.publishing.rescoring.doubt_of", lambda *_: "scored again, but in doubt")
    found = verify(mini)
    assert (found.sound, outcomes(found), told(found)) == (True, ["unverified"] * 2, "scored again, but in doubt")


def test_a_folder_that_is_no_publication_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no publication: it has no folder records/"):
        verify(tmp_path)
