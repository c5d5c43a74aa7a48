"""Artefacts: prerequisites that several cells share (rendered datasets, oracles, target statistics), built once under a lock.

Each lies in `results/local/artefacts/<kind>/<name>-<key>/` and is a phase: whole or not there, with key and fingerprint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.cell.phases import Phase, hashed, read_json, run_phase
from harness.datasets.base import Dataset, open_dataset
from harness.datasets.roots import dataset_root
from harness.files.fingerprint import code_of
from harness.files.locks import in_turn
from harness.files.stored import sha256_of_file, sha256_of_json, write_json
from harness.metrics.canvas import IMAGE_SIZE
from harness.processes.limits import available_cores
from harness.processes.progress import WAITS, Event, Report
from harness.pytorch.device import resolve_device
from harness.records.record import Artefact
from harness.rendered.spec import RenderSpec, dataset_key
from harness.suite import Cell, DatasetPart, OraclePart, TrainingPart, adapter_module, dataset_identity, form_of
from harness.weights.cache import weights_state
from harness.weights.oracles import oracle_state

PACE_FILE = "pace.json"
"""Beside a rendered dataset: the seconds of one core that a frame took, see `core_seconds_a_frame`."""

ROUNDS = 4
"""Of fewer clips a core in the later half, starting and ending are too large a part of what they took."""


def rendering_phase(results: Path, spec: RenderSpec) -> Phase:
    """The phase that renders a dataset. Its version is part of the key, so it needs no fingerprint."""
    key = dataset_key(spec)
    options = {"spec": spec.model_dump(mode="json")}
    return Phase(results / "artefacts" / "rendered" / f"{spec.form}-{key[:12]}", key, {}, options)


def oracle_phase(results: Path, name: str, oracle: OraclePart, dataset: DatasetPart) -> Phase:
    """The phase that pre-trains an oracle on a dataset's training split."""
    assert oracle.dataset is not None
    identity = {
        "configuration": oracle.configuration.model_dump(mode="json", exclude={"file"}),
        "dataset": dataset_identity(oracle.dataset, dataset),
    }
    key = sha256_of_json(identity)
    modules = ("harness.training.pretraining", "harness.methods.masked_image_model", "harness.methods.oracle")
    return Phase(results / "artefacts" / "oracle" / f"{name}-{key[:12]}", key, code_of(*modules))


def own_oracle_phase(results: Path, cell: Cell) -> Phase | None:
    """The phase that pre-trains a cell's oracle; None where it has none, or one that isn't made of images."""
    if cell.oracle is None or cell.oracle_dataset is None:
        return None
    return oracle_phase(results, oracle_name(cell), cell.oracle, cell.oracle_dataset)


def statistics_phase(results: Path, cell: Cell, content: str) -> Phase:
    """The phase that takes the target statistics of a cell's oracle over its training images (content key `content`).

    They depend on the oracle, on where the detector's taps lie, and on how the method normalises and pairs; on a seed only where the
    oracle does. A shuffled oracle shares those of the one that it shuffles.
    """
    assert cell.oracle is not None
    method = cell.method.model_dump(mode="json", by_alias=True)
    identity = {
        "oracle": oracle_key(results, cell),
        "content": content,
        "detector": cell.identity.detector_meta,
        "method": {key: method[key] for key in ("taps", "normalize", "oracle_attention", "pair", "oracle_scale")},
    }
    key = sha256_of_json(identity)
    # They are of images as these read and cut them, on the grids of the detector's taps.
    modules = ("harness.methods.statistics", "harness.training.augmentation", adapter_module(cell))
    return Phase(
        results / "artefacts" / "statistics" / f"{cell.meta.name}-{key[:12]}",
        key,
        code_of(*modules, *source_modules(cell)),
    )


def oracle_modules(cell: Cell) -> list[str]:
    """The modules that a cell's oracle is made by while it trains."""
    if cell.oracle is None:
        return []
    return [*source_modules(cell), *(["harness.methods.control_oracles"] if cell.shuffled else [])]


def source_modules(cell: Cell) -> list[str]:
    """The same before it is shuffled; what is built before, as an artefact, has its own fingerprint."""
    assert cell.oracle is not None
    if cell.oracle.configuration.kind == "init":
        return ["harness.methods.control_oracles", adapter_module(cell)]
    return (
        ["harness.methods.timm_networks", "harness.cell.oracle_files"] if cell.oracle.configuration.has_weights else []
    )


def oracle_key(results: Path, cell: Cell) -> str:
    """What the features of a cell's oracle follow from, as one hash: its weights, built here or given, or the detector's start.

    The options of a pre-training don't tell: one that `--redo-stale` made again has the same, and weights that other code came to.
    """
    assert cell.oracle is not None
    configuration = cell.oracle.configuration
    if cell.oracle_dataset is not None:
        return sha256_of_file(built_oracle(results, cell))
    if configuration.has_weights:
        return sha256_of_json({"name": configuration.name, "weights": oracle_state(configuration).sha256})
    start = {
        "detector": cell.identity.detector_meta,
        "form": cell.form,
        "weights": weights_state(cell.meta, cell.form).sha256,
        "seed": cell.identity.seed,
    }
    return sha256_of_json({"init": start})


def built_oracle(results: Path, cell: Cell) -> Path:
    """The weights of a cell's oracle, which must be built."""
    phase = own_oracle_phase(results, cell)
    assert phase is not None
    return phase.folder / "oracle.safetensors"


def built_artefact(results: Path, cell: Cell) -> Artefact:
    """What a record states of a cell's oracle that is built, as it lies there now. InputError where it isn't as it was finished."""
    assert cell.oracle is not None
    phase = own_oracle_phase(results, cell)
    assert phase is not None
    return Artefact(
        kind="oracle",
        name=cell.oracle.configuration.name,
        key=phase.key,
        sha256=hashed(phase.folder / "oracle.safetensors"),
        facts=read_json(phase.folder / "oracle.json"),
    )


@contextmanager
def locked(phase: Phase, job: str, report: Report) -> Iterator[None]:
    """Hold the lock of an artefact; whoever comes second, from whatever suite of the folder, says that it waits, and finds it done."""
    waits = Event(job, WAITS, note=f"for another process, which makes {phase.folder}")
    with in_turn(phase.folder.with_name(f".{phase.folder.name}.lock"), lambda: report(waits)):
        yield


def build_rendering(results: Path, spec: RenderSpec, job: str, report: Report) -> None:
    """Render a dataset on all cores unless it is there."""
    from harness.rendered.dataset import render_dataset

    phase = rendering_phase(results, spec)

    def work(folder: Path) -> None:
        told: list[tuple[int, float]] = []

        def progress(done: int, total: int) -> None:
            told.append((done, time.monotonic()))
            report(Event(job, "render", done, total, "images"))

        # The first image takes as long as hundreds after it, and nothing else would be said till then.
        report(Event(job, "render", note="compiles the renderer, where this machine hasn't yet"))
        cores = available_cores()
        render_dataset(spec, folder / "dataset", workers=cores, progress=progress)
        pace = core_seconds_a_frame(told, cores)
        if pace is not None:
            write_json(folder / PACE_FILE, {"core_seconds_a_frame": pace})

    with locked(phase, job, report):
        run_phase(phase, work)


def core_seconds_a_frame(told: Sequence[tuple[int, float]], cores: int) -> float | None:
    """What a frame took one of some cores that rendered. told: how many frames were done after each clip, and when.

    The later half of the clips tells: at first each process compiles the kernels, or loads them. None where that half is too small.
    """
    half = len(told) // 2
    if half < ROUNDS * cores:
        return None
    (first, began), (last, ended) = told[half - 1], told[-1]
    return (ended - began) * cores / (last - first)


def build_oracle(
    results: Path, name: str, oracle: OraclePart, dataset: DatasetPart, training: TrainingPart, job: str, report: Report
) -> None:
    """Pre-train an oracle on a dataset's training split unless it is there. A begun pre-training goes on from its checkpoint."""
    import torch

    from harness.training.pretraining import pretrain

    phase = oracle_phase(results, name, oracle, dataset)
    source = oracle.dataset
    assert source is not None

    def work(folder: Path) -> None:
        frames = open_part(results, source, dataset).frames("train")

        def progress(step: int, total: int, loss: float) -> None:
            report(Event(job, "pretrain", step, total, f"loss {loss:.3f}"))

        pretrain(
            oracle.configuration,
            [frame.image for frame in frames],
            clips=[frame.clip for frame in frames],
            out=folder / "oracle.safetensors",
            device=torch.device(resolve_device(training.device)),
            threads=training.threads,
            workers=training.workers,
            progress=progress,
        )

    with locked(phase, job, report):
        run_phase(phase, work)


def open_part(results: Path, name: str, part: DatasetPart) -> Dataset:
    """Open a dataset of a suite: a rendered one where the harness put it, a real one at its root.

    Raises InputError if a real one isn't there. Its images aren't looked at: a plan looks at all of them before anything is trained
    (`harness.matrix.data`), and each is held against its label where it is decoded.
    """
    if part.rendered is not None:
        root = rendering_phase(results, part.rendered).folder / "dataset"
        return open_dataset(part.rendered.form, root, name=name, image_size=image_size_of(part))
    root = dataset_root(part.root or name)
    size = image_size_of(part)
    return open_dataset(form_of(part), root, name=name, image_size=size, lane_width=part.lane_width)


def image_size_of(part: DatasetPart) -> tuple[int, int] | None:
    """(height, width) of the images of a dataset, as far as its form or the suite says it; None is read from an image."""
    if part.rendered is not None:
        return part.rendered.height, part.rendered.width
    return part.image_size or (IMAGE_SIZE if part.form == "culane" else None)


def oracle_name(cell: Cell) -> str:
    """The name under which a cell's oracle is stored: its kind and backbone."""
    assert cell.oracle is not None
    return cell.oracle.configuration.name.replace(":", "-").replace("/", "-")
