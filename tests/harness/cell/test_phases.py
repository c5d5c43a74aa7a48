"""A phase is there whole or not at all, and knows whether it still holds."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell.phases import Phase, accept, phase_state, phase_states, run_phase, set_aside, was_accepted
from harness.errors import InputError

ROOT = str(Path(__file__).resolve().parents[3])


@pytest.fixture
def phase(tmp_path: Path) -> Phase:
    return Phase(tmp_path / "cell" / "train", "key-1", {"harness/a.py": "1"})


def write_result(folder: Path) -> None:
    (folder / "result.txt").write_text("42")


def test_a_finished_phase_is_done_and_not_run_again(phase: Phase) -> None:
    assert phase_state(phase).state == "missing"
    run_phase(phase, write_result)
    assert phase_state(phase).state == "done"
    run_phase(phase, lambda folder: pytest.fail("ran again"))
    assert (phase.folder / "result.txt").read_text() == "42"


def test_results_that_are_kept_from_this_user_are_neither_missing_nor_an_error_of_the_system(
    phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root is denied nothing."""

    def denied(folder: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    monkeypatch.setattr("harness.cell.phases.os.scandir", denied)
    told = (
        f"^{phase.folder.parent}: its results can't be seen .Permission denied.; have whoever made it let you read it$"
    )
    with pytest.raises(InputError, match=told):
        phase_states([phase])


def test_work_that_fails_leaves_a_partial_phase_which_is_continued(phase: Phase) -> None:
    def fails(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run_phase(phase, fails)
    assert phase_state(phase).state == "partial"
    assert not phase.folder.exists()
    seen: list[str] = []
    run_phase(phase, lambda folder: seen.append((folder / "half.txt").read_text()))
    assert seen == ["half"]


def test_a_partial_phase_whose_options_the_system_withholds_is_not_begun_anew(
    phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    def withheld(path: Path, *_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with pytest.raises(RuntimeError):
        run_phase(phase, fails)
    with monkeypatch.context() as system:
        system.setattr(Path, "read_text", withheld)
        for look in (phase_state, lambda phase: run_phase(phase, write_result)):
            with pytest.raises(
                InputError, match=r"begun\.json: can't be read \(Too many open files\); it may be whole: "
            ):
                look(phase)
    assert (phase.partial / "half.txt").read_text() == "half"
    assert phase_state(phase).state == "partial"


def test_a_partial_phase_of_other_code_is_set_aside_not_continued(phase: Phase) -> None:
    def fails(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_phase(phase, fails)
    run_phase(replace(phase, fingerprint={"harness/a.py": "2"}), write_result)
    assert not (phase.folder / "half.txt").exists()
    assert (phase.folder.parent / "superseded" / "train.part-1" / "half.txt").read_text() == "half"


def test_changed_code_makes_a_phase_stale_and_names_the_file(phase: Phase) -> None:
    run_phase(phase, write_result)
    changed = replace(phase, fingerprint={"harness/a.py": "2"})
    state = phase_state(changed)
    assert (state.state, state.changed) == ("stale", ("harness/a.py",))
    with pytest.raises(InputError, match="accept-stale"):
        run_phase(changed, write_result)
    assert (phase.folder / "result.txt").exists()


def test_an_accepted_stale_phase_is_done_until_the_code_changes_again(phase: Phase) -> None:
    run_phase(phase, write_result)
    changed = replace(phase, fingerprint={"harness/a.py": "2"})
    accept(changed)
    assert phase_state(changed).state == "done"
    assert was_accepted(changed)
    assert phase_state(replace(phase, fingerprint={"harness/a.py": "3"})).state == "stale"


def test_other_options_run_the_phase_anew_and_keep_the_old_result(phase: Phase) -> None:
    run_phase(phase, write_result)
    other = replace(phase, key="key-2")
    assert phase_state(other).state == "missing"
    run_phase(other, lambda folder: (folder / "result.txt").write_text("43"))
    assert (other.folder / "result.txt").read_text() == "43"
    assert (other.folder.parent / "superseded" / "train-1" / "result.txt").read_text() == "42"


def test_setting_aside_never_overwrites(phase: Phase) -> None:
    for number in (1, 2, 3):
        run_phase(phase, write_result)
        assert set_aside(phase.folder).name == f"train-{number}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1, "fingerprint": {}}', '{"key": "k"}'])
def test_a_broken_phase_file_is_named(phase: Phase, text: str) -> None:
    run_phase(phase, write_result)
    (phase.folder / "phase.json").write_text(text)
    with pytest.raises(InputError, match=r"phase\.json.*move the folder"):
        phase_state(phase)


def test_a_kill_in_the_middle_of_the_work_leaves_no_finished_phase(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from harness.cell.phases import Phase, run_phase
        def work(folder):
            (folder / "half.txt").write_text("half")
            print("working", flush=True)
            time.sleep(60)
        run_phase(Phase(Path({str(tmp_path)!r}) / "train", "k", {{}}), work)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    phase = Phase(tmp_path / "train", "k", {})
    assert phase_state(phase).state == "partial"
    run_phase(phase, write_result)
    assert phase_state(phase).state == "done"


def test_a_phase_is_on_the_disk_with_its_key_before_it_gets_its_name_and_then_the_name_is(
    phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        assert (self / "phase.json").is_file()
        done.append("name")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(os, "sync", lambda: done.append("all"))
    monkeypatch.setattr("harness.cell.phases.sync_folder", lambda folder: done.append(folder.name))
    run_phase(phase, write_result)
    assert done == ["all", "name", "cell"]


def test_a_phase_of_other_options_names_those_that_differ(phase: Phase) -> None:
    options = {"phase": "predict", "split": {"name": "test", "batch_size": 16}, "sizes": (1, 2)}
    run_phase(replace(phase, options=options), write_result)
    now = {"phase": "predict", "split": {"name": "test", "batch_size": 8}, "sizes": (1, 2), "metric": "m"}
    state = phase_state(replace(phase, key="key-2", options=now))
    assert (state.state, state.obsolete) == ("missing", True)
    assert state.reason == "made with other options: metric: nothing -> m, split.batch_size: 16 -> 8"


def test_a_phase_of_much_changed_code_names_a_few_files_and_knows_all(phase: Phase) -> None:
    run_phase(replace(phase, fingerprint={f"{name}.py": "1" for name in "abcdef"}), write_result)
    state = phase_state(replace(phase, fingerprint={f"{name}.py": "2" for name in "abcdef"}))
    assert state.reason == "code changed since: a.py, b.py, c.py, d.py and 2 more"
    assert state.changed == tuple(f"{name}.py" for name in "abcdef")


def test_what_was_begun_with_other_code_or_options_is_not_called_partial(phase: Phase) -> None:
    def fails(folder: Path) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_phase(replace(phase, options={"steps": 200}), fails)
    for other, why in (
        (replace(phase, fingerprint={"harness/a.py": "2"}), "begins anew, code changed since: harness/a.py"),
        (
            replace(phase, key="key-2", options={"steps": 400}),
            "begins anew: what was begun has other options: steps: 200 -> 400",
        ),
    ):
        state = phase_state(other)
        assert (state.state, state.obsolete) == ("missing", True)
        assert state.reason == why


def test_what_was_begun_before_its_options_were_written_down_goes_on(phase: Phase) -> None:
    phase.partial.mkdir(parents=True)
    begun = {"key": phase.key, "fingerprint": dict(phase.fingerprint)}
    (phase.partial / "begun.json").write_text(json.dumps(begun))
    assert phase_state(phase).state == "partial"
    state = phase_state(replace(phase, key="key-2", options={"steps": 400}))
    assert state.reason == "begins anew: what was begun has other options"
    run_phase(phase, write_result)
    assert phase_state(phase).state == "done"
    assert not (phase.folder.parent / "superseded").exists()


def test_states_of_many_phases_are_those_of_each_and_say_what_they_took(phase: Phase) -> None:
    others = [replace(phase, folder=phase.folder.with_name(name)) for name in ("predict", "score")]
    run_phase(phase, write_result)
    others[0].partial.mkdir()
    phases = (phase, *others, replace(phase, folder=phase.folder.parents[1] / "elsewhere" / "train"))
    states = phase_states(phases)
    assert states == tuple(phase_state(one) for one in phases)
    assert [state.state for state in states] == ["done", "missing", "missing", "missing"]
    assert states[0].seconds is not None


def test_what_killed_writers_left_is_swept_and_what_was_begun_is_kept(phase: Phase) -> None:
    def begins(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        (folder / ".training.safetensors.x7.part").write_text("torn")
        (folder / ".dataset.4711.x7.part").mkdir()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run_phase(phase, begins)
    run_phase(phase, write_result)
    assert sorted(path.name for path in phase.folder.iterdir()) == [
        "begun.json",
        "half.txt",
        "phase.json",
        "result.txt",
    ]


def test_a_folder_that_was_made_and_nothing_in_it_when_somebody_was_killed_is_used(phase: Phase) -> None:
    phase.partial.mkdir(parents=True)
    (phase.partial / ".begun.json.x7.part").write_text("to")
    run_phase(phase, write_result)
    assert phase_state(phase).state == "done"
    assert not (phase.folder.parent / "superseded").exists()


def test_a_folder_that_does_not_say_what_was_begun_in_it_is_not_continued(phase: Phase) -> None:
    phase.partial.mkdir(parents=True)
    (phase.partial / "half.txt").write_text("whose?")
    run_phase(phase, write_result)
    assert not (phase.folder / "half.txt").exists()


def test_an_error_of_the_system_without_a_name_gets_that_of_the_phase(phase: Phase) -> None:
    def fills(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as raised:
        run_phase(phase, fills)
    assert raised.value.filename == str(phase.partial)


def on_a_full_disk(place: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program whose working directory is a disk of 256 kB."""
    place.mkdir()
    mount = 'mount -t tmpfs -o size=256k none "$0" || exit 77; cd "$0"; exec "$1" -c "$2"'
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(place), sys.executable, program]
    run = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT})
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip(f"no mounts here: {run.stderr.strip()}")
    return run


def test_a_full_disk_is_one_line_that_names_the_file_and_spoils_nothing(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        from pathlib import Path
        import torch
        from harness.processes.faults import fault_of
        from harness.cell.phases import Phase, phase_state, run_phase
        from harness.training.checkpoint import load_training_state, save_training_state
        phase = Phase(Path("cell/train"), "key", {})
        def fills(folder):
            for step in range(100):
                size = 1000 if step < 3 else 100_000
                save_training_state(folder / "training.safetensors", {"step": step, "model": torch.zeros(size)})
        try:
            run_phase(phase, fills)
        except Exception as error:
            print(fault_of(error))
        print(phase_state(phase).state, load_training_state(phase.partial / "training.safetensors")["step"])
        print(sorted(path.name for path in phase.partial.iterdir()))
        run_phase(phase, lambda folder: None)  # room was made: it goes on
        print(phase_state(phase).state)
    """)
    run = on_a_full_disk(tmp_path / "disk", program)
    fault, state, files, end = run.stdout.splitlines()
    assert fault.startswith("Fault(kind='infrastructure', message='")
    assert "cell/train.part/" in fault
    assert fault.endswith(": No space left on device')")
    assert (state, end) == ("partial 2", "done")
    assert files == "['begun.json', 'training.safetensors']"
