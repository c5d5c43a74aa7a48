"""A finished detector's network as an ONNX file: what is deployed, without the harness.

Input `images`: uint8 RGB (batch, 3, H, W), frames cropped and resized to the network's size; normalisation is part of the graph, and
the batch is of any size. Outputs have the names that the adapter gives them. The file's metadata says the rest: see `export_detector`.
"""

from __future__ import annotations

import json
import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import SequenceKey, tree_flatten_with_path

from detectors.base import Detector
from harness.errors import InputError
from harness.files.stored import sha256_of_file, written_aside
from harness.inference.detector import load_detector

PACKAGES = ("onnx", "onnxscript", "onnxruntime")

TOLERANCE = 1e-4
"""The exported graph's outputs may differ from the network's by this, relative to an output's largest value above 1."""


def export_checkpoint(checkpoint: Path, out: Path, *, adapter: str | None = None) -> dict[str, Any]:
    """Write the network of an inference checkpoint as ONNX, atomically, after onnxruntime gave the same outputs; gives the metadata.

    adapter: as for `load_detector`. Raises InputError for packages that are missing, a checkpoint that doesn't fit, a network that
    ONNX can't express or that comes out different, and a file that can't be written.
    """
    require_packages()
    detector = load_detector(checkpoint, adapter=adapter)
    with written_aside(out) as aside:
        facts = export_detector(detector, aside, checkpoint_sha256=sha256_of_file(checkpoint), name=str(out))
    return facts


def require_packages() -> None:
    """InputError unless all that exporting needs is installed."""
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise InputError(
                f"exporting needs the package {package}: pip install 'samiro-bench[export]' ({error})"
            ) from error


def export_detector(detector: Detector, path: Path, *, checkpoint_sha256: str, name: str) -> dict[str, Any]:
    """Write a detector's network to `path`, not atomically; gives the metadata. name: of the file, in errors.

    The values of the metadata are JSON. frame: (height, width) of the dataset's frames; crop: (top, left, bottom, right) of it that
    the network sees; network: (height, width) that the crop is resized to; outputs: their names, in the adapter's order.
    """
    detector = detector.cpu().eval()
    configuration = detector.configuration
    height, width = configuration.input.network
    images = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.no_grad():
        expected = named_outputs(detector(images))
    facts = {
        "detector": detector.meta.name,
        "checkpoint_sha256": checkpoint_sha256,
        "form": detector.form,
        "frame": list(configuration.input.frame),
        "crop": list(configuration.input.crop),
        "network": [height, width],
        "confidence_threshold": configuration.recipe.confidence_threshold,
        "outputs": list(expected),
    }
    program = _program(detector, images, list(expected), name)
    program.model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
    program.model.producer_name = "samiro-bench"
    # One file, whatever its size up to the format's 2 GB.
    program.save(str(path), external_data=False)
    check_exported(path, images[:1], {key: value[:1] for key, value in expected.items()}, name)
    return facts


def named_outputs(outputs: Any) -> dict[str, Tensor]:
    """The tensors of a detector's outputs by name: keys and places joined by points, `output` for a tensor by itself."""
    flat, _ = tree_flatten_with_path(outputs)
    return {
        ".".join(str(key.idx) if isinstance(key, SequenceKey) else str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        or "output": value
        for path, value in flat
    }  # fmt: skip


def _program(detector: Detector, images: Tensor, names: list[str], path: str) -> Any:
    """torch's ONNX program of the network, the batch's size left open."""
    translators = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in translators]
    try:
        for logger in translators:
            logger.setLevel(logging.ERROR)
        with torch.no_grad(), warnings.catch_warnings():
            # Torch's own calls of what it deprecates.
            warnings.simplefilter("ignore", FutureWarning)
            return torch.onnx.export(
                detector,
                (images,),
                dynamo=True,
                input_names=["images"],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path}: ONNX can't express the network of {detector.meta.name!r} ({reason}); mend its forward"
        ) from error
    finally:
        for logger, level in zip(translators, levels, strict=True):
            logger.setLevel(level)


def check_exported(path: Path, images: Tensor, expected: dict[str, Tensor], name: str) -> None:
    """InputError unless onnxruntime gives the network's outputs, at another batch size than it was exported with."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(list(expected), {"images": images.numpy()})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{name}: onnxruntime doesn't run the exported graph ({reason}); mend the adapter's forward"
        ) from error
    for (key, wanted), got in zip(expected.items(), found, strict=True):
        bound = TOLERANCE * max(1.0, float(wanted.abs().max()))
        if got.shape != tuple(wanted.shape) or not np.abs(got - wanted.numpy()).max() <= bound:
            raise InputError(
                f"{name}: output {key!r} of the exported graph isn't the network's: mend the adapter's forward"
            )
