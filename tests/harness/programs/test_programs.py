"""Detectors out of process: a program's rows stand in the leaderboard, and whatever a program does wrong is told in a line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml

from detectors.programs import read_program
from detectors.upstream import programs as published
from harness.artefacts import build_rendering, open_part
from harness.cli.main import main
from harness.counts import OverlapScores
from harness.datasets.base import Frame, open_dataset
from harness.errors import InputError
from harness.matrix import make_plan
from harness.programs.cell import program_cells
from harness.programs.exchange import read_facts, read_timings
from harness.programs.run import ask
from harness.records import read_records
from harness.suite import load_suite

CHECKOUTS = os.environ.get("SAMIRO_BENCH_UPSTREAM")

SUITE = """
title: A program
datasets:
  roads:
    rendered:
      seed: 7
      width: 820
      height: 295
      splits: {test: {frames: 6, frames_per_clip: 2}}
detectors:
  seer.yaml:
methods:
  baseline:
  samiro: {oracle: small}
oracles:
  small: {configuration: {name: "random:resnet_micro"}}
seeds: 3
training: {threads: 1, device: cpu}
"""

SEER = '''
"""Finds the labels, which lie beside the images, half a pixel to the right; leaves the first image without lanes."""
import json, pathlib, sys
images, predictions, timings, facts = map(pathlib.Path, sys.argv[1:5])
print("hello from the seer")
for number, line in enumerate(images.read_text().splitlines()):
    entry = json.loads(line)
    label = pathlib.Path(entry["image"]).with_suffix("").with_suffix(".lines.txt").read_text()
    rows = [[float(word) for word in row.split()] for row in label.splitlines()] if number else []
    rows = [[value + 0.5 if place % 2 == 0 else value for place, value in enumerate(row)] for row in rows]
    target = predictions / entry["predictions"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(" ".join(f"{value:.3f}" for value in row) + "\\n" for row in rows))
    with open(timings, "a") as stream:
        stream.write(json.dumps({"id": entry["id"], "milliseconds": 10.0 + number}) + "\\n")
facts.write_text(json.dumps({"made of": "tea leaves"}))
'''

DESCRIPTION = {
    "name": "seer",
    "paper": "Anon: On Tea, 2020",
    "year": 2020,
    "family": "keypoint",
    "backbone": "tea",
    "upstream": "https://example.org/tea",
    "licence": "MIT",
    "forms": {"culane": {"confidence_threshold": 0.4, "selected_on": "val"}},
    "command": [sys.executable, "seer.py", "{images}", "{predictions}", "{timings}", "{facts}"],
    "start_seconds": 60,
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A folder of results that holds the rendered frames."""
    folder = tmp_path_factory.mktemp("rendered")
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "seer.py").write_text(SEER)
    describe(folder)
    spec = load_suite(str(folder / "suite.yaml")).datasets["roads"].rendered
    assert spec is not None
    build_rendering(folder / "results", spec, "render", lambda event: None)
    return folder / "results"


@pytest.fixture
def folder(tmp_path, rendered):
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "seer.py").write_text(SEER)
    describe(tmp_path)
    shutil.copytree(rendered, tmp_path / "results", copy_function=os.link)
    return tmp_path


def describe(where: Path, /, **changes: object) -> Path:
    path = where / "seer.yaml"
    path.write_text(yaml.safe_dump(DESCRIPTION | changes))
    read_program.cache_clear()
    return path


def fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that `bench` ends with."""
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("samiro-bench: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_program_has_one_row_a_dataset_scored_from_the_files_that_it_wrote(folder, capsys):
    results = folder / "results"
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(results)]) == 0
    (record,) = read_records(results / "suite" / "records")
    (evaluation,) = record.evaluations
    assert (record.identity.detector, record.identity.method, record.identity.seed) == ("seer", "baseline", 0)
    assert record.training is None
    assert record.selected_on == "val"
    assert evaluation.confidence_threshold == 0.4
    # Half a pixel beside the label every lane is found, but those of the image that it left empty.
    total = evaluation.total
    assert isinstance(total, OverlapScores)
    assert total.true_positives[0] == total.predictions
    assert 0 < total.labels - total.predictions <= 4
    assert record.own_timing is not None
    assert record.own_timing.images == 6
    assert record.own_timing.latency_ms.p50 == pytest.approx(12.5)
    assert record.artefacts[-1].facts == {"made of": "tea leaves"}
    table = (results / "suite" / "leaderboard.md").read_text()
    assert "## Programs by their own clocks" in table
    assert "seer" in capsys.readouterr().out
    (results / "suite" / "leaderboard.md").unlink()
    assert main(["leaderboard", str(folder / "suite.yaml"), "--results", str(results)]) == 0
    assert "| seer" in (results / "suite" / "leaderboard.md").read_text(), (
        "`leaderboard` knows programs as `bench` does"
    )


def test_what_was_asked_once_is_not_asked_again_unless_program_or_weights_change(folder, capsys):
    run = ["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]
    suite = load_suite(str(folder / "suite.yaml"))
    assert main(run) == 0
    assert all(state.done for state in make_plan(suite, folder / "results").cells)
    (cell,) = program_cells(suite)
    (folder / "seer.py").write_text(SEER + "\n# another one\n")
    assert program_cells(suite)[0].id != cell.id
    (folder / "seer.py").write_text(SEER)
    assert program_cells(suite)[0].id == cell.id
    weights = folder / "weights.bin"
    weights.write_bytes(b"one")
    describe(folder, forms={"culane": {"confidence_threshold": 0.4, "checkpoint": "weights.bin"}})
    with_weights = program_cells(suite)[0].id
    weights.write_bytes(b"two")
    assert len({cell.id, with_weights, program_cells(suite)[0].id}) == 3


def test_no_path_is_part_of_an_identity(folder):
    suite = load_suite(str(folder / "suite.yaml"))
    (cell,) = program_cells(suite)
    assert str(folder) not in cell.identity.model_dump_json()
    assert str(Path(sys.executable).parent) not in cell.identity.model_dump_json()
    moved = folder / "elsewhere"
    moved.mkdir()
    for name in ("suite.yaml", "seer.yaml", "seer.py"):
        shutil.copy(folder / name, moved / name)
    assert program_cells(load_suite(str(moved / "suite.yaml")))[0].id == cell.id


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


def test_after_a_crash_nothing_half_written_is_taken_for_an_answer(folder, capsys):
    (folder / "seer.py").write_text(SEER + "\nsys.exit(1)")
    fail(folder, capsys)
    (folder / "seer.py").write_text("pass")
    assert "6 of 6 images have no predictions" in fail(folder, capsys)


def test_a_program_that_takes_too_long_is_stopped_with_all_that_it_started(folder, capsys):
    mark = folder / "still here"
    child = f"import time, pathlib; time.sleep(8); pathlib.Path({str(mark)!r}).touch()"
    slow = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}])"
    slow += "; print('busy', flush=True); time.sleep(60)"
    (folder / "seer.py").write_text(slow)
    describe(folder, start_seconds=2, seconds_per_image=0.01)
    started = time.monotonic()
    line = fail(folder, capsys)
    assert "hadn't ended after 2 s (start_seconds + seconds_per_image x 6 images) and was stopped" in line
    assert "'busy'" in line
    time.sleep(max(0.0, 12 - (time.monotonic() - started)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"command": ["python", "seer.py"]}, "key 'command': lacks '{images}'"),
        ({"command": ["python", "{image}", "{predictions}"]}, "there is no '{image}'; there are {images}"),
        ({"command": ["/no/such/python", "{images}", "{predictions}"]}, "program missing: seer"),
        ({"folder": "nowhere"}, "can't be started in"),
        ({"forms": {"llamas": {"confidence_threshold": 0.4}}}, "isn't described for form 'culane'"),
        ({"forms": {"culane": {"confidence_threshold": 0.4, "checkpoint": "w.pth"}}}, "w.pth is missing"),
        ({"command": ["python", "{images}", "{predictions}", "{checkpoint}"]}, "but a form names no 'checkpoint'"),
        ({"speed": 3}, "unknown key 'speed'"),
    ],
    ids=[
        "no images",
        "misspelt",
        "no interpreter",
        "no folder",
        "other form",
        "no weights",
        "no checkpoint",
        "unknown",
    ],
)
def test_a_description_that_does_not_fit_is_told_in_one_line(folder, capsys, changes, told):
    describe(folder, **changes)
    assert told in fail(folder, capsys)


def test_a_suite_can_not_change_a_program_nor_attach_methods_to_it_alone(folder, capsys):
    (folder / "suite.yaml").write_text(SUITE.replace("seer.yaml:", "seer.yaml: {recipe: {steps: 3}}"))
    assert "a program is run as its description says" in fail(folder, capsys)
    (folder / "suite.yaml").write_text(SUITE.replace("  baseline:\n", ""))
    assert "to which no method can be attached" in fail(folder, capsys)


def test_rows_whose_training_is_unknown_or_other_are_not_ranked(folder):
    describe(folder, forms={"culane": {"confidence_threshold": 0.4, "trained_on": "CULane's train split"}})
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]) == 0
    (record,) = read_records(folder / "results" / "suite" / "records")
    assert record.flags == ("trained on CULane's train split", "on which split its checkpoint was chosen is not known")


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
    )
    path = describe(
        tmp_path,
        forms={"tusimple": {"confidence_threshold": 0.5}},
        command=[sys.executable, "seer.py", "{images}", "{predictions}"],
    )
    answer = ask(
        read_program(path), dataset, frames, tmp_path / "exchange", device="cpu", threads=1, progress=lambda a, b: None
    )
    assert answer.milliseconds is None
    for lanes in answer.lanes:
        (lane,) = lanes
        assert np.array_equal(np.unique(lane.points[:, 0]), [100.25])
        assert (lane.points[0, 1], lane.points[-1, 1]) == (710, 170)


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
        (f'{{"id": "a", "milliseconds": {10**400}}}', "..., beyond all measure"),
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


STRAY = (
    "import subprocess, sys\n"
    "child = 'import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(120)'\n"
    "here = subprocess.Popen([sys.executable, '-c', child, {mark!r}], start_new_session=True)\n"
    "import pathlib, time\n"
    "while not pathlib.Path({mark!r}).exists(): time.sleep(0.02)\n"
)
"""Starts a process that leaves the program's group, and waits until it runs."""


def running_with(word: str) -> list[int]:
    """The processes whose command line has a word."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in line.read_bytes() and int(line.parent.name) != os.getpid():
                found.append(int(line.parent.name))
    return found


def test_what_left_a_programs_group_ends_with_it_too(folder):
    mark = str(folder / "stray")
    (folder / "seer.py").write_text(STRAY.format(mark=mark) + SEER)
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]) == 0
    assert Path(mark).exists()
    assert running_with(mark) == []


def test_what_a_killed_run_left_running_ends_before_the_next_begins(folder):
    run = [sys.executable, "-m", "harness.cli.main", "bench", str(folder / "suite.yaml"), "--results", "results"]
    mark = str(folder / "stray")
    (folder / "seer.py").write_text(STRAY.format(mark=mark) + "time.sleep(60)")
    process = subprocess.Popen(run, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    while not Path(mark).exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(running_with(mark)) == 1
    (folder / "seer.py").write_text(SEER)
    (cell,) = program_cells(load_suite(str(folder / "suite.yaml")))
    dataset = open_part(folder / "results", "roads", cell.dataset)
    exchange = next((folder / "results" / "suite" / "cells").glob("*/predict-test*/exchange"))
    ask(cell.described, dataset, dataset.frames("test"), exchange, device="cpu", threads=1, progress=lambda a, b: None)
    assert running_with(mark) == []


def test_a_program_that_floods_its_log_is_stopped(folder, monkeypatch):
    monkeypatch.setattr("harness.programs.run.LOG_BYTES", 2**20)
    (folder / "seer.py").write_text("import sys\nwhile True: sys.stderr.write('flood' * 1000 + '\\n')")
    (cell,) = program_cells(load_suite(str(folder / "suite.yaml")))
    dataset = open_part(folder / "results", "roads", cell.dataset)
    with pytest.raises(
        InputError, match=r"seer printed more than 1 MiB and was stopped; its last words: '[flod]+'; log"
    ):
        ask(
            cell.described,
            dataset,
            dataset.frames("test"),
            folder / "exchange",
            device="cpu",
            threads=1,
            progress=lambda a, b: None,
        )


def test_scripts_of_one_name_in_two_folders_are_both_part_of_an_identity(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.py").write_text(name)
    command = [sys.executable, "a/run.py", "b/run.py", "{images}", "{predictions}"]
    first = read_program(describe(tmp_path, command=command)).scripts()
    (tmp_path / "a" / "run.py").write_text("another")
    assert len(first) == 2
    assert read_program(tmp_path / "seer.yaml").scripts() != first


@pytest.mark.slow
@pytest.mark.skipif(
    CHECKOUTS is None, reason="needs SAMIRO_BENCH_UPSTREAM, a folder of checkouts of upstream repositories"
)
def test_upstreams_own_lstr_finds_the_lanes_of_real_frames_where_ours_finds_them(shared, tmp_path, capsys):
    assert CHECKOUTS is not None
    source = Path(published.__file__).parent
    described = yaml.safe_load((source / "lstr.yaml").read_text())
    described["command"][0] = sys.executable
    described["command"][described["command"].index("LSTR")] = str(Path(CHECKOUTS) / "LSTR")
    described["forms"]["tusimple"]["checkpoint"] = str(
        shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    )
    shutil.copy(source / "lstr.py", tmp_path / "lstr.py")
    (tmp_path / "lstr.yaml").write_text(yaml.safe_dump(described))
    six = tmp_path / "six"
    assert main(["data", "masks", str(shared / "real" / "images" / "tusimple_masks"), str(six)]) == 0
    assert main(["data", "convert", str(six), str(tmp_path / "tusimple"), "--to", "tusimple"]) == 0
    dataset = open_dataset("tusimple", tmp_path / "tusimple")
    frames = dataset.frames("test")
    answer = ask(
        read_program(tmp_path / "lstr.yaml"),
        dataset,
        frames,
        tmp_path / "exchange",
        device="cpu",
        threads=1,
        progress=lambda a, b: None,
    )
    assert sum(len(lanes) for lanes in answer.lanes) == 25
