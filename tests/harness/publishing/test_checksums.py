"""SHA256SUMS: what `sha256sum --check` reads, of plain files alone; lines that say something else are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.publishing.checksums import SUMS_FILE, changed_files, read_sums, write_sums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "records").mkdir()
    for name in ("b.txt", "a b.txt", "records/x.json"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum on this machine")
def test_sha256sum_finds_every_file_as_it_was_written(folder: Path) -> None:
    said = subprocess.run(["sha256sum", "--check", "--strict", SUMS_FILE], cwd=folder, capture_output=True, text=True)
    assert (said.returncode, said.stdout.splitlines()) == (0, ["a b.txt: OK", "b.txt: OK", "records/x.json: OK"])
    assert changed_files(folder, read_sums(folder)) == {}


def test_a_pipe_is_told_without_reading_it(folder: Path) -> None:
    os.mkfifo(folder / "records/pipe")
    assert changed_files(folder, read_sums(folder)) == {"records/pipe": "a pipe or a device"}


def test_a_link_is_never_listed(folder: Path) -> None:
    (folder / "records/link").symlink_to(folder / "b.txt")
    with pytest.raises(InputError, match="records/link: a link, and a publication has none; take it away"):
        write_sums(folder)


@pytest.mark.parametrize(
    "line",
    [f"{'0' * 64}  b.txt", f"{'0' * 63}  c.txt", f"{'A' * 64}  c.txt", f"{'0' * 64}c.txt", ""],
    ids=["a file again", "a short hash", "capitals", "no space", "nothing"],
)
def test_a_line_of_another_form_is_refused_by_its_number(folder: Path, line: str) -> None:
    with open(folder / SUMS_FILE, "a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(InputError, match=rf"{SUMS_FILE}:4: not `<sha256>  <file>` of a file of its own"):
        read_sums(folder)


def test_what_is_wrong_is_told_in_the_order_of_names(folder: Path) -> None:
    (folder / "a b.txt").unlink()
    (folder / "b.txt").write_text("other")
    (folder / "c.txt").write_text("new")
    assert list(changed_files(folder, read_sums(folder))) == ["a b.txt", "b.txt", "c.txt"]
