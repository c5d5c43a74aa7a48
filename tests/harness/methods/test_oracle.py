from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from detectors.base import Tap
from detectors.meta import Normalisation
from detectors.registry import detector_class, detector_meta, detector_names
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.methods import oracle as module
from harness.methods.card import OracleCard, card_path
from harness.methods.oracle import Oracle, drawn_backbone, load_oracle, oracle_taps, save_oracle
from harness.methods.timm_networks import built, drawn_timm_oracle
from harness.processes.faults import fault_of
from harness.training.determinism import seed_everything


def make_card(**changes: object) -> OracleCard:
    values: dict[str, object] = {
        "name": "random:resnet_micro",
        "backbone": "resnet_micro",
        "configuration": {},
        "data": {},
        "seed": 0,
        "steps": 0,
        "threads": 1,
        "device": "cpu",
        "torch": "2",
        "seconds": 1.0,
        "normalisation": Normalisation(),
        "taps": (),
        "checks": {},
    }
    return OracleCard.model_validate(values | changes)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "oracle.safetensors"
    save_oracle(drawn_backbone("resnet_micro", 3), make_card(), path)
    return path


def test_an_oracle_comes_back_as_it_was_stored(stored: Path) -> None:
    state = torch.get_rng_state()
    oracle = load_oracle(stored)
    assert torch.equal(torch.get_rng_state(), state)
    backbone = drawn_backbone("resnet_micro", 3)
    before = Oracle(backbone, oracle_taps(backbone), Normalisation())
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    for one, other in zip(oracle(images), before(images), strict=True):
        assert torch.equal(one, other)
    assert oracle.card is not None
    assert oracle.card.sha256 == sha256_of_file(stored)
    assert [(tap.channels, tap.stride) for tap in oracle.taps] == [(16, 4), (32, 8), (64, 16), (128, 32)]


def test_an_oracle_is_frozen_in_eval_mode_and_normalises_for_itself(toy: ModuleType) -> None:
    oracle = toy.oracle().train()
    assert not any(module.training for module in oracle.modules())
    assert not any(parameter.requires_grad for parameter in oracle.parameters())
    images = toy.batch().images
    first = oracle(images)[0]
    assert not first.requires_grad
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(first, oracle.backbone((images / 255 - mean) / std)[0].detach())


def test_an_oracle_may_look_at_half_the_resolution(toy: ModuleType) -> None:
    oracle = toy.oracle()
    even = torch.randint(0, 256, (2, 3, 16, 32), dtype=torch.uint8)
    doubled = even.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert [tuple(feature.shape) for feature in oracle(doubled, 0.5)] == [(2, 10, 4, 8), (2, 14, 2, 4)]
    flat = torch.full((1, 3, 32, 64), 90, dtype=torch.uint8)
    torch.testing.assert_close(oracle(flat, 0.5)[0][:, :, 0, 0], oracle(flat)[0][:, :, 0, 0])


class Same(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]


def oracle_of(*strides: int) -> Oracle:
    """An oracle that gives its images, and says that it has taps of these strides."""
    taps = tuple(Tap(f"backbone.{place}", 3, stride) for place, stride in enumerate(strides))
    return Oracle(Same(), taps, Normalisation(mean=(0, 0, 0), std=(1, 1, 1)))


def test_at_half_the_resolution_every_pixel_counts_for_the_two_nearest_cells() -> None:
    images = torch.zeros(1, 3, 8, 32, dtype=torch.uint8)
    images[..., 10] = 240
    (halved,) = oracle_of(1)(images, 0.5)
    # A triangle of two cells to either side: cells 4 and 5 are centred at 8.5 and 10.5.
    expected = torch.zeros(16)
    expected[4:6] = 240 / 255 * torch.tensor([1 / 8, 3 / 8])
    torch.testing.assert_close(halved, expected.expand(1, 3, 4, 16))


@pytest.mark.parametrize("size", [(33, 64), (32, 65)])
def test_a_scale_leaves_a_whole_number_of_pixels_in_both_directions(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="'oracle_scale'"):
        oracle_of(1).scaled_size(size, 0.5)


@pytest.mark.parametrize(
    ("strides", "stride", "partner"),
    [
        ((4, 8, 16, 32), 8, 1),
        # Between two, the finer one; of equals the deepest.
        ((4, 16, 32), 8, 0),
        ((4, 8, 8, 16), 8, 2),
        # All are coarser: the nearest, wherever it is.
        ((8, 16, 32), 4, 0),
        ((32, 8, 16), 4, 1),
    ],
)
def test_a_tap_meets_the_oracles_of_its_stride_else_the_nearest_finer_else_the_nearest_coarser(
    strides: tuple[int, ...], stride: int, partner: int
) -> None:
    assert oracle_of(*strides).partner(Tap("stages.0", 8, stride)) == partner


def test_damaged_or_foreign_files_are_refused_in_one_line(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        load_oracle(tmp_path / "none.safetensors")
    content = stored.read_bytes()
    stored.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="sha256") as caught:
        load_oracle(stored)
    assert "\n" not in str(caught.value)
    card = card_path(stored)
    card.write_text("{}")
    with pytest.raises(InputError, match="not an oracle's card"):
        load_oracle(stored)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "oracle.safetensors"
    save_oracle(drawn_backbone("resnet_micro", 3), make_card(backbone="resnet18"), path)
    with pytest.raises(InputError, match="not the weights of 'resnet18'") as caught:
        load_oracle(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", ["sha256_of_file", "read_tensors"])
@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EACCES, "have whoever made it let you"), (errno.ESTALE, "it may be whole")]
)
def test_nobody_is_told_to_make_an_oracle_anew_that_the_system_withholds(
    stored: Path, monkeypatch: pytest.MonkeyPatch, reader: str, number: int, advice: str
) -> None:
    def withheld(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(module, reader, withheld)
    with pytest.raises(InputError, match=rf"{os.strerror(number)}.*: {advice}") as refused:
        load_oracle(stored)
    assert "pre-train" not in str(refused.value)
    assert "delete" not in str(refused.value)


def test_an_oracle_that_finds_no_room_in_memory_is_not_told_as_damaged(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise RuntimeError(f"unable to mmap 300000080 bytes from file <{path}>: Cannot allocate memory (12)")

    monkeypatch.setattr(module, "read_tensors", full)
    with pytest.raises(RuntimeError, match="unable to mmap") as raised:
        load_oracle(stored)
    assert fault_of(raised.value).kind == "infrastructure"


def test_seeds_draw_different_weights_and_equal_seeds_equal_ones() -> None:
    one, same, other = (drawn_backbone("resnet_micro", seed).state_dict()["conv1.0.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def filters(network: nn.Module) -> set[bytes]:
    """The weights of every convolution, as they lie in memory."""
    return {value.numpy().tobytes() for value in network.state_dict().values() if value.dim() == 4}


@pytest.mark.parametrize("name", [name for name in detector_names() if name.endswith("_micro")])
def test_an_oracle_begins_with_no_weights_that_a_detector_of_its_backbone_begins_with(name: str) -> None:
    """Features that an oracle shares with a detector from the start are no prior from outside, and only that seed would have them."""
    meta = detector_meta(name)
    oracles = [filters(drawn_backbone(meta.backbone, seed)) for seed in range(3)]
    for seed in range(5):
        seed_everything(seed)
        detector = filters(detector_class(name)(meta, next(iter(meta.configurations))))
        assert len(detector) > 5
        assert [seed for seed, oracle in enumerate(oracles) if oracle & detector] == []


def test_a_drawn_network_of_timm_begins_with_no_weights_that_torch_draws_from_its_seed() -> None:
    oracle = filters(drawn_timm_oracle("test_resnet", seed=0))
    torch.manual_seed(0)
    assert len(oracle) > 5
    assert not oracle & filters(built("test_resnet"))
