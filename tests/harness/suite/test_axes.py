"""Which points a suite's matrix has, and how they are chosen."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.suite import Choice, Suite, cells_of
from harness.suite.axes import Point, points_of, select
from harness.suite.schema import Condition, Inclusion

ROADS = {"rendered": {"seed": 1, "splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}
DATASETS, DETECTORS, METHODS, SEEDS = (
    ("near", "far"),
    ("ufldv2_micro", "resa_micro", "lstr_micro"),
    ("baseline", "samiro"),
    3,
)


@pytest.fixture(scope="module")
def suite(loading: Callable[..., Suite]) -> Suite:
    """Two datasets, three detectors, two methods and three seeds."""
    return loading(
        datasets={"near": ROADS, "far": {"rendered": {**ROADS["rendered"], "seed": 2}}},
        oracles={"small": {"configuration": {"name": "random:resnet_micro"}}},
        detectors=dict.fromkeys(DETECTORS),
        seeds=SEEDS,
    )


def patterns(names: tuple[str, ...]) -> st.SearchStrategy[object]:
    known = st.sampled_from([*names, *(f"{name[:2]}*" for name in names), "*r*"])
    return st.none() | known | st.lists(known, min_size=1, max_size=2)


names = {"dataset": patterns(DATASETS), "detector": patterns(DETECTORS), "method": patterns(METHODS)}
some_seeds = st.lists(st.integers(0, 4), min_size=1, max_size=3)
conditions = st.fixed_dictionaries(names | {"seed": st.none() | st.integers(0, 2) | some_seeds}).map(
    Condition.model_validate
)
inclusions = st.fixed_dictionaries(names | {"seeds": st.none() | st.integers(1, 5) | some_seeds}).map(
    Inclusion.model_validate
)


def meant(names: tuple[str, ...] | None, value: str) -> bool:
    return names is None or any(fnmatchcase(value, name) for name in names)


def by_hand(exclude: list[Condition], include: list[Inclusion]) -> list[Point]:
    """Every point there could be, in order, asked one by one whether it is in the matrix."""
    found = []
    for dataset, detector, seed, method in product(DATASETS, DETECTORS, range(6), METHODS):

        def fits(
            part: Condition | Inclusion, dataset: str = dataset, detector: str = detector, method: str = method
        ) -> bool:
            return meant(part.dataset, dataset) and meant(part.detector, detector) and meant(part.method, method)

        wanted = seed < SEEDS and not any(fits(c) and (c.seed is None or seed in c.seed) for c in exclude)
        for part in include:
            there = part.seeds if isinstance(part.seeds, tuple) else range(SEEDS if part.seeds is None else part.seeds)
            wanted = wanted or (fits(part) and seed in there)
        if wanted:
            found.append(Point(dataset, detector, seed, method))
    return found


@given(st.lists(conditions, max_size=3), st.lists(inclusions, max_size=3))
def test_every_point_that_belongs_there_is_there_once_and_in_order(
    suite: Suite, exclude: list[Condition], include: list[Inclusion]
) -> None:
    made = suite.model_copy(update={"exclude": tuple(exclude), "include": tuple(include)})
    assert list(points_of(made)) == by_hand(exclude, include)
    assert points_of(
        made.model_copy(update={"exclude": tuple(exclude[::-1]), "include": tuple(include[::-1])})
    ) == points_of(made)


def test_without_conditions_the_matrix_is_the_product_with_pairs_side_by_side(suite: Suite) -> None:
    assert points_of(suite) == tuple(Point(*values) for values in product(DATASETS, DETECTORS, range(SEEDS), METHODS))


def test_another_number_of_seeds_takes_the_place_of_every_number_and_cuts_lists(suite: Suite) -> None:
    parts = {"include": (Inclusion(detector=("resa_*",), seeds=5), Inclusion(detector=("lstr_*",), seeds=(3, 4)))}
    made = suite.model_copy(update=parts)

    def count(seeds: int | None, detector: str) -> set[int]:
        return {point.seed for point in points_of(made, seeds) if point.detector == detector}

    assert [count(None, detector) for detector in DETECTORS] == [{0, 1, 2}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}]
    assert [count(1, detector) for detector in DETECTORS] == [{0}] * 3
    assert [count(4, detector) for detector in DETECTORS] == [{0, 1, 2, 3}] * 3
    assert [count(7, detector) for detector in DETECTORS] == [set(range(7))] * 3


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"exclude": [{"detector": "resnet_*"}]}, r"key 'exclude\.0\.detector': no detector is called 'resnet_\*'.*known: resa_micro"),
        ({"exclude": [{"detector": "resa_micr"}]}, "did you mean 'resa_micro'"),
        ({"exclude": [{"method": "samiro"}, {"method": ["baseline", "miro"]}]}, r"exclude\.1\.method.*did you mean 'samiro'"),
        ({"exclude": [{"dataset": "culane"}]}, r"exclude\.0\.dataset.*known: roads"),
        ({"exclude": [{"seed": 1}]}, r"exclude\.0\.seed.*no seed 1.*0 to 0"),
        ({"exclude": [{"detektor": "resa_micro"}]}, r"unknown key 'exclude\.0\.detektor': did you mean 'detector'"),
        ({"exclude": [{}]}, r"key 'exclude\.0': names nothing"),
        ({"exclude": [{"method": []}]}, r"key 'exclude\.0\.method'"),
        ({"exclude": [{"method": "*"}]}, "leaves no cell"),
        ({"exclude": {"method": "samiro"}}, "key 'exclude'"),
        ({"include": [{"detector": "resa_*"}]}, r"key 'include\.0': adds no cell"),
        ({"include": [{"seeds": 2}, {"seeds": [1]}]}, r"key 'include\.1': adds no cell"),
        ({"detectors": {"resa_micro": None, "tea.yaml": None}, "include": [{"detector": "seer", "seeds": 2}]},
         r"key 'include\.0': adds no cell"),
        ({"include": [{"detector": "rsa_*", "seeds": 3}]}, r"include\.0\.detector.*no detector is called"),
        ({"include": [{"seed": 3}]}, r"unknown key 'include\.0\.seed': did you mean 'seeds'"),
        ({"include": [{"seeds": -1}]}, r"key 'include\.0\.seeds'"),
    ],
)  # fmt: skip
def test_a_condition_that_means_nothing_is_one_line_that_names_its_key(
    loading: Callable[..., Suite], parts: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        loading(**parts)
    assert "mine.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_condition_on_seeds_holds_however_few_run(loading: Callable[..., Suite]) -> None:
    made = loading(seeds=3, exclude=[{"seed": 2, "method": "samiro"}])
    assert len(points_of(made)) == 10
    assert len(points_of(made, 1)) == 4


def test_a_condition_without_seeds_holds_of_however_many_run(loading: Callable[..., Suite]) -> None:
    made = loading(seeds=1, exclude=[{"method": "samiro"}])
    assert {point.method for point in points_of(made, 3)} == {"baseline"}
    assert {point.seed for point in points_of(made, 3)} == {0, 1, 2}


@pytest.mark.parametrize(
    "parts", [{}, {"exclude": [{"detector": "seer"}], "include": [{"detector": "s*", "seeds": 2}]}]
)
def test_a_program_has_seed_0_of_methods_of_kind_baseline_also_where_it_is_included(
    loading: Callable[..., Suite], parts: dict[str, object]
) -> None:
    methods = {"samiro": {"oracle": "small"}, "baseline": None, "other": {"kind": "baseline"}}
    made = loading(seeds=3, detectors={"resa_micro": None, "tea.yaml": None}, methods=methods, **parts)
    seer = [point for point in points_of(made) if point.detector != "resa_micro"]
    assert [(point.seed, point.method) for point in seer] == [(0, "baseline"), (0, "other")]
    assert select(made, points_of(made), ["detector=seer"]) == tuple(seer)


def test_of_cells_that_are_all_excluded_some_can_be_included(loading: Callable[..., Suite]) -> None:
    made = loading(
        exclude=[{"seed": 0}], include=[{"seeds": [1], "method": "samiro"}, {"seeds": [1], "detector": "r*"}]
    )
    assert [(p.detector, p.seed, p.method) for p in points_of(made)] == [
        ("ufldv2_micro", 1, "samiro"),
        ("resa_micro", 1, "baseline"),
        ("resa_micro", 1, "samiro"),
    ]
    assert select(made, points_of(made), ["seed=1"]) == points_of(made)


def test_expressions_choose_cells_and_several_are_alternatives(suite: Suite) -> None:
    points = points_of(suite)
    assert select(suite, points, ()) == points
    chosen = select(suite, points, ["detector=resa_*, method=samiro", "seed=1,dataset=far,method=baseline"])
    assert chosen == tuple(
        p
        for p in points
        if (p.detector, p.method) == ("resa_micro", "samiro") or (p[::3] == ("far", "baseline") and p.seed == 1)
    )
    assert [cell.identity.method for cell in cells_of(suite, Choice(only=["seed=0,dataset=near,detector=u*"]))] == [
        "baseline",
        "samiro",
    ]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("metod=samiro", "unknown key 'metod': did you mean 'method'"),
        ("detector=ufld", "no detector is called 'ufld': did you mean 'ufldv2_micro'"),
        ("detector", "isn't key=pattern"),
        ("detector=", "isn't key=pattern"),
        ("", "isn't key=pattern"),
        ("method=samiro,method=baseline", "'method' stands twice"),
        ("seed=3", "no seed 3; known: 0, 1, 2"),
        ("seed=one", "'seed"),
    ],
)
def test_an_expression_that_means_nothing_is_told_with_what_there_is(suite: Suite, expression: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        select(suite, points_of(suite), ["method=samiro", expression])


def test_an_expression_that_no_cell_fits_is_told(loading: Callable[..., Suite]) -> None:
    made = loading(exclude=[{"detector": "resa_*", "method": "samiro"}])
    with pytest.raises(InputError, match="no cell of mine is all of that"):
        select(made, points_of(made), ["detector=resa_*,method=samiro"])
    with pytest.raises(InputError, match="--skip 'method=baseline': leaves no cell of mine: skip less"):
        select(made, points_of(made), ["detector=resa_*"], ["method=baseline"])
