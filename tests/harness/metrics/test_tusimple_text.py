"""What is read of TuSimple's lines: bad ones are refused and named, odd ones counted and said."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.metrics.tusimple import score_file
from harness.metrics.tusimple_text import parsed
from tests.harness.metrics.tusimple_files import GOOD, LABEL, write


def test_labels_without_a_line_are_refused(tmp_path):
    for name in ("gt.json", "pred.json"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"gt\.json: no line"):
        score_file(tmp_path / "gt.json", tmp_path / "pred.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[01, -007.5, 5., -, -.5, 1.e2, 00]", [1, -7.5, 5.0, 0, -0.5, 100.0, 0]),
        ('["a\tb", "01."]', ["a\tb", "01."]),
        ("[-Infinity, 1e400, 1e-005, -]", [-np.inf, np.inf, 1e-5, 0]),
        ("[NaN]", [pytest.approx(np.nan, nan_ok=True)]),
        ("[.5]", ValueError),
        ("[1..2]", ValueError),
        ("[-e5]", ValueError),
        ("[1,]", ValueError),
    ],
)
def test_json_is_read_as_leniently_as_by_ujson(text, value):
    if value is ValueError:
        with pytest.raises(ValueError, match="char"):
            parsed(text)
    else:
        assert parsed(text) == value


def test_only_labels_that_are_asked_for_need_their_keys(tmp_path):
    label = {"raw_file": "a", "lanes": [[5, 6, 7]], "h_samples": [10, 20, 30]}
    counts, _ = score_file(*write(tmp_path, [GOOD, GOOD], [label, {"raw_file": "b"}]))
    assert counts.labelled == 2
    with pytest.raises(InputError, match=r"gt\.json, line 2: no key 'lanes'"):
        score_file(*write(tmp_path, [GOOD, {**GOOD, "raw_file": "b"}], [label, {"raw_file": "b"}]))


@pytest.mark.parametrize("lanes", [[[5, 6]], [[5, 6, 7, 8]], [[5, 6, 7], [5, 6]]])
def test_label_lanes_of_another_length_than_the_rows_are_refused(tmp_path, lanes):
    with pytest.raises(InputError, match=r"gt\.json"):
        score_file(*write(tmp_path, [GOOD], [{**LABEL, "lanes": lanes}]))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[1]",
        "7",
        {**GOOD, "lanes": [[5, 6]]},
        {**GOOD, "lanes": [[5, 6, "7"]]},
        {**GOOD, "lanes": [["5", "6", "7"]]},
        {**GOOD, "lanes": [[5, 6, None]]},
        {**GOOD, "lanes": [5, 6, 7]},
        {**GOOD, "lanes": None},
        {**GOOD, "run_time": "1"},
        {**GOOD, "raw_file": "b"},
        {**GOOD, "raw_file": ["a"]},
        {**GOOD, "run_time": None},
        {**GOOD, "lanes": [[[5, 5], [6, 6], [7, 7]]]},
        '{"raw_file": "a", "lanes": [[5, 6, .5]], "run_time": 1}',
        "\ufeff{}",
        "[" * 100000,
    ],
)
def test_bad_lines_are_refused_and_named(tmp_path, line):
    with pytest.raises(InputError, match=r"pred\.json, line 1: "):
        score_file(*write(tmp_path, [line]))


@pytest.mark.parametrize("line", [{**GOOD, "lanes": [[5, None, 7]]}, {**GOOD, "lanes": [[5, 6, 7], [None] * 3]}])
def test_null_for_no_point_is_told_in_words(tmp_path, line):
    with pytest.raises(InputError, match=r"pred\.json, line 1: a value is null; -2 means no point: correct the lanes"):
        score_file(*write(tmp_path, [line]))
    with pytest.raises(InputError, match=r"a value is null; -2 .* or in .*gt\.json, line 1"):
        score_file(*write(tmp_path, [GOOD], [{**LABEL, "lanes": [[5, None, 7]]}]))


def test_a_blank_line_is_to_be_deleted(tmp_path):
    labels, predictions = write(tmp_path, [GOOD, ""], [LABEL, {**LABEL, "raw_file": "b"}])
    with pytest.raises(InputError, match=r"pred\.json, line 2: a blank line: delete it"):
        score_file(labels, predictions)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("/data/clips/0530/1/20.jpg", "name it 'clips/0530/1/20.jpg', as there"),
        ("/clips/0530/1/20.jpg", "name it 'clips/0530/1/20.jpg', as there"),
        ("0530/1/20.jpg", "name it 'clips/0530/1/20.jpg', as there"),
        ("Clips/0530/1/20.JPG", "name it 'clips/0530/1/20.jpg', as there"),
        (r"clips\0530\1\20.jpg", "name it 'clips/0530/1/20.jpg', as there"),
        (r"D:\TuSimple\clips\0530\1\20.jpg", "name it 'clips/0530/1/20.jpg', as there"),
        ("clips/0530/2/20.jpg", "remove the line"),
        ("xclips/0530/1/20.jpg", "remove the line"),
        ("", "remove the line"),
        (5, "remove the line"),
    ],
)
def test_an_image_that_is_named_otherwise_than_its_label_is_told_its_name(tmp_path, name, fix):
    label = {**LABEL, "raw_file": "clips/0530/1/20.jpg"}
    with pytest.raises(InputError, match=rf"is not in .*gt\.json: {re.escape(fix)}$"):
        score_file(*write(tmp_path, [{**GOOD, "raw_file": name}], [label]))


@pytest.mark.parametrize(
    "text",
    ["200.000000000000014210854715202005", "200.000000000000014210854715202", "200.00000000000003", "20e1", "200.5"],
)
def test_a_run_time_at_the_limit_is_what_python_reads(tmp_path, text):
    # The first lies just above the middle of 200 and the next double, the second just below it.
    line = f'{{"raw_file": "a", "lanes": [[5, 6, 7]], "run_time": {text}}}'
    counts, _ = score_file(*write(tmp_path, [line]))
    assert counts.accuracy.tolist() == [0.0 if float(text) > 200 else 1.0]


@pytest.mark.parametrize("run_time", ["1", None, [1], {}])
def test_a_run_time_that_is_no_number_is_named(tmp_path, run_time):
    with pytest.raises(InputError, match=r"pred\.json, line 1: run_time is .*, not a number: give milliseconds"):
        score_file(*write(tmp_path, [{**GOOD, "run_time": run_time}]))


NAN = float("nan")


@pytest.mark.parametrize(
    ("line", "what", "accuracy"),
    [
        # values that the official script has these answers for
        ({**GOOD, "run_time": 200.5}, "run_time 200.5 is above 200", 0.0),
        ({**GOOD, "run_time": 10**400}, "run_time 1000.*000 is above 200", 0.0),
        ({**GOOD, "run_time": 201, "more": 1}, "run_time 201 is above 200", 0.0),
        ({**GOOD, "run_time": NAN}, "run_time: nan is not finite", 1.0),
        ({**GOOD, "run_time": True}, "run_time: a truth value", 1.0),
        ({**GOOD, "lanes": [[5, 6, NAN]]}, "lanes: nan is not finite", 2 / 3),
        ({**GOOD, "lanes": [[5, 6, 7], [True, 6, 7]]}, "lanes: a truth value", 1.0),
        ({**GOOD, "lanes": [[[5], [6], [7]]]}, "lanes: a list, not a number", 3.0),
        ({**GOOD, "lanes": {}}, "lanes: an object, not a list of lanes", 0.0),
        ({**GOOD, "lanes": ""}, "lanes: a text, not a list of lanes", 0.0),
        (
            '{"raw_file": "a", "lanes": [[9, 9, 9]], "run_time": 1, "lanes": [[5, 6, 7]]}',
            "key 'lanes' .* more than",
            1.0,
        ),
        ('{"raw_file": "b", "lanes": [[5, 6, 7]], "run_time": 1, "raw_file": "a"}', "key 'raw_file' .* more than", 1.0),
    ],
)
def test_odd_predictions_are_counted_and_said_and_refused_when_strict(tmp_path, line, what, accuracy):
    files = write(tmp_path, [GOOD, line], [LABEL, {**LABEL, "raw_file": "c"}])
    counts, odd = score_file(*files)
    assert counts.accuracy.tolist() == pytest.approx([1.0, accuracy])
    (oddity,) = (one for one in odd if "predicted again" not in one.what)
    assert (oddity.file, oddity.line) == (files[1], 2)
    assert re.match(what, oddity.what)
    files = write(tmp_path, [line])
    with pytest.raises(InputError, match=rf"pred\.json, line 1: {what}"):
        score_file(*files, strict=True)


@pytest.mark.parametrize(
    ("label", "what"),
    [
        ({"lanes": [[5, 6, False]]}, "lanes: a truth value"),
        ({"h_samples": [10, 20, True]}, "h_samples: a truth value"),
        ({"h_samples": "abc", "lanes": []}, "h_samples: a text"),
    ],
)
def test_odd_labels_are_counted_and_said(tmp_path, label, what):
    files = write(tmp_path, [GOOD], [{**LABEL, **label}])
    _, (oddity,) = score_file(*files)
    assert (oddity.file, oddity.line) == (files[0], 1)
    assert oddity.what.startswith(what)


def test_of_repeated_labels_the_last_counts_and_that_is_said(tmp_path):
    files = write(tmp_path, [GOOD, GOOD], [{**LABEL, "lanes": [[900, 900, 900]]}, LABEL])
    counts, odd = score_file(*files)
    assert counts.accuracy.tolist() == [1.0, 1.0]
    # The official mean is over the labels' names (`len(gts)`), of which there is one.
    assert (counts.labelled, counts.mean(counts.accuracy)) == (1, 2.0)
    assert (odd[0].file, odd[0].line) == (files[0], 1)
    assert "labelled again on line 2" in odd[0].what


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        {**GOOD, "run_time": 200},
        {**GOOD, "lanes": []},
        {**GOOD, "more": [True, None, "x"], "h_samples": "any"},
        {**GOOD, "lanes": [[5.0, 6.5, -2]]},
        '{"raw_file": "a", "lanes": [[05, 6e0, 7.]], "run_time": 1e-1}',
    ],
)
def test_nothing_is_said_of_what_is_not_odd(tmp_path, line):
    assert score_file(*write(tmp_path, [line]), strict=True)[1] == ()


ROWS_IGNORED = "the official script ignores them and takes each x for one at the label's row"


@pytest.mark.parametrize("more", [{}, {"more": 1}], ids=["ordinary", "other"])
@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([30, 20, 10], "row 1 is 30, and its label's 10"),
        ([10, 20, 25.5], "row 3 is 25.5, and its label's 30"),
        ([10, 20], "2 rows, and its label has 3"),
        ([10, 20, 30], None),
        ([10.0, 20, 30], None),
    ],
)
def test_rows_of_a_prediction_that_are_not_its_labels_are_said_and_not_counted(tmp_path, rows, what, more):
    """As the official script has it, which never looks at them."""
    files = write(tmp_path, [{**GOOD, **more, "h_samples": rows}])
    counts, odd = score_file(*files)
    assert (counts.accuracy.tolist(), counts.matched.tolist()) == ([1.0], [1])
    said = [] if what is None else [f"{files[1]}, line 1: h_samples: {what}: {ROWS_IGNORED}"]
    assert [str(oddity) for oddity in odd] == said


def test_no_name_that_is_nan_is_that_of_a_label(tmp_path):
    files = write(tmp_path, [{**GOOD, "raw_file": NAN}], [{**LABEL, "raw_file": NAN}])
    with pytest.raises(InputError, match=r"pred\.json, line 1: raw_file nan is not in"):
        score_file(*files)


def test_a_repeated_image_is_odd(tmp_path):
    label = {"lanes": [[5, 6, 7]], "h_samples": [10, 20, 30]}
    files = write(tmp_path, [GOOD, GOOD], [{"raw_file": "a", **label}, {"raw_file": "b", **label}])
    counts, odd = score_file(*files)
    assert counts.labelled == 2
    assert odd[0].line == 2
    with pytest.raises(InputError, match="line 2"):
        score_file(*files, strict=True)


@given(st.binary(max_size=120))
def test_bytes_that_are_no_predictions_are_refused(tmp_path_factory, text):
    labels, predictions = write(tmp_path_factory.mktemp("fuzz"), [GOOD])
    predictions.write_bytes(text)
    with pytest.raises(InputError, match=r"pred\.json"):
        score_file(labels, predictions)


LINE = json.dumps(GOOD).encode() + b"\n"


@given(
    st.integers(0, len(LINE)),
    st.integers(0, 4),
    st.one_of(st.binary(max_size=3), st.sampled_from([b"7", b"1e", b"-", b".5"])),
)
def test_a_line_with_other_bytes_in_it_is_scored_or_refused(tmp_path_factory, start, length, other):
    files = write(tmp_path_factory.mktemp("fuzz"), [GOOD])
    files[1].write_bytes(LINE[:start] + other + LINE[start + length :])
    with suppress(InputError):
        counts, _ = score_file(*files)
        assert (counts.images, counts.labelled, counts.n_gt.tolist()) == (("a",), 1, [1])
        assert counts.matched.tolist() == [int(counts.accuracy[0] >= 0.85)]
