"""A sound submission is accepted; whatever is forged, hostile, too large or of another suite is refused with its reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.counts import read_counts, scope_scores, write_counts
from harness.datasets.predictions import pack_predictions, predictions_sha256, unpack_predictions
from harness.errors import InputError
from harness.files import sha256_of_file
from harness.lanes import Lane
from harness.publishing import examine as examining
from harness.publishing.copies import known_predictions
from harness.publishing.demands import demands_of
from harness.publishing.examine import Verdict, examine, statement_of
from harness.publishing.expected import FOREIGN, ExpectedSuite
from harness.publishing.labels import unpack_labels
from harness.publishing.quarantine import Bounds
from harness.publishing.rescoring import ABSENT
from harness.publishing.review import KEPT, Review, environment_of, lines_of, review, to_summary
from harness.publishing.statement import STATEMENT_FILE, SUITE_FILE, Statement, write_statement
from harness.publishing.submissions import INDEX, submissions_in, to_index
from harness.publishing.sums import write_sums
from harness.publishing.tables import write_tables
from harness.records import Evaluation, Record, identity_hash, read_records, write_record
from harness.rendered.dataset import label_dataset
from harness.rendered.spec import RenderSpec, dataset_key
from harness.report.leaderboard import leaderboard
from harness.report.published import read_published

ROOT = Path(__file__).resolve().parents[3]
MINI = ROOT / "results" / "mini"
RECORD = next(path.stem for path in sorted((MINI / "records").glob("*resa_micro-baseline*.json")))
OTHER = next(path.stem for path in sorted((MINI / "records").glob("*ufldv2_micro-baseline*.json")))
PREDICTIONS = f"predictions/{RECORD}.test.npz"
(LABELS,) = (f"labels/{path.name}" for path in (MINI / "labels").iterdir())
BOUNDS = Bounds()


@pytest.fixture(scope="module", autouse=True)
def labelled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The mini suite's labels are made once for all tests here; later ones get copies."""
    made: dict[str, Path] = {}

    def label_once(spec: RenderSpec, root: Path) -> None:
        key = dataset_key(spec)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("labels")
            label_dataset(spec, made[key])
        shutil.copytree(made[key], root, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.publishing.labels.label_dataset", label_once)
        yield


@pytest.fixture(scope="module")
def suite() -> ExpectedSuite:
    """What the mini suite demands, as the examining process gets it."""
    return ExpectedSuite.model_validate_json(demands_of("mini").model_dump_json())


def submission(target: Path, *records: str) -> Path:
    """A submission of some published rows of the mini suite."""
    for kind in ("records", "predictions", "training", "labels"):
        (target / kind).mkdir(parents=True)
        for path in (MINI / kind).glob("*") if (MINI / kind).is_dir() else ():
            if kind == "labels" or path.name.startswith(records):
                shutil.copy(path, target / kind / path.name)
    shutil.copy(ROOT / "suites/mini.yaml", target / SUITE_FILE)
    sealed(target)
    return target


@pytest.fixture(scope="module")
def one_row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submission(tmp_path_factory.mktemp("submissions") / "mini/alice", RECORD)


@pytest.fixture
def alice(one_row: Path, tmp_path: Path) -> Path:
    """A submission of one row, to be damaged."""
    return Path(shutil.copytree(one_row, tmp_path / "mini/alice"))


def sealed(folder: Path, **stated: object) -> None:
    """Make tables, statement and hashes agree with the records, as a careful forger would."""
    records = read_records(folder / "records")
    write_tables(folder, leaderboard(records, folder / "records", read_published()))
    own = {"suite": "mini", "name": "alice", "who": "Alice Example", "contact": "https://example.org/alice"}
    write_statement(folder, Statement.model_validate({**own, **statement_of(records), **stated}))
    write_sums(folder)


def changed(folder: Path, edit: Callable[[Record], Record]) -> Record:
    """Change the record of a submission, hashed and sealed again; it and its files are renamed if its identity says so."""
    (record,) = read_records(folder / "records")
    made = edit(record)
    if made.identity != record.identity:
        identity = made.identity
        name = (
            f"{identity.dataset}-{identity.detector}-{identity.method}-s{identity.seed}-{identity_hash(identity)[:10]}"
        )
        evaluations = tuple(
            one.model_copy(update={"counts_file": one.counts_file.replace(record.id, name)}) for one in made.evaluations
        )
        made = made.model_copy(update={"id": name, "evaluations": evaluations})
        for path in sorted(folder.glob(f"*/{record.id}.*")):
            path.rename(path.with_name(path.name.replace(record.id, name)))
    (folder / "records" / f"{record.id}.json").unlink(missing_ok=True)
    (folder / "records" / f"{made.id}.json").unlink(missing_ok=True)
    write_record(folder / "records", made)
    sealed(folder)
    return made


def evaluated(record: Record, **update: object) -> Record:
    return record.model_copy(update={"evaluations": (record.evaluations[0].model_copy(update=update),)})


def identified(**update: object) -> Callable[[Record], Record]:
    return lambda record: record.model_copy(update={"identity": record.identity.model_copy(update=update)})


def told(found: Verdict) -> str:
    return "\n".join(found.reasons)


def copied(folder: Path, edit: Callable[[Record], Record]) -> None:
    """A second record beside the first, with files of its own, sealed."""
    (record,) = read_records(folder / "records")
    made = edit(record)
    identity = made.identity
    name = f"{identity.dataset}-{identity.detector}-{identity.method}-s{identity.seed}-{identity_hash(identity)[:10]}"
    for path in [*folder.glob(f"*/{record.id}.*.npz")]:
        shutil.copy(path, path.with_name(path.name.replace(record.id, name)))
    evaluation = record.evaluations[0]
    renamed = evaluated(made, counts_file=evaluation.counts_file.replace(record.id, name))
    write_record(folder / "records", renamed.model_copy(update={"id": name}))
    sealed(folder)


def test_a_seed_that_is_there_twice_is_refused(alice: Path, suite: ExpectedSuite) -> None:
    copied(alice, identified(micro_batch_size=8))
    assert "key 'identity.seed': seed 0 of this row is also" in told(examine(alice, "alice", suite, BOUNDS))


def test_rows_of_detectors_from_elsewhere_do_not_make_a_suite_whole(alice: Path, suite: ExpectedSuite) -> None:
    one = next(
        cell for cell in suite.cells if cell.identity.detector == "resa_micro" and cell.identity.method != "samiro"
    )
    two = one.model_copy(update={"identity": one.identity.model_copy(update={"seed": 1})})
    copied(alice, identified(detector="mine"))
    found = examine(alice, "alice", suite.model_copy(update={"cells": (one, two)}), BOUNDS)
    assert found.reasons == ()
    assert "part of the suite: 1 of 2 cells" in found.marks
    assert any(mark.startswith("equal predictions under several names, 1 times") for mark in found.marks)


def test_a_copy_of_published_or_submitted_rows_is_accepted_with_that_said(alice: Path, tmp_path: Path) -> None:
    known = known_predictions(ROOT / "results", "mini", "alice")
    (record,) = read_records(alice / "records")
    assert known[record.evaluations[0].predictions_sha256] == f"mini, {RECORD}, test"
    found = review(alice)
    assert found.accepted
    said = f"predictions copied or repeated exactly, 1 times: {RECORD}, test are mini, {RECORD}, test"
    assert said in found.verdict.marks
    shutil.copytree(alice, tmp_path / "results/submissions/mini/bob")
    assert "submissions/mini/bob" in next(iter(known_predictions(tmp_path / "results", "mini", "alice").values()))
    assert known_predictions(tmp_path / "results", "mini", "bob") == {}


def test_labels_are_laid_out_only_once_they_are_known_to_be_the_specifications(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an archive of 20 MB has some million folders made."""
    facts = unpack_labels(alice / LABELS).facts
    names = "\n".join(f"{number}/x" for number in range(1000))
    arrays = {"facts": facts.model_dump_json().encode(), "names": names.encode(), "content": b""}
    np.savez_compressed(
        alice / LABELS,
        sizes=np.zeros(1000, np.int64),
        **{name: np.frombuffer(content, np.uint8) for name, content in arrays.items()},
    )
    sealed(alice)
    monkeypatch.setattr("harness.publishing.rescoring.laid_out", pytest.fail)
    assert "isn't what the specification gives" in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    "sign", ["\u202e", "\u2066", "\u200f", "\u200b", "\u2028", "\x9b", "\U000e0041", "\xad", "\ufeff"]
)
def test_signs_that_turn_or_hide_text_reach_no_reader(alice: Path, suite: ExpectedSuite, sign: str) -> None:
    path = alice / STATEMENT_FILE
    path.write_text(path.read_text().replace("Alice Example", json.dumps(f"Alice{sign}Example")), encoding="utf-8")
    write_sums(alice)
    said = told(examine(alice, "alice", suite, BOUNDS))
    assert "key 'who'" in said
    assert said.isascii()
    sealed(alice)
    with open(alice / "SHA256SUMS", "a", encoding="utf-8") as stream:
        stream.write(f"{'0' * 64}  x{sign}y\n")
    said = told(examine(alice, "alice", suite, BOUNDS))
    assert "SHA256SUMS" in said
    assert said.isprintable() or all(line.isprintable() for line in said.splitlines())


def test_one_sound_row_is_accepted_and_said_to_be_part_of_the_suite(alice: Path, suite: ExpectedSuite) -> None:
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert (found.rows, found.verified, found.who) == (1, 1, "Alice Example")
    assert found.marks == ("part of the suite: 1 of 4 cells",)


def test_a_forged_score_is_refused_though_record_tables_and_sums_agree_with_it(
    alice: Path, suite: ExpectedSuite
) -> None:
    def forge(record: Record) -> Record:
        total = record.evaluations[0].total.model_copy(update={"f1_50": 0.99})
        return evaluated(record, total=total)

    (honest,) = read_records(alice / "records")
    forge_in_place(alice, forge)
    found = examine(alice, "alice", suite, BOUNDS)
    # The first three decimals of what it was before.
    before = re.escape(str(honest.evaluations[0].total.f1_50)[:5])
    assert re.search(rf"f1_50: recorded 0\.99, its counts give {before}", told(found))
    assert re.search(rf"re-scored {before}", told(found))


def forge_in_place(folder: Path, edit: Callable[[Record], Record]) -> None:
    """Change a record and the sums alone: tables of rows that contradict their counts can't be made."""
    (record,) = read_records(folder / "records")
    write_record(folder / "records", edit(record))
    write_sums(folder)


def better(folder: Path) -> Callable[[Record], Record]:
    """One lane more found, in counts and every score that rests on them."""

    def edit(record: Record) -> Record:
        evaluation = record.evaluations[0]
        path = folder / "records" / evaluation.counts_file
        counts: Any = read_counts(path)
        found = counts.true_positives.copy()
        found[int(np.flatnonzero(found[:, 0] < np.minimum(counts.labels, counts.predictions))[0]), 0] += 1
        return rescored(record, path, replace(counts, true_positives=found))

    return edit


def rescored(record: Record, path: Path, counts: Any) -> Record:
    write_counts(path, counts)
    evaluation: Evaluation = record.evaluations[0]
    return evaluated(
        record,
        counts_sha256=sha256_of_file(path),
        total=scope_scores(counts),
        scenarios={name: scope_scores(counts, counts.scenario == name) for name in evaluation.scenarios},
    )


def test_forged_counts_are_refused_though_every_score_and_hash_agrees_with_them(
    alice: Path, suite: ExpectedSuite
) -> None:
    changed(alice, better(alice))
    found = examine(alice, "alice", suite, BOUNDS)
    assert "true_positives: recorded" in told(found)
    assert "f1_50: recorded" in told(found)
    assert "counts give" not in told(found)


@pytest.mark.parametrize("hashed_again", [False, True])
def test_forged_predictions_are_refused(alice: Path, suite: ExpectedSuite, hashed_again: bool) -> None:
    ids, lanes = unpack_predictions(alice / PREDICTIONS)
    lanes = [[Lane(lane.points + np.float32(40), lane.score) for lane in found] for found in lanes]
    pack_predictions(alice / PREDICTIONS, ids, lanes)
    digest = predictions_sha256(ids, lanes)
    changed(alice, lambda record: evaluated(record, predictions_sha256=digest) if hashed_again else record)
    said = told(examine(alice, "alice", suite, BOUNDS))
    assert ("true_positives: recorded" in said) == hashed_again
    assert ("key 'predictions_sha256'" in said) != hashed_again


def other_spec(facts: Any) -> Any:
    return facts.model_copy(update={"spec": facts.spec.model_copy(update={"seed": 7})})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (other_spec, "key 'spec'"),
        (lambda facts: facts.model_copy(update={"lane_width": 300}), "key 'lane_width' is 300"),
        (lambda facts: facts.model_copy(update={"renderer": "1"}), "key 'renderer' is '1'"),
    ],
)
def test_labels_of_another_specification_than_the_suites_are_refused_before_any_is_made(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Any], Any], said: str
) -> None:
    facts = edit(unpack_labels(alice / LABELS).facts)
    with np.load(alice / LABELS) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["facts"] = np.frombuffer(facts.model_dump_json().encode(), np.uint8)
    np.savez_compressed(alice / LABELS, **arrays)
    sealed(alice)
    monkeypatch.setattr(examining, "verify", pytest.fail)
    assert said in told(examine(alice, "alice", suite, BOUNDS))


def test_rows_of_another_suite_are_refused_by_key(tmp_path: Path, suite: ExpectedSuite) -> None:
    """Predictions made from another suite's labels: a whole, sound publication of its own."""
    ablation = ROOT / "results/ablation"
    name = next(path.stem for path in sorted((ablation / "records").glob("roads-*-baseline-s0-*.json")))
    folder = tmp_path / "mini/alice"
    for kind in ("records", "predictions"):
        (folder / kind).mkdir(parents=True)
        for path in (ablation / kind).glob(f"{name}.*"):
            shutil.copy(path, folder / kind)
    shutil.copytree(ablation / "labels", folder / "labels")
    shutil.copy(ROOT / "suites/ablation.yaml", folder / SUITE_FILE)
    sealed(folder)
    said = told(examine(folder, "alice", suite, BOUNDS))
    assert "key 'identity.dataset_key.rendered' is" in said
    assert "key 'evaluations.test.dataset_sha256' is" in said
    assert "key 'suite' is 'ablation', this repository's suite gives 'mini'" in said


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda record: evaluated(record, metric="culane/official-2"),
            "key 'evaluations.test.metric' is 'culane/official-2'",
        ),
        (lambda record: record.model_copy(update={"selected_on": "test"}), "key 'selected_on' is 'test'"),
        (lambda record: record.model_copy(update={"suite": "paper"}), "key 'suite' is 'paper'"),
        (identified(seed=7), "key 'identity.seed' is 7, the suite has 0"),
        (identified(threads=64), "key 'identity.threads' is 64, this repository's suite gives 1"),
        (identified(method="magic"), "key 'identity.method' is 'magic', the suite has baseline, samiro"),
        (
            identified(detector="clrnet_micro"),
            "key 'identity.detector' is 'clrnet_micro', which the suite doesn't have",
        ),
        (identified(recipe={"steps": 10_000}), "key 'identity.recipe.steps' is 10000"),
        (identified(micro_batch_size=10_000), "key 'identity.micro_batch_size' is 10000"),
    ],
)
def test_what_the_suite_does_not_have_is_refused_by_key(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Record], Record], said: str
) -> None:
    changed(alice, edit)
    monkeypatch.setattr(examining, "verify", pytest.fail)
    assert said in told(examine(alice, "alice", suite, BOUNDS))


def test_a_smaller_micro_batch_is_the_suites_cell_all_the_same(alice: Path, suite: ExpectedSuite) -> None:
    changed(alice, identified(micro_batch_size=8))
    assert examine(alice, "alice", suite, BOUNDS).reasons == ()


def test_an_evaluation_that_was_left_out_is_refused(alice: Path, suite: ExpectedSuite) -> None:
    cells = tuple(
        cell.model_copy(update={"evaluations": {**cell.evaluations, "fog-5": cell.evaluations["test"]}})
        for cell in suite.cells
    )
    said = told(examine(alice, "alice", suite.model_copy(update={"cells": cells}), BOUNDS))
    assert "key 'evaluations' is ['test'], this repository's suite gives ['fog-5', 'test']" in said


def test_a_detector_from_elsewhere_is_accepted_with_its_mark(alice: Path, suite: ExpectedSuite) -> None:
    changed(
        alice, lambda record: identified(detector="mine", recipe={"steps": 9}, detector_meta={"name": "mine"})(record)
    )
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert found.marks[0].startswith(FOREIGN)
    changed(alice, identified(threads=3))
    assert "key 'identity.threads' is 3" in told(examine(alice, "alice", suite, BOUNDS))


def test_rows_of_a_licensed_dataset_are_accepted_as_unverified_where_it_is_absent(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(alice / "nowhere"))
    key = {"real": "roads", "form": "culane"}
    cells = tuple(
        cell.model_copy(
            update={
                "identity": cell.identity.model_copy(update={"dataset_key": key}),
                "evaluations": {"test": cell.evaluations["test"].model_copy(update={"dataset_sha256": None})},
            }
        )
        for cell in suite.cells
    )
    licensed = suite.model_copy(update={"cells": cells, "labels": {}})
    changed(alice, lambda record: evaluated(identified(dataset_key=key)(record), dataset_sha256="a" * 64))
    assert f"'{LABELS}': no record needs it" in told(examine(alice, "alice", licensed, BOUNDS)), (
        "labels that may not be in it"
    )
    shutil.rmtree(alice / "labels")
    sealed(alice)
    found = examine(alice, "alice", licensed, BOUNDS)
    assert found.reasons == ()
    assert (found.rows, found.verified) == (1, 0)
    assert found.marks[0].startswith(f"1 unverified here: {ABSENT}")


def bomb(megabytes: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with (
            zipfile.ZipFile(folder / PREDICTIONS, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("coordinates.npy", "w") as stream,
        ):
            for _ in range(megabytes):
                stream.write(bytes(1 << 20))

    return write


def linked(folder: Path) -> None:
    (folder / PREDICTIONS).unlink()
    (folder / PREDICTIONS).symlink_to("/etc/passwd")


def linked_folder(folder: Path) -> None:
    shutil.move(folder / "records", folder.parent / "elsewhere")
    (folder / "records").symlink_to(folder.parent / "elsewhere")


def hard_linked(folder: Path) -> None:
    os.link(folder / PREDICTIONS, folder.parent / "second")


def named(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).parent.mkdir(exist_ok=True, parents=True) or write(folder / name, "x")


def write(path: Path, text: str) -> None:
    path.write_text(text)


def enlarged(folder: Path) -> None:
    with open(folder / PREDICTIONS, "ab") as stream:
        stream.truncate(BOUNDS.file_bytes + 1)


def extra_array(folder: Path) -> None:
    with zipfile.ZipFile(folder / PREDICTIONS, "a") as archive:
        archive.writestr("image.npy", b"a photograph")


def traversing(folder: Path) -> None:
    with zipfile.ZipFile(folder / PREDICTIONS, "a") as archive:
        archive.writestr("../../escaped.npy", b"x")


def billion_laughs(path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    path.write_text("\n".join(rows))


def merged(path: Path) -> None:
    rows = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10))]
    path.write_text("\n".join(rows))


def stated(key: str, value: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        lines = (folder / STATEMENT_FILE).read_text().splitlines()
        kept = [line for line in lines if not line.startswith(f"{key}:")]
        write(folder / STATEMENT_FILE, "\n".join([*kept, f"{key}: {value}"]))

    return edit


def headed(kind: str, shape: str) -> Callable[[Path], None]:
    """The names of images under another header than numpy writes."""

    def edit(folder: Path) -> None:
        (path,) = (folder / "records").glob("*.npz")
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
        members["image.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x\0\0\0"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        write_sums(folder)

    return edit


def stuffed(before: bool) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data, photograph = (folder / PREDICTIONS).read_bytes(), bytes(9_000)
        (folder / PREDICTIONS).write_bytes(photograph + data if before else data + photograph)

    return edit


HOSTILE = [
    (bomb(200), "would unpack from"),
    (bomb(64), "300 times its size"),
    (linked, "a symbolic link"),
    (linked_folder, "'records': a symbolic link"),
    (lambda folder: os.mkfifo(folder / "records/pipe.json"), "a pipe, a socket or a device"),
    (hard_linked, "a hard link"),
    (named("adapter.py"), "'adapter.py': no part of a submission"),
    (named("images/0.jpg"), "'images': no folder of a submission"),
    (named("records/sub/x.json"), "'records/sub': no folder of a submission"),
    (named("records/..\\x.json"), "have plain names"),
    (named("records/\x1b[2J.json"), r"'records/\x1b[2J.json': files in records/ have plain names"),
    (named("predictions/photo.npz"), "predictions/photo.npz: not an archive of arrays"),
    (enlarged, f"{BOUNDS.file_bytes + 1} bytes, and the limit is {BOUNDS.file_bytes} a file"),
    (extra_array, "holds 'image', which no such archive does"),
    (traversing, "holds '../../escaped', which no such archive does"),
    (lambda folder: billion_laughs(folder / SUITE_FILE), "nodes with its aliases written out"),
    (lambda folder: merged(folder / STATEMENT_FILE), "nodes with its aliases written out"),
    (lambda folder: write(folder / SUITE_FILE, "a: &a [*a]"), "nodes with its aliases written out"),
    (lambda folder: write(folder / SUITE_FILE, "[" * 100_000), "nested too deeply"),
    (lambda folder: write(folder / SUITE_FILE, "x" * 300_000), "300000 bytes, and the limit is 262144"),
    (lambda folder: write(folder / STATEMENT_FILE, "!!python/object/apply:os.system [id]"), "not YAML"),
    (lambda folder: (folder / STATEMENT_FILE).unlink(), "submission.yaml is missing"),
    (lambda folder: (folder / LABELS).unlink(), f"'{LABELS}': missing, though a record needs it"),
    (lambda folder: shutil.copy(folder / PREDICTIONS, folder / "predictions/more.npz"), "'predictions/more.npz': no record needs it"),
    (lambda folder: write(folder / f"training/{RECORD}.jsonl", "<html>"), "not the log of a training"),
    (lambda folder: write(folder / f"training/{RECORD}.jsonl", '{"step": 1e999, "loss": 1}'), "not the log of a training"),
    (lambda folder: write(folder / f"training/{RECORD}.jsonl", "[" * 100_000), ".jsonl: not the log of a training"),
    (lambda folder: write(folder / f"training/{RECORD}.jsonl", f'{{"step": 1, "loss": {"9" * 4000}}}'), "not the log of a"),
    (stated("cells", "0x" + "f" * 100_000), "key 'cells' can't be a number of thousands of digits"),
    (stated("record_version", "1" + ":1" * 9_000), "key 'record_version' can't be a number"),
    (headed("<U1", "()"), "'image' holds something else"),
    (headed("<U1", "(True,)"), "of a kind that no writer here makes"),
    (headed("|O", "(1,)"), "of a kind that no writer here makes"),
    (headed("<U1", "(1000000000000,)"), "cannot reshape"),
    (stuffed(before=True), "bytes beside its arrays"),
    (stuffed(before=False), "bytes beside its arrays"),
    (lambda folder: write(folder / "leaderboard.md", "<script>"), "was changed"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), HOSTILE)
def test_hostile_files_are_refused_in_a_line(
    alice: Path, suite: ExpectedSuite, damage: Callable[[Path], None], said: str
) -> None:
    damage(alice)
    found = examine(alice, "alice", suite, BOUNDS)
    assert said in told(found)
    assert str(alice.parent) not in told(found)
    assert told(found).isascii()


def test_a_bomb_is_refused_before_anything_is_unpacked(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(200)(alice)
    monkeypatch.setattr("zlib.decompressobj", pytest.fail)
    assert "would unpack from" in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (Bounds(files=5), "more than 5 files"),
        (Bounds(total_bytes=1000), "bytes in all, and the limit is 1000"),
        (Bounds(unpacked_bytes=1000), "would unpack to"),
    ],
)
def test_too_much_in_all_is_refused(alice: Path, suite: ExpectedSuite, bounds: Bounds, said: str) -> None:
    assert said in told(examine(alice, "alice", suite, bounds))


def test_records_of_another_version_are_refused_by_name(alice: Path, suite: ExpectedSuite) -> None:
    path = alice / "records" / f"{RECORD}.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 3', 1))
    write_sums(alice)
    assert "key 'schema_version' is 3, this program reads 2" in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"cells": 4}, "key 'cells' is 4, and it is 1"),
        ({"suite": "paper"}, "key 'suite' is 'paper', and it is 'mini'"),
        ({"name": "bob"}, "key 'name' is 'bob', and it is 'alice'"),
        ({"metrics": ("culane/official-2",)}, "key 'metrics'"),
    ],
)
def test_a_statement_that_is_not_so_is_refused(
    alice: Path, suite: ExpectedSuite, stated: dict[str, object], said: str
) -> None:
    sealed(alice, **stated)
    assert said in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("contact", "javascript:alert(1)"),
        ("contact", 'https://x"onload="'),
        ("contact", "https://github.com@evil.example/"),
        ("who", "two\nlines"),
        ("who", "x" * 101),
        ("licence", "all rights reserved"),
        ("statement", "maybe"),
    ],
)
def test_a_statement_of_another_form_is_refused_by_key(alice: Path, suite: ExpectedSuite, key: str, value: str) -> None:
    path = alice / STATEMENT_FILE
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*lines, f"{key}: {json.dumps(value)}"]))
    write_sums(alice)
    assert f"key '{key}'" in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    "contact",
    ["https://example.org:8443/~alice?x=1#a", "https://example.org", "https://example.org/@alice", "a.b@c.org"],
)
def test_addresses_are_contacts(contact: str) -> None:
    own = {"suite": "mini", "name": "alice", "who": "Zoë Ångström-李", "contact": contact}
    rest = {"record_version": 2, "metrics": (), "commits": (None,), "cells": 1}
    assert Statement.model_validate({**own, **rest}).contact == contact


def test_html_in_texts_shows_as_text(alice: Path, suite: ExpectedSuite) -> None:
    html = "<img src=x onerror=alert(1)>|[x](javascript:y)"
    changed(alice, lambda record: record.model_copy(update={"flags": (f"stale {html}",)}))
    sealed(alice, who=html)
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert html in (found.who or "")
    forged = Verdict(reasons=(html, "::add-mask::x", "##[group]"), who=html)
    for text in (
        to_index([Review("mini", "alice", found)]),
        to_index([Review("mini", "alice", forged)]),
        to_summary([Review("mini", html, forged)]),
        (alice / "leaderboard.md").read_text(),
    ):
        assert "<img" not in text
        assert "[x](javascript" not in text
    assert all(line.startswith(("mini/", "- ")) for line in lines_of([Review("mini", "alice", forged)]))


MARKER = "from pathlib import Path\nPath({!r}).write_text('imported')\n"


def test_code_that_a_submission_brings_or_names_is_never_imported(alice: Path, tmp_path: Path) -> None:
    marker = tmp_path / "imported"
    beside, inside = tmp_path / "adapter.py", alice / "detectors.py"
    for path in (beside, inside, alice / "harness.py", alice / "sitecustomize.py", alice / "numpy.py"):
        path.write_text(MARKER.format(str(marker)))
    text = (alice / SUITE_FILE).read_text().replace("  ufldv2_micro:", f"  {beside}:Mine:\n  detectors.py:Mine:")
    (alice / SUITE_FILE).write_text(text)
    found = review(alice)
    assert "'detectors.py': no part of a submission" in told(found.verdict)
    for path in alice.glob("*.py"):
        path.unlink()
    meta = {"name": "mine", "origin": {"file": str(beside), "sha256": sha256_of_file(beside)}}
    changed(alice, identified(detector="mine", detector_meta=meta))
    here = Path.cwd()
    os.chdir(alice)
    try:
        found = review(alice)
    finally:
        os.chdir(here)
    assert found.accepted, found.verdict.reasons
    assert found.verdict.marks[0].startswith(FOREIGN)
    assert not marker.exists()


def test_an_examination_that_takes_too_long_or_too_much_is_a_refusal(alice: Path) -> None:
    assert told(review(alice, Bounds(seconds=1)).verdict).startswith("not examined within 1 seconds")
    found = review(alice, Bounds(memory_bytes=200 << 20))
    assert "it has 200 MiB of memory" in told(found.verdict) or "MemoryError" in told(found.verdict)
    assert not found.accepted


def test_the_examining_process_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", "/data")
    kept = environment_of(Path("/place"))
    assert "secret" not in kept.values()
    assert kept["SAMIRO_BENCH_DATA_CULANE"] == "/data"
    assert set(kept) <= {*KEPT, "TMPDIR", *(name for name in os.environ if name.startswith("SAMIRO_BENCH_"))}


@pytest.mark.parametrize("name", ["nowhere", "../suites/mini", "mini.yaml", str(ROOT / "suites/mini.yaml")])
def test_only_suites_of_this_repository_count(name: str) -> None:
    with pytest.raises(InputError, match="this repository has no suite"):
        demands_of(name)


def test_the_command_says_what_came_out_and_its_exit_code_too(
    alice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    (alice / "notes.txt").write_text("mine")
    summary = tmp_path / "summary.md"
    assert main(["review", str(alice), "--summary", str(summary)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "mini/alice: REFUSED: 1 reason",
        "- 'notes.txt': no part of a submission; take it away",
    ]
    assert summary.read_text().startswith("### mini/alice\n\nREFUSED: 1 reason.\n")
    assert main(["review", str(alice), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["accepted"], said["submissions"][0]["accepted"]) == (False, False)
    assert main(["review", str(tmp_path / "nowhere")]) == 2
    assert main(["review"]) == 2
    assert main(["review", "--index", str(tmp_path)]) == 1
    page = (tmp_path / "README.md").read_text()
    assert "| mini | alice |  |  | 0 | refused: 'notes.txt': no part of a submission; take it away |" in page


def test_verify_works_on_a_submission_too(alice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.main import main

    assert main(["verify", "alice", "--published", str(alice.parent)]) == 0
    assert "1 of 1 rows verified" in capsys.readouterr().out


def test_what_a_killed_submit_left_is_no_submission(tmp_path: Path) -> None:
    for name in ("alice", ".alice.x1"):
        (tmp_path / "mini" / name).mkdir(parents=True)
    assert submissions_in(tmp_path) == [tmp_path / "mini/alice"]


def test_the_page_of_submissions_is_what_the_program_makes_of_them() -> None:
    folder = ROOT / "results/submissions"
    made = [review(path) for path in submissions_in(folder)]
    assert (folder / INDEX).read_text() == to_index(made)
    assert all(one.accepted for one in made)
