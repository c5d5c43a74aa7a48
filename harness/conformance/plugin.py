"""Pytest plugin: the conformance battery as tests of an adapter, in whatever repository it lives.

    @pytest.mark.lane_detector("my_detector")                  # a name, or path/to/file.py:Class from the test's own folder
    def test_conformance(conformance):
        assert conformance.outcome == "passed", conformance.detail

makes one test of every check. The marker also takes `form` (default: every form that the adapter is configured for), `quick=True`
(without the check that trains for long), and `steps` and `f1`, which that check asks for. Checks that can't be made are skipped.
It is loaded wherever samiro-bench is installed, so it imports nothing until such a test is collected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from detectors.meta import Form
    from harness.conformance.battery import Check, CheckResult
    from harness.conformance.subject import Arm, Demands

MARKER = "lane_detector"


@dataclass(frozen=True)
class Case:
    """One check of one arm of an adapter in one form."""

    name: str
    form: Form
    demands: Demands
    check: Check
    arm: Arm


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(name, form=None, quick=False, steps=None, f1=0.95): the adapter whose `conformance` is tested",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a check for what asks for the fixture `conformance`."""
    if "conformance" not in metafunc.fixturenames:
        return
    from harness.errors import InputError

    found = []
    try:
        for marker in metafunc.definition.iter_markers(MARKER):
            found += cases_of(metafunc, *marker.args, **marker.kwargs)
    except (InputError, TypeError) as error:
        pytest.fail(f"@pytest.mark.{MARKER}: {error}", pytrace=False)
    if not found:
        pytest.fail(f'the fixture `conformance` needs @pytest.mark.{MARKER}("name of the adapter")', pytrace=False)
    metafunc.parametrize("conformance", found, indirect=True, ids=[case_id(case) for case in found])


def cases_of(
    metafunc: pytest.Metafunc, name: str, *, form: str | None = None, quick: bool = False, **demands: Any
) -> list[Case]:
    """The cases of one marker."""
    from detectors.registry import rooted
    from harness.conformance.battery import cases
    from harness.conformance.subject import Demands, forms_of

    name = rooted(name, metafunc.definition.path.parent)
    return [Case(name, one, Demands(**demands), *case) for one in forms_of(name, form) for case in cases(quick=quick)]


def case_id(case: Case) -> str:
    """What a test is called, as my_detector-culane-taps-adapter."""
    name = case.name.rpartition("/")[2]
    return "-".join([name, case.form, case.check.name.replace(" ", "_"), case.arm])


@pytest.fixture
def conformance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CheckResult:
    """The result of one check; a check that can't be made skips the test."""
    from harness.conformance.battery import run_check
    from harness.conformance.subject import subject_of

    case: Case = request.param
    subject = subject_of(case.name, case.form, tmp_path_factory.mktemp("conformance"), case.demands)
    result = run_check(subject, case.check, case.arm)
    if result.outcome == "skipped":
        pytest.skip(result.detail)
    return result
