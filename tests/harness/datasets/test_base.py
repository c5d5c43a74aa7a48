"""A dataset is opened as it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.datasets.base import FORMS, open_dataset, read_bytes, reader_module
from harness.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train.txt").write_text("a.jpg\n")
    (tmp_path / "a.lines.txt").write_text("1 20 3 10\n")
    return tmp_path


def test_name_size_and_width_of_lanes_are_those_that_were_asked_for(root: Path) -> None:
    dataset = open_dataset("culane", root, name="mine", image_size=(10, 20), lane_width=12)
    assert (dataset.name, dataset.form, dataset.image_size) == ("mine", "culane", (10, 20))
    assert getattr(dataset, "lane_width", 0) == 12
    assert open_dataset("culane", root).name == "culane"


def test_labels_are_read_afresh_where_that_is_asked_for(root: Path) -> None:
    label = root / "a.lines.txt"
    os.utime(label, ns=(10**18, 10**18))
    old = open_dataset("culane", root).content_key()
    label.write_text("1 20 4 10\n")
    os.utime(label, ns=(10**18, 10**18))
    assert open_dataset("culane", root).content_key() == old
    assert open_dataset("culane", root, rehash=True).content_key() != old


def test_each_form_is_read_by_a_module_of_its_own() -> None:
    modules = [reader_module(form) for form in FORMS]
    assert modules == ["harness.datasets.culane", "harness.datasets.tusimple", "harness.datasets.llamas"]


def test_a_form_that_is_unknown_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown dataset format 'culan'; did you mean 'culane'"):
        open_dataset("culan", tmp_path)


@pytest.mark.parametrize("name", ["list/train.txt", "a.lines.txt"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        # The pointer that git-lfs's own documentation shows.
        (
            b"version https://git-lfs.github.com/spec/v1\n"
            b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
            "a pointer of Git LFS in place of the file; fetch it by `git lfs pull`",
        ),
        ("1 20 3 10\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        ("\ufeffa.jpg\n".encode("utf-16-be"), "UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_file_that_was_never_fetched_and_text_of_another_encoding_are_refused_by_what_they_are(
    root: Path, name: str, content: bytes, told: str
) -> None:
    (root / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        open_dataset("culane", root).content_key()
    assert f"{root / name}: {told}" in str(refused.value)


def test_a_file_that_only_speaks_of_git_lfs_is_read(root: Path) -> None:
    (root / "note.txt").write_text(" version https://git-lfs.github.com/spec/v1\n")
    assert read_bytes(root / "note.txt").startswith(b" version")
