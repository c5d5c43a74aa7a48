"""What was found as a page: what is compared, one table of all detectors, then each with its layers and its deliberate differences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from tabulate import tabulate

from harness.conformance.table import escaped
from harness.parity.compare import Parity
from harness.parity.layers import DISTURBANCE, DRAWS, GRADIENT, IMAGE, LANES, LOSS, MOVED, RAW, Layer

COLUMNS = {
    "Image": re.compile("image"),
    "Raw outputs": re.compile("raw .*"),
    "Lanes": re.compile("lanes"),
    "Loss terms": re.compile("loss .*|losses"),
    "Of unusual labels": re.compile("losses, .*"),
    "Gradient": re.compile("gradient"),
}
"""Columns of the first table -> the names of the layers that they sum up."""

WORDS = {
    "agrees": "agrees",
    "documented": "differs as documented",
    "differs": "**differs**",
    "unavailable": "not compared",
}

INTRODUCTION = f"""# Native detectors beside their upstream repositories

Each native detector is compared with upstream's own code, run from a checkout at the commit that is named. Upstream's model is
built from its own configuration with random weights, whose normalisations have statistics, scales and shifts of their own; its state
dict is imported as `samiro-bench detectors import` imports a released checkpoint, strictly. Then both are shown the same:

- **image**: frames of rendered roads of the dataset's size, as JPEG files, through upstream's test pipeline and through the
  harness's own. The measure is the mean difference in grey levels, at most {IMAGE:g}; the order of channels has to be upstream's.
- **raw**: the outputs for the same images in network pixels; the largest difference of a tensor as a share of its largest
  magnitude, at most {RAW:g}, or {MOVED:g} times the furthest that upstream's own moves when its images are disturbed {DRAWS} times
  by {DISTURBANCE:g} of their values.
- **lanes**: what is decoded and suppressed. Lanes are matched and each has to have a counterpart; no point of upstream's is further
  from ours than {LANES:g} px of the frame. The threshold is one that leaves lanes of random weights, or the outputs are drawn as a
  trained model gives them. *As decoded* is the same before ours is brought into upstream's convention of coordinates.
- **loss**: each term in training mode without dropout, for labels of rendered roads, and all of them for unusual sets of labels;
  relative, at most {LOSS:g}, or {MOVED:g} times the furthest that upstream's own then moves.
- **gradient**: of the summed loss with respect to the first convolution; the length of the difference as a share of upstream's, at
  most {GRADIENT:g}, or {MOVED:g} times the furthest that upstream's own then moves: the gradients of deep networks jump where
  rectifiers are near zero.

Where ours differs on purpose, the layer says so and the reason stands below its table; a documented difference has a bound of its own,
or, where no bound can be given, is shown and not judged. Among the losses of unusual labels it may be about some terms alone; the
others have to agree all the same.
Made by `samiro-bench detectors parity NAME... --checkout DIR --table docs/detectors.md`."""


def page(found: Sequence[Parity]) -> str:
    """The whole page, in markdown: nothing in it depends on the day or the machine but the last digits."""
    overview = [
        [one.detector, one.form, source(one), *(worst(one.layers, names) for names in COLUMNS.values())]
        for one in found
    ]
    parts = [
        INTRODUCTION,
        tabulate(overview, headers=["Detector", "Form", "Upstream", *COLUMNS], tablefmt="pipe", disable_numparse=True),
    ]
    for detector, forms in groupby(found, key=lambda one: one.detector):
        parts.append(f"## {detector}")
        parts += section(list(forms))
    return "\n\n".join(parts) + "\n"


def section(forms: Sequence[Parity]) -> list[str]:
    """The layers of one detector in each form, then why some of them differ on purpose."""
    parts = []
    for one in forms:
        rows = [
            [layer.name, WORDS[layer.outcome], measured(layer), allowed(layer), escaped(layer.detail)]
            for layer in one.layers
        ]
        headers = [f"{one.form}: layer", "", "Apart", "Allowed", "Seen"]
        parts.append(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True))
    seen = {layer.name for one in forms for layer in one.layers if layer.outcome == "documented"}
    return [*parts, *(f"*{name}*: {known.why}" for name, known in forms[0].differences.items() if name in seen)]


def source(one: Parity) -> str:
    """The repository with a link, and the commit compared."""
    name = one.repository.url.rpartition("/")[2]
    return f"[{name}]({one.repository.url}) {one.commit}"


def worst(layers: Sequence[Layer], names: re.Pattern[str]) -> str:
    """How the layers of those names ended: the worst outcome, with the largest difference among those."""
    mine = [layer for layer in layers if names.fullmatch(layer.name)]
    if not mine:
        return "-"
    outcome = max((layer.outcome for layer in mine), key=["unavailable", "agrees", "documented", "differs"].index)
    furthest = max((layer for layer in mine if layer.outcome == outcome), key=lambda layer: layer.value or 0.0)
    words = "" if outcome == "agrees" else WORDS[outcome]
    return ", ".join(text for text in (words, measured(furthest)) if text)


def measured(layer: Layer) -> str:
    """The value with its unit."""
    return "" if layer.value is None else with_unit(layer.value, layer.unit)


def allowed(layer: Layer) -> str:
    """The tolerance with its unit; a documented difference may have none."""
    return "" if layer.tolerance is None or layer.value is None else with_unit(layer.tolerance, layer.unit)


def with_unit(value: float, unit: str) -> str:
    """A number in three digits; relative ones have no unit."""
    return f"{value:.2g}" if unit in {"", "relative"} else f"{value:.2g} {unit}"
