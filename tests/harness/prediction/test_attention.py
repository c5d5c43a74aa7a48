"""What a finished detector's gates are told to be: the attention's own formula, over all places of all pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from detectors.base import Detector, tap_module
from detectors.registry import find_adapter
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE
from harness.cell.keys import cell_phases
from harness.cell.phases import run_phase
from harness.cli.main import main
from harness.files.stored import write_json
from harness.methods.attach import inference_model
from harness.methods.attention import attention_modules
from harness.methods.config import method_configuration
from harness.prediction.attention import Evenness, StageGates, attention_gates, evenness
from harness.prediction.attention_sheet import DRAWN_PICTURES, draw_attention
from harness.prediction.frames import Picture, pictures_of
from harness.prediction.sources import find_sources
from harness.suite import cells_of, load_suite
from harness.training.checkpoint import save_inference_checkpoint

SUITE = """
title: Gates
datasets:
  roads: {rendered: {seed: 7, splits: {train: {frames: 4}, val: {frames: 2}, test: {frames: 2}}}}
detectors:
  resa_micro:
methods:
  baseline:
  attention_only:
seeds: 2
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""
CPU = torch.device("cpu")


def detector_with(method: str, **options: Any) -> Detector:
    """A drawn detector with what a method leaves in it; its attention reads the maximum over channels of each place alone."""
    found = find_adapter("resa_micro")
    torch.manual_seed(3)
    detector = inference_model(found.detector(found.meta, "culane"), method_configuration(method, options)).eval()
    for number, attention in enumerate(attention_modules(detector), start=1):
        weight = attention.convolution.weight  # type: ignore[union-attr]
        with torch.no_grad():
            weight.zero_()  # type: ignore[operator]
            weight[0, 1, 3, 3] = -0.3 * number  # type: ignore[index]
    return detector


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures of noise, of two sizes."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw = np.random.default_rng(0)
    for number, size in enumerate([(590, 1640), (720, 1280), (590, 1640)]):
        cv2.imwrite(f"photos/{number}.png", draw.integers(0, 255, (*size, 3), np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def pictures(photos: Path) -> list[Picture]:
    return pictures_of(detector_with("baseline"), find_sources([str(photos)]), None)


@pytest.mark.parametrize(("gate", "highest"), [("2sigmoid", 2.0), ("cbam", 1.0)])
def test_gates_are_the_sigmoid_of_what_each_stage_hands_on(pictures: list[Picture], gate: str, highest: float) -> None:
    detector = detector_with("attention_only", gate=gate)
    raw: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        raw.append(output.detach().clone())

    # Before the attention's own hook, which multiplies.
    kept = [tap_module(detector, tap).register_forward_hook(keep, prepend=True) for tap in detector.taps()]
    with torch.inference_mode():
        detector(torch.from_numpy(np.stack([picture.view for picture in pictures])))
    for handle in kept:
        handle.remove()
    found = attention_gates(detector, pictures, device=CPU, batch_size=2)
    assert [gates.stage for gates in found] == [tap.path for tap in detector.taps()]
    for number, (gates, features) in enumerate(zip(found, raw, strict=True), start=1):
        expected = highest / (1 + np.exp(0.3 * number * features.amax(1).double().numpy()))
        assert gates.highest == highest
        assert gates.maps.shape == expected.shape
        assert np.abs(gates.maps - expected).max() < 1e-5


def test_a_detector_is_left_as_it_was_and_one_without_attention_has_no_gates(pictures: list[Picture]) -> None:
    assert attention_gates(detector_with("baseline"), pictures, device=CPU) == []
    detector = detector_with("attention_only")
    hooks = [len(module._forward_hooks) for module in detector.modules()]
    attention_gates(detector, pictures, device=CPU)
    assert [len(module._forward_hooks) for module in detector.modules()] == hooks


def test_spread_within_a_picture_leaves_out_what_sets_pictures_apart() -> None:
    even, halves = np.full((4, 10), 0.5), np.full((4, 10), 0.5)
    halves[:, 5:] = 1.5
    spread = evenness(StageGates("stage", 2.0, np.stack([even, halves]).astype(np.float32)))
    # A quarter of the places at 1.5, the others at .5: mean .75, variance 3/16; within, 0 and 1/4.
    expected = Evenness(mean=0.75, sd=(3 / 16) ** 0.5, sd_within=(1 / 8) ** 0.5, low=0.5, high=1.5)
    assert asdict(spread) == pytest.approx(asdict(expected))
    assert evenness(StageGates("stage", 2.0, np.stack([even, even + 1]).astype(np.float32))).sd_within == 0


def test_the_sheet_shows_low_and_high_gates_in_their_places(pictures: list[Picture], tmp_path: Path) -> None:
    maps = np.zeros((3, 2, 2), np.float32)
    maps[:, :, 1] = 2.0
    draw_attention(tmp_path / "sheet.png", "cell", pictures, [StageGates("stage", 2.0, maps)])
    sheet = cv2.imread(str(tmp_path / "sheet.png")).astype(int)
    # The second column's tiles: blue to the left, red to the right, in every row.
    tiles = sheet[sheet.shape[0] // 8 : -sheet.shape[0] // 4, sheet.shape[1] // 2 + 20 : -10]
    blueness = (tiles[..., 0] - tiles[..., 2]).mean(0)
    quarter = len(blueness) // 4
    assert blueness[:quarter].mean() > 60
    assert blueness[-quarter:].mean() < -60


def test_a_sheet_says_how_many_pictures_it_leaves_out(pictures: list[Picture], tmp_path: Path) -> None:
    many = pictures * DRAWN_PICTURES
    maps = np.ones((len(many), 2, 2), np.float32)
    draw_attention(tmp_path / "many.png", "cell", many, [StageGates("stage", 2.0, maps)])
    draw_attention(tmp_path / "few.png", "cell", many[:DRAWN_PICTURES], [StageGates("stage", 2.0, maps)])
    sheets = [cv2.imread(str(tmp_path / name)) for name in ("many.png", "few.png")]
    assert sheets[0].shape == sheets[1].shape
    title = [sheet[:25] for sheet in sheets]
    assert (title[0] < 128).sum() > (title[1] < 128).sum()


@pytest.fixture
def trained(photos: Path) -> None:
    """Leaves what training leaves of the suite's cells, but for seed 1 with attention."""
    Path("gates.yaml").write_text(SUITE)
    for cell in cells_of(load_suite("gates.yaml")):
        if (cell.identity.method, cell.identity.seed) == ("attention_only", 1):
            continue
        detector = detector_with(cell.identity.method)
        facts = {
            "detector": "resa_micro", "form": "culane", "meta": detector.meta.model_dump(mode="json"),
            "method": {"kind": cell.identity.method},
        }  # fmt: skip

        def store(folder: Path, detector: Detector = detector, facts: dict[str, Any] = facts) -> None:
            save_inference_checkpoint(folder / CHECKPOINT_FILE, detector, facts)
            write_json(folder / SUMMARY_FILE, {})

        run_phase(cell_phases(Path("results/local"), cell).train, store)


@pytest.mark.usefixtures("trained")
def test_cells_with_attention_have_a_line_a_stage_and_a_picture_and_others_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["attention", "gates.yaml", "photos", "--out", "drawn"]) == 0
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines() if "backbone." in line]
    assert [line[1] for line in lines] == ["backbone.layer1", "backbone.layer2", "backbone.layer3"]
    (cell,) = {line[0] for line in lines}
    assert [path.name for path in Path("drawn").iterdir()] == [f"{cell}.png"]
    assert "wrote 1 picture to drawn" in told.out
    without, untrained = told.err.splitlines()
    assert without.startswith("without attention, so left out: roads-resa_micro-baseline-s0")
    assert "attention_only-s1" in untrained
    assert main(["attention", "gates.yaml", "photos", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = attention_gates(
        detector_with("attention_only"),
        pictures_of(detector_with("baseline"), find_sources(["photos"]), None),
        device=CPU,
    )
    assert [stage["mean"] for stage in facts["cells"][cell]] == pytest.approx([evenness(one).mean for one in found])
    assert [float(line[2]) for line in lines] == pytest.approx([evenness(one).mean for one in found], abs=5e-4)
    assert len(facts["without"]) == 2


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos", "--only", "method=baseline"], "no trained cell has attention"),
        (["photos", "--only", "method=attention_only,seed=1"], "no cell is trained yet"),
        (["photos", "--crop", "5000x100+0+0"], "too small for the crop"),
        (["drive.mp4"], "is a video"),
        (["nothing.png"], "is missing"),
        (["broken.png"], "broken.png"),
    ],
)
def test_what_has_no_gates_is_told_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.png").write_bytes(b"no picture")
    Path("drive.mp4").write_bytes(b"")
    assert main(["attention", "gates.yaml", *words, "--out", "drawn"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.strip().splitlines()
    assert said in line
    assert not Path("drawn").exists()
