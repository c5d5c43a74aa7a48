from __future__ import annotations

import pytest

from harness.errors import InputError
from harness.prediction.sources import find_sources


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "a/1.jpg",
        "a/sub/2.PNG",
        "b/1.jpg",
        "b/1.png",
        "b/drive.mp4",
        "b/notes.txt",
        "b/3.overlay.jpg",
        "b/.4.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_links_to_what_is_not_there_are_named_for_who_reads_them_to_tell(tree):
    (tree / "a" / "0.jpg").symlink_to("never-fetched")
    (tree / "a" / "loop.png").symlink_to("loop.png")
    (tree / "a" / "folder.png").symlink_to("sub")
    assert names("a") == ["0", "1", "loop", "sub/2"]


def names(*words, root=None):
    return [source.name for source in find_sources(words, root)]


def test_a_file_has_its_bare_name_and_one_in_a_folder_its_path_below(tree):
    assert names("b/drive.mp4", "a/sub/2.PNG") == ["drive", "2"]
    assert names("a") == ["1", "sub/2"]
    (first, second) = find_sources(["a"])
    assert (first.path, first.file, first.is_video) == (tree / "a" / "1.jpg", "1.jpg", False)
    assert second.file == "sub/2.PNG"
    assert find_sources(["b/drive.mp4"])[0].is_video


def test_a_folder_gives_no_hidden_files_overlays_or_files_of_other_kinds(tree):
    assert names("b") == ["1.jpg", "1.png", "drive"]


def test_files_of_one_name_are_told_apart_by_their_folders(tree):
    assert names("a/1.jpg", "b/1.jpg") == ["a/1", "b/1"]
    assert names("a", "b/1.jpg") == ["a/1", "a/sub/2", "b/1"]


def test_and_by_their_extensions_where_only_those_differ(tree):
    assert names("b/1.jpg", "b/1.png", "b/drive.mp4") == ["1.jpg", "1.png", "drive"]
    assert names("a/1.jpg", "b/1.png") == ["1.jpg", "1.png"]
    (tree / "b" / "drive.jpg").touch()
    assert names("b/drive.mp4", "b/drive.jpg") == ["drive.mp4", "drive.jpg"]


def test_no_file_lands_among_the_frames_of_a_video(tree):
    (tree / "b" / "drive").mkdir()
    (tree / "b" / "drive" / "000000.jpg").touch()
    assert names("b/drive.mp4", "b") == ["drive.mp4", "1.jpg", "1.png", "drive/000000"]


def test_a_file_is_taken_once_however_often_it_is_named(tree):
    assert names("a/1.jpg", "a", "./b/../a/1.jpg", "a/*.jpg") == ["1", "sub/2"]


def test_patterns_that_no_shell_expanded_are(tree):
    assert names("a/*.jpg") == ["1"]
    assert names("**/*.PNG") == ["2"]
    (tree / "odd[1].jpg").touch()
    assert names("odd[1].jpg") == ["odd[1]"]


def test_root_names_files_by_their_paths_below_it(tree):
    assert names("a/1.jpg", "a/sub/2.PNG", root=tree) == ["a/1", "a/sub/2"]
    with pytest.raises(InputError, match=r"1\.jpg doesn't lie in --root a/sub"):
        find_sources(["a/1.jpg"], root=type(tree)("a/sub"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a/9.jpg", "a/9.jpg is missing"),
        ("a/*.bmp", "nothing is called so"),
        ("b/notes.txt", "b/notes.txt: neither an image nor a video by its name"),
        ("empty", "empty: no image or video in this folder"),
    ],
)
def test_what_is_nothing_to_look_at_is_named(tree, word, message):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=message.replace("*", r"\*")):
        find_sources([word])
