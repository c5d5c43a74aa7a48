"""The whole way on a tiny suite: finished, resumed, killed, stale, broken."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.datasets.images import read_image
from harness.prediction.sheet import LABEL_WIDTH, TILE
from harness.records.counts import scope_scores
from harness.records.record import read_checked_counts, read_records
from tests.harness.tiny import TINY, bench, cell_folder, command, outcome, suite_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny suite has run once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    run = bench(folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished folder, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_run_leaves_a_record_with_its_counts_a_cell_and_a_leaderboard(finished: Path) -> None:
    records = read_records(suite_folder(finished) / "records")
    assert {record.identity.method for record in records} == {"baseline", "samiro"}
    for record in records:
        (evaluation,) = record.evaluations
        counts = read_checked_counts(suite_folder(finished) / "records", record, evaluation)
        assert scope_scores(counts) == evaluation.total
        assert evaluation.total.images == 18
        assert set(evaluation.scenarios) == set(counts.scenario.tolist())
        assert record.training.steps == 6
        assert record.throughput[0].parameters > 100_000
        assert (record.step_cost is None) == (record.identity.method == "baseline")
        if record.step_cost is not None:
            assert 0 < record.step_cost.ratio_low <= record.step_cost.ratio <= record.step_cost.ratio_high
    table = (suite_folder(finished) / "leaderboard.md").read_text()
    assert "samiro" in table
    assert "mF1" in table
    (ratio,) = [record.step_cost.ratio for record in records if record.step_cost is not None]
    assert f"{ratio:.2f} (" in table


def test_the_end_names_the_files_that_it_wrote_and_next_steps_that_work(copy: Path) -> None:
    run = bench(copy)
    assert run.returncode == 0
    (wrote,) = re.findall(r"^wrote (.*)$", run.stdout, re.MULTILINE)
    files = re.split(", | and ", wrote)
    assert [Path(file).suffix for file in files] == [".md", ".csv", ".tex", ".html"]
    assert all((copy / file).is_file() for file in files)
    page, seeds, predict, guide = re.findall(
        r"^    (.*)$", run.stdout.partition("what to try next:\n")[2], re.MULTILINE
    )
    assert page == (copy / files[-1]).as_uri()
    assert Path(guide).is_file()
    assert seeds == "samiro-bench bench tiny.yaml --seeds 3"
    looked = subprocess.run(command(*shlex.split(seeds)[1:], "--dry-run"), cwd=copy, text=True, capture_output=True)
    assert "6 cells: 2 done, 4 missing" in looked.stdout
    drawn = subprocess.run(command(*shlex.split(predict)[1:]), cwd=copy, text=True, capture_output=True)
    assert drawn.returncode == 0, drawn.stderr
    assert "driver_test_" in predict
    assert list((copy / "lanes").rglob("*.jpg"))
    # With three seeds nothing is said of more.
    assert bench(copy, "--seeds", "3", "--only", "seed=0").stdout.count("paired seeds:") == 0


def test_only_the_regularized_cell_names_an_oracle_and_is_flagged_by_what_that_did_not_pass(finished: Path) -> None:
    records = {record.identity.method: record for record in read_records(suite_folder(finished) / "records")}
    kinds = {name: {artefact.kind for artefact in record.artefacts} for name, record in records.items()}
    assert kinds == {"baseline": {"rendered"}, "samiro": {"rendered", "oracle"}}
    oracle = next(artefact for artefact in records["samiro"].artefacts if artefact.kind == "oracle")
    failed = [check for check, passed in oracle.facts["checks"].items() if not passed]
    flags = tuple(f"oracle {oracle.name}: failed its check '{check}'" for check in failed)
    assert (records["samiro"].flags, records["baseline"].flags) == (flags, ())
    assert failed, "four steps teach nothing that would pass"
    assert all(flag in (suite_folder(finished) / "leaderboard.md").read_text() for flag in flags)


def test_the_harness_counts_what_the_command_line_counts(finished: Path) -> None:
    """The same predictions, through `score culane` and its list files."""
    (dataset,) = (finished / "results/local/artefacts/rendered").glob("culane-*/dataset")
    lists = [str(path) for path in sorted((dataset / "list/test_split").glob("*.txt"))]
    archive, predictions = cell_folder(finished, "baseline") / "predict-test/predictions.npz", finished / "lanes"
    subprocess.run(command("data", "unpack", str(archive), str(dataset), str(predictions)), check=True)
    roots = ("--labels", str(dataset), "--predictions", str(predictions), "--image-size", "820x295")
    run = subprocess.run(
        command("score", "culane", *roots, *lists, "--json", "--strict"),
        text=True,
        capture_output=True,
        check=True,
    )
    said = json.loads(run.stdout)
    record = next(r for r in read_records(suite_folder(finished) / "records") if r.identity.method == "baseline")
    total = record.evaluations[0].total
    assert said["metric"] == record.evaluations[0].metric
    assert said["iou"]["0.50"]["tp"] == total.true_positives[0]
    assert said["iou"]["0.50"]["fp"] == total.predictions - total.true_positives[0]
    assert said["iou"]["0.75"]["fn"] == total.labels - total.true_positives[5]
    assert said["mf1"] == pytest.approx(total.mf1, abs=1e-12)


def test_a_second_call_runs_nothing_and_writes_the_same_bytes(copy: Path) -> None:
    before = {path: path.read_bytes() for path in suite_folder(copy).glob("leaderboard.*")}
    run = bench(copy)
    assert run.returncode == 0
    assert "2 done already" in run.stdout
    assert "starts" not in run.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_what_killed_writers_left_beside_records_and_tables_and_in_the_cache_is_swept(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy / "cache"))
    folder, cache = suite_folder(copy), copy / "cache/samiro-bench/weights"
    cache.mkdir(parents=True)
    torn = [
        folder / "records/.a.json.x1.part",
        folder / ".bench.holder.json.x2.part",
        folder / ".leaderboard.md.x3.part",
        folder / "site/.index.html.x4.part",
        cache / ".resnet18.safetensors.x5.part",
    ]
    for path in torn:
        path.write_text("half")
    assert bench(copy).returncode == 0
    assert not [path for path in torn if path.exists()]


def test_a_choice_of_cells_runs_those_and_the_tables_are_of_the_whole_suite(copy: Path) -> None:
    before = {path: path.read_bytes() for path in suite_folder(copy).glob("leaderboard.*")}
    shutil.rmtree(cell_folder(copy, "samiro") / "time")
    run = bench(copy, "--only", "method=baseline")
    assert (run.returncode, "1 cell, 1 done already" in run.stdout) == (0, True), run.stderr
    assert not (cell_folder(copy, "samiro") / "time").exists()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_a_run_killed_in_every_phase_ends_with_the_results_of_an_undisturbed_one(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    shutil.copytree(finished / "results/local/artefacts/rendered", tmp_path / "results/local/artefacts/rendered")
    waits_for = (
        "artefacts/oracle/*.part",
        "tiny/cells/*/train.part/training.safetensors",
        "tiny/cells/*-samiro-*/predict-test*",
    )
    for pattern in waits_for:
        process = subprocess.Popen(
            command("bench", "tiny.yaml"), cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while not list((tmp_path / "results/local").glob(pattern)) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert bench(tmp_path).returncode == 0
    assert outcome(tmp_path) == outcome(finished)


def wait_for_a_start(process: subprocess.Popen[str]) -> None:
    """Read what it prints up to a cell's start."""
    assert process.stdout is not None
    assert any("starts" in line for line in iter(process.stdout.readline, "")), "it ended before a cell started"


def test_ctrl_c_says_that_what_is_finished_is_kept(copy: Path) -> None:
    shutil.rmtree(cell_folder(copy, "samiro") / "train")
    process = subprocess.Popen(
        command("bench", "tiny.yaml"), cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_a_start(process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from there" in said
    assert "Traceback" not in said


def test_a_second_bench_on_the_same_folder_is_refused_while_the_first_runs(copy: Path) -> None:
    shutil.rmtree(cell_folder(copy, "samiro") / "score-test")
    process = subprocess.Popen(command("bench", "tiny.yaml"), cwd=copy, stdout=subprocess.PIPE, text=True)
    wait_for_a_start(process)
    process.send_signal(signal.SIGSTOP)  # so that it isn't at its end before the second has looked
    second = bench(copy)
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f"another `bench` works on this suite now (process {process.pid} of " in second.stderr
    assert len(second.stderr.splitlines()) == 1
    process.communicate(timeout=120)
    assert process.returncode == 0


def stale(folder: Path) -> None:
    """Make the baseline's training look as if other code had made it."""
    path = cell_folder(folder, "baseline") / "train/phase.json"
    value = json.loads(path.read_text())
    value["fingerprint"]["harness/training/loop.py"] = "other"
    path.write_text(json.dumps(value))


def test_results_of_other_code_are_refused_with_file_key_and_remedy_and_nothing_is_lost(copy: Path) -> None:
    stale(copy)
    before = outcome(copy)
    run = bench(copy)
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1
    for part in ("train/phase.json", "'fingerprint'", "harness/training/loop.py", "--redo-stale", "--accept-stale"):
        assert part in run.stderr
    assert outcome(copy) == before


def half_way(folder: Path) -> Path:
    """Make the baseline's training look as if other code had brought it to a checkpoint; its folder."""
    done = cell_folder(folder, "baseline") / "train"
    begun = {name: json.loads((done / "phase.json").read_text())[name] for name in ("key", "fingerprint")}
    begun["fingerprint"]["harness/training/loop.py"] = "other"
    part = done.rename(done.with_name("train.part"))
    (part / "phase.json").unlink()
    (part / "begun.json").write_text(json.dumps(begun))
    return part


def test_a_training_that_other_code_brought_to_a_checkpoint_is_not_begun_anew_unasked(copy: Path) -> None:
    part = half_way(copy)
    for options in ((), ("--accept-stale",)):
        run = bench(copy, *options)
        assert run.returncode == 2
        assert len(run.stderr.strip().splitlines()) == 1
        for said in ("train.part: holds a training", "harness/training/loop.py", "--redo-stale", "bench` goes on"):
            assert said in run.stderr
        assert (part / "checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_a_training_that_other_code_brought_to_a_checkpoint_is_begun_anew_where_that_is_asked_for(copy: Path) -> None:
    before = outcome(copy)
    half_way(copy)
    run = bench(copy, "--redo-stale")
    assert run.returncode == 0, run.stderr
    assert outcome(copy) == before
    assert (cell_folder(copy, "baseline") / "superseded/train.part-1/checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_redone_results_of_other_code_are_moved_aside_and_made_again(copy: Path) -> None:
    stale(copy)
    before = outcome(copy)
    run = bench(copy, "--redo-stale")
    assert run.returncode == 0, run.stderr
    assert outcome(copy) == before
    assert (cell_folder(copy, "baseline") / "superseded/train-1/checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_a_checkpoint_that_is_not_the_trainings_gets_no_record_and_is_made_again_by_what_the_refusal_says(
    copy: Path,
) -> None:
    before, train = outcome(copy), cell_folder(copy, "baseline") / "train"
    shutil.copyfile(cell_folder(copy, "samiro") / "train/checkpoint.safetensors", train / "checkpoint.safetensors")
    for record in (suite_folder(copy) / "records").glob("*-baseline-*"):
        record.unlink()
    run = bench(copy)
    assert run.returncode == 2
    told = "not as it was finished (checkpoint.safetensors isn't the one that its training ended with); move the folder away and"
    assert f"cells/{train.parent.name}/train: {told}" in run.stderr
    assert set(outcome(copy)) == {"samiro"}
    train.rename(copy / "away")
    assert bench(copy).returncode == 0
    assert outcome(copy) == before


@pytest.mark.parametrize(
    "damage",
    ["missing", pytest.param("truncated", marks=pytest.mark.slow), pytest.param("label", marks=pytest.mark.slow)],
)
def test_a_damaged_dataset_gives_one_line_that_names_the_file(copy: Path, damage: str) -> None:
    shutil.rmtree(suite_folder(copy))
    (dataset,) = (copy / "results/local/artefacts/rendered").glob("culane-*/dataset")
    image = sorted(dataset.glob("driver_train_*/*/*.jpg"))[0]
    victim = image if damage != "label" else image.with_suffix(".lines.txt")
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:2000])
    elif damage == "missing":
        victim.unlink()
    else:
        victim.write_text("100 200 abc 300\n")
    run = bench(copy)
    assert run.returncode == 2
    assert victim.name in run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    assert all(line.startswith("samiro-bench: ") for line in run.stderr.strip().splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        pytest.param('{"schema_version": 99}', marks=pytest.mark.slow),
        pytest.param('{"schema_version": 1, "id": 3}', marks=pytest.mark.slow),
    ],
)
def test_a_broken_record_is_named_and_the_rest_reported_and_bench_makes_it_again(copy: Path, text: str) -> None:
    before = outcome(copy)
    record = sorted((suite_folder(copy) / "records").glob("*.json"))[0]
    record.write_text(text)
    run = subprocess.run(command("leaderboard", "tiny.yaml"), cwd=copy, text=True, capture_output=True)
    assert run.returncode == 1
    assert f"not used: results/local/tiny/records/{record.name}" in run.stderr
    page = (suite_folder(copy) / "leaderboard.md").read_text()
    assert f"- {record.name}: " in page
    assert "samiro" in page
    run = bench(copy)
    assert (run.returncode, outcome(copy)) == (0, before), run.stderr
    assert record.name in run.stderr
    assert "made again from its phases" in run.stderr
    assert (record.parent / f"superseded/{record.name}-1").read_text() == text


def test_a_changed_digit_of_a_record_is_named_and_its_figures_are_not_used(copy: Path) -> None:
    record = next(path for path in (suite_folder(copy) / "records").glob("*.json") if "baseline" in path.name)
    record.write_text(record.read_text().replace('"steps": 6', '"steps": 5', 1))
    run = subprocess.run(command("leaderboard", "tiny.yaml"), cwd=copy, text=True, capture_output=True)
    assert (run.returncode, "content_sha256" in run.stderr) == (1, True)
    assert "| baseline" not in (suite_folder(copy) / "leaderboard.md").read_text()


def test_rows_with_fewer_seeds_than_the_suite_has_say_which_are_missing(copy: Path) -> None:
    run = subprocess.run(command("leaderboard", "tiny.yaml", "--seeds", "3"), cwd=copy, text=True, capture_output=True)
    assert run.returncode == 0
    assert "warning: ufldv2_micro, samiro on roads: no record of seeds 1, 2 of 3" in run.stderr
    assert "no record of seeds 1, 2 of 3" in (suite_folder(copy) / "leaderboard.md").read_text()


def test_trained_cells_are_drawn_on_the_same_images_and_others_named(copy: Path) -> None:
    images = [str(path) for path in sorted((copy / "results/local/artefacts").rglob("*.jpg"))[:2]]
    shutil.rmtree(cell_folder(copy, "samiro") / "train")
    words = command("overlays", "tiny.yaml", *images, "--out", "page/sheet.jpg")
    run = subprocess.run(words, cwd=copy, text=True, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "1 cell, 2 images; wrote page/sheet.jpg" in run.stdout
    assert cell_folder(copy, "samiro").name in run.stderr
    sheet = read_image(copy / "page/sheet.jpg")
    assert sheet.shape == (TILE[0], LABEL_WIDTH + 2 * TILE[1], 3)
    shutil.rmtree(cell_folder(copy, "baseline") / "train")
    run = subprocess.run(words, cwd=copy, text=True, capture_output=True, timeout=120)
    assert (run.returncode, run.stdout) == (2, "")
    assert "no cell is trained yet; `samiro-bench bench tiny.yaml` trains them" in run.stderr


def test_a_lost_record_is_assembled_again_without_running_anything(copy: Path) -> None:
    before = outcome(copy)
    for path in (suite_folder(copy) / "records").iterdir():
        path.unlink()
    run = bench(copy)
    assert run.returncode == 0
    assert "starts" not in run.stdout
    assert outcome(copy) == before


@pytest.mark.slow
def test_publish_never_replaces_a_folder_of_runs_or_of_anything_else(copy: Path) -> None:
    words = command("publish", "tiny.yaml", "--no-readme")
    run = subprocess.run([*words, "--out", "results/local"], cwd=copy, text=True, capture_output=True)
    assert (run.returncode, "runs live there" in run.stderr) == (2, True)
    assert cell_folder(copy, "samiro").is_dir()
    (copy / "results/tiny").mkdir()
    (copy / "results/tiny/mine.txt").write_text("precious")
    run = subprocess.run(words, cwd=copy, text=True, capture_output=True)
    assert (run.returncode, "would be lost" in run.stderr) == (2, True)
    assert (copy / "results/tiny/mine.txt").read_text() == "precious"


def test_publish_refuses_predictions_that_are_not_the_recorded_ones(copy: Path) -> None:
    archives = [cell_folder(copy, method) / "predict-test/predictions.npz" for method in ("baseline", "samiro")]
    archive, other = archives
    packed = other.read_bytes()
    if outcome(copy)["baseline"][1] == outcome(copy)["samiro"][1]:
        packed = b"junk"
    archive.write_bytes(packed)
    run = subprocess.run(command("publish", "tiny.yaml", "--no-readme"), cwd=copy, text=True, capture_output=True)
    assert run.returncode == 2
    assert "predictions.npz" in run.stderr
    assert not (copy / "results/tiny").exists()


def test_cells_of_other_code_are_published_only_once_they_are_accepted_and_flagged(copy: Path) -> None:
    stale(copy)
    words = command("publish", "tiny.yaml", "--no-readme")
    run = subprocess.run(words, cwd=copy, text=True, capture_output=True)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    commits = {record.environment.commit for record in read_records(suite_folder(copy) / "records")}
    for part in (
        "-baseline-s0-", "harness/training/loop.py", "(1 of 2 cells made by other code or options", "--redo-stale",
        "--accept-stale", f"or publish at the commit that they were made at{''.join(f', {one}' for one in commits if one)}",
    ):  # fmt: skip
        assert part in line
    assert not (copy / "results/tiny").exists()
    assert bench(copy, "--accept-stale").returncode == 0
    record = next(r for r in read_records(suite_folder(copy) / "records") if r.identity.method == "baseline")
    assert any("code changed" in flag for flag in record.flags)
    assert bench(copy).returncode == 0, "what was accepted is accepted from then on"
    run = subprocess.run(words, cwd=copy, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr
    assert "kept although the code changed since" in (copy / "results/tiny/leaderboard.md").read_text()
    stale(copy)
    run = subprocess.run([*words, "--tables"], cwd=copy, text=True, capture_output=True)
    assert run.returncode == 0, "tables are made of what is published, whatever became of the runs"


def test_damaged_counts_are_made_again_from_the_scored_phase(copy: Path) -> None:
    before = outcome(copy)
    for path in (suite_folder(copy) / "records").glob("*.npz"):
        path.write_bytes(b"")
    run = bench(copy)
    assert (run.returncode, outcome(copy)) == (0, before), run.stderr


def test_a_missing_test_label_stops_the_scoring(copy: Path) -> None:
    for method in ("baseline", "samiro"):
        shutil.rmtree(cell_folder(copy, method) / "score-test")
    (dataset,) = (copy / "results/local/artefacts/rendered").glob("culane-*/dataset")
    label = sorted(dataset.glob("driver_test_*/*/*.lines.txt"))[0]
    label.unlink()
    run = bench(copy)
    assert run.returncode == 2
    assert label.name in run.stderr


def test_publish_copies_what_can_be_checked_and_fills_the_readme(copy: Path) -> None:
    (copy / "README.md").write_text(
        "# Title\n<!-- badge:tiny -->\n<!-- /badge:tiny -->\n<!-- leaderboard:tiny -->\nyesterday\n<!-- /leaderboard:tiny -->\nend\n"
    )
    published, texts = copy / "results/tiny", []
    for _ in range(2):
        run = subprocess.run(command("publish", "tiny.yaml"), cwd=copy, text=True, capture_output=True)
        assert run.returncode == 0, run.stderr
        files = [copy / "README.md", *sorted(path for path in published.rglob("*") if path.is_file())]
        texts.append({path: path.read_bytes() for path in files})
    assert texts[0] == texts[1]
    assert {path.name for path in published.iterdir()} == {
        "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "badge.svg", "overlays.jpg", "records", "predictions",
        "labels", "training", "site", "SHA256SUMS",
    }  # fmt: skip
    run = subprocess.run(command("verify", "tiny"), cwd=copy, text=True, capture_output=True)
    assert run.returncode == 0, run.stdout
    assert "2 of 2 rows verified, 0 differ" in run.stdout
    assert read_records(published / "records") == read_records(suite_folder(copy) / "records")
    assert len(list((published / "predictions").glob("*.npz"))) == 2
    assert (published / "overlays.jpg").stat().st_size > 10_000
    readme = (copy / "README.md").read_text()
    badge = r"\[!\[samiro: 1 row, no verdict: [a-z0-9 ]+\]\(results/tiny/badge\.svg\)\]\(results/tiny/leaderboard\.md\)"
    start = f"# Title\n<!-- badge:tiny -->\n{badge}\n<!-- /badge:tiny -->\n<!-- leaderboard:tiny -->\n"
    assert re.match(start, readme)
    assert re.search(
        r"\n\n\[The whole leaderboard\]\(results/tiny/leaderboard\.md\).*\n<!-- /leaderboard:tiny -->\nend\n$", readme
    )
    assert "yesterday" not in readme
    assert "ufldv2_micro" in readme
