"""culane/official against what the C++ evaluator said, and its behaviour on damaged input."""

from __future__ import annotations

import gzip
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.metrics.counts import LADDER
from harness.metrics.culane import IMAGE_SIZE, LANE_WIDTH, label_ious, read_bytes, read_file, score_images
from harness.metrics.image_lists import lanes_file, read_lists
from harness.metrics.overlaps import Painter
from harness.metrics.splits import count_splits


@pytest.fixture(scope="session")
def painter():
    return Painter(IMAGE_SIZE, LANE_WIDTH)


@pytest.fixture(scope="session")
def official(shared, culane_kit):
    lists = read_lists(sorted((shared / "conformance/culane/list/test_split").glob("*.txt")))
    return count_splits(lists, partial(score_images, culane_kit / "gt", culane_kit / "pred_a", thresholds=(0.3,)))


def counted(sums):
    return [sums.tp, sums.fp, sums.fn]


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_every_split_counts_as_the_official_binary(shared, official, threshold):
    expected = json.loads((shared / "conformance/culane/expected.json").read_text())["pred_a"]["cpp_official_binary"]
    expected = expected[f"{threshold:.2f}"]
    for name, counts in [*official.splits.items(), ("total", official.total)]:
        sums = counts.sums(threshold)
        assert counted(sums) == [expected[name][key] for key in ("tp", "fp", "fn")], name
        assert sums.precision == pytest.approx(expected[name]["precision"], abs=1e-12), name
        assert sums.recall == (None if expected[name]["recall"] is None else pytest.approx(expected[name]["recall"])), (
            name
        )
        assert sums.f1 == (None if expected[name]["f1"] is None else pytest.approx(expected[name]["f1"])), name


def test_mf1_is_the_official_one(shared, official):
    expected = json.loads((shared / "conformance/culane/expected.json").read_text())["pred_a"]["cpp_mF1_0.50:0.95"]
    assert official.total.mf1 == pytest.approx(expected, abs=1e-12)


def test_every_image_has_the_official_ious_and_counts(shared, culane_kit, official, painter):
    counts = official.total
    row_of = {image: row for row, image in enumerate(counts.images)}
    column_of = {f"{threshold:.2f}": column for column, threshold in enumerate(counts.thresholds)}
    with gzip.open(shared / "conformance/culane/per_image_all_pred_a.jsonl.gz", "rt") as lines:
        images = [json.loads(line) for line in lines]
    assert len(images) == len(counts.images) == 1500
    for expected in images:
        image = expected["img"].lstrip("/")
        row = row_of[image]
        assert (counts.n_gt[row], counts.n_pred[row]) == (expected["n_gt"], expected["n_pred"]), image
        for threshold, (tp, fp, fn) in expected["counts"].items():
            found = counts.tp[row, column_of[threshold]]
            assert (found, counts.n_pred[row] - found, counts.n_gt[row] - found) == (tp, fp, fn), (image, threshold)
        label, _ = read_bytes(lanes_file(culane_kit / "gt", image))
        predictions, _ = read_file(lanes_file(culane_kit / "pred_a", image))
        _, ious = label_ious(label, predictions, painter, None)
        if ious.size:
            np.testing.assert_allclose(ious, np.array(expected["iou"]), atol=1e-6, err_msg=image)


def test_every_edge_case_counts_as_the_official_evaluator(shared, painter):
    edge = shared / "conformance/culane/edge"
    cases = json.loads((edge / "expected.json").read_text())
    assert cases
    for name, case in cases.items():
        counts, _ = score_images(edge / "gt", edge / "pred", [f"{name}.jpg"])
        for threshold in (0.5, 0.75):
            expected = case["cpp"]["counts"][f"{threshold:.2f}"]
            assert counted(counts.sums(threshold)) == expected, (name, case["what"], threshold)
        label, _ = read_bytes(lanes_file(edge / "gt", name + ".jpg"))
        predictions, _ = read_file(lanes_file(edge / "pred", name + ".jpg"))
        (_, ious), expected = label_ious(label, predictions, painter, None), case["cpp"]["iou"]
        if ious.size:
            expected = np.array([[math.nan if value is None else value for value in row] for row in expected], float)
            np.testing.assert_allclose(ious, expected, atol=1e-6, err_msg=name)


def write(root: Path, image: str, text: bytes) -> None:
    file = Path(lanes_file(root, image))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)


@pytest.fixture
def roots(tmp_path):
    labels, predictions = tmp_path / "labels", tmp_path / "predictions"
    labels.mkdir()
    predictions.mkdir()
    write(labels, "a.jpg", b"100 500 200 300 300 200\n")
    write(predictions, "a.jpg", b"100 500 200 300 300 200\n")
    return labels, predictions


def test_one_lane_found(roots):
    counts, odd = score_images(*roots, ["a.jpg"])
    assert odd == ()
    assert counts.tp.tolist() == [[1] * 10]
    assert counts.thresholds == LADDER


def test_an_iou_equal_to_the_threshold_does_not_count(roots):
    write(roots[1], "a.jpg", b"100 500 200 300 300 200\n")
    counts, _ = score_images(*roots, ["a.jpg"], thresholds=(1.0, 0.999))
    assert counted(counts.sums(1.0)) == [0, 1, 1]
    assert counted(counts.sums(0.999)) == [1, 0, 0]


def test_missing_files_are_no_lanes_and_said(roots):
    write(roots[0], "only_label.jpg", b"1 2 3 4\n")
    write(roots[1], "only_prediction.jpg", b"1 2 3 4\n5 6 7 8\n")
    counts, odd = score_images(*roots, ["a.jpg", "only_label.jpg", "only_prediction.jpg"])
    assert counted(counts.sums(0.5)) == [1, 2, 1]
    assert [o.file for o in odd] == [roots[1] / "only_label.lines.txt", roots[0] / "only_prediction.lines.txt"]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    "text", [b"1 2 3 4\n\n", b"1 2\n", b"1 2 3\n", b"1 2 3 x\n", b"1 2 3 4 3 4\n", b"1 2 1e300 4\n"]
)
def test_strict_refuses_what_is_odd_and_names_file_and_line(roots, side, text):
    write(roots[side], "a.jpg", b"9 9 8 8\n" + text)
    _, odd = score_images(*roots, ["a.jpg"])
    (oddity,) = odd
    with pytest.raises(InputError, match=rf"a\.lines\.txt, line {oddity.line}: "):
        score_images(*roots, ["a.jpg"], strict=True)


def test_lanes_that_have_no_iou_are_said(roots):
    for root in roots:
        write(root, "a.jpg", b"-500 10 -400 20\n")
    counts, odd = score_images(*roots, ["a.jpg"])
    assert counted(counts.sums(0.5)) == [0, 1, 1]
    assert "undefined" in odd[0].what


def test_roots_that_are_none_are_refused(roots, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        score_images(tmp_path / "nowhere", roots[1], ["a.jpg"])
    with pytest.raises(InputError, match="no such folder"):
        score_images(roots[0], roots[1] / "a.lines.txt", ["a.jpg"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="not a single"):
        score_images(empty, roots[1], ["a.jpg"])


def test_labels_in_a_folder_that_is_a_link_are_labels(roots, tmp_path):
    for root in roots:
        (tmp_path / f"linked {root.name}").mkdir()
        (tmp_path / f"linked {root.name}" / "clip").symlink_to(root)
    counts, _ = score_images(tmp_path / "linked labels", tmp_path / "linked predictions", ["clip/a.jpg"])
    assert counted(counts.sums(0.5)) == [1, 0, 0]


def test_a_folder_in_place_of_a_file_is_no_lanes(roots):
    (roots[1] / "a.lines.txt").unlink()
    (roots[1] / "a.lines.txt").mkdir()
    counts, odd = score_images(*roots, ["a.jpg"])
    assert counted(counts.sums(0.5)) == [0, 0, 1]
    assert [o.what for o in odd] == ["a folder, not a file: it counts as no lanes"]


def test_a_file_that_cannot_be_opened_is_no_lanes(roots):
    (roots[1] / "a.lines.txt").unlink()
    (roots[1] / "a.lines.txt").symlink_to("a.lines.txt")
    counts, odd = score_images(*roots, ["a.jpg"])
    assert counted(counts.sums(0.5)) == [0, 0, 1]
    assert "no lanes" in odd[0].what


def test_a_lane_that_the_official_program_crashes_on_is_refused(roots):
    write(roots[1], "a.jpg", b"952 1e39 590 0\n")
    with pytest.raises(InputError, match=r"a\.lines\.txt, .* crashes on"):
        score_images(*roots, ["a.jpg"])


def test_another_image_size_and_lane_width(roots):
    write(roots[0], "a.jpg", b"50 0 50 99\n")
    write(roots[1], "a.jpg", b"54 0 54 99\n")
    arguments = {"image_size": (100, 200), "thresholds": (7 / 15, 0.46)}
    counts, _ = score_images(*roots, ["a.jpg"], lane_width=10, **arguments)
    # 11 columns each, 7 of them common, 15 in all; the strict comparison leaves the exact value out
    assert counts.sums(7 / 15).tp == 0
    assert counts.sums(0.46).tp == 1


def test_threads_and_order_do_not_matter(culane_kit, official):
    images = official.total.images[:200]
    one, _ = score_images(culane_kit / "gt", culane_kit / "pred_a", images, workers=1)
    many, _ = score_images(culane_kit / "gt", culane_kit / "pred_a", images[::-1], workers=5)
    np.testing.assert_array_equal(one.tp, many.tp[::-1])
    assert one.images == many.images[::-1]


def test_progress_is_told_of_every_image(culane_kit, official):
    told = []
    score_images(culane_kit / "gt", culane_kit / "pred_a", official.total.images[:100], progress=told.append)
    assert sum(told) == 100


def test_an_error_in_the_progress_stops_the_work(culane_kit, official):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_images(culane_kit / "gt", culane_kit / "pred_a", official.total.images, progress=interrupted)


LINE = st.lists(
    st.one_of(
        st.integers(-(10**13), 10**13).map(str),
        st.floats().map(repr),
        st.sampled_from(["nan", "inf", "-", "1e999", "x", "1e39", "-1e300", "0", "820", "295", "\x00"]),
    ),
    max_size=12,
).map(" ".join)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=200), st.lists(LINE, max_size=5).map(lambda lines: "\n".join(lines).encode())),
    st.booleans(),
)
def test_hostile_predictions_never_break_the_scoring(roots, text, swap):
    labels, predictions = roots[::-1] if swap else roots
    write(roots[1], "a.jpg", text)
    try:
        counts, odd = score_images(labels, predictions, ["a.jpg"], workers=1)
    except InputError as error:
        if "divides by zero" not in str(error):
            raise
        return
    assert (counts.tp <= np.minimum(counts.n_gt, counts.n_pred)[:, None]).all()
    lines = text.count(b"\n") + (bool(text) and not text.endswith(b"\n"))
    assert (counts.n_gt if swap else counts.n_pred).tolist() == [lines]
    assert all(o.line is None or 1 <= o.line <= lines for o in odd)
