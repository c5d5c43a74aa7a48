"""Where the cells of a feature map lie in the image: measured by following the pixels' places through one forward.

Grids of different networks don't register. Cells of a ResNet are centred at s i pixels, those of a ConvNeXt or a ViT at
s i + (s-1)/2: up to 15.5 px apart at stride 32, and a 1x1 projection can't shift. Nobody has to declare this: every convolution,
pooling, padding and interpolation says how it moves the centres, and all other operations leave them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from harness.errors import InputError


@dataclass(frozen=True)
class Axis:
    """`count` cells along one axis, centred at `offset` + `stride` i; pixels of the network's input, pixel centres at integers."""

    count: int
    stride: float
    offset: float

    def scaled(self, scale: float) -> Axis:
        """The same cells in an image of which this axis' image is a copy resized by `scale`, outer edges onto outer edges."""
        return Axis(self.count, self.stride / scale, (self.offset + 0.5) / scale - 0.5)


@dataclass(frozen=True)
class Grid:
    """The cells of a feature map: `rows` along y, `columns` along x."""

    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return (self.rows.count, self.columns.count)

    def scaled(self, scale: float) -> Grid:
        """See `Axis.scaled`."""
        return Grid(self.rows.scaled(scale), self.columns.scaled(scale))


@dataclass(frozen=True)
class Lattice:
    """Strides and offsets of a tensor's cells, each as (y, x)."""

    stride: tuple[float, float]
    offset: tuple[float, float]

    def windowed(self, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Lattice:
        """After a convolution or pooling: output i is centred on inputs stride i - padding + dilation (kernel - 1) / 2."""
        kernels, steps, dilations = _pair(kernel), _pair(stride), _pair(dilation)
        spans = [d * (k - 1) for d, k in zip(dilations, kernels, strict=True)]
        if padding == "same":
            paddings = [span // 2 for span in spans]
        else:
            paddings = list(_pair(0 if padding == "valid" else padding))
        return self._moved(steps, [span / 2 - pad for span, pad in zip(spans, paddings, strict=True)])

    def padded(self, before: Sequence[int]) -> Lattice:
        """After `before` (y, x) cells were put in front."""
        return self._moved((1, 1), [-count for count in before])

    def sliced(self, starts: Sequence[int], steps: Sequence[int]) -> Lattice:
        """After every `steps`-th cell was taken, beginning with `starts` (y, x)."""
        return self._moved(steps, starts)

    def resized(self, ratio: Sequence[float]) -> Lattice:
        """After interpolation to 1 / ratio (y, x) of the cells, outer edges onto outer edges."""
        return self._moved(ratio, [(step - 1) / 2 for step in ratio])

    def aligned(self, ratio: Sequence[float]) -> Lattice:
        """After interpolation by which `ratio` (y, x) of a cell lies between neighbours, the corners' centres onto each other."""
        return self._moved(ratio, (0, 0))

    def _moved(self, steps: Sequence[float], shifts: Sequence[float]) -> Lattice:
        (stride_y, stride_x), (offset_y, offset_x) = self.stride, self.offset
        return Lattice(
            (stride_y * steps[0], stride_x * steps[1]),
            (offset_y + stride_y * shifts[0], offset_x + stride_x * shifts[1]),
        )


class PixelTracer(TorchFunctionMode):
    """While active, knows the lattice of every tensor that was computed from `images`."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The tensors are kept, so that no id is used twice.
        self._known: dict[int, tuple[Tensor, Lattice]] = {id(images): (images, Lattice((1, 1), (0, 0)))}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the function, then note where the cells of its results lie."""
        kwargs = dict(kwargs or {})
        before = self._coarsest((*args, *kwargs.values()))
        result = func(*args, **kwargs)
        if before is not None:
            rule = RULES.get(getattr(func, "__name__", ""))
            after = rule(before, result, args, kwargs) if rule else before
            for tensor in _tensors(result):
                self._known[id(tensor)] = (tensor, after)
        return result

    def lattice(self, tensor: Tensor) -> Lattice | None:
        """Where the cells of `tensor` lie; None if it wasn't computed from the images."""
        known = self._known.get(id(tensor))
        return known[1] if known else None

    def _coarsest(self, values: Any) -> Lattice | None:
        found = [self._known[id(tensor)][1] for tensor in _tensors(values) if id(tensor) in self._known]
        return max(found, key=lambda lattice: lattice.stride) if found else None


def merged(lattice: Lattice | None, shape: tuple[int, int], size: tuple[int, int]) -> Lattice | None:
    """The lattice of a map of `shape` in an image of `size` (both rows, columns), neighbours that a reshape merged taken together.

    Patch merging (Swin, Liu et al., ICCV 2021) puts k x k neighbouring cells into the channels of one, which lies at their centre. No
    operation that is followed shows that, but there are k times fewer cells than the trace has, along both axes.
    """
    if lattice is None or not all(lattice.stride):
        return lattice
    traced = [math.ceil(side / step) for side, step in zip(size, lattice.stride, strict=True)]
    factors = {round(count / there) for count, there in zip(traced, shape, strict=True)}
    factor = factors.pop()
    if factors or factor < 2 or [math.ceil(count / factor) for count in traced] != list(shape):
        return lattice
    return lattice.windowed(factor, factor, 0)


def grid_of(lattice: Lattice | None, shape: tuple[int, int], *, stride: int, name: str) -> Grid:
    """The grid of a feature map of `shape` whose cells were traced.

    Raises InputError where the trace is missing or contradicts the stated stride: then the features can't be registered.
    """
    if lattice is None or lattice.stride != (stride, stride):
        found = (
            "could not be traced" if lattice is None else f"lie {lattice.stride[0]:g} x {lattice.stride[1]:g} px apart"
        )
        raise InputError(
            f"{name}: states stride {stride}, but its cells {found}; mend the stated stride, or leave it out"
        )
    rows, columns = (
        Axis(count, step, offset) for count, step, offset in zip(shape, lattice.stride, lattice.offset, strict=True)
    )
    return Grid(rows, columns)


def _pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, int | float):
        return (value, value)
    sequence = tuple(value)
    return (sequence[0], sequence[-1])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


Rule = Callable[[Lattice, Any, tuple[Any, ...], dict[str, Any]], Lattice]


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any) -> Any:
    if name in kwargs:
        return kwargs[name]
    return args[place] if len(args) > place else default


def _convolution(before: Lattice, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lattice:
    kernel = tuple(_argument(args, kwargs, 1, "weight", None).shape[-2:])
    stride, padding, dilation = (
        _argument(args, kwargs, place, name, default)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    return before.windowed(kernel, stride, padding, dilation)


def _pooling(before: Lattice, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lattice:
    kernel = _argument(args, kwargs, 1, "kernel_size", 1)
    stride = _argument(args, kwargs, 2, "stride", None)
    dilation = _argument(args, kwargs, 4, "dilation", 1)
    # The fifth argument of an average pooling is ceil_mode.
    dilation = 1 if isinstance(dilation, bool) else dilation
    return before.windowed(kernel, stride or kernel, _argument(args, kwargs, 3, "padding", 0), dilation)


def _padding(before: Lattice, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lattice:
    counts = list(_argument(args, kwargs, 1, "pad", ()))
    return before.padded((counts[2] if len(counts) > 2 else 0, counts[0]))


def _interpolation(before: Lattice, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lattice:
    source = _argument(args, kwargs, 0, "input", None)
    sides = [*zip(source.shape[-2:], result.shape[-2:], strict=True)]
    if _argument(args, kwargs, 4, "align_corners", None):
        return before.aligned([(a - 1) / max(b - 1, 1) for a, b in sides])
    return before.resized([a / b for a, b in sides])


def _slicing(before: Lattice, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lattice:
    """Every k-th row and column, in whatever layout: the two slices that have a step."""
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    stepped = [part for part in index if isinstance(part, slice) and (part.step or 1) > 1]
    if len(stepped) != 2:
        return before
    starts, steps = [part.start or 0 for part in stepped], [part.step for part in stepped]
    return before.sliced(starts, steps)


RULES: dict[str, Rule] = {
    "conv2d": _convolution,
    "max_pool2d": _pooling,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "pad": _padding,
    "interpolate": _interpolation,
    "__getitem__": _slicing,
}
"""How the functions that move cells move them, by name; everything else leaves the cells where they are."""


def traced(forward: Callable[[Tensor], Any], images: Tensor) -> tuple[PixelTracer, Any]:
    """Run `forward` on images under a tracer; give the tracer and the result."""
    tracer = PixelTracer(images)
    with tracer:
        result = forward(images)
    return tracer, result


def blank_images(size: tuple[int, int], device: torch.device) -> Tensor:
    """One black uint8 RGB image (1, 3, H, W)."""
    return torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
