"""timm's networks as oracles: which of their features are taps, at what sizes they look, and their weights out of a state dict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import Tap
from detectors.checkpoints import refuse_not_finite
from detectors.meta import Normalisation
from detectors.pretrained import fitting_part
from detectors.timm_registry import timm_with
from harness.errors import InputError
from harness.methods.oracle import Oracle
from harness.methods.registration import Grid
from harness.pytorch.random_state import ORACLES, seed_apart

FINEST = 4
"""Stride of the finest tap of a network of several strides; stems at 1 and 2 are left out, as `features_only` of ResNets is used."""

QUARTERS = 4
"""Taps of a network of one stride, such as a ViT: after each quarter of its blocks, 2, 5, 8 and 11 of twelve."""

FIX = "give the weights of that network"


class TimmFeatures(nn.Module):
    """A network of timm's as one that gives the maps (B, D, H', W') of some of its stages, prefix tokens left out.

    patch: pixels of a token's side where the network is made of tokens of one size. Images are then padded below and on the right to
    whole tokens, with zeros, which is a colour near the data's mean. `indices` count `feature_info`, as timm does.
    """

    def __init__(self, network: nn.Module, indices: Sequence[int], patch: int | None) -> None:
        super().__init__()
        give: Any = network
        # As timm's own features_only does: what lies behind the last tap is taken off.
        self.indices = give.prune_intermediate_layers(list(indices), prune_norm=True, prune_head=True)
        self.network = network
        self.patch = patch

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) -> one map a tap."""
        if self.patch is not None:
            below, right = -images.shape[2] % self.patch, -images.shape[3] % self.patch
            if below or right:
                images = functional.pad(images, (0, right, 0, below))
        give: Any = self.network
        features: list[Tensor] = give.forward_intermediates(
            images, indices=self.indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return features


class TimmOracle(Oracle):
    """An oracle that is a network of timm's. It says which sizes it can't look at."""

    def __init__(self, name: str, backbone: TimmFeatures, taps: tuple[Tap, ...], normalisation: Normalisation) -> None:
        super().__init__(backbone, taps, normalisation)
        self.name = name

    def grids(self, size: tuple[int, int], scale: float = 1.0) -> tuple[Grid, ...]:
        """As of any oracle. InputError for a network that takes no images of that size, or whose cells can't be followed."""
        try:
            return super().grids(size, scale)
        except InputError as error:
            raise InputError(f"oracle {self.name!r} can't be registered: {error}; choose another model") from error
        except (AssertionError, RuntimeError, ValueError) as error:
            height, width = self.scaled_size(size, scale)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"oracle {self.name!r} can't look at images of {height} x {width} ({reason}): choose a model that takes any size, "
                "such as a ConvNeXt or a plain ViT"
            ) from error


def timm_oracle(name: str, tensors: Mapping[str, Tensor], *, where: Path) -> TimmOracle:
    """The oracle that is timm's network `name` with the weights of a state dict under timm's names.

    Every weight of what is used has to be there, in its shape; those of parts that are taken off (classifier, last normalisation)
    may be. where: the file that messages name. Raises InputError for an unknown network, and for weights that don't fit.
    """
    network = built(name)
    whole = set(network.state_dict())
    oracle = oracle_of(name, network)
    kept = fitting_part(network, whole, tensors, where=where, what=f"timm's {name}", fix=FIX)
    refuse_not_finite(kept, where=where, fix=FIX)
    network.load_state_dict(kept, strict=False)
    return oracle


def drawn_timm_oracle(name: str, seed: int) -> TimmOracle:
    """The same network with random weights of an oracle's `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_apart(seed, ORACLES))
        return oracle_of(name, built(name))


def oracle_of(name: str, network: nn.Module) -> TimmOracle:
    """A network as an oracle, with what timm says of its stages and its normalisation."""
    facts: Any = network
    stages = stages_of(facts.feature_info)
    indices = chosen(tuple(stride for _, _, stride in stages))
    strides = {stages[index][2] for index in indices}
    (patch,) = strides if len(strides) == 1 else (None,)
    taps = tuple(Tap(f"backbone.network.{stages[i][0]}", stages[i][1], stages[i][2]) for i in indices)
    configuration = facts.pretrained_cfg
    normalisation = Normalisation(mean=tuple(configuration["mean"]), std=tuple(configuration["std"]))
    return TimmOracle(name, TimmFeatures(network, indices, patch), taps, normalisation)


def built(name: str) -> nn.Module:
    """timm's network, with drawn weights and its classifier, that looks at any size if it can. InputError for an unknown one."""
    timm = timm_with(name)
    with torch.device("meta"):
        network: nn.Module = timm.create_model(name, pretrained=False)
    if not hasattr(network, "forward_intermediates"):
        raise InputError(f"oracle 'timm:{name}': timm gives no intermediate features of it: choose another model")
    offered = inspect.signature(type(network).__init__).parameters
    options: dict[str, bool] = {}
    if "dynamic_img_size" in offered:
        options["dynamic_img_size"] = True
    if "strict_img_size" in offered:
        options["strict_img_size"] = False
    network = timm.create_model(name, pretrained=False, **options)
    return network


def stages_of(information: Any) -> list[tuple[str, int, int]]:
    """(module, channels, stride) of everything that timm counts as a feature."""
    entries = information if isinstance(information, list) else information.info
    return [(str(entry["module"]), int(entry["num_chs"]), int(entry["reduction"])) for entry in entries]


def chosen(strides: Sequence[int]) -> tuple[int, ...]:
    """Which features are taps: of several strides the deepest of each from FINEST on, of one stride those after each quarter."""
    if len(set(strides)) == 1:
        count = len(strides)
        return tuple(sorted({max(0, count * quarter // QUARTERS - 1) for quarter in range(1, QUARTERS + 1)}))
    wanted = sorted({stride for stride in strides if stride >= FINEST})
    return tuple(max(index for index, stride in enumerate(strides) if stride == one) for one in wanted)
