"""Networks of timm's as oracles: their weights out of files, their taps, and where these lie in the image.

Weights are drawn and saved into a file, so that loading them is real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from detectors.base import normalise
from harness.errors import InputError
from harness.methods.timm_networks import TimmOracle, chosen, drawn_timm_oracle, timm_oracle
from harness.pytorch.torchvision_guard import ensure_torchvision

SIZES = ((128, 320), (320, 800), (360, 640))


def network(name: str, **options: Any) -> Any:
    """timm's network with weights that are drawn anew in every entry, so that none is left at a start of ones or zeros."""
    ensure_torchvision()
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        whole = timm.create_model(name, **options)
        for key, value in whole.state_dict().items():
            if "running_var" in key:
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.normal_(0, 0.05)
    return whole.eval()


def loaded(name: str, folder: Path) -> tuple[TimmOracle, Any]:
    whole = network(name)
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, path)
    return timm_oracle(name, load_file(path), where=path), whole


def images(*size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)


# (rows, columns) of the finest and the deepest tap at each of SIZES, and the stride and centre of the first cell of both.
FAMILIES: dict[str, tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], tuple[float, ...]]] = {
    "test_resnet": (((32, 80), (80, 200), (90, 160)), ((4, 10), (10, 25), (12, 20)), (4, 0.0, 32, 0.0)),
    "test_convnext2": (((32, 80), (80, 200), (90, 160)), ((4, 10), (10, 25), (11, 20)), (4, 1.5, 32, 15.5)),
    "convnextv2_atto.fcmae": (((32, 80), (80, 200), (90, 160)), ((4, 10), (10, 25), (11, 20)), (4, 1.5, 32, 15.5)),
    "test_vit": (((8, 20), (20, 50), (23, 40)), ((8, 20), (20, 50), (23, 40)), (16, 7.5, 16, 7.5)),
    "vit_tiny_patch16_224": (((8, 20), (20, 50), (23, 40)), ((8, 20), (20, 50), (23, 40)), (16, 7.5, 16, 7.5)),
    "swin_tiny_patch4_window7_224": (
        ((32, 80), (80, 200), (90, 160)),
        ((4, 10), (10, 25), (12, 20)),
        (4, 1.5, 32, 15.5),
    ),
    "eva02_tiny_patch14_224": (((10, 23), (23, 58), (26, 46)), ((10, 23), (23, 58), (26, 46)), (14, 6.5, 14, 6.5)),
}


LARGE = pytest.mark.slow
"""Networks as they are published; timm's own test networks are of the same classes and take a hundredth of the time."""


@pytest.mark.parametrize("name", [n if n.startswith("test_") else pytest.param(n, marks=LARGE) for n in FAMILIES])
def test_taps_lie_where_they_should_at_even_and_at_odd_sizes(name: str) -> None:
    oracle = drawn_timm_oracle(name, seed=0)
    finest, deepest, (first, first_centre, last, last_centre) = FAMILIES[name]
    for place, size in enumerate(SIZES):
        grids = oracle.grids(size)
        assert (grids[0].shape, grids[-1].shape) == (finest[place], deepest[place])
        for grid, stride, centre in ((grids[0], first, first_centre), (grids[-1], last, last_centre)):
            for axis in (grid.rows, grid.columns):
                assert (axis.stride, axis.offset) == (stride, centre)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext2", pytest.param("convnextv2_atto", marks=LARGE)])
def test_features_of_a_convnet_are_those_of_timms_features_only(name: str, tmp_path: Path) -> None:
    import timm

    oracle, whole = loaded(name, tmp_path)
    state = whole.state_dict()
    strides = [tap.stride for tap in oracle.taps]
    theirs = timm.create_model(
        name,
        pretrained=True,
        features_only=True,
        out_indices=(1, 2, 3, 4) if "resnet" in name else (0, 1, 2, 3),
        pretrained_cfg_overlay={"state_dict": state, "file": "", "url": "", "hf_hub_id": ""},
    ).eval()
    assert strides == theirs.feature_info.reduction() == [4, 8, 16, 32]
    seen = images(96, 160)
    with torch.no_grad():
        expected = theirs(normalise(seen, oracle.normalisation))
    for one, other in zip(oracle(seen), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("name", "padded", "blocks"),
    [
        ("test_vit", (112, 160), (0, 2, 3, 5)),
        pytest.param("vit_tiny_patch16_224", (112, 160), (2, 5, 8, 11), marks=LARGE),
        pytest.param("eva02_tiny_patch14_224", (112, 168), (2, 5, 8, 11), marks=LARGE),
    ],
)
def test_features_of_a_vit_are_those_of_timms_forward_intermediates(
    name: str, padded: tuple[int, int], blocks: tuple[int, ...], tmp_path: Path
) -> None:
    oracle, whole = loaded(name, tmp_path)
    assert [tap.path for tap in oracle.taps] == [f"backbone.network.blocks.{place}" for place in blocks]
    theirs = network(name, img_size=padded)
    state = whole.state_dict()
    # The position embedding is resampled by timm itself, as it does when weights of another size are loaded.
    from timm.layers import resample_abs_pos_embed

    if "pos_embed" in state and state["pos_embed"].shape != theirs.state_dict()["pos_embed"].shape:
        cells = [padded[axis] // oracle.taps[0].stride for axis in (0, 1)]
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], new_size=cells, num_prefix_tokens=1)
    theirs.load_state_dict(state)
    seen = images(100, 160)
    floats = normalise(seen, oracle.normalisation)
    below, right = padded[0] - 100, padded[1] - 160
    with torch.no_grad():
        expected = theirs.forward_intermediates(
            torch.nn.functional.pad(floats, (0, right, 0, below)), indices=list(blocks), intermediates_only=True
        )
    for one, other in zip(oracle(seen), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_prefix_tokens_are_no_cells(tmp_path: Path) -> None:
    oracle, _ = loaded("test_vit", tmp_path)
    assert [tuple(feature.shape) for feature in oracle(images(64, 96))] == [(2, 64, 4, 6)] * 4


def test_an_oracle_normalises_as_timm_says() -> None:
    # Not ImageNet's, which is what backbones of ours have.
    oracle = drawn_timm_oracle("test_vit", seed=0)
    assert (oracle.normalisation.mean, oracle.normalisation.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        expected = oracle.backbone(torch.full((1, 3, 32, 32), -1.0))
    for one, other in zip(oracle(black), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_taps_are_the_deepest_of_each_stride_or_after_each_quarter() -> None:
    assert chosen((2, 4, 8, 16, 32)) == (1, 2, 3, 4)
    assert chosen((4, 8, 16, 32)) == (0, 1, 2, 3)
    assert chosen((1, 2, 4, 8, 8, 16)) == (2, 4, 5)
    assert chosen((16,) * 12) == (2, 5, 8, 11)
    assert chosen((14,) * 24) == (5, 11, 17, 23)
    assert chosen((16,) * 2) == (0, 1)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        pytest.param("hiera_tiny_224", (128, 320), "can't look at images of 128 x 320", marks=LARGE),
        pytest.param("beit_base_patch16_224", (128, 320), "can't look at images of 128 x 320", marks=LARGE),
        pytest.param("dla34", (360, 640), "can't look at images of 360 x 640", marks=LARGE),
        ("test_vit_relpos", (128, 320), "can't look at images of 128 x 320"),
    ],
)
def test_networks_that_take_no_such_images_are_refused_in_a_line(name: str, size: tuple[int, int], said: str) -> None:
    oracle = drawn_timm_oracle(name, seed=0)
    with pytest.raises(InputError, match=said) as caught:
        oracle.grids(size)
    assert "\n" not in str(caught.value)
    assert "choose" in str(caught.value)


@LARGE
def test_a_network_that_merges_patches_by_a_reshape_is_registered() -> None:
    oracle = drawn_timm_oracle("swin_tiny_patch4_window7_224", seed=0)
    for grid, tap, feature in zip(
        oracle.grids((128, 320)), oracle.taps, oracle(torch.zeros(1, 3, 128, 320, dtype=torch.uint8)), strict=True
    ):
        assert (grid.columns.stride, grid.columns.offset) == (tap.stride, (tap.stride - 1) / 2)
        assert grid.shape == feature.shape[2:]


def test_every_weight_that_is_used_has_to_be_there(tmp_path: Path) -> None:
    whole = network("test_resnet")
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    path = tmp_path / "weights.safetensors"
    without_head = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert timm_oracle("test_resnet", without_head, where=path).taps[-1].channels == 96
    for changed, said in (
        ({key: value for key, value in state.items() if "layer3.0.conv1" not in key}, "missing: layer3.0.conv1.weight"),
        (state | {"layer1.0.conv1.weight": torch.zeros(3, 3)}, "of another shape"),
        (state | {"decoder.weight": torch.zeros(3)}, "unknown: decoder.weight"),
        (state | {"bn1.weight": torch.full_like(state["bn1.weight"], float("nan"))}, "finite"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            timm_oracle("test_resnet", changed, where=path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="doesn't fit timm's test_convnext"):
        timm_oracle("test_convnext", state, where=path)


def test_unknown_networks_get_a_suggestion_not_a_list_of_a_thousand() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet18'") as caught:
        drawn_timm_oracle("resnet19", seed=0)
    assert len(str(caught.value)) < 300
    with pytest.raises(InputError, match=r"did you mean 'resnet18\.tv_in1k'"):
        drawn_timm_oracle("resnet18.tv_in2k", seed=0)


def test_drawing_a_network_moves_no_global_generator() -> None:
    before = torch.get_rng_state()
    drawn_timm_oracle("test_resnet", seed=0)
    assert torch.equal(torch.get_rng_state(), before)
