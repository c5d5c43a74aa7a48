"""liuruijin17/LSTR, its own model and decoding, as a program of protocol `program/1` (docs/programs.md) for TuSimple.

Runs with any Python that has torch, numpy, OpenCV and what upstream's model imports; of this project it needs nothing. What it knows of
upstream is how test.py builds the model and loads its weights, how test/tusimple.py prepares an image and reads the outputs, and how
db/tusimple.py turns curves into x at rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch

PROFILER_ENTRIES = ("total_ops", "total_params")
"""What the published checkpoint holds of a profiler's besides weights."""

MEAN = np.array([0.40789654, 0.44719302, 0.47026115], dtype=np.float32)
DEVIATION = np.array([0.28863828, 0.27408164, 0.27809835], dtype=np.float32)
"""Of blue, green, red: db/tusimple.py."""

WARM_UP = 3
"""Images that are looked at before any is timed."""


def main() -> None:
    """Answer one list of images."""
    parser = argparse.ArgumentParser()
    for name in ("checkout", "checkpoint", "images", "predictions", "timings", "facts", "device", "threads"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(given.threads))
    device = torch.device(given.device)
    system, network = upstream_model(Path(given.checkout), Path(given.checkpoint))
    network.to(device)
    entries = [json.loads(line) for line in Path(given.images).read_text(encoding="utf-8").splitlines()]
    for entry in entries[:WARM_UP]:
        curves(network, prepared(entry["image"], system), device)
    # As they come, so that whoever watches sees how far it is.
    with (
        open(Path(given.predictions) / "predictions.json", "w", encoding="utf-8") as lanes_file,
        open(given.timings, "w", encoding="utf-8", buffering=1) as timings,
    ):
        for entry in entries:
            inputs = prepared(entry["image"], system)
            start = time.perf_counter()
            found = curves(network, inputs, device)
            lanes = [at_rows(curve, entry) for curve in found]
            timings.write(json.dumps({"id": entry["id"], "milliseconds": 1e3 * (time.perf_counter() - start)}) + "\n")
            lanes_file.write(json.dumps({"raw_file": entry["id"], "lanes": lanes, "run_time": 0}) + "\n")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    facts = {"python": platform.python_version(), "torch": torch.__version__, "device": name}
    Path(given.facts).write_text(json.dumps(facts), encoding="utf-8")


def upstream_model(checkout: Path, checkpoint: Path) -> tuple[Any, torch.nn.Module]:
    """Upstream's settings (its config/LSTR.json) and its model with the checkpoint's weights, in evaluation mode."""
    sys.path.insert(0, str(checkout))
    use_torchvision_of_old()
    settings = json.loads((checkout / "config" / "LSTR.json").read_text(encoding="utf-8"))
    system: Any = importlib.import_module("config").system_configs
    system.update_config({**settings["system"], "snapshot_name": "LSTR"})
    network: torch.nn.Module = importlib.import_module("models.LSTR").model(flag=True)
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights = {
        key.removeprefix("module."): value
        for key, value in stored.items()
        if key.rpartition(".")[2] not in PROFILER_ENTRIES
    }
    network.load_state_dict(weights, strict=True)
    return settings["db"], network.eval()


def use_torchvision_of_old() -> None:
    """Upstream asks torchvision for its version and, where that looks older than 0.7 (as 0.28 does to it), for what is long gone."""
    stand_in = ModuleType("torchvision")
    stand_in.__dict__["__version__"] = "0.9"
    sys.modules["torchvision"] = stand_in


def prepared(image: str, settings: Any) -> torch.Tensor:
    """An image as test/tusimple.py prepares it: BGR, resized, over 255, normalised by db/tusimple.py's mean and deviation."""
    height, width = settings["input_size"]
    decoded = cv2.imread(image)
    if decoded is None:
        raise SystemExit(f"{image}: not an image that OpenCV reads")
    pixels = cv2.resize(decoded, (width, height)).astype(np.float32) / 255.0
    return torch.from_numpy(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))[None].contiguous()


@torch.no_grad()
def curves(network: torch.nn.Module, inputs: torch.Tensor, device: torch.device) -> list[list[float]]:
    """The curves of one image: lower and upper end, then six coefficients."""
    outputs, _ = network(inputs.to(device), torch.zeros_like(inputs[:, :1]).to(device))
    exists = outputs["pred_logits"][0].argmax(-1) == 1
    found: list[list[float]] = outputs["pred_curves"][0][exists].double().cpu().tolist()
    return found


def at_rows(curve: list[float], entry: dict[str, Any]) -> list[float]:
    """x of a curve at the image's rows, -2 outside its ends, as db/tusimple.py's pred2lanes has it."""
    lower, upper, a, b, c, d, e, f = curve
    rows = np.asarray(entry["h_samples"], dtype=np.float64) / entry["height"]
    x = (a / (rows - b) ** 2 + c / (rows - b) + d + e * rows - f) * entry["width"]
    return [float(value) for value in np.where((rows < lower) | (rows > upper), -2.0, x)]


if __name__ == "__main__":
    main()
