"""Overrides: what wins over what, and where a mistake is told to stand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from detectors.meta import Configuration
from detectors.registry import detector_class, detector_meta
from harness.errors import InputError
from harness.files import remembered
from harness.suite import Suite, cells_of

LLAMAS = {"road": {"form": "llamas"}}


def configuration(suite: Suite, detector: str) -> Configuration:
    """That of a detector's first cell."""
    return next(cell.configuration for cell in cells_of(suite) if cell.identity.detector == detector)


def test_a_detectors_own_override_lies_over_the_defaults_and_those_over_what_is_published(
    loading: Callable[..., Suite],
) -> None:
    suite = loading(
        defaults={
            "recipe": {"batch_size": 8, "augmentation": {"flip": 0.25}},
            "forms": {"culane": {"recipe": {"steps": 9}}},
        },
        detectors={"ufldv2_micro": {"recipe": {"batch_size": 4, "augmentation": {"rotation": 1}}}, "resa_micro": None},
    )
    published = detector_meta("ufldv2_micro").configurations["culane"].recipe
    recipe = configuration(suite, "ufldv2_micro").recipe
    assert (recipe.batch_size, recipe.steps, recipe.learning_rate) == (4, 9, published.learning_rate)
    assert (recipe.augmentation.flip, recipe.augmentation.rotation) == (0.25, 1)
    assert recipe.augmentation.scale == published.augmentation.scale
    assert configuration(suite, "resa_micro").recipe.batch_size == 8


def test_a_detectors_own_weights_win_over_those_of_the_defaults(loading: Callable[..., Suite]) -> None:
    published = {"ufldv2_micro": {"weights": "none"}, "resa_micro": None}
    suite = loading(defaults={"weights": "file:start.pth"}, detectors=published)
    assert configuration(suite, "ufldv2_micro").weights == "none"
    assert configuration(suite, "resa_micro").weights.endswith("start.pth")


def test_an_architecture_is_said_in_full(loading: Callable[..., Suite]) -> None:
    """Else another default of an option would leave the identity of a cell as it was."""
    suite = loading(detectors={"resa_micro": {"architecture": {"channels": 8}}})
    published = detector_meta("resa_micro").configurations["culane"].architecture
    options = detector_class("resa_micro").architecture.model_validate({**published, "channels": 8})
    assert configuration(suite, "resa_micro").architecture == options.model_dump(mode="json")


def test_what_is_remembered_of_a_detector_is_of_its_overrides_and_form(
    loading: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "1")
    monkeypatch.setattr(remembered, "_LIGHT", True)
    for form, size in product(("culane", "tusimple"), (4, 8)):
        suite = loading(
            datasets={"road": {"form": form}},
            oracles={},
            methods={"baseline": None},
            detectors={"resa_micro": None},
            defaults={"recipe": {"batch_size": size}},
        )
        found = configuration(suite, "resa_micro")
        assert found.recipe.batch_size == size
        assert found.architecture["rows"] == detector_meta("resa_micro").configurations[form].architecture["rows"]


def test_steps_and_epochs_take_each_others_place_layer_by_layer(loading: Callable[..., Suite]) -> None:
    suite = loading(
        defaults={"recipe": {"steps": 60}}, detectors={"ufldv2_micro": {"recipe": {"epochs": 2}}, "resa_micro": None}
    )
    assert [(r.steps, r.epochs) for r in (configuration(suite, d).recipe for d in suite.detectors)] == [
        (None, 2),
        (60, None),
    ]


def test_overrides_for_a_form_hold_on_its_datasets_alone_and_over_those_for_all(
    loading: Callable[..., Suite],
) -> None:
    both = {"c": {"form": "culane"}, "t": {"form": "tusimple"}}
    part = {"recipe": {"epochs": 5}, "forms": {"tusimple": {"recipe": {"epochs": 7}}}}
    suite = loading(datasets=both, oracles={}, methods={"baseline": None}, detectors={"resa_resnet18": part})
    assert [cell.configuration.recipe.epochs for cell in cells_of(suite)] == [5, 7]
    assert [list(cell.meta.configurations) for cell in cells_of(suite)] == [["culane"], ["tusimple"]]


def test_a_form_without_configuration_starts_like_another_and_a_published_one_is_kept(
    loading: Callable[..., Suite],
) -> None:
    like = {"forms": {"llamas": {"like": "tusimple", "recipe": {"epochs": 3}}, "culane": {"like": "tusimple"}}}
    only = {"methods": {"baseline": None}, "oracles": {}, "detectors": {"resa_resnet18": None}, "defaults": like}
    configurations = detector_meta("resa_resnet18").configurations
    made = configuration(loading(datasets=LLAMAS, **only), "resa_resnet18")
    assert made.recipe.epochs == 3
    assert made.input == configurations["tusimple"].input
    assert made.architecture["bottom_row"] == 710
    kept = configuration(loading(datasets={"road": {"form": "culane"}}, **only), "resa_resnet18")
    assert kept.input == configurations["culane"].input


def test_a_detectors_own_start_wins_over_that_of_the_defaults(loading: Callable[..., Suite]) -> None:
    suite = loading(
        datasets=LLAMAS,
        oracles={},
        methods={"baseline": None},
        defaults={"forms": {"llamas": {"like": "culane"}}},
        detectors={"resa_resnet18": {"forms": {"llamas": {"like": "tusimple"}}}, "resa_resnet34": None},
    )
    forms = ("tusimple", "culane")
    for detector, form in zip(suite.detectors, forms, strict=True):
        assert configuration(suite, detector).input == detector_meta(detector).configurations[form].input


def test_a_form_without_configuration_is_answered_with_the_line_to_write(loading: Callable[..., Suite]) -> None:
    parts: dict[str, Any] = {
        "datasets": {"c": {"form": "culane"}, "t": {"form": "tusimple"}},
        "oracles": {},
        "methods": {"baseline": None},
        "detectors": dict.fromkeys(["resa_resnet18", "lstr_resnet34", "lstr_resnet18s_2x"]),
    }
    line = r"- \{dataset: t, detector: \[lstr_resnet34, lstr_resnet18s_2x\]\}"
    with pytest.raises(
        InputError, match=f"'detectors.lstr_resnet34': has no configuration for form 'tusimple'.*{line}"
    ):
        loading(**parts)
    cells = cells_of(loading(**parts, exclude=[{"dataset": "t", "detector": ["lstr_resnet34", "lstr_resnet18s_2x"]}]))
    assert [(c.identity.dataset, c.identity.detector) for c in cells][-2:] == [
        ("c", "lstr_resnet18s_2x"),
        ("t", "resa_resnet18"),
    ]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"defaults": {"recipe": {"learning_rte": 1}}}, "unknown key 'defaults.recipe.learning_rte': did you mean 'learning_rate'"),
        ({"defaults": {"forms": {"culane": {"recipe": {"augmentation": {"flipp": 1}}}}}},
         "unknown key 'defaults.forms.culane.recipe.augmentation.flipp': did you mean 'flip'"),
        ({"defaults": {"architecture": {"head": "convolutional"}}}, "unknown key 'defaults.architecture.head'"),
        ({"defaults": {"forms": {"kulane": {}}}}, "key 'defaults.forms.kulane'.*'culane'"),
        ({"detectors": {"resa_micro": {"forms": {"culane": {"input": {"nework": [1, 2]}}}}}},
         "unknown key 'detectors.resa_micro.forms.culane.input.nework': did you mean 'network'"),
        ({"detectors": {"resa_micro": {"recipe": {"steps": 0}}}}, "key 'detectors.resa_micro.recipe.steps'"),
        ({"datasets": LLAMAS, "detectors": {"lstr_resnet34": None}, "defaults": {"forms": {"llamas": {"like": "tusimple"}}}},
         "key 'defaults.forms.llamas.like'.*lstr_resnet34 has no configuration for 'tusimple' either; it has culane"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_override_is_told_where_it_stands(
    loading: Callable[..., Suite], parts: dict[str, Any], said: str
) -> None:
    if "datasets" in parts:
        parts = {**parts, "oracles": {}, "methods": {"baseline": None}}
    with pytest.raises(InputError, match=said):
        loading(**parts)
