"""What a program writes is read strictly: whatever is wrong with it is told in a line."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from detectors.programs import read_program
from harness.datasets.base import Frame, open_dataset
from harness.errors import InputError
from harness.programs.exchange import FACTS, TEXT, read_facts, read_timings
from harness.programs.run import Exchange, ask, last_words
from tests.harness.programs.seer import SEER, describe, fail


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import sys; print('no such GPU'); sys.exit(3)", ["seer ended with exit code 3", "'no such GPU'", "program.log"]),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", ["was killed by SIGSEGV", "printed nothing"]),
        ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)", ["seer was killed by signal "]),
        ("pass", ["6 of 6 images have no predictions", "an image without lanes has an empty file"]),
        (
            SEER.replace("if number else []", "") + "\ntarget.write_text('10 20 3')",
            [".lines.txt:1: 3 numbers, an odd count"],
        ),
        (SEER + "\ntarget.unlink()", ["1 of 6 images have no predictions"]),
        (SEER + "\nopen(timings, 'a').write('{\"id\": ')", ["timings.jsonl:7: not JSON", "stopped while it wrote"]),
        (
            SEER.replace('"milliseconds": 10.0 + number', '"milliseconds": float("nan")'),
            ["timings.jsonl:1: 'milliseconds' is nan, not a positive number"],
        ),
        (SEER.replace("if number:", "") + "\nfacts.write_text('[1]')", ["facts.json: not an object of at most 40 texts"]),
    ],
    ids=["exit code", "signal", "signal without a name", "nothing written", "half a line", "one missing", "half a timing",
         "no time", "no facts"],
)  # fmt: skip
def test_what_a_program_does_wrong_is_told_in_one_line(folder, capsys, script, told):
    (folder / "seer.py").write_text(script)
    line = fail(folder, capsys)
    for words in told:
        assert words in line
    assert not (folder / "results" / "suite" / "records").exists()


def test_a_program_answers_in_tusimples_format_at_the_rows_of_each_image(tmp_path, trees):
    trees.write_tusimple(tmp_path / "data", {"train": 1, "test": 3})
    dataset = open_dataset("tusimple", tmp_path / "data")
    frames = dataset.frames("test")
    (tmp_path / "seer.py").write_text(
        "import json, pathlib, sys\n"
        "entries = [json.loads(line) for line in open(sys.argv[1])]\n"
        "lines = [json.dumps({'raw_file': e['id'], 'lanes': [[-2] + [100.25] * (len(e['h_samples']) - 1)], 'run_time': 5})\n"
        "         for e in reversed(entries)]\n"
        "(pathlib.Path(sys.argv[2]) / 'predictions.json').write_text('\\n'.join(lines))\n"
        "pathlib.Path(sys.argv[3]).write_text('{}')\n"
    )
    path = describe(
        tmp_path,
        forms={"tusimple": {"confidence_threshold": 0.5}},
        command=[sys.executable, "seer.py", "{images}", "{predictions}", "{facts}"],
    )
    described, settings = read_program(path), {"device": "cpu", "threads": 1, "progress": lambda a, b: None}
    answer = ask(described, dataset, frames, tmp_path / "exchange", **settings)
    assert answer.milliseconds is None
    for lanes in answer.lanes:
        (lane,) = lanes
        assert np.array_equal(np.unique(lane.points[:, 0]), [100.25])
        assert (lane.points[0, 1], lane.points[-1, 1]) == (710, 170)
    (tmp_path / "seer.py").write_text("pass")
    with pytest.raises(InputError, match="didn't write"):
        ask(described, dataset, frames, tmp_path / "exchange", **settings)


TELLING = """
import json, os, pathlib, sys, time
entries = [json.loads(line) for line in open(sys.argv[1])]
for number, entry in enumerate(entries[::-1]):
    target = pathlib.Path(sys.argv[2]) / entry["predictions"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("")
    with open(sys.argv[3], "a") as timings:
        timings.write(json.dumps({"id": entry["id"], "milliseconds": number + 1}) + "\\n")
    time.sleep(0 if number else 0.6)
told = {"here": os.getcwd(), "tea": os.environ["TEA"], "cup": os.environ["CUP"], "words": " ".join(sys.argv[5:])}
size = "{width} x {height}".format(**entries[0])
pathlib.Path(sys.argv[4]).write_text(json.dumps({**told, "size": size}))
"""


def test_a_program_is_told_what_its_description_says_and_has_the_time_of_all_images(tmp_path, trees, monkeypatch):
    """Its start alone takes longer than `start_seconds`."""
    for name in ("a", "b", "c"):
        trees.picture(tmp_path / f"data/clip/{name}.jpg", [], (36, 64))
    (tmp_path / "data/list").mkdir()
    (tmp_path / "data/list/test.txt").write_text("/clip/a.jpg\n/clip/b.jpg\n/clip/c.jpg\n")
    dataset = open_dataset("culane", tmp_path / "data")
    (tmp_path / "seer.py").write_text(TELLING)
    (tmp_path / "kitchen").mkdir()
    monkeypatch.setenv("TEA", "black")
    monkeypatch.setenv("CUP", "blue")
    words = ["images", "predictions", "timings", "facts", "checkpoint", "device", "threads", "form"]
    path = describe(
        tmp_path,
        forms={"culane": {"confidence_threshold": 0.5, "checkpoint": "weights.bin"}},
        command=[sys.executable, "../seer.py", *(f"{{{word}}}" for word in words)],
        folder="kitchen",
        environment={"TEA": "green"},
        start_seconds=0.01,
        seconds_per_image=20,
    )
    seen = []
    answer = ask(
        read_program(path),
        dataset,
        dataset.frames("test"),
        tmp_path / "exchange",
        device="cuda",
        threads=3,
        progress=lambda done, images: seen.append((done, images)),
    )
    assert answer.facts == {
        "here": str(tmp_path / "kitchen"),
        "tea": "green",
        "cup": "blue",
        "words": f"{tmp_path / 'weights.bin'} cuda 3 culane",
        "size": "64 x 36",
    }
    assert answer.milliseconds == [3, 2, 1]
    assert (1, 3) in seen
    assert {images for _, images in seen} == {3}


ANSWER = """
import json, pathlib, sys
entries = [json.loads(line) for line in open(sys.argv[1])]
there = pathlib.Path(sys.argv[2])
file = there / "predictions.json"
def line(e): return json.dumps({"raw_file": e["id"], "lanes": [[7] * len(e["h_samples"])], "run_time": 5})
def write(e, text):
    target = there / e["predictions"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
"""
"""How a program begins that answers entry by entry, in TuSimple's format by `line`, in the others' by `write`."""


@pytest.mark.parametrize(
    ("form", "script", "told"),
    [
        ("tusimple", "pass", ["didn't write", "predictions.json", "0 files are there", "it printed nothing"]),
        ("tusimple", "(there / '1.lines.txt').write_text('1 2 3 4')", ["1 files are there, the first is 1.lines.txt"]),
        (
            "tusimple",
            "file.write_text(''.join(line(e) + '\\n' for e in entries)[:-9])",
            ["predictions.json:3: ", "one line an image"],
        ),
        (
            "tusimple",
            "file.write_text('\\n'.join(line(e) for e in entries[1:]))",
            ["1 of 3 images have no line, the first is"],
        ),
        (
            "tusimple",
            "file.write_text('\\n'.join(line(entries[0]) for e in entries))",
            ["predictions.json:2: ", "is there already"],
        ),
        (
            "tusimple",
            "file.write_text(json.dumps({'raw_file': entries[0]['id'], 'lanes': [[7]]}))",
            ["predictions.json:1: lane 1 has 1 values for"],
        ),
        (
            "culane",
            "print('done'); file.write_text('{}')",
            ["3 of 3 images have no predictions", "1 files are there, the first is predictions.json", "'done'"],
        ),
        (
            "culane",
            "[write(e, '1, 2, 3, 4') for e in entries]",
            [".lines.txt:1: value 1 is '1,', not a decimal number"],
        ),
        ("culane", "[write(e, '1 2 3 4') for e in entries[:2]]", ["1 of 3 images have no predictions", "2 files are"]),
        ("llamas", "[write(e, '1 2 3') for e in entries]", [".lines.txt:1: 3 numbers, an odd count", "3 files are"]),
        (
            "culane",
            "[write(e, '') for e in (*entries, {'predictions': 'clip/9.lines.txt'})]",
            ["1 predictions are of none of the images, the first is ", "clip/9.lines.txt; 4 files are there"],
        ),
        (
            "tusimple",
            "file.write_text('\\n'.join(line(e) for e in (*entries, {**entries[0], 'id': 'clips/9/20.jpg'})))",
            ["predictions.json:4: raw_file 'clips/9/20.jpg' is none of the images"],
        ),
        ("culane", "import shutil; shutil.rmtree(there.parent)", ["no predictions", "its log can't be read"]),
    ],
)
def test_what_is_wrong_with_an_answer_is_told_in_one_line(tmp_path, trees, form, script, told):
    small = (36, 64)
    if form == "culane":
        names = [f"clip/{number}.jpg" for number in range(3)]
        for name in names:
            trees.picture(tmp_path / "data" / name, [], small)
        (tmp_path / "data" / "list").mkdir()
        (tmp_path / "data" / "list" / "test.txt").write_text("".join(f"/{name}\n" for name in names))
    else:
        splits = {"train": 1, "valid": 3} if form == "llamas" else {"train": 1, "test": 3}
        getattr(trees, f"write_{form}")(tmp_path / "data", splits, small)
    dataset = open_dataset(form, tmp_path / "data")
    (tmp_path / "seer.py").write_text(ANSWER + script)
    path = describe(
        tmp_path,
        forms={form: {"confidence_threshold": 0.5}},
        command=[sys.executable, "seer.py", "{images}", "{predictions}"],
    )
    with pytest.raises(InputError) as refused:
        ask(
            read_program(path),
            dataset,
            dataset.frames("val" if form == "llamas" else "test"),
            tmp_path / "exchange",
            device="cpu",
            threads=1,
            progress=lambda done, images: None,
        )
    line = str(refused.value)
    assert "\n" not in line
    assert "seer ended well, but " in line
    for words in told:
        assert words in line


def test_a_file_that_a_program_owes_and_did_not_write_is_told(folder, capsys):
    (folder / "seer.py").write_text(SEER.replace('open(timings, "a")', 'open("elsewhere", "a")'))
    line = fail(folder, capsys)
    assert "seer ended well, but didn't write" in line
    assert "timings.jsonl; a program whose command has its place writes it" in line
    assert "'hello from the seer'" in line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": ["a"], "milliseconds": 1}', "'id' is \"['a']\", none of the images"),
        ('{"id": "a", "milliseconds": true}', "'milliseconds' is True, not a positive number"),
        ('{"id": "a", "milliseconds": 0}', "'milliseconds' is 0, not a positive number"),
        ('["a", 1]', "not a JSON object"),
        (f'{{"id": "a", "milliseconds": {10**400}}}', "'milliseconds' is 1000000000"),
        ('{"id": "a", "milliseconds": 1e305}', "'milliseconds' is 1e+305, not a positive number below 1e+12"),
        ('{"id": "a", "milliseconds": -1e400}', "is -inf, not a positive number"),
    ],
)
def test_a_time_that_is_none_is_told_with_its_line(tmp_path, line, told):
    (tmp_path / "timings.jsonl").write_text(line)
    with pytest.raises(InputError) as refused:
        read_timings(tmp_path / "timings.jsonl", [Frame("a", tmp_path / "a.jpg", None, "clip")])
    assert "timings.jsonl:1: " in str(refused.value)
    assert told in str(refused.value)


def test_facts_that_no_record_can_hold_are_refused(tmp_path):
    (tmp_path / "facts.json").write_text('{"half a pair": "\\ud800"}')
    with pytest.raises(InputError, match=r"facts\.json: .*surrogates not allowed"):
        read_facts(tmp_path / "facts.json")


def test_every_image_is_timed_once(tmp_path):
    frames = [Frame(name, tmp_path / f"{name}.jpg", None, "clip") for name in ("a", "b", "c")]
    lines = [f'{{"id": "{name}", "milliseconds": 1.5}}\n' for name in "abc"]
    (tmp_path / "timings.jsonl").write_text("".join([*lines, lines[0]]))
    with pytest.raises(
        InputError, match=r"timings\.jsonl:4: a was timed already; the program writes one line an image"
    ):
        read_timings(tmp_path / "timings.jsonl", frames)
    (tmp_path / "timings.jsonl").write_text(lines[0])
    with pytest.raises(InputError, match=r"2 of 3 images weren't timed, the first is b; "):
        read_timings(tmp_path / "timings.jsonl", frames)


@pytest.mark.parametrize(
    "facts",
    [{str(number): "" for number in range(FACTS + 1)}, {"a": "x" * (TEXT + 1)}, {"x" * (TEXT + 1): "a"}, {"a": 1}],
    ids=["too many", "too long", "too long a name", "a number"],
)
def test_facts_are_few_and_short_texts(tmp_path, facts):
    path = tmp_path / "facts.json"
    most = {f"{number:0{TEXT}}": "x" * TEXT for number in range(FACTS)}
    path.write_text(json.dumps(most))
    assert read_facts(path) == most
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"facts\.json: not an object of at most 40 texts of at most 300 characters"):
        read_facts(path)


def test_last_words_are_the_end_of_the_last_line_as_far_as_it_can_be_shown(tmp_path):
    log = Exchange(tmp_path).log
    log.write_bytes(b"first\n" * 20_000 + b"begins" + b"x" * 188 + b"\x1b[2Jends\xff\n \n")
    assert (
        last_words(Exchange(tmp_path))
        == f"its last words: {'ins' + 'x' * 188 + ' [2Jends' + chr(0xFFFD)!r}; log: {log}"
    )
