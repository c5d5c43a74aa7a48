"""Procedural textures, made once a process from fixed seeds: noise tiles, cracks, facades, plants, road glyphs."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from harness.rendered.foliage import PLANT_KINDS, PLANT_TEXELS, plant_picture
from harness.rendered.kernels import FACADE_TEXELS, Bytes

TILE = 512
FACADE_KINDS = 12


def _spectral_noise(seed: int, exponent: float) -> Bytes:
    """A periodic tile whose spectrum falls with the given exponent; mean 128, standard deviation about 46."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(generator.standard_normal((TILE, TILE))) * frequency**-exponent
    spectrum[0, 0] = 0.0
    values = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return np.asarray(np.clip(128 + 46 * values / values.std(), 0, 255), np.uint8)


@lru_cache(maxsize=1)
def noise_tile() -> Bytes:
    """The grain of every surface."""
    return _spectral_noise(11, 0.75)


@lru_cache(maxsize=1)
def cloud_tile() -> Bytes:
    """The cover of clouds."""
    return _spectral_noise(12, 1.7)


AGGREGATE_LEVELS = 8


@lru_cache(maxsize=1)
def aggregate_tiles() -> Bytes:
    """The finest grain of asphalt, of tined concrete and of verges: (kind, level, along the road, across), mean 128.

    Level k is averaged over the footprint of a distant pixel of 2^k texels along the road, which is narrower across.
    """
    generator = np.random.default_rng(16)
    stones = generator.standard_normal((TILE, TILE))
    # Some are wider than a texel.
    stones += 0.5 * (np.roll(stones, 1, axis=0) + np.roll(stones, 1, axis=1))
    stones /= stones.std()
    # Single bright stones and open pores stand out.
    asphalt = stones + 0.25 * stones * np.abs(stones)
    grooves = np.cos(2 * np.pi * 171 * np.arange(TILE) / TILE) + 0.6 * generator.standard_normal(TILE)
    concrete = 0.9 * stones + 0.38 * grooves * (0.75 + 0.25 * _spectral_noise(17, 1.5) / 128.0)
    tufts = _spectral_noise(18, 0.35) / 46.0
    tiles = np.empty((3, AGGREGATE_LEVELS, TILE, TILE), np.uint8)
    for kind, fine in enumerate((asphalt, concrete, tufts)):
        values = 40.0 * (fine - fine.mean()) / fine.std()
        for level in range(AGGREGATE_LEVELS):
            footprint = (max(1, 2 ** (level // 2) // 2), 2**level)
            smooth = cv2.blur(np.tile(values, (2, 2)), footprint)[TILE // 2 : TILE * 3 // 2, TILE // 2 : TILE * 3 // 2]
            tiles[kind, level] = np.clip(np.round(128 + smooth), 0, 255)
    return tiles


@lru_cache(maxsize=1)
def crack_tile() -> Bytes:
    """Cracks and sealed joints: wandering dark lines, periodic."""
    generator = np.random.default_rng(13)
    tile = np.zeros((TILE, TILE), np.uint8)
    for _ in range(16):
        position = generator.uniform(0, TILE, 2)
        angle = generator.uniform(0, 2 * np.pi)
        points = [position.copy()]
        for _ in range(int(generator.integers(15, 60))):
            angle += generator.normal(0, 0.35)
            position = position + 9 * np.array([np.cos(angle), np.sin(angle)])
            points.append(position)
        line = np.array(points)
        thickness, shade = int(generator.integers(1, 3)), int(generator.integers(90, 255))
        for shift_y in (-TILE, 0, TILE):
            for shift_x in (-TILE, 0, TILE):
                moved = np.round((line + np.array([shift_x, shift_y])) * 8).astype(np.int32)
                cv2.polylines(tile, [moved], False, shade, thickness, cv2.LINE_AA, 3)
    return tile


@lru_cache(maxsize=1)
def glyphs() -> Bytes:
    """Direction arrows (kind, along, across): straight, left, right, straight or left, straight or right. Row 0 is
    the near end."""
    height, width, shift = 256, 96, 4
    drawn = []

    def polygon(image: Bytes, points: list[tuple[float, float]]) -> None:
        scaled = [[x * width * 2**shift, (1 - y) * height * 2**shift] for x, y in points]
        cv2.fillPoly(image, [np.round(scaled).astype(np.int32)], 255, cv2.LINE_AA, shift)

    straight = [(0.43, 0.0), (0.57, 0.0), (0.57, 0.62), (0.78, 0.62), (0.5, 1.0), (0.22, 0.62), (0.43, 0.62)]
    left = [
        (0.43, 0.0),
        (0.57, 0.0),
        (0.57, 0.62),
        (0.3, 0.74),
        (0.3, 0.86),
        (0.0, 0.68),
        (0.3, 0.48),
        (0.3, 0.6),
        (0.43, 0.52),
    ]
    right = [(1 - x, y) for x, y in left]
    stub = [(0.43, 0.22), (0.43, 0.36), (0.22, 0.44), (0.22, 0.54), (0.0, 0.42), (0.22, 0.26), (0.22, 0.34)]
    for shapes in ([straight], [left], [right], [straight, stub], [straight, [(1 - x, y) for x, y in stub]]):
        image = np.zeros((height, width), np.uint8)
        for shape in shapes:
            polygon(image, shape)
        drawn.append(image[::-1])
    return np.ascontiguousarray(np.stack(drawn))


@lru_cache(maxsize=1)
def facades() -> Bytes:
    """One bay of one storey: (kind, level, row from below, column, [wall tone / 200, pane cover]); kind 0 is a shop
    front."""
    generator = np.random.default_rng(14)
    size = FACADE_TEXELS * 2
    noise = noise_tile()
    atlas = np.zeros((FACADE_KINDS, 7, FACADE_TEXELS, FACADE_TEXELS, 2), np.uint8)
    for kind in range(FACADE_KINDS):
        wall = 188 + 0.22 * (noise[kind * 30 : kind * 30 + size, :size].astype(np.float32) - 128)
        pane = np.zeros((size, size), np.float32)
        if kind == 0:
            left, right, low, high = 6, size - 6, 8, 88
            wall[:8] *= 0.6
            pillars = [size // 2]
        else:
            ribbon = kind % 4 == 1
            curtain = kind % 4 == 2
            margin = 0 if ribbon else int(size * (0.03 if curtain else generator.uniform(0.12, 0.3)))
            left, right = margin, size - margin
            low = int(size * (0.05 if curtain else generator.uniform(0.22, 0.34)))
            high = int(size * (0.95 if curtain else generator.uniform(0.72, 0.88)))
            pillars = [size // 2] if generator.random() < 0.7 else [size // 3, 2 * size // 3]
            if kind % 3 == 0 and not curtain:
                wall[2:9] *= 0.72
                wall[9:14] *= 1.12
            if kind % 4 == 3:
                # A balcony: a parapet with its shade below the window.
                wall[low - 22 : low - 2, left - 8 : right + 8] *= 1.1
                wall[low - 26 : low - 22, left - 8 : right + 8] *= 0.55
        pane[low:high, left:right] = 1.0
        for pillar in pillars:
            pane[low:high, pillar - 2 : pillar + 2] = 0.0
        wall[low:high, left:right] *= 0.55
        wall[low - 4 : low, max(left - 4, 0) : right + 4] *= 1.15
        wall[high : high + 5, left:right] *= 0.6
        shade = np.linspace(1.0, 0.72, high - low)[:, None]
        pane[low:high] *= shade
        pane[high - 8 : high] *= 0.6
        tile = np.stack([np.clip(wall, 0, 255), pane * 255], axis=-1)
        for level in range(7):
            side = FACADE_TEXELS >> level
            atlas[kind, level, :side, :side] = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA).reshape(
                side, side, 2
            )
    return atlas


@lru_cache(maxsize=1)
def plants() -> Bytes:
    """Plants seen from the side: (kind, level, row, column, [cover, light from above, light from the left, bark]). The kinds
    are those of `foliage`."""
    atlas = np.zeros((PLANT_KINDS, 7, PLANT_TEXELS, PLANT_TEXELS, 4), np.uint8)
    for kind in range(PLANT_KINDS):
        picture = plant_picture(kind).astype(np.float32)
        weight = picture[..., :1] / 255.0
        picture[..., 1:] *= weight
        for level in range(7):
            side = PLANT_TEXELS >> level
            small = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.float32)
            cover = np.maximum(small[..., :1] / 255.0, 1e-3)
            small[..., 1:] /= cover
            atlas[kind, level, :side, :side] = np.clip(small, 0, 255)
    return atlas


@lru_cache(maxsize=1)
def plant_spans() -> npt.NDArray[np.int32]:
    """Where each row of `plants` has something: (kind, level, row, [first column, last column]); first > last where
    it has nothing."""
    cover = plants()[..., 0] > 4
    first = np.where(cover.any(axis=-1), cover.argmax(axis=-1), PLANT_TEXELS)
    last = np.where(cover.any(axis=-1), PLANT_TEXELS - 1 - cover[..., ::-1].argmax(axis=-1), -1)
    return np.ascontiguousarray(np.stack([first, last], axis=-1), np.int32)
