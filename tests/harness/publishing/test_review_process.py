"""The command and the process that examines: no code of a submission's, no token, bounds on time and memory, and what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.publishing.demands import demands_of
from harness.publishing.examine import Verdict
from harness.publishing.expected import FOREIGN
from harness.publishing.quarantine import Bounds
from harness.publishing.review import KEPT, Review, environment_of, review
from harness.publishing.statement import SUITE_FILE
from harness.publishing.submissions import INDEX, submissions_in, to_index
from tests.harness.publishing.forging import ROOT, changed, identified, told

pytestmark = pytest.mark.usefixtures("labelled_once")

MARKER = "from pathlib import Path\nPath({!r}).write_text('imported')\n"


def test_code_that_a_submission_brings_or_names_is_never_imported(alice: Path, tmp_path: Path) -> None:
    marker = tmp_path / "imported"
    beside, inside = tmp_path / "adapter.py", alice / "detectors.py"
    for path in (beside, inside, alice / "harness.py", alice / "sitecustomize.py", alice / "numpy.py"):
        path.write_text(MARKER.format(str(marker)))
    text = (alice / SUITE_FILE).read_text().replace("  ufldv2_micro:", f"  {beside}:Mine:\n  detectors.py:Mine:")
    (alice / SUITE_FILE).write_text(text)
    found = review(alice)
    assert "'detectors.py': no part of a submission" in told(found.verdict)
    for path in alice.glob("*.py"):
        path.unlink()
    meta = {"name": "mine", "origin": {"file": str(beside), "sha256": sha256_of_file(beside)}}
    changed(alice, identified(detector="mine", detector_meta=meta))
    here = Path.cwd()
    os.chdir(alice)
    try:
        found = review(alice)
    finally:
        os.chdir(here)
    assert found.accepted, found.verdict.reasons
    assert any(mark.startswith(FOREIGN) for mark in found.verdict.marks)
    assert not marker.exists()


def test_an_examination_that_takes_too_long_or_too_much_is_a_refusal(alice: Path) -> None:
    assert told(review(alice, Bounds(seconds=1)).verdict).startswith("not examined within 1 seconds")
    found = review(alice, Bounds(memory_bytes=200 << 20))
    assert "it has 200 MiB of memory" in told(found.verdict) or "MemoryError" in told(found.verdict)
    assert not found.accepted


def test_the_examining_process_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", "/data")
    kept = environment_of(Path("/place"))
    assert "secret" not in kept.values()
    assert kept["SAMIRO_BENCH_DATA_CULANE"] == "/data"
    assert set(kept) <= {*KEPT, "TMPDIR", *(name for name in os.environ if name.startswith("SAMIRO_BENCH_"))}


@pytest.mark.parametrize("name", ["nowhere", "../suites/mini", "mini.yaml", str(ROOT / "suites/mini.yaml")])
def test_only_suites_of_this_repository_count(name: str) -> None:
    with pytest.raises(InputError, match="this repository has no suite"):
        demands_of(name)


def test_the_command_says_what_came_out_and_its_exit_code_too(
    alice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    (alice / "notes.txt").write_text("mine")
    summary = tmp_path / "summary.md"
    assert main(["review", str(alice), "--summary", str(summary)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "mini/alice: REFUSED: 1 reason",
        "- 'notes.txt': no part of a submission; take it away",
    ]
    assert summary.read_text().startswith("### mini/alice\n\nREFUSED: 1 reason.\n")
    assert main(["review", str(alice), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["accepted"], said["submissions"][0]["accepted"]) == (False, False)
    assert main(["review", str(tmp_path / "nowhere")]) == 2
    assert main(["review"]) == 2
    assert main(["review", "--index", str(tmp_path)]) == 1
    page = (tmp_path / "README.md").read_text()
    assert "| mini | alice |  |  | 0 | refused: 'notes.txt': no part of a submission; take it away |" in page


def test_of_several_all_have_to_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    found = {"alice": Verdict(reasons=()), "bob": Verdict(reasons=("forged",))}
    seconds = []

    def reviewed(folder: Path, bounds: Bounds) -> Review:
        seconds.append(bounds.seconds)
        return Review("mini", folder.name, found[folder.name])

    monkeypatch.setattr("harness.publishing.review.review", reviewed)
    assert main(["review", "mini/alice", "mini/bob", "--seconds", "7", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["accepted"], [one["accepted"] for one in said["submissions"]]) == (False, [True, False])
    assert seconds == [7, 7]
    assert main(["review", "mini/alice", "--index", str(tmp_path)]) == 2


def test_stopped_it_ends_the_examination_too(
    alice: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    begun = []

    class Stopped(subprocess.Popen[str]):
        def communicate(self, *_: object, **__: object) -> tuple[str, str]:
            begun.append(self)
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
            os.kill(os.getpid(), signal.SIGTERM)
            return "", ""

    monkeypatch.setattr(subprocess, "Popen", Stopped)
    assert main(["review", str(alice)]) == 130
    assert capsys.readouterr().err == "samiro-bench: stopped\n"
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


def test_verify_works_on_a_submission_too(alice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.main import main

    assert main(["verify", "alice", "--published", str(alice.parent)]) == 0
    assert "1 of 1 row verified" in capsys.readouterr().out


def test_what_a_killed_submit_left_is_no_submission_and_no_link_is_a_suite(tmp_path: Path) -> None:
    for name in ("alice", ".alice.x1"):
        (tmp_path / "mini" / name).mkdir(parents=True)
    (tmp_path / "linked").symlink_to("mini")
    assert submissions_in(tmp_path) == [tmp_path / "mini/alice"]


def test_the_page_of_submissions_is_what_the_program_makes_of_them() -> None:
    folder = ROOT / "results/submissions"
    made = [review(path) for path in submissions_in(folder)]
    assert (folder / INDEX).read_text() == to_index(made)
    assert all(one.accepted for one in made)
