"""What is built before cells is what they wait for, priced by what such builds took on the same machine, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cell import artefacts
from harness.cell.artefacts import PACE_FILE, build_oracle, build_rendering, core_seconds_a_frame
from harness.files.stored import sha256_of_json
from harness.matrix.build_pricing import built_rates, costs_of_builds
from harness.matrix.build_probe import probed_builds
from harness.matrix.builds import Build, Pretraining, Rendering, builds_of
from harness.matrix.fitting import kind_of
from harness.matrix.plan import make_plan
from harness.matrix.pricing import Machine
from harness.processes.limits import available_cores
from harness.records.oracles import has_one_a_seed, own_oracle
from harness.rendered.spec import RenderSpec
from harness.report.arms import row_key
from harness.suite import Cell, Choice, Suite, load_suite
from tests.benchmarks.finished import finish

SUITE = """
title: Tiny
datasets:
  roads:
    rendered:
      form: culane
      width: 328
      height: 118
      splits: {train: {frames: 4, frames_per_clip: 1}, test: {frames: 4, frames_per_clip: 1}}
oracles:
  small:
    dataset: roads
    configuration: {name: "mim:resnet_micro", steps: 2, batch_size: 2, image_size: [64, 128], recalibration_batches: 1}
detectors:
  ufldv2_micro:
methods:
  baseline:
  samiro: {oracle: small}
training: {threads: 2}
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("suites") / "tiny.yaml"
    path.write_text(SUITE)
    return load_suite(str(path))


@pytest.fixture(scope="module")
def waiting(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rendering, Pretraining]:
    """What the suite's cells wait for where nothing is there."""
    results = tmp_path_factory.mktemp("nothing")
    rendering, pretraining = builds_of(results, make_plan(suite, results, Choice()).pending)
    assert isinstance(rendering, Rendering)
    assert isinstance(pretraining, Pretraining)
    return rendering, pretraining


@pytest.fixture(scope="module")
def built(suite: Suite, waiting: tuple[Rendering, Pretraining], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs in which both are there."""
    results, (rendering, made) = tmp_path_factory.mktemp("built"), waiting
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(artefacts, "available_cores", lambda: 1)
        build_rendering(results, rendering.spec, rendering.job, lambda event: None)
    build_oracle(results, made.title, made.oracle, made.dataset, suite.training, made.job, lambda event: None)
    return results


def edited(results: Path, kind: str, file: str = "phase.json", **changes: Any) -> None:
    """Change keys of such a file of the one artefact of a kind; None takes a key away."""
    (path,) = (results / "artefacts" / kind).glob(f"*/{file}")
    stored = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in stored.items() if value is not None}))


def larger(rendering: Rendering, frames: int) -> Rendering:
    """The same roads with so many frames, of another seed and difficulty."""
    spec = RenderSpec.model_validate(
        {**rendering.spec.model_dump(), "seed": 9, "difficulty": 0.9, "splits": {"test": {"frames": frames}}}
    )
    return replace(rendering, spec=spec)


def towards_oracle(suite: Suite, results: Path) -> Cell:
    """The one cell of a suite that has an oracle."""
    states = make_plan(suite, results, Choice()).pending
    (cell,) = (state.cell for state in states if isinstance(state.cell, Cell) and state.cell.oracle)
    return cell


def longer(made: Pretraining, **changes: Any) -> Pretraining:
    """An oracle of other options."""
    configuration = made.oracle.configuration.model_copy(update=changes)
    return replace(made, oracle=made.oracle.model_copy(update={"configuration": configuration}))


def test_cells_wait_for_their_images_and_the_oracle_that_is_made_of_them_once_each(
    waiting: tuple[Rendering, Pretraining],
) -> None:
    assert [build.job.partition("-")[0] for build in waiting] == ["render roads", "oracle mim"]


def test_nobody_waits_for_the_images_of_an_oracle_that_is_made(tmp_path: Path) -> None:
    cells = make_plan(load_suite("tuned"), tmp_path, Choice(seeds=1)).pending
    *renderings, oracle = builds_of(tmp_path, cells)
    assert [build.job for build in renderings] == ["render hard", "render elsewhere"]
    finish(oracle.phase)
    assert [build.job for build in builds_of(tmp_path, cells)] == ["render hard"]


def test_an_oracle_is_made_with_the_seed_that_the_suite_gives_it_and_another_seed_is_another_oracle(
    suite: Suite, waiting: tuple[Rendering, Pretraining], built: Path, tmp_path: Path
) -> None:
    _, made = waiting
    path = tmp_path / "seeds.yaml"
    path.write_text(
        SUITE.replace("recalibration_batches: 1}", "recalibration_batches: 1, seed: 5}").replace("small", "other")
    )
    other = towards_oracle(load_suite(str(path)), tmp_path)
    first = towards_oracle(suite, tmp_path)
    assert "seed" not in first.identity.oracle["configuration"], (
        "identities of before there was the option stay the same"
    )
    assert other.identity.oracle["configuration"] == first.identity.oracle["configuration"] | {"seed": 5}
    shutil.copytree(built / "artefacts" / "rendered", tmp_path / "artefacts" / "rendered")
    build_oracle(tmp_path, "other", other.oracle, made.dataset, suite.training, "oracle", lambda event: None)
    cards = [
        json.loads(next((results / "artefacts" / "oracle").glob("*/oracle.json")).read_text())
        for results in (built, tmp_path)
    ]
    assert [card["seed"] for card in cards] == [0, 5]
    assert cards[0]["sha256"] != cards[1]["sha256"]


@pytest.mark.parametrize("shuffled", [False, True])
def test_each_seed_can_have_an_oracle_of_its_own_under_one_row(shuffled: bool, tmp_path: Path) -> None:
    path = tmp_path / "per_seed.yaml"
    one = SUITE.replace("training:", "seeds: 3\ntraining:")
    if shuffled:
        one = one.replace("detectors:", "  mixed: {configuration: {name: 'shuffled:small'}}\ndetectors:")
        one = one.replace("oracle: small", "oracle: mixed")
    path.write_text(one.replace("  small:\n", "  small:\n    per_seed: true\n"))
    states = make_plan(load_suite(str(path)), tmp_path, Choice()).pending
    cells = [state.cell for state in states if isinstance(state.cell, Cell) and state.cell.oracle]
    assert len({row_key(cell.identity) for cell in cells}) == 1
    assert [cell.oracle.configuration.seed for cell in cells if cell.oracle] == [0, 1, 2]
    made = [build for build in builds_of(tmp_path, states) if isinstance(build, Pretraining)]
    assert [build.oracle.configuration.seed for build in made] == [0, 1, 2]
    assert len({build.job for build in made}) == 3
    # What a record of each says of its oracle is what that one was made by, as if it served all.
    for cell, build in zip(cells, made, strict=True):
        assert sha256_of_json(own_oracle(cell.identity)) == build.phase.key
        assert has_one_a_seed(cell.identity)
    assert len({kind_of(cell) for cell in cells}) == 1, "whether a method fits is tried once for all seeds"


def test_what_is_there_prices_what_is_like_it(
    built: Path, suite: Suite, waiting: tuple[Rendering, Pretraining]
) -> None:
    rendering, made = waiting
    edited(built, "rendered", PACE_FILE, core_seconds_a_frame=4.0)
    edited(built, "oracle", seconds=3.0)
    rates = built_rates(built)
    assert rates.problems == ()
    asked: list[Build] = [
        larger(rendering, 60),
        longer(made, steps=200, learning_rate=0.5, seed=5),
        longer(made, batch_size=4),
    ]
    (_, frames), (_, steps), (_, unlike) = costs_of_builds(asked, suite.training, [rates])
    assert frames is not None
    assert steps is not None
    assert frames.hours * 3600 == pytest.approx(60 * 4)
    assert (frames.devices, frames.unit) == (available_cores(), "CPU-hours")
    assert steps.seconds == pytest.approx(200 * 1.5)
    assert (steps.devices, steps.unit) == (2, "CPU-hours")
    assert unlike is None
    elsewhere = Machine("NVIDIA H200", gpu=True)
    assert [cost for _, cost in costs_of_builds(asked, suite.training, [rates], elsewhere)] == [None] * 3


def test_an_oracle_that_a_gpu_made_is_priced_on_such_a_gpu(
    built: Path, suite: Suite, waiting: tuple[Rendering, Pretraining]
) -> None:
    name = "NVIDIA H200"
    (card,) = (built / "artefacts" / "oracle").glob("*/oracle.json")
    (phase,) = (built / "artefacts" / "oracle").glob("*/phase.json")
    before = card.read_text(), phase.read_text()
    try:
        card.write_text(json.dumps({**json.loads(before[0]), "device": "cuda"}))
        edited(built, "oracle", seconds=3.0, machine=name)
        rates = built_rates(built)
        (entry,) = costs_of_builds([waiting[1]], suite.training, [rates], Machine(name, gpu=True))
    finally:
        card.write_text(before[0])
        phase.write_text(before[1])
    assert entry[1] is not None
    assert (entry[1].seconds, entry[1].devices, entry[1].unit) == (3.0, 1, "GPU-hours")


@pytest.mark.parametrize("continued", [True, None])
def test_an_oracle_that_was_not_timed_whole_is_no_price(
    built: Path, suite: Suite, waiting: tuple[Rendering, Pretraining], continued: bool | None
) -> None:
    (phase,) = (built / "artefacts" / "oracle").glob("*/phase.json")
    before = phase.read_text()
    try:
        edited(built, "oracle", continued=continued)
        costs = costs_of_builds(waiting, suite.training, [built_rates(built)])
    finally:
        phase.write_text(before)
    assert [build.phase.folder.parent.name for build, cost in costs if cost is None] == ["oracle"]


def test_a_renderer_that_compiles_first_is_as_cheap_as_one_that_did_before() -> None:
    # Two frames a clip, and four clips a second of two cores, after two and three minutes in which these compiled.
    compiled = [(2, 120.0), *((2 * clip, 180 + clip / 4) for clip in range(2, 55))]
    assert core_seconds_a_frame(compiled, 2) == pytest.approx(2 / (4 * 2))
    # With more cores there are too few rounds of them to tell.
    assert core_seconds_a_frame(compiled, 7) is None


def test_a_rendering_that_tells_no_pace_is_no_price(
    built: Path, suite: Suite, waiting: tuple[Rendering, Pretraining]
) -> None:
    (pace,) = (built / "artefacts" / "rendered").glob(f"*/{PACE_FILE}")
    away = pace.rename(pace.with_name("away"))
    try:
        costs = costs_of_builds(waiting, suite.training, [built_rates(built)])
    finally:
        away.rename(pace)
    assert [build.phase.folder.parent.name for build, cost in costs if cost is None] == ["rendered"]


def test_an_artefact_that_cannot_be_read_is_named_and_prices_nothing(built: Path) -> None:
    (phase,) = (built / "artefacts" / "rendered").glob("*/phase.json")
    before = phase.read_text()
    try:
        edited(built, "rendered", options={})
        (problem,) = built_rates(built).problems
    finally:
        phase.write_text(before)
    assert problem == f"{phase}: no price can be read from it (KeyError: 'spec')"


def test_a_probe_prices_both_and_leaves_nothing_behind(
    suite: Suite, waiting: tuple[Rendering, Pretraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked: list[str] = []
    rates = probed_builds([*waiting, larger(waiting[0], 60)], suite.training, asked.append)
    assert asked == [build.job for build in waiting], "each kind once"
    assert rates.basis == "probe"
    for _, cost in costs_of_builds(waiting, suite.training, [rates]):
        assert cost is not None
        assert cost.seconds > 0
    assert list(tmp_path.iterdir()) == []
