from __future__ import annotations

import os

import pytest

from harness.errors import InputError
from harness.metrics.image_lists import lanes_file, read_list, read_lists


def test_names_with_and_without_slash_spaces_and_carriage_returns(tmp_path):
    file = tmp_path / "test0_normal.txt"
    file.write_bytes(b"/a/1.jpg\r\nb/2.jpg  \n//c.jpg\n")
    split = read_list(file)
    assert split.name == "test0_normal"
    assert split.images == ("a/1.jpg", "b/2.jpg", "c.jpg")
    assert split.oddities == ()


@pytest.mark.parametrize(
    ("line", "lanes"),
    [
        # what the C++ evaluator opens below its root for a line of the list
        (b"d.MP4/1.jpg", b"d.MP4/1.lines.txt"),
        (b"plain", b"plain.lines.txt"),
        (b"plain\r", b"plain\r.lines.txt"),
        (b"plain ", b"plain .lines.txt"),
        (b" a.jpg", b" a.lines.txt"),
        (b"v.1/image", b"v.lines.txt"),
        (b".jpg", b".lines.txt"),
        (b"a.b.c.jpg", b"a.b.c.lines.txt"),
        (b"a.", b"a.lines.txt"),
        (b"../x.jpg", b"../x.lines.txt"),
        (b"\xff\xe9.jpg", b"\xff\xe9.lines.txt"),
        (b"\xef\xbb\xbf/a.jpg", b"\xef\xbb\xbf/a.lines.txt"),
        (b"a\0b.jpg", b"a"),
        (b"a.jpg\xc2\xa0", b"a.lines.txt"),
    ],
)
def test_the_lanes_lie_where_the_official_evaluator_looks(tmp_path, line, lanes):
    file = tmp_path / "list.txt"
    file.write_bytes(line + b"\n")
    (image,) = read_list(file).images
    assert os.fsencode(lanes_file(tmp_path, image)) == os.fsencode(tmp_path) + b"/" + lanes


def test_blank_lines_repeated_images_and_a_nul_are_odd(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("a.jpg\n\n/a.jpg\nb\0.jpg\n\n")
    split = read_list(file)
    assert split.images == ("a.jpg", "a.jpg", "b\0.jpg")
    assert [(odd.line, odd.what.split(":")[0]) for odd in split.oddities] == [
        (2, "a blank line"), (3, "a.jpg is listed again"), (4, "a NUL"), (5, "a blank line"),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_lists_without_an_image_are_refused(tmp_path, content):
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"list\.txt"):
        read_list(file)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_lists([tmp_path / "nowhere.txt"])
    with pytest.raises(InputError, match="at least one"):
        read_lists([])


def test_lists_that_overlap_or_share_a_name_are_refused(tmp_path):
    (tmp_path / "x").mkdir()
    one, two, same = tmp_path / "one.txt", tmp_path / "two.txt", tmp_path / "x" / "one.txt"
    one.write_text("a.jpg\nb.jpg\n")
    two.write_text("/b.jpg\n")
    same.write_text("c.jpg\n")
    with pytest.raises(InputError, match=r"b\.jpg"):
        read_lists([one, two])
    for other in (same, one):
        with pytest.raises(InputError, match="rename"):
            read_lists([one, other])
    assert [split.name for split in read_lists([two, same])] == ["two", "one"]


@pytest.mark.parametrize("spelling", ["./a/1.jpg", "a//1.jpg", "/./a/1.jpg", "a/../a/1.jpg", "b/.././a/1.jpg"])
def test_another_spelling_of_a_path_is_the_same_image_and_read_as_written(tmp_path, spelling):
    one, two, both = tmp_path / "one.txt", tmp_path / "two.txt", tmp_path / "both.txt"
    one.write_text("a/1.jpg\n")
    two.write_text(f"a/2.jpg\n{spelling}\n")
    both.write_text(f"a/1.jpg\n{spelling}\n")
    with pytest.raises(InputError, match=r"two\.txt: .*1\.jpg is in .*one\.txt too"):
        read_lists([one, two])
    split = read_list(both)
    assert split.images == ("a/1.jpg", spelling.removeprefix("/"))
    assert [(odd.line, "listed again" in odd.what) for odd in split.oddities] == [(2, True)]


def test_a_byte_order_mark_is_said(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\nb.jpg\n")
    (odd,) = read_list(tmp_path / "list.txt").oddities
    assert (odd.line, "byte order mark" in odd.what) == (1, True)
