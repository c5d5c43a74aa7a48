"""The results of the battery as a page: one table a detector form, one line a check and arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from detectors.meta import Form
from harness.conformance.battery import CHECKS, CheckResult
from harness.conformance.subject import Arm
from harness.rendered.spec import RENDERER_VERSION

ARMS: tuple[Arm, ...] = ("baseline", "samiro")


@dataclass(frozen=True)
class Report:
    """What the battery said of one adapter in one dataset form."""

    detector: str
    form: Form
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; skipped ones say why."""
        return not any(result.outcome == "failed" for result in self.results)


def page(reports: Sequence[Report], machine: str) -> str:
    """The whole page, in markdown. `machine`: what the checks ran on. No times: they are no part of what an adapter promises."""
    parts = [
        "# Conformance",
        "What every adapter must promise (`detectors/base.py`) and what the battery saw, for the adapter by itself and in both arms. "
        f"Made by `samiro-bench detectors check NAME... --table docs/conformance.md` on {machine}, with frames of "
        f"version {RENDERER_VERSION} of the renderer.",
        tabulate(
            [
                [
                    report.detector,
                    report.form,
                    *tallied(report.results),
                    *(trained(report.results, arm) for arm in ARMS),
                ]
                for report in reports
            ],
            headers=[
                "Detector",
                "Form",
                "Passed",
                "Failed",
                "Skipped",
                *(f"Trained on 8 images, {arm}" for arm in ARMS),
            ],
            tablefmt="pipe",
        ),
    ]
    for report in reports:
        rows = [[result.check, result.arm, result.outcome, escaped(result.detail)] for result in report.results]
        parts += [
            f"## {report.detector}, {report.form}",
            tabulate(rows, headers=["Check", "Of", "Outcome", "Seen"], tablefmt="pipe", disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def tallied(results: Sequence[CheckResult]) -> list[int]:
    """How many checks passed, failed and were skipped."""
    outcomes = [result.outcome for result in results]
    return [outcomes.count("passed"), outcomes.count("failed"), outcomes.count("skipped")]


def trained(results: Sequence[CheckResult], arm: Arm) -> str:
    """What came of the long training in an arm; a dash where it wasn't made."""
    long = {check.name for check in CHECKS if check.long}
    return ", ".join(escaped(result.detail) for result in results if result.check in long and result.arm == arm) or "-"


def escaped(text: str) -> str:
    """Text that can't end a cell of a markdown table."""
    return text.replace("|", "\\|")
