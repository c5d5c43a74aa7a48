"""Reading a detector's intermediate features through forward hooks on its taps, whatever their layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detectors.base import Detector, Tap, tap_module
from harness.errors import InputError, did_you_mean
from harness.methods.registration import Grid, PixelTracer, blank_images, grid_of, merged


@dataclass(frozen=True)
class TapSelection:
    """The taps that a method uses, and those of a default list that it leaves out because nothing upstream of them trains."""

    used: tuple[Tap, ...]
    skipped: tuple[Tap, ...]


def select_taps(detector: Detector, paths: tuple[str, ...] | None) -> TapSelection:
    """The taps that are named, in the detector's order; without names all that train.

    Raises InputError for a name that isn't a tap and for a named tap that is frozen.
    """
    offered = detector.taps()
    name = detector.meta.name
    for tap in offered:
        try:
            tap_module(detector, tap)
        except AttributeError as error:
            raise InputError(f"detector {name!r}: {error}; mend the path in its taps()") from error
    if paths is None:
        used = tuple(tap for tap in offered if tap.trainable)
        if not used:
            raise InputError(f"detector {name!r}: no tap trains, so there is nothing to regularize: unfreeze a stage")
        return TapSelection(used, tuple(tap for tap in offered if not tap.trainable))
    known = {tap.path: tap for tap in offered}
    for path in paths:
        if path not in known:
            raise InputError(f"key 'taps': {name!r} has no tap {path!r}: {did_you_mean(path, list(known))}")
        if not known[path].trainable:
            raise InputError(
                f"key 'taps': tap {path!r} of {name!r} is frozen, nothing upstream of it trains: leave it out"
            )
    return TapSelection(tuple(tap for tap in offered if tap.path in paths), ())


def token_shape(tap: Tap, image_size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a tap's cells in an image of `image_size`; needed where tokens have to be laid out as a map."""
    return (image_size[0] // tap.stride, image_size[1] // tap.stride)


def as_map(output: Tensor, tap: Tap, shape: tuple[int, int]) -> Tensor:
    """A tap's output as (B, C, H, W), a view where that can be. `shape` is that of the cells, and is used for tokens only."""
    if tap.layout == "nchw":
        return output
    if tap.layout == "nhwc":
        return output.permute(0, 3, 1, 2)
    cells = output[:, tap.prefix_tokens :]
    if cells.shape[1] != shape[0] * shape[1]:
        raise InputError(
            f"tap {tap.path!r}: {cells.shape[1]} tokens don't lie on {shape[0]} x {shape[1]} cells: mend stride or "
            "prefix_tokens, or train at the configured input size"
        )
    # By `shape`, not `len`: an export keeps the batch open only where its size stays a symbol.
    return cells.transpose(1, 2).reshape(cells.shape[0], -1, *shape)


class Reader(nn.Module):
    """Keeps the output of one module during a forward that was announced, and nothing after it.

    While no forward is announced the hook does nothing, so that the detector may be used by itself.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.armed = False
        self.value: Tensor | None = None

    def arm(self) -> None:
        """Announce a forward."""
        self.armed, self.value = True, None

    def record(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Forward hook of the module that is read."""
        if not self.armed:
            return
        if not isinstance(output, Tensor):
            raise InputError(
                f"tap {self.name!r}: gives a {type(output).__name__}, not a tensor: name a module that gives one"
            )
        if self.value is not None:
            raise InputError(f"tap {self.name!r}: fired twice in one forward: name a module that is called once")
        self.value = output

    def take(self) -> Tensor:
        """What was read; raises InputError if the module was never called."""
        if self.value is None:
            raise InputError(f"tap {self.name!r}: never fired in a forward: name a module that is called once")
        return self.value

    def clear(self) -> None:
        """Forget, and wait for the next announcement."""
        self.armed, self.value = False, None


def read_by(reader: Reader, module: nn.Module) -> Reader:
    """Hook a reader to a module, before all other hooks: it sees the output before attention changes it."""
    module.register_forward_hook(reader.record, prepend=True)
    return reader


@contextmanager
def reading(readers: list[Reader]) -> Iterator[None]:
    """Announce one forward to all readers; they are cleared at the end, also after an error."""
    for reader in readers:
        reader.arm()
    try:
        yield
    finally:
        for reader in readers:
            reader.clear()


def tap_grids(detector: Detector, taps: tuple[Tap, ...]) -> tuple[Grid, ...]:
    """Where the cells of each tap lie in the network's input, found by one forward of a blank image in eval mode.

    Checks what taps state on the way: that each fires once, its channels, its stride, and that something upstream of it trains.
    Changes nothing in the detector, not even buffers that its forward writes to. Raises InputError.
    """
    size = detector.configuration.input.network
    images = blank_images(size, next(detector.parameters()).device)
    readers = [Reader(tap.path) for tap in taps]
    handles = [tap_module(detector, tap).register_forward_hook(r.record) for tap, r in zip(taps, readers, strict=True)]
    modes = {module: module.training for module in detector.modules()}
    buffers = {name: buffer.clone() for name, buffer in detector.named_buffers()}
    tracer = PixelTracer(images)
    try:
        with reading(readers), torch.enable_grad(), tracer:
            detector.eval()(images)
            outputs = [reader.take() for reader in readers]
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
        for name, buffer in detector.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
    return tuple(_checked(tap, output, tracer, size) for tap, output in zip(taps, outputs, strict=True))


def _checked(tap: Tap, output: Tensor, tracer: PixelTracer, size: tuple[int, int]) -> Grid:
    lattice = tracer.lattice(output)
    features = as_map(output, tap, token_shape(tap, size))
    if features.ndim != 4 or features.shape[1] != tap.channels:
        raise InputError(
            f"tap {tap.path!r}: states {tap.channels} channels, layout {tap.layout}, but gives {tuple(output.shape)}: mend taps()"
        )
    if not output.requires_grad:
        raise InputError(
            f"tap {tap.path!r}: states that it trains, but nothing upstream of it does: state trainable=False"
        )
    rows, columns = features.shape[2:]
    return grid_of(merged(lattice, (rows, columns), size), (rows, columns), stride=tap.stride, name=f"tap {tap.path!r}")
