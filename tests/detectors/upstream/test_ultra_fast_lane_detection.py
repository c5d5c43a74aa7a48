"""The published variants of UFLD and UFLDv2 are configured as upstream's own files say, and compute what upstream computes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from detectors.meta import Augmentation, Configuration, Form
from detectors.registry import detector_meta
from detectors.ufld import UFLD
from detectors.ufld import Architecture as FirstArchitecture
from detectors.ufldv2 import Architecture as SecondArchitecture
from detectors.ufldv2 import UFLDv2
from detectors.upstream import ultra_fast_lane_detection as first
from detectors.upstream import ultra_fast_lane_detection_v2 as second
from detectors.upstream.isolation import Isolation
from harness.parity.compare import parity
from tests.checkouts import checkout_of

FIRST = [(variant, form) for variant, forms in first.UFLD.variants.items() for form in forms]
SECOND = [(variant, form) for variant, forms in second.UFLDv2.variants.items() for form in forms]


@pytest.fixture
def checkouts() -> Path:
    checkout_of("Ultra-Fast-Lane-Detection-v2")
    return checkout_of("Ultra-Fast-Lane-Detection").parent


def first_isolation(root: Path) -> Isolation:
    return first.isolated(root / "Ultra-Fast-Lane-Detection")


def second_isolation(root: Path, file: str) -> Isolation:
    return second.isolated(root / "Ultra-Fast-Lane-Detection-v2", file)


def test_every_published_configuration_has_an_upstream_model() -> None:
    for detector, pairs in ((UFLD, FIRST), (UFLDv2, SECOND)):
        published = {name: meta for name, meta in detector.metas.items() if not name.endswith("_micro")}
        assert set(pairs) == {(name, form) for name, meta in published.items() for form in meta.configurations}


def check_optimisation(configuration: Configuration, theirs: ModuleType, devices: int) -> None:
    """What the recipes of both repositories have in common. devices: of the training that the learning rate belongs to."""
    recipe = configuration.recipe
    assert recipe.optimizer == theirs.optimizer.lower()
    assert (recipe.learning_rate, recipe.weight_decay) == (theirs.learning_rate, theirs.weight_decay)
    assert (recipe.epochs, recipe.batch_size) == (theirs.epoch, devices * theirs.batch_size)
    assert (recipe.warmup_steps, recipe.warmup_start, theirs.warmup) == (theirs.warmup_iters, 0.0, "linear")
    if theirs.optimizer == "SGD":
        assert recipe.momentum == theirs.momentum
    if theirs.scheduler == "multi":
        assert (recipe.schedule, recipe.gamma) == ("multistep", theirs.gamma)
        assert [round(share * theirs.epoch) for share in recipe.milestones] == theirs.steps
    else:
        assert (recipe.schedule, theirs.scheduler) == ("cosine", "cos")
    # Both build their models with `pretrained = True`, whatever the file says.
    assert configuration.weights == "imagenet"
    assert theirs.num_lanes == 4


@pytest.mark.parametrize(("variant", "form"), FIRST)
def test_ufld_is_configured_as_upstreams_file_says(checkouts: Path, variant: str, form: Form) -> None:
    configuration = detector_meta(variant).configurations[form]
    options = FirstArchitecture(**configuration.architecture)
    height, width = configuration.input.frame
    with first_isolation(checkouts):
        theirs, transforms = import_module(f"configs.{form}"), import_module("data.mytransforms")
        anchors = getattr(import_module("data.constant"), f"{form}_row_anchor")
        with first.folder_of(form, np.zeros((1, 1, 3), np.uint8)) as folder:
            names = (theirs.griding_num, theirs.dataset, theirs.use_aux, False, theirs.num_lanes)
            loader, rows = import_module("data.dataloader").get_train_loader(1, str(folder), *names)
        steps = loader.dataset.simu_transform.transforms
    # launch_training.sh trains on CULane with four devices.
    check_optimisation(configuration, theirs, devices=4 if form == "culane" else 1)
    assert [type(step) for step in steps] == [
        *(transforms.RandomRotate, transforms.RandomUDoffsetLABEL, transforms.RandomLROffsetLABEL)
    ]
    angle, down, right = steps[0].angle, steps[1].max_offset, steps[2].max_offset
    augmentation = Augmentation(rotation=angle, shift_x=right / width, shift_y=down / height)
    assert configuration.recipe.augmentation == augmentation
    assert options.rows == tuple(int((row * 1.0 / 288) * height) for row in anchors)
    assert (len(options.rows), options.cells) == (rows, theirs.griding_num)
    assert (options.similarity, options.shape) == (theirs.sim_loss_w, theirs.shp_loss_w)
    assert (options.auxiliary is not None) == theirs.use_aux
    assert configuration.input.network == (288, 800)
    assert configuration.input.crop == (0, 0, height, width)


@pytest.mark.parametrize(("variant", "form"), SECOND)
def test_ufldv2_is_configured_as_upstreams_file_says(checkouts: Path, variant: str, form: Form) -> None:
    configuration = detector_meta(variant).configurations[form]
    options, size = SecondArchitecture(**configuration.architecture), configuration.input
    file = f"{form}_res{variant.removeprefix('ufldv2_resnet')}"
    with second_isolation(checkouts, file):
        theirs = import_module(f"configs.{file}")
        assert sys.argv[1:] == [file]
        _, merged = import_module("utils.common").merge_config()
        rows, columns = merged.row_anchor, merged.col_anchor
    # README.md: the learning rate of CULane is that of eight devices.
    check_optimisation(configuration, theirs, devices=8 if form == "culane" else 1)
    assert (options.row_anchors, options.column_anchors) == (theirs.num_row, theirs.num_col)
    assert (options.row_cells, options.column_cells) == (theirs.num_cell_row, theirs.num_cell_col)
    np.testing.assert_allclose(np.linspace(*options.row_span, options.row_anchors), rows)
    np.testing.assert_allclose(np.linspace(0, 1, options.column_anchors), columns)
    assert options.layer_norm == theirs.fc_norm
    assert not theirs.use_aux
    assert (theirs.sim_loss_w, theirs.shp_loss_w, theirs.mean_loss_w) == (0.0, 0.0, 0.05)
    assert size.network == (theirs.train_height, theirs.train_width)
    top, left, bottom, right = size.crop
    assert (left, bottom, right) == (0, *size.frame)
    # Upstream crops after the resize, ours before, at a whole pixel.
    assert top == round((1 - theirs.crop_ratio) * size.frame[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "form"), [("ufld_resnet18", "culane"), ("ufld_resnet18", "tusimple"), ("ufldv2_resnet18", "tusimple")]
)
def test_ours_computes_what_upstream_computes(checkouts: Path, variant: str, form: Form) -> None:
    found = parity(variant, form, checkouts)
    assert [layer for layer in found.layers if layer.outcome == "differs"] == []
    assert {layer.name for layer in found.layers if layer.outcome == "unavailable"} == set()


@pytest.mark.slow
def test_upstream_reads_our_labels_off_masks_of_wide_lanes(checkouts: Path) -> None:
    """Masks as the datasets have them, of lanes 16 px wide: upstream's cells are ours or those beside them, mostly ours."""
    import PIL.Image

    from detectors.parts.masks import placed_mask
    from harness.conformance.samples import rendered_frames
    from harness.lanes import plain_geometry

    reference = first.UFLD(checkouts / "Ultra-Fast-Lane-Detection", "ufld_resnet18", "culane")
    detector = UFLD(detector_meta("ufld_resnet18"), "culane")
    geometry = plain_geometry((590, 1640), (0, 0, 590, 1640), (288, 800))
    same, beside, compared = 0, 0, 0
    for frame in rendered_frames((590, 1640)):
        placed = first.placed_lanes(frame.lanes, geometry, {"position": detector.labels})
        polylines = {slot: geometry.to_original(lane.polyline) for slot, lane in placed.items()}
        mask = placed_mask(polylines, (590, 1640), slots=4, width=16)
        with reference.upstream, first.folder_of("culane", np.zeros((1, 1, 3), np.uint8)) as folder:
            load = import_module("data.dataloader").get_train_loader
            samples = load(1, str(folder), 200, "CULane", True, False, 4)[0].dataset
            points = samples._get_index(PIL.Image.fromarray(mask))
            cells: Any = samples._grid_pts(points, 200, 1640)
        positions = detector.encode_targets(frame.lanes, geometry)["position"]
        both = (positions >= 0) & (cells < 200)
        assert both.sum() >= 0.9 * (positions >= 0).sum()
        apart = np.abs(np.floor(positions[both]) - cells[both])
        same, beside, compared = same + (apart == 0).sum(), beside + (apart <= 1).sum(), compared + both.sum()
    assert compared > 100
    assert beside >= 0.95 * compared
    assert same >= 0.7 * compared


def test_labels_are_interpolated_where_the_kernel_of_upstream_finds_them() -> None:
    """By hand: the last segment counts, ends beyond the left or upper edge take theirs away, nothing found is -1."""
    line = [[[10.0, 0.0], [20.0, 10.0], [40.0, 20.0], [30.0, 5.0], [-1.0, 30.0], [60.0, 40.0]]]
    found = second._interpolated(torch.tensor([line]), torch.tensor([5.0, 8.0, 20.0, 35.0, 50.0]), 0)
    # 5 and 8 lie on the first segment and on that from (40, 20) to (30, 5); 35 on one with an end beyond the edge alone.
    assert found[0, 0].numpy() == pytest.approx(
        np.array([[30.0, 5.0], [32.0, 8.0], [40.0, 20.0], [-1.0, 35.0], [-1.0, 50.0]])
    )
    across = second._interpolated(torch.tensor([line]), torch.tensor([15.0, 35.0]), 1)
    assert across[0, 0].numpy() == pytest.approx(np.array([[15.0, 5.0], [35.0, 12.5]]))
    assert second._interpolated(torch.full((1, 1, 1, 2), -1.0), torch.tensor([5.0]), 0).tolist() == [[[[-1.0, 5.0]]]]
