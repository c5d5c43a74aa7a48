from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from detectors.base import Tap
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.waits import host_waits
from harness.errors import InputError
from harness.methods.assessment import effective_rank
from harness.methods.masked_image_model import (
    Decoder,
    MaskedImageModel,
    Visibility,
    VisibleBatchNorm2d,
    masked_encoder,
    random_visible,
    unit_normalised,
)
from harness.methods.oracle import drawn_backbone, oracle_taps


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model_on(backbone_name: str = "resnet_micro", unit: int = 32) -> MaskedImageModel:
    backbone = drawn_backbone(backbone_name, 0)
    return MaskedImageModel(backbone, oracle_taps(backbone), unit=unit, width=32, name=backbone_name)


def enlarged(visible: Tensor, factor: int) -> Tensor:
    return visible.repeat_interleave(factor, 1).repeat_interleave(factor, 2).unsqueeze(1)


@pytest.mark.parametrize("backbone", ["resnet_micro", "resnet18"])
@pytest.mark.parametrize("training", [True, False])
def test_hidden_pixels_do_not_reach_the_encoder(backbone: str, training: bool) -> None:
    model = model_on(backbone).train(training)
    visible = random_visible(2, (2, 4), 0.6, torch.Generator().manual_seed(1))
    images = drawn(1, 2, 3, 64, 128)
    changed = torch.where(enlarged(visible, 32), images, drawn(2, 2, 3, 64, 128))
    seen, other = model.features(images, visible), model.features(changed, visible)
    for first, second, stride in zip(seen, other, (4, 8, 16, 32), strict=True):
        assert torch.equal(first, second)
        hidden = ~enlarged(visible, 32 // stride).expand_as(first)
        assert float(first.detach()[hidden].abs().max()) == 0.0
    assert not torch.equal(model.features(images + 1, visible)[3], seen[3])


def test_a_single_visible_unit_sees_what_it_would_see_alone_on_black() -> None:
    # In eval mode masking is exact: a unit amid hidden ones equals the same unit in an image that is zero elsewhere and masked.
    model = model_on().eval()
    images = drawn(1, 1, 3, 96, 96)
    visible = torch.zeros(1, 3, 3, dtype=torch.bool)
    visible[0, 1, 1] = True
    alone = torch.zeros_like(images)
    alone[:, :, 32:64, 32:64] = images[:, :, 32:64, 32:64]
    for first, second in zip(model.features(images, visible), model.features(alone, visible), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_normalisation_is_that_of_the_visible_positions_alone(momentum: float | None) -> None:
    plain, replaced = nn.BatchNorm2d(6, momentum=momentum), nn.BatchNorm2d(6, momentum=momentum)
    for layer in (plain, replaced):
        with torch.no_grad():
            layer.weight.copy_(drawn(8, 6))
            layer.bias.copy_(drawn(9, 6))
    visibility = Visibility()
    visibility.show(torch.tensor([[[True, False, True]], [[False, True, True]]]))
    layer = VisibleBatchNorm2d(replaced, visibility)
    x = drawn(1, 2, 6, 4, 12) * 2 + 1
    mask = visibility.mask(x)
    masked = (x * mask).requires_grad_()
    output = layer(masked)
    # The visible positions, packed into one image, through torch's own layer.
    places = mask[:, 0].bool()
    packed = x.permute(0, 2, 3, 1)[places].T[None, :, :, None].contiguous().requires_grad_()
    expected = plain(packed)
    torch.testing.assert_close(output.permute(0, 2, 3, 1)[places], expected[0, :, :, 0].T)
    assert float(output.detach().permute(0, 2, 3, 1)[~places].abs().max()) == 0.0
    torch.testing.assert_close(replaced.running_mean, plain.running_mean)
    torch.testing.assert_close(replaced.running_var, plain.running_var)
    assert replaced.num_batches_tracked == plain.num_batches_tracked == 1
    upstream = drawn(2, 2, 6, 4, 12)
    (output * upstream).sum().backward()
    (expected[0, :, :, 0].T * upstream.permute(0, 2, 3, 1)[places]).sum().backward()
    torch.testing.assert_close(masked.grad.permute(0, 2, 3, 1)[places], packed.grad[0, :, :, 0].T, atol=1e-4, rtol=1e-4)
    assert float(masked.grad.permute(0, 2, 3, 1)[~places].abs().max()) == 0.0
    torch.testing.assert_close(replaced.weight.grad, plain.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(replaced.bias.grad, plain.bias.grad, atol=1e-4, rtol=1e-4)


def test_a_single_visible_position_has_no_variance_and_leaves_statistics_that_are_numbers() -> None:
    visibility, replaced = Visibility(), nn.BatchNorm2d(6)
    visibility.show(torch.tensor([[[False, True]]]))
    x = drawn(1, 1, 6, 1, 2)
    VisibleBatchNorm2d(replaced, visibility)(x * visibility.mask(x))
    torch.testing.assert_close(replaced.running_mean, 0.1 * x[0, :, 0, 1])
    # Nine tenths of the 1 that it began with, and nothing.
    torch.testing.assert_close(replaced.running_var, torch.full((6,), 0.9))


def test_with_everything_visible_the_encoder_is_the_plain_backbone() -> None:
    plain, masked = drawn_backbone("resnet_micro", 0), drawn_backbone("resnet_micro", 0)
    masked_encoder(masked, "resnet_micro")
    images = drawn(1, 2, 3, 64, 64)
    for first, second in zip(plain(images), masked(images), strict=True):
        assert torch.equal(first, second)
    state = plain.state_dict()
    assert list(state) == list(masked.state_dict())
    for name, value in masked.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_the_decoder_is_given_what_is_seen_and_a_taps_token_for_what_is_hidden() -> None:
    model = model_on().eval()
    given: list[Tensor] = []

    class Noting(nn.Module):
        def forward(self, features: list[Tensor]) -> Tensor:
            given.extend(features)
            return features[0]

    model.decoder = Noting()  # type: ignore[assignment]
    images, visible = drawn(1, 1, 3, 64, 64), torch.tensor([[[True, False], [False, True]]])
    with torch.no_grad():
        plain = model.backbone(images)
        model(images, visible)
        seen = model.features(images, visible)
        for stride, filled, feature, token in zip((4, 8, 16, 32), given, seen, model.tokens, strict=True):
            assert torch.equal(filled, torch.where(enlarged(visible, 32 // stride), feature, token))
            assert float(token.abs().min()) > 0
        # What was hidden from it is hidden no more.
        for one, other in zip(plain, model.backbone(images), strict=True):
            assert torch.equal(one, other)


def test_the_decoder_is_as_wide_as_asked_at_the_coarsest_stage_and_half_as_wide_at_each_finer_one() -> None:
    taps = [Tap(f"stage{stride}", 8, stride) for stride in (4, 8, 16, 32)]
    for width, widths in ((256, [32, 64, 128, 256]), (64, [16, 16, 32, 64])):
        assert [lateral.out_channels for lateral in Decoder(taps, width).laterals] == widths


def test_every_tap_is_trained() -> None:
    model = model_on()
    for module in model.modules():
        # timm starts the last normalisation of a block at zero, which stops the gradient of what stands before it.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    visible = random_visible(2, (2, 4), 0.6, torch.Generator().manual_seed(1))
    model.loss(drawn(1, 2, 3, 64, 128), visible).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_the_host_waits_for_nothing_in_a_step() -> None:
    visible = random_visible(2, (1, 2), 0.6, torch.Generator().manual_seed(1))
    with second_device():
        model = model_on().to(SECOND_DEVICE)
        images = drawn(1, 2, 3, 32, 64).to(SECOND_DEVICE)
        with host_waits() as found:
            model.loss(images, visible).backward()
    assert not found, found


def test_the_loss_is_of_hidden_units_alone_and_the_means_score_one() -> None:
    model = model_on(unit=64)
    images = drawn(1, 2, 3, 64, 128)
    visible = torch.tensor([[[True, False]], [[False, True]]])

    class Zero(nn.Module):
        def forward(self, features: list[Tensor]) -> Tensor:
            output = torch.zeros(2, 3, 64, 128)
            output[0, :, :, :64] = 1e3
            output[1, :, :, 64:] = 1e3
            return output

    model.decoder = Zero()  # type: ignore[assignment]
    assert float(model.loss(images, visible)) == pytest.approx(1.0, abs=1e-4)


def test_unit_normalised_pixels_have_mean_zero_and_variance_one_in_each_unit() -> None:
    images = drawn(1, 2, 3, 64, 96) * 4 + 2
    pixels, mean, deviation = unit_normalised(images, 32)
    for row in range(2):
        for column in range(3):
            unit = pixels[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            assert unit.mean((1, 2, 3)) == pytest.approx(torch.zeros(2), abs=1e-5)
            assert unit.var((1, 2, 3), correction=0) == pytest.approx(torch.ones(2), abs=1e-4)
    torch.testing.assert_close(pixels * deviation + mean, images)


@pytest.mark.parametrize(("ratio", "count"), [(0.6, 16), (0.01, 39), (0.99, 1)])
def test_masks_hide_a_fixed_share_and_never_all_or_nothing(ratio: float, count: int) -> None:
    visible = random_visible(50, (4, 10), ratio, torch.Generator().manual_seed(0))
    assert set(visible.flatten(1).sum(1).tolist()) == {count}
    assert len({tuple(mask.flatten().tolist()) for mask in visible}) > 1


def test_layers_that_would_leak_are_refused() -> None:
    with pytest.raises(InputError, match="GroupNorm"):
        masked_encoder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), "x")
    with pytest.raises(InputError, match="patch_unit"):
        MaskedImageModel(drawn_backbone("resnet_micro", 0), (Tap("a", 8, 32),), unit=16, width=16, name="x")


def test_units_that_do_not_divide_a_map_are_an_error() -> None:
    visibility = Visibility()
    visibility.show(torch.ones(1, 3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="don't divide"):
        visibility.mask(torch.zeros(1, 1, 8, 9))


def test_effective_rank_counts_independent_directions() -> None:
    independent = drawn(1, 64, 8, 16, 16)
    assert effective_rank(independent) == pytest.approx(8.0, abs=0.05)
    assert effective_rank(independent[:, :1].expand(-1, 8, -1, -1)) == pytest.approx(1.0, abs=1e-3)
    mixed = independent.clone()
    mixed[:, 4:] = mixed[:, :4]
    assert effective_rank(mixed) == pytest.approx(4.0, abs=0.05)
