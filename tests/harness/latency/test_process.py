"""What a fresh process measures, done in this one; and, in the slow tier, in a process of its own by way of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from detectors.registry import find_adapter
from harness.cli.main import main
from harness.datasets.base import Dataset, Frame
from harness.errors import InputError
from harness.inference.detector import load_detector, with_confidence_threshold
from harness.inference.predict import Settings
from harness.lanes import Lane
from harness.latency import process
from harness.latency.images import rendered_roads, stratified
from harness.latency.jobs import Job, run_fresh
from harness.latency.process import peak_resident_bytes, work
from harness.latency.score_change import score_changes
from harness.latency.subject import Subject
from harness.methods.attach import inference_model, without_method
from harness.methods.config import method_configuration
from harness.processes.faults import fault_of
from harness.throughput.modes import HEADLINE, Mode
from harness.throughput.protocol import PROTOCOLS
from harness.training.checkpoint import save_inference_checkpoint
from harness.training.determinism import seed_everything

NAME = "ufldv2_micro"
HURRIED = replace(
    PROTOCOLS["lane-latency/1"], warm_iterations=2, warm_seconds=0.0, window=0, iterations=6, seconds=0.0, region_iterations=2,
    file_iterations=2, reference_warm_iterations=0, reference_iterations=1, batch_sizes=(1, 2), batch_warm_iterations=0,
    batch_iterations=1, batch_seconds=0.0, cost_warm_blocks=0, cost_blocks=3,
)  # fmt: skip


def save(path: Path, method: str) -> Path:
    """An untrained detector that takes nearly all for lanes."""
    adapter = find_adapter(NAME)
    meta = with_confidence_threshold(adapter.meta, 0.0)
    seed_everything(3)
    configuration = method_configuration(method, {"oracle": "any"} if method == "samiro" else {})
    detector = inference_model(adapter.detector(meta, "culane"), configuration)
    facts = {
        "detector": NAME,
        "form": "culane",
        "meta": meta.model_dump(mode="json"),
        "method": configuration.model_dump(mode="json", by_alias=True),
    }
    save_inference_checkpoint(path, detector, facts)
    return path


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # In this process: ten frames take less than the start of others.
        patch.setattr("harness.latency.images.available_cores", lambda: 1)
        return rendered_roads("culane", 10, lambda done, total: None)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {method: save(folder / f"{method}.safetensors", method) for method in ("baseline", "samiro")}


def job(what: Any, checkpoint: Path, roads: Dataset, **changes: Any) -> Job:
    images = tuple(frame.image for frame in stratified(roads, "test", 4))
    subject = Subject(checkpoint=checkpoint, adapter=NAME, images=images)
    values: dict[str, Any] = {"protocol": "lane-latency/1", "device": "cpu", "threads": 1}
    return Job(what=what, subject=subject, **(values | changes))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "lane-latency/1", HURRIED)
    monkeypatch.setattr("harness.throughput.reference.REFERENCE_INPUT", (1, 3, 32, 32))


@pytest.mark.usefixtures("hurried")
def test_a_latency_has_its_regions_from_the_file_to_the_lanes(checkpoints: dict[str, Path], roads: Dataset) -> None:
    found = work(job("latency", checkpoints["samiro"], roads, flags=("untrained",))).latency
    assert found is not None
    assert found.flags[:2] == ("untrained", "cpu")
    assert (found.images, found.iterations, found.warm_iterations) == (4, 6, 2)
    assert found.pre_ms is not None
    assert found.end_to_end_ms is not None
    assert found.h2d_ms is not None
    assert 0 < found.pre_ms.minimum < found.end_to_end_ms.minimum
    assert found.cpu_ms is not None
    assert found.peak_resident_bytes is None or found.peak_resident_bytes > 2**26
    assert found.gpu is None


@pytest.mark.usefixtures("hurried")
def test_batches_are_measured_up_to_the_protocol_s_sizes(checkpoints: dict[str, Path], roads: Dataset) -> None:
    found = work(job("batches", checkpoints["baseline"], roads))
    assert {point.size for point in found.batches} <= {1, 2, 16}
    for point in found.batches:
        assert point.images_per_second == pytest.approx(1000 * point.size / point.batch_ms)


@pytest.mark.usefixtures("hurried")
def test_only_a_method_that_left_something_behind_costs_anything(checkpoints: dict[str, Path], roads: Dataset) -> None:
    assert work(job("cost", checkpoints["baseline"], roads)).cost == ()
    cost = work(job("cost", checkpoints["samiro"], roads, protocol="lane-latency/1-short")).cost
    assert [one.graph for one in cost] == ["eager"]


def test_without_its_method_a_network_is_the_plain_one_of_the_same_weights(checkpoints: dict[str, Path]) -> None:
    attended = load_detector(checkpoints["samiro"])
    before = torch.get_rng_state()
    plain = without_method(attended)
    assert torch.equal(torch.get_rng_state(), before)
    assert plain is not None
    assert without_method(load_detector(checkpoints["baseline"])) is None
    images = torch.randint(0, 256, (1, 3, *plain.configuration.input.network), dtype=torch.uint8)
    with torch.no_grad():
        theirs = attended(images)
        for attention in attended.spatial_attention.values():  # type: ignore[union-attr, operator]
            attention.convolution.weight.zero_()
        # Gates of exactly 1: what is left is the plain network.
        torch.testing.assert_close(attended(images), plain(images))
        torch.testing.assert_close(theirs, plain(images))


def test_images_come_from_every_scenario_in_turn(roads: Dataset) -> None:
    every = {frame.scenario for frame in roads.frames("test")}
    chosen = stratified(roads, "test", len(every))
    assert {frame.scenario for frame in chosen} == every
    assert len({frame.id for frame in stratified(roads, "test", 100)}) == 10


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((100, 100), 10, "a0 b0 a20 b20 a40 b40 a60 b60 a80 b80"),
        # A scenario that has fewer gives all, and the others no more for it.
        ((2, 100, 100), 9, "a0 b0 c0 a1 b33 c33 b66 c66"),
        ((3, 3), 5, "a0 b0 a1 b1 a2"),
    ],
)
def test_images_are_spread_evenly_over_each_scenario(sizes: tuple[int, ...], count: int, expected: str) -> None:
    """Neighbours of a list are of one clip: the first of each scenario would all show the same road."""
    frames = tuple(
        Frame(f"{name}{place}", Path(), name, name)
        for name, size in zip("abc", sizes, strict=False)
        for place in range(size)
    )
    dataset: Any = SimpleNamespace(frames=lambda split: frames)
    assert " ".join(frame.id for frame in stratified(dataset, "test", count)) == expected


def test_a_mode_s_change_is_its_score_minus_that_of_the_headline_mode(
    roads: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [frame for frame in roads.frames("test") if roads.lanes(frame)][:2]
    asked: list[tuple[str, bool]] = []

    def predict(detector: Any, images: Any, settings: Settings) -> list[list[Lane]]:
        asked.append((settings.precision, settings.channels_last))
        return [roads.lanes(frame) if settings.precision == "fp32" else [] for frame in frames]

    monkeypatch.setattr("harness.latency.score_change.predict", predict)
    modes = [HEADLINE, Mode("amp-bf16", channels_last=True)]
    changes = score_changes(lambda: None, roads, "test", frames, modes, device=torch.device("cpu"), threads=1)  # type: ignore[arg-type, return-value]
    assert changes == {modes[0]: 0.0, modes[1]: -1.0}
    assert asked == [("fp32", False), ("bf16", True)]


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_resident_bytes()
    if before is None:
        pytest.skip("the system doesn't tell")
    held = np.ones(2**26, dtype=np.uint8)
    after = peak_resident_bytes()
    assert after is not None
    assert after >= before
    assert after > held.nbytes


@pytest.mark.usefixtures("hurried")
@pytest.mark.slow
def test_a_machine_without_a_compiler_says_so_of_a_compiled_mode(
    checkpoints: dict[str, Path], roads: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with config.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),)}):
        found = work(job("latency", checkpoints["baseline"], roads, mode="fp32-strict+compile"))
    assert found.latency is None
    assert found.impossible is not None
    assert "compiler" in found.impossible
    assert "\n" not in found.impossible


@pytest.mark.slow
def test_the_command_leaves_out_a_mode_that_cannot_be_compiled_and_measures_the_others(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"XDG_CACHE_HOME": "cache", "TORCHINDUCTOR_CACHE_DIR": "inductor", "CXX": "none"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    options = ["--checkpoint", str(checkpoints["baseline"]), "--short", "--images", "9", "--threads", "1"]
    assert main(["throughput", NAME, *options, "--mode", "fp32-strict+compile", "--json"]) == 1
    shown = capsys.readouterr()
    assert [one["precision"] for one in json.loads(shown.out)["throughput"]] == ["fp32-strict"]
    (line,) = shown.err.splitlines()
    assert line.startswith(
        "warning: mode fp32-strict+compile, 1 thread: left out: torch can't compile the network here ("
    )


@pytest.mark.slow
def test_the_command_measures_in_a_fresh_process_and_says_what_it_found(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = ["--checkpoint", str(checkpoints["samiro"]), "--short", "--images", "9", "--threads", "1"]
    assert main(["throughput", NAME, *options, "--mode", "amp-bf16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    strict, mixed = found["throughput"]
    assert (strict["precision"], mixed["precision"]) == ("fp32-strict", "amp-bf16")
    assert "rendered images" in strict["flags"]
    assert "score_change" in mixed
    assert "score_change" not in strict
    assert mixed["score_images"] == 9
    assert [cost["graph"] for cost in found["inference_cost"]] == ["eager"]


@pytest.mark.slow
def test_bad_input_of_a_fresh_process_is_one_line_and_a_crash_its_traceback(
    checkpoints: dict[str, Path], roads: Dataset
) -> None:
    with pytest.raises(InputError, match="TF32"):
        run_fresh(job("latency", checkpoints["baseline"], roads, protocol="lane-latency/1-short", mode="tf32"))
    if torch.cuda.is_available():
        pytest.skip("a job that needs a GPU does not crash here")
    with pytest.raises(RuntimeError, match=r"(?s)ended with 1.*Traceback"):
        run_fresh(job("precisions", checkpoints["baseline"], roads, device="cuda"))


def test_full_memory_of_a_fresh_process_is_one_line_without_its_traceback(
    checkpoints: dict[str, Path], roads: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(job: Job) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    def here(command: list[str], *, input: str, **options: Any) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", command[command.index("-m") + 1 :])
        monkeypatch.setattr(sys, "stdin", StringIO(input))
        return SimpleNamespace(returncode=process.main(), stderr=capsys.readouterr().err)

    monkeypatch.setattr(process, "work", full)
    monkeypatch.setattr(process, "die_with_parent", lambda *arguments: None)
    monkeypatch.setattr(subprocess, "run", here)
    with pytest.raises(MemoryError) as raised:
        run_fresh(job("latency", checkpoints["baseline"], roads, device="cuda"))
    assert str(raised.value) == (
        "latency in mode fp32-strict: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    )
    assert fault_of(raised.value).kind == "infrastructure"


def test_a_mode_that_is_none_is_told_in_one_line(
    checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = ["--checkpoint", str(checkpoints["baseline"]), "--mode", "fp8", "--images", "1", "--threads", "1"]
    assert main(["throughput", NAME, *options]) == 2
    assert "fp8" in capsys.readouterr().err
