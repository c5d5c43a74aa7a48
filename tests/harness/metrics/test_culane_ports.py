"""culane/clrnet against what CLRNet's own code said, and its refusals."""

from __future__ import annotations

import json
from functools import partial

import pytest

from harness.errors import InputError
from harness.metrics.culane_ports import lanes_file, listed_images, score_images
from harness.metrics.image_lists import read_lists
from harness.metrics.splits import count_splits


def test_every_threshold_counts_as_the_port(shared, culane_kit):
    expected = json.loads((shared / "conformance/culane/expected.json").read_text())["pred_a"][
        "clrnet_port_opencv_5.0.0"
    ]
    lists = read_lists(sorted((shared / "conformance/culane/list/test_split").glob("*.txt")))
    found = count_splits(lists, partial(score_images, culane_kit / "gt", culane_kit / "pred_a"))
    for threshold in found.total.thresholds:
        sums, port = found.total.sums(threshold), expected["total"][f"{threshold:.2f}"]
        assert (sums.tp, sums.fp, sums.fn) == (port["tp"], port["fp"], port["fn"]), threshold
    assert found.total.mf1 == pytest.approx(expected["mF1_0.50:0.95"], abs=1e-12)


def test_every_edge_case_counts_as_the_port_or_is_refused_with_it(shared):
    edge = shared / "conformance/culane/edge"
    for name, case in json.loads((edge / "expected.json").read_text()).items():
        if "raises" in case["clrnet"]:
            with pytest.raises(InputError, match=rf"{name}\.lines\.txt"):
                score_images(edge / "gt", edge / "pred", [f"{name}.jpg"])
            continue
        counts, _ = score_images(edge / "gt", edge / "pred", [f"{name}.jpg"])
        for threshold in (0.5, 0.75):
            sums = counts.sums(threshold)
            assert [sums.tp, sums.fp, sums.fn] == case["clrnet"][f"{threshold:.2f}"], (name, case["what"])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"1 2 3 x\n", "line 1"),
        (b"9 9 8 8\n1 2 3\n", "line 2"),
        (b"1 2 3 4 3 4 5 6\n", "fail on"),
        (b"1 2 nan 4 5 6 7 8\n", "fail on"),
        (b"\xff\xfe\n", "UTF-8"),
        (None, "every image"),
    ],
)
def test_what_the_port_raises_on_is_refused(tmp_path, text, word):
    (tmp_path / "a.lines.txt").write_text("100 500 200 300 300 200\n")
    other = tmp_path / "predictions"
    other.mkdir()
    if text is not None:
        (other / "a.lines.txt").write_bytes(text)
    with pytest.raises(InputError, match=word):
        score_images(tmp_path, other, ["a.jpg"])


def test_short_lanes_are_dropped_and_said(tmp_path):
    (tmp_path / "a.lines.txt").write_text("100 500 200 300 300 200\n\n5 5\n")
    counts, odd = score_images(tmp_path, tmp_path, ["a.jpg"])
    assert counts.n_gt.tolist() == counts.n_pred.tolist() == [1]
    assert counts.tp.tolist() == [[1] * 10]
    assert sorted(o.line for o in odd) == [2, 2, 3, 3]
    with pytest.raises(InputError, match="line 2"):
        score_images(tmp_path, tmp_path, ["a.jpg"], strict=True)


@pytest.mark.parametrize(
    ("text", "images"),
    [
        (b"/a.jpg\nb.jpg \r\nc.jpg\rd.jpg", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
        ("a.jpg\u00a0\n".encode(), ["a.jpg"]),
        (b"//a.jpg\n a.jpg\n", ["/a.jpg", " a.jpg"]),
        ("a\u2028b.jpg\n".encode(), ["a\u2028b.jpg"]),
    ],
)
def test_lists_are_read_as_the_ports_read_them(text, images):
    assert listed_images(text) == images


@pytest.mark.parametrize(
    ("text", "word"),
    [(b"a.jpg\n\nb.jpg\n", "line 2: a blank"), (b"a.jpg\n\xff\n", "line 2: not UTF-8"), (b"a\0.jpg", "line 1: a NUL")],
)
def test_lists_that_the_ports_fail_on_are_refused(tmp_path, text, word):
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(InputError, match=rf"list\.txt, {word}"):
        read_lists([tmp_path / "list.txt"], listed_images)


def test_another_image_size_and_lane_width(tmp_path):
    labels, predictions = tmp_path / "labels", tmp_path / "predictions"
    for root, x in ((labels, 50), (predictions, 54)):
        root.mkdir()
        (root / "a.lines.txt").write_text(f"{x} 0 {x} 99\n")
    sizes = {"image_size": (100, 200), "lane_width": 10}
    counts, odd = score_images(labels, predictions, ["a.jpg"], thresholds=(7 / 15, 7 / 15 - 1e-9), strict=True, **sizes)
    # 11 columns each, 7 of them common, 15 in all; ends beyond the image, which are round, would have less in common
    assert (counts.sums(7 / 15).tp, counts.sums(7 / 15 - 1e-9).tp) == (0, 1)
    assert odd == ()


def test_only_jpg_stands_for_a_file_of_lanes_and_does_so_everywhere(tmp_path):
    assert lanes_file(tmp_path, "a.jpg") == str(tmp_path / "a.lines.txt")
    assert lanes_file(tmp_path, "a.jpg/b.jpg") == str(tmp_path / "a.lines.txt" / "b.lines.txt")
    (tmp_path / "a.lines.txt").write_text("1 2 3 4\n")
    with pytest.raises(InputError, match=r"a\.png"):
        score_images(tmp_path, tmp_path, ["a.png"])
