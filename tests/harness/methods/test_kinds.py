"""Each kind of method is attached by its own name, and says for itself what it takes and what it leaves."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, cast

import pytest
import torch
from pydantic import Field, ValidationError

from detectors.base import Detector
from harness.errors import InputError
from harness.methods.attach import METHODS, Means, Method, attach, inference_model, unchanged
from harness.methods.base import TrainingModel
from harness.methods.baseline import BaselineModel
from harness.methods.config import (
    KINDS,
    BaselineConfiguration,
    OracleConfiguration,
    OracleGuidedConfiguration,
    RegularizedConfiguration,
    SamiroConfiguration,
    kinds_of,
    method_configuration,
)
from harness.methods.pairing import paired
from harness.methods.taps import select_taps
from harness.suite.schema import oracle_of


class DerivedConfiguration(RegularizedConfiguration):
    """A kind that somebody derived and forgot to attach."""

    kind: Literal["derived"] = "derived"


class GuidedConfiguration(OracleGuidedConfiguration):
    """A method of its own that looks at an oracle."""

    kind: Literal["guided"] = "guided"
    weight: float = Field(0.1, gt=0)


def test_every_kind_that_a_suite_may_name_is_attached_under_its_name() -> None:
    assert METHODS.keys() == KINDS.keys()


def test_a_derived_kind_without_an_entry_is_refused_and_not_trained_as_what_it_derives_from(toy: ModuleType) -> None:
    configuration = cast(Any, DerivedConfiguration(oracle="o", normalize="none"))
    with pytest.raises(InputError, match=r"key 'kind': .*'derived'.* METHODS in harness/methods/attach\.py"):
        attach(
            toy.detector(), configuration, oracle=toy.oracle(), statistics=None, generator=torch.Generator()
        )  # fmt: skip
    with pytest.raises(InputError, match="'derived'"):
        inference_model(toy.detector(), configuration)


def test_a_derived_kind_leaves_what_its_own_entry_says(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "derived", Method(METHODS["samiro"].around, leaves=unchanged))
    configuration = cast(Any, DerivedConfiguration(oracle="o"))
    assert set(inference_model(toy.detector(), configuration).state_dict()) == set(toy.detector().state_dict())


def test_a_method_of_its_own_is_given_the_oracle_and_pairs_its_taps(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def around(detector: Detector, configuration: GuidedConfiguration, means: Means) -> TrainingModel:
        assert means.oracle is not None
        taps = select_taps(detector, configuration.taps).used
        given.append((configuration.weight, paired(detector, means.oracle, taps), means.total_steps))
        return BaselineModel(detector)

    monkeypatch.setitem(METHODS, "guided", Method(around, leaves=unchanged))
    configuration = cast(Any, GuidedConfiguration(oracle="o", taps=("stages.1",)))
    oracle = toy.oracle()
    attach(toy.detector(), configuration, oracle=oracle, statistics=None, generator=torch.Generator(), total_steps=7)
    ((weight, pairs, steps),) = given
    assert (weight, steps) == (0.1, 7)
    assert [pair.tap.path for pair in pairs] == ["stages.1"]
    assert pairs[0].oracle_tap is oracle.taps[oracle.partner(pairs[0].tap)]


@pytest.mark.parametrize("option", [{"projection": "identity"}, {"variance": "miro"}, {"learning_rate": 5}])
def test_a_method_with_an_oracle_takes_no_options_of_the_regularizer(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="not permitted"):
        GuidedConfiguration.model_validate({"oracle": "o", **option})


def test_a_method_with_an_oracle_needs_its_name() -> None:
    assert oracle_of(cast(Any, GuidedConfiguration(oracle="small"))) == "small"
    assert oracle_of(method_configuration("samiro", {"oracle": "small", "lambda": 0})) is None
    with pytest.raises(ValidationError, match="key 'oracle': missing"):
        GuidedConfiguration()


def test_a_kind_is_of_one_configuration_alone() -> None:
    class OtherConfiguration(BaselineConfiguration):
        kind: Literal["baseline", "samiro"] = "baseline"  # type: ignore[assignment]

    class SecondConfiguration(RegularizedConfiguration):
        kind: Literal["samiro"] = "samiro"

    with pytest.raises(InputError, match="SamiroConfiguration and SecondConfiguration are both of kind 'samiro'"):
        kinds_of([SamiroConfiguration, SecondConfiguration])
    for model in (OracleGuidedConfiguration, OtherConfiguration):
        with pytest.raises(InputError, match=f"{model.__name__} has no kind of its own"):
            kinds_of([model])


@pytest.mark.parametrize("kind", ["teacher.py:Teacher", "labmethods.teacher:Teacher", "./teacher.py"])
def test_a_kind_that_looks_like_a_file_or_a_package_is_told_where_methods_lie(kind: str) -> None:
    with pytest.raises(InputError, match=r"key 'methods\.mine\.kind': .*below harness/methods.*add-a-method"):
        method_configuration("mine", {"kind": kind}, under="methods.mine")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lambda": True}, r"key 'lambda': .*number \(it is True\)"),
        ({"lambda": "0.5"}, r"key 'lambda': .*number \(it is '0.5'\)"),
        ({"oracle": 3}, r"key 'oracle': .*string \(it is 3\)"),
        ({"taps": "stages.1"}, r"key 'taps': must be a list"),
    ],
)
def test_no_option_is_taken_for_one_of_another_type(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        method_configuration("samiro", {"oracle": "o", **options})


def test_a_whole_number_is_a_number_and_a_list_a_tuple() -> None:
    configuration = method_configuration("samiro", {"oracle": "o", "lambda": 1, "taps": ["a", "b"]})
    assert isinstance(configuration, SamiroConfiguration)
    assert repr(configuration.lambda_) == "1.0"
    assert configuration.taps == ("a", "b")
    oracle = OracleConfiguration.model_validate(
        {"name": "mim:resnet_micro", "image_size": [64, 160], "betas": [0, 0.9]}
    )
    assert (oracle.image_size, oracle.betas) == ((64, 160), (0.0, 0.9))
    for value in (1.0, "1", True):
        with pytest.raises(ValidationError, match="steps"):
            OracleConfiguration.model_validate({"name": "mim:resnet_micro", "steps": value})
