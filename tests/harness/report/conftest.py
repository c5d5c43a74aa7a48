"""Hand-made records with their counts, for tests of everything that is made from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.files.stored import sha256_of_file
from harness.records.counts import AccuracyCounts, Counts, OverlapCounts, scope_scores, write_counts
from harness.records.record import (
    Artefact,
    Environment,
    Evaluation,
    Identity,
    Record,
    TrainingCost,
    counts_path,
    write_record,
)
from harness.records.timings import Latency, Throughput

SCENARIOS = ("normal", "crowd", "hlight", "shadow", "noline", "arrow", "curve", "cross", "night")


def split(images: int = 36, clips: int = 12, scenarios: tuple[str, ...] = SCENARIOS, lanes: int = 4) -> OverlapCounts:
    """A split whose labels are found without a fault; crossroads have no labels."""
    scenario = np.array([scenarios[index % len(scenarios)] for index in range(images)])
    labels = np.where(scenario == "cross", 0, lanes).astype(np.int32)
    return OverlapCounts(
        image=np.array([f"/{index:05d}.jpg" for index in range(images)]),
        clip=np.array([f"clip{index * clips // images:03d}" for index in range(images)]),
        scenario=scenario,
        labels=labels,
        predictions=labels.copy(),
        true_positives=np.repeat(labels[:, None], 10, axis=1).astype(np.int32),
    )


def noisy(counts: OverlapCounts, seed: int, found: float = 0.8, spurious: float = 0.3) -> OverlapCounts:
    """The same split with lanes missed and invented at random; fewer are found at higher thresholds."""
    rng = np.random.default_rng(seed)
    at_50 = rng.binomial(counts.labels, found)
    falling = [at_50]
    for _ in range(9):
        falling.append(rng.binomial(falling[-1], 0.9))
    invented = rng.poisson(spurious, len(counts.labels))
    return OverlapCounts(
        counts.image,
        counts.clip,
        counts.scenario,
        counts.labels,
        (at_50 + invented).astype(np.int32),
        np.stack(falling, axis=1).astype(np.int32),
    )


def rated(
    images: int = 36, clips: int = 12, lanes: int = 4, scenarios: tuple[str, ...] = ("unnamed",)
) -> AccuracyCounts:
    """A split of TuSimple whose labels are found without a fault."""
    full = np.full(images, lanes, np.int32)
    return AccuracyCounts(
        image=np.array([f"clips/{index:05d}/20.jpg" for index in range(images)]),
        clip=np.array([f"clip{index * clips // images:03d}" for index in range(images)]),
        scenario=np.array([scenarios[index % len(scenarios)] for index in range(images)]),
        labels=full,
        predictions=full.copy(),
        matched=full.copy(),
        accuracy=np.ones(images),
        fp=np.zeros(images),
        fn=np.zeros(images),
    )


def shaken(counts: AccuracyCounts, seed: int, found: float = 0.8, spurious: float = 0.3) -> AccuracyCounts:
    """The same split with lanes missed and invented at random; what is missed has an accuracy of a half."""
    rng = np.random.default_rng(seed)
    matched = rng.binomial(counts.labels, found).astype(np.int32)
    predictions = (matched + rng.poisson(spurious, len(matched))).astype(np.int32)
    share = matched / counts.labels
    return replace(
        counts,
        predictions=predictions,
        matched=matched,
        accuracy=share + 0.5 * (1 - share),
        fp=(predictions - matched) / np.maximum(predictions, 1),
        fn=1 - share,
    )


def throughput(p50: float = 10.0, **changes: Any) -> Throughput:
    latency = Latency(p50=p50, p90=p50 + 1, p95=p50 + 2, p99=p50 + 3, mean=p50 + 0.5, minimum=p50 - 1)
    values: dict[str, Any] = {
        "protocol": "lane-latency/1-short",
        "device": "cpu",
        "threads": 2,
        "precision": "fp32-strict",
        "images": 8,
        "iterations": 100,
        "latency_ms": latency,
        "model_ms": latency,
        "post_ms": latency,
        "fps": 1000.0 / p50,
        "reference_ms": (20.0, 20.0),
        "parameters": 330_000,
        "gflops": 1.5,
        "gflops_is_lower_bound": False,
        "peak_memory_bytes": None,
    }
    return Throughput(**(values | changes))


def environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {
        "device": "cpu",
        "cpu": "Example CPU",
        "cores": 2,
        "operating_system": "Linux",
        "python": "3.11.7",
        "torch": "2.13.0",
        "timm": "1.0.31",
        "numpy": "2.4.6",
        "opencv": "5.0.0",
        "cuda": None,
        "cudnn": None,
        "driver": None,
        "samiro_bench": "0.1.0",
        "commit": None,
    }
    return Environment(**(values | changes))


def training(**changes: Any) -> TrainingCost:
    values: dict[str, Any] = {
        "steps": 200,
        "images": 3200,
        "batch_size": 16,
        "micro_batch_size": 16,
        "seconds": 30.0,
        "seconds_per_step": 0.15,
        "peak_memory_bytes": None,
        "resumed": 0,
        "final_losses": {"loss": 0.5},
        "final_diagnostics": {},
    }
    return TrainingCost(**(values | changes))


def identity(detector: str, method: str, seed: int, **changes: Any) -> Identity:
    values: dict[str, Any] = {
        "detector": detector,
        "detector_meta": {"paper": f"paper of {detector}"},
        "form": "culane",
        "method": method,
        "method_configuration": {"kind": method},
        "oracle": None,
        "dataset": "mini",
        "dataset_key": {"rendered": "abc"},
        "recipe": {"optimizer": "adamw"},
        "weights": "none",
        "precision": "fp32",
        "threads": 2,
        "selection": "last",
        "confidence": "published",
        "seed": seed,
    }
    return Identity(**(values | changes))


def record(
    folder: Path,
    counts: Counts,
    *,
    detector: str = "ufld",
    method: str = "baseline",
    seed: int = 0,
    name: str | None = None,
    identity_changes: dict[str, Any] | None = None,
    evaluation_changes: dict[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """Write a record with one evaluation, and its counts, into `folder`."""
    record_id = name or f"mini-{detector}-{method}-s{seed}"
    path = counts_path(folder, record_id, "test")
    write_counts(path, counts)
    evaluation: dict[str, Any] = {
        "name": "test",
        "dataset": "mini",
        "dataset_sha256": "d" * 64,
        "split": "test",
        "corruption": None,
        "metric": "tusimple/official" if isinstance(counts, AccuracyCounts) else "culane/official",
        "confidence_threshold": 0.5,
        "total": scope_scores(counts),
        "scenarios": {str(key): scope_scores(counts, counts.scenario == key) for key in np.unique(counts.scenario)},
        "counts_file": path.name,
        "counts_sha256": sha256_of_file(path),
        "predictions_sha256": "e" * 64,
    }
    known = identity(detector, method, seed, **(identity_changes or {}))
    content = (evaluation | (evaluation_changes or {}))["dataset_sha256"]
    rendered = Artefact(kind="rendered", name=known.dataset, key=content, sha256=content)
    values: dict[str, Any] = {
        "id": record_id,
        "suite": "mini",
        "identity": known,
        "fingerprints": {},
        "checkpoint_sha256": "f" * 64,
        "selected_on": None,
        "evaluations": (Evaluation(**(evaluation | (evaluation_changes or {}))),),
        "throughput": (throughput(),),
        "training": training(),
        "artefacts": (rendered,) if "rendered" in known.dataset_key else (),
        "environment": environment(),
    }
    made = Record(**(values | changes))
    write_record(folder, made)
    return made


def pairs(
    folder: Path,
    seeds: int = 3,
    *,
    detector: str = "ufld",
    method: str = "samiro",
    base: Counts | None = None,
    better: float = 0.0,
    **changes: Any,
) -> list[Record]:
    """Records of a baseline and a method over some seeds; `better` is the method's lead in lanes found."""
    base = base if base is not None else split()
    offset = sum(detector.encode()) * 1000
    return [
        record(
            folder,
            (shaken if isinstance(base, AccuracyCounts) else noisy)(  # type: ignore[operator]
                base, offset + 10 * seed + arm, found=0.8 + arm * better
            ),
            detector=detector,
            method=name,
            seed=seed,
            **changes,
        )
        for seed in range(seeds)
        for arm, name in enumerate(("baseline", method))
    ]


class Made:
    """The helpers of this file, for tests that ask for the fixture `made`."""

    split = staticmethod(split)
    noisy = staticmethod(noisy)
    rated = staticmethod(rated)
    shaken = staticmethod(shaken)
    throughput = staticmethod(throughput)
    environment = staticmethod(environment)
    training = staticmethod(training)
    identity = staticmethod(identity)
    record = staticmethod(record)
    pairs = staticmethod(pairs)


@pytest.fixture(scope="session")
def made() -> type[Made]:
    return Made
