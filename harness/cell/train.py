"""What the phase `train` does: a detector and its method from the seed, trained into an inference checkpoint."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from detectors.base import Detector
from detectors.meta import FILE, DetectorMeta
from detectors.registry import adapter_file
from harness.cell.artefacts import built_oracle, locked, open_part, own_oracle_phase, statistics_phase
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE
from harness.cell.oracle import as_seen, oracle_artefact, source_oracle
from harness.cell.phases import Phase, begin_anew, phase_state, read_json, run_phase, set_aside
from harness.cell.predict import prediction_settings
from harness.datasets.base import Dataset, Frame
from harness.datasets.sizes import check_decoded
from harness.errors import InputError, InputWarning
from harness.files.stored import write_json
from harness.inference.predict import network_images
from harness.inference.selection import check_selectable, split_score
from harness.methods.attach import attach, inference_model
from harness.methods.base import TrainingModel
from harness.methods.config import RegularizedConfiguration
from harness.methods.oracle import Oracle, load_card
from harness.methods.pairing import tap_pairs
from harness.methods.promises import check_deployed, check_detector_trains, deployed_like, trained_parameters
from harness.methods.statistics import STATISTICS_IMAGES, load_statistics, save_statistics, target_statistics
from harness.processes.progress import Event, Report
from harness.pytorch.device import resolve_device
from harness.pytorch.held_state import changed_tensors, held_state
from harness.pytorch.random_state import METHODS, seed_apart
from harness.records.environment import environment
from harness.records.record import Artefact, TrainingCost
from harness.suite import Cell, adapter_of
from harness.training.cache import GIGABYTE
from harness.training.checkpoint import save_inference_checkpoint
from harness.training.data import TrainingStream
from harness.training.determinism import make_deterministic, seed_everything
from harness.training.launch import launch
from harness.training.loop import BEST_FILE, STATE_FILE
from harness.training.loop import train as run_training
from harness.training.plan import TrainingPlan, TrainingSummary, Validation
from harness.training.ranks import ALONE, Ranks
from harness.training.views import augmenting_device
from harness.weights.cache import start_detector

ORACLE_FILE = "begun_with.json"
"""In an unfinished training: which weights of an oracle it was begun with."""


def train(results: Path, cell: Cell, content: str, dataset: Dataset, report: Report, folder: Path) -> None:
    """Phase `train`: writes checkpoint.safetensors (the inference model), the log and, last of all, summary.json; what it could be
    continued from is gone then."""
    if (folder / SUMMARY_FILE).is_file():
        # It was killed between its end and the phase's.
        drop_state(folder)
        return
    if (oracle := own_oracle_phase(results, cell)) is not None:
        refuse_replaced(oracle)
        begin_with(built_oracle(results, cell), folder)
    processes = cell.identity.processes
    if processes == 1:
        train_share(results, cell, content, dataset, folder, ALONE, report)
        return
    cuda = resolve_device(cell.training.device) == "cuda"
    launch(partial(train_in_process, results, cell, content, folder), processes, report, cuda=cuda)


def refuse_replaced(oracle: Phase) -> None:
    """InputError where a cell's oracle, which a plan saw, isn't there any more as this code makes it: the code was edited meanwhile, or
    another run shares the folder.
    """
    state = phase_state(oracle)
    if state.state != "done":
        raise InputError(
            f"{oracle.folder}: {state.reason or 'it is gone'}, and when this run began it was as it should be: meanwhile the code was "
            "edited, or another run in this folder of results had it made anew; run `bench` again when that has ended, and give "
            "checkouts of unlike code a --results folder each"
        )


def begin_with(oracle: Path, folder: Path) -> None:
    """Note which weights of an oracle a training in `folder` goes by. One that was begun with others, before the oracle was made again
    for other cells, begins anew, and a warning says so: half of it would follow features that no oracle has. InputError where the
    weights aren't those of their card, which are nobody's reason to begin anew.
    """
    marker, weights = folder / ORACLE_FILE, {"sha256": load_card(oracle).sha256}
    if marker.is_file() and read_json(marker) != weights:
        told = f"{folder}: begins anew, for {oracle} was made again since it began"
        warnings.warn(f"{told}; what it had come to lies in {begin_anew(folder)}", InputWarning, stacklevel=2)
    write_json(marker, weights)


def train_in_process(results: Path, cell: Cell, content: str, folder: Path, ranks: Ranks, report: Report) -> None:
    """What each of the processes of a training does."""
    dataset = open_part(results, cell.identity.dataset, cell.dataset)
    train_share(results, cell, content, dataset, folder, ranks, report)


def train_share(
    results: Path, cell: Cell, content: str, dataset: Dataset, folder: Path, ranks: Ranks, report: Report
) -> None:
    """Train a cell on this process's share of every batch; the first process writes."""
    make_deterministic(threads=cell.training.threads)
    device = torch.device(resolve_device(cell.training.device))
    frames = dataset.frames("train")
    recipe = cell.configuration.recipe
    seed_everything(cell.identity.seed)
    detector = new_detector(cell)
    weights = start_detector(detector)
    stream = TrainingStream(
        frames,
        dataset.lanes,
        detector,
        augmentation=recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=cell.identity.seed,
        workers=cell.training.workers,
        cache_bytes=round(cell.training.cache_gigabytes * GIGABYTE / ranks.count),
        pin_memory=device.type == "cuda",
        augment_on=augmenting_device(device),
        share=(ranks.rank, ranks.count),
        check=partial(check_decoded, dataset),
    )
    oracle = oracle_artefact(results, cell, detector)
    generator = method_generator(cell)
    model = attach_method(results, cell, content, detector, frames, device, report, generator)
    # What can be seen before the first step isn't told after the last.
    deployed_like(
        model.inference_model(), partial(deployed_detector, cell, torch.device("cpu")), method=cell.identity.method
    )
    plan = training_plan(cell, recipe.total_steps(len(frames)))

    def progress(step: int, total: int, loss: float) -> None:
        report(Event(cell.id, "train", step, total, f"loss {loss:.3f}"))

    # Whether target statistics were taken just now or found must not move what training draws from the global generators.
    seed_everything(ranks.seed(cell.identity.seed))
    if not ranks.first:
        # What a method draws for its samples is each process's own; its initial weights are drawn by now, and are the same in all.
        generator.manual_seed(ranks.seed(method_seed(cell.identity.seed)))
    validation = validation_of(cell, dataset, plan.total_steps, report)
    summary = run_training(
        model,
        stream.batches,
        plan,
        device=device,
        folder=folder,
        validation=validation,
        progress=progress,
        ranks=ranks,
        generator=generator,
    )
    if ranks.first:
        images = next(network_images(detector, [frame.image for frame in frames[:2]]))
        keep_trained(cell, model, summary, weights, oracle, device, images, folder)


def keep_trained(
    cell: Cell,
    model: TrainingModel,
    summary: TrainingSummary,
    weights: Artefact | None,
    oracle: Artefact | None,
    device: torch.device,
    images: torch.Tensor,
    folder: Path,
) -> None:
    """Write what a training came to: the inference model, and what the record will say of it.

    images: a few, of the host. InputError where what is deployed doesn't compute of them what was trained.
    """
    facts = {
        "detector": cell.meta.name,
        "form": cell.form,
        "meta": meta_without_path(cell).model_dump(mode="json"),
        "method": cell.identity.method_configuration,
    }
    origin = adapter_of(cell).origin
    facts |= {} if origin is None else {"origin": origin}
    file = adapter_file(cell.adapter)
    if file is not None:
        # Whoever edits the file later can still rebuild this detector.
        shutil.copyfile(file, folder / file.name)
    trained = model.inference_model()
    # Before anything is computed: a forward may leave buffers in a detector.
    saved = save_inference_checkpoint(folder / CHECKPOINT_FILE, trained, facts)
    check_deployed(trained, partial(deployed_detector, cell, device), images.to(device), method=cell.identity.method)
    cost = {key: value for key, value in asdict(summary).items() if key in TrainingCost.model_fields}
    summary_facts = {
        "checkpoint_sha256": saved,
        "cost": cost,
        "environment": environment(str(device)).model_dump(),
        "weights": None if weights is None else weights.model_dump(mode="json"),
        "oracle": None if oracle is None else oracle.model_dump(mode="json"),
    }
    write_json(folder / SUMMARY_FILE, summary_facts)
    drop_state(folder)


def drop_state(folder: Path) -> None:
    """Remove what only an unfinished training needs: several times what its checkpoint takes."""
    for name in (STATE_FILE, BEST_FILE, ORACLE_FILE):
        (folder / name).unlink(missing_ok=True)


def training_plan(cell: Cell, total_steps: int) -> TrainingPlan:
    """How a cell is trained, as its identity says it."""
    identity = cell.identity
    return TrainingPlan(
        cell.configuration.recipe,
        total_steps,
        precision=identity.precision,
        micro_batch_size=identity.micro_batch_size,
        channels_last=identity.channels_last,
        compiled=identity.compiled,
        checkpoint_seconds=cell.training.checkpoint_seconds,
        tensorboard=cell.training.tensorboard,
    )


def validation_of(cell: Cell, dataset: Dataset, total_steps: int, report: Report) -> Validation | None:
    """How a cell's training is validated, evenly over its steps; None where the last step is scored whatever comes."""
    count = cell.identity.validations
    if count is None:
        return None
    check_selectable(dataset, "training.selection")
    settings = prediction_settings(cell, "validate", report)
    score = partial(split_score, dataset=dataset, settings=settings, threads=cell.training.threads)
    return Validation(math.ceil(total_steps / count), score)


def attach_method(
    results: Path,
    cell: Cell,
    content: str,
    detector: Detector,
    frames: tuple[Frame, ...],
    device: torch.device,
    report: Report,
    generator: torch.Generator,
) -> TrainingModel:
    """Wrap a cell's detector in its method, with the oracle and target statistics that it needs; `generator` is the method's own.

    Raises InputError where that changes the detector's weights, or how they train: its pair would be unlike it in more than the method.
    """
    start, trained = held_state(detector), trained_parameters(detector)
    oracle, statistics = None, None
    if cell.oracle is not None:
        oracle = source_oracle(results, cell, detector)
        if isinstance(cell.method, RegularizedConfiguration) and cell.method.normalize != "none":
            statistics = load_statistics(
                build_statistics(results, cell, content, detector, oracle, frames, device, report)
            )
        oracle = as_seen(cell, oracle)
    forwards = cell.configuration.recipe.total_steps(len(frames)) * math.ceil(cell.share / cell.micro_batch_size)
    model = attach(
        detector, cell.method, oracle=oracle, statistics=statistics, generator=generator, total_steps=forwards
    )
    if changed := changed_tensors(detector, start):
        raise InputError(
            f"method {cell.identity.method!r} changes {changed[0]} of the detector when it is put around it, so that the arms of a "
            "seed begin unlike each other: a method may add tensors, and leaves the detector's as they are"
        )
    check_detector_trains(model, trained)
    return model


def build_statistics(
    results: Path,
    cell: Cell,
    content: str,
    detector: Detector,
    oracle: Oracle,
    frames: tuple[Frame, ...],
    device: torch.device,
    report: Report,
) -> Path:
    """The file of the target statistics of a cell's oracle, taps and input size, taken unless they are there."""
    assert isinstance(cell.method, RegularizedConfiguration)
    pairs = tap_pairs(detector, oracle, cell.method)
    method = cell.method
    images = evenly(frames, STATISTICS_IMAGES)

    def work(folder: Path) -> None:
        def batches() -> Iterator[torch.Tensor]:
            views = network_images(detector, [frame.image for frame in images], batch_size=16)
            for done, batch in enumerate(views, start=1):
                report(Event(cell.id, "target statistics", min(16 * done, len(images)), len(images), "images"))
                yield batch.to(device)

        taken = target_statistics(oracle.to(device), pairs, method, batches())
        save_statistics(taken, folder / "statistics.safetensors")

    phase = statistics_phase(results, cell, content)
    if phase_state(phase).state == "done":
        # Without their lock: those of another user may be there only to be read.
        return phase.folder / "statistics.safetensors"
    with locked(phase, cell.id, report):
        if phase_state(phase).state == "stale":
            # Seconds of work that no command names: other code's are made anew without asking.
            set_aside(phase.folder)
        return run_phase(phase, work) / "statistics.safetensors"


def evenly(frames: tuple[Frame, ...], count: int) -> tuple[Frame, ...]:
    """At most `count` frames, evenly over the list."""
    if len(frames) <= count:
        return frames
    return tuple(frames[index * len(frames) // count] for index in range(count))


def new_detector(cell: Cell) -> Detector:
    """A cell's detector with fresh weights from torch's global generator."""
    return adapter_of(cell).detector(cell.meta, cell.form)


def deployed_detector(cell: Cell, device: torch.device) -> Detector:
    """A cell's detector as it is deployed, without its weights, on a device and in the memory layout of the training."""
    detector = inference_model(new_detector(cell), cell.method).to(device)
    if cell.identity.channels_last:
        detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return detector


def meta_without_path(cell: Cell) -> DetectorMeta:
    """A cell's metadata as its checkpoint states it: a file of weights by its sha256, not by where it lay."""
    configuration = cell.configuration
    if configuration.weights.startswith(FILE):
        configuration = configuration.model_copy(update={"weights": cell.identity.weights})
    return cell.meta.model_copy(update={"configurations": {cell.form: configuration}})


def method_generator(cell: Cell) -> torch.Generator:
    """The generator that a cell's method draws from, at its start."""
    return torch.Generator().manual_seed(method_seed(cell.identity.seed))


def method_seed(seed: int) -> int:
    """The seed of a method's own generator, which is none that a detector or the data draws from."""
    return seed_apart(seed, METHODS)
