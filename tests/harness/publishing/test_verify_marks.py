"""What `verify` marks though nothing differs: copies under several names, pairs that began unlike, oracles of several weights."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.publishing.checksums import write_sums
from harness.publishing.copies import copies
from harness.publishing.logs import late_logs
from harness.publishing.oracles import several_weights
from harness.publishing.starts import unlike_starts, unseen_starts
from harness.publishing.verify import verify
from harness.records.record import Record, counts_path, read_any_record, read_records, write_record
from tests.harness.publishing.forging import MINI, backwards, hashed_again

PUBLISHED = sorted(path.parent for path in MINI.parent.glob("*/records"))

pytestmark = pytest.mark.usefixtures("labelled_once")


@pytest.fixture(scope="module", autouse=True)
def archived_labels() -> Iterator[None]:
    """Archived labels are taken as they are, and not made again from their specification."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.publishing.rescoring.doubt_of", lambda *_: None)
        yield


def published(source: Path, folder: Path, rows: str) -> Path:
    """The rows of a publication whose names match a pattern, published without a page."""
    for path in (*source.glob(f"*/{rows}"), *source.glob("labels/*")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.parent.name)
    hashed_again(folder)
    return folder


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Both arms of a detector of the mini suite."""
    return published(MINI, tmp_path / "mini", "*-resa_micro-*")


@pytest.fixture
def two_seeds(tmp_path: Path) -> Path:
    """Two seeds of both arms of a detector."""
    return published(MINI.parent / "rendered-reduced", tmp_path / "seeds", "hard-ufldv2_micro-*-s[01]-*")


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_no_publication_here_is_marked(
    folder: Path,
) -> None:
    records = read_records(folder / "records")
    assert copies(records, {}) == []
    assert list(unlike_starts(folder, records)) == []
    assert unseen_starts(folder, records) == []
    assert late_logs(folder, records) == []
    assert list(several_weights(records)) == []


def test_an_oracle_of_several_weights_is_marked_with_its_rows(two_seeds: Path) -> None:
    """Each seed trained on a machine that had pre-trained the oracle for itself."""
    assert verify(two_seeds).marks == ()
    first, second = sorted((two_seeds / "records").glob("*-samiro-*.json"))
    record = read_any_record(second).record
    own = [one.model_copy(update={"sha256": "0" * 64}) if one.kind == "oracle" else one for one in record.artefacts]
    write_record(two_seeds / "records", record.model_copy(update={"artefacts": tuple(own)}))
    hashed_again(two_seeds)
    found = verify(two_seeds)
    assert found.sound
    weights = next(one.sha256 for one in read_any_record(first).record.artefacts if one.kind == "oracle")
    assert found.marks == (
        f"oracle mim:resnet_micro has several weights: 1 row with {weights[:12]}, the first is {first.stem}; "
        f"1 row with 000000000000, the first is {second.stem}",
    )


def test_an_oracle_of_unlike_weights_under_unlike_keys_is_marked(two_seeds: Path) -> None:
    one, other = (read_any_record(path).record for path in sorted((two_seeds / "records").glob("*-samiro-*.json")))
    own = [
        kept.model_copy(update={"sha256": "0" * 64, "key": "1" * 64}) if kept.kind == "oracle" else kept
        for kept in other.artefacts
    ]
    (told,) = several_weights([one, other.model_copy(update={"artefacts": tuple(own)})])
    assert told.startswith("oracle mim:resnet_micro has several weights: 1 row with")


def taken(folder: Path, name: str, donor: str, *, turned: bool = False) -> None:
    """Publish the predictions of `donor` and all that follows from them as those of `name`; turned: their lanes in another order."""
    for kind, suffix in (("records", "counts.npz"), ("predictions", "npz")):
        shutil.copyfile(folder / kind / f"{donor}.test.{suffix}", folder / kind / f"{name}.test.{suffix}")
    record, other = (read_any_record(folder / "records" / f"{one}.json").record for one in (name, donor))
    (evaluation,) = other.evaluations
    changes = {"counts_file": counts_path(folder, name, "test").name}
    if turned:
        changes["predictions_sha256"] = backwards(folder / f"predictions/{name}.test.npz")
    write_record(
        folder / "records", record.model_copy(update={"evaluations": (evaluation.model_copy(update=changes),)})
    )
    hashed_again(folder)


@pytest.mark.parametrize("turned", [False, True], ids=["as they are", "lanes reordered"])
def test_the_baselines_predictions_as_the_methods_are_marked_and_nothing_else_of_the_row_differs(
    mini: Path, turned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    baseline, method = (path.stem for path in sorted((mini / "records").glob("*.json")))
    taken(mini, method, baseline, turned=turned)
    assert main(["verify", "mini", "--published", str(mini.parent)]) == 0
    said = capsys.readouterr().out
    mark = f"equal predictions or sums under several names, 1 times: {baseline}, test; {method}, test"
    assert f"mark: {mark}\n" in said


def test_one_seeds_predictions_as_anothers_are_marked(two_seeds: Path) -> None:
    first, second = (path.stem for path in sorted((two_seeds / "records").glob("*-samiro-*.json")))
    taken(two_seeds, second, first, turned=True)
    assert copies(read_records(two_seeds / "records"), {}) == [
        f"equal predictions or sums under several names, 1 times: {first}, test; {second}, test"
    ]


def test_seeds_named_anew_in_one_arm_alone_show_in_the_first_losses(two_seeds: Path) -> None:
    records = read_records(two_seeds / "records")
    assert list(unlike_starts(two_seeds, records)) == []
    first, second = sorted((two_seeds / "training").glob("*-samiro-*.jsonl"))
    first.rename(two_seeds / "kept")
    second.rename(first)
    (two_seeds / "kept").rename(second)
    told = list(unlike_starts(two_seeds, records))
    assert [line.partition(" and ")[0] for line in told] == [first.stem, second.stem]
    assert all("began with unlike losses: 'row_location' of step 1 is" in line for line in told)


def other_losses(folder: Path) -> None:
    """Change a loss at step 1 of every training by the method, by the last digit that is written."""
    for log in (folder / "training").glob("*-samiro-*.jsonl"):
        first, *rest = log.read_text().splitlines()
        entry = json.loads(first)
        entry["losses"]["row_location"] = math.nextafter(entry["losses"]["row_location"], 0)
        log.write_text("\n".join([json.dumps(entry), *rest]))


def altered(record: Record, environment: Mapping[str, str], method: Mapping[str, str], threads: int = 1) -> Record:
    """A record from elsewhere, of a method with other options."""
    configuration = {**record.identity.method_configuration, **method}
    identity = record.identity.model_copy(update={"method_configuration": configuration, "threads": threads})
    changes = {"identity": identity, "environment": record.environment.model_copy(update=environment)}
    return record.model_copy(update=changes)


@pytest.mark.parametrize(
    ("method", "both", "compared", "why"),
    [
        ({"method": {"gate": "cbam", "attention": "none"}}, {}, True, None),
        ({"method": {"gate": "cbam", "site": "regularizer"}}, {}, True, None),
        ({"method": {"gate": "cbam"}}, {}, False, None),
        ({"environment": {"cpu": "another"}}, {}, False, "of unlike torch, CPU or device"),
        ({"environment": {"torch": "another"}}, {}, False, "of unlike torch, CPU or device"),
        ({"environment": {"device": "a GPU"}}, {}, False, "of unlike torch, CPU or device"),
        ({}, {"environment": {"device": "a GPU"}}, False, "of another device than a CPU"),
        ({"threads": 2}, {}, False, None),
    ],
    ids=[
        "no gates", "gates outside the stream", "gates that are not neutral at first", "on two machines", "of two torches",
        "of a GPU and a CPU", "of one GPU", "of other threads",
    ],
)  # fmt: skip
def test_first_losses_are_compared_only_where_they_are_equal_by_right_and_how_many_are_not_is_told(
    two_seeds: Path, method: dict[str, Any], both: dict[str, Any], compared: bool, why: str | None
) -> None:
    """Nothing is told of pairs that the table names as none, and of methods whose first pass is their own: the suite fixes those."""
    other_losses(two_seeds)
    records = read_records(two_seeds / "records")
    assert len(list(unlike_starts(two_seeds, records))) == 2
    nothing: dict[str, Any] = {"environment": {}, "method": {}}
    changed = [
        altered(record, **(nothing | both | (method if record.identity.method == "samiro" else {})))
        for record in records
    ]
    assert len(list(unlike_starts(two_seeds, changed))) == (2 if compared else 0)
    first = min(record.id for record in changed if record.identity.method == "samiro")
    assert unseen_starts(two_seeds, changed) == (
        [f"how 2 of 2 pairs began can't be looked at: 2 {why}; the first is of {first}"] if why else []
    )


def test_a_log_whose_first_line_was_cut_is_marked_with_the_pairs_that_it_hides(two_seeds: Path) -> None:
    """Seeds of one arm named anew, and the line that gives it away left out."""
    first, second = sorted((two_seeds / "training").glob("*-samiro-*.jsonl"))
    log = first.read_text().splitlines(keepends=True)
    first.write_text("".join(log[1:]))
    write_sums(two_seeds)
    records = read_records(two_seeds / "records")
    assert list(unlike_starts(two_seeds, records)) == []
    told = (
        f"training log of 1 of 4 rows doesn't begin at step 1, the first is {first.stem}",
        f"how 1 of 2 pairs began can't be looked at: 1 without a log from step 1 on; the first is of {first.stem}",
    )
    found = verify(two_seeds)
    assert found.sound
    assert found.marks == told
    second.write_text(second.read_text().replace('"step": 1,', '"step": 11,', 1))
    assert late_logs(two_seeds, records)[0].startswith("training log of 2 of 4 rows")
    assert unseen_starts(two_seeds, records)[0].startswith("how 2 of 2 pairs began can't be looked at: 2 without")


@pytest.mark.parametrize("method", ["baseline", "samiro"])
def test_a_first_loss_under_another_name_is_an_unlike_start(two_seeds: Path, method: str) -> None:
    for log in (two_seeds / "training").glob(f"*-{method}-*.jsonl"):
        first, *rest = log.read_text().splitlines()
        log.write_text("\n".join([first.replace('"row_location"', '"rows"'), *rest]))
    told = list(unlike_starts(two_seeds, read_records(two_seeds / "records")))
    assert len(told) == 2
    assert all("of step 1 is None and" in line for line in told)


def test_unlike_first_losses_are_marked_and_nothing_else_differs(mini: Path) -> None:
    for log in (mini / "training").glob("*-samiro-*.jsonl"):
        first, *rest = log.read_text().splitlines()
        entry = json.loads(first)
        losses = {name: value + 1 for name, value in entry["losses"].items()}
        log.write_text("\n".join([json.dumps({**entry, "losses": losses}), *rest]))
    write_sums(mini)
    found = verify(mini)
    assert found.sound
    (mark,) = found.marks
    assert "said to be a pair, began with unlike losses" in mark


def test_a_log_that_is_none_is_named(two_seeds: Path) -> None:
    log = min((two_seeds / "training").glob("*-samiro-*.jsonl"))
    log.write_text("[" * 100_000)
    (told,) = unlike_starts(two_seeds, read_records(two_seeds / "records"))
    assert told.startswith(f"{log}: not the log of a training")
    assert late_logs(two_seeds, read_records(two_seeds / "records")) == [], "what isn't one is told as a fault"
    log.unlink()
    assert list(unlike_starts(two_seeds, read_records(two_seeds / "records"))) == []
