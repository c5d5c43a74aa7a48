"""A key covers what its phase depends on and nothing else: else a phase is used though it is stale, or made again for nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cell.artefacts import built_artefact, built_oracle, oracle_phase, own_oracle_phase, statistics_phase
from harness.cell.assembly import assemble_artefacts, kept_flags
from harness.cell.keys import CellPhases, cell_phases
from harness.cell.phases import accept
from harness.files.stored import write_json
from harness.records.record import Artefact
from harness.suite import Cell, EvaluationPart, OraclePart, cells_of, load_suite
from harness.weights.cache import WeightsState

CONTENTS = {"roads": "1", "others": "1"}
EVERYTHING = {"train", "predict-test", "score-test", "predict-far", "score-far", "time"}
AFTER_TRAINING = EVERYTHING - {"train"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """A cell of each method, which is scored on the test images of its own dataset, and corrupted on those of another."""
    splits = {split: {"frames": 4} for split in ("train", "val", "test")}
    suite: dict[str, Any] = {
        "title": "keys",
        "datasets": {name: {"rendered": {"seed": seed, "splits": splits}} for seed, name in enumerate(CONTENTS)},
        "oracles": {"start": {"configuration": {"name": "init"}}},
        "detectors": {"ufldv2_micro": None},
        "methods": {"baseline": None, "samiro": {"oracle": "start"}},
        "evaluations": {"test": None, "far": {"dataset": "others"}},
        "exclude": [{"dataset": "others"}],
    }
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return {cell.identity.method: cell for cell in cells_of(load_suite(str(path)))}


def phases(cell: Cell, contents: dict[str, str] = CONTENTS) -> CellPhases:
    return cell_phases(Path("results"), cell, contents)


def of_identity(cell: Cell, **changes: Any) -> Cell:
    return replace(cell, identity=cell.identity.model_copy(update=changes))


def scored_with_narrow_lanes(cell: Cell) -> Cell:
    others = cell.datasets["others"].model_copy(update={"lane_width": 15})
    return replace(cell, datasets={**cell.datasets, "others": others})


def evaluated(cell: Cell, **changes: Any) -> Cell:
    test = EvaluationPart.model_validate(cell.evaluations["test"].model_dump() | changes)
    return replace(cell, evaluations={**cell.evaluations, "test": test})


@pytest.mark.parametrize(
    ("change", "contents", "expected"),
    [
        (lambda cell: cell, {"roads": "2"}, EVERYTHING),
        (lambda cell: cell, {"others": "2"}, {"predict-far", "score-far"}),
        (lambda cell: of_identity(cell, seed=7), {}, EVERYTHING),
        (lambda cell: of_identity(cell, confidence="val-best"), {}, AFTER_TRAINING | {"threshold"}),
        (lambda cell: evaluated(cell, batch_size=3), {}, {"predict-test", "score-test"}),
        (lambda cell: evaluated(cell, split="val"), {}, {"predict-test", "score-test"}),
        (scored_with_narrow_lanes, {}, {"score-far"}),
        (lambda cell: replace(cell, throughput="lane-latency/1-short"), {}, {"time"}),
        (lambda cell: replace(cell, training=cell.training.model_copy(update={"device": "cuda"})), {}, {"time"}),
        (lambda cell: replace(cell, training=cell.training.model_copy(update={"workers": 3})), {}, set()),
    ],
    ids=["content", "content scored", "seed", "threshold", "batch", "split", "metric", "protocol", "device", "workers"],
)
def test_a_key_covers_what_its_phase_depends_on(
    cells: dict[str, Cell], change: Any, contents: dict[str, str], expected: set[str]
) -> None:
    before = {phase.name: phase.key for phase in phases(cells["baseline"]).all()}
    after = {phase.name: phase.key for phase in phases(change(cells["baseline"]), CONTENTS | contents).all()}
    assert {name for name, key in after.items() if before.get(name) != key} == expected


def test_all_of_a_cell_follows_from_the_weights_that_its_published_oracle_has_now(
    cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep their name, whatever file was given for them."""
    oracle = OraclePart.model_validate({"configuration": {"name": "timm:test_vit"}})
    cell = replace(cells["samiro"], oracle=oracle)
    keys = []
    for sha256 in ("1", "2"):
        given = WeightsState("test_vit.r160_in1k", "present", sha256=sha256)
        monkeypatch.setattr("harness.cell.keys.oracle_state", lambda _, given=given: given)
        keys.append({phase.name: phase.key for phase in phases(cell).all()})
    assert {name for name, key in keys[0].items() if key != keys[1][name]} == EVERYTHING


def test_a_chosen_threshold_is_between_training_and_prediction(cells: dict[str, Cell]) -> None:
    chosen = phases(of_identity(cells["baseline"], confidence="val-best"))
    assert chosen.threshold is not None
    assert chosen.threshold.options["before"] == chosen.train.key
    assert {phase.options["before"] for phase in (*chosen.predict.values(), chosen.time)} == {chosen.threshold.key}


@pytest.mark.parametrize(
    ("phase", "file", "expected"),
    [
        ("train", "detectors/ufldv2.py", {"baseline", "samiro", "val-best"}),
        ("train", "detectors/pretrained.py", {"baseline", "samiro", "val-best"}),
        ("train", "harness/training/loop.py", {"baseline", "samiro", "val-best"}),
        ("train", "harness/methods/control_oracles.py", {"samiro"}),
        ("train", "harness/inference/selection.py", {"val-best"}),
        ("train", "harness/metrics/culane.py", {"val-best"}),
        ("predict-test", "detectors/ufldv2.py", {"baseline", "samiro", "val-best"}),
        ("predict-test", "harness/datasets/culane.py", {"baseline", "samiro", "val-best"}),
        ("predict-test", "harness/inference/showing.py", set()),
        ("predict-far", "harness/inference/showing.py", {"baseline", "samiro", "val-best"}),
        ("score-test", "harness/metrics/culane.py", {"baseline", "samiro", "val-best"}),
        ("score-test", "detectors/ufldv2.py", set()),
        ("time", "detectors/ufldv2.py", {"baseline", "samiro", "val-best"}),
        ("time", "harness/throughput/measurement.py", {"baseline", "samiro", "val-best"}),
        ("time", "harness/training/step_cost.py", {"samiro"}),
    ],
)
def test_a_phase_stands_on_the_files_that_make_it(
    cells: dict[str, Cell], phase: str, file: str, expected: set[str]
) -> None:
    selected = of_identity(cells["baseline"], selection="val-best")
    found = {
        kind: next(one for one in phases(cell).all() if one.name == phase).fingerprint
        for kind, cell in (*cells.items(), ("val-best", selected))
    }
    assert {kind for kind, files in found.items() if file in files} == expected


def pretrained(dataset: str, steps: int) -> OraclePart:
    return OraclePart.model_validate(
        {"dataset": dataset, "configuration": {"name": "mim:resnet_micro", "steps": steps}}
    )


def with_built_oracle(cell: Cell, results: Path) -> Cell:
    """The same cell with an oracle that is pre-trained before, and lies there."""
    own = replace(cell, oracle=pretrained("roads", 2), oracle_dataset=cell.dataset)
    weights = built_oracle(results, own)
    weights.parent.mkdir(parents=True)
    weights.touch()
    write_json(weights.with_name("oracle.json"), {})
    return own


def with_method(cell: Cell, **changes: Any) -> Cell:
    return replace(cell, method=cell.method.model_copy(update=changes))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda cell: of_identity(cell, seed=7), True),
        (lambda cell: of_identity(cell, detector_meta={"name": "other"}), False),
        (lambda cell: with_method(cell, taps=("backbone.layer3",)), False),
        (lambda cell: with_method(cell, normalize="l2"), False),
        (lambda cell: with_method(cell, oracle_attention="fixed"), False),
        (lambda cell: with_method(cell, pair="depth"), False),
        (lambda cell: with_method(cell, oracle_scale=0.5), False),
        (lambda cell: with_method(cell, lambda_=0.5), True),
        (lambda cell: replace(cell, shuffled=True), True),
    ],
    ids=["seed", "detector", "taps", "normalize", "attention", "pair", "scale", "lambda", "shuffled"],
)
def test_target_statistics_are_shared_by_cells_whose_targets_are_the_same(
    cells: dict[str, Cell], tmp_path: Path, change: Any, same: bool
) -> None:
    def key(cell: Cell, content: str = "content") -> str:
        return statistics_phase(tmp_path, cell, content).key

    own_start = cells["samiro"]
    cell = with_built_oracle(own_start, tmp_path)
    assert (key(change(cell)) == key(cell)) is same
    assert len({key(cell), key(cell, "other content"), key(own_start), key(of_identity(own_start, seed=7))}) == 4


def test_target_statistics_are_of_the_weights_that_an_oracle_has_now(cells: dict[str, Cell], tmp_path: Path) -> None:
    """Other code pre-trains an oracle of the same options to other features, whose channels vary otherwise."""
    cell = with_built_oracle(cells["samiro"], tmp_path)
    before = statistics_phase(tmp_path, cell, "content").key
    built_oracle(tmp_path, cell).write_bytes(b"made again")
    assert statistics_phase(tmp_path, cell, "content").key != before


def test_a_record_names_the_oracle_that_was_trained_with_not_the_one_that_lies_there_now(
    cells: dict[str, Cell], tmp_path: Path
) -> None:
    cell = with_built_oracle(cells["samiro"], tmp_path)
    trained_with = built_artefact(tmp_path, cell)
    built_oracle(tmp_path, cell).write_bytes(b"made again")
    (said,) = stated_oracles(tmp_path, cell, trained_with.model_dump(mode="json"))
    assert said == trained_with
    (taken,) = stated_oracles(tmp_path, cell, None)  # of a training from before it was said
    assert (taken.key, taken.sha256 != trained_with.sha256) == (trained_with.key, True)


def stated_oracles(results: Path, cell: Cell, met: dict[str, Any] | None) -> list[Artefact]:
    return [artefact for artefact in assemble_artefacts(results, cell, [None, met]) if artefact.kind == "oracle"]


def test_a_record_says_that_its_oracle_was_kept_although_the_code_changed(
    cells: dict[str, Cell], tmp_path: Path
) -> None:
    cell = with_built_oracle(cells["samiro"], tmp_path)
    oracle = own_oracle_phase(tmp_path, cell)
    assert oracle is not None
    write_json(oracle.folder / "phase.json", {"key": oracle.key, "fingerprint": {"harness/other.py": "1"}})
    assert kept_flags(tmp_path, cell, []) == []
    accept(oracle)
    assert kept_flags(tmp_path, cell, []) == [f"{oracle.name}: kept although the code changed since"]
    assert kept_flags(tmp_path, cells["baseline"], []) == []
    shutil.rmtree(oracle.folder)  # freed, after a training that states what it was trained with
    assert kept_flags(tmp_path, cell, []) == []


def test_an_oracle_is_shared_where_its_options_and_images_are_the_same(cells: dict[str, Cell]) -> None:
    def key(dataset: str, steps: int) -> str:
        part = cells["samiro"].datasets[dataset]
        return oracle_phase(Path("results"), "oracle", pretrained(dataset, steps), part).key

    assert key("roads", 2) == key("roads", 2)
    assert len({key("roads", 2), key("others", 2), key("roads", 3)}) == 3
