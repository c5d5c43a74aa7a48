"""Every reader of files on damaged files: an answer or an InputError of one line that names the file, and nothing else."""

from __future__ import annotations

import errno
import json
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from harness.cell.phases import read_phase_file
from harness.datasets import culane as culane_form
from harness.datasets import curvelanes, llamas, tusimple
from harness.datasets.index import cached_index, index_of, index_path
from harness.datasets.lines import parse_lines
from harness.datasets.predictions import pack_predictions, unpack_predictions
from harness.datasets.rendering import read_scenarios, rendered_key
from harness.datasets.roots import read_paths
from harness.errors import InputError
from harness.files.validation import read_stored_list
from harness.lanes import Lane
from harness.metrics import culane, culane_ports, image_lists
from harness.metrics import llamas as llamas_metric
from harness.metrics import tusimple as tusimple_metric
from harness.records.counts import OverlapCounts, read_counts, write_counts
from harness.records.record import read_record
from harness.suite.load import SUITES, load_suite

ROOT = Path(__file__).resolve().parents[2]
RECORD = next((ROOT / "results" / "mini" / "records").glob("*.json"))

NUMBERS = TypeAdapter(list[int])
LINES = b"100 589 180.5 480 260.25 370 330 280\n800 589 790 480 780.125 370\n"
LIST = b"/a/b.jpg /laneseg/b.png 1 1 0 0\n/a/c.jpg /laneseg/c.png 0 1 1 0\n"
IMAGES = b"/a/b.jpg\na/c.jpg\n"
LANES = [[-2, 610, 620, 630.5], [700, 710, 720, 730]]
LABELS = [{"lanes": LANES, "h_samples": [300, 310, 320, 330], "raw_file": name} for name in ("clips/a", "clips/b")]
PREDICTED = [{"lanes": LANES, "run_time": 3.5, "raw_file": name} for name in ("clips/b", "clips/a")]

HOSTILE = (
    b"nan", b"-inf", b"1e999", b"-", b"--1", b"0x1p3", b"1_0", b"null", b"true", b'""', b"[]", b"{}", b"9" * 30, b"-1", b"1.2.3",
    b"\0", b"\r", b"\n\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc2\xa0", b"\x0b", b"'", b'"', b"[" * 2000, b"&a [*a]", b"!!python/name:os",
    b"../../x", b"\xe2\x80\xa8", b"\\ud800", b"1e-400", b"2147483648", b"1.7e308",
)  # fmt: skip
WORD = re.compile(rb"[A-Za-z0-9_.+-]+")


def json_lines(objects):
    return "".join(json.dumps(value) + "\n" for value in objects).encode()


def marker(start, end, depth):
    ends = [{"x": str(x), "y": str(y)} for x, y in (start, end)]
    world = [{"x": "0.5", "y": "1.5", "z": str(z)} for z in (depth, depth + 4)]
    keys = ("pixel_start", "pixel_end", "world_start", "world_end")
    return {"lane_marker_id": "m", **dict(zip(keys, [*ends, *world], strict=True))}


def llamas_label():
    markers = [marker((600, 650), (620, 550), 5.0), marker((630, 500), (640, 450), 12.0)]
    return json.dumps(
        {"image_name": "i", "projection_matrix": [[1, 0, 0]], "lanes": [{"lane_id": "l0", "markers": markers}]}
    ).encode()


def archive(path):
    lane = Lane(np.array([[10, 500], [20, 400.5], [31.125, 300]], np.float32), 0.5)
    pack_predictions(path, ["a/1.jpg", "a/2.jpg"], [[lane, lane], []])


def stored_counts(path):
    names = np.array(["/a.jpg", "/b.jpg"])
    small = np.array([3, 1], np.int32)
    write_counts(path, OverlapCounts(names, names, names, small, small, np.ones((2, 10), np.int32)))


def index_is_whole(path):
    """The label index heals itself: whatever its file holds, the labels come back."""
    sound = index_of([[np.ones((3, 2), np.float32)], []])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cached_index("damaged", "key", lambda: sound)
    assert found.content == sound.content
    assert path.exists()


def beside(path, name, content):
    other = path.parent / "sound" / name
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(content)
    return other


def score_culane(metric):
    def read(path):
        beside(path, path.name, LINES)
        metric.score_images(path.parent, path.parent / "sound", ["a.jpg"], workers=1)
        metric.score_images(path.parent / "sound", path.parent, ["a.jpg"], workers=1)

    return read


def score_llamas(path, label, prediction):
    labels = path.parent / "labels" / "r" / "i.json"
    predictions = path.parent / "predictions" / "r" / "i.lines.txt"
    for file, content in ((labels, label), (predictions, prediction)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    llamas_metric.count_labels([str(labels)], path.parent / "predictions", workers=1)


READERS = {
    "culane list": ("list.txt", LIST, culane_form.read_list),
    "culane label": (
        "a.lines.txt",
        LINES,
        lambda path: parse_lines(path.read_bytes(), source=str(path)),
    ),
    "tusimple labels": ("labels.json", json_lines(LABELS), tusimple.read_labels),
    "llamas label": ("i.json", llamas_label(), lambda path: llamas.read_points(str(path))),
    "curvelanes label": (
        "a.lines.json",
        b'{"Lines": [[{"x": "1.5", "y": "2"}, {"x": "3", "y": "4"}], []]}',
        lambda path: curvelanes.read_lanes(str(path)),
    ),
    "scenarios": (
        "scenarios.json",
        b'{"clips/a": "night", "clips/b": "curve"}',
        lambda path: read_scenarios(path.parent),
    ),
    "rendering": ("rendering.json", b'{"dataset_key": "abc", "frames": 3}', lambda path: rendered_key(path.parent)),
    "score list": ("list.txt", IMAGES, image_lists.read_list),
    "score list of the ports": (
        "list.txt",
        IMAGES,
        lambda path: image_lists.read_list(path, culane_ports.listed_images),
    ),
    "score culane": ("a.lines.txt", LINES, score_culane(culane)),
    "score culane as the ports": ("a.lines.txt", LINES, score_culane(culane_ports)),
    "score tusimple labels": (
        "labels.json",
        json_lines(LABELS),
        lambda path: tusimple_metric.score_file(path, beside(path, "predictions.json", json_lines(PREDICTED))),
    ),
    "score tusimple predictions": (
        "predictions.json",
        json_lines(PREDICTED),
        lambda path: tusimple_metric.score_file(beside(path, "labels.json", json_lines(LABELS)), path),
    ),
    "score llamas label": ("i.json", llamas_label(), lambda path: score_llamas(path, path.read_bytes(), LINES)),
    "score llamas prediction": (
        "i.lines.txt",
        LINES,
        lambda path: score_llamas(path, llamas_label(), path.read_bytes()),
    ),
    "predictions": ("predictions.npz", archive, unpack_predictions),
    "counts": ("a.counts.npz", stored_counts, read_counts),
    "record": (RECORD.name, RECORD.read_bytes(), read_record),
    "phase": ("phase.json", b'{"key": "abc", "fingerprint": {"a.py": "0"}}', lambda path: read_phase_file(path.parent)),
    "suite": ("small.yaml", (SUITES / "mini.yaml").read_bytes(), lambda path: load_suite(str(path))),
    "paths": ("paths.yaml", b"culane: /data/CULane\ntusimple: ../tusimple\n", read_paths),
}
"""Name -> name of the file, sound content (or what writes it), reader."""

WITH_LINES = {"culane list", "culane label", "tusimple labels", "score tusimple labels", "score tusimple predictions"}
"""Readers whose refusals name the line, unless the file as a whole is at fault."""

WHOLE = re.compile("not UTF-8|no image|lines for the|no line|is empty|lists no|byte")


def damaged(sound, generator):
    """One to three wounds: bytes changed, put in, cut out or doubled, the end cut off, a word replaced by a hostile one."""
    data = sound
    for _ in range(generator.choice((1, 1, 2, 3))):
        at = generator.randrange(len(data) + 1)
        to = min(at + generator.choice((1, 1, 2, 7, 40)), len(data))
        kind = generator.randrange(6)
        if kind == 0:
            data = data[:at] + bytes(generator.randrange(256) for _ in range(to - at)) + data[to:]
        elif kind == 1:
            data = data[:at] + generator.choice(HOSTILE) + data[at:]
        elif kind == 2:
            data = data[:at] + data[to:]
        elif kind == 3:
            data = data[:to] + data[at:]
        elif kind == 4:
            data = data[:at]
        else:
            words = list(WORD.finditer(data))
            if words:
                word = generator.choice(words)
                data = data[: word.start()] + generator.choice(HOSTILE) + data[word.end() :]
    return data


def read_damaged(name, folder, count, seed):
    """Read so many damaged files; gives how many were refused."""
    file, content, read = READERS[name]
    path = folder / file
    if callable(content):
        content(path)
        content = path.read_bytes()
    path.write_bytes(content)
    read(path)
    generator = random.Random(f"{name} {seed}")
    refused = 0
    for number in range(count):
        data = damaged(content, generator)
        path.write_bytes(data)
        try:
            read(path)
        except InputError as error:
            refused += 1
            said = str(error)
            assert "\n" not in said, (number, said)
            assert path.stem.partition(".")[0] in said, (number, said)
            if name in WITH_LINES and not WHOLE.search(said):
                assert re.search(r"(:|line )\d+", said), (number, said)
        except Exception as error:
            raise AssertionError(f"{name}, file {number}: {type(error).__name__} on {data!r}") from error
    return refused


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    assert 0 <= read_damaged(name, tmp_path, 20, "default") <= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(name, tmp_path):
    """10,000 damaged files with those of the index, over all readers. The C++ evaluator, and so its metric, reads nearly anything."""
    assert read_damaged(name, tmp_path, 470, "slow") > 0 or name == "score culane"


@pytest.mark.parametrize("count", [20, pytest.param(130, marks=pytest.mark.slow)])
def test_a_damaged_index_is_built_afresh(tmp_path, monkeypatch, count):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = index_path("damaged")
    sound = index_of([[np.ones((3, 2), np.float32)], []])
    cached_index("damaged", "key", lambda: sound)
    content = path.read_bytes()
    generator = random.Random(count)
    for _ in range(count):
        path.write_bytes(damaged(content, generator))
        index_is_whole(path)


@pytest.mark.parametrize(
    "read",
    [
        read_record,
        lambda path: read_phase_file(path.parent),
        lambda path: read_stored_list(path, NUMBERS, "numbers", "delete it"),
    ],
)
def test_nobody_is_told_to_delete_or_move_what_is_only_kept_from_them(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root, as in containers, is denied nothing.
    for reading in (
        "harness.files.validation.read_bounded",
        "harness.records.text.read_bounded",
        "pathlib.Path.read_text",
    ):
        monkeypatch.setattr(reading, denied)
    with pytest.raises(
        InputError, match=r"phase\.json: .*Permission denied.*\); have whoever made it let you read it$"
    ):
        read(tmp_path / "phase.json")
