"""Views made in workers (OpenCV) against views made for a whole batch (torch, here on the CPU)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from detectors.meta import Augmentation
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.waits import host_waits
from harness.lanes import plain_geometry
from harness.training import views as views_module
from harness.training.augmentation import Change, drawn_change, reduced
from harness.training.views import DeviceViews, HostViews, augmenting_device, views_on

CPU = torch.device("cpu")
FRAME = (118, 328)
NETWORK = (64, 160)
GEOMETRIC = Augmentation(flip=0.5, rotation=10, shift_x=0.1, shift_y=0.1, scale=0.2, crop=0.2)
COLOURED = GEOMETRIC.model_copy(
    update={"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 30.0, "lift": 0.2}
)
BLURRED = COLOURED.model_copy(update={"blur": 0.6, "blur_sigma": 2.0, "blur_length": 7.0})


def geometry_of(size):
    height, width = size
    return plain_geometry(size, (height * 54 // 118, 0, height, width), NETWORK)


def picture(seed: int, size: tuple[int, int] = FRAME) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), dtype=np.uint8)


def samples(augmentation: Augmentation, count: int, sizes=(FRAME,)):
    drawn = []
    for seed in range(count):
        size = sizes[seed % len(sizes)]
        change = drawn_change(geometry_of(size), augmentation, np.random.default_rng([3, seed]))
        drawn.append((reduced(picture(seed, size), geometry_of), change))
    return drawn


def rounding() -> tuple[int, float]:
    """Grey levels, at most and in the mean, by which OpenCV may be off: some releases round places to 1/32 of a pixel."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    moved = cv2.warpAffine(
        ramp, np.float32([[1, 0, 1 / 64], [0, 1, 0]]), (8, 8), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return (0, 0.0) if moved[4, 4] == 4 + 1 / 64 else (3, 0.15)


def both(drawn):
    """The images of a batch as workers make them and as a device does, as integers."""
    made = []
    for views in (HostViews(), DeviceViews(CPU, NETWORK)):
        images = views.images(views.collated([views.prepared(*sample) for sample in drawn]))
        assert images.dtype == torch.uint8
        assert images.shape == (len(drawn), 3, *NETWORK)
        made.append(images.numpy().astype(int))
    return made


@pytest.mark.parametrize(
    ("augmentation", "most", "mean"),
    [(Augmentation(), 1, 0.005), (GEOMETRIC, 1, 0.005), (COLOURED, 2, 0.06), (BLURRED, 2, 0.06)],
    ids=["plain", "geometric", "coloured", "blurred"],
)
def test_a_device_makes_the_views_that_workers_make(augmentation, most, mean):
    host, device = both(samples(augmentation, 16))
    difference = np.abs(host - device)
    assert difference.max() <= most + rounding()[0]
    assert difference.mean() <= mean + rounding()[1]
    assert host.std() > 10


def test_images_of_several_sizes_make_one_batch():
    host, device = both(samples(COLOURED, 8, sizes=(FRAME, (100, 200), (200, 700))))
    assert np.abs(host - device).max() <= 2 + rounding()[0]


def test_beyond_the_frame_is_black_on_a_device_too():
    drawn = samples(Augmentation(shift_x=0.5), 4)
    white = [(reduced(np.full((*FRAME, 3), 255, np.uint8), geometry_of), change) for _, change in drawn]
    host, device = both(white)
    assert (host == device).mean() > 0.99
    assert host.min() == 0
    inside = [(image, Change(geometry_of(FRAME), None, None)) for image, _ in white]
    assert all(images.min() == 255 for images in both(inside))


def test_a_device_makes_the_same_twice():
    drawn = samples(BLURRED, 6)
    (_, first), (_, second) = both(drawn), both(drawn)
    assert np.array_equal(first, second)


def test_a_view_does_not_depend_on_the_others_of_its_batch():
    drawn = samples(BLURRED, 8, sizes=(FRAME, (200, 700)))
    _, together = both(drawn)
    for number, sample in enumerate(drawn):
        _, alone = both([sample])
        assert np.abs(alone[0] - together[number]).max() <= 1


def test_cuda_makes_its_own_views_and_other_devices_leave_them_to_the_workers():
    assert augmenting_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert augmenting_device(CPU) is None
    assert isinstance(views_on(None, NETWORK), HostViews)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_whose_views_a_device_makes_has_the_same_batches(toy, roads, workers):
    detector = toy.model().detector
    reference = list(roads.stream(detector).batches(0, 4))
    made = list(roads.stream(detector, workers=workers, augment_on=CPU).batches(0, 4))
    for one, other in zip(reference, made, strict=True):
        difference = (one.images.int() - other.images.int()).abs()
        assert difference.max() <= 2 + rounding()[0]
        assert difference.float().mean() <= 0.06 + rounding()[1]
        assert one.ids == other.ids
        assert all(torch.equal(one.targets[name], other.targets[name]) for name in one.targets)
        assert torch.equal(one.lanes.nan_to_num(-1), other.lanes.nan_to_num(-1))


def test_views_that_are_made_a_few_at_a_time_are_those_of_the_whole_batch(monkeypatch):
    made = {"warped": [], "views": []}
    warp = views_module.warped_batch
    monkeypatch.setattr(
        views_module, "warped_batch", lambda images, *rest: made["warped"].append(len(images)) or warp(images, *rest)
    )
    views = DeviceViews(CPU, NETWORK)
    fields = views.collated([views.prepared(*sample) for sample in samples(BLURRED, 8, sizes=(FRAME, (100, 200)))])
    for at_once in (8, 3):
        monkeypatch.setattr(views_module, "VIEWS_AT_ONCE", at_once)
        made["views"].append(views.images(fields))
    assert made["warped"] == [8, 3, 3, 2]
    assert torch.equal(*made["views"])


def test_the_sampler_is_torchs_own_on_every_device():
    names = set()

    class Called(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.add(func.__name__)
            return func(*args, **(kwargs or {}))

    views = DeviceViews(CPU, NETWORK)
    fields = views.collated([views.prepared(*sample) for sample in samples(GEOMETRIC, 2)])
    with Called():
        views.images(fields)
    # On CUDA these two are cuDNN's wherever they can be, and that refuses some batches for their size (PyTorch, issue 88380).
    assert not names & {"grid_sample", "grid_sampler"}
    assert "grid_sampler_2d" in names


def test_the_host_waits_for_no_image_that_a_device_makes() -> None:
    views = DeviceViews(SECOND_DEVICE, NETWORK)
    fields = views.collated([views.prepared(*sample) for sample in samples(BLURRED, 3)])
    with second_device(), host_waits() as found:
        views.images(fields)
    assert not found, found
