"""Archives of labels that were changed, forged or replaced are found, and told in every row that rests on them."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.predictions import unpack_predictions
from harness.errors import InputError
from harness.files.arrays import write_arrays
from harness.files.stored import sha256_of_file
from harness.publishing.checksums import write_sums
from harness.publishing.labels import laid_out, unpack_labels
from harness.publishing.rescoring import LabelSource, scored_again
from harness.publishing.verify import verify
from harness.records.counts import scope_scores, write_counts
from harness.records.record import read_any_record, write_record
from tests.harness.publishing.forging import LABELS, hashed_again
from tests.harness.publishing.published_rows import OTHER, RECORD, outcomes, told

pytestmark = pytest.mark.usefixtures("labelled_once")


def rebuilt(path: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Write an archive of labels with other arrays."""
    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    edit(arrays)
    write_arrays(path, arrays)


def change_a_digit(arrays: dict[str, np.ndarray]) -> None:
    content = arrays["content"].tobytes()
    names, sizes = arrays["names"].tobytes().decode().split("\n"), arrays["sizes"].tolist()
    starts = np.cumsum([0, *sizes])
    label = next(at for at, name in enumerate(names) if name.endswith(".lines.txt") and sizes[at] > 100)
    at = int(starts[label])
    arrays["content"] = np.frombuffer(content[:at] + b"1" + content[at + 1 :], np.uint8)


def test_a_changed_label_is_found(mini: Path) -> None:
    rebuilt(mini / LABELS, change_a_digit)
    found = verify(mini)
    assert "was changed" in told(found, LABELS)
    assert set(outcomes(found)) == {"differs"}
    assert "isn't what the specification gives" in told(found)


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
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("more.npy", "w") as stream,
    ):
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


def test_labels_of_another_specification_need_another_identity(mini: Path) -> None:
    """The hash that the labels are held against is that in the identity, in whose hash the record's id ends."""
    path = mini / "records" / f"{RECORD}.json"
    record = read_any_record(path).record
    evaluation = record.evaluations[0].model_copy(update={"dataset_sha256": "0" * 64})
    write_record(mini / "records", record.model_copy(update={"evaluations": (evaluation,)}))
    assert "'dataset_sha256' isn't the 'dataset_key' of the identity" in told(verify(mini))


def test_labels_are_held_against_each_row_that_names_them(mini: Path) -> None:
    """Archives are called after the first 12 digits of the hash, and all splits of a dataset have one."""
    record = read_any_record(mini / "records" / f"{RECORD}.json").record
    evaluation = record.evaluations[0]
    alike = evaluation.model_copy(update={"dataset_sha256": f"{evaluation.dataset_sha256[:12]}{'0' * 52}"})
    with LabelSource(mini) as labels:
        assert labels.of(record, evaluation).doubt is None
        with pytest.raises(InputError, match="their specification has the hash"):
            labels.of(record, alike)
        with pytest.raises(InputError, match="is missing"):
            labels.of(record, evaluation.model_copy(update={"split": "val"}))
