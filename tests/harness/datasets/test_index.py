"""The label index: what it holds, and when the cache is believed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.datasets import culane
from harness.datasets import index as index_module
from harness.datasets.base import read_bytes
from harness.datasets.culane import CULane
from harness.datasets.index import NotStoredWarning, cached_index, index_of, index_of_files, index_path
from harness.errors import InputError, InputWarning
from harness.lanes import near_to_far
from harness.processes.children import die_with_parent

frames_of_lanes = st.lists(
    st.lists(
        hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(2)), elements=st.floats(-500, 500, width=32)),
        max_size=4,
    ),
    max_size=5,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "list").mkdir(parents=True)
    (root / "list/train.txt").write_text("a.jpg\nb.jpg\n")
    (root / "a.lines.txt").write_text("1 20 3 10\n")
    (root / "b.lines.txt").write_text("")
    return root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels that are read from now on."""
    seen: list[str] = []
    original = culane.parse_lines
    monkeypatch.setattr(
        culane, "parse_lines", lambda data, **rest: seen.append(Path(rest["source"]).name) or original(data, **rest)
    )
    return seen


@given(frames=frames_of_lanes)
def test_an_index_returns_the_lanes_of_each_frame(frames) -> None:
    index = index_of(frames)
    assert len(index) == len(frames)
    for row, lanes in enumerate(frames):
        assert [lane.points.tolist() for lane in index.lanes(row)] == [near_to_far(lane).tolist() for lane in lanes]


@given(frames=frames_of_lanes)
def test_a_stored_index_is_the_built_one(frames, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = str(tmp_path_factory.mktemp("place"))
    built = cached_index(place, "key", lambda: index_of(frames))
    stored = cached_index(place, "key", lambda: pytest.fail("built again"))
    assert stored.content == built.content == index_of(frames).content
    for name in ("points", "lane_starts", "frame_starts"):
        assert np.array_equal(getattr(stored, name), getattr(built, name))


@given(one=frames_of_lanes, other=frames_of_lanes)
def test_only_equal_labels_have_equal_content(one, other) -> None:
    def plain(frames):
        return [[lane.view(np.int32).tolist() for lane in lanes] for lanes in frames]

    assert (index_of(one).content == index_of(other).content) == (plain(one) == plain(other))


def numbered(path: str) -> list[np.ndarray]:
    """The "label" of the file n: n % 4 lanes of n points; a module's function, as other processes need it."""
    number = int(Path(path).name)
    if number == 1234:
        raise InputError(f"{path}:7: damaged")
    return [np.full((number % 7, 2), number, np.float32)] * (number % 4)


@pytest.mark.parametrize("many", [100, 10**9])
def test_files_are_indexed_in_their_order_in_one_process_or_several(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_MANY_FILES", many)
    monkeypatch.setattr(index_module, "_CHUNK", 64)
    paths = [f"/x/{number}" for number in range(200)]
    assert index_of_files(paths, numbered).content == index_of(map(numbered, paths)).content
    with pytest.raises(InputError, match="/x/1234:7"):
        index_of_files([*paths, "/x/1234"], numbered)


@pytest.mark.parametrize(
    ("cores", "many", "daemon", "alone"),
    [(1, 1, False, True), (2, 9, False, True), (2, 1, True, True), (2, 8, False, False)],
)
def test_other_processes_read_where_there_are_cores_and_many_files_and_where_they_may_be_begun(
    cores: int, many: int, daemon: bool, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def asked(*_: object, initializer: object, initargs: object) -> None:
        assert (initializer, initargs) == (die_with_parent, (signal.SIGKILL, os.getpid()))
        raise Asked

    monkeypatch.setattr(index_module, "available_cores", lambda: cores)
    monkeypatch.setattr(index_module, "_MANY_FILES", many)
    monkeypatch.setattr(index_module, "ProcessPoolExecutor", asked)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", daemon)
    paths = [f"/x/{number}" for number in range(8)]
    if alone:
        assert len(index_of_files(paths, numbered)) == 8
    else:
        with pytest.raises(Asked):
            index_of_files(paths, numbered)


def test_no_file_makes_an_empty_index() -> None:
    for index in (index_of_files([], numbered), index_of([[]]), index_of([])):
        assert (index.lane_starts.tolist(), index.points.shape) == ([0], (0, 2))
        assert index.lane_starts.dtype == index.frame_starts.dtype == np.int64
    assert [len(index_of_files([], numbered)), len(index_of([[]]))] == [0, 1]


def test_a_cached_index_opens_no_label(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = CULane(tree).labels("train").content
    opened: list[str] = []
    monkeypatch.setattr(culane, "read_bytes", lambda path: opened.append(str(path)) or read_bytes(path))
    assert CULane(tree).labels("train").content == content
    assert opened == [str(tree / "list/train.txt")]


def test_a_writer_that_is_killed_leaves_the_old_index_or_none(tree: Path, tmp_path: Path) -> None:
    """Killed at the moment when all is written and nothing renamed yet."""
    script = (
        "import os, sys, harness.files.stored as files\n"
        "from pathlib import Path\n"
        "from harness.datasets.culane import CULane\n"
        "files.os.fsync = lambda descriptor: (print('writing', flush=True), sys.stdin.read())\n"
        "CULane(Path(sys.argv[1])).labels('train')\n"
    )
    old = CULane(tree).labels("train").content
    for present in (True, False):
        (path,) = index_path("x").parent.glob("*.index")
        before = path.read_bytes()
        (tree / "a.lines.txt").write_text(f"1 20 3 10 {1 + present} 5\n")
        if not present:
            path.unlink()
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(tree)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.kill()
        writer.communicate()
        assert (path.read_bytes() == before) if present else not path.exists()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert CULane(tree).labels("train").content != old


def test_labels_are_read_once(tree: Path, reads: list[str]) -> None:
    CULane(tree).labels("train")
    assert reads == ["a.lines.txt", "b.lines.txt"]
    index = CULane(tree).labels("train")
    assert len(reads) == 2
    assert index.lanes(0)[0].points.tolist() == [[1, 20], [3, 10]]


def test_the_dataset_folder_is_never_written(tree: Path) -> None:
    before = sorted(path.relative_to(tree) for path in tree.rglob("*"))
    CULane(tree).content_key()
    assert sorted(path.relative_to(tree) for path in tree.rglob("*")) == before


@pytest.mark.parametrize("keep_size", [True, False])
def test_a_label_edited_in_place_is_read_again(tree: Path, keep_size: bool) -> None:
    label = tree / "a.lines.txt"
    os.utime(label, ns=(10**18, 10**18))
    CULane(tree).labels("train")
    label.write_text("1 20 4 10\n" if keep_size else "1 20 4 10 7 5\n")
    if not keep_size:
        os.utime(label, ns=(10**18, 10**18))
    assert CULane(tree).labels("train").lanes(0)[0].points[1].tolist() == [4, 10]


def test_a_changed_list_is_read_again(tree: Path) -> None:
    assert len(CULane(tree).labels("train").lanes(0)) == 1
    (tree / "list/train.txt").write_text("b.jpg\na.jpg\n")
    index = CULane(tree).labels("train")
    assert [len(index.lanes(row)) for row in (0, 1)] == [0, 1]


def test_an_index_of_another_version_is_read_again(
    tree: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    CULane(tree).labels("train")
    monkeypatch.setattr(index_module, "INDEX_VERSION", index_module.INDEX_VERSION + 1)
    CULane(tree).labels("train")
    assert len(reads) == 4


def test_rehash_reads_content_that_size_and_time_dont_show(tree: Path) -> None:
    label = tree / "a.lines.txt"
    os.utime(label, ns=(10**18, 10**18))
    old = CULane(tree).content_key()
    label.write_text("1 20 4 10\n")
    os.utime(label, ns=(10**18, 10**18))
    assert CULane(tree).content_key() == old
    new = CULane(tree, rehash=True).content_key()
    assert new != old
    assert CULane(tree).content_key() == new


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:40],
        lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:],
    ],
)
def test_a_damaged_cache_is_rebuilt_with_a_warning(tree: Path, reads: list[str], damage) -> None:
    (tree / "a.lines.txt").write_text(" ".join(f"{x} {600 - x}" for x in range(100)))
    content = CULane(tree).labels("train").content
    (path,) = (index_path("x").parent).iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged"):
        assert CULane(tree).labels("train").content == content
    assert len(reads) == 4
    CULane(tree).labels("train")
    assert len(reads) == 4


def test_any_flipped_bit_of_the_cache_is_seen(tree: Path) -> None:
    content = CULane(tree).labels("train").content
    (path,) = (index_path("x").parent).iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.warns(UserWarning, match="damaged"):
            assert CULane(tree).labels("train").content == content


def test_a_cache_that_cant_be_written_is_a_warning(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="can't be stored"):
        assert len(CULane(tree).labels("train")) == 2


def test_a_disk_that_fills_up_while_an_index_is_written_is_a_warning(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(index_module, "_write", full)
    with pytest.warns(NotStoredWarning, match=r"can't be stored in .* \(No space left on device\)"):
        assert len(CULane(tree).labels("train")) == 2


def test_a_cache_that_cant_be_read_is_a_warning_and_the_labels_are_read(tree: Path, reads: list[str]) -> None:
    content = CULane(tree).labels("train").content
    (path,) = index_path("x").parent.iterdir()
    path.unlink()
    path.mkdir()
    with pytest.warns(InputWarning, match=r"\.index can't be read \(.*Is a directory"):
        assert CULane(tree).labels("train").content == content
    assert len(reads) == 4


def test_a_stale_index_is_replaced_not_left_beside(tree: Path) -> None:
    for number in range(3):
        (tree / "a.lines.txt").write_text("1 2 3 4\n" * (number + 1))
        CULane(tree).labels("train")
    assert len(list(index_path("x").parent.iterdir())) == 1


def test_two_datasets_dont_share_an_index(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "list").mkdir(parents=True)
    (other / "list/train.txt").write_text("a.jpg\n")
    (other / "a.lines.txt").write_text("")
    assert [len(CULane(root).labels("train")) for root in (tree, other, tree, other)] == [2, 1, 2, 1]
    assert len(list(index_path("x").parent.iterdir())) == 2
