"""The regularizer: its loss, what its gradients reach, what it explains, and the normalisation and attention that it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import InputError
from harness.methods.attention import SpatialAttention
from harness.methods.config import method_configuration
from harness.methods.control_oracles import OwnStart
from harness.methods.normalization import fixed_attention, normalized
from harness.methods.pairing import TapPair, tap_pairs
from harness.methods.registration import Axis, Grid
from harness.methods.regularizer import PairRegularizer, PairTerms, Regularizer
from harness.methods.statistics import PairStatistics, target_statistics

Attached = Callable[..., Any]

GRID = Grid(Axis(4, 8, 0.0), Axis(6, 8, 0.0))


def make_pair(channels: int = 5, targets: int = 7) -> TapPair:
    from detectors.base import Tap

    return TapPair(Tap("a", channels, 8), GRID, 0, Tap("b", targets, 8), GRID)


def make_regularizer(
    statistics: PairStatistics | None, channels: int = 5, targets: int = 7, **options: Any
) -> PairRegularizer:
    kind = options.pop("kind", "samiro")
    configuration = method_configuration(kind, {"oracle": "o", **options})
    assert configuration.kind != "baseline"
    return PairRegularizer(make_pair(channels, targets), statistics, configuration)


def unit_statistics(targets: int = 7) -> PairStatistics:
    return PairStatistics("a", "b", torch.zeros(targets), torch.ones(targets))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_its_closed_form() -> None:
    mean, variance = drawn(1, 7), drawn(2, 7).abs() + 0.5
    regularizer = make_regularizer(PairStatistics("a", "b", mean, variance))
    weight, bias, raw = drawn(3, 7, 5), drawn(4, 7), drawn(5, 7)
    with torch.no_grad():
        regularizer.projection.weight.copy_(weight[:, :, None, None])
        regularizer.projection.bias.copy_(bias)
        regularizer.raw_variance.copy_(raw)
    z, gates, o = drawn(6, 2, 5, 4, 6), drawn(7, 2, 1, 4, 6).sigmoid() * 2, drawn(8, 2, 7, 4, 6)
    found = regularizer(z, gates, o).loss
    summed = 0.0
    for b in range(2):
        for y in range(4):
            for x in range(6):
                student = z[b, :, y, x].double()
                student = (
                    (student - student.mean()) / (student.var(correction=0) + 1e-5).sqrt() * gates[b, 0, y, x].double()
                )
                target = o[b, :, y, x].double()
                target = (target - target.mean()) / (target.var(correction=0) + 1e-5).sqrt()
                target = (target - mean.double()) / variance.double().sqrt()
                prediction = weight.double() @ student + bias.double()
                s = raw.double().exp().log1p() + 0.05
                summed += float(((prediction - target) ** 2 / s + s.log()).sum())
    assert found.item() == pytest.approx(0.5 * summed / (2 * 4 * 6 * 7), rel=1e-5)


def test_miros_published_loss_is_reproduced() -> None:
    # kakaobrain/miro, domainbed/algorithms/miro.py: ((mean - f)^2 / var + log var).mean() / 2, var = softplus(b) + 1e-5, start 0.1.
    regularizer = make_regularizer(None, channels=7, kind="miro", projection="identity")
    z, o = drawn(1, 3, 7, 4, 6), drawn(2, 3, 7, 4, 6)
    expected = 0.5 * ((z - o).square() / 0.1 + math.log(0.1)).mean()
    assert regularizer(z, None, o).loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert regularizer.variance().detach() == pytest.approx(torch.full((7,), 0.1))


def test_what_is_explained_under_weights_is_a_share_of_the_variance_under_the_same_weights() -> None:
    regularizer = make_regularizer(unit_statistics(), mi_attention="weight")
    z, o, gates = drawn(1, 2, 5, 4, 6), drawn(2, 2, 7, 4, 6), drawn(3, 2, 1, 4, 6).exp()
    # Where the gates are wide open, the target varies most.
    o = o * gates
    weights = gates / gates.mean((2, 3), keepdim=True)
    target = regularizer.target(o)
    mean = (weights * target).mean((0, 2, 3))
    with torch.no_grad():
        regularizer.projection.bias.copy_(mean)
    terms = regularizer(z, gates, o)
    variance = (weights * (target - mean[:, None, None]).square()).mean((0, 2, 3))
    assert terms.target_variance == pytest.approx(variance, rel=1e-4)
    # The best constant explains nothing.
    assert terms.explained() == pytest.approx(0.0, abs=1e-5)
    assert terms.mutual_information() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("option", "start"), [("unit", 1.0), ("fixed", 1.0), ("miro", 0.1)])
def test_the_variance_starts_where_it_says(option: str, start: float) -> None:
    regularizer = make_regularizer(unit_statistics(), variance=option)
    assert regularizer.variance().detach() == pytest.approx(torch.full((7,), start), rel=1e-5)
    assert (regularizer.raw_variance is None) == (option == "fixed")
    if option == "unit":
        with torch.no_grad():
            regularizer.raw_variance.fill_(-100.0)
        assert regularizer.variance().detach() == pytest.approx(torch.full((7,), 0.05))


def test_a_tap_begins_at_a_half_in_expectation(toy: ModuleType, attached: Attached) -> None:
    # On the images that the statistics were taken of it is exact: the mean squared standardised target is 1.
    configuration = method_configuration("samiro", {"oracle": "o"})
    model = attached("samiro", oracle="o")
    losses = []
    for seed in range(9):
        model(toy.batch(seed))
        losses.append([float(terms.loss) for terms in model.last])
    assert torch.tensor(losses).mean(0).tolist() == pytest.approx([0.5] * 3, abs=1e-4)
    assert configuration.variance == "unit"
    diagnostics = model.diagnostics()
    for path in ("stages.0", "stages.1", "stages.2"):
        # A batch's own mean predicts it a little better than the training set's.
        assert -0.1 < diagnostics[f"r2/{path}"] <= 0.0
        assert -0.1 < diagnostics[f"mi/{path}"] <= 0.0


@pytest.mark.parametrize("normalize", ["channel_layernorm", "l2", "batch_standardize", "none"])
@pytest.mark.parametrize(
    ("mi_attention", "site"), [("gate", "stream"), ("weight", "stream"), ("off", "stream"), ("gate", "regularizer")]
)
def test_gradients_reach_what_they_should_with_a_random_projection(
    toy: ModuleType, attached: Attached, normalize: str, mi_attention: str, site: str
) -> None:
    model = attached("samiro", oracle="o", normalize=normalize, mi_attention=mi_attention, site=site)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.5, generator=generator)
    information = model(toy.batch())["mutual_information"]
    information.backward()
    for pair in model.regularizer.pairs:
        for parameter in pair.parameters():
            assert float(parameter.grad.norm()) > 1e-6
    for stage in model.detector.stages:
        assert float(stage.convolution.weight.grad.norm()) > 1e-8
    gates = model.gates if site == "regularizer" else list(model.detector.spatial_attention.values())
    for place, gate in enumerate(gates):
        reaches = mi_attention == "gate" or place < 2  # through the later stages of the stream, in any case
        gradient = gate.convolution.weight.grad
        assert (gradient is not None and float(gradient.norm()) > 1e-8) == reaches


def test_at_a_zero_projection_only_projection_and_variance_get_a_gradient(toy: ModuleType, attached: Attached) -> None:
    model = attached("samiro", oracle="o")
    model(toy.batch())["mutual_information"].backward()
    reached = {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == {"regularizer"}


@pytest.mark.parametrize("kind", ["channel_layernorm", "l2"])
def test_gating_before_a_normalization_of_positions_is_void(kind: Any) -> None:
    # Why the gate stands behind N: a factor of a position is divided out again.
    z, o = drawn(1, 2, 8, 4, 6) * 3, drawn(2, 2, 7, 4, 6)
    projection = nn.Conv2d(8, 7, 1)
    with torch.no_grad():
        projection.weight.copy_(drawn(3, 7, 8, 1, 1))

    def gradient(before: bool) -> float:
        gates = torch.ones(2, 1, 4, 6, requires_grad=True)
        student = normalized(gates * z, kind) if before else gates * normalized(z, kind)
        loss = 0.5 * (projection(student) - o).square().mean()
        (found,) = torch.autograd.grad(loss, gates)
        return float(found.norm())

    assert gradient(before=False) > 0.1
    assert gradient(before=True) < 1e-4 * gradient(before=False)


def test_weighting_by_attention_follows_it_and_gives_it_no_gradient() -> None:
    regularizer = make_regularizer(unit_statistics(), mi_attention="weight")
    z, o = drawn(1, 2, 5, 4, 6), drawn(2, 2, 7, 4, 6)
    even = torch.full((2, 1, 4, 6), 1.7, requires_grad=True)
    assert regularizer(z, even, o).loss.item() == pytest.approx(regularizer(z, None, o).loss.item(), rel=1e-6)
    single = torch.zeros(2, 1, 4, 6)
    single[:, :, 1, 2] = 0.3
    target = normalized(o, "channel_layernorm")[:, :, 1, 2]
    assert regularizer(z, single, o).loss.item() == pytest.approx(0.5 * float(target.square().mean()), rel=1e-5)
    assert torch.autograd.grad(regularizer(z, even, o).loss, even, allow_unused=True) == (None,)


def test_everything_runs_in_float32_under_autocast(toy: ModuleType, attached: Attached) -> None:
    model = attached("samiro", oracle="o")
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(toy.batch())
    assert losses["mutual_information"].dtype == torch.float32
    assert all(terms.squared_error.dtype == torch.float32 for terms in model.last)
    losses["mutual_information"].backward()


def test_a_mixed_precision_around_it_changes_nothing_of_it() -> None:
    configuration = method_configuration("samiro", {"oracle": "o"})
    assert configuration.kind == "samiro"
    regularizer = Regularizer([make_pair()], [unit_statistics()], configuration)
    with torch.no_grad():
        regularizer.pairs[0].projection.weight.copy_(drawn(3, 7, 5, 1, 1))
    given = [drawn(1, 2, 5, 4, 6)], [drawn(2, 2, 1, 4, 6).exp()], [drawn(4, 2, 7, 4, 6)]
    plain, _ = regularizer(*given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = regularizer(*given)
    assert torch.equal(mixed, plain)


def test_constant_channels_of_the_target_are_dropped_and_counted(toy: ModuleType, attached: Attached) -> None:
    oracle = toy.oracle()
    with torch.no_grad():
        oracle.backbone.first.weight[:4] = 0
        oracle.backbone.first.weight[4:] *= 1e-6
        oracle.backbone.first.bias.copy_(torch.linspace(-1, 1, 10))
    # All of the first tap is constant but for rounding: nothing is left to predict.
    with pytest.raises(InputError, match="every channel is constant"):
        attached("samiro", teacher=oracle, oracle="o", normalize="l2", taps=("stages.0",))
    statistics = PairStatistics("a", "b", torch.zeros(7), torch.tensor([1, 1e-5, 1, 1, 0, 1, 1.0]))
    assert statistics.dropped == 2
    regularizer = make_regularizer(statistics)
    assert regularizer.dropped == 2
    assert regularizer.projection.out_channels == 5
    o = drawn(2, 2, 7, 4, 6)
    expected = normalized(o, "channel_layernorm")[:, [0, 2, 3, 5, 6]]
    torch.testing.assert_close(regularizer.target(o), expected)
    identity = make_regularizer(statistics, channels=7, projection="identity")
    same = identity(o, None, o)
    assert float(same.squared_error.sum()) == 0.0


def test_explained_variance_and_information_are_those_of_a_gaussian_channel() -> None:
    regularizer = make_regularizer(unit_statistics(), channels=7, projection="identity", normalize="none")
    o = drawn(1, 500, 7, 4, 6)
    noise = 0.5 * drawn(2, 500, 7, 4, 6)
    terms = regularizer(o + noise, None, o)
    # I = 1/2 log(signal / noise) nats at noise variance 1/4.
    assert terms.mutual_information() == pytest.approx(0.5 * math.log(4), abs=0.01)
    assert terms.explained() == pytest.approx(0.75, abs=0.01)


def test_gates_of_any_precision_weigh_in_single_precision() -> None:
    regularizer = make_regularizer(unit_statistics(), mi_attention="weight")
    gates = drawn(3, 2, 1, 4, 6).exp().bfloat16()
    wide = gates.double()
    expected = (wide / wide.mean((2, 3), keepdim=True)).float()
    torch.testing.assert_close(regularizer.weights(gates), expected, rtol=1e-6, atol=1e-6)


def test_what_is_explained_is_a_share_of_all_variance_and_information_a_mean_over_channels() -> None:
    # Errors of 1 and 3 in variances of 8 and 4.
    terms = PairTerms(torch.zeros(()), torch.tensor([1.0, 3.0]), torch.tensor([8.0, 4.0]))
    assert terms.explained() == pytest.approx(1 - 4 / 12)
    assert terms.mutual_information() == pytest.approx(-0.5 * (math.log(1 / 8) + math.log(3 / 4)) / 2)


def test_a_target_is_standardised_by_the_statistics_of_its_own_channels() -> None:
    mean, variance = torch.arange(7.0), torch.tensor([1.0, 0.0, 4.0, 9.0, 1e-5, 16.0, 25.0])
    regularizer = make_regularizer(PairStatistics("a", "b", mean, variance))
    o, kept = drawn(2, 2, 7, 4, 6), [0, 2, 3, 5, 6]
    plain = normalized(o, "channel_layernorm")[:, kept]
    expected = (plain - mean[kept].view(-1, 1, 1)) / variance[kept].sqrt().view(-1, 1, 1)
    torch.testing.assert_close(regularizer.target(o), expected)


def gated(features: Tensor) -> Tensor:
    """The channel norm of features times the mean of their amounts, as a share of that of the whole image."""
    strength = features.abs().mean(1, keepdim=True)
    normal = nn.functional.layer_norm(features.permute(0, 2, 3, 1), features.shape[1:2]).permute(0, 3, 1, 2)
    return normal * strength / strength.mean((1, 2, 3), keepdim=True)


def test_a_gated_target_counts_more_where_the_oracle_is_stronger_and_so_do_its_statistics(toy: ModuleType) -> None:
    o = drawn(2, 2, 7, 4, 6) + 1
    regularizer = make_regularizer(unit_statistics(), oracle_attention="fixed")
    torch.testing.assert_close(regularizer.target(o), gated(o), atol=1e-4, rtol=1e-4)
    # Its own start has the detector's grids: nothing is moved.
    detector = toy.detector()
    oracle, images = OwnStart(detector), [toy.batch(seed).images for seed in range(3)]
    configuration = method_configuration("samiro", {"oracle": "o", "oracle_attention": "fixed"})
    statistics = target_statistics(oracle, tap_pairs(detector, oracle, configuration), configuration, images)
    for place, one in enumerate(statistics.pairs):
        target = torch.cat([gated(oracle(batch)[place]) for batch in images])
        torch.testing.assert_close(one.mean, target.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(one.variance, target.var((0, 2, 3), correction=0), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("channel_layernorm", lambda x: nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)),
        ("l2", lambda x: nn.functional.normalize(x, dim=1) * math.sqrt(8)),
        ("batch_standardize", lambda x: nn.functional.batch_norm(x, None, None, training=True)),
        ("none", lambda x: x),
    ],
)
def test_normalizations_are_torchs(kind: Any, reference: Callable[[Tensor], Tensor]) -> None:
    features = drawn(1, 3, 8, 4, 6) * 2 + 1
    torch.testing.assert_close(normalized(features, kind), reference(features), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("channel_layernorm", lambda x: nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)),
        ("l2", lambda x: x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()),
        ("batch_standardize", lambda x: nn.functional.batch_norm(x, None, None, training=True)),
    ],
)
def test_features_without_contrast_are_not_blown_up_by_a_normalization(
    kind: Any, reference: Callable[[Tensor], Tensor]
) -> None:
    # At this size torch's epsilon is ten times their variance.
    faint = drawn(1, 3, 8, 4, 6) * 1e-3
    torch.testing.assert_close(normalized(faint, kind), reference(faint), atol=1e-6, rtol=1e-4)
    nothing = torch.zeros(3, 8, 4, 6)
    assert torch.equal(normalized(nothing, kind), nothing)


def test_fixed_attention_has_mean_one_in_each_image() -> None:
    gates = fixed_attention(drawn(1, 3, 8, 4, 6) * torch.tensor([1.0, 5.0, 0.1]).view(3, 1, 1, 1))
    assert gates.mean((1, 2, 3)) == pytest.approx(torch.ones(3))
    assert gates.shape == (3, 1, 4, 6)
    # Amounts of 1 and 3, and of 2 and 0.
    gates = fixed_attention(torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.0]]]]))
    assert gates.flatten().tolist() == pytest.approx([4 / 3, 2 / 3])
    # Where the oracle sees nothing at all, nothing counts.
    assert fixed_attention(torch.zeros(1, 2, 1, 2)).flatten().tolist() == [0.0, 0.0]


def test_a_plain_sigmoid_starts_near_a_half_and_two_sigmoid_at_one() -> None:
    features = drawn(1, 2, 8, 5, 6)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(SpatialAttention("2sigmoid", generator)(features), torch.ones(2, 1, 5, 6))
    plain = SpatialAttention("cbam", generator)(features)
    assert plain.mean().item() == pytest.approx(0.5, abs=0.15)
    again = SpatialAttention("cbam", torch.Generator().manual_seed(0))(features)
    assert torch.equal(plain, again)


def test_attention_is_the_convolution_of_mean_and_maximum() -> None:
    attention = SpatialAttention("2sigmoid", torch.Generator())
    with torch.no_grad():
        attention.convolution.weight.copy_(drawn(1, 1, 2, 7, 7))
    features = drawn(2, 1, 8, 9, 9)
    window = torch.stack([features[0].mean(0), features[0].amax(0)])[:, 1:8, 1:8]
    expected = 2 / (1 + math.exp(-float((window * drawn(1, 1, 2, 7, 7)[0]).sum())))
    assert float(attention(features)[0, 0, 4, 4].detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("layout", "scale"), [("nchw", 0.5), ("nhwc", 1.0), ("tokens", 1.0)])
def test_taps_of_any_layout_train_towards_an_oracle_of_any_scale(
    toy: ModuleType, attached: Attached, layout: str, scale: float
) -> None:
    model = attached("samiro", detector=toy.detector(layout=layout), oracle="o", oracle_scale=scale)
    optimizer = torch.optim.AdamW([p for group in model.parameter_groups() for p in group.parameters], 3e-3)
    batch = toy.batch()
    for _ in range(60):
        optimizer.zero_grad()
        losses = model(batch)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    diagnostics = model.diagnostics()
    assert all(diagnostics[f"r2/stages.{place}"] > 0.05 for place in range(3))


def test_pairs_are_of_equal_stride_else_the_nearest(toy: ModuleType) -> None:
    oracle, detector = toy.oracle(), toy.detector()
    by_stride = tap_pairs(detector, oracle, method_configuration("samiro", {"oracle": "o"}))
    assert [pair.index for pair in by_stride] == [0, 1, 1]
    by_depth = method_configuration("samiro", {"oracle": "o", "pair": "depth", "taps": ["stages.1", "stages.2"]})
    assert [pair.index for pair in tap_pairs(detector, oracle, by_depth)] == [0, 1]
