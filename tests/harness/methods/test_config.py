from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from harness.errors import InputError
from harness.methods.config import (
    KINDS,
    MethodConfiguration,
    OracleConfiguration,
    RegularizedConfiguration,
    method_configuration,
)


def test_kind_defaults_to_the_name_and_defaults_are_the_stated_ones() -> None:
    configuration = method_configuration("samiro", {"oracle": "small"})
    assert configuration.model_dump(by_alias=True) == {
        "kind": "samiro",
        "oracle": "small",
        "taps": None,
        "attention": "spatial",
        "gate": "2sigmoid",
        "site": "stream",
        "mi_attention": "gate",
        "oracle_attention": "none",
        "normalize": "channel_layernorm",
        "projection": "conv1x1",
        "variance": "unit",
        "lambda": 0.1,
        "lambda_mode": "fixed",
        "learning_rate": 3e-3,
        "learning_rate_multiplier": None,
        "pair": "stride",
        "oracle_scale": 1.0,
    }


def test_a_kind_may_stand_under_another_name() -> None:
    configuration = method_configuration("strong", {"kind": "samiro", "oracle": "small", "lambda": 1})
    assert (configuration.kind, configuration.lambda_) == ("samiro", 1.0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_configuration_survives_json_and_stays_itself_in_a_union(kind: str) -> None:
    class Holder(BaseModel):
        method: MethodConfiguration

    needs_oracle = issubclass(KINDS[kind], RegularizedConfiguration) and kind != "attention_only"
    configuration = method_configuration(kind, {"oracle": "small"} if needs_oracle else None)
    text = json.dumps(configuration.model_dump(mode="json", by_alias=True))
    assert method_configuration("any", json.loads(text)) == configuration
    assert Holder.model_validate({"method": json.loads(text)}).method == configuration


@pytest.mark.parametrize(
    ("options", "key", "fix"),
    [
        ({"site": "regularizer", "mi_attention": "weight"}, "site", "stream"),
        ({"site": "regularizer", "mi_attention": "off"}, "site", "stream"),
        ({"site": "regularizer", "lambda": 0}, "site", "stream"),
        ({"oracle_attention": "learned"}, "oracle_attention", "fixed"),
        ({"attention": "none"}, "mi_attention", "off"),
        ({"oracle": None}, "oracle", "suite's oracles"),
        ({"lambda": 0, "lambda_mode": "ratio"}, "lambda", "fixed"),
        ({"learning_rate_multiplier": 10}, "learning_rate", "null"),
        ({"learning_rate": None}, "learning_rate", "exactly one"),
        ({"taps": []}, "taps", "at least one"),
        ({"taps": ["a", "a"]}, "taps", "once"),
        ({"lamda": 1}, "lamda", "did you mean 'lambda'"),
        ({"lambda": -1}, "lambda", "greater than or equal to 0"),
        ({"lambda": float("nan")}, "lambda", "finite"),
        ({"oracle_scale": 0}, "oracle_scale", "greater than 0"),
        ({"gate": "softmax"}, "gate", "2sigmoid"),
    ],
)
def test_degenerate_and_unknown_options_are_refused_in_one_line(options: dict[str, object], key: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        method_configuration("samiro", {"oracle": "small", **options})
    message = str(caught.value)
    assert "\n" not in message
    assert f"'{key}" in message
    assert fix in message


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'samiro'"):
        method_configuration("samirro", {"oracle": "small"})


def test_the_baseline_takes_no_options() -> None:
    with pytest.raises(InputError, match="unknown key 'oracle'"):
        method_configuration("baseline", {"oracle": "small"})


def test_attention_alone_has_no_lambda() -> None:
    assert method_configuration("attention_only", None).lambda_ == 0
    with pytest.raises(InputError, match="'lambda'"):
        method_configuration("attention_only", {"lambda": 0.1, "oracle": "small"})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("miro", {"lambda": 0}),
        ("feature_distillation", {"lambda": 0, "oracle": "small"}),
        ("samiro", {"lambda": 0, "attention": "none", "mi_attention": "off"}),
    ],
)
def test_an_arm_that_would_be_the_baseline_is_refused(kind: str, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"key 'lambda'.* is the baseline: give a lambda above 0"):
        method_configuration(kind, options)


@pytest.mark.parametrize(
    ("options", "fix"),
    [({"attention": "none", "mi_attention": "off"}, "'spatial'"), ({"site": "regularizer"}, "'stream'")],
)
def test_attention_alone_without_attention_in_the_stream_is_refused(options: dict[str, object], fix: str) -> None:
    with pytest.raises(InputError, match=fix):
        method_configuration("attention_only", options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("samiro", {}), ("samiro", {"mi_attention": "off"}), ("miro", {"attention": "spatial"})],
)
def test_lambda_zero_is_left_to_an_arm_with_attention_in_the_stream(kind: str, options: dict[str, object]) -> None:
    configuration = method_configuration(kind, {"lambda": 0, **options})
    assert isinstance(configuration, RegularizedConfiguration)
    assert configuration.attends_in_stream


def test_a_missing_oracle_is_not_answered_with_a_lambda_that_is_refused() -> None:
    with pytest.raises(InputError, match=r"one of the suite's oracles, or lambda 0$"):
        method_configuration("samiro", None)
    with pytest.raises(InputError, match=r"one of the suite's oracles$"):
        method_configuration("miro", None)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "mim"}, "'mim': give mim:<backbone>"),
        ({"name": "tim:resnet18"}, "names no kind of oracle: did you mean 'timm'"),
        ({"name": "timm"}, "'timm': give timm:<model>"),
        ({"name": "init:resnet18"}, "'init:resnet18': give init"),
        ({"name": "timm:resnet18", "steps": 3}, "key 'steps': means nothing for 'timm:resnet18'"),
        ({"name": "random:resnet18", "file": "a.pth"}, "key 'file': means nothing for 'random:resnet18'"),
        ({"name": "mim:resnet_micro", "image_size": [100, 320], "patch_unit": 32}, "isn't divisible by patch_unit 32"),
        ({"name": "mim:resnet_micro", "crop_scale": [0.9, 0.4]}, "key 'crop_scale'"),
        ({"name": "mim:resnet_micro", "mask_ratio": 1.0}, "less than 1"),
        ({"name": "mim:resnet_micro", "betas": [0.9, 1.0]}, "key 'betas'"),
        ({"name": "init", "seed": 3}, "key 'seed': means nothing for 'init'"),
        ({"name": "mim:resnet_micro", "file": "a.pth", "seed": 3}, "key 'seed': means nothing"),
        ({"name": "mim:resnet_micro", "seed": -1}, "greater than or equal to 0"),
        ({"name": "mim:resnet_micro", "step": 3}, "(?s)step.*not permitted"),
    ],
)
def test_senseless_oracles_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        OracleConfiguration.model_validate(options)


def test_an_oracles_name_is_kind_and_backbone() -> None:
    configuration = OracleConfiguration(name="mim:resnet_micro")
    assert (configuration.kind, configuration.backbone) == ("mim", "resnet_micro")


def test_reading_a_configuration_does_not_import_torch() -> None:
    code = "import sys; import harness.methods.config, harness.methods.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
