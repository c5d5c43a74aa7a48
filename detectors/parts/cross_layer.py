"""Cross-layer refinement of lane priors: Zheng et al., "CLRNet: Cross Layer Refinement Network for Lane Detection", CVPR 2022.

A prior is a straight line: it starts at (x, y) and rises at an angle. On the coarsest map of a pyramid features are read along every
prior, joined with what attention gathers from the whole map, and turned into a correction of the line, its length, a score, and an
offset on each row; the corrected line is the prior on the next finer map. Facts come from Turoad/CLRNet (Apache-2.0),
clrnet/models/heads/clr_head.py and clrnet/models/utils/roi_gather.py.

Upstream reads maps with a bilinear sampler and runs the convolution over a map's features again at every later stage. Here the reading
is a product with the weights of the places between which a prior passes, whose gradient is deterministic on a GPU too, and each of
those convolutions runs once. So its batch normalisation sees a batch once, not up to three times, which moves its running statistics
more slowly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.parts.sampling import linear_sampling

LINE, LENGTH = 3, 4
"""Numbers that the regression gives before the offsets: of the line alone, and with the length."""

KERNEL = 9
"""Length of the convolutions along a prior."""

HIDDEN_LAYERS = 2
"""Of the classification and of the regression (`num_fc`)."""

DROPOUT = 0.1

SMALL = 1e-3
"""Standard deviation of the last layers' first weights."""

ANGLE_OFFSET = 1e-5
"""Keeps a level line's tangent from zero."""


def initial_priors(count: int) -> Tensor:
    """The lines that learning starts from, (count, 3): y of the start as a share of the height from the bottom, x as one of the width,
    angle over pi, from level to the right counter-clockwise.

    An eighth starts on the left edge of the lower half, two angles from each place; three quarters at the bottom, four angles from
    each place; the rest on the right edge.
    """
    sides, bottom = count // 8, count * 3 // 4
    priors = torch.zeros(count, LINE)
    for index in range(count):
        if index < sides:
            priors[index] = torch.tensor([index // 2 * _step(sides), 0.0, (0.16, 0.32)[index % 2]])
        elif index < sides + bottom:
            place = (index - sides) // 4 + 1
            priors[index] = torch.tensor([0.0, place / (bottom // 4 + 1), 0.2 * (index % 4 + 1)])
        else:
            place = (index - sides - bottom) // 2
            priors[index] = torch.tensor([place * _step(sides), 1.0, (0.68, 0.84)[index % 2]])
    return priors


def sampled_rows(samples: int, rows: int) -> npt.NDArray[np.int64]:
    """Which of a prior's rows features are read on, from the bottom up."""
    # As upstream computes it: rounded otherwise, some places would be cut off to the row below.
    found: npt.NDArray[np.int64] = (torch.linspace(0, 1, samples, device="cpu") * (rows - 1)).long().numpy()
    return found


def _step(sides: int) -> float:
    return 0.5 / (sides // 2 - 1)


class ConvolutionBlock(nn.Module):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(self, channels: int, width: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(channels, width, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(width)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, width, H, W)."""
        return F.relu(self.bn(self.conv(features)))


class PerPrior(nn.Module):
    """A scale and a shift for each prior: a convolution grouped by priors, whose weights have the shapes of one."""

    def __init__(self, priors: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(priors, 1, 1).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(priors).uniform_(-1, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, C)."""
        return tokens * self.weight[:, 0] + self.bias[:, None]


class Gathering(nn.Module):
    """ROIGather: one token a prior, from the features along it on all maps so far and from the whole map that it is on.

    levels: number of maps. samples: places along a prior. grid: (height, width) to which a map is thinned out before attention.
    """

    def __init__(
        self, *, priors: int, levels: int, samples: int, channels: int, inner: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.grid = grid
        self.along = nn.ModuleList(ConvolutionBlock(channels, inner, (KERNEL, 1)) for _ in range(levels))
        self.joined = nn.ModuleList(
            ConvolutionBlock(inner * (level + 1), channels, (KERNEL, 1)) for level in range(levels)
        )
        self.token = nn.Linear(samples * channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.query, self.context = PerPrior(priors), PerPrior(priors)
        self.key = ConvolutionBlock(channels, channels, (1, 1))
        self.value = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(DROPOUT)
        # Attention starts without a say.
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)

    def forward(self, along: Sequence[Tensor], features: Tensor) -> Tensor:
        """What `along` gave for each map so far (B, inner, samples, P), the map (B, C, H, W) -> tokens (B, P, C)."""
        joined = self.joined[len(along) - 1](torch.cat(list(along), dim=1))
        tokens = F.relu(self.norm(self.token(joined.permute(0, 3, 1, 2).flatten(2))))
        keys = F.interpolate(self.key(features), size=self.grid, mode="nearest")
        # A convolution over single places can as well come after the thinning out.
        values = self.value(F.interpolate(features, size=self.grid, mode="nearest"))
        keys, values = (places.flatten(2).transpose(1, 2) for places in (keys, values))
        # Spelt out: torch's own attention has GPU kernels without a deterministic gradient, and no translation of 3D into ONNX.
        weights = (F.relu(self.query(tokens)) @ keys.transpose(1, 2) * keys.shape[-1] ** -0.5).softmax(dim=-1)
        found = weights @ values
        gathered: Tensor = tokens + self.dropout(self.context(found))
        return gathered


class CrossLayerRefinement(nn.Module):
    """Maps of a pyramid -> lanes, refined from the coarsest map to the finest.

    network: (height, width) of the image in pixels. sizes: (height, width) of the maps, coarsest first. rows: of a lane, spread evenly
    from the bottom of the image to its top.
    """

    def __init__(
        self,
        network: tuple[int, int],
        sizes: Sequence[tuple[int, int]],
        *,
        priors: int,
        rows: int,
        samples: int,
        channels: int,
        inner: int,
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.network = network
        self.priors = nn.Parameter(initial_priors(priors))
        self.gathering = Gathering(
            priors=priors, levels=len(sizes), samples=samples, channels=channels, inner=inner, grid=grid
        )
        self.classification = _hidden(channels)
        self.regression = _hidden(channels)
        self.logits = nn.Linear(channels, 2)
        self.changes = nn.Linear(channels, LENGTH + rows)
        for parameter in (*self.logits.parameters(), *self.changes.parameters()):
            nn.init.normal_(parameter, std=SMALL)
        self.register_buffer("heights", 1 - torch.linspace(1, 0, rows), persistent=False)
        # Places along a prior are some of the rows, and run from the top as rows of maps do.
        sampled = sampled_rows(samples, rows)[::-1]
        self.read_on(sampled, 1 - sampled / (rows - 1), [height for height, _ in sizes])

    def read_on(self, sampled: npt.NDArray[np.int64], depths: npt.NDArray[np.float64], heights: Sequence[int]) -> None:
        """Have maps of these `heights`, coarsest first, read on the rows `sampled` of a prior, at `depths`: shares of a map's rows - 1.

        Both (samples,), in the order in which features follow each other along a prior.
        """
        self.register_buffer("sampled", torch.from_numpy(sampled.copy()), persistent=False)
        for level, height in enumerate(heights):
            reading = linear_sampling(depths * (height - 1), height).contiguous()
            self.register_buffer(f"rows_{level}", reading, persistent=False)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H, W), finest first -> lanes (B, stages, P, 6 + rows) of every stage, the coarsest map's first.

        A lane is two logits (background, lane), y of its start as a share of the height from the bottom, x as a share of the width
        - 1, angle over pi, length as a share of the rows - 1, and x on each row from the bottom up, in such shares too.
        """
        batch = pyramid[0].shape[0]
        start = self.priors.expand(batch, -1, -1)
        line = self.line(self.priors).expand(batch, -1, -1)
        along: list[Tensor] = []
        stages: list[Tensor] = []
        for level, features in enumerate(reversed(pyramid)):
            read = self._read(level, features, line[..., self.get_buffer("sampled")])
            along.append(self.gathering.along[level](read))
            tokens = self.gathering(along, features)
            logits, changes = self.logits(self.classification(tokens)), self.changes(self.regression(tokens))
            start = start + changes[..., :LINE]
            line = self.line(start)
            places = line + changes[..., LENGTH:]
            stages.append(torch.cat([logits, start, changes[..., LINE:LENGTH], places], dim=-1))
            # A stage learns to correct the line before it, which learns nothing from that.
            start, line = start.detach(), line.detach()
        return torch.stack(stages, dim=1)

    def line(self, start: Tensor) -> Tensor:
        """Starts and angles (..., 3) -> x on each row (..., rows), as a share of the width - 1."""
        height, width = self.network
        y, x, angle = start.unsqueeze(-1).unbind(dim=-2)
        rise = (self.get_buffer("heights") - y) * height
        return x + rise / torch.tan(angle * math.pi + ANGLE_OFFSET) / (width - 1)

    def _read(self, level: int, features: Tensor, places: Tensor) -> Tensor:
        """A map (B, C, H, W), linearly at `places` (B, P, samples), x in shares of its columns - 1 -> (B, C, samples, P).

        Zero beyond its edges.
        """
        batch, channels, height, width = features.shape
        rows = self.get_buffer(f"rows_{level}")
        columns = torch.arange(width, device=features.device)
        near = 1 - (places.transpose(1, 2)[..., None] * (width - 1) - columns).abs()
        on_rows = rows.to(features.dtype) @ features.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
        found = near.clamp_min(0).to(features.dtype) @ on_rows.view(batch, -1, width, channels)
        return found.permute(0, 3, 1, 2)


def _hidden(channels: int) -> nn.Sequential:
    layers = [layer for _ in range(HIDDEN_LAYERS) for layer in (nn.Linear(channels, channels), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers)


class MaskDecoder(nn.Module):
    """The maps of a pyramid, enlarged to the finest and joined -> logits of a class a place; for training alone.

    Every class's share is found on each map before that is enlarged, which comes to the same.
    """

    def __init__(self, levels: int, channels: int, classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv = nn.Conv2d(channels * levels, classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H, W), finest first -> logits (B, classes, H, W) of the finest one's size."""
        size = pyramid[0].shape[-2:]
        weights = self.conv.weight.chunk(len(pyramid), dim=1)
        # Drawn at once for all maps, joined as they would be: the coarsest first.
        kept = self.dropout(pyramid[0].new_ones(len(pyramid[0]), self.conv.in_channels, 1, 1)).chunk(
            len(pyramid), dim=1
        )
        shares = [F.conv2d(m * k, w) for m, k, w in zip(reversed(pyramid), kept, weights, strict=True)]
        enlarged = [F.interpolate(share, size=size, mode="bilinear", align_corners=False) for share in shares]
        assert self.conv.bias is not None
        return torch.stack(enlarged).sum(dim=0) + self.conv.bias[:, None, None]
