"""`detectors fetch`: a checkout at the pinned commit, whole or not at all, and nothing of the repository's run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from detectors.upstream import checkouts, fetching
from detectors.upstream.checkouts import known_checkout, origin_of
from detectors.upstream.repositories import REPOSITORIES, Repository
from harness.cli.main import main
from harness.errors import InputError, InputWarning


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A repository of two commits, the first of which is pinned, with a hook and a submodule that would leave a mark."""
    folder = tmp_path / "source"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "model.py").write_text("raise SystemExit('was run')\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    pinned = git(folder, "rev-parse", "HEAD")
    (folder / "model.py").write_text("later\n")
    git(folder, "commit", "-qam", "two")
    monkeypatch.setitem(REPOSITORIES, "CLRNet", Repository(str(folder), pinned, None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    return folder


def left_in(folder: Path) -> list[str]:
    """What a fetch leaves, but for the file that it locks."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_the_checkout_is_at_the_pinned_commit_and_found_afterwards(source, capsys):
    assert main(["detectors", "fetch", "CLRNet", "--source", str(source)]) == 0
    said = capsys.readouterr().out
    assert "it has no licence file" in said
    checkout = known_checkout("CLRNet")
    assert (checkout / "model.py").read_text() == "raise SystemExit('was run')\n"
    assert origin_of("CLRNet") == {"repository": "CLRNet", "commit": REPOSITORIES["CLRNet"].commit}
    assert main(["detectors", "fetch", "CLRNet", "--source", "/nowhere"]) == 0


def test_local_changes_are_part_of_an_identity_and_never_overwritten(source, capsys):
    assert main(["detectors", "fetch", "CLRNet", "--source", str(source)]) == 0
    file = known_checkout("CLRNet") / "model.py"
    found = []
    for text in ("mine\n", "mine too\n"):
        file.write_text(text)
        with pytest.warns(InputWarning, match="with local changes"):
            found.append(origin_of("CLRNet")["changes"])
    assert found[0] != found[1]
    capsys.readouterr()
    assert main(["detectors", "fetch", "CLRNet", "--source", str(source)]) == 2
    pinned = REPOSITORIES["CLRNet"].commit
    told = capsys.readouterr().err
    assert (
        f"is there already, and isn't CLRNet at {pinned}, but at {pinned[:12]} with local changes; move it away" in told
    )
    assert file.read_text() == "mine too\n"


@pytest.mark.parametrize("place", ["/no/such/place", "https://localhost:1/nothing.git", "ext::touch mark"])
def test_a_source_that_can_not_be_had_is_one_line_and_leaves_nothing(source, place, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["detectors", "fetch", "CLRNet", "--source", place]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "check the network, or give --source a clone" in told
    assert left_in(tmp_path / "cache" / "samiro-bench" / "upstream") == []
    assert not (tmp_path / "mark").exists()


def test_a_source_without_the_commit_is_refused(source, monkeypatch, tmp_path):
    monkeypatch.setitem(REPOSITORIES, "CLRNet", Repository(str(source), "0" * 40, "MIT"))
    with pytest.raises(InputError, match="has no commit 0000"):
        fetching.fetch_checkout("CLRNet", tmp_path / "there", source=str(source))
    assert not (tmp_path / "there").exists()


def test_without_a_checkout_the_ways_to_one_are_told(source, monkeypatch, tmp_path):
    with pytest.raises(
        InputError, match=r"no checkout of LaneATT: there is no .*`samiro-bench detectors fetch LaneATT`"
    ):
        known_checkout("LaneATT")
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"LaneATT isn't there \(SAMIRO_BENCH_UPSTREAM\)"):
        known_checkout("LaneATT")


@pytest.fixture
def bare(source, tmp_path):
    """A bare repository of the same, without any file of its own."""
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(tmp_path / "bare.git")], check=True)
    return tmp_path / "bare.git"


def test_a_bare_repository_is_a_source(bare, tmp_path):
    found = fetching.fetch_checkout("CLRNet", tmp_path / "there" / "CLRNet", source=str(bare))
    assert (found / "model.py").read_text() == "raise SystemExit('was run')\n"
    assert git(found, "rev-parse", "HEAD") == REPOSITORIES["CLRNet"].commit


def test_content_that_is_not_what_its_name_says_is_refused(bare, tmp_path):
    for pack in (bare / "objects" / "pack").glob("*.pack"):
        moved = pack.rename(tmp_path / pack.name)
        with moved.open("rb") as stream:
            subprocess.run(["git", "-C", str(bare), "unpack-objects", "-q"], stdin=stream, check=True)
    name = git(bare, "rev-parse", f"{REPOSITORIES['CLRNet'].commit}:model.py")
    file = bare / "objects" / name[:2] / name[2:]
    file.chmod(0o644)
    file.write_bytes(zlib.compress(b"blob 6\0other\n"))
    with pytest.raises(InputError, match=r"git clone: .*; check the network, or give --source a clone"):
        fetching.fetch_checkout("CLRNet", tmp_path / "there" / "CLRNet", source=str(bare))
    assert left_in(tmp_path / "there") == []


@pytest.mark.parametrize("there", ["another commit", "no git", "a file", "a link to nothing"])
def test_what_lies_there_already_is_told_and_kept(source, tmp_path, there):
    target = tmp_path / "there" / "CLRNet"
    target.parent.mkdir()
    if there == "another commit":
        subprocess.run(["git", "clone", "-q", str(source), str(target)], check=True)
        told = f"but at {git(source, 'rev-parse', 'HEAD')[:12]}; move it away"
    elif there == "no git":
        target.mkdir()
        (target / "mine").touch()
        told = "but no git checkout; move it away"
    elif there == "a file":
        target.write_text("mine")
        told = "but no git checkout; move it away"
    else:
        target.symlink_to(tmp_path / "nothing")
        told = "but no git checkout; move it away"
    with pytest.raises(InputError, match=told):
        fetching.fetch_checkout("CLRNet", target, source=str(source))
    assert os.path.lexists(target)


def test_a_file_in_the_way_of_the_folder_is_told(source, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="a file is in the way; give --into a folder"):
            fetching.fetch_checkout("CLRNet", folder / "CLRNet", source=str(source))


def test_a_fetch_at_the_same_time_of_a_repository_whose_name_goes_on_is_left_alone(source, tmp_path, monkeypatch):
    target, other = tmp_path / "there" / "CLRNet", tmp_path / "there" / "CLRNet-v2"
    git_runs = fetching._git

    def git_and_another_fetch(*arguments: str, problem: str = "") -> None:
        git_runs(*arguments, problem=problem)
        if not target.exists():
            monkeypatch.setattr(fetching, "_git", git_runs)
            fetching.fetch_checkout("CLRNet", target, source=str(source))

    monkeypatch.setattr(fetching, "_git", git_and_another_fetch)
    assert fetching.fetch_checkout("CLRNet", other, source=str(source)) == other
    assert sorted(left_in(target.parent)) == ["CLRNet", "CLRNet-v2"]


@pytest.mark.parametrize("at", ["clone", "checkout"])
def test_killed_at_any_moment_it_leaves_no_half_checkout_and_the_next_one_cleans_up(source, tmp_path, at):
    target, tools = tmp_path / "there" / "CLRNet", tmp_path / "tools"
    tools.mkdir()
    # git, that does what it is told and then never ends.
    (tools / "git").write_text(
        f'#!/bin/sh\nPATH="{os.environ["PATH"]}"\ngit "$@" || exit\n'
        f'case " $* " in *" {at} "*) touch "{tmp_path}/mark"; sleep 60;; esac\n'
    )
    (tools / "git").chmod(0o755)
    known = REPOSITORIES["CLRNet"]
    script = (
        "from pathlib import Path\n"
        "from detectors.upstream import fetching\n"
        f"fetching.REPOSITORIES['CLRNet'] = fetching.REPOSITORIES['CLRNet'].__class__({known.url!r}, {known.commit!r}, None)\n"
        f"fetching.fetch_checkout('CLRNet', Path({str(target)!r}), source={str(source)!r})\n"
    )
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, start_new_session=True)
    while process.poll() is None and not (tmp_path / "mark").exists():
        time.sleep(0.02)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert left_in(target.parent) != []
    assert fetching.fetch_checkout("CLRNet", target, source=str(source)) == target
    assert left_in(target.parent) == ["CLRNet"]


def test_interrupted_it_leaves_nothing(source, tmp_path, monkeypatch):
    def interrupt(clone: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "commit_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetching.fetch_checkout("CLRNet", tmp_path / "there" / "CLRNet", source=str(source))
    assert left_in(tmp_path / "there") == []


@pytest.mark.parametrize("name", ["CLRNet", "clrnet_resnet18", "clrnet_dla34_upstream"])
def test_a_variant_or_a_bridge_means_the_repository_that_it_comes_from(source, name, monkeypatch):
    pinned = REPOSITORIES["CLRNet"].commit
    monkeypatch.setitem(REPOSITORIES, "CLRNet", Repository("https://github.com/Turoad/CLRNet", pinned, None))
    assert main(["detectors", "fetch", name, "--source", str(source)]) == 0
    assert known_checkout("CLRNet").is_dir()


def test_an_unknown_name_is_told_with_the_nearest(source, capsys):
    assert main(["detectors", "fetch", "resa_resnet19"]) == 2
    assert "did you mean" in capsys.readouterr().err
