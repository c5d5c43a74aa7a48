"""Where datasets lie: environment, paths.yaml, refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.datasets import roots
from harness.datasets.roots import dataset_root, environment_variable, read_paths
from harness.files.stored import cache_folder
from tests.harness.datasets.refusals import refusal


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory without paths.yaml, no environment variables, and a checkout of its own."""
    for name in roots.SOURCES:
        monkeypatch.delenv(environment_variable(name), raising=False)
    here, checkout = tmp_path / "here", tmp_path / "checkout"
    for folder in (here, checkout / "harness/datasets", tmp_path / "data", tmp_path / "other"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(roots, "__file__", str(checkout / "harness/datasets/roots.py"))
    return checkout


def test_the_environment_wins_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("paths.yaml").write_text(f"culane: {tmp_path / 'other'}\n")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", str(tmp_path / "data"))
    assert dataset_root("culane") == tmp_path / "data"
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", "")
    assert dataset_root("culane") == tmp_path / "other"


def test_the_current_directory_wins_over_the_checkout(tmp_path: Path, checkout: Path) -> None:
    (checkout / "paths.yaml").write_text("culane: ../data\nllamas: ../data\n")
    Path("paths.yaml").write_text("culane: ../other\n")
    assert dataset_root("culane") == tmp_path / "other"
    assert dataset_root("llamas") == tmp_path / "data"


def test_a_name_of_ones_own_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMIRO_BENCH_DATA_MY_ROADS", str(tmp_path / "data"))
    assert dataset_root("my-roads") == tmp_path / "data"


def test_a_variable_that_two_names_of_files_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("paths.yaml").write_text("my-roads: ../data\nmy_roads: ../other\n")
    assert dataset_root("my_roads") == tmp_path / "other"
    monkeypatch.setenv("SAMIRO_BENCH_DATA_MY_ROADS", str(tmp_path / "data"))
    said = refusal(dataset_root, "my_roads")
    assert "SAMIRO_BENCH_DATA_MY_ROADS is set" in said
    assert "'my_roads' and of 'my-roads'" in said


@pytest.mark.parametrize("name", ["my-roads", "culane-night", "roads2", "llama_valley"])
def test_a_name_of_ones_own_is_named_by_a_file(tmp_path: Path, name: str) -> None:
    Path("paths.yaml").write_text(f"{name}: ../data\nculane: ../other\n")
    assert dataset_root(name) == tmp_path / "data"


def test_an_unknown_folder_says_both_ways_and_the_source() -> None:
    message = refusal(dataset_root, "tusimple")
    for part in (
        "SAMIRO_BENCH_DATA_TUSIMPLE=",
        "`tusimple: FOLDER`",
        "paths.yaml",
        "https://github.com/TuSimple/tusimple-benchmark",
    ):
        assert part in message


def test_a_folder_that_doesnt_exist_is_refused_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("paths.yaml").write_text("culane: ../nowhere\n")
    message = refusal(dataset_root, "culane")
    assert "paths.yaml: culane:" in message
    assert "nowhere" in message
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", "/nowhere/at/all")
    assert "SAMIRO_BENCH_DATA_CULANE=/nowhere/at/all" in refusal(dataset_root, "culane")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("cullane: /data\n", "unknown dataset 'cullane'; did you mean 'culane'?"),
        ("- culane\n", "must map dataset names to folders"),
        ("culane\n", "must map dataset names to folders"),
        ("culane: [a, b]\n", "culane: must be a folder, not ['a', 'b']"),
        ("culane:\n", "culane: must be a folder, not None"),
        ("culane: 5\n", "culane: must be a folder, not 5"),
        ("5: /data\n", "5 can't be a dataset's name"),
        ("CULane: /data\n", "unknown dataset 'CULane'; did you mean 'culane'?"),
        ("my/roads: /data\n", "can't be a dataset's name"),
        ("culane: [\n", "not YAML"),
        ("culane: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("? [a]\n: b\n", "a key is a plain word"),
        ("culane: ../data\nculane: ../other\n", "paths.yaml:2:1: not YAML: key 'culane' stands twice"),
    ],
)
def test_a_broken_paths_file_is_refused(text: str, what: str) -> None:
    Path("paths.yaml").write_text(text)
    message = refusal(dataset_root, "culane")
    assert "paths.yaml" in message
    assert what in message


def test_a_folder_or_a_dead_link_in_place_of_a_paths_file_is_not_passed_over(checkout: Path) -> None:
    (checkout / "paths.yaml").mkdir()
    assert "paths.yaml is a folder" in refusal(dataset_root, "culane")
    Path("paths.yaml").symlink_to("nowhere.yaml")
    assert "paths.yaml: cannot be read" in refusal(dataset_root, "culane")


def test_a_file_is_no_folder_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "culane.zip").touch()
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", str(tmp_path / "culane.zip"))
    assert "culane.zip: this is a file" in refusal(dataset_root, "culane")


def test_a_name_that_is_nearly_one_of_the_file_is_answered_with_that(checkout: Path) -> None:
    (checkout / "paths.yaml").write_text("my_roads: ../data\n")
    message = refusal(dataset_root, "my-road")
    assert f"did you mean 'my_roads', which {checkout / 'paths.yaml'} names?" in message
    assert "did you mean" not in refusal(dataset_root, "culane")


def test_a_variable_without_a_value_is_told_where_nothing_else_names_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "empty" not in refusal(dataset_root, "culane")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", "")
    assert "(SAMIRO_BENCH_DATA_CULANE is set, but empty)" in refusal(dataset_root, "culane")


def test_an_empty_paths_file_names_nothing() -> None:
    Path("paths.yaml").write_text("# culane: /data/CULane\n")
    assert read_paths(Path("paths.yaml")) == {}


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("paths.yaml").write_text("culane: ~/data\n")
    assert dataset_root("culane") == tmp_path / "data"


def test_a_home_folder_of_nobody_is_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("paths.yaml").write_text("culane: ~nobody-of-this-name/data\n")
    assert "~nobody-of-this-name/data: there is no such folder" in refusal(dataset_root, "culane")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", "~nobody-of-this-name")
    assert "there is no such folder" in refusal(dataset_root, "culane")


def test_a_pipe_in_place_of_the_file_is_refused_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("paths.yaml")
    assert "paths.yaml: a pipe or a device, not a file" in refusal(read_paths, Path("paths.yaml"))


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # as in a container: no user has this number
    assert "set HOME or XDG_CACHE_HOME" in refusal(cache_folder)


def test_the_cache_lies_where_the_platform_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache/samiro-bench"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache/samiro-bench"
