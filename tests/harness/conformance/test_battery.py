"""The battery passes what keeps its promises, and says of every broken promise which one it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detectors.registry import TABLE
from harness.conformance.battery import CHECKS, CheckResult, cases, check_adapter, run_check
from harness.conformance.seeds import check_seeds
from harness.conformance.subject import Arm, Demands, subject_of
from harness.errors import InputError
from harness.scaffold.write import write_scaffold

MICRO = [name for name in TABLE if name.endswith("_micro")]


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


def test_a_micro_detector_passes_all_but_the_long_check_in_both_arms() -> None:
    results = check_adapter("ufldv2_micro", "culane", quick=True)
    assert [result for result in results if result.outcome == "failed"] == []
    assert {result.check for result in results if result.outcome == "skipped"} <= {"CPU and GPU"}
    assert [(result.check, result.arm) for result in results] == [(check.name, arm) for check, arm in cases(quick=True)]
    assert {result.arm for result in results} == {"adapter", "baseline", "samiro"}


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
def test_every_micro_detector_passes_the_whole_battery(name: str) -> None:
    results = check_adapter(name, "culane")
    assert [result for result in results if result.outcome == "failed"] == []
    assert sum(result.check == "overfits 8 images" for result in results) == 2


@pytest.mark.parametrize("backbone", ["dla34", "convnext_tiny", pytest.param("resnet101", marks=pytest.mark.slow)])
def test_every_kind_of_backbone_keeps_the_promises_of_its_taps_and_trains_with_samiro(
    backbone: str, tmp_path: Path
) -> None:
    name = changed(
        tmp_path,
        ('backbone="resnet_micro"', f'backbone="{backbone}"'),
        ("recipe=Recipe(", 'weights="imagenet",\n    recipe=Recipe('),
    )
    (tmp_path / "work").mkdir()
    subject = subject_of(name, "culane", tmp_path / "work")
    arms: dict[str, Arm] = {"metadata": "adapter", "taps": "adapter", "forward and backward": "samiro"}
    results = [run_check(subject, check, arms[check.name]) for check in CHECKS if check.name in arms]
    assert [(result.outcome, result.detail) for result in results if result.outcome != "passed"] == []


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


def test_an_adapter_that_uses_a_published_backbone_can_start_from_its_weights(tmp_path: Path) -> None:
    start = ("recipe=Recipe(", 'weights="imagenet",\n    recipe=Recipe(')
    adapter = changed(tmp_path, ('backbone="resnet_micro"', 'backbone="resnet18"'), start)
    result = one_check(adapter, "metadata", "adapter", tmp_path)
    assert result.outcome == "passed", result
    assert "starts from resnet18.tv_in1k" in result.detail
    renamed = adapter.replace("my_lanes.py", "renamed.py")
    text = (
        (tmp_path / "my_lanes.py").read_text().replace("self.backbone", "self.body").replace('"backbone")', '"body")')
    )
    (tmp_path / "renamed.py").write_text(text)
    (tmp_path / "again").mkdir()
    result = one_check(renamed, "metadata", "adapter", tmp_path / "again")
    assert result.outcome == "failed"
    assert "`backbone_path`" in result.detail


LOADED = """        self.load_state_dict({name: value + 0 for name, value in self.state_dict().items()})
"""


def test_weights_that_the_adapter_loads_itself_or_that_are_constant_may_be_the_same_for_every_seed(
    tmp_path: Path,
) -> None:
    constant = "        for weight in self.parameters():\n            nn.init.constant_(weight, 0.01)\n"
    for folder, more in ((tmp_path / "loaded", OWN_SEED + LOADED), (tmp_path / "constant", constant)):
        folder.mkdir()
        name = changed(folder, (HEAD, HEAD + more))
        check_seeds(subject_of(name, "culane", folder / "work"))


def test_a_decode_that_changes_the_outputs_in_place_breaks_no_promise(tmp_path: Path) -> None:
    name = changed(tmp_path, ("outputs.float().sigmoid()", "outputs.float().sigmoid_()"))
    result = one_check(name, "state dict", "baseline", tmp_path)
    assert (result.outcome, result.detail) == ("passed", "88 tensors")


@pytest.mark.parametrize(
    ("check", "arm", "change", "said"), BROKEN, ids=[f"{check}-{number}" for number, (check, *_) in enumerate(BROKEN)]
)
def test_a_broken_promise_fails_its_check(
    tmp_path: Path, check: str, arm: Arm, change: tuple[str, str], said: str
) -> None:
    changes = [change]
    if "self.scale" in change[1]:
        changes.append(("self.head(features[-1])", "self.head(features[-1]) * self.scale"))
    if "START" in change[1]:
        changes.append(("ROWS = 24\n", "ROWS = 24\nSTART = 1 + np.random.default_rng().random()\n"))
    result = one_check(changed(tmp_path, *changes), check, arm, tmp_path)
    assert result.outcome == "failed", result
    assert said in result.detail
    assert "\n" not in result.detail


def test_outputs_may_be_lists_of_as_much_as_an_image_has(tmp_path: Path) -> None:
    kept = (
        "return logits.view(-1, 2, LANES, ROWS)",
        "logits = logits.view(-1, 2, LANES, ROWS)\n"
        "        return logits if self.training else [one[:, one[1].mean(1) > one[1].mean()] for one in logits]",
    )
    shown = ("outputs.float().sigmoid().cpu().numpy()", "[one.sigmoid().numpy() for one in outputs]")
    result = one_check(changed(tmp_path, kept, shown), "batch invariance", "baseline", tmp_path)
    assert result.outcome == "passed", result
    (tmp_path / "again").mkdir()
    shifted = (kept[0], kept[1].replace("[one[:,", "[(one + logits.mean())[:,"))
    result = one_check(changed(tmp_path / "again", shifted, shown), "batch invariance", "baseline", tmp_path / "again")
    assert "alone and in a batch" in result.detail, result


PROBABILITIES = (
    ("return logits.view(-1, 2, LANES, ROWS)", "return logits.view(-1, 2, LANES, ROWS).sigmoid()"),
    ("place.sigmoid() - x", "place - x"),
    ("binary_cross_entropy_with_logits(existence, exists)", "nn.functional.binary_cross_entropy(existence, exists)"),
    ("outputs.float().sigmoid()", "outputs.float()"),
)
"""What makes the scaffold's adapter give probabilities, with a loss that refuses all else."""


def test_outputs_that_are_probabilities_make_the_round_trip_in_their_range(tmp_path: Path) -> None:
    result = one_check(changed(tmp_path, *PROBABILITIES), "round trip", "adapter", tmp_path)
    assert result.outcome == "passed", result
    assert " short steps of the outputs; steps of the outputs end in RuntimeError: " in result.detail


def test_a_round_trip_that_no_way_leads_through_tells_of_both(tmp_path: Path) -> None:
    shifted = ("self.rows.points(place * self.rows.cells)", "self.rows.points(place * self.rows.cells + 90)")
    result = one_check(changed(tmp_path, shifted), "round trip", "adapter", tmp_path)
    assert result.outcome == "failed"
    assert result.detail.count("F1@50 0.") == 2
    assert "after 400 steps of the outputs; F1@50 0" in result.detail
    assert "after 400 short steps of the outputs; below 0.95; decoded x " in result.detail


def test_without_taps_there_is_nothing_to_regularize(tmp_path: Path) -> None:
    change = (
        '        """The stages of the backbone."""\n        return backbone_taps(self.backbone, "backbone")',
        "        return ()",
    )
    name = changed(tmp_path, change, ("last = self.taps()[-1]", 'last = backbone_taps(self.backbone, "backbone")[-1]'))
    for number, (check, arm, outcome) in enumerate(
        [("taps", "adapter", "skipped"), ("empty labels", "samiro", "skipped"), ("empty labels", "baseline", "passed")]
    ):
        (tmp_path / str(number)).mkdir()
        result = one_check(name, check, arm, tmp_path / str(number))  # type: ignore[arg-type]
        assert result.outcome == outcome, result


def test_a_detector_that_cannot_be_built_fails_once_and_nothing_escapes(tmp_path: Path) -> None:
    results = check_adapter(changed(tmp_path, ("squeezed = nn.Conv2d(", "squeezed = nn.Conv9d(")), "culane", quick=True)
    assert [result.check for result in results if result.outcome == "failed"] == ["metadata"]
    others = {result.detail for result in results if result.outcome == "skipped"}
    assert others <= {"not looked at: see metadata", "no CUDA device here"}


@pytest.mark.parametrize(
    ("change", "owner", "said"),
    [
        (
            ("20 * distance.sum()", "20 * distance"),
            "forward and backward",
            "is of shape (8, 4, 24), not a finite scalar",
        ),
        (('"place": 20 *', '"place": 1.0 if self else 20 *'), "forward and backward", "is a float, not a tensor"),
        (
            ('return {\n            "place"', 'return x if self else {\n            "place"'),
            "forward and backward",
            "give terms by",
        ),
        (
            (DECODE, DECODE.replace("return [\n", "return (\n")),
            "round trip",
            "gives a generator; give a list of `Lane`s for",
        ),
        (
            (DECODE, "        return np.zeros((len(outputs), 4, 2, 2))\n" + DECODE),
            "round trip",
            "gives a ndarray; give a list",
        ),
        (
            ("[lane for place, exists in zip", "Lane([[0, 9], [0, 0]], 0.9) or [lane for place, exists in zip"),
            "round trip",
            "a list of Lane;",
        ),
    ],
)
def test_what_other_checks_need_is_told_by_one(tmp_path: Path, change: tuple[str, str], owner: str, said: str) -> None:
    changes = [change]
    if "return (" in change[1]:
        changes.append(("geometries, strict=True)\n        ]\n", "geometries, strict=True)\n        )\n"))
    name = changed(tmp_path, *changes)
    (tmp_path / "work").mkdir()
    subject = subject_of(name, "culane", tmp_path / "work")
    results = [
        run_check(subject, check, arm)
        for check in CHECKS
        for arm in check.arms
        if arm != "samiro" and check.name in ("metadata", "targets", "round trip", "forward and backward", "bf16")
    ]
    assert [(result.check, result.outcome) for result in results if result.outcome == "failed"] == [(owner, "failed")]
    assert any(said in result.detail for result in results), results
    assert results[-1].detail == f"not looked at: see {owner}"


def test_too_few_steps_or_too_high_a_demand_do_not_pass(tmp_path: Path) -> None:
    result = one_check("ufldv2_micro", "overfits 8 images", "baseline", tmp_path, Demands(steps=1, f1=0.95))
    assert result.outcome == "failed"
    assert "after 1 steps, below 0.95" in result.detail


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    one_check("ufldv2_micro", "determinism", "baseline", tmp_path)
    after = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_an_unknown_name_or_form_is_the_callers_mistake() -> None:
    with pytest.raises(InputError, match="did you mean 'ufldv2_micro'"):
        check_adapter("ufldv2_mikro", "culane")
    with pytest.raises(InputError, match="no configuration for form 'llamas'"):
        check_adapter("lstr_resnet34", "llamas")
