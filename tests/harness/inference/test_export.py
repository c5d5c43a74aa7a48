"""An exported file gives the lanes that the checkpoint gives, in a runtime that knows nothing of this project."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.utils._pytree import tree_structure, tree_unflatten

from detectors.base import Detector
from detectors.registry import TABLE, find_adapter
from harness.cli.main import main
from harness.conformance.samples import Samples, write_samples
from harness.inference.detector import load_detector, with_confidence_threshold
from harness.inference.export import named_outputs
from harness.inference.predict import network_images
from harness.lanes import Lane
from harness.methods.attach import inference_model
from harness.methods.config import method_configuration
from harness.training.checkpoint import save_inference_checkpoint
from harness.training.determinism import seed_everything


def save_checkpoint(name: str, method: str, samples: Samples, path: Path) -> Detector:
    """An untrained detector that takes nearly all for lanes, with the batch statistics of rendered roads."""
    adapter = find_adapter(name)
    meta = with_confidence_threshold(adapter.meta, 0.0)
    form = next(iter(meta.configurations))
    seed_everything(3)
    options = {"oracle": "any"} if method == "samiro" else {}
    configuration = method_configuration(method, options)
    detector = inference_model(adapter.detector(meta, form), configuration)
    generator = torch.Generator().manual_seed(0)
    for attention in getattr(detector, "spatial_attention", {}).values():
        torch.nn.init.normal_(attention.convolution.weight, std=0.02, generator=generator)
    images = torch.cat(list(network_images(detector, [frame.image for frame in samples.frames[:4]])))
    with torch.no_grad():
        for _ in range(3):
            detector.train()(images)
    facts = {
        "detector": name,
        "form": form,
        "meta": meta.model_dump(mode="json"),
        "method": configuration.model_dump(mode="json", by_alias=True),
    }
    save_inference_checkpoint(path, detector, facts)
    return load_detector(path, adapter=name)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return write_samples(tmp_path_factory.mktemp("samples"), (590, 1640))


def agreeing(one: np.ndarray, other: np.ndarray) -> int:
    """How many points of two lanes lie within an eighth of a pixel; none where they have different numbers of them."""
    return int((np.abs(one - other).max(axis=1) <= 1 / 8).sum()) if len(one) == len(other) else 0


def share_found(ours: list[list[Lane]], theirs: list[list[Lane]]) -> float:
    """The share of the points of `ours` that the likest lane of `theirs` in the same frame has, too."""
    found = total = 0
    for one, other in zip(ours, theirs, strict=True):
        total += sum(len(lane) for lane in one)
        found += sum(max((agreeing(lane.points, like.points) for like in other), default=0) for lane in one)
    return found / total if total else 1.0


def likeness(one: list[list[Lane]], other: list[list[Lane]]) -> float:
    """The share of the points of either side that the other has, too: a lane more costs as much as a lane less."""
    return min(share_found(one, other), share_found(other, one))


def check_export(name: str, method: str, samples: Samples, folder: Path) -> int:
    """Export a detector and compare outputs and lanes; gives how many lanes there were."""
    checkpoint, out = folder / "checkpoint.safetensors", folder / "network.onnx"
    detector = save_checkpoint(name, method, samples, checkpoint)
    assert main(["export", name, "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    frames = samples.frames[4:7]
    images = torch.cat(list(network_images(detector, [frame.image for frame in frames])))
    with torch.no_grad():
        outputs = detector(images)
    expected = named_outputs(outputs)
    found = session.run(list(expected), {"images": images.numpy()})
    apart = [float(np.abs(wanted.numpy() - got).max()) for wanted, got in zip(expected.values(), found, strict=True)]
    for wanted, distance in zip(expected.values(), apart, strict=True):
        assert distance <= 1e-4 * max(1.0, float(wanted.abs().max()))
    geometries = [detector.geometry_of(samples.size) for _ in frames]

    def lanes_of(tensors: list[torch.Tensor]) -> list[list[Lane]]:
        return detector.decode(tree_unflatten(tensors, tree_structure(outputs)), geometries)

    ours, theirs = detector.decode(outputs, geometries), lanes_of([torch.from_numpy(got) for got in found])
    # An untrained network has columns that are equally high and points as near to one lane as to another, but for rounding. Its lanes
    # may move as far as they do when the outputs are disturbed by as much as the two runtimes differ; if none do, none may.
    generator = torch.Generator().manual_seed(0)

    def disturbed() -> list[torch.Tensor]:
        pairs = zip(expected.values(), apart, strict=True)
        return [
            wanted + distance * (2 * torch.rand(wanted.shape, generator=generator) - 1) for wanted, distance in pairs
        ]

    yardstick = min(likeness(ours, lanes_of(disturbed())) for _ in range(5))
    assert yardstick >= 0.25  # else the lanes of this network would tell nothing
    assert likeness(ours, theirs) >= 0.9 * yardstick
    if yardstick == 1:
        assert [len(lanes) for lanes in ours] == [len(lanes) for lanes in theirs]
    return sum(map(len, ours))


def test_the_exported_network_gives_the_same_lanes(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_export("resa_micro", "samiro", samples, tmp_path) > 0
    assert "wrote" in capsys.readouterr().out
    model = onnx.load(tmp_path / "network.onnx")
    onnx.checker.check_model(model)
    keys = {"detector", "checkpoint_sha256", "form", "frame", "crop", "network", "confidence_threshold", "outputs"}
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key in keys}
    assert set(facts) == keys
    assert facts["detector"] == "resa_micro"
    assert facts["network"] == [128, 320]
    (images,) = model.graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [side.dim_value for side in images.type.tensor_type.shape.dim] == [0, 3, 128, 320]
    assert [output.name for output in model.graph.output] == ["mask", "existence"]
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.safetensors", "network.onnx"}


def test_a_checkpoint_is_plain_tensors_that_load_without_this_program(samples: Samples, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save_checkpoint("ufldv2_micro", "samiro", samples, tmp_path / "samiro.safetensors")
    save_checkpoint("ufldv2_micro", "baseline", samples, tmp_path / "baseline.safetensors")
    state, plain = (load_file(tmp_path / f"{method}.safetensors") for method in ("samiro", "baseline"))
    gates = {f"spatial_attention.backbone_layer{stage}.convolution.weight" for stage in (1, 2, 3, 4)}
    assert state.keys() - plain.keys() == gates
    assert plain.keys() <= state.keys()
    assert {tuple(state[gate].shape) for gate in gates} == {(1, 2, 7, 7)}


# Those on deeper ResNets differ from these in depth alone, and exporting them takes minutes. SAMIRO's arm has all layers of the
# baseline's, and the small detectors show that it goes without its gates, too.
EXPORTED = [name for name in TABLE if not name.endswith(("resnet34", "resnet101", "resnet122"))]
ARMS = [(name, "samiro") for name in EXPORTED] + [(name, "baseline") for name in EXPORTED if name.endswith("_micro")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), ARMS)
def test_every_detector_is_exported_with_its_lanes(name: str, method: str, samples: Samples, tmp_path: Path) -> None:
    check_export(name, method, samples, tmp_path)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_what_can_not_be_exported_is_refused_in_one_line(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, out = tmp_path / "checkpoint.safetensors", tmp_path / "network.onnx"
    save_checkpoint("resa_micro", "baseline", samples, checkpoint)

    def words(name: str, source: Path, target: Path) -> list[str]:
        return ["export", name, "--checkpoint", str(source), "--out", str(target)]

    assert "its detector is 'resa_micro', not 'ufldv2_micro'" in refused(words("ufldv2_micro", checkpoint, out), capsys)
    assert "is missing" in refused(words("resa_micro", tmp_path / "none.safetensors", out), capsys)
    assert str(tmp_path) in refused(words("resa_micro", checkpoint, tmp_path), capsys)
    file = tmp_path / "file"
    file.write_text("")
    assert "file" in refused(words("resa_micro", checkpoint, file / "network.onnx"), capsys)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = refused(words("resa_micro", checkpoint, out), capsys)
    assert "onnxscript" in line
    assert "samiro-bench[export]" in line
    assert not out.exists()


def test_outputs_are_named_by_their_keys_and_places() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    assert list(named_outputs({"a": one, "b": [one, two]})) == ["a", "b.0", "b.1"]
    assert list(named_outputs((one, two))) == ["0", "1"]
    assert list(named_outputs(one)) == ["output"]
