"""Bridges: third-party code as it is, trained and scored beside our variant of it from the same weights."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils import _pytree as pytree

from detectors.base import tap_module
from detectors.checkpoints import import_checkpoint
from detectors.registry import find_adapter
from detectors.upstream.bridge import Bridge
from detectors.upstream.running import training_without_dropout
from harness.cli.main import main
from harness.conformance.bridges import PAGE as BRIDGES_PAGE
from harness.conformance.subject import Subject, subject_of
from harness.inference.predict import Settings, predict
from harness.lanes import Lane
from harness.methods.samiro import TERM
from harness.parity.lanes import compared, point_distances
from harness.training.determinism import seed_everything
from harness.training.optimization import build_optimization
from tests.checkouts import needs_checkouts
from tests.docs.bridges_page import bridges_by_class, read_stand_ins

SUITE = Path(__file__).parent / "bridged.yaml"

PAIRED = [
    "clrnet_resnet18",
    "clrernet_dla34",
    "laneatt_resnet18",
    "laneatt_resnet122",
    "ufld_resnet18",
    "ufldv2_resnet18",
    "bezierlanenet_resnet18",
    "lstr_resnet18s_2x",
    "lstr_resnet18s",
    "resa_resnet18",
]
"""A variant of each class of bridges beside ours, and one of another backbone where taps have other names."""

ALONE = [
    "clrkdnet_resnet18_upstream",
    "srlane_resnet18_upstream",
    "polarrcnn_resnet18_upstream",
    "polarrcnn_dla34_upstream",
]
"""A bridge of each repository of which there is no variant of ours."""


def subject(name: str, folder: Path) -> Subject:
    adapter = find_adapter(name)
    return subject_of(name, next(iter(adapter.meta.configurations)), folder)


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize("name", [*(f"{name}_upstream" for name in PAIRED), *ALONE])
def test_a_bridge_keeps_an_adapters_promises(name, tmp_path):
    shown = subject(name, tmp_path)
    detector = shown.build().train()
    batch = shown.batch(detector, count=2)
    for labels in (batch, shown.batch(detector, lanes=lambda frame: [], count=2)):
        detector.zero_grad()
        terms = detector.losses(detector(labels.images), labels)
        total = torch.stack(list(terms.values())).sum()
        assert torch.isfinite(total)
        total.backward()
        for tap in detector.taps():
            assert any(parameter.grad is not None for parameter in tap_module(detector, tap).parameters())
    copied = copy.deepcopy(detector).eval()
    with torch.no_grad():
        lanes = copied.decode(copied(batch.images), batch.geometries)
    assert len(lanes) == 2
    assert copied.state_dict().keys() == detector.state_dict().keys()
    # As upstream's training programs write it.
    torch.save(
        {"net": {f"module.{key}": value for key, value in detector.network.state_dict().items()}}, tmp_path / "w"
    )
    imported = import_checkpoint(name, shown.form, tmp_path / "w").state_dict()
    assert all(torch.equal(value, imported[key]) for key, value in detector.state_dict().items())


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize("name", [*(f"{name}_upstream" for name in PAIRED), *ALONE])
def test_what_samiro_asks_of_a_bridge_reaches_every_tap(name, tmp_path):
    shown = subject(name, tmp_path)
    model = shown.model("samiro")
    detector = model.detector
    # Whatever has a learning rate of its own is found.
    build_optimization(shown.configuration.recipe, list(model.parameter_groups()), model)
    ours = {id(parameter) for parameter in detector.parameters()}
    with torch.no_grad():
        # At the start of a training it is blind to features.
        for parameter in model.parameters():
            if id(parameter) not in ours and parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    model(shown.batch(detector, count=2))[TERM].backward()
    for tap in detector.taps():
        gradients = [parameter.grad for parameter in tap_module(detector, tap).parameters()]
        assert any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients), tap.path


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize("name", PAIRED)
def test_with_our_weights_a_bridge_has_our_losses_and_our_lanes(name, tmp_path):
    shown = subject(f"{name}_upstream", tmp_path)
    meta, form = shown.adapter.meta, shown.form
    started = shown.configuration.model_copy(update={"architecture": {"start": "native"}})
    ours, native = [], find_adapter(name)
    for build, facts in (
        (native.detector, native.meta),
        (shown.adapter.detector, meta.model_copy(update={"configurations": {form: started}})),
    ):
        seed_everything(0)
        ours.append(build(facts, form))
    batch = shown.batch(ours[0], count=2)
    terms = []
    for detector in ours:
        with mock.patch.object(F, "dropout", lambda features, *_, **__: features), training_without_dropout(detector):
            terms.append(detector.losses(detector(batch.images), batch))
    assert terms[0].keys() == terms[1].keys()
    for key, value in terms[0].items():
        assert torch.allclose(value, terms[1][key], rtol=2e-3, atol=1e-6), key
    upstream = ours[1].upstream
    theirs, drawn = upstream.drawn() or (None, None)
    if theirs is None:
        return
    geometries = [ours[0].geometry_of(shown.configuration.input.frame)] * len(pytree.tree_leaves(drawn)[0])
    native_lanes, upstream_lanes = (
        ours[0].decode(drawn, geometries),
        ours[1].decode(outputs_of(name, theirs), geometries),
    )
    written = [[upstream.written(lane.points.astype(np.float64)) for lane in lanes] for lanes in native_lanes]
    found = compared([[lane.points.astype(np.float64) for lane in lanes] for lanes in upstream_lanes], written)
    assert found.matched
    assert not found.unmatched
    known = upstream.differences.get("lanes")
    assert found.largest <= (0.1 if known is None or known.within is None else known.within)
    scores = [[sorted(lane.score for lane in lanes) for lanes in both] for both in (native_lanes, upstream_lanes)]
    for expected, given in zip(*scores, strict=True):
        assert given == pytest.approx(expected, abs=1e-4)


def outputs_of(name: str, drawn: Any) -> Any:
    """Outputs that a reference drew, as the bridge of that name gives them."""
    return {"predictions": drawn} if name.startswith("clrernet") else drawn


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize("name", [*ALONE, "polarrcnn_resnet18_upstream:tusimple", "polarrcnn_dla34_upstream:llamas"])
def test_labels_that_upstream_encodes_decode_to_themselves(name, tmp_path):
    name, _, form = name.partition(":")
    shown = subject_of(name, form or "culane", tmp_path)
    detector = shown.build().eval()
    lanes = shown.samples.lanes(shown.samples.frames[0])
    geometry = detector.geometry_of(shown.samples.size)
    targets = {key: torch.from_numpy(value)[None] for key, value in detector.encode_targets(lanes, geometry).items()}
    draw = {"clrkdnet": drawn_priors, "srlane": drawn_proposals, "polarrcnn": drawn_anchors}[name.partition("_")[0]]
    (found,) = detector.decode(draw(detector, targets), [geometry])
    assert len(found) == len(lanes)
    for lane in found:
        polylines = (label.points.astype(np.float64) for label in lanes)
        assert min(point_distances(lane.points, polyline).max() for polyline in polylines) < 2.0
        assert lane.score == pytest.approx(0.9)


def drawn_priors(detector: Any, targets: dict[str, torch.Tensor]) -> torch.Tensor:
    """CLRNet's outputs that are its labels: shares of the network's width - 1 and of the strips."""
    lanes = targets["lanes"].clone()
    lanes[..., 0], lanes[..., 1] = 0.0, torch.where(lanes[..., 1] == 1, math.log(9.0), -9.0)
    lanes[..., 5] /= 71
    lanes[..., 6:] /= 799
    return lanes


def drawn_proposals(detector: Any, targets: dict[str, torch.Tensor]) -> torch.Tensor:
    """SRLane's outputs that are its labels."""
    lanes = targets["lanes"].clone()
    lanes[..., 0], lanes[..., 1] = 0.0, torch.where(lanes[..., 1] == 1, math.log(9.0), -9.0)
    lanes[..., 2:4] /= 71
    lanes[..., 4:] /= 800
    return lanes


def drawn_anchors(detector: Any, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Polar R-CNN's outputs that are its labels, on anchors along its middle column."""
    rows = detector.network.roi_head.coord_transform.sample_car_y.flip(0)
    places = targets["lane_point_xs"]
    base = torch.stack([torch.zeros_like(places), rows.expand_as(places)], dim=-1)
    scores = 0.9 * targets["lane_valid"].float()
    return {
        "cls_o2o": scores,
        "end_points": targets["end_point"] / 320,
        "lanereg_xs_offset": places / 800,
        "lanereg_base_car": base,
    }


LINES: dict[str, tuple[int, int]] = {"srlane_resnet18_upstream": (5, 4), "polarrcnn_resnet18_upstream": (3, 0)}
"""Bridges whose lines are as wide in the loss as they are steep -> the leaf of their outputs that has lanes, and its first x."""


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize("name", LINES)
def test_losses_that_leave_single_points_where_they_are_lead_curves_to_the_labels(name, tmp_path):
    shown = subject(name, tmp_path)
    detector = shown.build().train()
    batch = shown.batch(detector, count=2)
    with torch.no_grad():
        leaves, tree = pytree.tree_flatten(detector(batch.images))
    lines, first = LINES[name]
    floats = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
    probabilities = [place for place in floats if bool(((leaves[place] > 0) & (leaves[place] < 1)).all())]
    rows = torch.linspace(-1, 1, leaves[lines].shape[-1] - first)
    found = {}
    # Four numbers a lane, or as many as it has points.
    for way, basis in (("curves", torch.stack([rows**power for power in range(4)])), ("points", torch.eye(len(rows)))):
        start = {place: leaves[place].logit() if place in probabilities else leaves[place].clone() for place in floats}
        free = {place: value.requires_grad_() for place, value in start.items()}
        moves = torch.zeros(*leaves[lines].shape[:-1], len(basis), requires_grad=True)
        optimizer = torch.optim.Adam([*free.values(), moves], lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
        for _ in range(200):
            outputs = list(leaves)
            for place, value in free.items():
                outputs[place] = value.sigmoid() if place in probabilities else value
            moved = leaves[lines][..., first:] + moves @ basis
            outputs[lines] = torch.cat([outputs[lines][..., :first], moved], dim=-1)
            optimizer.zero_grad()
            terms = detector.losses(pytree.tree_unflatten(outputs, tree), batch)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            lanes = detector.eval().decode(pytree.tree_unflatten(outputs, tree), batch.geometries)
        detector.train()
        order = np.argsort(batch.ids)
        found[way] = shown.samples.score([lanes[index] for index in order], tmp_path / way)
    assert found["curves"] == 1.0
    assert found["points"] < 0.8


@pytest.mark.slow
@needs_checkouts
def test_a_released_checkpoint_finds_in_a_bridge_the_lanes_of_real_frames_that_it_finds_in_ours(shared, tmp_path):
    six = tmp_path / "six"
    assert main(["data", "masks", str(shared / "real" / "images" / "tusimple_masks"), str(six)]) == 0
    images = sorted(six.rglob("*.png"))
    weights = shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    native, bridged = (
        predict(import_checkpoint(name, "tusimple", weights), images, Settings(torch.device("cpu")))
        for name in ("lstr_resnet18s", "lstr_resnet18s_upstream")
    )
    assert [len(lanes) for lanes in bridged] == [len(lanes) for lanes in native]
    assert sum(map(len, bridged)) == 25
    points = [[[lane.points.astype(np.float64) for lane in lanes] for lanes in both] for both in (bridged, native)]
    apart = compared(*points)
    assert not apart.unmatched
    assert apart.largest < 1.0


@pytest.mark.slow
@needs_checkouts
def test_the_page_names_what_stands_in_for_packages():
    page = read_stand_ins(BRIDGES_PAGE.read_text(encoding="utf-8"))
    for names in bridges_by_class():
        adapter = find_adapter(names[0])
        detector = adapter.detector(adapter.meta, next(iter(adapter.meta.configurations)))
        assert isinstance(detector, Bridge)
        assert list(detector.upstream.upstream.stand_ins) == page[names[0]]


@pytest.mark.slow
@needs_checkouts
def test_decoded_lanes_have_the_scores_that_upstream_kept_them_by(tmp_path):
    shown = subject("clrnet_resnet18_upstream", tmp_path)
    detector = shown.build().eval()
    geometry = detector.geometry_of(shown.configuration.input.frame)
    outputs = torch.zeros(1, 192, 78)
    outputs[..., 0], outputs[..., 6:] = 9.0, -1.0
    for prior, (logit, place) in enumerate([(2.0, 0.3), (3.0, 0.7)]):
        outputs[0, prior, :2] = torch.tensor([0.0, logit])
        outputs[0, prior, 2:6] = torch.tensor([0.0, place, 0.5, 60 / 71])
        outputs[0, prior, 6:] = place
    (lanes,) = detector.decode(outputs, [geometry])
    expected = {0.3: 1 / (1 + np.exp(-2.0)), 0.7: 1 / (1 + np.exp(-3.0))}
    assert len(lanes) == 2
    for lane in lanes:
        assert isinstance(lane, Lane)
        place = float(lane.points[:, 0].mean()) / 1640
        assert lane.score == pytest.approx(expected[min(expected, key=lambda one: abs(one - place))])


@pytest.mark.slow
@needs_checkouts
def test_bridged_and_native_clrnet_train_alike_from_the_same_weights(tmp_path):
    results = tmp_path / "results"
    whole = SUITE.read_text(encoding="utf-8")
    fewer = whole.replace(" steps: 20,", " steps: 4,")
    assert fewer != whole
    (tmp_path / "bridged.yaml").write_text(fewer, encoding="utf-8")
    assert main(["bench", str(tmp_path / "bridged.yaml"), "--results", str(results)]) == 0
    curves = {}
    for folder in (results / "bridged" / "cells").iterdir():
        lines = [json.loads(line) for line in (folder / "train" / "training.jsonl").read_text().splitlines()]
        method = "samiro" if "-samiro-" in folder.name else "baseline"
        curves["upstream" in folder.name, method] = [line["loss"] for line in lines if "loss" in line]
    for method in ("baseline", "samiro"):
        native, bridged = curves[False, method], curves[True, method]
        # The first step, half way, the last.
        assert len(native) == len(bridged) == 3
        assert np.allclose(native, bridged, rtol=1e-4)
    assert not np.allclose(curves[False, "baseline"], curves[False, "samiro"], rtol=2e-3)
