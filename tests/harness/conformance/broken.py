"""Adapters that break a promise: the scaffold's, with some of its text replaced, and which check has to say what of each."""

from __future__ import annotations

from pathlib import Path

from harness.conformance.battery import CHECKS, CheckResult, run_check
from harness.conformance.subject import Arm, Demands, subject_of
from harness.scaffold.write import write_scaffold


def changed(folder: Path, *changes: tuple[str, str]) -> str:
    """The scaffold's adapter with some of its text replaced, as the registry finds it."""
    path = write_scaffold("my_lanes", folder)[0]
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return f"{path}:MyLanes"


def one_check(name: str, check: str, arm: Arm, folder: Path, demands: Demands | None = None) -> CheckResult:
    """The result of one check of an adapter in CULane's form."""
    (found,) = [entry for entry in CHECKS if entry.name == check]
    assert arm in found.arms
    (folder / "work").mkdir()
    return run_check(subject_of(name, "culane", folder / "work", demands), found, arm)


TAPS = 'backbone_taps(self.backbone, "backbone")'

NETWORK_PIXELS = "self.rows.points(place * self.rows.cells)[seen]"
ENCODE = '''        """`x`: float32 (LANES, ROWS) in network pixels, ABSENT where a lane doesn't cross the row."""
'''
DECODE = "        return [\n            [lane for place, exists in"
HEAD = "        self.head = nn.Sequential(squeezed, nn.ReLU(), nn.Flatten(), nn.Linear(32 * cells, 2 * LANES * ROWS))\n"
OWN_SEED = """        generator = nn.init.torch.Generator().manual_seed(0)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.1, generator=generator)
"""

BROKEN: list[tuple[str, Arm, tuple[str, str], str]] = [
    (
        "metadata",
        "adapter",
        ("recipe=Recipe(", 'architecture={"depth": 3},\n    recipe=Recipe('),
        "unknown key 'depth'",
    ),
    ("metadata", "adapter", ("nn.Flatten(), ", "nn.Flatten(), undefined, "), "NameError"),
    (
        "metadata",
        "adapter",
        ("recipe=Recipe(", 'weights="imagenet",\n    recipe=Recipe('),
        "no published ImageNet weights",
    ),
    (
        "metadata",
        "adapter",
        (
            "    def taps(self)",
            "    def geometry_of(self, original):\n        return super().geometry_of(original)\n\n    def taps(self)",
        ),
        "say by `input` how frames enter",
    ),
    ("targets", "adapter", ('return {"x": target}', 'return {"x": target[: len(lanes)]}'), "shapes follow the labels"),
    ("targets", "adapter", ('{"x": target}', '{"x": target + np.float32(np.random.rand())}'), "draw random numbers"),
    (
        "targets",
        "adapter",
        ("        target = np.full", "        lanes[0].points[0] = 0\n        target = np.full"),
        "in place",
    ),
    ("targets", "adapter", ('{"x": target}', '{"x": target.tolist()}'), "not an array"),
    (
        "hostile labels",
        "adapter",
        ("for lane in lanes]\n", "for lane in lanes if lane.points[0, 0] < 1e9]\n"),
        "without a point",
    ),
    (
        "hostile labels",
        "adapter",
        ("exists.sum().clamp(min=1)", "exists.sum()"),
        "with no lane: loss term 'place' is nan",
    ),
    ("taps", "adapter", (TAPS, "(lambda t: (t[1], t[0], *t[2:]))(" + TAPS + ")"), "fired"),
    ("taps", "adapter", (TAPS, '(Tap("backbone.layer1", 99, 4), *' + TAPS + "[1:])"), "(16, 32, 80)"),
    ("taps", "adapter", (TAPS, '(Tap("backbone.layer1", 16, 8), *' + TAPS + "[1:])"), "(16, 16, 40)"),
    ("taps", "adapter", (TAPS, '(Tap("backbone.layer9", 16, 8), *' + TAPS + "[1:])"), "no such module"),
    ("taps", "adapter", ("        logits: Tensor", "        features[-1].mul_(2)\n        logits: Tensor"), "in place"),
    (
        "taps",
        "adapter",
        ("        features =", "        self.backbone(normalise(images, self.meta.normalisation))\n        features ="),
        "fired",
    ),
    (
        "round trip",
        "adapter",
        ("self.rows.points(place * self.rows.cells)", "self.rows.points(place * self.rows.cells + 9)"),
        "F1@50 0.",
    ),
    ("round trip", "adapter", ("20 * distance.sum()", "0 * distance.sum()"), "F1@50 0."),
    ("round trip", "adapter", ("float(exists[seen].mean()))\n", "2.0)\n"), "score 2.0"),
    ("round trip", "adapter", ("near_to_far(points)", "near_to_far(points)[::-1]"), "from far to near"),
    ("forward and backward", "baseline", ("* exists\n", "* exists / 0\n"), "'place' is "),
    ("forward and backward", "baseline", ("20 * distance.sum()", "20 * distance"), "of shape (8, 4, 24)"),
    (
        "forward and backward",
        "baseline",
        ("        features =", "        images.zero_()\n        features ="),
        "images in place",
    ),
    (
        "forward and backward",
        "samiro",
        (
            "        logits: Tensor = self.head(features[-1])\n",
            "        type(self).calls = getattr(self, 'calls', 0) + 1\n"
            "        logits: Tensor = self.head(features[-1]) * self.calls\n",
        ),
        "differ from the baseline's",
    ),
    (
        "forward and backward",
        "baseline",
        ("        exists = (x >= 0).float()\n", "        exists = (x >= 0).float()\n        x.clamp_(min=0)\n"),
        "losses changes batch.targets['x'] of the batch in place",
    ),
    (
        "forward and backward",
        "baseline",
        ('"place": 20 *', '"place": 1.0 if self else 20 *'),
        "is a float, not a tensor",
    ),
    ("metadata", "adapter", ("        super().__init__(meta, form)\n", ""), "begin with super().__init__(meta, form)"),
    (
        "round trip",
        "adapter",
        (
            "strict=True) if (lane := self._lane(place, exists, geometry))",
            "strict=True) if (lane := self._lane(place, exists, geometries[0]))",
        ),
        "use its own geometry",
    ),
    (
        "round trip",
        "adapter",
        (" or exists[seen].mean() < self.configuration.recipe.confidence_threshold", ""),
        "read configuration.recipe.confidence_threshold in decode",
    ),
    (
        "round trip",
        "adapter",
        (DECODE, "        outputs = outputs + 0.3 * nn.init.torch.randn(len(outputs), 2, 1, 1)\n" + DECODE),
        "decode gives other lanes of the same outputs a second time: it draws random numbers or keeps something",
    ),
    (
        "round trip",
        "adapter",
        (
            DECODE,
            "        outputs, self.kept = outputs + 0.2 * getattr(self, 'kept', 0 * outputs).to(outputs), outputs\n"
            + DECODE,
        ),
        "decode gives other lanes of the same outputs ",
    ),
    (
        "round trip",
        "adapter",
        (
            DECODE,
            "        self.first = getattr(self, 'first', geometries)\n        geometries = self.first[: len(geometries)]\n"
            + DECODE,
        ),
        "of an image of half the size that don't lie where they lie in the whole one",
    ),
    (
        "round trip",
        "adapter",
        ("geometry.to_original(self.rows.points(place * self.rows.cells)[seen])", NETWORK_PIXELS),
        "they look like network pixels: map them with geometry.to_original",
    ),
    ("round trip", "adapter", ("near_to_far(points)", "near_to_far(points[:, ::-1])"), "; x and y look exchanged"),
    (
        "round trip",
        "adapter",
        (f"geometry.to_original({NETWORK_PIXELS})", f"geometry.to_original(geometry.to_original({NETWORK_PIXELS}))"),
        "they look mapped twice",
    ),
    ("round trip", "adapter", ("if seen.sum() < 2 or", "if seen.sum() < 99 or"), "below 0.95; decode gives no lane"),
    (
        "round trip",
        "adapter",
        (NETWORK_PIXELS, NETWORK_PIXELS + " + np.array([0.5, 0.0])"),
        "decoded lanes are off by +0.50, ",
    ),
    (
        "round trip",
        "adapter",
        (NETWORK_PIXELS, NETWORK_PIXELS + " - np.array([0.0, 0.5])"),
        "-0.50 network pixels (x, y), right of and below the labels where positive: pixel centres are at whole numbers",
    ),
    ("empty labels", "baseline", ("exists.sum().clamp(min=1)", "exists.sum()"), "'place' is nan"),
    (
        "state dict",
        "samiro",
        ("        squeezed =", "        self.scale = np.random.default_rng().random() + 1\n        squeezed ="),
        "isn't a parameter or buffer",
    ),
    (
        "state dict",
        "baseline",
        (
            "        logits: Tensor = self.head(features[-1])\n",
            "        self.head[0].bias.data.mul_(0.999)\n        logits: Tensor = self.head(features[-1])\n",
        ),
        "predicting changes head.0.bias",
    ),
    (
        "state dict",
        "baseline",
        ("self.head(features[-1])", "self.head(nn.functional.dropout(features[-1], 0.1))"),
        "in eval mode forward gives other outputs of the same images a second time: dropout or another draw is on",
    ),
    *(
        ("targets", "adapter", change, f"doesn't follow an augmentation ({ignored}), which moves the image")
        for change, ignored in (
            (
                (ENCODE, ENCODE + "        geometry = self.geometry_of(geometry.original)\n"),
                "flip, rotation, shift, scale",
            ),
            (
                (
                    ENCODE,
                    ENCODE + "        geometry.matrix[0, 1] = geometry.matrix[1, 0] = 0.0\n",
                ),
                "rotation",
            ),
        )
    ),
    (
        "batch invariance",
        "baseline",
        ("self.head(features[-1])", "self.head(features[-1] - features[-1].mean(0))"),
        "alone and in a batch",
    ),
    (
        "bf16",
        "baseline",
        ("outputs.float().sigmoid()", "outputs.sigmoid()"),
        "unsupported ScalarType BFloat16 (my_lanes.py:",
    ),
    (
        "one device",
        "baseline",
        ("        features =", "        images = images + images.cpu()[0, 0, 0]\n        features ="),
        "aten.add.Tensor is given tensors of two devices: (2, 3, 128, 320) of the device, (320,) of the host (my_lanes.py:",
    ),
    (
        "one device",
        "samiro",
        ("        x = batch.targets", "        batch.lanes.numpy()\n        x = batch.targets"),
        "take it to the host by .cpu()",
    ),
    (
        "round trip",
        "adapter",
        ("sigmoid().cpu().numpy()", "sigmoid().numpy()"),
        "decode, on another device than the host's: MixedDevices",
    ),
    (
        "determinism",
        "baseline",
        (
            "        squeezed =",
            "        nn.init.constant_(self.backbone.conv1[0].weight, np.random.default_rng().random())\n"
            "        squeezed =",
        ),
        "tensors differ",
    ),
    (
        "determinism",
        "baseline",
        (
            "        place, existence = outputs.float().unbind(1)\n",
            "        self.calls = getattr(self, 'calls', 0) + 1\n"
            "        place, existence = (outputs * self.calls).float().unbind(1)\n",
        ),
        "after a kill",
    ),
    (
        "determinism",
        "baseline",
        (
            "        squeezed = nn.Conv2d(last.channels, 32, 1)\n",
            "        squeezed = nn.Conv2d(last.channels, 32, 1)\n        nn.init.constant_(squeezed.bias, START)\n",
        ),
        "weights of a detector built in another process differ, first 'head.0.bias'",
    ),
    (
        "determinism",
        "baseline",
        (
            "        logits: Tensor = self.head(features[-1])\n",
            "        logits: Tensor = self.head(features[-1]) * START\n",
        ),
        "outputs of a detector built in another process differ",
    ),
    *(
        (
            "determinism",
            "baseline",
            ("        super().__init__(meta, form)\n", f"        super().__init__(meta, form)\n        {seeding}\n"),
            f"building the detector seeds the global generator of {generator}, so that seeds change nothing",
        )
        for seeding, generator in (
            ("nn.init.torch.manual_seed(0)", "torch"),
            ("np.random.seed(7)", "numpy"),
            ("__import__('random').seed(7)", "random"),
        )
    ),
    ("determinism", "baseline", (HEAD, HEAD + OWN_SEED), "all weights are the same under two seeds, as 'backbone."),
]
