"""The oracle: a frozen network whose features a detector's are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Tap, normalise
from detectors.meta import Normalisation
from harness.errors import InputError, mending
from harness.files.stored import sha256_of_file, write_text, written_aside
from harness.files.tensors import read_tensors, write_tensors
from harness.methods.card import OracleCard, card_path
from harness.methods.folding import channels_last_is_safe, folded
from harness.methods.registration import Grid, PixelTracer, blank_images, grid_of, merged
from harness.processes.faults import is_out_of_memory
from harness.pytorch.random_state import ORACLES, seed_apart


class Oracle(nn.Module):
    """A backbone that is frozen, always in eval mode, and normalises for itself.

    `taps` are its stages, in the order of what `forward` gives. `card` says where it comes from, None for one made in memory.
    """

    def __init__(
        self, backbone: nn.Module, taps: tuple[Tap, ...], normalisation: Normalisation, card: OracleCard | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps = taps
        self.normalisation = normalisation
        self.card = card
        self.channels_last = channels_last_is_safe(backbone)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode whatever is asked: its statistics are part of what it is."""
        return super().train(False)

    def forward(self, images: Tensor, scale: float = 1.0) -> tuple[Tensor, ...]:
        """uint8 RGB images (B, 3, H, W) -> one (B, D, H', W') a tap, without gradient, at `scale` times the resolution.

        Runs in the precision of the autocast around it.
        """
        with torch.no_grad():
            floats = normalise(images, self.normalisation)
            if scale != 1.0:
                floats = functional.interpolate(
                    floats, self.scaled_size(images.shape, scale), mode="bilinear", antialias=True
                )
            if floats.is_cuda or self.channels_last:
                floats = floats.contiguous(memory_format=torch.channels_last)
            return tuple(self.backbone(floats))

    def scaled_size(self, shape: tuple[int, ...], scale: float) -> tuple[int, int]:
        """The size at which images of `shape` (..., H, W) are looked at. InputError where it isn't a whole number of pixels."""
        height, width = shape[-2] * scale, shape[-1] * scale
        if height != round(height) or width != round(width):
            raise InputError(
                f"key 'oracle_scale': {scale} of {shape[-2]} x {shape[-1]} isn't a whole number of pixels: give one that is"
            )
        return round(height), round(width)

    def quickened(self, size: tuple[int, int], scale: float = 1.0) -> Self:
        """A copy that is equal but for rounding and runs faster; found on noise of `size` (height, width), of use for any images.

        One whose weights have no memory, as in a trial, is given back as it is.
        """
        device = next(self.parameters()).device
        if device.type == "meta":
            return self
        # Two images, for those oracles that need another one.
        noise = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return folded(self, lambda oracle: oracle(noise.to(device), scale))

    def partner(self, tap: Tap) -> int:
        """Which of the taps is compared with a detector's under `pair: stride`, by its number.

        That of equal stride, else of the nearest finer one, else of the nearest coarser one; of equals the deepest.
        """
        finer = [own.stride for own in self.taps if own.stride <= tap.stride]
        wanted = max(finer) if finer else min(own.stride for own in self.taps)
        return max(index for index, own in enumerate(self.taps) if own.stride == wanted)

    def grids(self, size: tuple[int, int], scale: float = 1.0) -> tuple[Grid, ...]:
        """Where the cells of each tap lie in an image of `size` (height, width) that is looked at at `scale`."""
        scaled = self.scaled_size(size, scale)
        images = blank_images(scaled, next(self.parameters()).device)
        tracer = PixelTracer(images)
        with tracer:
            features = self(images)
        for tap, feature in zip(self.taps, features, strict=True):
            if feature.ndim != 4 or feature.shape[1] != tap.channels:
                raise InputError(
                    f"oracle tap {tap.path!r}: states {tap.channels} channels, but gives features of shape "
                    f"{tuple(feature.shape)}: give the oracle that belongs to its taps"
                )
        return tuple(
            grid_of(merged(tracer.lattice(feature), (feature.shape[2], feature.shape[3]), scaled),
                    (feature.shape[2], feature.shape[3]), stride=tap.stride, name=f"oracle tap {tap.path!r}").scaled(scale)
            for tap, feature in zip(self.taps, features, strict=True)
        )  # fmt: skip


def drawn_backbone(name: str, seed: int) -> nn.Module:
    """A backbone with an oracle's random weights of `seed`, which no detector starts with; torch's global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_apart(seed, ORACLES))
        return build_backbone(name)


def oracle_taps(backbone: nn.Module) -> tuple[Tap, ...]:
    """A backbone's stages, under their names inside the oracle."""
    return backbone_taps(backbone, "backbone")


def save_oracle(backbone: nn.Module, card: OracleCard, path: Path) -> OracleCard:
    """Write weights to `path` (safetensors) and then the card, with the weights' sha256, beside it. Gives the card as written.

    Raises InputError where the disk is full.
    """
    try:
        with written_aside(path) as aside:
            write_tensors(
                {name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()}, aside
            )
    except OSError as error:
        raise InputError(
            f"{path}: can't be written ({' '.join(str(error).split())}): make room and run it again"
        ) from error
    card = card.model_copy(update={"sha256": sha256_of_file(path)})
    write_text(card_path(path), card.model_dump_json(indent=1) + "\n")
    return card


def load_oracle(path: Path) -> Oracle:
    """The oracle that `save_oracle` wrote. Raises InputError for files that are missing, damaged or don't belong together."""
    card = load_card(path)
    backbone = drawn_backbone(card.backbone, seed=0)
    try:
        backbone.load_state_dict(read_tensors(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason, what_to_do = " ".join(str(error).split())[:200], mending(error, "delete it, it is made anew")
        raise InputError(f"{path}: not the weights of {card.backbone!r} ({reason}): {what_to_do}") from error
    return Oracle(backbone, oracle_taps(backbone), card.normalisation, card)


def load_card(path: Path) -> OracleCard:
    """The card of the oracle at `path`, checked against the weights' sha256."""
    beside = card_path(path)
    try:
        card = OracleCard.model_validate_json(beside.read_bytes())
        found = sha256_of_file(path)
    except OSError as error:
        what_to_do = mending(error, "pre-train the oracle, or give the file of one")
        raise InputError(f"{error.filename}: {error.strerror}: {what_to_do}") from error
    except ValidationError as error:
        raise InputError(
            f"{beside}: not an oracle's card ({error.errors()[0]['msg']}): delete it, it is made anew"
        ) from error
    if card.sha256 != found:
        raise InputError(
            f"{path}: sha256 is {found[:12]}, but its card {beside.name} says {card.sha256[:12]}: give the file that the card is of, "
            "or delete both, then they are made anew"
        )
    return card
