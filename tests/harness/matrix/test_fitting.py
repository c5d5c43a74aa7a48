"""Methods that don't fit their detector or oracle are refused before anything is made."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
import yaml

from detectors.ufldv2 import UFLDv2
from harness.cli.main import main
from harness.errors import InputError
from harness.files.fingerprint import fingerprint
from harness.matrix import trial_fit
from harness.matrix.fitting import refuse_misfits
from harness.methods.attach import METHODS, Means, Method, unchanged
from harness.methods.base import TrainingModel
from harness.methods.baseline import BaselineModel
from harness.methods.card import OracleCard
from harness.methods.config import OracleGuidedConfiguration
from harness.methods.oracle import drawn_backbone, save_oracle
from harness.suite import Suite, cells_of, load_suite

SPLIT = {"frames": 4, "frames_per_clip": 2}
SUITE: dict[str, Any] = {
    "title": "fit",
    "datasets": {"roads": {"rendered": {"seed": 7, "width": 820, "height": 295, "splits": dict.fromkeys(("train", "test"), SPLIT)}}},
    "oracles": {
        "small": {"configuration": {"name": "mim:resnet_micro", "steps": 4}},
        "wide": {"configuration": {"name": "random:resnet18"}},
        "init": {"configuration": {"name": "init"}},
        "shuffled": {"configuration": {"name": "shuffled:small"}},
    },
    "detectors": {"ufldv2_micro": {"recipe": {"steps": 2, "batch_size": 4}}},
    "methods": {"baseline": None, "samiro": {"oracle": "small"}},
    "training": {"threads": 1, "device": "cpu"},
    "throughput": "lane-latency/1-short",
}  # fmt: skip


def written(folder: Path, method: dict[str, Any], **changes: Any) -> Path:
    value = copy.deepcopy(SUITE)
    value["methods"]["samiro"] = method
    value |= changes
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def loaded(folder: Path, method: dict[str, Any], **changes: Any) -> Suite:
    return load_suite(str(written(folder, method, **changes)))


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        ({"oracle": "small", "taps": ["backbone.layer9"]}, r"key 'methods\.samiro\.taps': 'ufldv2_micro' has no tap .*layer4"),
        ({"lambda": 0, "taps": ["backbone.layer9"]}, r"key 'methods\.samiro\.taps': 'ufldv2_micro' has no tap"),
        ({"oracle": "wide", "projection": "identity"}, r"key 'methods\.samiro\.projection': 'identity' needs equal channels"),
        ({"oracle": "small", "pair": "depth", "taps": ["backbone.layer1"]}, r"key 'methods\.samiro\.pair': .* 1 taps .* 4 of"),
        ({"oracle": "small", "oracle_scale": 0.37}, r"key 'methods\.samiro\.oracle_scale': 0\.37 of 128 x 320"),
        ({"oracle": "init", "oracle_scale": 0.5}, r"key 'methods\.samiro\.oracle_scale': an oracle 'init' is the detector itself"),
    ],
)  # fmt: skip
def test_what_can_not_be_put_together_is_refused_with_file_and_key(
    tmp_path: Path, method: dict[str, Any], complaint: str
) -> None:
    suite = loaded(tmp_path, method)
    with pytest.raises(InputError, match=complaint) as caught:
        refuse_misfits(suite, cells_of(suite))
    assert str(caught.value).startswith(f"{tmp_path / 'fit.yaml'}: ")
    assert "\n" not in str(caught.value)


def test_a_weight_that_measures_gradients_is_not_compiled(tmp_path: Path) -> None:
    training = {"threads": 1, "device": "cpu", "compile": True}
    suite = loaded(tmp_path, {"oracle": "small", "lambda_mode": "ratio"}, training=training)
    with pytest.raises(InputError, match=r"fit\.yaml: key 'training\.compile': lambda_mode 'ratio' measures"):
        refuse_misfits(suite, cells_of(suite))
    suite = loaded(tmp_path, {"oracle": "small"}, training=training)
    refuse_misfits(suite, cells_of(suite))


@pytest.mark.parametrize(("size", "complaint"), [([100, 320], "isn't divisible"), ([32, 32], "nothing to hide")])
def test_sizes_that_an_oracle_can_not_learn_at_are_refused(tmp_path: Path, size: list[int], complaint: str) -> None:
    configuration = {"name": "mim:resnet_micro", "image_size": size}
    suite = loaded(tmp_path, {"oracle": "small"}, oracles={"small": {"configuration": configuration}})
    with pytest.raises(InputError, match=complaint):
        refuse_misfits(suite, cells_of(suite))


@pytest.mark.parametrize(("batch", "micro"), [(4, 1), (4, 3), (1, None)])
def test_a_shuffled_oracle_that_would_meet_an_image_alone_is_refused(
    tmp_path: Path, batch: int, micro: int | None
) -> None:
    changes = {
        "detectors": {"ufldv2_micro": {"recipe": {"steps": 2, "batch_size": batch}}},
        "training": {"threads": 1, "device": "cpu", "micro_batch_size": micro},
    }
    suite = loaded(tmp_path, {"oracle": "shuffled"}, **changes)
    with pytest.raises(InputError, match=r"key 'methods\.samiro\.oracle': a shuffled oracle needs two images"):
        refuse_misfits(suite, cells_of(suite))
    changes["detectors"] = {"ufldv2_micro": {"recipe": {"steps": 2, "batch_size": 5}}}
    changes["training"] = {"threads": 1, "device": "cpu", "micro_batch_size": 3}
    suite = loaded(tmp_path, {"oracle": "shuffled"}, **changes)
    refuse_misfits(suite, cells_of(suite))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "oracle.safetensors"
    card = OracleCard.model_validate(
        {
            "name": "mim:resnet_micro", "backbone": "resnet_micro", "configuration": {}, "data": {}, "seed": 0, "steps": 1,
            "threads": 1, "device": "cpu", "torch": "", "seconds": 1.0, "normalisation": {}, "taps": [], "checks": {},
        }
    )  # fmt: skip
    save_oracle(drawn_backbone("resnet_micro", 0), card, file)
    for name, complaint in (("mim:resnet18", "an oracle on 'resnet_micro'"), ("supervised:resnet18", "resnet18")):
        oracles = {"small": {"configuration": {"name": name, "file": str(file)}}}
        suite = loaded(tmp_path, {"oracle": "small"}, oracles=oracles)
        with pytest.raises(InputError, match=complaint):
            refuse_misfits(suite, cells_of(suite))
    suite = loaded(
        tmp_path,
        {"oracle": "small"},
        oracles={"small": {"configuration": {"name": "mim:resnet_micro", "file": str(file)}}},
    )
    refuse_misfits(suite, cells_of(suite))


def test_each_kind_of_cell_is_looked_at_once_and_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = loaded(tmp_path, {"oracle": "small"}, seeds=5)
    looked: list[str] = []
    check = trial_fit.check_networks
    monkeypatch.setattr(trial_fit, "check_networks", lambda cell: (looked.append(cell.identity.method), check(cell)))
    before = torch.get_rng_state()
    refuse_misfits(suite, cells_of(suite))
    assert looked == ["samiro"]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_needs_real_numbers_is_tried_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    forward = UFLDv2.forward

    def counted(self: UFLDv2, images: torch.Tensor) -> Any:
        seen.append(images.device.type)
        assert images.float().sum().item() == 0.0
        return forward(self, images)

    monkeypatch.setattr(UFLDv2, "forward", counted)
    suite = loaded(tmp_path, {"oracle": "small"})
    refuse_misfits(suite, cells_of(suite))
    assert seen == ["meta", "cpu"]
    monkeypatch.setattr(UFLDv2, "forward", lambda self, images: 1 / 0)
    with pytest.raises(InputError, match=r"can't be put around it \(ZeroDivisionError"):
        refuse_misfits(suite, cells_of(suite))


def test_plan_and_bench_say_so_before_anything_is_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {"oracle": "small", "taps": ["backbone.layer9"]})
    for verb in ("plan", "bench"):
        assert main([verb, str(path), "--results", str(tmp_path / "results")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "key 'methods.samiro.taps'" in line
    assert not (tmp_path / "results").exists()


class GuidedConfiguration(OracleGuidedConfiguration):
    """A method of its own that looks at an oracle."""

    kind: Literal["guided"] = "guided"


def guided(folder: Path, monkeypatch: pytest.MonkeyPatch, around: Any) -> None:
    """Try a method of its own, put around a detector by `around`."""
    monkeypatch.setitem(METHODS, "guided", Method(around, leaves=unchanged))
    suite = loaded(folder, {"oracle": "small"})
    (cell,) = (cell for cell in cells_of(suite) if cell.identity.method == "samiro")
    refuse_misfits(suite, [replace(cell, method=cast(Any, GuidedConfiguration(oracle="small")))])


def test_the_code_of_a_method_with_an_oracle_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Means] = []

    def around(detector: Any, configuration: Any, means: Means) -> TrainingModel:
        seen.append(means)
        return BaselineModel(detector)

    guided(tmp_path, monkeypatch, around)
    (means,) = seen
    assert means.oracle is not None
    assert means.statistics is None, "as in a training"


def test_what_the_constructor_of_a_method_raises_names_the_suite_the_key_and_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def around(detector: Any, configuration: Any, means: Means) -> TrainingModel:
        raise RuntimeError("my projection\ndoesn't fit")

    with pytest.raises(InputError) as caught:
        guided(tmp_path, monkeypatch, around)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'fit.yaml'}: key 'methods.samiro': can't be put around it (RuntimeError: ")
    assert "my projection doesn't fit; tests/harness/matrix/test_fitting.py:" in told

    def refused(detector: Any, configuration: Any, means: Means) -> TrainingModel:
        raise InputError("no tap is to my taste")

    with pytest.raises(InputError, match=r"fit\.yaml: key 'methods\.samiro': no tap is to my taste"):
        guided(tmp_path, monkeypatch, refused)


def test_a_kind_that_nothing_attaches_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(METHODS, "samiro")
    suite = loaded(tmp_path, {"oracle": "small"})
    with pytest.raises(InputError, match=r"fit\.yaml: key 'methods\.samiro\.kind': .*METHODS"):
        refuse_misfits(suite, cells_of(suite))


def test_a_remembered_trial_is_asked_again_when_the_code_of_a_method_changes() -> None:
    assert {"harness/methods/attach.py", "harness/methods/samiro.py"} <= set(fingerprint(["harness.matrix.trial_fit"]))
