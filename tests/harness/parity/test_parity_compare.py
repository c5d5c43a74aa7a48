"""A whole comparison, with a model of ours in upstream's place: all layers agree, and each fault shows in its layer and no other."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from detectors.lstr import LSTR
from detectors.meta import Form
from detectors.registry import detector_meta
from detectors.upstream.reference import Difference, Frame, Reference, Unavailable
from detectors.upstream.running import training_without_dropout
from harness.cli.main import main
from harness.datasets.images import write_jpeg
from harness.errors import InputError
from harness.inference.predict import network_images
from harness.lanes import Lane
from harness.parity import compare
from harness.parity.compare import Parity, compared_layers
from harness.parity.layers import Layer
from harness.parity.page import page
from harness.parity.shown import batch_of
from harness.training.determinism import seed_everything

NAME = "lstr_micro"
HALF_A_PIXEL = np.array([0.5, 0.0])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Faultless(Reference):
    """Our own network as if it were upstream's; its curves lie in the frame. Its input is grey levels from 0 to 1."""

    repository = "LSTR"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {NAME: ("culane",)}

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.threshold = 0.5
        self.model: Any = LSTR(detector_meta(variant), form).eval()
        for head, bias in (
            (self.model.shared_curve, [0.05, -0.5, 0.05, 0.4]),
            (self.model.own_curve, [0.6, 0.95, 0.0, 0.0]),
        ):
            with torch.no_grad():
                list(head.parameters())[-1].copy_(torch.tensor(bias))
                list(head.parameters())[-2].mul_(0.3)

    def prepared(self, frame: Frame) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "frame.jpg"
            write_jpeg(file, frame, 100)
            (images,) = network_images(self.model, [file])
        return self.normalised(images)

    def normalised(self, images: Tensor) -> Tensor:
        return images.float() / 255

    def forward(self, images: Tensor) -> Any:
        return self.model((images * 255).round().to(torch.uint8))

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        return dict(outputs)

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        return dict(outputs)

    def lanes(self, outputs: Any) -> list[list[np.ndarray]]:
        assert self.threshold is not None
        detector = compare.with_threshold(self.model, self.threshold)
        geometry = self.model.geometry_of((590, 1640))
        found = detector.decode(outputs, [geometry] * len(outputs["logits"]))
        return [[lane.points.astype(np.float64) for lane in lanes] for lanes in found]

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        batch = batch_of(self.model, (images * 255).round().to(torch.uint8), labels, (590, 1640))
        with training_without_dropout(self.model):
            return self.model.losses(self.model(batch.images), batch)


class Swapped(Faultless):
    def prepared(self, frame: Frame) -> Tensor:
        return super().prepared(frame).flip(1)


class Scaled(Faultless):
    def raw(self, outputs: Any) -> dict[str, Tensor]:
        return {name: value * (1.001 if name == "curves" else 1.0) for name, value in outputs.items()}


class Shifted(Faultless):
    def lanes(self, outputs: Any) -> list[list[np.ndarray]]:
        return [[lane + HALF_A_PIXEL for lane in lanes] for lanes in super().lanes(outputs)]


class Silent(Faultless):
    def lanes(self, outputs: Any) -> list[list[np.ndarray]]:
        return [lanes[1:] for lanes in super().lanes(outputs)]


class Heavier(Faultless):
    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        return {
            name: value * (1.01 if name == "far" else 1.0) for name, value in super().losses(images, labels).items()
        }


class Detached(Faultless):
    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        return {
            name: value.detach() if name == "curve" else value for name, value in super().losses(images, labels).items()
        }


class Crashing(Faultless):
    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        if not any(labels):
            raise ZeroDivisionError("division by zero")
        return super().losses(images, labels)


class Partial(Faultless):
    def lanes(self, outputs: Any) -> list[list[np.ndarray]]:
        raise Unavailable("it needs a compiled suppression")

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        raise Unavailable("its labels are files")


class Documented(Shifted):
    differences: ClassVar = {"lanes as decoded": Difference("Upstream counts from the edge.", within=0.6)}

    def drawn(self) -> tuple[Any, Any]:
        """Upright lanes far from each other: random weights give some less than half a pixel apart, which are matched crosswise."""
        curves = torch.zeros(1, 2, 3, 8)
        curves[..., :2] = torch.tensor([0.4, 0.9])
        curves[..., 6] = torch.tensor([0.2, 0.5, 0.8])
        outputs = {"logits": torch.tensor([-3.0, 3.0]).expand(1, 2, 3, 2), "curves": curves}
        return outputs, outputs

    def written(self, lane: np.ndarray) -> np.ndarray:
        return lane + HALF_A_PIXEL


class Renamed(Faultless):
    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        super().__init__(checkout, variant, form)
        self.model.surplus = torch.nn.Linear(2, 2)


def layers_of(reference: type[Reference], folder: Path) -> dict[str, Layer]:
    seed_everything(0)
    built = reference(folder, NAME, "culane")
    return {layer.name: layer for layer in compared_layers(built, NAME, "culane", folder)}


def outcomes(found: dict[str, Layer], outcome: str) -> list[str]:
    return [name for name, layer in found.items() if layer.outcome == outcome]


def test_a_model_agrees_with_itself_in_every_layer(tmp_path: Path) -> None:
    found = layers_of(Faultless, tmp_path)
    assert outcomes(found, "agrees") == list(found), found
    assert {
        "state dict",
        "image",
        "raw logits",
        "raw curves",
        "lanes",
        "loss lane",
        "gradient",
        "losses, no lane",
    } < set(found)
    # The threshold leaves lanes of random weights, and leaves some out.
    count = int(found["lanes"].detail.split()[0])
    assert 4 <= count < 28


@pytest.mark.parametrize(
    ("reference", "differing"),
    [
        (Swapped, {"image"}),
        (Scaled, {"raw curves"}),
        (Shifted, {"lanes"}),
        (Silent, {"lanes"}),
        (
            Heavier,
            {"loss far", "losses, one lane", "losses, lanes in one image only", "losses, more lanes than slots"},
        ),
        (Detached, {"gradient"}),
    ],
)
def test_a_fault_shows_in_its_layer(reference: type[Reference], differing: set[str], tmp_path: Path) -> None:
    assert set(outcomes(layers_of(reference, tmp_path), "differs")) == differing


def test_what_upstream_cannot_do_is_said_and_is_no_fault_of_ours(tmp_path: Path) -> None:
    found = layers_of(Crashing, tmp_path)
    assert outcomes(found, "unavailable") == ["losses, no lane"]
    assert found["losses, no lane"].detail == "upstream fails: ZeroDivisionError: division by zero"
    assert not outcomes(found, "differs")
    found = layers_of(Partial, tmp_path)
    assert {name: found[name].detail for name in outcomes(found, "unavailable")} == {
        "lanes": "it needs a compiled suppression",
        "losses": "its labels are files",
    }


def test_lanes_are_compared_in_upstreams_convention_and_as_decoded(tmp_path: Path) -> None:
    found = layers_of(Documented, tmp_path)
    assert found["lanes"].outcome == "agrees"
    assert found["lanes as decoded"].outcome == "documented"
    assert found["lanes as decoded"].value == pytest.approx(0.5, abs=0.01)


def test_a_model_that_does_not_take_the_weights_says_which(tmp_path: Path) -> None:
    found = layers_of(Renamed, tmp_path)
    assert outcomes(found, "differs") == list(found) == ["state dict"]
    assert "2 unknown: surplus.weight, surplus.bias" in found["state dict"].detail


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout at another commit than the known one, and a reference that doesn't look into it."""
    monkeypatch.setattr(compare, "reference_class", lambda name: Faultless)
    folder = tmp_path / "LSTR"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=n@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    return folder


def test_the_commands_page_and_json_say_the_same(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "parity.md"
    arguments = ["detectors", "parity", NAME, "--checkout", str(checkout.parent), "--json", "--table", str(table)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "is known at c8fe59a1d8e1c456c982c9e954ee660ae9116b49" in said.err
    (entry,) = json.loads(said.out)["parity"]
    assert entry["holds"] is True
    assert {layer["outcome"] for layer in entry["layers"]} == {"agrees"}
    written = table.read_text()
    assert f"## {NAME}\n" in written
    assert entry["commit"] in written
    assert written.count("| agrees") == len(entry["layers"])


@pytest.mark.filterwarnings("ignore")
def test_the_command_fails_where_a_layer_differs(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = (Layer("raw mask", "differs", 0.2, 1e-4, "relative", "1x2"),)

    def parity(name: str, form: Form, folder: Path, report: Any) -> Parity:
        from detectors.upstream.repositories import REPOSITORIES

        return Parity(name, form, REPOSITORIES["LSTR"], "abc", layers, {})

    monkeypatch.setattr(compare, "parity", parity)
    assert main(["detectors", "parity", NAME, "--checkout", str(checkout)]) == 1
    assert "raw mask" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resa_micro", "--checkout", "."], "detector 'resa_micro' has no upstream model to compare"),
        (["resa_resnet81", "--checkout", "."], "unknown detector 'resa_resnet81'"),
        (["resa_resnet18", "--checkout", "nowhere"], "nowhere: no such folder; git clone https://"),
        (["resa_resnet18", "--checkout", ".", "--form", "llamas"], "has no upstream configuration for 'llamas'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detectors", "parity", *arguments]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.filterwarnings("ignore")
def test_a_package_that_upstream_lacks_here_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy(Faultless):
        def __init__(self, checkout: Path, variant: str, form: Form) -> None:
            import a_package_that_is_not_here  # type: ignore[import-not-found] # noqa: F401

    monkeypatch.setattr(compare, "reference_class", lambda name: Needy)
    with pytest.raises(InputError, match="needs the package a_package_that_is_not_here: install it"):
        compare.parity(NAME, "culane", checkout)


def test_the_page_shows_why_a_layer_may_differ() -> None:
    from detectors.upstream.repositories import REPOSITORIES

    layer = Layer("image", "documented", 0.99, 2.0, "grey levels", "a | b")
    one = Parity("x", "culane", REPOSITORIES["LSTR"], "abc", (layer,), {"image": Difference("Another filter.", 2.0)})
    text = page([one, replace(one, layers=(replace(layer, outcome="differs", value=3.0),))])
    assert text.count("*image*: Another filter.") == 1
    assert "a \\| b" in text
    assert "differs as documented, 0.99 grey levels" in text
    assert "**differs**, 3 grey levels" in text
