"""The console script itself: what ends it early, and how that is told."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

import pytest
import torch
import typer

from harness.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[3]

PRESSED_WHILE_LOADING = """
import os, signal, sys

loading = sys.argv[1]

class Pressed:
    def find_spec(self, name, *_):
        if name == loading:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Pressed())
from harness.cli.script import script
sys.argv[1:] = ["env"]
script()
"""

LOADED_BY_THE_SCRIPT = """
import json, sys
before = {*sys.modules}
import harness.cli.script
print(json.dumps(sorted({*sys.modules} - before)))
"""


@pytest.mark.parametrize("words", [["--help"], ["bench", "--help"], ["env", "--json"]])
def test_a_reader_that_goes_ends_it_in_silence_as_sigpipe_does(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "harness.cli.main", *words]
    try:
        run = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
    finally:
        os.close(writer)
    assert (run.returncode, run.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["bench", "--help"], ["env", "--json"]])
@pytest.mark.parametrize("unbuffered", [True, False])
def test_a_full_disk_below_standard_output_is_one_line(words: list[str], unbuffered: bool) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "harness.cli.main", *words]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment)
    (line,) = run.stderr.splitlines()
    assert (run.returncode, line.endswith("No space left on device")) == (2, True)
    # What a stream without a buffer couldn't write is gone, so that nobody can try it again to see which stream it was.
    assert unbuffered or line.startswith("samiro-bench: standard output can't be written: ")


@pytest.mark.parametrize("width", ["0", "200"])
def test_tables_are_shown_where_the_terminal_knows_no_size(width: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.cli.main", "plan", "smoke", "--results", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": width}
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment, check=True)
    assert "ufldv2_micro-samiro" in run.stdout


CLOSED = """
import json, os, subprocess, sys
from harness.cli.main import open_standard_streams
open_standard_streams()
print("said")
first = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(first, json.dumps([first, subprocess.call(["true"])]).encode())
"""


def test_closed_streams_lead_nowhere_and_no_file_takes_their_numbers(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CLOSED, str(tmp_path / "file")]
    subprocess.run(["sh", "-c", '"$0" "$@" <&- >&- 2>&-', *words], check=True, cwd=CHECKOUT)
    first, child = json.loads((tmp_path / "file").read_text())
    assert (first > 2, child) == (True, 0)


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["nonsense"], 2)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_changes_no_exit_code_and_moves_no_words(words: list[str], code: int, closed: str) -> None:
    command = ["sh", "-c", f'"$0" "$@" {closed}', sys.executable, "-m", "harness.cli.main", *words]
    run = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert run.returncode == code
    assert (run.stdout == "") == (">&-" in closed.split() or code == 2)
    assert (run.stderr == "") == ("2>&-" in closed or code == 0)


def test_a_folder_that_is_gone_is_told_before_a_library_ends_the_program_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["env"]) == 2
    assert capsys.readouterr().err == (
        "samiro-bench: the folder that this was started in is gone: change into one that is there\n"
    )


class Ends:
    """A verb that ends in an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def main(self, **_: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB"), MemoryError("no room")]
)
def test_full_memory_is_one_line_that_says_what_helps(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(typer.main, "get_command", lambda app: Ends(error))
    assert main(["predict", "some"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("samiro-bench: predict: out of memory (")
    assert "smaller batch" in line


def test_full_shared_memory_is_one_line_that_names_it_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)"
    error = RuntimeError(f"Caught RuntimeError in DataLoader worker process 1.\nTraceback:\nRuntimeError: {said}\n")
    monkeypatch.setattr(typer.main, "get_command", lambda app: Ends(error))
    assert main(["plan", "rendered", "--probe"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("samiro-bench: plan: in a process that loads data: ")
    assert "/dev/shm" in line


def test_a_library_that_finds_no_room_in_memory_is_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (ImportError, OSError):  # of a module of Python's, and of what torch loads itself
        error = kind("libcrypto.so.1.1: failed to map segment from shared object")
        monkeypatch.setattr(typer.main, "get_command", lambda app, error=error: Ends(error))
        assert main(["plan", "culane"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"samiro-bench: plan: {kind.__name__}: libcrypto.so.1.1: failed to map")
        assert "too little memory" in line


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (BrokenProcessPool("A process in the process pool was terminated abruptly"), "memory was short"),
        (RuntimeError("can't start new thread"), "`ulimit -u`"),
    ],
)
def test_what_the_machine_took_away_is_one_line_with_the_cause_and_no_traceback(
    error: Exception, cause: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(typer.main, "get_command", lambda app: Ends(error))
    assert main(["data", "render"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("samiro-bench: data: ")
    assert cause in line


def test_an_error_of_the_code_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.main, "get_command", lambda app: Ends(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["plan"])


def test_where_no_temporary_file_can_be_made_the_variable_is_named_that_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])

    class Needs(Ends):
        def main(self, **_: object) -> None:
            tempfile.gettempdir()

    monkeypatch.setattr(typer.main, "get_command", lambda app: Needs(OSError()))
    assert main(["predict", "some"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "['/nowhere']" in line
    assert line.endswith(": set TMPDIR to a folder that can be written")


def test_what_is_only_kept_from_this_user_is_named_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/data/list")
    monkeypatch.setattr(typer.main, "get_command", lambda app: Ends(denied))
    assert main(["plan", "culane"]) == 2
    told = "/data/list: Permission denied; have whoever made it let you, or name another one"
    assert capsys.readouterr().err == f"samiro-bench: {told}\n"


def test_any_other_error_of_torch_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.main, "get_command", lambda app: Ends(RuntimeError("CUDA error: illegal memory access")))
    with pytest.raises(RuntimeError, match="illegal"):
        main(["predict", "some"])


@pytest.mark.parametrize("loading", ["harness.cli.main", "harness.processes.faults", "typer", "harness.cli.env"])
def test_ctrl_c_while_modules_are_loaded_ends_it_quietly(loading: str) -> None:
    command = [sys.executable, "-c", PRESSED_WHILE_LOADING, loading]
    run = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "samiro-bench: stopped\n")


def test_the_console_script_loads_nothing_before_it_takes_ctrl_c() -> None:
    module, function = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"][
        "samiro-bench"
    ].split(":")
    assert callable(getattr(import_module(module), function))
    command = [sys.executable, "-c", LOADED_BY_THE_SCRIPT.replace("harness.cli.script", module)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert json.loads(run.stdout) == ["harness", "harness.cli", "harness.cli.script"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "minni"], "did you mean 'mini'"),
        (["bnch"], "did you mean 'bench'"),
        (["bench", "mini", "--sede", "3"], "sede"),
        (["data", "doctor", "culane", "roads"], "(roads) (samiro-bench data doctor --help shows the usage)"),
        (["bench", "mini", "--seeds", "0"], "seeds"),
        (["leaderboard", "mini", "--results", "nowhere"], "no record of this suite"),
        (["bench", "smoke", "--results", "/proc/none"], "cannot be written"),
    ],
)
def test_bad_words_are_answered_in_one_line_with_exit_code_2(tmp_path: Path, words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "harness.cli.main", *words]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 2
    assert said in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_names_of_files_are_no_commands_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;title\x07\u202egpj"
    (tmp_path / "list.txt").write_text(f"{name}.jpg\n", encoding="utf-8")
    words = ["score", "culane", "--labels", str(tmp_path), "--predictions", str(tmp_path / "none")]
    (tmp_path / "none").mkdir()
    assert main([*words, str(tmp_path / "list.txt")]) == 2
    (tmp_path / f"{name}.lines.txt").write_text("1 500 2 400 3 300\n")
    assert main([*words, str(tmp_path / "list.txt")]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("samiro-bench: ")
    assert told[-1].startswith("warning: ")
    assert all(r"a\x1b]0;title\x07\u202egpj.lines.txt" in line for line in (told[0], told[-1]))


def test_it_says_which_release_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    release = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"samiro-bench {release}\n"


STARTED = """
import runpy, subprocess, sys
from contextlib import suppress
sys.argv = ["samiro-bench", "--help"]
with suppress(SystemExit):
    runpy.run_module("harness.cli.main", run_name="__main__")
from harness.engines.worker_process import worker_command
python, safe_path, *_ = worker_command()
subprocess.run([python, safe_path, "-c", "import harness; print(harness.__file__)"], check=True)
"""


def test_the_module_in_a_clone_has_its_processes_run_the_clone_and_not_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()  # of another checkout
    command = [sys.executable, "-c", STARTED]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environment)
    assert run.stdout.splitlines()[-1:] == [str(CHECKOUT / "harness" / "__init__.py")], run.stderr
