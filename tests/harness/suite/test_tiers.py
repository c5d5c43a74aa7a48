"""Tiers say in which order the cells of a suite are run; `--tier` takes the first of them, and nothing of a cell depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.suite import Choice, Suite, cells_of, tier_of
from harness.suite.choice import chosen_points

TIERS: dict[str, Any] = {
    "first": [{"detector": "ufldv2_*", "method": "baseline"}, {"detector": "ufldv2_*", "seed": 0}],
    "second": [{"detector": ["ufldv2_micro"], "method": "samiro"}, {"detector": "resa_*", "seed": [0, 1]}],
    "third": [{"detector": "*"}],
}


@pytest.fixture(scope="module")
def suite(loading: Callable[..., Suite]) -> Suite:
    """Two detectors, two methods, three seeds, three tiers."""
    return loading(seeds=3, tiers=TIERS)


def named(suite: Suite, **choice: Any) -> set[str]:
    """The cells as detector-method-seed."""
    return {
        f"{one.detector.split('_')[0]} {one.method} {one.seed}"
        for one in (cell.identity for cell in cells_of(suite, Choice(**choice)))
    }


FIRST = {"ufldv2 baseline 0", "ufldv2 baseline 1", "ufldv2 baseline 2", "ufldv2 samiro 0"}
SECOND = {"ufldv2 samiro 1", "ufldv2 samiro 2"} | {
    f"resa {m} {seed}" for m in ("baseline", "samiro") for seed in (0, 1)
}
THIRD = {"resa baseline 2", "resa samiro 2"}


def test_a_tier_is_run_with_those_before_it_and_the_last_is_the_whole_suite(suite: Suite) -> None:
    assert named(suite, tier="first") == FIRST
    assert named(suite, tier="second") == FIRST | SECOND
    assert named(suite, tier="third") == FIRST | SECOND | THIRD == named(suite)


def test_a_cell_is_of_the_first_tier_that_it_fits(suite: Suite) -> None:
    found: dict[str | None, int] = {}
    for cell in cells_of(suite):
        tier = tier_of(suite, cell.identity)
        found[tier] = found.get(tier, 0) + 1
    assert found == {"first": len(FIRST), "second": len(SECOND), "third": len(THIRD)}


def test_tiers_stand_in_the_order_of_the_file(loading: Callable[..., Suite]) -> None:
    made = loading(tiers={"main": [{"method": "samiro"}], "appendix": [{"detector": "*"}]})
    assert [cell.identity.method for cell in cells_of(made, Choice(tier="main"))] == ["samiro"] * 2
    assert cells_of(made, Choice(tier="appendix")) == cells_of(made)


def test_a_tier_knows_a_program_by_its_name_and_a_seed_that_only_an_inclusion_has(
    loading: Callable[..., Suite],
) -> None:
    made = loading(
        detectors={"ufldv2_micro": None, "tea.yaml": None},
        include=[{"method": "samiro", "seeds": [4]}],
        tiers={"one": [{"detector": "seer"}, {"seed": 4}], "two": [{"detector": "*"}]},
    )
    taken = chosen_points(made, Choice(tier="one"))
    assert [(Path(point.detector).stem, point.seed) for point in taken] == [("ufldv2_micro", 4), ("tea", 0)]


def test_the_tier_is_no_part_of_a_cell(loading: Callable[..., Suite], suite: Suite) -> None:
    without = [cell.id for cell in cells_of(loading(seeds=3))]
    assert [cell.id for cell in cells_of(suite)] == without
    other = loading(seeds=3, tiers={"only": [{"seed": [0, 1, 2]}]})
    assert [cell.id for cell in cells_of(other, Choice(tier="only"))] == without


def test_only_and_skip_choose_within_a_tier(suite: Suite) -> None:
    assert named(suite, tier="first", only=["seed=0"]) == {"ufldv2 baseline 0", "ufldv2 samiro 0"}
    assert named(suite, tier="second", skip=["detector=ufldv2_*", "seed=1"]) == {"resa baseline 0", "resa samiro 0"}
    with pytest.raises(InputError, match="no cell of tier first of mine is all of that"):
        cells_of(suite, Choice(tier="first", only=["detector=resa_*"]))
    with pytest.raises(InputError, match="leaves no cell of tier first of mine"):
        cells_of(suite, Choice(tier="first", skip=["detector=ufldv2_*"]))


@pytest.mark.parametrize(
    ("tiers", "tier", "said"),
    [
        (TIERS, "frist", r"mine\.yaml: key 'tiers': no tier is called 'frist': did you mean 'first'"),
        ({}, "first", r"mine\.yaml has no key 'tiers': leave the option out"),
    ],
)
def test_a_tier_that_there_is_not_is_told(
    loading: Callable[..., Suite], tiers: dict[str, Any], tier: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        cells_of(loading(seeds=3, tiers=tiers), Choice(tier=tier))


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ({"A": [{"method": "baseline"}]}, r"key 'tiers': the cell \{dataset: roads, .*method: samiro\} fits no tier"),
        ({"A": [{"detector": "*"}], "B": [{"method": "samiro"}]}, r"key 'tiers\.B': no cell is of this tier"),
        ({"A": [{"detector": "rsa_*"}]}, r"key 'tiers\.A\.0\.detector': no detector is called 'rsa_\*'"),
        ({"A": [{"seed": 0}, {"seed": 5}]}, r"key 'tiers\.A\.1\.seed': there is no seed 5; known: 0, 1, 2"),
        ({"A": [{"detektor": "*"}]}, r"unknown key 'tiers\.A\.0\.detektor': did you mean 'detector'"),
        ({"A": []}, r"key 'tiers\.A'"),
        ({"A": [{}]}, r"key 'tiers\.A\.0': names nothing"),
        ({"a tier": [{"detector": "*"}]}, r"key 'tiers\.a tier"),
    ],
)  # fmt: skip
def test_tiers_that_mean_nothing_are_one_line_that_names_file_and_key(
    loading: Callable[..., Suite], tiers: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        loading(seeds=3, tiers=tiers)
    assert "mine.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_numbers_of_seeds_than_the_files_are_told_where_tiers_name_seeds(loading: Callable[..., Suite]) -> None:
    made = loading(seeds=3, tiers={"one": [{"seed": 1}], "others": [{"seed": [0, 2]}]})
    with pytest.raises(InputError, match=r"seed: 3, method: baseline\} fits no tier"):
        cells_of(made, Choice(seeds=4, tier="one"))
    with pytest.raises(InputError, match=r"--tier one: no cell of mine is left.*more --seeds"):
        cells_of(made, Choice(seeds=1, tier="one"))
