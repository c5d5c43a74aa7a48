"""A small record of CULane and one of TuSimple, with the counts of three images each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from harness.records.counts import AccuracyCounts, Counts, OverlapCounts, scope_scores
from harness.records.record import Record
from harness.records.timings import Throughput

LATENCY = {"p50": 10.0, "p90": 11.0, "p95": 12.0, "p99": 13.0, "mean": 10.5, "minimum": 9.0}


THROUGHPUT: dict[str, Any] = {
    "protocol": "lane-latency/1-short", "device": "cpu", "threads": 2, "precision": "fp32-strict", "images": 8,
    "iterations": 100, "latency_ms": LATENCY, "model_ms": LATENCY, "post_ms": LATENCY, "fps": 100.0,
    "reference_ms": (20.0, 20.0), "parameters": 1000, "gflops": 1.5, "gflops_is_lower_bound": False,
    "peak_memory_bytes": None,
}  # fmt: skip


def measured(*_: Any, **__: Any) -> Throughput:
    """In place of a measurement with one thread, which takes longer than all else; the slow tier measures."""
    return Throughput.model_validate(THROUGHPUT | {"threads": 1})


def counts(images: int = 3) -> Counts:
    return OverlapCounts(
        image=np.array([f"/{index}.jpg" for index in range(images)]),
        clip=np.array(["a", "a", "b"][:images]),
        scenario=np.array(["normal", "cross", "normal"][:images]),
        labels=np.array([4, 0, 2][:images], dtype=np.int32),
        predictions=np.array([3, 1, 3][:images], dtype=np.int32),
        true_positives=np.array([[3] * 5 + [2] * 5, [0] * 10, [1] * 10][:images], dtype=np.int32),
    )


def record(**changes: Any) -> Record:
    value: dict[str, Any] = {
        "id": "mini-net-baseline-s0",
        "suite": "mini",
        "identity": {
            "detector": "net", "detector_meta": {}, "form": "culane", "method": "baseline", "method_configuration": {},
            "oracle": None, "dataset": "mini", "dataset_key": {}, "recipe": {}, "weights": "none", "precision": "fp32",
            "threads": 2, "selection": "last", "confidence": "published", "seed": 0,
        },
        "fingerprints": {"train": {"harness/training/loop.py": "a" * 64}},
        "checkpoint_sha256": "c" * 64,
        "selected_on": None,
        "evaluations": [
            {
                "name": "test", "dataset": "mini", "dataset_sha256": "d" * 64, "split": "test", "corruption": None,
                "metric": "culane/official", "confidence_threshold": 0.5, "total": scope_scores(counts()).model_dump(),
                "scenarios": {}, "counts_file": "mini-net-baseline-s0.test.counts.npz", "counts_sha256": "e" * 64,
                "predictions_sha256": "f" * 64,
            }
        ],
        "throughput": [THROUGHPUT],
        "training": {
            "steps": 10, "images": 160, "batch_size": 16, "micro_batch_size": 16, "seconds": 1.0, "seconds_per_step": 0.1,
            "peak_memory_bytes": None, "resumed": 0, "final_losses": {}, "final_diagnostics": {},
        },
        "artefacts": [],
        "environment": {
            "device": "CPU", "cpu": "x", "cores": 2, "operating_system": "Linux", "python": "3.11", "torch": "2.13",
            "timm": "1.0", "numpy": "2.4", "opencv": "5", "cuda": None, "cudnn": None, "driver": None,
            "samiro_bench": "0.1.0", "commit": None,
        },
    }  # fmt: skip
    return Record.model_validate_json(json.dumps(value | changes))


def rates() -> AccuracyCounts:
    return AccuracyCounts(
        image=np.array(["clips/0/20.jpg", "clips/1/20.jpg", "clips/2/20.jpg"]),
        clip=np.array(["a", "a", "b"]),
        scenario=np.array(["unnamed"] * 3),
        labels=np.array([4, 5, 2], dtype=np.int32),
        predictions=np.array([4, 4, 1], dtype=np.int32),
        matched=np.array([3, 4, 2], dtype=np.int32),
        accuracy=np.array([0.9, 0.95, 1.0]),
        fp=np.array([0.25, 0.0, -1.0]),
        fn=np.array([0.25, 0.0, 0.0]),
    )


def of_tusimple() -> Record:
    evaluation = record().evaluations[0].model_dump()
    evaluation |= {"metric": "tusimple/official", "total": scope_scores(rates()).model_dump()}
    return record(evaluations=[evaluation])
