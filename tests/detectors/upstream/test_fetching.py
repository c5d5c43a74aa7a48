"""`detectors fetch`: a checkout at the pinned commit, whole or not at all, and nothing of the repository's run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from detectors.upstream import checkouts, fetching
from detectors.upstream.checkouts import known_checkout, origin_of
from detectors.upstream.repositories import REPOSITORIES, Repository
from harness.cli.main import main
from harness.errors import InputError


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
    file.write_text("mine\n")
    first = origin_of("CLRNet")["changes"]
    file.write_text("mine too\n")
    assert origin_of("CLRNet")["changes"] != first
    capsys.readouterr()
    assert main(["detectors", "fetch", "CLRNet", "--source", str(source)]) == 2
    assert "is there already, and isn't CLRNet at" in capsys.readouterr().err
    assert file.read_text() == "mine too\n"


@pytest.mark.parametrize("place", ["/no/such/place", "https://localhost:1/nothing.git", "ext::touch mark"])
def test_a_source_that_can_not_be_had_is_one_line_and_leaves_nothing(source, place, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["detectors", "fetch", "CLRNet", "--source", place]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "check the network, or give --source a clone" in told
    assert list((tmp_path / "cache" / "samiro-bench" / "upstream").iterdir()) == []
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


def test_a_variant_means_the_repository_that_it_comes_from(source, capsys):
    assert main(["detectors", "fetch", "resa_resnet19"]) == 2
    assert "did you mean" in capsys.readouterr().err
