"""Bridges: third-party code as it is, trained and scored beside our variant of it from the same weights."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils import _pytree as pytree

from detectors.base import tap_module
from detectors.checkpoints import import_checkpoint
from detectors.registry import TABLE, UPSTREAM, bridge_class, find_adapter
from detectors.upstream import checkouts
from detectors.upstream.bridge import NO_LICENCE, Bridge, PairedBridge
from detectors.upstream.isolation import cuda_is_here, running_on
from detectors.upstream.repositories import REPOSITORIES
from detectors.upstream.running import training_without_dropout
from harness.cli.main import main
from harness.conformance.bridges import PAGE as BRIDGES_PAGE
from harness.conformance.bridges import bridges_by_class, read_stand_ins
from harness.conformance.subject import Subject, subject_of
from harness.errors import InputError, InputWarning
from harness.inference.predict import Settings, predict
from harness.lanes import Lane
from harness.methods.samiro import TERM
from harness.parity.lanes import compared, point_distances
from harness.training.determinism import seed_everything
from harness.training.optimization import build_optimization

CHECKOUTS = os.environ.get(checkouts.VARIABLE)

needs_checkouts = pytest.mark.skipif(
    CHECKOUTS is None, reason=f"needs {checkouts.VARIABLE}, a folder of checkouts of upstream repositories"
)

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


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("clrnet_resnet18_upstream", "CLRNet"),
        ("clrernet_dla34_upstream", "CLRerNet"),
        ("clrkdnet_resnet18_upstream", "CLRKDNet"),
        ("laneatt_resnet122_upstream", "LaneATT"),
        ("lstr_resnet18s_upstream", "LSTR"),
        ("polarrcnn_resnet18_upstream", "PolarRCNN"),
        ("bezierlanenet_resnet18_upstream", "pytorch-auto-drive"),
        ("srlane_resnet18_upstream", "SRLane"),
        ("ufld_resnet18_upstream", "Ultra-Fast-Lane-Detection"),
        ("ufldv2_resnet18_upstream", "Ultra-Fast-Lane-Detection-v2"),
    ],
)
def test_without_a_checkout_a_bridge_is_refused_in_a_line(name, repository, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    with pytest.raises(
        InputError, match=rf"no checkout of {repository}: .*`samiro-bench detectors fetch {repository}`"
    ):
        find_adapter(name)


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_bridge_offers_the_names_that_are_registered_with_facts_of_its_repository(name):
    bridge = bridge_class(name)
    meta, repository = bridge.metas[name], REPOSITORIES[bridge.reference.repository]
    assert meta.name == name
    assert set(meta.configurations) <= set(bridge.reference.variants[name.removesuffix("_upstream")])
    assert (name.removesuffix("_upstream") in TABLE) == issubclass(bridge, PairedBridge)
    assert (meta.upstream, meta.commit) == (repository.url, repository.commit)
    assert meta.licence == (repository.licence or NO_LICENCE)


def test_listing_tells_third_party_code_without_a_checkout(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    assert main(["detectors", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["upstream"]}
    assert set(rows) == set(UPSTREAM)
    shown = rows["clrnet_resnet18_upstream"]
    assert shown["checkout"] == "none: samiro-bench detectors fetch CLRNet"
    assert (shown["family"], shown["year"], shown["licence"]) == ("anchor", 2022, "Apache-2.0")
    assert "Cross Layer Refinement" in shown["paper"]
    assert shown["parameters"] == {"culane": 11_774_387, "tusimple": 11_774_773, "llamas": 11_774_387}
    assert shown["parity"] == "differs as documented: culane, tusimple, llamas"
    assert rows["srlane_resnet18_upstream"]["parity"] is None
    for name in ("polarrcnn_resnet18_upstream", "srlane_resnet18_upstream"):
        assert "your own checkout only" in rows[name]["licence"]


def test_listing_says_that_the_variable_names_no_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path / "absent"))
    assert main(["detectors", "list", "--json"]) == 0
    told = {row["checkout"] for row in json.loads(capsys.readouterr().out)["upstream"]}
    assert told == {"none: SAMIRO_BENCH_UPSTREAM names no folder"}


def test_code_that_names_a_gpu_runs_where_its_input_is():
    tensor = torch.zeros(2)
    with cuda_is_here():
        assert tensor.cuda().device.type == "cpu"
        with running_on(torch.device("meta")):
            assert tensor.cuda().device.type == "meta"
        assert tensor.cuda(0).device.type == "cpu"


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


CLASHING = ("ufld_resnet18", "lstr_resnet18s", "ufldv2_resnet18", "laneatt_resnet122", "resa_resnet18")
"""Bridges to repositories that have `utils`, `model`, `models`, `lib`, `data` and `configs` among them, several of each."""


def state_of(checkout: Path) -> tuple[str, list[Path]]:
    """What git says of a checkout, and its files of byte code."""
    said = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(checkout), "status", "--porcelain", "--ignored"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return said, sorted(checkout.rglob("*.pyc"))


@pytest.mark.slow
@needs_checkouts
def test_bridges_whose_packages_have_the_same_names_run_in_one_process_in_either_order(tmp_path, monkeypatch):
    ours = {name: ModuleType(name) for name in ("utils", "model", "models", "lib", "libs", "data", "configs", "config")}
    for name, module in ours.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert CHECKOUTS is not None
    repositories = {bridge_class(f"{name}_upstream").reference.repository for name in CLASHING}
    before = {one: state_of(Path(CHECKOUTS) / one) for one in repositories}
    path, folder = list(sys.path), os.getcwd()
    seen: list[dict[str, Any]] = []
    for order in (CLASHING, CLASHING[::-1]):
        built = {}
        for name in order:
            adapter = find_adapter(f"{name}_upstream")
            seed_everything(0)
            built[name] = adapter.detector(adapter.meta, "tusimple").eval()
        outputs = {}
        with torch.no_grad():
            # In turns, when all are there.
            for name, detector in built.items():
                size = detector.configuration.input.network
                shown = torch.arange(3 * size[0] * size[1]).reshape(1, 3, *size).remainder(251).to(torch.uint8)
                outputs[name] = detector(shown)
                detector.decode(outputs[name], [detector.geometry_of(detector.configuration.input.frame)])
        seen.append(outputs)
        assert {name: sys.modules[name] for name in ours} == ours
        assert not [name for name in sys.modules if name.partition(".")[0] in ours and name not in ours]
        assert (list(sys.path), os.getcwd()) == (path, folder)
    for name in CLASHING:
        for one, other in zip(*(pytree.tree_leaves(outputs[name]) for outputs in seen), strict=True):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), name
    assert {one: state_of(Path(CHECKOUTS) / one) for one in repositories} == before


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
@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (
            "clrnet/models/necks/fpn.py",
            "its code can't be imported (No module named 'clrnet.models.necks.fpn'); restore",
        ),
        ("configs/clrnet/clr_resnet18_culane.py", "has no configs/clrnet/clr_resnet18_culane.py; restore the checkout"),
        ("clrnet/models/heads/clr_head.py", "has no clrnet/models/heads/clr_head.py; give a checkout"),
    ],
)
def test_a_checkout_that_lacks_a_file_is_told_in_a_line(gone, told, tmp_path, monkeypatch):
    assert CHECKOUTS is not None
    clone = ["git", "clone", "-q", "--shared", str(Path(CHECKOUTS) / "CLRNet"), str(tmp_path / "CLRNet")]
    subprocess.run(clone, check=True)
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    (tmp_path / "CLRNet" / gone).unlink()
    with pytest.warns(InputWarning, match="with local changes; CLRNet is known at"):
        adapter = find_adapter("clrnet_resnet18_upstream")
    with pytest.raises(InputError) as refused:
        adapter.detector(adapter.meta, "culane")
    assert told in str(refused.value)


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize(("added", "told"), [("raise OSError('mine')", "OSError: mine"), ("def (:", "SyntaxError: ")])
def test_changed_code_that_can_not_be_built_is_told_in_a_line(added, told, tmp_path, monkeypatch):
    assert CHECKOUTS is not None
    clone = ["git", "clone", "-q", "--shared", str(Path(CHECKOUTS) / "CLRNet"), str(tmp_path / "CLRNet")]
    subprocess.run(clone, check=True)
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    with (tmp_path / "CLRNet" / "clrnet" / "models" / "heads" / "clr_head.py").open("a") as stream:
        stream.write(f"\n{added}\n")
    with pytest.warns(InputWarning, match="with local changes; CLRNet is known at"):
        adapter = find_adapter("clrnet_resnet18_upstream")
    with pytest.raises(InputError, match=rf"its code can't be built \({told}.*\); check out 7269e9d1c1c6\w+, without"):
        adapter.detector(adapter.meta, "culane")


@pytest.mark.slow
@needs_checkouts
def test_what_is_missing_when_the_code_runs_is_told_in_a_line(tmp_path, monkeypatch):
    assert CHECKOUTS is not None
    clone = ["git", "clone", "-q", "--shared", str(Path(CHECKOUTS) / "CLRNet"), str(tmp_path / "CLRNet")]
    subprocess.run(clone, check=True)
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    file = tmp_path / "CLRNet" / "clrnet" / "datasets" / "culane.py"
    file.write_text(f"import a_missing_package\n{file.read_text()}")
    with pytest.warns(InputWarning, match="with local changes"):
        adapter = find_adapter("clrnet_resnet18_upstream")
    detector = adapter.detector(adapter.meta, "culane").eval()
    outputs = torch.zeros(1, 192, 78)
    outputs[..., 1], outputs[..., 5], outputs[..., 6:] = 9.0, 60 / 71, 0.3
    with pytest.raises(InputError, match="CLRNet: its code needs the package a_missing_package: install it, or name"):
        detector.decode(outputs, [detector.geometry_of((590, 1640))])


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
