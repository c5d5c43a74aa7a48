"""The encoder-decoder transformer of set prediction: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020.

As in Vaswani et al., "Attention Is All You Need", with normalisation after every residual sum. What DETR adds: positions of the
tokens and of the queries are added to queries and keys of every attention, never to values. Facts of its layers come from
facebookresearch/detr (Apache-2.0), models/transformer.py and models/position_encoding.py.
"""

from __future__ import annotations

import itertools
import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

TEMPERATURE = 10_000.0
"""Ratio of the longest to the shortest wavelength of the sine positions (Vaswani et al., section 3.5)."""


def sine_positions(height: int, width: int, channels: int) -> Tensor:
    """Positions of a map's places, row by row: (height * width, channels), the first half for y, the other for x.

    A place's coordinate is its 1-based index as a share of the map's side, times 2 pi; sines and cosines of falling frequency
    alternate. `channels` is a multiple of 4.
    """
    rows, columns = (torch.arange(1, side + 1) / (side + 1e-6) * (2 * math.pi) for side in (height, width))
    return waves(rows, columns, channels)


def waves(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """The same of places at any coordinates, y (height,) and x (width,)."""
    quarter = channels // 4
    wavelengths = TEMPERATURE ** (torch.arange(quarter) * 2.0 / (channels // 2))

    def along(places: Tensor) -> Tensor:
        angles = places[:, None] / wavelengths
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)

    down, across = along(rows)[:, None].expand(-1, len(columns), -1), along(columns)[None].expand(len(rows), -1, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1)


class Attention(nn.MultiheadAttention):
    """Multi-head attention over (B, N, C) whose weights nobody asks for."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__(channels, heads, dropout=dropout, batch_first=True)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What each query gathers from the values: (B, N, C)."""
        with attention_kernels(query):
            gathered: Tensor = self(query, key, value, need_weights=False)[0]
        return gathered


def attention_kernels(query: Tensor) -> AbstractContextManager[None]:
    """Around attention: on a GPU, where deterministic algorithms are asked for, none but plain products of matrices.

    torch's fused kernels sum up the gradients of many keys in any order there, unless what isn't deterministic is an error
    (torch.use_deterministic_algorithms without `warn_only`).
    """
    plain = query.is_cuda and torch.are_deterministic_algorithms_enabled()
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


class FeedForward(nn.Module):
    """Two linear layers on every token by itself."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        output: Tensor = self.contract(self.dropout(F.relu(self.expand(tokens))))
        return output


class EncoderLayer(nn.Module):
    """Tokens look at each other."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(channels, heads, dropout)
        self.feed_forward = FeedForward(channels, hidden, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, N, C) and their positions (N, C) -> tokens (B, N, C)."""
        placed = tokens + positions
        tokens = self.norm1(tokens + self.dropout(self.self_attention.attend(placed, placed, tokens)))
        output: Tensor = self.norm2(tokens + self.dropout(self.feed_forward(tokens)))
        return output


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the encoder's tokens."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(channels, heads, dropout)
        self.cross_attention = Attention(channels, heads, dropout)
        self.feed_forward = FeedForward(channels, hidden, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, found: Tensor, queries: Tensor, memory: Tensor, placed_memory: Tensor) -> Tensor:
        """What was found so far (B, Q, C), queries (Q, C), the encoder's tokens without and with positions -> found (B, Q, C)."""
        asking = found + queries
        found = self.norm1(found + self.dropout(self.self_attention.attend(asking, asking, found)))
        found = self.norm2(found + self.dropout(self.cross_attention.attend(found + queries, placed_memory, memory)))
        output: Tensor = self.norm3(found + self.dropout(self.feed_forward(found)))
        return output


class Transformer(nn.Module):
    """Encoder and decoder; the normalisation after the decoder serves the output of each of its layers."""

    def __init__(
        self, channels: int, *, heads: int, encoder_layers: int, decoder_layers: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(EncoderLayer(channels, heads, hidden, dropout) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(channels, heads, hidden, dropout) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(channels)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor, positions: Tensor, queries: Tensor) -> Tensor:
        """Tokens (B, N, C), their positions (N, C) and queries (Q, C) -> what every decoder layer found (B, layers, Q, C)."""
        for layer in self.encoder:
            tokens = layer(tokens, positions)
        placed = tokens + positions
        found = torch.zeros_like(queries).expand(tokens.shape[0], -1, -1)
        stages = []
        for layer in self.decoder:
            found = layer(found, queries, tokens, placed)
            stages.append(self.norm(found))
        return torch.stack(stages, dim=1)


class MultilayerPerceptron(nn.Module):
    """Linear layers with a ReLU between each two; `sizes` runs from the input's channels to the output's."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, following) for channels, following in itertools.pairwise(sizes))

    def forward(self, features: Tensor) -> Tensor:
        """(..., first size) -> (..., last size)."""
        for layer in self.layers[:-1]:
            features = F.relu(layer(features))
        output: Tensor = self.layers[-1](features)
        return output
