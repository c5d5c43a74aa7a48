"""CLRNet: its published variants, its checkpoints, upstream's code beside it, and what every detector promises."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.checkpoints import import_checkpoint
from detectors.clrnet import CLRNet
from detectors.registry import detector_meta
from harness.errors import InputError
from tests.checkouts import checkout_of
from tests.detectors.promises import assert_alike_in_any_batch, assert_one_seed_gives_one_detector, assert_taps, size_of
from tests.detectors.roads import FRAME, batch_of, noise, road
from tests.detectors.small.clrnet import MICRO, build

# Metadata


def test_published_recipes_move_the_view_as_upstreams_pipelines_do() -> None:
    # configs/clrnet/*.py of Turoad/CLRNet: Affine comes after the cut and Resize.
    published = [meta for name, meta in CLRNet.metas.items() if name != "clrnet_micro"]
    assert all(one.recipe.augmentation.in_view for meta in published for one in meta.configurations.values())


@pytest.mark.parametrize(
    ("name", "form", "parameters", "tensors"),
    [
        # Counted in Turoad/CLRNet, which has six more tensors: constants, and the priors as lines.
        ("clrnet_resnet18", "culane", 11_774_387, 205 - 6),
        ("clrnet_resnet18", "tusimple", 11_774_773, 205 - 6),
        ("clrnet_resnet34", "culane", 21_882_547, 301 - 6),
        ("clrnet_resnet101", "culane", 43_270_067, 709 - 6),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(
    name: str, form: Any, parameters: int, tensors: int
) -> None:
    assert size_of(name, form) == (parameters, tensors)


@pytest.mark.parametrize(
    ("form", "first", "last", "count"),
    [("culane", 270, 582, 40), ("tusimple", 160, 710, 56), ("llamas", 300, 716, 417)],
)
def test_published_lanes_are_written_on_upstreams_rows(form: Any, first: int, last: int, count: int) -> None:
    with torch.device("meta"):
        rows = CLRNet(detector_meta("clrnet_resnet18"), form).frame_rows
    assert (rows[0], rows[-1], len(rows)) == (first, last, count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": 8}, r"clrnet_micro.*prior.*did you mean 'priors'"),
        ({"priors": 20}, "priors"),
        ({"samples": 40}, "samples"),
        ({"slots": 5}, "slots"),
    ],
)
def test_impossible_architectures_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


def test_a_frame_of_another_size_is_cut_in_proportion() -> None:
    geometry = MICRO.geometry_of((295, 820))
    assert geometry.crop == (118, 0, 295, 820)
    np.testing.assert_allclose(geometry.to_network([[-0.5, 117.5], [819.5, 294.5]]), [[-0.5, -0.5], [319.5, 127.5]])


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    detector = build()
    assert [tap.stride for tap in detector.taps()] == [4, 8, 16, 32]
    assert_taps(detector)


def test_masks_are_made_for_training_alone() -> None:
    detector = build()
    assert {key: tuple(value.shape) for key, value in detector.train()(noise(2)).items()} == {
        "lanes": (2, 3, 64, 42),
        "mask": (2, 5, 16, 40),
    }
    assert set(detector.eval()(noise(1))) == {"lanes"}


def test_training_leaves_nothing_behind_that_cannot_be_copied() -> None:
    # Upstream keeps tensors with a graph in buffers, which a moving average of weights can't copy.
    detector = build().train()
    batch = batch_of(detector, [road(), []])
    sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
    twin = copy.deepcopy(detector).eval()
    kept = twin(noise(1))["lanes"]
    detector.decode({"lanes": kept.detach()}, [detector.geometry_of(FRAME)])
    fresh = build().state_dict()
    assert all(value.dtype == fresh[name].dtype for name, value in twin.state_dict().items())
    assert kept.dtype == torch.float32


def test_one_seed_gives_one_detector() -> None:
    assert_one_seed_gives_one_detector(build)


def test_in_evaluation_an_image_is_seen_alike_in_any_batch() -> None:
    assert_alike_in_any_batch(MICRO)


def test_the_spare_entries_of_a_checkpoint_are_passed_over_and_no_others(tmp_path: Path) -> None:
    state = {f"head.{name}": value for name, value in MICRO.head.state_dict().items()}
    state |= {name: value for name, value in MICRO.state_dict().items() if name not in state}
    spare = {"heads.prior_ys": torch.zeros(36), "heads.criterion.weight": torch.ones(5), "heads.priors": torch.zeros(3)}
    torch.save({"net": {f"module.{name}": value for name, value in (state | spare).items()}}, tmp_path / "a.pth")
    detector = import_checkpoint("clrnet_micro", "culane", tmp_path / "a.pth")
    assert all(torch.equal(value, MICRO.state_dict()[name]) for name, value in detector.state_dict().items())
    torch.save({"net": state | {"heads.other": torch.zeros(1)}}, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"unknown: heads\.other"):
        import_checkpoint("clrnet_micro", "culane", tmp_path / "b.pth")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["culane", "tusimple"])
def test_upstreams_code_gives_the_same(form: Any) -> None:
    from harness.parity.compare import parity

    compared = parity("clrnet_resnet18", form, checkout_of("CLRNet"))
    assert [layer.name for layer in compared.layers if layer.outcome == "differs"] == []
    agreeing = {layer.name for layer in compared.layers if layer.outcome == "agrees"}
    assert {"raw logits", "raw lines", "raw places", "lanes", "loss classification", "loss line"} <= agreeing
