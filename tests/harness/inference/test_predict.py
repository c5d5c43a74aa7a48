from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from detectors.base import Batch, Detector, Tap
from detectors.meta import Configuration, DetectorMeta, InputSize, Recipe
from detectors.registry import detector_class, find_adapter
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.errors import InputError
from harness.inference.detector import load_detector
from harness.inference.predict import Settings, network_images, predict
from harness.lanes import Geometry, Lane
from harness.methods.attach import attach
from harness.methods.config import method_configuration
from harness.scaffold.write import write_scaffold
from harness.training.checkpoint import load_inference_checkpoint, save_inference_checkpoint

CPU = torch.device("cpu")


def meta() -> DetectorMeta:
    size = InputSize(frame=(240, 480), crop=(40, 0, 240, 480), network=(80, 192))
    recipe = Recipe(optimizer="sgd", learning_rate=0.1, schedule="constant", epochs=1, batch_size=1)
    return DetectorMeta(
        name="dots",
        paper="none",
        year=2000,
        family="keypoint",
        backbone="none",
        upstream="none",
        licence="none",
        configurations={"culane": Configuration(input=size, recipe=recipe)},
    )


class DotFinder(Detector):
    """Its one "lane" is the centre of mass of what is bright, twice."""

    metas: ClassVar = {"dots": meta()}

    def __init__(self) -> None:
        super().__init__(meta(), "culane")
        self.modes: list[bool] = []

    def taps(self) -> tuple[Tap, ...]:
        return ()

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, Any]:
        return {}

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training or torch.is_grad_enabled())
        weights = images.double().mean(1)
        weights = torch.where(weights < 10, 0.0, weights)
        rows, columns = torch.meshgrid(
            *(torch.arange(n, dtype=torch.float64, device=weights.device) for n in weights.shape[1:]), indexing="ij"
        )
        total = weights.sum((1, 2))
        return torch.stack([(weights * columns).sum((1, 2)), (weights * rows).sum((1, 2))], 1) / total[:, None]

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {}

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        points = [geometry.to_original(dot.tolist()) for dot, geometry in zip(outputs, geometries, strict=True)]
        return [[Lane(np.stack([point, point]), 0.9)] for point in points]


@pytest.fixture
def dots(tmp_path):
    """Pictures of three sizes with one soft dot each: their paths, and where the dots are."""
    generator = np.random.default_rng(0)
    paths, places = [], []
    for number, (height, width) in enumerate([(240, 480), (480, 960), (120, 240)] * 3):
        x, y = generator.uniform(0.3, 0.7) * width, generator.uniform(0.5, 0.7) * height
        rows, columns = np.mgrid[:height, :width]
        dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (width / 50) ** 2))
        path = tmp_path / f"{number}.jpg"
        cv2.imwrite(str(path), np.repeat(np.round(dot)[:, :, None], 3, 2), [cv2.IMWRITE_JPEG_QUALITY, 98])
        paths.append(path)
        places.append((x, y))
    return paths, places


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_lanes_come_in_order_in_pixels_of_each_image(dots, workers, channels_last):
    paths, places = dots
    seen = []
    settings = Settings(
        CPU, 4, channels_last=channels_last, workers=workers, progress=lambda *state: seen.append(state)
    )
    lanes = predict(DotFinder(), paths, settings)
    assert [len(found) for found in lanes] == [1] * 9
    for (lane,), place, path in zip(lanes, places, paths, strict=True):
        scale = cv2.imread(str(path)).shape[1] / 192
        assert lane.points[0] == pytest.approx(place, abs=0.1 * scale)
    assert seen == [(4, 9), (8, 9), (9, 9)]


def test_another_device_finds_the_same_lanes(dots):
    paths, _ = dots
    expected = predict(DotFinder(), paths, Settings(CPU))
    with second_device():
        found = predict(DotFinder(), paths, Settings(SECOND_DEVICE))
    for (lane,), (other,) in zip(found, expected, strict=True):
        np.testing.assert_allclose(lane.points, other.points)


class SparingDotFinder(DotFinder):
    """Writes all its lanes into the same memory, and forgets images on which it finds nothing right of `sought`."""

    def __init__(self, sought: float = 0.0) -> None:
        super().__init__()
        self.sought, self.memory = sought, np.zeros((16, 2, 2), np.float32)

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        found = super().decode(outputs, geometries)
        for place, (lane,) in zip(self.memory, found, strict=False):
            place[:] = lane.points
        lanes = [Lane(place, 0.9) for place, _ in zip(self.memory, found, strict=False)]
        return [[lane] for lane, dot in zip(lanes, outputs, strict=True) if dot[0] >= self.sought]


def test_lanes_stay_what_they_are_where_an_adapter_writes_the_next_ones_into_the_same_memory(dots):
    expected, found = (
        predict(detector, dots[0], Settings(CPU, batch_size=4)) for detector in (DotFinder(), SparingDotFinder())
    )
    for (lane,), (kept,) in zip(expected, found, strict=True):
        assert np.array_equal(lane.points, kept.points)


def test_an_adapter_that_forgets_images_without_lanes_is_told(dots):
    with pytest.raises(ValueError, match=r"gives lanes of [0-3] images for 4: give a list for each, empty where"):
        predict(SparingDotFinder(sought=96), dots[0], Settings(CPU, batch_size=4))


class FaultyDotFinder(DotFinder):
    """On the one image whose dot lies furthest to the right it gives a lane of its own."""

    def __init__(self, own: Lane) -> None:
        super().__init__()
        self.own = own

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        found = super().decode(outputs, geometries)
        found[int(outputs[:, 0].argmax())].append(self.own)
        return found


UPWARDS = [[5.0, 90.0], [5.0, 50.0]]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (Lane(np.array([[3.0, 4.0]]), 0.5), "dots decodes a lane that has 1 point; give two or more (lane 2 of 2)"),
        (Lane(np.zeros((0, 2)), 0.5), "dots decodes a lane that has 0 points; give two or more (lane 2 of 2)"),
        (Lane(np.array(UPWARDS[::-1]), 0.5), "dots decodes a lane that goes from far to near; give its points from"),
        (Lane(np.array(UPWARDS), 1.5), "dots decodes a lane that has score 1.5; scores lie in [0, 1] (lane 2 of 2)"),
        (Lane(np.array(UPWARDS)), "dots decodes a lane that has score None"),
        (
            Lane(np.array([*UPWARDS, [np.inf, 3]]), 0.5),
            "dots gives coordinates that are no numbers; its weights are broken, or its decode (lane 2 of 2)",
        ),
    ],
)
def test_a_lane_that_is_not_sound_is_told_with_detector_and_image(dots, own, said):
    paths, places = dots
    right = max(range(9), key=lambda index: places[index][0] / cv2.imread(str(paths[index])).shape[1])
    detector = FaultyDotFinder(own)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        predict(detector, paths, Settings(CPU, batch_size=9))
    assert str(caught.value).startswith(f"{paths[right]}: ")
    assert detector.training


class ShapelessDotFinder(DotFinder):
    """Gives its lanes in a shape of its own."""

    def __init__(self, shape: Callable[[list[list[Lane]]], Any]) -> None:
        super().__init__()
        self.shape = shape

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> Any:
        return self.shape(super().decode(outputs, geometries))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (iter, "decode of ShapelessDotFinder gives a list_iterator; give a list of `Lane`s for each image"),
        (np.array, "gives a ndarray;"),
        (lambda images: [lane for image in images for lane in image], "gives a list of Lane;"),
        (lambda images: [map(id, image) for image in images], "gives a list of map;"),
        (lambda images: [[lane.points for lane in image] for image in images], "gives a ndarray for a lane;"),
    ],
)
def test_what_is_not_a_list_of_lanes_for_each_image_is_told(dots, shape, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        predict(ShapelessDotFinder(shape), dots[0], Settings(CPU, batch_size=4))


def test_the_mode_of_the_detector_is_put_back_and_no_gradient_taken(dots):
    detector = DotFinder()
    predict(detector, dots[0], Settings(CPU))
    assert detector.training
    assert not any(detector.modes)
    detector.eval()
    predict(detector, dots[0], Settings(CPU))
    assert not detector.training


def test_no_images_give_no_lanes():
    assert predict(DotFinder(), [], Settings(CPU)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image_is_named(dots, workers):
    paths, _ = dots
    paths[5].write_bytes(paths[5].read_bytes()[:-300])
    detector = DotFinder()
    with pytest.raises(InputError, match=r"^[^\n]*5\.jpg[^\n]*$"):
        predict(detector, paths, Settings(CPU, batch_size=2, workers=workers))
    assert detector.training


def test_network_images_are_what_predict_sees(dots):
    paths, _ = dots
    detector = DotFinder()
    batches = list(network_images(detector, paths, batch_size=4))
    assert [tuple(batch.shape) for batch in batches] == [(4, 3, 80, 192), (4, 3, 80, 192), (1, 3, 80, 192)]
    assert all(batch.dtype == torch.uint8 for batch in batches)
    lanes = predict(detector, paths, Settings(CPU))
    places = torch.cat([detector(batch) for batch in batches])
    for (lane,), place, path in zip(lanes, places, paths, strict=True):
        geometry = detector.geometry_of(cv2.imread(str(path)).shape[:2])
        assert lane.points[0] == pytest.approx(geometry.to_original(place.tolist()), abs=1e-3)


@pytest.fixture
def stored(tmp_path):
    """A registered detector with random weights and its checkpoint; the facts can be changed before it is read."""
    name = "ufldv2_micro"
    found = detector_class(name)
    torch.manual_seed(0)
    detector = found(found.metas[name], "culane")
    facts = {
        "detector": name,
        "form": "culane",
        "meta": detector.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"},
    }
    save_inference_checkpoint(tmp_path / "a.safetensors", detector, facts)
    return detector, facts, tmp_path / "a.safetensors"


def test_a_detector_is_rebuilt_from_its_checkpoint_alone(stored):
    detector, _, path = stored
    torch.manual_seed(1)
    loaded = load_detector(path)
    assert type(loaded) is type(detector)
    assert loaded.meta.model_dump(mode="json") == detector.meta.model_dump(mode="json")
    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in detector.state_dict().items())


def test_attention_is_rebuilt_with_the_method_that_left_it(stored):
    detector, facts, path = stored
    configuration = method_configuration("attention_only", {})
    model = attach(detector, configuration, oracle=None, statistics=None, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    method = configuration.model_dump(mode="json", by_alias=True)
    save_inference_checkpoint(path, model.inference_model(), facts | {"method": method})
    loaded = load_detector(path)
    height, width = detector.configuration.input.network
    images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = model.inference_model().eval()(images), loaded(images)
    flat = [torch.utils._pytree.tree_leaves(outputs) for outputs in (expected, found)]
    assert len(flat[0]) > 0
    assert all(torch.equal(*pair) for pair in zip(*flat, strict=True) if isinstance(pair[0], Tensor))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": "ufldv3"}, "unknown detector 'ufldv3'"),
        ({"form": "moon"}, "doesn't describe a detector"),
        ({"meta": {"name": "a"}}, "doesn't describe a detector"),
        ({"method": {}}, "doesn't describe a detector"),
        ({"method": {"kind": "magic"}}, "unknown kind of method 'magic'"),
        ({"method": {"kind": "attention_only"}}, "its weights don't fit"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(stored, change, message):
    _, facts, path = stored
    tensors = load_inference_checkpoint(path).tensors

    class Holder(torch.nn.Module):
        def state_dict(self, **_):
            return tensors

    save_inference_checkpoint(path, Holder(), facts | change)
    with pytest.raises(InputError, match=message) as caught:
        load_detector(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def from_file(tmp_path):
    """The checkpoint of a detector of an adapter file, and that file."""
    path = write_scaffold("my_lanes", tmp_path)[0]
    found = find_adapter(f"{path}:MyLanes")
    facts = {
        "detector": "my_lanes",
        "form": "culane",
        "meta": found.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"},
        "origin": found.origin,
    }
    save_inference_checkpoint(tmp_path / "a.safetensors", found.detector(found.meta, "culane"), facts)
    return tmp_path / "a.safetensors", path


def test_a_detector_of_a_file_is_rebuilt_when_the_file_is_named(from_file):
    checkpoint, path = from_file
    assert load_detector(checkpoint, adapter=f"{path}:MyLanes").meta.name == "my_lanes"
    moved = path.rename(path.with_name("moved.py"))
    assert load_detector(checkpoint, adapter=f"{moved}:MyLanes").meta.name == "my_lanes"


@pytest.mark.parametrize(
    ("adapter", "edit", "message"),
    [
        (None, "", "comes from an adapter file my_lanes.py: name that file too, as path/to/my_lanes.py:Class"),
        ("{path}:MyLanes", "# more", "trained with other code: sha256 .* of .*my_lanes.py:MyLanes"),
        ("ufldv2_micro", "", "its detector is 'my_lanes', not 'ufldv2_micro'"),
        ("{path}:YourLanes", "", "did you mean 'MyLanes'"),
        ("long", "", "unknown detector 'long': .*; its detector is 'my_lanes'"),
    ],
)
def test_a_detector_of_a_file_is_rebuilt_with_nothing_else(from_file, adapter, edit, message):
    checkpoint, path = from_file
    path.write_text(path.read_text() + edit)
    with pytest.raises(InputError, match=message) as caught:
        load_detector(checkpoint, adapter=adapter and adapter.format(path=path))
    assert str(caught.value).startswith(str(checkpoint))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_package_is_not_loaded_into_a_namesake(stored):
    _, facts, path = stored
    tensors = load_inference_checkpoint(path).tensors
    holder = torch.nn.Module()
    holder.state_dict = lambda **_: tensors
    save_inference_checkpoint(path, holder, facts | {"origin": {"distribution": "outside-lanes"}})
    with pytest.raises(InputError, match="was trained with outside-lanes, but is now found in samiro-bench"):
        load_detector(path)


def test_a_checkpoint_of_a_package_is_not_loaded_into_an_adapter_file(from_file):
    checkpoint, path = from_file
    stored = load_inference_checkpoint(checkpoint)
    holder = torch.nn.Module()
    holder.state_dict = lambda **_: stored.tensors
    save_inference_checkpoint(checkpoint, holder, stored.facts | {"origin": {"distribution": "outside-lanes"}})
    with pytest.raises(InputError, match="was trained by outside-lanes, not by an adapter file: name it my_lanes"):
        load_detector(checkpoint, adapter=f"{path}:MyLanes")
