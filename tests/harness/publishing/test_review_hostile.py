"""Bombs, links, tricks of YAML, names that lead elsewhere and whatever is too large are refused in a line."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.publishing.checksums import write_sums
from harness.publishing.examine import examine
from harness.publishing.expected import ExpectedSuite
from harness.publishing.labels import unpack_labels
from harness.publishing.quarantine import Bounds, read_strange_yaml
from harness.publishing.statement import STATEMENT_FILE, SUITE_FILE
from tests.harness.publishing.forging import BOUNDS, LABELS, PREDICTIONS, RECORD, sealed, told

pytestmark = pytest.mark.usefixtures("labelled_once")


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


def forged_table(folder: Path) -> None:
    """A row more in a table, which SHA256SUMS then agrees with."""
    with open(folder / "leaderboard.csv", "a") as stream:
        stream.write("mine is best\n")
    write_sums(folder)


def photograph_among_labels(folder: Path) -> None:
    with np.load(folder / LABELS) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, more in (("names", b"\nphotograph.jpg"), ("content", bytes(9))):
        arrays[name] = np.append(arrays[name], np.frombuffer(more, np.uint8))
    arrays["sizes"] = np.append(arrays["sizes"], 9)
    np.savez_compressed(folder / LABELS, **arrays)
    write_sums(folder)


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


def billion_laughs(path: Path, digits: int = 10) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, digits)]
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


def stuffed_stream(folder: Path) -> None:
    """Predictions whose last array has a photograph behind the end of its deflate stream, of which its size in the archive tells."""
    data, photograph = (folder / PREDICTIONS).read_bytes(), b"photograph" * 900
    end = data.rindex(b"PK\x05\x06")
    directory = struct.unpack_from("<I", data, end + 16)[0]
    last = data.rindex(b"PK\x01\x02")
    body, tail = bytearray(data[:directory] + photograph), bytearray(data[directory:])
    (size,) = struct.unpack_from("<I", tail, last - directory + 20)
    struct.pack_into("<I", tail, last - directory + 20, size + len(photograph))
    struct.pack_into("<I", tail, end - directory + 16, directory + len(photograph))
    (folder / PREDICTIONS).write_bytes(body + tail)
    write_sums(folder)


HOSTILE = [
    (bomb(200), "would unpack from"),
    (bomb(64), "500 times its size"),
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
    (stuffed_stream, "a member has bytes beside its array"),
    (lambda folder: write(folder / "leaderboard.md", "<script>"), "was changed"),
    (forged_table, "leaderboard.csv: line "),
    (photograph_among_labels, "photograph.jpg isn't what the specification gives"),
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


def test_aliases_that_come_to_a_number_too_long_to_be_written_are_refused(tmp_path: Path) -> None:
    """Python writes 4,300 digits, which take it a second to read here, and 640 at the least that can be set."""
    billion_laughs(tmp_path / SUITE_FILE, digits=650)
    written = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(InputError, match="nodes with its aliases written out"):
            read_strange_yaml(tmp_path / SUITE_FILE)
    finally:
        sys.set_int_max_str_digits(written)


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
        (Bounds(archive_bytes=1000), "the limits are 1000 bytes and"),
        (Bounds(unpacked_bytes=1000), "would unpack to"),
    ],
)
def test_too_much_in_all_is_refused(alice: Path, suite: ExpectedSuite, bounds: Bounds, said: str) -> None:
    assert said in told(examine(alice, "alice", suite, bounds))


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
