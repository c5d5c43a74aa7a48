"""What it takes to render datasets and to make oracles, as those that are there show it or a short probe.

As with cells (`harness.matrix.pricing`) nothing is guessed: what was never built on a machine, and not probed, has no price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.cell.artefacts import PACE_FILE
from harness.cell.phases import read_json, read_phase_file
from harness.errors import InputError
from harness.files.stored import sha256_of_json
from harness.matrix.budget import BuildCosts, Cost, Unit
from harness.matrix.builds import Build, Rendering
from harness.matrix.pricing import Machine, Rates, this_machine
from harness.methods.card import OracleCard, card_path
from harness.methods.config import OracleConfiguration
from harness.processes.limits import available_cores
from harness.records.environment import cpu_name
from harness.rendered.spec import RenderSpec
from harness.suite import TrainingPart

COSTLESS = ("file", "steps", "learning_rate", "weight_decay", "betas", "warmup_share", "mask_ratio", "flip", "seed")
"""Options of an oracle on which the time of one of its steps doesn't depend."""


def rendering_key(spec: RenderSpec, processor: str) -> str:
    """What the time of a labelled frame depends on most, as one hash: its form and size. Clips of two frames take a sixth longer a
    frame than those of six, and difficulty changes nothing.
    """
    parts = {"form": spec.form, "size": [spec.height, spec.width], "unlabelled": spec.unlabelled_frames}
    return sha256_of_json({"rendering": parts, "machine": processor})


def pretraining_key(configuration: OracleConfiguration, threads: int, machine: str) -> str:
    """What the time of a step of an oracle's pre-training depends on, as one hash."""
    options = configuration.model_dump(mode="json", exclude=set(COSTLESS))
    return sha256_of_json({"pretraining": options, "threads": threads, "machine": machine})


def frames_of(spec: RenderSpec) -> int:
    """The labelled frames of a dataset."""
    return sum(split.frames for split in spec.splits.values())


def passes_of(configuration: OracleConfiguration) -> int:
    """The steps of an oracle's pre-training; of one that stays as it was drawn, the batches that its normalisation is fitted to."""
    return configuration.steps if configuration.kind == "mim" else configuration.recalibration_batches


def built_rates(results: Path) -> Rates:
    """What the artefacts in a folder of runs took: seconds of one core a rendered frame, seconds a step of an oracle.

    Of several that are alike, the largest tells: what each costs at its start is the smallest part of it. An oracle that was stopped
    and continued tells nothing, for only its last part was timed; neither does a rendering of too few clips for its cores.
    """
    largest: dict[str, tuple[int, float]] = {}
    problems = []
    for kind, rate in (("rendered", rendering_rate), ("oracle", pretraining_rate)):
        for path in sorted((results / "artefacts" / kind).glob("*/phase.json")):
            if path.parent.suffix == ".part":
                continue
            try:
                found = rate(path.parent, read_phase_file(path.parent))
            except (InputError, OSError, ValueError, KeyError, TypeError) as error:
                reason = " ".join(str(error).split())[:200]
                problems.append(f"{path}: no price can be read from it ({type(error).__name__}: {reason})")
                continue
            if found is not None:
                key, count, seconds = found
                largest[key] = max(largest.get(key, (0, 0.0)), (count, seconds))
    return Rates({key: rate for key, (_, rate) in largest.items()}, "records", problems=tuple(problems))


Rate = tuple[str, int, float]
"""Key, how many frames or steps there were, and the seconds of one."""


def rendering_rate(folder: Path, stored: dict[str, Any]) -> Rate | None:
    """Of a rendered dataset: seconds of one core."""
    if not (folder / PACE_FILE).exists():
        return None
    spec, pace = RenderSpec.model_validate(stored["options"]["spec"]), read_json(folder / PACE_FILE)
    return rendering_key(spec, str(stored["machine"])), frames_of(spec), float(pace["core_seconds_a_frame"])


def pretraining_rate(folder: Path, stored: dict[str, Any]) -> Rate | None:
    """Of an oracle that was made here."""
    if stored.get("continued", True):
        return None
    card = OracleCard.model_validate_json(card_path(folder / "oracle.safetensors").read_bytes())
    configuration = OracleConfiguration.model_validate(
        {key: value for key, value in card.configuration.items() if value is not None}
    )
    key, passes = pretraining_key(configuration, card.threads, str(stored["machine"])), passes_of(configuration)
    return key, passes, float(stored["seconds"]) / passes


def costs_of_builds(
    builds: Iterable[Build], training: TrainingPart, rates: Sequence[Rates], machine: Machine | None = None
) -> BuildCosts:
    """What each build costs on a machine; None: on this one. rates: the first that knows a build counts."""
    return tuple((build, cost_of_build(build, training, rates, machine)) for build in builds)


def cost_of_build(
    build: Build, training: TrainingPart, rates: Sequence[Rates], machine: Machine | None = None
) -> Cost | None:
    """The cost of one; None where nobody knows it."""
    if isinstance(build, Rendering):
        # Also where GPUs train. On another machine with a GPU nobody knows its processor.
        key, count = rendering_key(build.spec, cpu_name() if machine is None else machine.name), frames_of(build.spec)
        devices = available_cores()
        unit: Unit = "CPU-hours"
    else:
        runs_on = machine or this_machine(training.device)
        configuration = build.oracle.configuration
        key, count = pretraining_key(configuration, training.threads, runs_on.name), passes_of(configuration)
        devices = 1 if runs_on.gpu else training.threads
        unit = "GPU-hours" if runs_on.gpu else "CPU-hours"
    seconds = next((rate.seconds[key] for rate in rates if key in rate.seconds), None)
    if seconds is None:
        return None
    # A rendering's rate is of one core.
    shared = devices if isinstance(build, Rendering) else 1
    return Cost(training=0.0, rest=count * seconds / shared, devices=devices, unit=unit, disk_bytes=0)
