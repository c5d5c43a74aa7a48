"""The first minutes with a checkout: the menu of `make`, and a set-up that fails says what to install, to free or to set.

Each failure is a real one, in a copy of the files that `make setup` reads: a PATH without Python, an interpreter that says it is old or
lacks a module, an index that nobody serves, a disk of a few hundred kilobytes.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKE = shutil.which("make") or "make"
PYTHON = str(Path(sys.executable).resolve())
TOOLS = ("awk", "cat", "df", "echo", "env", "sh", "tail", "test", "touch", "true")
DISK = """
mount -t tmpfs -o size={size} tmpfs {folder}
cp {files} {folder}
{then}
cd {folder}
exec {make} setup
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that the set-up reads."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with the tools of the Makefile alone, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def python3(tools: Path, script: str) -> None:
    """Put a python3 there: a shell script, which finds a real one in REAL."""
    path = tools / "python3"
    path.write_text(f"#!{shutil.which('sh')}\nREAL={PYTHON}\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(command: list[str], folder: Path, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": path, "HOME": str(folder), "TMPDIR": os.environ.get("TMPDIR", "/tmp"), **environment}
    return subprocess.run(command, cwd=folder, env=known, text=True, capture_output=True, timeout=120)


def failed(run: subprocess.CompletedProcess[str]) -> str:
    """The last line that the set-up itself says, where it failed; make adds one of its own."""
    assert run.returncode == 2
    said = [line for line in run.stderr.splitlines() if not line.startswith(("make:", "make["))]
    assert "Traceback" not in run.stderr
    return said[-1]


def test_make_alone_shows_every_target_once_and_where_to_begin() -> None:
    shown = subprocess.run([MAKE, "-C", str(ROOT), "--no-print-directory"], text=True, capture_output=True, timeout=60)
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert "`make bench`" in lines[0]
    listed = re.findall(r"^  make ([a-z-]+) +\S", shown.stdout, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())
    assert all(len(line) <= 110 for line in lines)
    for path in re.findall(r"\b(?:docs|suites)/[\w./-]*", shown.stdout):
        assert (ROOT / path.rstrip(".")).exists(), path


def arguments(target: str, *given: str) -> list[str]:
    """What a target hands to the console command, which needn't be there."""
    options = ["-C", str(ROOT), "--no-print-directory", "--old-file", ".venv/.ready", r"BENCH=printf '%s\n'"]
    run = subprocess.run([MAKE, *options, target, *given], text=True, capture_output=True, timeout=60, check=True)
    return run.stdout.splitlines()


def test_a_submission_keeps_the_name_of_its_author_and_takes_none_of_make_itself() -> None:
    given = arguments("submit", "AS=alice", "WHO=Alice O'Brien", "CONTACT=https://example.org/alice")
    assert given == [
        "submit",
        "mini",
        "--as",
        "alice",
        "--who",
        "Alice O'Brien",
        "--contact",
        "https://example.org/alice",
    ]
    # make has a variable AS of its own, the assembler.
    assert arguments("submit") == ["submit", "mini", "--as", "", "--who", "", "--contact", ""]


def test_python_that_is_missing_is_named(checkout: Path, tools: Path) -> None:
    said = failed(run([MAKE, "setup"], checkout, str(tools)))
    assert said == "python3 is missing: install Python 3.11 or newer, or name one with PYTHON=..."


def test_python_that_is_too_old_is_told_by_its_version(checkout: Path, tools: Path) -> None:
    python3(
        tools,
        """case "$1" in -V) echo Python 3.9.2 ;; -c) exec $REAL -c "import sys; sys.version_info = (3, 9, 2); $2" ;; esac""",
    )
    said = failed(run([MAKE, "setup"], checkout, str(tools)))
    assert said.startswith("python3 is Python 3.9.2, and 3.11 or newer is needed: ")
    assert not (checkout / ".venv").exists()


def test_python_without_venv_says_which_package_to_install(checkout: Path, tools: Path) -> None:
    # Debian's python3 without python3-venv has venv but no ensurepip, and leaves a .venv without pip behind.
    missing = {
        "venv": 'if [ "$1" = -m ]; then exec $REAL -m venv_of_another_package; fi',
        "ensurepip": """if [ "$1" = -m ]; then $REAL -m venv --without-pip .venv; exec .venv/bin/python -c '
import sys; sys.modules["ensurepip"] = None; import ensurepip' 2>&1; fi""",
    }
    for module, left in (("venv", False), ("ensurepip", True)):
        python3(tools, missing[module] + '\nexec $REAL "$@"')
        told = run([MAKE, "setup"], checkout, str(tools))
        assert "apt install python3-venv" in told.stderr.splitlines()[-2], module
        assert (checkout / ".venv").exists() is left
    # Where the package came meanwhile, what was left behind is no hindrance.
    python3(tools, 'exec $REAL "$@"')
    assert "installing the packages" in run([MAKE, "setup", "INSTALL=false"], checkout, str(tools)).stdout
    assert (checkout / ".venv/bin/pip").exists()


def test_pip_without_a_network_says_how_to_go_on(checkout: Path, tools: Path) -> None:
    python3(tools, 'exec $REAL "$@"')
    told = run(
        [MAKE, "setup"], checkout, str(tools), PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
    )  # fmt: skip
    said = failed(told)
    assert said.startswith("set-up: pip finds no packages: is there a network?")
    assert "PIP_FIND_LINKS" in said
    assert "No matching distribution" in told.stderr or "Could not find a version" in told.stderr
    assert not (checkout / ".venv/.ready").exists()


def test_a_place_that_takes_no_folder_is_told(checkout: Path, tools: Path) -> None:
    python3(tools, 'exec $REAL "$@"')
    (checkout / ".venv").write_text("not a folder")
    said = failed(run([MAKE, "setup"], checkout, str(tools)))
    assert said.startswith(f"set-up: .venv can't be made in {checkout}: ")


@pytest.mark.parametrize(
    ("size", "then", "said"),
    [
        ("300k", "", "set-up: the disk is full: "),
        ("1m", "mount -o remount,ro {folder}", "set-up: .venv can't be made in "),
    ],
)
def test_a_disk_that_is_full_or_only_to_be_read_is_told(
    checkout: Path, tools: Path, tmp_path: Path, size: str, then: str, said: str
) -> None:
    unshare = shutil.which("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    if unshare is None or subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", str(disk)]).returncode:
        pytest.skip("no small disk can be mounted here: unshare isn't there, or not allowed")
    python3(tools, 'exec $REAL "$@"')
    files = " ".join(map(str, sorted(checkout.iterdir())))
    script = DISK.format(size=size, folder=disk, files=files, then=then.format(folder=disk), make=MAKE)
    told = run([unshare, "-rm", "sh", "-ec", script], checkout, f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert failed(told).startswith(said), told.stderr
