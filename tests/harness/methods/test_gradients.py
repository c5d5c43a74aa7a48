"""Gradients written by hand are those of their formulas, and the whole objective is that of docs/method.md."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.methods.attention import same_convolution
from harness.methods.normalization import _ChannelLayerNorm, normalized
from harness.methods.resample import Resampler, axis_matrix


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_channel_norms_gradient_is_that_of_its_formula() -> None:
    assert torch.autograd.gradcheck(_ChannelLayerNorm.apply, drawn(0, 2, 5, 2, 3).requires_grad_())


def test_the_gates_convolution_has_the_gradients_of_torchs() -> None:
    maps, weight = drawn(0, 2, 2, 9, 8).requires_grad_(), drawn(1, 1, 2, 7, 7).requires_grad_()
    assert torch.autograd.gradcheck(same_convolution, (maps, weight))
    torch.testing.assert_close(same_convolution(maps, weight), functional.conv2d(maps, weight, padding=3))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalisation_keeps_the_layout_and_is_torchs_layer_norm_in_both_directions(memory_format: Any) -> None:
    features = drawn(0, 2, 6, 4, 5, dtype=torch.float32).mul(3).add(1).contiguous(memory_format=memory_format)
    gradient = drawn(1, 2, 6, 4, 5, dtype=torch.float32)
    found = []
    for layer in (
        lambda x: normalized(x, "channel_layernorm"),
        lambda x: functional.layer_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2),
    ):
        x = features.clone().requires_grad_()
        y = layer(x)
        found.append((y.detach(), *torch.autograd.grad(y, x, gradient)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert normalized(features, "channel_layernorm").is_contiguous(memory_format=memory_format)


def objective(model: Any, batch: Any) -> Tensor:
    """L_MI as docs/method.md writes it, from the model's parameters, in double precision and one equation after the other."""
    detector, total = model.detector, torch.zeros((), dtype=torch.float64)
    outputs: dict[str, Tensor] = {}
    handles = [
        detector.get_submodule(tap.path).register_forward_hook(
            lambda module, inputs, output, path=tap.path: outputs.setdefault(path, output), prepend=True
        )
        for tap in model.taps.used
    ]
    detector(batch.images)
    for handle in handles:
        handle.remove()
    oracle_features = model.oracle(batch.images, model.oracle_scale)

    def layer_norm(x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()

    def moved(x: Tensor, resampler: Resampler) -> Tensor:
        if resampler.is_identity:
            return x
        return torch.einsum("ab,nkbd,cd->nkac", resampler.rows.double(), x, resampler.columns.double())

    attentions = model.gates if len(model.gates) else detector.spatial_attention.values()
    for tap, pair, index, attention in zip(
        model.taps.used, model.regularizer.pairs, model.regularizer.indices, attentions, strict=True
    ):
        z, o = outputs[tap.path].double(), oracle_features[index].double()
        pooled = torch.stack([z.mean(1), z.amax(1)], 1)
        gate = 2 * torch.sigmoid(functional.conv2d(pooled, attention.convolution.weight.double(), padding=3))
        weight, bias = pair.projection.weight.double(), pair.projection.bias.double()
        p = functional.conv2d(moved(gate * layer_norm(z), pair.student_resampler), weight, bias)
        t = moved(layer_norm(o), pair.oracle_resampler)[:, pair.kept]
        t = (t - pair.mean.double()) / pair.deviation.double()
        s = (functional.softplus(pair.raw_variance.double()) + 0.05).view(1, -1, 1, 1)
        total = total + 0.5 * ((p - t).square() / s + s.log()).mean()
    return total


@pytest.mark.parametrize(("scale", "site"), [(1.0, "stream"), (0.5, "stream"), (0.5, "regularizer")])
def test_the_whole_objective_and_its_gradients_are_the_equations(
    toy: ModuleType, attached: Callable[..., Any], scale: float, site: str
) -> None:
    model = attached("samiro", oracle="o", oracle_scale=scale, site=site)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.5, generator=generator)
            pair.projection.bias.normal_(0, 0.5, generator=generator)
            pair.raw_variance.normal_(0, 0.5, generator=generator)
        for attention in model.gates if site == "regularizer" else model.detector.spatial_attention.values():
            attention.convolution.weight.normal_(0, 0.05, generator=generator)
    batch = toy.batch()
    # In eval mode one forward gives the same features as another.
    model.eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    found = model.evidence(batch).mutual_information
    wanted = objective(model, batch)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    ours = torch.autograd.grad(found, parameters, allow_unused=True)
    theirs = torch.autograd.grad(wanted, parameters, allow_unused=True)
    reached = 0
    for name, one, other in zip(names, ours, theirs, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4 * float(other.abs().max()) + 1e-7, msg=name)
            reached += 1
    assert reached > 15


def test_resampling_is_its_two_matrices_in_any_layout(toy: ModuleType) -> None:
    from harness.methods.registration import Axis, Grid

    source, target = Grid(Axis(8, 4, 0.0), Axis(12, 4, 1.5)), Grid(Axis(4, 8, 3.5), Axis(6, 8, 3.5))
    resampler, x = Resampler(source, target), drawn(0, 2, 5, 8, 12, dtype=torch.float32)
    rows, columns = (torch.from_numpy(axis_matrix(getattr(source, a), getattr(target, a))) for a in ("rows", "columns"))
    wanted = torch.einsum("ab,nkbd,cd->nkac", rows, x.double(), columns).float()
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(resampler(x.contiguous(memory_format=layout)), wanted, rtol=1e-4, atol=1e-5)
