"""tusimple/official against what the official script said, and against a slow statement of its rules."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.metrics.tusimple import score_file, score_image
from harness.metrics.tusimple_lanes import accuracies, careful_accuracies, fitted_slope, official_slope
from tests.harness.metrics.tusimple_files import GOOD, LABEL, write


@pytest.fixture(scope="session")
def kit(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tusimple")
    for name in ("gt", "pred_a"):
        (folder / f"{name}.json").write_bytes(
            gzip.decompress((shared / f"conformance/tusimple/{name}.json.gz").read_bytes())
        )
    return folder


def test_the_means_and_every_image_are_the_official_ones(shared, kit):
    counts, odd = score_file(kit / "gt.json", kit / "pred_a.json")
    expected = json.loads((shared / "conformance/tusimple/expected.json").read_text())["pred_a"]
    assert odd == ()
    for rates, name in ((counts.accuracy, "Accuracy"), (counts.fp, "FP"), (counts.fn, "FN")):
        assert counts.mean(rates) == pytest.approx(expected[name], abs=1e-13)
    assert counts.images_with_negative_fp == expected["images_with_negative_fp"]
    with gzip.open(shared / "conformance/tusimple/per_image_pred_a.jsonl.gz", "rt") as lines:
        for row, line in enumerate(lines):
            image, accuracy, fp, fn = json.loads(line)
            assert counts.images[row] == image
            assert [counts.accuracy[row], counts.fp[row], counts.fn[row]] == pytest.approx(
                [accuracy, fp, fn], abs=1e-13
            )


def test_every_edge_case_is_scored_or_refused_as_officially(shared):
    edge = shared / "conformance/tusimple/edge"
    cases = json.loads((edge.parent / "expected.json").read_text())["edge_cases"]
    for name, case in cases.items():
        files = edge / f"{name}.gt.json", edge / f"{name}.pred.json"
        if "raises" in case:
            with pytest.raises(InputError, match=rf"{name}\.pred\.json"):
                score_file(*files)
            continue
        counts, _ = score_file(*files)
        means = [counts.mean(rates) for rates in (counts.accuracy, counts.fp, counts.fn)]
        assert means == pytest.approx([case["result"][key] for key in ("Accuracy", "FP", "FN")], abs=1e-13), name


def scored_slowly(lanes, label, run_time):
    """The rules in plain Python, one after the other."""
    rows, truths = label["h_samples"], label["lanes"]
    if run_time > 200 or len(lanes) > len(truths) + 2:
        return 0.0, 0.0, 1.0
    accuracies = []
    for truth in truths:
        points = [(y, x) for y, x in zip(rows, truth, strict=True) if x >= 0]
        slope = np.polyfit(*zip(*points, strict=True), 1)[0] if len(points) > 1 else 0.0
        threshold = 20 * np.sqrt(1 + slope**2)
        shares = [
            sum(
                abs((x if x >= 0 else -100) - (t if t >= 0 else -100)) < threshold
                for x, t in zip(lane, truth, strict=True)
            )
            for lane in lanes
        ]
        accuracies.append(max(shares) / len(rows) if shares else 0.0)
    matched = sum(accuracy >= 0.85 for accuracy in accuracies)
    missed, kept = len(truths) - matched, sorted(accuracies)
    if len(truths) > 4:
        missed, kept = max(missed - 1, 0), kept[1:]
    most = max(min(4, len(truths)), 1)
    return sum(kept) / most, (len(lanes) - matched) / len(lanes) if lanes else 0.0, missed / most


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 6), st.integers(0, 8), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 8.0, 199.0, 200.5]))
def test_it_follows_the_rules(n_gt, n_pred, seed, run_time):
    generator = np.random.default_rng(seed)
    rows = list(range(240, 720, 10))

    def lanes(count, noise):
        found = []
        for lane in range(count):
            xs = (
                300
                + 120 * lane
                + (np.array(rows) - 400) * generator.normal(0, 1)
                + generator.normal(0, noise, len(rows))
            )
            xs[generator.random(len(rows)) < 0.1] = -2
            found.append([round(float(x), 3) if x >= 0 else -2 for x in xs])
        return found

    label = {"lanes": lanes(n_gt, 1), "h_samples": rows}
    close = [[x + generator.normal(0, 9) if x >= 0 else x for x in lane] for lane in label["lanes"]]
    predictions = (close + lanes(8, 3))[:n_pred]
    found = score_image(predictions, label, run_time)
    assert found[:3] == pytest.approx(scored_slowly(predictions, label, run_time), abs=1e-12)


def test_a_distance_equal_to_a_vertical_threshold_does_not_count():
    label = {"lanes": [[100] * 20], "h_samples": list(range(20))}
    assert score_image([[120] * 20], label, 0)[0] == 0.0
    assert score_image([[119] * 20], label, 0)[0] == 1.0


@given(st.lists(st.integers(-2, 1280), min_size=2, max_size=56))
def test_the_closed_form_of_the_slope_is_the_least_squares_one(xs):
    truth, ys = np.array(xs, float), np.arange(len(xs)) * 10.0
    assert fitted_slope(truth, ys) == pytest.approx(official_slope(truth, ys), rel=1e-9, abs=1e-9)


PLAIN = {"lanes": [[100] * 20], "h_samples": list(range(20))}


@pytest.mark.parametrize(("right", "matched"), [(16, 0), (17, 1), (18, 1)])
def test_of_twenty_rows_seventeen_make_a_match(right, matched):
    """85 %, and not more, are enough (evaluate/lane.py: `acc < LaneEval.pt_thresh` is a miss)."""
    found = score_image([[100] * right + [900] * (20 - right)], PLAIN, 0)
    assert found == (right / 20, 1.0 - matched, 1.0 - matched, matched, 1, 1)


@pytest.mark.parametrize(("run_time", "lanes"), [(201, [[None] * 20]), (0, [[None] * 20] * 4)])
def test_an_image_that_counts_as_one_without_a_right_lane_is_not_compared(run_time, lanes):
    """The official script gives it up before it looks at a value, but not at how many there are."""
    assert score_image(lanes, PLAIN, run_time) == (0.0, 0.0, 1.0, 0, 1, len(lanes))
    with pytest.raises(ValueError, match="a lane of 19 values for 20 rows"):
        score_image([lane[:-1] for lane in lanes], PLAIN, run_time)
    with pytest.raises(TypeError):
        score_image([[None] * 20], PLAIN, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_careful_way_gives_the_same(seed):
    generator = np.random.default_rng(seed)
    rows = list(range(240, 720, 20))
    truths = [[int(300 + 9 * y * generator.normal() / 20) for y in range(24)] for _ in range(3)]
    lanes = [[x + int(generator.integers(-30, 30)) for x in lane] for lane in truths]
    assert accuracies(lanes, truths, rows) == careful_accuracies(lanes, truths, rows)


@pytest.mark.parametrize(
    ("truth", "lane", "expected"),
    [
        # official answers for what is no lane of numbers, and yet none it fails on
        ([5, 6, 7], [True, 6, 7], [1.0]),
        ([5, 6, 7], [[5], [6], [7]], [3.0]),
        ([5, 6, 7], [float("nan"), 6, 7], [2 / 3]),
        ([5, 6, 2**70], [5, 6, 2**70], [1.0]),
        ([0, 1, 0], [0, 1, 0], [1.0]),
    ],
)
def test_odd_values_are_taken_as_numpy_takes_them(truth, lane, expected):
    assert accuracies([lane], [truth], [10, 20, 30]) == expected


@pytest.mark.parametrize(
    ("truth", "lane", "rows"),
    [
        ([True, True, False], [True, True, False], [10, 20, 30]),
        ([5, 6, float("inf")], [5, 6, 7], [10, 20, 30]),
        ([5, 6, 7], [5, 6, 7], ["10", "20", "30"]),
        ([5, 6, 7], [5, 6, 7], [float("nan")] * 3),
        ([5, 6], [5, 6, 7], [10, 20, 30]),
        ([5, 6, 7], [5, 6, None], [10, 20, 30]),
        ([5, 6, 7], [5, 6, [7, 8]], [10, 20, 30]),
    ],
)
def test_odd_values_that_numpy_fails_on_are_errors(truth, lane, rows):
    with pytest.raises((ValueError, TypeError, IndexError)):
        accuracies([lane], [truth], rows)


def test_labels_without_rows_have_no_accuracy(tmp_path):
    label = {"raw_file": "a", "lanes": [[]], "h_samples": []}
    counts, odd = score_file(*write(tmp_path, [{**GOOD, "lanes": [[]]}], [label]))
    assert np.isnan(counts.mean(counts.accuracy))
    assert (counts.matched.tolist(), counts.fn.tolist()) == ([1], [0.0])  # no NaN is below the share that makes a match
    assert (odd[0].line, "undefined" in odd[0].what) == (1, True)
    counts, odd = score_file(*write(tmp_path, [{**GOOD, "lanes": []}], [label]))
    assert (counts.mean(counts.accuracy), counts.mean(counts.fn), odd) == (0.0, 1.0, ())


def test_no_lane_at_all_is_two_thirds_by_clrnets_formula(tmp_path):
    """docs/metrics.md says so, for who sees 66.67."""
    counts, _ = score_file(*write(tmp_path, [{**GOOD, "lanes": []}]))
    assert f"{100 * counts.f1_clrnet:.2f}" == "66.67"
    assert counts.f1_matched == 0.0


def test_where_there_is_no_lane_to_find_no_f1_is_made_of_false_ones(tmp_path):
    """FP is 1 and FN 0, so that CLRNet's true positives are 0 of 0; and the pooled F1 is 0 of one lane, or of none at all."""
    empty = [{"raw_file": "a", "lanes": [], "h_samples": [10, 20, 30]}]
    counts, _ = score_file(*write(tmp_path, [GOOD], empty))
    assert (counts.mean(counts.fp), counts.mean(counts.fn)) == (1.0, 0.0)
    assert (counts.f1_clrnet, counts.f1_matched) == (None, 0.0)
    counts, _ = score_file(*write(tmp_path, [{**GOOD, "lanes": []}], empty))
    assert (counts.f1_clrnet, counts.f1_matched) == (1.0, None)


def test_both_f1_are_those_of_all_images_together(tmp_path):
    far, two = [900, 900, 900], [[5, 6, 7], [500, 510, 520]]
    labels = [LABEL, {**LABEL, "raw_file": "b", "lanes": two}]
    half = {**GOOD, "lanes": [[5, 6, 7], far]}
    counts, _ = score_file(*write(tmp_path, [half, {**GOOD, "raw_file": "b"}], labels))
    # FP 1/2 and 0, FN 0 and 1/2: CLRNet's precision is .75, and so is its recall, .75 / (.75 + .25). Matched are 2 of 3 and 3 lanes.
    assert (counts.f1_clrnet, counts.f1_matched) == pytest.approx((0.75, 2 * 2 / (3 + 3)))
    counts, _ = score_file(*write(tmp_path, [half]))
    # FP .5 and FN 0.
    assert (counts.f1_clrnet, counts.f1_matched) == pytest.approx((2 * 0.5 / 1.5, 2 * 1 / (1 + 2)))
    counts, _ = score_file(*write(tmp_path, [{**GOOD, "lanes": [far]}]))
    # FP and FN are 1: precision and recall are 0, and CLRNet divides by their sum.
    assert (counts.f1_clrnet, counts.f1_matched) == (None, 0.0)


def test_both_f1_definitions(tmp_path):
    far = [900, 900, 900]
    counts, _ = score_file(*write(tmp_path, [{**GOOD, "lanes": [[5, 6, 7], far, far]}]))
    assert counts.mean(counts.fp) == pytest.approx(2 / 3)
    assert counts.f1_matched == pytest.approx(2 * 1 / (1 + 3))
    precision, recall = 1 / 3, 1.0
    assert counts.f1_clrnet == pytest.approx(2 * precision * recall / (precision + recall))
