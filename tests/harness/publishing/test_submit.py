"""`submit` on a tiny suite that was run: what it packs, and what it refuses to pack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.files.yaml import read_yaml
from harness.publishing.checksums import write_sums
from harness.publishing.demands import demands_of
from harness.publishing.statement import STATEMENT_FILE
from harness.publishing.submit import PARTS
from harness.records.record import identity_hash, read_record, write_record
from harness.suite import Choice, cells_of, load_suite
from tests.harness.example_records import measured

pytestmark = pytest.mark.slow

SUITE = """
title: Tiny
datasets:
  roads:
    rendered:
      seed: 7
      splits: {train: {frames: 4, frames_per_clip: 2}, test: {frames: 4}}
      width: 820
      height: 295
detectors:
  ufldv2_micro: {recipe: {steps: 2, batch_size: 2}}
methods:
  baseline:
seeds: 2
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""
WHO = ["--as", "alice", "--who", "Alice <i>Example</i>", "--contact", "alice@example.org"]


@pytest.fixture(scope="module", autouse=True)
def suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in the place of this repository's suites, with a tiny one."""
    folder = tmp_path_factory.mktemp("suites")
    (folder / "tiny.yaml").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.suite.load.SUITES", folder)
        demands_of.cache_clear()
        yield folder
    demands_of.cache_clear()


@pytest.fixture(scope="module")
def finished(suites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs in which the tiny suite's first seed has run."""
    from harness.cell import artefacts, timing
    from harness.matrix.jobs import jobs_of
    from harness.matrix.plan import make_plan

    results = tmp_path_factory.mktemp("runs") / "results/local"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artefacts, "available_cores", lambda: 1)
        patch.setattr(timing, "measure", measured)
        plan = make_plan(load_suite("tiny"), results, Choice(only=("seed=0",)))
        for job in jobs_of(plan):
            job.task(lambda event: None)
    return results


@pytest.fixture
def runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, below the folder that commands are called in."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished, tmp_path / "results/local"))


def test_runs_that_came_without_images_and_checkpoints_are_published_all_the_same(runs: Path, tmp_path: Path) -> None:
    assert main(["publish", "tiny", "--only", "seed=0", "--no-readme", "--out", "whole"]) == 0
    shutil.rmtree(runs / "artefacts/rendered")
    for path in runs.rglob("*.safetensors"):
        path.unlink()
    assert main(["publish", "tiny", "--only", "seed=0", "--no-readme", "--out", "carried"]) == 0
    whole, carried = Path("whole/tiny"), Path("carried/tiny")
    assert (whole / "overlays.jpg").is_file()
    assert not (carried / "overlays.jpg").exists()
    for part in ("labels", "records", "predictions"):
        names = [path.name for path in (whole / part).iterdir()]
        assert sorted(path.name for path in (carried / part).iterdir()) == sorted(names)
        assert all((whole / part / name).read_bytes() == (carried / part / name).read_bytes() for name in names)
    assert main(["verify", "tiny", "--published", "carried"]) == 0


def test_finished_cells_are_packed_and_accepted_and_what_to_do_next_is_said(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("results/submissions/tiny/alice")
    for _ in range(2):  # the second time it is replaced
        assert main(["submit", "tiny", *WHO]) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert {path.name for path in folder.iterdir()} <= PARTS
    assert not [path for path in folder.rglob("*") if path.suffix in {".jpg", ".webp", ".safetensors", ".html"}]
    (record,) = (folder / "records").glob("*.json")
    assert any(line.startswith(f"wrote {record}, ") for line in lines)
    assert any(line.startswith("not finished, so left out: roads-ufldv2_micro-baseline-s1-") for line in lines)
    assert "tiny/alice: ACCEPTED: 1 of 1 row verified" in lines
    lacking = "ufldv2_micro, baseline on roads: no record of seed 1 of 2"
    assert f"- missing: {lacking}" in lines
    assert f"\n- {lacking}\n" in (folder / "leaderboard.md").read_text(), (
        "its tables don't look like those of the whole"
    )
    assert json.loads((folder / "missing.json").read_text()) == [lacking]
    assert "  git add results/submissions/tiny/alice" in lines
    stated = read_yaml(folder / STATEMENT_FILE)
    assert (stated["who"], stated["cells"], stated["metrics"]) == (
        "Alice <i>Example</i>", 1, ["culane/official (820x295, lanes 30 px wide)"],
    )  # fmt: skip
    assert main(["verify", "alice", "--published", "results/submissions/tiny"]) == 0
    assert main(["review", "--index", "results/submissions"]) == 0
    page = Path("results/submissions/README.md").read_text()
    assert "| tiny | [alice](tiny/alice/leaderboard.md) | Alice &lt;i&gt;Example&lt;/i&gt; |" in page


def test_of_a_suite_that_isnt_finished_what_is_chosen_is_published(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "tiny", "--no-readme"]
    assert main(words) == 2
    assert "has no record (1 of 2 cells); run `bench` first, or choose" in capsys.readouterr().err
    assert main([*words, "--only", "seed=0"]) == 0, capsys.readouterr().err
    assert len(list(Path("results/tiny/records").glob("*.json"))) == 1
    assert main(["verify", "tiny", "--published", "results"]) == 0
    capsys.readouterr()
    lacking = "ufldv2_micro, baseline on roads: no record of seed 1 of 2"
    table = Path("results/tiny/leaderboard.md").read_text()
    assert f"- {lacking}\n" in table, "a part of a suite can be told from the whole"
    assert lacking in Path("results/tiny/site/index.html").read_text()
    assert main([*words, "--tables"]) == 0
    assert Path("results/tiny/leaderboard.md").read_text() == table
    Path("results/tiny/missing.json").unlink()
    write_sums(Path("results/tiny"))
    assert main(["verify", "tiny", "--published", "results"]) == 1, "the tables were made with it"
    capsys.readouterr()
    for choice in (["--only", "seed=0"], ["--seeds", "1"]):
        assert main([*words, "--tables", *choice]) == 2
        assert "leave --only, --skip, --tier and --seeds out" in capsys.readouterr().err


def test_a_choice_that_leaves_out_what_is_published_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["publish", "tiny", "--no-readme"]
    assert main([*words, "--seeds", "1"]) == 0, capsys.readouterr().err
    (record,) = Path("results/tiny/records").glob("*.json")
    assert "no record of seed 1 of 2" in Path("results/tiny/missing.json").read_text(), "of the suite, not of --seeds"
    other = record.with_name("of other code and options.json")
    content = json.loads(record.read_text())
    content["identity"]["seed"] = 1
    other.write_text(json.dumps(content))
    for choice in (["--only", "seed=0"], ["--seeds", "1"], ["--seeds", "1", "--only", "method=baseline"]):
        assert main([*words, *choice]) == 2
        assert f"results/tiny: would lose {other.stem} (1 published cell that" in capsys.readouterr().err
    other.unlink()
    assert main([*words, "--only", "seed=0"]) == 0, "what is published and chosen may be published again"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", *WHO[2:], "--as", "../alice"], "--as '../alice': give a name of 1 to 40 letters"),
        (["tiny", *WHO[2:], "--as", "Alice"], "--as 'Alice': give a name"),
        (["tiny", *WHO[:4], "--contact", "javascript:alert(1)"], "--who, --contact: key 'contact'"),
        (["tiny", *WHO, "--only", "seed=1"], "tiny: no cell is finished below results/local; run `bench` first"),
        (["tiny", *WHO, "--out", "results/local"], "runs live there"),
        (["nowhere", *WHO], "unknown suite 'nowhere'"),
    ],
)
def test_bad_words_are_answered_in_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["submit", *words]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert len(line.splitlines()) == 1


def test_failed_cells_are_named_and_can_be_left_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell.identity.seed for cell in demands_of("tiny").cells]
    assert cells == [0, 1]

    name = cells_of(load_suite("tiny"))[1].id
    (runs / "tiny/outcomes.json").write_text(json.dumps({name: "out of memory"}))
    assert main(["submit", "tiny", *WHO]) == 2
    assert "1 cell failed: ufldv2_micro, baseline on roads, seed 1: out of memory" in capsys.readouterr().err
    assert main(["submit", "tiny", *WHO, "--skip", "seed=1"]) == 0


def test_finished_cells_that_are_not_taken_are_named_with_the_reason(
    runs: Path, suites: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of `bench --seeds`, say, more seeds are there than the suite has."""
    (path,) = (runs / "tiny/records").glob("*.json")
    record = read_record(path)
    for seed in (1, 2, 3):
        identity = record.identity.model_copy(update={"seed": seed})
        name = f"roads-ufldv2_micro-baseline-s{seed}-{identity_hash(identity)[:10]}"
        write_record(path.parent, record.model_copy(update={"identity": identity, "id": name}))
    assert main(["submit", "tiny", *WHO, "--only", "seed=0"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finished, but not taken: ")]
    assert len(said) == 3
    assert any(
        "1 cell: not among the cells that were chosen; the first is roads-ufldv2_micro-baseline-s1-" in line
        for line in said
    )
    for seed in (2, 3):
        assert any(
            f"1 cell: key 'identity.seed' is {seed}, the suite has 0, 1; the first is roads-" in line for line in said
        )


def test_stale_cells_are_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (phase,) = (runs / "tiny/cells").glob("*/predict-test/phase.json")
    found = json.loads(phase.read_text())
    found["fingerprint"] = {name: "0" * 64 for name in found["fingerprint"]}
    phase.write_text(json.dumps(found))
    assert main(["submit", "tiny", *WHO]) == 2
    assert "1 stale cell: roads-ufldv2_micro-baseline-s0-" in capsys.readouterr().err


def test_rows_of_a_changed_suite_of_that_name_are_refused_by_key(
    runs: Path, tmp_path: Path, suites: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were run as the repository's suite was before; now it trains longer."""
    (tmp_path / "tiny.yaml").write_text(SUITE)
    try:
        (suites / "tiny.yaml").write_text(SUITE.replace("steps: 2", "steps: 200"))
        demands_of.cache_clear()
        assert main(["submit", "tiny.yaml", *WHO]) == 2
    finally:
        (suites / "tiny.yaml").write_text(SUITE)
        demands_of.cache_clear()
    said = capsys.readouterr().err
    assert "key 'identity.recipe.steps' is 2, this repository's suite gives 200" in said
    assert "so run that" in said


def test_suites_that_this_repository_lacks_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text(SUITE)
    assert main(["submit", "own.yaml", *WHO]) == 2
    assert "this repository has no suite 'own'" in capsys.readouterr().err


def test_rows_that_their_review_would_refuse_are_not_packed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody took the last line off the log of a finished cell's training."""
    (log,) = (runs / "tiny/cells").glob("*/train/training.jsonl")
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    assert main(["submit", "tiny", *WHO]) == 2
    said = capsys.readouterr().err
    assert "not packed, for its review refuses it: " in said
    assert len(said.splitlines()) == 1
    assert not Path("results/submissions/tiny/alice").exists()


def test_nothing_but_a_submission_is_replaced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("results/submissions/tiny/alice")
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("precious")
    assert main(["submit", "tiny", *WHO]) == 2
    assert "would be lost" in capsys.readouterr().err
    assert (folder / "mine.txt").read_text() == "precious"


def test_somebody_elses_submission_is_not_replaced_and_ones_own_is(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = runs.parent / "submissions"
    words = ["submit", "tiny", "--results", str(runs), "--only", "seed=0", "--out", str(out)]
    assert main([*words, *WHO]) == 0
    before = (out / "tiny/alice" / STATEMENT_FILE).read_bytes()
    assert main([*words, *WHO]) == 0
    capsys.readouterr()
    assert main([*words, "--as", "alice", "--who", "Mallory", "--contact", "m@example.org"]) == 2
    said = capsys.readouterr().err
    assert "is there already, of 'Alice <i>Example</i>', alice@example.org; give another name with --as" in said
    assert (out / "tiny/alice" / STATEMENT_FILE).read_bytes() == before


def test_an_earlier_submission_outlives_a_disk_that_takes_no_other(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = runs.parent / "submissions"
    words = ["submit", "tiny", "--results", str(runs), "--only", "seed=0", "--out", str(out), *WHO]
    assert main(words) == 0
    before = sorted((path, path.read_bytes()) for path in out.rglob("*") if path.is_file())
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if target == out / "tiny/alice" and path.name == "alice":
            raise OSError(28, "No space left on device", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted((path, path.read_bytes()) for path in out.rglob("*") if path.is_file()) == before
