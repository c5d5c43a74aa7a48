"""What befalls test images: fog, rain, motion blur, defocus, low light, compression and noise, each in severities from 1 to 5.

A corruption changes the whole frame, before any detector crops and resizes it, and no pixel moves: labels stay true. What it draws
comes from a seed of its own for each image, which the severity has no part in: a worse rain has the same drops, and more. Light is
added and scattered in linear intensities, as a lens and a sensor would; lengths are in shares of the frame's width, so that one
severity is the same sight at any size.

Severities go from slight to as bad as leaves a person able to follow the near lanes; they are this project's own (the idea of five of
them, and of means over them, is Hendrycks and Dietterich's, ICLR 2019).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from harness.datasets.images import Image

Light = npt.NDArray[np.float32]
"""Linear intensities, (H, W, 3) or (H, W), 1 where a sensor is saturated."""

SEVERITIES = (1, 2, 3, 4, 5)

GAMMA = 2.2
"""Of the stored pixels: intensity is (value / 255) ** GAMMA."""

CAMERA_HEIGHT = 1.5
"""Metres above the road, of a camera behind a windscreen."""

FOCAL = 0.9
"""Focal length in image widths: a horizontal field of view of 58 degrees, common in dash cameras."""

TALLEST = 12.0
"""Metres by which trees and houses beside the road rise above the camera: how near what is seen above the horizon may be."""

FARTHEST = 150.0
"""Metres at which something stands on the horizon."""

VISIBILITY = (300.0, 180.0, 110.0, 75.0, 50.0)
"""Metres at which fog leaves 5 % of a contrast: the meteorological definition of a range of sight. Below 1 km it is called fog."""

RAIN_VISIBILITY = (1500.0, 900.0, 600.0, 400.0, 280.0)
RAIN_DROPS = (0.25, 0.45, 0.65, 0.85, 1.0)
"""Share of a cloudburst's drops, in the air and on the windscreen."""

MOTION = (0.003, 0.006, 0.010, 0.015, 0.021)
"""Image widths that the camera sweeps over while the shutter is open."""

DEFOCUS = (0.0012, 0.0020, 0.0030, 0.0042, 0.0056)
"""Radius of the disc that a point becomes, in image widths."""

EXPOSURE = (0.40, 0.22, 0.12, 0.07, 0.045)
"""Share of the light that is left."""

QUALITY = (30, 18, 12, 8, 5)
"""Of a JPEG file, in the scale of libjpeg."""

NOISE = (0.03, 0.055, 0.085, 0.12, 0.16)
"""Standard deviation of additive noise, in the range of stored values."""

ELECTRONS = 4000.0
"""That saturate a pixel of a small sensor; their shot noise is what low light shows."""

READ_NOISE = 6.0
"""Standard deviation in electrons."""


def corrupted(image: Image, corruption: str, severity: int, *, key: str, horizon: float) -> Image:
    """A frame, uint8 RGB (H, W, 3), as it would look in a corruption of a severity from 1 to 5; the frame itself is left alone.

    key: names the image wherever it lies (`Frame.id`); equal keys draw equal weather. horizon: the row of the horizon as a share of the
    height. One machine gives the same bytes in every process. KeyError and IndexError for what there isn't.
    """
    if severity not in SEVERITIES:
        raise IndexError(f"severity is {severity}, not one of {SEVERITIES}")
    return CORRUPTIONS[corruption](image, severity - 1, drawing(corruption, key), horizon)


def drawing(corruption: str, key: str) -> np.random.Generator:
    """The generator of an image's corruption: of its own, whatever else is drawn."""
    digest = hashlib.sha256(f"{corruption}\0{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def fog(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """Fog in the air between road and camera: Koschmieder's law, with air as bright as the sky and not equally dense everywhere."""
    size = image.shape[:2]
    density = 1.0 + 0.25 * clouds(size, generator)
    return stored(misty(linear(image), distances(size, horizon) * density, VISIBILITY[level]))


def rain(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """Dim light, a veil of far rain, a wet road that mirrors, streaks of near drops, and drops on the windscreen."""
    size, share = image.shape[:2], RAIN_DROPS[level]
    light = overcast(linear(image), share)
    light = mirrored(light, 0.30 * share, horizon)
    light = misty(light, distances(size, horizon), RAIN_VISIBILITY[level])
    falling = streaks(size, share, generator)
    bright = np.float32(0.12) + skylight(light)
    light += (falling * np.float32(0.6))[..., None] * np.maximum(bright - light, 0.0)
    return stored(through_drops(light, share, generator))


def blur(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """The camera sweeps while the shutter is open: mostly sideways, as in a turn or on a rough road."""
    angle = math.radians(generator.normal(0.0, 25.0))
    return convolved(image, sweep(MOTION[level] * image.shape[1], angle))


def defocus(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """The lens is focused on something else, say on its own dirt: every point becomes a disc."""
    return convolved(image, disc(DEFOCUS[level] * image.shape[1]))


def low_light(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """Fewer photons: a dark frame, in which their number and the sensor's electronics make noise."""
    electrons = linear(image) * np.float32(EXPOSURE[level] * ELECTRONS)
    spread = np.sqrt(electrons + np.float32(READ_NOISE**2))
    electrons += spread * generator.standard_normal(image.shape, dtype=np.float32)
    return stored(electrons / np.float32(ELECTRONS))


def compression(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """JPEG at a quality at which blocks show."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY[level]])
    assert done
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def noise(image: Image, level: int, generator: np.random.Generator, horizon: float) -> Image:
    """Noise of a sensor at high gain: normal, of each pixel and channel by itself."""
    noisy = image + generator.standard_normal(image.shape, dtype=np.float32) * np.float32(255.0 * NOISE[level])
    return rounded(noisy)


Corruption = Callable[[Image, int, np.random.Generator, float], Image]

CORRUPTIONS: Mapping[str, Corruption] = {
    "fog": fog,
    "rain": rain,
    "blur": blur,
    "defocus": defocus,
    "low_light": low_light,
    "compression": compression,
    "noise": noise,
}
"""Name -> the function that corrupts an image at a level from 0 to 4."""


def linear(image: Image) -> Light:
    """Stored values -> linear intensities."""
    table = (np.arange(256) / 255.0) ** GAMMA
    return np.asarray(table.astype(np.float32)[image])


def stored(light: Light) -> Image:
    """Linear intensities -> stored values; what is brighter than white is white."""
    return rounded(255.0 * cv2.pow(np.clip(light, 0.0, 1.0), 1.0 / GAMMA))


def rounded(values: npt.NDArray[np.float32]) -> Image:
    """To whole values in 0..255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def convolved(image: Image, kernel: npt.NDArray[np.float32]) -> Image:
    """An image whose light is spread by a kernel of sum 1, so that lamps stay bright; edges are prolonged."""
    spread = cv2.filter2D(linear(image), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return stored(np.asarray(spread, dtype=np.float32))


def sweep(length: float, angle: float) -> npt.NDArray[np.float32]:
    """What a point becomes that moves evenly over `length` pixels at `angle` to the rows: (k, k) with odd k and sum 1."""
    reach = math.ceil(length / 2) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = np.abs(rows * math.cos(angle) - columns * math.sin(angle))
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0.0, 1.0) * np.clip(1.0 - across, 0.0, 1.0)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def disc(radius: float) -> npt.NDArray[np.float32]:
    """A disc with a soft edge of one pixel: (k, k) with odd k and sum 1."""
    reach = math.ceil(radius + 0.5)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(rows, columns), 0.0, 1.0)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def distances(size: tuple[int, int], horizon: float) -> Light:
    """How far away what is seen in each row is, in metres, (H, 1): below the horizon a level road, above it what rises beside it."""
    height, width = size
    below = np.arange(height) - horizon * height
    reach = np.where(below > 0, CAMERA_HEIGHT, TALLEST) * FOCAL * width
    return np.asarray(1.0 / np.hypot(below / reach, 1.0 / FARTHEST), dtype=np.float32)[:, None]


def misty(light: Light, metres: Light, visibility: float) -> Light:
    """Koschmieder's law: of each intensity exp(-beta d) is left, and the air's own light takes the place of the rest."""
    left = np.exp(metres * np.float32(math.log(0.05) / visibility))[..., None]
    return np.asarray(light * left + skylight(light) * (1.0 - left), dtype=np.float32)


def skylight(light: Light) -> Light:
    """The light of the air, (3,): nearly grey, and as bright as the brighter part of the frame's upper half."""
    upper = light[: max(1, light.shape[0] // 2) : 4, ::4].reshape(-1, 3)
    colour = np.percentile(upper, 85, axis=0)
    grey = colour.mean()
    return np.asarray(np.clip(0.7 * grey + 0.3 * colour, 0.03, 0.75), dtype=np.float32)


def clouds(size: tuple[int, int], generator: np.random.Generator) -> Light:
    """Smooth, wide patches in about -1..1, (H, W): three octaves, each wider than high."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(3):
        coarse = generator.uniform(-1.0, 1.0, (2 * 2**octave + 1, 3 * 2**octave + 1)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    return np.asarray(total / 1.75, dtype=np.float32)


def overcast(light: Light, share: float) -> Light:
    """Under a thick cover of clouds: dimmer, and paler in colour."""
    grey = light.mean(axis=2, keepdims=True)
    return np.asarray((light + (grey - light) * np.float32(0.7 * share)) * np.float32(1.0 - 0.35 * share))


def mirrored(light: Light, share: float, horizon: float) -> Light:
    """A wet road: what stands above the horizon is seen in the road below it, blurred upwards and downwards, the flatter the more."""
    height, width = light.shape[:2]
    if height < 2:
        return light.copy()  # a single row has no road below a horizon
    line = min(max(round(horizon * height), 1), height - 1)
    depth = height - line
    above = light[max(0, line - depth) : line][::-1]
    smeared = cv2.blur(cv2.resize(above, (max(1, width // 4), max(1, depth // 8))), (5, 5))
    reflection = cv2.resize(smeared, (width, depth), interpolation=cv2.INTER_LINEAR)
    # Fresnel: far away the eye meets the road at a flat angle, and the mirror is better.
    weight = np.linspace(1.0, 0.25, depth, dtype=np.float32)[:, None, None] * np.float32(share)
    wet = light.copy()
    wet[line:] = light[line:] * (1.0 - weight) + reflection * weight
    return wet


def streaks(size: tuple[int, int], share: float, generator: np.random.Generator) -> Light:
    """How much of the light behind is hidden by falling drops, 0..1, (H, W): three depths, near ones longer, thicker and rarer."""
    height, width = size
    slant = math.radians(generator.normal(0.0, 8.0))
    seen = np.zeros(size, np.float32)
    for drops, length, thickness, strength in ((900, 0.012, 0.7, 0.5), (350, 0.028, 1.1, 0.7), (90, 0.055, 1.8, 0.8)):
        layer = np.zeros(size, np.float32)
        places = generator.random((drops, 4))[: round(drops * share)]
        # The brightest last: where two cross, the brighter one is seen.
        for x, y, longer, brighter in places[np.argsort(places[:, 3])]:
            half = length * width * (0.6 + 0.8 * longer) / 2
            tilt = slant + 0.04 * (brighter - 0.5)
            start = (x * width - half * math.sin(tilt), y * height - half * math.cos(tilt))
            stop = (x * width + half * math.sin(tilt), y * height + half * math.cos(tilt))
            ends = [tuple(round(16 * value) for value in end) for end in (start, stop)]
            thick = max(1, round(thickness * width / 1640))
            cv2.line(layer, ends[0], ends[1], 0.4 + 0.6 * brighter, thick, cv2.LINE_8, 4)
        spread = max(0.4, thickness * width / 1640 * 0.7)
        soft = np.asarray(cv2.GaussianBlur(layer, (0, 0), spread), dtype=np.float32)
        seen = np.maximum(seen, soft * np.float32(strength))
    return np.minimum(seen, 1.0)


def through_drops(light: Light, share: float, generator: np.random.Generator) -> Light:
    """Drops on the windscreen: each shows the scene upside down, small and out of focus, with a bright lower and a dark upper rim."""
    height, width = light.shape[:2]
    blurred = cv2.blur(cv2.resize(light, (max(1, width // 8), max(1, height // 8))), (7, 7))
    turned = cv2.resize(blurred[::-1, ::-1], (width, height), interpolation=cv2.INTER_LINEAR)
    places = generator.random((70, 4))
    mask, shade = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for x, y, large, longer in places[: round(len(places) * share)]:
        radius = width * (0.0025 + 0.0075 * large**3)
        centre = (round(x * width), round(y * height))
        axes = (round(radius), round(radius * (1.0 + 0.5 * longer)))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
        below = (centre[0], centre[1] + axes[1] // 2)
        cv2.ellipse(shade, below, (max(1, axes[0] * 2 // 3), max(1, axes[1] // 2)), 0, 0, 360, 1.0, -1)
    soft = width * 0.0012
    hidden = np.asarray(cv2.GaussianBlur(mask, (0, 0), soft) * 0.8, dtype=np.float32)[..., None]
    lit = np.asarray(0.8 + 0.45 * cv2.GaussianBlur(shade, (0, 0), 2 * soft), dtype=np.float32)[..., None]
    return np.asarray(light * (1.0 - hidden) + turned * lit * hidden, dtype=np.float32)
