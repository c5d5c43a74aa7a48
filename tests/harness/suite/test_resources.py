"""What cells need: the suite's own words, those for single cells over them, and a command line's over all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import InputError
from harness.matrix.jobs import resources_of
from harness.suite import Suite, cells_of, needs_of, with_resources


def hours(suite: Suite) -> dict[str, float | None]:
    """Method -> the hours of its cell."""
    return {cell.identity.method: needs_of(suite, cell.identity).hours for cell in cells_of(suite)}


@pytest.fixture
def two(loading: Callable[..., Suite]) -> Callable[..., Suite]:
    """A suite of two cells, a method each, with resources."""

    def load(**resources: Any) -> Suite:
        other = {"kind": "baseline"}
        return loading(methods={"baseline": None, "other": other}, resources=resources)

    return load


def test_of_the_parts_that_fit_a_cell_the_last_decides_key_by_key(two: Callable[..., Suite]) -> None:
    cells = [{"method": "o*", "hours": 3}, {"seed": 0, "cpus": 7}, {"method": "nobody*", "hours": 9}]
    suite = two(hours=1, slurm={"partition": "gpu", "qos": "low"}, cells=cells[:2])
    assert hours(suite) == {"baseline": 1, "other": 3}
    assert {needs_of(suite, cell.identity).cpus for cell in cells_of(suite)} == {7}
    assert needs_of(suite).cpus is None
    with pytest.raises(InputError, match=r"key 'resources.cells.2.method': no method is called 'nobody\*'"):
        two(cells=cells)


def test_options_of_sbatch_are_laid_over_one_by_one(two: Callable[..., Suite]) -> None:
    suite = two(slurm={"partition": "gpu", "qos": "low"}, cells=[{"method": "other", "slurm": {"qos": "high"}}])
    options = {cell.identity.method: needs_of(suite, cell.identity).slurm for cell in cells_of(suite)}
    assert options == {
        "baseline": {"partition": "gpu", "qos": "low"},
        "other": {"partition": "gpu", "qos": "high"},
    }


def test_the_command_line_has_the_last_word(two: Callable[..., Suite]) -> None:
    suite = two(hours=1, cpus=2, slurm={"qos": "low"}, cells=[{"method": "other", "hours": 3}])
    assert hours(with_resources(suite, ["hours=5,slurm.partition=gpu"])) == {"baseline": 5, "other": 5}
    assert hours(with_resources(suite, ["hours=5", "method=base*,hours=6.5"])) == {"baseline": 6.5, "other": 5}
    assert hours(with_resources(suite, ["method=other,hours=6.5"])) == {"baseline": 1, "other": 6.5}
    assert needs_of(with_resources(suite, ["hours=5"])).cpus == 2
    assert with_resources(suite, []) == suite


def test_options_of_sbatch_on_the_command_line_are_laid_over_one_by_one_for_every_cell(
    two: Callable[..., Suite],
) -> None:
    suite = two(slurm={"qos": "low"}, cells=[{"method": "other", "slurm": {"qos": "high"}}])

    def options(expression: str) -> list[dict[str, str | int]]:
        made = with_resources(suite, [expression])
        return [needs_of(made, cell.identity).slurm for cell in cells_of(made)][:2]

    assert options("slurm.partition = gpu, slurm.comment=a=b") == [
        {"qos": qos, "partition": "gpu", "comment": "a=b"} for qos in ("low", "high")
    ]
    assert options("slurm.qos=urgent") == [{"qos": "urgent"}] * 2


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("hours", r"--resources 'hours': 'hours' isn't key=value"),
        ("hour=3", r"unknown key 'hour': did you mean 'hours'"),
        ("hours=x", r"key 'hours'"),
        ("method=nobody,hours=3", r"no method is called 'nobody'"),
        ("slurm.time=3", r"the engine sets this option itself: say 'hours'"),
        ("slurm.exclusive=user", r"the engine sets this option itself: say 'whole_node'"),
        ("hours=1,hours=2", r"key 'hours' stands twice"),
        ("slurm.qos=a,slurm.qos=b", r"key 'slurm\.qos' stands twice"),
        ("slrum.qos=a", r"unknown key 'slrum\.qos'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(two: Callable[..., Suite], expression: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_resources(two(), [expression])


def test_jobs_have_a_gpu_a_process_but_what_cells_share_has_one(loading: Callable[..., Suite]) -> None:
    suite = loading(training={"processes": 2}, resources={"cpus": 3, "gpu_memory_gigabytes": 5})
    (cell, *_) = cells_of(suite)
    own, shared = resources_of(suite, cell), resources_of(suite)
    assert (own.processes, own.gpu, own.cpus, own.gpu_memory_gigabytes) == (2, True, 3, 5)
    assert (shared.processes, shared.gpu) == (1, True)
    on_cpu = loading(training={"device": "cpu"})
    assert not resources_of(on_cpu, cells_of(on_cpu)[0]).gpu


def test_a_cell_has_its_share_of_memory_for_decoded_images_as_far_as_it_fills_it(loading: Callable[..., Suite]) -> None:
    real = {"datasets": {"real": {"form": "culane"}}, "oracles": {}, "methods": {"baseline": None}}
    for parts, expected in (
        ({"training": {"cache_gigabytes": 7}, **real}, 7),
        (
            {"training": {"cache_gigabytes": 7}},
            4 * 3 * 295 * 410 / 1e9,
        ),  # frames of 590x1640, as small as its input allows
        ({"training": {"cache_gigabytes": 0}}, 0),
    ):
        suite = loading(**parts)
        assert resources_of(suite, cells_of(suite)[0]).cache_gigabytes == pytest.approx(expected)
    assert resources_of(suite).cache_gigabytes == 0
