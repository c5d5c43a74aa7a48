"""From developed light to the bytes of a camera: smooth outlines, colour, sharpening and noise."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from harness.rendered.compiled import compiled
from harness.rendered.kernels import Bytes, Floats
from harness.rendered.scene import Camera, Look

GRAIN_SHIFT = 128
SEARCH = 10
"""How far an outline's steps are followed, pixels either way."""


def expose(image: Bytes, solid: Floats, shown: Floats, camera: Camera, look: Look, shift: tuple[int, int]) -> Bytes:
    """The frame that a sensor makes of a developed one, uint8 (H, W, 3) BGR, which is overwritten: fresh pages cost more than the
    filters. `shift` says where the noise is taken from; solid, shown: see `smooth_edges`."""
    height, width = image.shape[:2]
    luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    smooth = image.copy()
    smooth_edges(image, luma, solid, shown, smooth)
    cv2.transform(smooth, _color_matrix(look), dst=image)
    lens = _lens(look.softness * camera.blur * max(width, height) / 1640, look.sharpening)
    cv2.sepFilter2D(image, -1, lens, lens, dst=smooth)
    add_noise(smooth, _grain(height, width), *shift, np.int32(round(camera.noise * 256 / 32)), image)
    return image


def _lens(sigma: float, sharpening: float) -> Floats:
    """The five weights, along a row or a column, of a soft lens (sigma in pixels, cut off at one) and the sharpening after it, which
    adds the difference from the mean over three pixels."""
    side = np.exp(-0.5 / max(sigma, 0.2) ** 2)
    soft = np.array([0.0, side, 1.0, side, 0.0]) / (1.0 + 2.0 * side)
    wide = np.convolve(soft[1:4], np.full(3, 1 / 3))
    return np.asarray(soft + sharpening * (soft - wide), np.float32)


def _color_matrix(look: Look) -> Floats:
    """Saturation about the luma, then the white balance's error."""
    luma = np.array([0.114, 0.587, 0.299])
    matrix = look.saturation * np.eye(3) + (1.0 - look.saturation) * luma[None, :]
    return np.asarray(matrix * np.array(look.tint)[:, None], np.float32)


@compiled()
def add_noise(image, grain, top, left, strength, out):  # type: ignore[no-untyped-def]
    """Add grain (mean 128, standard deviation 32), from row `top` and column `left` of it on, to bytes.

    By strength / 256 in mid grey, half as much again in black, half as much in white: an amplified sensor's noise after its tone curve.
    """
    height, width, _ = image.shape
    values, outs = image.reshape(height, 3 * width), out.reshape(height, 3 * width)
    for py in range(height):
        _add_row(values[py], grain[top + py, 3 * left : 3 * (left + width)], strength, outs[py])


@compiled()
def _add_row(values, grain, strength, out):  # type: ignore[no-untyped-def]
    """A row of `add_noise`. Apart, since the compiler turns it into vector instructions."""
    for k in range(values.shape[0]):
        value = np.int32(values[k])
        noise = (np.int32(grain[k]) - np.int32(128)) * strength * (np.int32(384) - value)
        out[k] = np.uint8(min(max(value + ((noise + np.int32(32768)) >> np.int32(16)), np.int32(0)), np.int32(255)))


@compiled(error_model="numpy")
def smooth_edges(image, luma, solid, shown, out):  # type: ignore[no-untyped-def]
    """Smooth the staircases of what stands on the road, after Lottes, "FXAA" (2009): the steps of an outline are followed along it, and
    each pixel takes of its neighbour across what a straight outline would cover.

    solid, shown: inverse depth (H, W) of what is built of triangles, 0 elsewhere, and of all that is seen. Triangles behind
    plants stay as they are, and so do pixels whose `solid` is that of all four neighbours: ground and sky.
    """
    height, width = luma.shape
    f32 = np.float32
    flat, pixels, outs = luma.reshape(-1), image.reshape(-1, 3), out.reshape(-1, 3)
    marked = np.zeros(width, np.uint8)
    for py in range(1, height - 1):
        _mark(luma[py - 1], luma[py], luma[py + 1], marked)
        _keep_outlines(solid[py - 1], solid[py], solid[py + 1], shown[py], marked)
        for px in range(1, width - 1):
            if not marked[px]:
                continue
            at = py * width + px
            m, n, s = np.int32(flat[at]), np.int32(flat[at - width]), np.int32(flat[at + width])
            w, e = np.int32(flat[at - 1]), np.int32(flat[at + 1])
            nw, ne = np.int32(flat[at - width - 1]), np.int32(flat[at - width + 1])
            sw, se = np.int32(flat[at + width - 1]), np.int32(flat[at + width + 1])
            level = abs(nw + sw - 2 * w) + 2 * abs(n + s - 2 * m) + abs(ne + se - 2 * e)
            upright = abs(nw + ne - 2 * n) + 2 * abs(w + e - 2 * m) + abs(sw + se - 2 * s)
            if level >= upright:
                along, across, before, after, behind, before_end = 1, width, n, s, px, width - 1 - px
            else:
                along, across, before, after, behind, before_end = width, 1, w, e, py, height - 1 - py
            steep = max(abs(before - m), abs(after - m))
            if abs(before - m) >= abs(after - m):
                across = -across
            both = m + np.int32(flat[at + across])
            back, back_change = _follow(flat, at, -along, across, min(behind, SEARCH), both, steep)
            ahead, ahead_change = _follow(flat, at, along, across, min(before_end, SEARCH), both, steep)
            nearest = back_change if back < ahead else ahead_change
            share = f32(0.0)
            if (2 * m - both < 0) != (nearest < 0):
                share = f32(0.5) - (f32(min(back, ahead)) - f32(0.5)) / f32(back + ahead - 1)
            # A speck or a line as thin as a pixel has no outline to follow.
            contrast = max(m, n, s, w, e) - min(m, n, s, w, e)
            around = f32(2 * (n + s + w + e) + nw + ne + sw + se) * f32(1.0 / 12.0)
            lone = min(abs(around - f32(m)) / f32(contrast), f32(1.0))
            lone = lone * lone * (f32(3.0) - f32(2.0) * lone)
            share = max(share, f32(0.6) * lone * lone)
            for c in range(3):
                here, there = f32(pixels[at, c]), f32(pixels[at + across, c])
                outs[at, c] = np.uint8(here + (there - here) * share + f32(0.5))


@compiled()
def _mark(above, middle, below, marked):  # type: ignore[no-untyped-def]
    """1 where a pixel and its four neighbours differ enough for an outline. Apart, like `_keep_outlines`, since the compiler turns it
    into vector instructions."""
    for k in range(middle.shape[0] - 2):
        m = middle[k + 1]
        most = max(max(max(middle[k], middle[k + 2]), max(above[k + 1], below[k + 1])), m)
        least = min(min(min(middle[k], middle[k + 2]), min(above[k + 1], below[k + 1])), m)
        marked[k + 1] = np.uint8(most - least) > max(np.uint8(10), most >> np.uint8(3))


@compiled()
def _keep_outlines(above, middle, below, shown, marked):  # type: ignore[no-untyped-def]
    """Unmark what `smooth_edges` leaves alone, by its depth."""
    for k in range(middle.shape[0] - 2):
        q = middle[k + 1]
        bend = abs(middle[k] + middle[k + 2] - q - q) + abs(above[k + 1] + below[k + 1] - q - q)
        edge = bend > q * np.float32(5e-4)
        seen = (q == np.float32(0.0)) | (q == shown[k + 1])
        marked[k + 1] &= np.uint8(edge & seen)


@compiled(inline="always")
def _follow(luma, at, step, across, most, both, steep):  # type: ignore[no-untyped-def]
    """How far an edge goes on in a direction, in pixels, and how the sum of its two sides has changed there."""
    change, count = np.int32(0), 0
    while count < most:
        count += 1
        at += step
        change = np.int32(luma[at]) + np.int32(luma[at + across]) - both
        if 2 * abs(change) >= steep:
            break
    return count, change


@lru_cache(maxsize=2)
def _grain(height: int, width: int) -> Bytes:
    """Noise of mean 128 and standard deviation 32, mostly common to the channels, with room to shift it about: channels side by side in
    each row."""
    generator = np.random.default_rng(15)
    luma = generator.standard_normal((height + GRAIN_SHIFT, width + GRAIN_SHIFT, 1), dtype=np.float32)
    chroma = generator.standard_normal((height + GRAIN_SHIFT, width + GRAIN_SHIFT, 3), dtype=np.float32)
    grain = np.clip(128 + 32 * (0.8 * luma + 0.6 * chroma), 0, 255).astype(np.uint8)
    return np.asarray(grain.reshape(height + GRAIN_SHIFT, -1), np.uint8)
