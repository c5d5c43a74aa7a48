from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from detectors.parts.transformer import MultilayerPerceptron, Transformer, sine_positions
from harness.training.determinism import deterministic


def small(dropout: float = 0.0, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(8, heads=2, encoder_layers=2, decoder_layers=3, hidden=12, dropout=dropout)


def test_positions_are_the_sines_and_cosines_of_the_paper() -> None:
    height, width, channels = 3, 5, 12
    positions = sine_positions(height, width, channels)
    assert positions.shape == (15, 12)
    for row in range(height):
        for column in range(width):
            expected = []
            for share in ((row + 1) / height, (column + 1) / width):
                for pair in range(channels // 4):
                    angle = 2 * math.pi * share / 10_000 ** (2 * pair / (channels / 2))
                    expected += [math.sin(angle), math.cos(angle)]
            assert positions[row * width + column].tolist() == pytest.approx(expected, abs=1e-5)


def by_torch(transformer: Transformer, tokens: torch.Tensor, queries: torch.Tensor) -> list[torch.Tensor]:
    """The same weights in torch's own layers, which know no positions: all of those are zero."""
    encoder = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
    decoder = nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True)
    names = {
        "self_attention": "self_attn",
        "cross_attention": "multihead_attn",
        "feed_forward.expand": "linear1",
        "feed_forward.contract": "linear2",
    }

    def copied(ours: nn.Module, theirs: nn.Module) -> nn.Module:
        state = ours.state_dict()
        for name, other in names.items():
            state = {key.replace(name, other): value for key, value in state.items()}
        theirs.load_state_dict(state, strict=True)
        return theirs

    for layer in transformer.encoder:
        tokens = copied(layer, encoder)(tokens)
    stages, found = [], torch.zeros_like(queries).expand(len(tokens), -1, -1)
    for layer in transformer.decoder:
        found = copied(layer, decoder)(found, tokens)
        stages.append(transformer.norm(found))
    return stages


def test_without_positions_the_layers_are_those_of_torch() -> None:
    transformer = small()
    tokens = torch.randn(2, 6, 8)
    nowhere, nobody = torch.zeros(6, 8), torch.zeros(4, 8)
    found = transformer(tokens, nowhere, nobody)
    assert found.shape == (2, 3, 4, 8)
    for stage, expected in zip(found.unbind(1), by_torch(transformer, tokens, nobody), strict=True):
        torch.testing.assert_close(stage, expected, atol=1e-5, rtol=1e-5)


def test_positions_and_queries_steer_where_attention_looks() -> None:
    transformer = small().eval()
    tokens, positions, queries = torch.randn(1, 6, 8), torch.randn(6, 8), torch.randn(4, 8)
    found = transformer(tokens, positions, queries)
    assert not torch.allclose(found, transformer(tokens, positions.roll(1, 0), queries))
    torch.testing.assert_close(found[:, :, [2, 0, 1, 3]], transformer(tokens, positions, queries[[2, 0, 1, 3]]))
    order = torch.randperm(6)
    torch.testing.assert_close(found, transformer(tokens[:, order], positions[order], queries))


def test_dropout_is_of_training_only() -> None:
    transformer = small(dropout=0.5)
    inputs = torch.randn(1, 6, 8), torch.randn(6, 8), torch.randn(4, 8)
    assert not torch.equal(transformer(*inputs), transformer(*inputs))
    transformer.eval()
    assert torch.equal(transformer(*inputs), transformer(*inputs))


def test_a_perceptron_has_no_activation_after_its_last_layer() -> None:
    torch.manual_seed(0)
    perceptron = MultilayerPerceptron(3, 5, 2)
    features = torch.randn(4, 3)
    first, last = perceptron.layers
    torch.testing.assert_close(perceptron(features), last(first(features).clamp(min=0)))
    assert (perceptron(features) < 0).any()


class Called(TorchDispatchMode):
    """Notes the operations that run within."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("on_gpu", "asked", "fused"), [(True, True, False), (True, False, True), (False, True, True)])
def test_a_training_on_a_gpu_has_no_fused_attention_whose_gradient_is_summed_up_in_any_order(
    monkeypatch: pytest.MonkeyPatch, on_gpu: bool, asked: bool, fused: bool
) -> None:
    # ATen/native/transformers/cuda/attention_backward.cu of PyTorch: where it is only warned of what isn't deterministic, the fused
    # kernels stay as they are. Tensors of the host stand in for those of a GPU, and their fused kernel for a GPU's.
    monkeypatch.setattr(torch.Tensor, "is_cuda", on_gpu)
    with deterministic(threads=torch.get_num_threads()), Called() as called:
        torch.use_deterministic_algorithms(asked, warn_only=True)
        small()(torch.zeros(1, 5, 8, requires_grad=True), torch.zeros(5, 8), torch.zeros(3, 8)).sum().backward()
    assert any("_scaled_dot_product_flash" in name for name in called.names) == fused
