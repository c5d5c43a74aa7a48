"""Backbones that start from weights: what they take, what they leave alone, what they refuse. All weights are drawn here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detectors.backbone_sources import BACKBONES
from detectors.backbones import build_backbone, whole_network
from detectors.base import Detector
from detectors.clrernet import CLRerNet
from detectors.lstr import LSTR
from detectors.meta import DetectorMeta
from detectors.pretrained import Start, backbone_of, is_counter, start_backbone
from detectors.registry import TABLE, detector_class, detector_meta
from detectors.resa import RESA
from detectors.ufldv2 import UFLDv2
from harness.errors import InputError
from harness.pytorch.torchvision_guard import ensure_torchvision

FILE = Path("resnet.pth")

STARTED = [
    (name, form)
    for name in TABLE
    for form, configuration in detector_meta(name).configurations.items()
    if configuration.weights == "imagenet"
]
"""Every published configuration that starts from ImageNet."""


def drawn(model: str, seed: int = 7) -> dict[str, Tensor]:
    """The state dict of a whole timm network, classifier included, as a downloaded file would hold it."""
    ensure_torchvision()
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = timm.create_model(model).state_dict()
        # Statistics and scales of batch normalisation start as zeros and ones: make them tell as well.
        return {
            name: value if is_counter(name) else value + 0.1 * torch.rand_like(value) for name, value in state.items()
        }


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    return drawn("resnet18")


def small(meta: DetectorMeta, **architecture: object) -> DetectorMeta:
    """The published detector with a smaller head: its backbone is what matters here."""
    configurations = {
        form: configuration.model_copy(update={"architecture": configuration.architecture | architecture})
        for form, configuration in meta.configurations.items()
    }
    return meta.model_copy(update={"configurations": configurations})


def built(kind: type[Detector], name: str, seed: int = 3, **architecture: object) -> Detector:
    torch.manual_seed(seed)
    return kind(small(detector_meta(name), **architecture), "culane")


def test_recipes_start_where_upstream_does() -> None:
    # UFLDv2: model/model_culane.py and model_tusimple.py. pytorch-auto-drive: `pretrained` of configs/lane_detection/*/*.py.
    # CLRerNet: `pretrained` of configs/clrernet/base_clrernet.py.
    # UFLD: train.py asks `parsingNet` for pretrained weights. BézierLaneNet likewise. CLRNet: `pretrained` of
    # configs/clrnet/*.py. GANet, CondLaneNet: `pretrained` of configs/*/*.py. LaneATT: `pretrained_backbone` of its ResNets' cfgs.
    # PolyLaneNet: `pretrained` of cfgs/*.yaml.
    started = {name for name, _ in STARTED}
    for family, backbones in {
        "bezierlanenet": ("resnet18", "resnet34"),
        "clrernet": ("dla34", "dla34_ema"),
        "clrnet": ("convnext_tiny", "dla34", "resnet101", "resnet18", "resnet34"),
        "condlanenet": ("resnet101", "resnet18", "resnet34"),
        "ganet": ("resnet101", "resnet18", "resnet34"),
        "laneatt": ("resnet18", "resnet34"),
        "lstr": ("resnet34",),
        "polylanenet": ("efficientnet_b0", "efficientnet_b1", "resnet34", "resnet50"),
        "resa": ("resnet101", "resnet18", "resnet34"),
        "scnn": ("resnet101", "resnet18", "resnet34"),
        "ufld": ("resnet101", "resnet18", "resnet34"),
        "ufldv2": ("resnet18", "resnet34"),
    }.items():
        found = {name.partition("_")[2] for name in started if name.partition("_")[0] == family}
        assert found == set(backbones), family
        started -= {f"{family}_{backbone}" for backbone in backbones}
    assert not started


@cache
def published_shapes(backbone: str) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in whole_network(backbone).state_dict().items()}


@pytest.mark.parametrize(("name", "form"), STARTED)
def test_every_weight_of_the_backbone_is_in_the_published_network(name: str, form: str) -> None:
    meta = detector_meta(name)
    with torch.device("meta"):
        detector = detector_class(name)(meta, form)
    ours = {key: value.shape for key, value in backbone_of(detector).state_dict().items()}
    assert ours.items() <= published_shapes(meta.backbone).items()


@pytest.mark.parametrize("name", [name for name, source in BACKBONES.items() if source.imagenet])
def test_what_imagenet_stands_for_is_published_and_of_that_very_network(name: str) -> None:
    ensure_torchvision()
    import timm

    source = BACKBONES[name]
    assert source.imagenet in timm.list_pretrained()
    assert timm.get_pretrained_cfg(source.imagenet).architecture == source.model
    # What else a network is made with changes how it trains, and none of its weights.
    assert (source.options.keys() - {"drop_path_rate", "bn_momentum"}, source.plain_stem) == (set(), None)


@pytest.mark.parametrize(
    ("kind", "name", "architecture"),
    [(UFLDv2, "ufldv2_resnet18", {"hidden": 4}), (RESA, "resa_resnet18", {}), (LSTR, "lstr_resnet34", {})],
)
def test_a_started_backbone_has_the_weights_bit_for_bit_and_the_rest_is_drawn_as_without(
    kind: type[Detector], name: str, architecture: dict[str, object]
) -> None:
    tensors = drawn(BACKBONES[detector_meta(name).backbone].model)
    plain, started = built(kind, name, **architecture), built(kind, name, **architecture)
    before = torch.random.get_rng_state()
    start = start_backbone(started, tensors, where=FILE)
    assert torch.equal(torch.random.get_rng_state(), before)
    backbone = {key for key in started.state_dict() if key.startswith("backbone.") and not is_counter(key)}
    assert start.taken == len(backbone)
    assert start.taken + start.ignored == sum(not is_counter(key) for key in tensors)
    for key, value in started.state_dict().items():
        expected = tensors[key.removeprefix("backbone.")] if key in backbone else plain.state_dict()[key]
        assert torch.equal(value, expected), key
    assert any(not torch.equal(value, plain.state_dict()[key]) for key, value in started.state_dict().items())


def test_what_the_detector_leaves_out_is_ignored_and_counted(resnet18: dict[str, Tensor]) -> None:
    # RESA has no fourth stage: two blocks of two convolutions, a shortcut, and batch normalisation of four entries after each.
    assert start_backbone(built(RESA, "resa_resnet18"), resnet18, where=FILE).ignored == (4 + 1) * (1 + 4) + len(
        ("fc.weight", "fc.bias")
    )


def test_entries_that_no_output_depends_on_are_ignored_and_others_are_not() -> None:
    # The authors' file of DLA-34 has projections that timm's network hasn't.
    tensors = drawn("dla34")
    unused = {name: torch.zeros(3) for name in BACKBONES["dla34"].unused}
    detector = built(CLRerNet, "clrernet_dla34")
    start = start_backbone(detector, tensors | unused, where=FILE)
    assert start.ignored == 2 * 5 + len(("fc.weight", "fc.bias"))
    with pytest.raises(InputError, match=r"1 unknown: level2\.project\.2\.weight"):
        start_backbone(detector, tensors | {"level2.project.2.weight": torch.zeros(3)}, where=FILE)


def test_files_that_lack_the_count_of_batches_are_as_good(resnet18: dict[str, Tensor]) -> None:
    older = {name: value for name, value in resnet18.items() if not is_counter(name)}
    assert len(older) < len(resnet18)
    one, other = built(RESA, "resa_resnet18"), built(RESA, "resa_resnet18")
    assert start_backbone(one, older, where=FILE) == start_backbone(other, resnet18, where=FILE)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_a_backbone_of_its_own_size_starts_from_a_file_of_that_size() -> None:
    torch.manual_seed(11)
    tensors = build_backbone("resnet_micro").state_dict()
    torch.manual_seed(3)
    detector = UFLDv2(detector_meta("ufldv2_micro"), "culane")
    assert start_backbone(detector, tensors, where=FILE).ignored == 0
    assert torch.equal(detector.state_dict()["backbone.layer2.0.conv1.weight"], tensors["layer2.0.conv1.weight"])


def broken(resnet18: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    tensors = dict(resnet18)
    if how == "another shape":
        tensors["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    elif how == "not finite":
        tensors["layer1.0.bn1.running_var"] = torch.full((64,), torch.nan)
    elif how == "whole numbers":
        tensors["layer1.0.bn1.running_var"] = torch.ones(64, dtype=torch.int64)
    elif how == "incomplete":
        del tensors["layer2.0.downsample.0.weight"]
    elif how == "a deeper network":
        tensors = drawn("resnet34")
    elif how == "another network":
        tensors = drawn("dla34")
    return tensors


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("another shape", r"1 of another shape: conv1\.weight \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)"),
        ("not finite", r"'layer1\.0\.bn1\.running_var' doesn't hold finite"),
        ("whole numbers", r"'layer1\.0\.bn1\.running_var' doesn't hold finite"),
        ("incomplete", r"1 missing: layer2\.0\.downsample\.0\.weight"),
        # Every weight of a resnet18 has its namesake of the same shape in a resnet34.
        ("a deeper network", r"unknown: layer1\.2\."),
        ("another network", r"missing: conv1\.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_changed(
    resnet18: dict[str, Tensor], how: str, named: str
) -> None:
    detector = built(RESA, "resa_resnet18")
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    with pytest.raises(InputError, match=named) as raised:
        start_backbone(detector, broken(resnet18, how), where=FILE)
    assert str(FILE) in str(raised.value)
    assert "weights: none" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_an_adapter_without_the_submodule_is_told_how_to_name_it(resnet18: dict[str, Tensor]) -> None:
    class Elsewhere(RESA):
        backbone_path = "network.body"

    with pytest.raises(InputError, match=r"no submodule 'network.body'.*`backbone_path`"):
        start_backbone(built(Elsewhere, "resa_resnet18"), resnet18, where=FILE)


def test_an_adapter_with_a_network_of_its_own_takes_exactly_its_entries() -> None:
    class Own(RESA):
        backbone_path = "reduce"

    detector = built(Own, "resa_resnet18")
    own = detector.meta.model_copy(update={"backbone": "a network of its own"})
    detector.meta = own
    tensors = {name: value + 1 for name, value in detector.reduce.state_dict().items()}
    assert start_backbone(detector, tensors, where=FILE) == Start(5, 0)
    assert torch.equal(detector.reduce[0].weight, tensors["0.weight"])
    with pytest.raises(InputError, match=r"1 unknown: fc\.weight"):
        start_backbone(detector, tensors | {"fc.weight": torch.zeros(2)}, where=FILE)
