"""`samiro-bench oracle probe`: what oracles of every kind know of lanes, beside the same networks as drawn."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from detectors.base import normalise
from detectors.meta import Normalisation
from harness.cli.main import main
from harness.cli.oracle_probe import table_of
from harness.datasets.base import open_dataset
from harness.methods.card import OracleCard, TapQuality
from harness.methods.config import OracleConfiguration
from harness.methods.oracle import drawn_backbone, load_oracle, oracle_taps, save_oracle
from harness.methods.timm_networks import TimmOracle, drawn_timm_oracle
from harness.rendered.dataset import render_dataset
from harness.rendered.spec import RenderSpec, SplitSpec
from harness.training import gate
from harness.training.gate import drawn_like, labelled_frames

CPU = torch.device("cpu")
SIZE = (64, 160)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probed") / "roads"
    splits = {"train": SplitSpec(frames=12, frames_per_clip=2, scenarios={"normal": 1.0})}
    render_dataset(RenderSpec(form="culane", seed=31, difficulty=0.2, splits=splits), root, workers=1)
    return root


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "ITERATIONS", 3)
    monkeypatch.setattr(gate, "CELLS", 2000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def made(path: Path, *, blind: bool = False) -> Path:
    """An oracle file of a small backbone; `blind`: its first layer gives nothing."""
    backbone = drawn_backbone("resnet_micro", seed=7)
    if blind:
        with torch.no_grad():
            backbone.conv1[0].weight.zero_()
    taps = tuple(
        TapQuality(path=tap.path, channels=tap.channels, effective_rank=1, dead_channels=0)
        for tap in oracle_taps(backbone)
    )
    configuration = OracleConfiguration(name="mim:resnet_micro", steps=1)
    card = OracleCard(
        name=configuration.name,
        backbone="resnet_micro",
        configuration=configuration.model_dump(mode="json"),
        data={"images": 1},
        seed=7,
        steps=1,
        threads=1,
        device="cpu",
        torch=torch.__version__,
        seconds=1.0,
        normalisation=Normalisation(),
        taps=taps,
        checks={},
    )
    save_oracle(backbone, card, path)
    return path


def words(labels: Path, *oracles: object) -> list[str]:
    return ["oracle", "probe", *map(str, oracles), "--labels", str(labels), "--size", "64x160", "--device", "cpu"]


def test_every_oracle_has_a_line_with_its_taps_beside_the_drawn_networks(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timm = drawn_timm_oracle("test_resnet", seed=3)
    weights = tmp_path / "timm.safetensors"
    save_file(timm.backbone.network.state_dict(), weights)
    files = made(tmp_path / "own.safetensors"), made(tmp_path / "blind.safetensors", blind=True)
    code = main([*words(labels, *files, f"timm:test_resnet={weights}"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == list(SIZE)
    own, blind, foreign = found["oracles"]
    assert [row["oracle"] for row in (own, blind)] == [*map(str, files)]
    assert own["strides"] == [4, 8, 16, 32]
    # That a lane passes is a matter of place as well, so a network that sees nothing scores as cells by chance do: their share.
    assert not blind["passed"]
    assert max(blind["means"]["oracle"]) < min(blind["means"]["random"])
    assert code == 1
    # The same network as drawn from other seeds is what it is measured against.
    assert own["average_precision"].keys() == blind["average_precision"].keys()
    assert own["means"]["random"] == blind["means"]["random"]
    assert len(foreign["strides"]) == len(foreign["average_precision"])


@pytest.mark.parametrize("width", [80, 200])
def test_a_narrow_terminal_breaks_paths_and_no_figure(width: int) -> None:
    paths = [f"results/local/artefacts/oracle/{name}-7eef9d0ad681/oracle.safetensors" for name in ("mim-a", "random-b")]
    taps = {f"layer{number}": {"oracle": [0.12, 0.13, 0.17], "random": [0.1, 0.11, 0.12]} for number in range(1, 5)}
    taps["layer4"] = {"oracle": [0.9, 0.9, 0.9], "random": [0.85, 0.85, 0.85]}
    means = {"oracle": [0.315, 0.3178, 0.3249], "random": [0.2599, 0.2664, 0.2806]}
    rows = [
        {
            "oracle": path,
            "strides": [4, 8, 16, 32],
            "average_precision": taps,
            "means": means,
            "passed": path == paths[0],
        }
        for path in paths
    ]
    console = Console(width=width, file=StringIO())
    console.print(table_of(rows))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    said = "\n".join(lines)
    # The mean over seeds, their range, and taps.
    for figure in ("31.9", "31.5 to 32.5", "26.9", "26.0 to 28.1", "4: 14.0 (11.0)", "32: 90.0 (85.0)"):
        assert said.count(figure) >= len(paths), figure
    assert [said.count(word) for word in ("passed", "FAILED")] == [1, 1]
    start = next(line.index("mean over taps") for line in lines if "mean over taps" in line)
    joined = "".join(line[:start].strip() for line in lines)
    assert all(path in joined for path in paths)


def test_all_that_pass_end_with_exit_code_zero(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = load_oracle(made(tmp_path / "blind.safetensors", blind=True))
    monkeypatch.setattr(gate, "drawn_like", lambda *given, **named: blind)
    assert main(words(labels, made(tmp_path / "own.safetensors"))) == 0
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["own", "timm"])
def test_a_drawn_network_has_its_batch_normalisation_from_the_frames_that_probes_are_fitted_to(
    kind: str, labels: Path, tmp_path: Path
) -> None:
    oracle: Any = (
        drawn_timm_oracle("test_resnet", seed=3) if kind == "timm" else load_oracle(made(tmp_path / "own.safetensors"))
    )
    labelled = labelled_frames(open_dataset("culane", labels), SIZE)
    like, other = (drawn_like(oracle, "resnet_micro", labelled, seed, CPU) for seed in (1, 2))
    assert isinstance(like, TimmOracle) == (kind == "timm")
    norms = [module for module in like.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    fitting = [index for index in range(len(labelled.images)) if index not in labelled.judging]
    assert 0 < len(fitting) < gate.BATCH, "one batch, whose own mean is then the statistic"
    seen: list[torch.Tensor] = []
    handle = norms[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        like.backbone(normalise(labelled.images[fitting], oracle.normalisation))
    handle.remove()
    torch.testing.assert_close(norms[0].running_mean, seen[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norms[0].running_var, seen[0].var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not like.backbone.training
    weights = [next(network.backbone.parameters()) for network in (oracle, like, other)]
    assert not any(torch.equal(one, two) for one, two in ((weights[0], weights[1]), (weights[1], weights[2])))


@pytest.mark.parametrize("batch", [4, 7])
def test_no_drawn_network_is_fitted_to_a_batch_of_a_single_frame(
    batch: int, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks that normalise what they pooled to one cell, such as ResNeSt, refuse one."""
    monkeypatch.setattr(gate, "BATCH", batch)
    labelled = labelled_frames(open_dataset("culane", labels), SIZE)
    seen: list[int] = []
    monkeypatch.setattr(gate, "update_bn", lambda batches, network: seen.extend(map(len, batches)))
    drawn_like(drawn_timm_oracle("test_resnet", seed=3), "", labelled, 1, CPU)
    assert seen == [4, 4]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gone.safetensors", "gone.safetensors: no such file"),
        ("random:resnet_micro", "random:resnet_micro: has no weights that were trained before"),
        ("init", "init: no such file: give that of an oracle, NAME"),
        ("mom:resnet_micro", "names no kind of oracle"),
        ("timm:test_resnet=", "write NAME=FILE"),
        ("timm:test_resnet=gone.safetensors", "gone.safetensors"),
        ("timm:test_resnet=~/gone.safetensors", f"{Path.home()}/gone.safetensors"),
        (str(Path(__file__).parent), "that is a folder, give the file in it"),
        ("timm:test_resnet", "weights fetch timm:test_resnet"),
    ],
)
def test_what_is_no_oracle_is_one_line(word: str, said: str, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(labels, word)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path / "nowhere", made(tmp_path / "own.safetensors"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere" in line


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("0x160", "isn't HEIGHTxWIDTH"),
        ("99999999x160", "isn't HEIGHTxWIDTH in pixels up to 4096"),
        ("16x160", "has cells of 32 px: give sides of that and more"),
    ],
)
def test_a_size_at_which_nothing_can_be_seen_is_refused(
    size: str, said: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [size if word == "64x160" else word for word in words(labels, made(tmp_path / "own.safetensors"))]
    assert main(asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
