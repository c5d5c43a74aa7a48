"""A source is parsed once, until its bytes change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.files import fingerprint as module
from harness.files import known_sources as known
from harness.files.fingerprint import fingerprint


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that were parsed in earnest, of a project of three files, with a cache of the test's own."""
    found: list[str] = []
    real = module.parsed
    monkeypatch.setattr(module, "parsed", lambda code, path, name: (found.append(name), real(code, path, name))[1])
    monkeypatch.setattr(module, "ROOT", tmp_path / "project")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SAMIRO_BENCH_REMEMBER", raising=False)
    (tmp_path / "project/harness").mkdir(parents=True)
    (tmp_path / "project/harness/__init__.py").write_text("")
    (tmp_path / "project/harness/a.py").write_text("from harness import b\nX = 1\n")
    (tmp_path / "project/harness/b.py").write_text("Y = 2\n")
    return found


def in_a_new_process() -> dict[str, str]:
    """The fingerprint as a process makes it that has read nothing yet."""
    module.read_source.cache_clear()
    known._of_file.cache_clear()
    return fingerprint(["harness.a"])


def kept(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache/samiro-bench/sources").glob("*.json")
    return file


def test_a_second_process_parses_nothing_and_finds_the_same(parsed: list[str]) -> None:
    before = in_a_new_process()
    assert sorted(parsed) == ["harness", "harness.a", "harness.b"]
    assert in_a_new_process() == before
    assert len(parsed) == 3
    assert set(before) == {"harness/__init__.py", "harness/a.py", "harness/b.py"}, (
        "what a file imports is remembered with its hash"
    )


def test_a_changed_file_alone_is_parsed_again(parsed: list[str], tmp_path: Path) -> None:
    before = in_a_new_process()
    file = tmp_path / "project/harness/b.py"
    written = file.read_text()
    file.write_text("Y = 3\n")
    after = in_a_new_process()
    assert module.changed_files(before, after) == ["harness/b.py"]
    file.write_text(written)
    assert in_a_new_process() == before
    assert parsed[3:] == ["harness.b"]


def test_one_text_under_two_names_is_two_sources(parsed: list[str], tmp_path: Path) -> None:
    """A relative import means something else in each."""
    for folder in ("one", "two"):
        (tmp_path / "project/harness" / folder).mkdir()
        for name, text in (("__init__", ""), ("user", "from . import part\n"), ("part", f"P = '{folder}'\n")):
            (tmp_path / "project/harness" / folder / f"{name}.py").write_text(text)
    (tmp_path / "project/harness/a.py").write_text("import harness.one.user, harness.two.user\n")
    assert {"harness/one/part.py", "harness/two/part.py"} <= set(in_a_new_process())
    assert {"harness/one/part.py", "harness/two/part.py"} <= set(in_a_new_process())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', "damaged", "[" * 100_000])
def test_a_damaged_file_is_read_past_and_mended(parsed: list[str], tmp_path: Path, text: str) -> None:
    before = in_a_new_process()
    file = kept(tmp_path)
    if text == "damaged":
        text = json.dumps({key: said[:40] for key, said in json.loads(file.read_text()).items()})
    file.write_text(text)
    assert in_a_new_process() == before
    assert len(parsed) == 6
    assert in_a_new_process() == before
    assert len(parsed) == 6


def test_half_a_character_in_the_file_only_costs_time(parsed: list[str], tmp_path: Path) -> None:
    before = in_a_new_process()
    kept(tmp_path).write_text(r'{"a": "\ud800"}')
    assert in_a_new_process() == before
    assert len(parsed) == 6


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "larger than any"])
def test_what_is_no_such_file_is_not_waited_for(parsed: list[str], tmp_path: Path, what: str) -> None:
    before = in_a_new_process()
    file = kept(tmp_path)
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "device":
        file.symlink_to("/dev/zero")
    elif what == "folder":
        file.mkdir()
    else:
        file.touch()
        os.truncate(file, known.LIMIT + 1)
    assert in_a_new_process() == before


def test_another_parser_knows_nothing_of_what_this_one_found(
    parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_new_process()
    monkeypatch.setattr(module, "PARSER", module.PARSER + "# another\n")
    in_a_new_process()
    assert len(parsed) == 6


def test_a_parser_that_was_edited_while_it_ran_leaves_nothing_to_the_new_one(tmp_path: Path) -> None:
    """As where the project is updated between the start of a process and its first question."""
    for name in ("__init__", "errors", "files/__init__", "files/fingerprint", "files/known_sources", "files/stored"):
        copy = tmp_path / f"harness/{name}.py"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((module.ROOT / f"harness/{name}.py").read_bytes())
    ask = "print(sorted(fingerprint.fingerprint(['harness.files.known_sources']).items()))"
    edit = (
        "from pathlib import Path; file = Path(fingerprint.__file__); "
        "file.write_text(file.read_text().replace('return repr(value)', 'return repr((value, 1))'))"
    )

    def asked(code: str, remember: str) -> str:
        environment = os.environ | {
            "PYTHONPATH": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "SAMIRO_BENCH_REMEMBER": remember,
        }
        command = [sys.executable, "-c", f"from harness.files import fingerprint; {code}"]
        return subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    old = asked(f"{edit}; {ask}", "1")
    new = asked(ask, "0")
    assert new != old
    assert asked(ask, "1") == new


def test_an_adapter_in_the_project_whose_name_is_no_utf_8_has_a_fingerprint(
    parsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "project" / os.fsdecode(b"\xff.py")
    file.write_text("X = 1\n")
    adapter = ModuleType("adapter")
    adapter.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "adapter", adapter)
    assert list(fingerprint(["adapter"])) == [file.name]
    assert parsed == ["adapter"]


def test_a_cache_that_cannot_be_written_only_costs_time(parsed: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert in_a_new_process() == in_a_new_process()
    assert len(parsed) == 6


def test_where_nothing_is_to_be_remembered_all_is_parsed_and_nothing_written(
    parsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "0")
    assert in_a_new_process() == in_a_new_process()
    assert len(parsed) == 6
    assert not (tmp_path / "cache").exists()


def test_what_other_processes_wrote_stays(parsed: list[str], tmp_path: Path) -> None:
    in_a_new_process()
    file = kept(tmp_path)
    said = json.loads(file.read_text())
    file.write_text(json.dumps({"of another": "x" * 64}))
    in_a_new_process()
    assert json.loads(file.read_text()) == {"of another": "x" * 64, **said}


def test_a_file_of_too_many_begins_anew(parsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_new_process()
    file = kept(tmp_path)
    monkeypatch.setattr(known, "MOST", 4)
    file.write_text(json.dumps({f"{number}": "x" * 64 for number in range(3)}))
    in_a_new_process()
    assert len(json.loads(file.read_text())) == 3
