"""Training a cell: what its two arms share at the start."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from detectors.base import Detector
from harness.cell import train
from harness.cell.artefacts import built_oracle, own_oracle_phase
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE, checkpoint_sha256
from harness.cell.phases import Phase, run_phase
from harness.cell.predict import view_of_evaluation
from harness.datasets.base import Dataset, Frame, open_dataset
from harness.errors import InputError, InputWarning
from harness.files.stored import sha256_of_file
from harness.methods.base import TrainingModel
from harness.methods.baseline import BaselineModel
from harness.methods.card import OracleCard, card_path
from harness.methods.config import method_configuration
from harness.suite import Cell, EvaluationPart, cells_of, load_suite
from harness.suite.schema import OraclePart
from harness.training.plan import TrainingSummary
from harness.training.ranks import ALONE, Ranks

SUITE = """
title: Start
datasets:
  roads: {rendered: {seed: 7, splits: {train: {frames: 2}, test: {frames: 2}}}}
detectors:
  ufldv2_micro:
methods:
  baseline:
training: {threads: 1, device: cpu}
"""


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    (tmp_path / "start.yaml").write_text(SUITE)
    (only,) = cells_of(load_suite(str(tmp_path / "start.yaml")))
    return only


def with_own_start(cell: Cell, **options: Any) -> Cell:
    """The cell in a method whose oracle is the detector's start."""
    oracle = OraclePart.model_validate({"configuration": {"name": "init"}})
    return replace(cell, method=method_configuration("samiro", {"oracle": "own", **options}), oracle=oracle)


def attached(cell: Cell, folder: Path) -> TrainingModel:
    frames = (Frame("a", folder / "a.jpg", "a", None),) * 32
    detector = train.new_detector(cell)
    given: Any = (frames, torch.device("cpu"), lambda event: None, torch.Generator())
    return train.attach_method(folder, cell, "content", detector, *given)


def doubled(detector: Detector) -> None:
    """As a method might that scales a layer to its liking."""
    with torch.no_grad():
        next(detector.parameters()).mul_(2)


def counted(detector: Detector) -> None:
    """As a method might that lets an image through the network to see its shapes."""
    next(module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)).num_batches_tracked += 1


def widened(detector: Detector) -> None:
    """As a method might that wants its sums in double precision."""
    detector.double()


@pytest.mark.parametrize(
    ("careless", "named"),
    [(doubled, r"backbone\.\S*weight"), (counted, "num_batches_tracked"), (widened, r"backbone\.\S*")],
)
def test_a_method_that_changes_the_detectors_start_is_refused(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, careless: Any, named: str
) -> None:
    def attach(detector: Detector, *_: Any, **__: Any) -> TrainingModel:
        careless(detector)
        return BaselineModel(detector)

    attached(cell, tmp_path)
    monkeypatch.setattr(train, "attach", attach)
    with pytest.raises(InputError, match=rf"method 'baseline' changes \S*{named} of the detector .* begin unlike"):
        attached(cell, tmp_path)


def test_a_method_that_trains_a_part_of_the_detector_in_its_own_way_is_refused(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attach(detector: Detector, *_: Any, **__: Any) -> TrainingModel:
        next(detector.parameters()).requires_grad_(False)
        return BaselineModel(detector)

    monkeypatch.setattr(train, "attach", attach)
    with pytest.raises(InputError, match=r"BaselineModel: freezes the detector's backbone\.\S*weight"):
        attached(cell, tmp_path)


def test_processes_draw_one_method_and_then_each_its_own(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[int, tuple[float, float]] = {}
    frames = (Frame("a", tmp_path / "a.jpg", "a", None),) * 32
    dataset: Any = SimpleNamespace(frames=lambda split: frames, lanes=None)

    def attach(detector: Detector, *_: Any, generator: torch.Generator, **__: Any) -> TrainingModel:
        drawn[len(drawn)] = (float(torch.rand((), generator=generator)), 0.0)
        return BaselineModel(detector)

    class Reached(Exception):
        pass

    def training(*_: Any, generator: torch.Generator, ranks: Ranks, **__: Any) -> None:
        drawn[ranks.rank] = (drawn[ranks.rank][0], float(torch.rand((), generator=generator)))
        raise Reached

    monkeypatch.setattr(train, "attach", attach)
    monkeypatch.setattr(train, "run_training", training)
    monkeypatch.setattr(train, "make_deterministic", lambda threads: None)
    monkeypatch.setattr(train, "TrainingStream", lambda *_, **__: SimpleNamespace(batches=None))
    for rank in range(3):
        with pytest.raises(Reached):
            train.train_share(tmp_path, cell, "content", dataset, tmp_path, Ranks(rank, 3), lambda event: None)
    assert len({initial for initial, _ in drawn.values()}) == 1
    assert len({later for _, later in drawn.values()}) == 3
    # The first process goes on where its initial weights ended, as a training of one process does.
    generator = torch.Generator().manual_seed(train.method_seed(cell.identity.seed))
    assert drawn[0] == tuple(float(torch.rand((), generator=generator)) for _ in range(2))


def test_tensors_that_no_deployed_detector_has_are_told_before_the_first_step(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = (Frame("a", tmp_path / "a.jpg", "a", None),) * 32
    dataset: Any = SimpleNamespace(frames=lambda split: frames, lanes=None)

    def attach(detector: Detector, *_: Any, **__: Any) -> TrainingModel:
        detector.register_parameter("left", nn.Parameter(torch.zeros(3)))
        return BaselineModel(detector)

    monkeypatch.setattr(train, "attach", attach)
    monkeypatch.setattr(train, "run_training", pytest.fail)
    monkeypatch.setattr(train, "make_deterministic", lambda threads: None)
    monkeypatch.setattr(train, "TrainingStream", lambda *_, **__: SimpleNamespace(batches=None))
    with pytest.raises(InputError, match=r"method 'baseline': what it trains doesn't fit what is deployed .*left"):
        train.train_share(tmp_path, cell, "content", dataset, tmp_path, ALONE, lambda event: None)


SUMMARY = TrainingSummary(
    1, 4, 4, 4, seconds=1.0, seconds_per_step=1.0, peak_memory_bytes=None, resumed=0, clip_rate=None, skipped_steps=0,
    final_losses={}, final_diagnostics={}, best_step=None, best_score=None,
)  # fmt: skip


def kept(cell: Cell, model: TrainingModel, folder: Path) -> None:
    images = torch.randint(0, 256, (2, 3, *cell.configuration.input.network), dtype=torch.uint8)
    train.keep_trained(cell, model, SUMMARY, None, None, torch.device("cpu"), images, folder)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_training_ends_only_where_what_trained_is_what_is_deployed(
    cell: Cell, tmp_path: Path, channels_last: bool
) -> None:
    cell = replace(cell, identity=cell.identity.model_copy(update={"channels_last": channels_last}))
    model = attached(cell, tmp_path)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept(cell, model, tmp_path)
    assert checkpoint_sha256(tmp_path) == sha256_of_file(tmp_path / CHECKPOINT_FILE)
    (tmp_path / SUMMARY_FILE).unlink()
    first = next(module for module in model.detector.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda module, inputs, output: output * 1.5)
    with pytest.raises(InputError, match=r"method 'baseline': what it trained isn't what is deployed"):
        kept(cell, model, tmp_path)
    # Else it would count as done.
    assert not (tmp_path / SUMMARY_FILE).exists()


def test_an_oracle_that_changes_the_detectors_start_is_refused(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(results: Path, cell: Cell, detector: Detector) -> None:
        doubled(detector)

    other = with_own_start(cell, normalize="none")
    monkeypatch.setattr(train, "source_oracle", careless)
    monkeypatch.setattr(train, "as_seen", lambda cell, oracle: oracle)
    monkeypatch.setattr(train, "attach", lambda detector, *_, **__: BaselineModel(detector))
    with pytest.raises(InputError, match="begin unlike"):
        attached(other, tmp_path)


def test_a_value_that_is_no_number_is_no_change(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = train.new_detector

    def measuring(cell: Cell) -> Detector:
        detector = new(cell)
        detector.register_buffer("measured", torch.tensor(float("nan")))
        return detector

    monkeypatch.setattr(train, "new_detector", measuring)
    assert attached(cell, tmp_path).inference_model().state_dict()["measured"].isnan()


def test_target_statistics_that_are_there_are_used_without_a_lock_that_may_be_another_users(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_own_start(cell)
    taken = run_phase(train.statistics_phase(tmp_path, other, "content"), lambda folder: None)
    monkeypatch.setattr(train, "tap_pairs", lambda *_: [])
    monkeypatch.setattr(train, "locked", lambda *_: pytest.fail("it asks for the lock"))
    given: Any = (None, None, (), torch.device("cpu"), print)
    assert train.build_statistics(tmp_path, other, "content", *given).parent == taken


def test_target_statistics_of_other_code_are_taken_anew_without_asking(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_own_start(cell)
    stale = replace(train.statistics_phase(tmp_path, other, "content"), fingerprint={"harness/other.py": "1"})
    run_phase(stale, lambda folder: None)
    monkeypatch.setattr(train, "tap_pairs", lambda *_: [])
    monkeypatch.setattr(train, "run_phase", lambda phase, work: phase.folder)
    given: Any = (None, None, (), torch.device("cpu"), print)
    train.build_statistics(tmp_path, other, "content", *given)
    assert not stale.folder.exists()
    assert (stale.folder.parent / "superseded" / f"{stale.folder.name}-1").is_dir()


@pytest.mark.parametrize("kept", [0, 200])
def test_damaged_target_statistics_are_refused_with_what_has_them_made_anew(
    cell: Cell, tmp_path: Path, kept: int
) -> None:
    other = with_own_start(cell)
    assert cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((59, 164, 3), np.uint8))
    attached(other, tmp_path)
    (file,) = (tmp_path / "artefacts/statistics").glob("*/statistics.safetensors")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError) as refused:
        attached(other, tmp_path)
    assert str(refused.value).startswith(f"{file}: not target statistics (")
    assert str(refused.value).endswith("; delete its folder, which is made anew")
    shutil.rmtree(file.parent)
    attached(other, tmp_path)
    assert train.load_statistics(file).images == 32


def with_built_oracle(cell: Cell) -> Cell:
    """The cell in a method whose oracle is pre-trained on its own images."""
    oracle = OraclePart.model_validate({"configuration": {"name": "mim:resnet_micro", "steps": 1}, "dataset": "roads"})
    return replace(with_own_start(cell), oracle=oracle, oracle_dataset=cell.dataset)


def oracle_of(cell: Cell, results: Path) -> Phase:
    """The phase of such an oracle."""
    phase = own_oracle_phase(results, cell)
    assert phase is not None
    return phase


def test_an_oracle_that_another_run_had_made_by_other_code_meanwhile_is_not_trained_by(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = with_built_oracle(cell)
    phase, given = oracle_of(own, tmp_path), ("content", None, print, tmp_path / "train")
    monkeypatch.setattr(train, "train_share", lambda *_: pytest.fail("it trains"))
    run_phase(
        replace(phase, fingerprint={"harness/other.py": "1"}), lambda folder: (folder / "oracle.safetensors").touch()
    )
    with pytest.raises(InputError, match=r"code changed since: .*: meanwhile the code was edited, or another run in"):
        train.train(tmp_path, own, *given)  # type: ignore[arg-type]
    phase.folder.rename(tmp_path / "aside")
    with pytest.raises(InputError, match=r"it is gone, and when .* another run in this folder of results"):
        train.train(tmp_path, own, *given)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
def test_a_training_that_began_with_other_weights_of_its_oracle_begins_anew(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = with_built_oracle(cell)
    run_phase(oracle_of(own, tmp_path), lambda folder: None)
    weights = built_oracle(tmp_path, own)
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "begun.json").touch()
    found = []

    def made(content: bytes) -> None:
        weights.write_bytes(content)
        card = OracleCard(
            name="mim:resnet_micro",
            backbone="resnet_micro",
            sha256=sha256_of_file(weights),
            configuration={},
            data={},
            seed=0,
            steps=1,
            threads=1,
            device="cpu",
            torch="",
            seconds=0.0,
            normalisation=own.meta.normalisation,
            taps=(),
            checks={},
        )
        card_path(weights).write_text(card.model_dump_json())

    def share(*_: Any) -> None:
        found.append((folder / train.STATE_FILE).exists())
        (folder / train.STATE_FILE).touch()

    def begin() -> None:
        given: Any = ("content", None, print, folder)
        train.train(tmp_path, own, *given)

    monkeypatch.setattr(train, "train_share", share)
    made(b"one")
    begin()
    begin()
    weights.write_bytes(b"o")
    with pytest.raises(InputError, match=r"oracle\.safetensors: sha256 is .*, but its card"):
        begin()  # of which the restored weights are the ones that it began with
    made(b"one")
    begin()
    made(b"made again")
    aside = tmp_path / "superseded/train-1"
    told = rf"train: begins anew, for .*oracle\.safetensors was made again since it began; .* lies in {re.escape(str(aside))}$"
    with pytest.warns(InputWarning, match=told):
        begin()
    begin()
    assert found == [False, True, True, False, True]
    assert (aside / train.STATE_FILE).exists()
    train.drop_state(folder)
    assert [path.name for path in folder.iterdir()] == ["begun.json"], "a finished training keeps nothing of it"


ODD = """
title: Odd
datasets:
  roads: {form: culane, image_size: [36, 64]}
detectors:
  ufldv2_micro: {recipe: {steps: 2, batch_size: 2}}
methods:
  baseline:
training: {threads: 1, device: cpu}
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Cell, Dataset]:
    """A cell of a dataset of 64 x 36 in which one image, of one split, became larger since the plan was made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "odd.yaml").write_text(ODD)
    for name, size in (("a", (36, 64)), ("b", (36, 64)), ("odd", (72, 128))):
        assert cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.zeros((*size, 3), np.uint8))
        (tmp_path / f"{name}.lines.txt").write_text("10 30 20 10\n")
    (tmp_path / "list").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"list/{split}.txt").write_text("a.jpg\nb.jpg\nodd.jpg\n")
    (cell,) = cells_of(load_suite(str(tmp_path / "odd.yaml")))
    return cell, open_dataset("culane", tmp_path, name="roads", image_size=(36, 64))


ODD_IMAGE = r"odd\.jpg: 128 x 72 pixels, but the dataset's images are 64 x 36; restore the image"


def test_an_image_of_another_size_ends_the_training_that_decodes_it(odd: tuple[Cell, Dataset], tmp_path: Path) -> None:
    cell, dataset = odd
    with pytest.raises(InputError, match=ODD_IMAGE):
        train.train_share(tmp_path, cell, "content", dataset, tmp_path / "train", ALONE, lambda event: None)


@pytest.mark.parametrize("corruption", [None, {"name": "fog", "severities": [2]}])
def test_an_image_of_another_size_ends_the_prediction_that_decodes_it(
    odd: tuple[Cell, Dataset], corruption: dict[str, Any] | None
) -> None:
    cell, dataset = odd
    evaluation = EvaluationPart.model_validate({"split": "test", "corruption": corruption})
    view = view_of_evaluation(train.new_detector(cell), dataset, dataset, dataset.frames("test"), evaluation)
    assert view(0)[1].original == (36, 64)
    with pytest.raises(InputError, match=ODD_IMAGE):
        view(2)


def drawn() -> tuple[float, float, float]:
    """A number of each of the generators that are everybody's."""
    return float(torch.rand(())), float(np.random.rand()), random.random()


def started(
    cell: Cell, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, *, draws: int, seed: int = 0
) -> dict[str, Any]:
    """What a training of some seed starts from whose method draws so many numbers from everybody's generators."""
    found: dict[str, Any] = {}

    def attach(detector: Detector, *_: Any, **__: Any) -> TrainingModel:
        for _ in range(draws):
            drawn()
        return BaselineModel(detector)

    class Reached(Exception):
        pass

    def training(model: TrainingModel, batches: Any, *_: Any, **__: Any) -> None:
        found["weights"] = [float(value.sum()) for value in model.inference_model().state_dict().values()]
        found["draws"] = drawn()
        seen = list(batches(0, 5))
        found["order"] = [batch.ids for batch in seen]
        found["augmentations"] = [geometry.matrix.tolist() for batch in seen for geometry in batch.geometries]
        raise Reached

    monkeypatch.setattr(train, "attach", attach)
    monkeypatch.setattr(train, "run_training", training)
    monkeypatch.setattr(train, "make_deterministic", lambda threads: None)
    of_seed = replace(cell, identity=cell.identity.model_copy(update={"seed": seed}))
    with pytest.raises(Reached):
        train.train_share(folder, of_seed, "content", dataset, folder, ALONE, lambda event: None)
    return found


def test_the_arms_of_a_seed_have_weights_order_augmentations_and_draws_in_common_and_no_two_seeds_have(
    odd: tuple[Cell, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, dataset = odd
    (tmp_path / "list/train.txt").write_text("a.jpg\nb.jpg\n")
    torch.manual_seed(7)
    baseline = started(cell, dataset, tmp_path, monkeypatch, draws=0)
    torch.manual_seed(8)  # whatever a process did before
    assert started(cell, dataset, tmp_path, monkeypatch, draws=5) == baseline
    other = started(cell, dataset, tmp_path, monkeypatch, draws=0, seed=1)
    assert [name for name, value in other.items() if value == baseline[name]] == []
