"""Whether a submission is accepted: it is examined in a process of its own, bounded in time and memory, and what that said is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from harness.errors import InputError
from harness.publishing.copies import known_predictions, places_of
from harness.publishing.demands import demands_of
from harness.publishing.examine import Task, Verdict, refused, told_of
from harness.publishing.quarantine import Bounds, tree_faults
from harness.report.text import counted, markdown

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
"""What is published and submitted in this repository."""

KEPT = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "OMP_NUM_THREADS", "NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
"""What of the environment the examining process gets, besides SAMIRO_BENCH_...: no token of whatever runs this."""


@dataclass(frozen=True)
class Review:
    """A submission and what was said of it."""

    suite: str
    name: str
    verdict: Verdict

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.verdict.reasons

    @property
    def state(self) -> str:
        """What came out, in a sentence."""
        found = self.verdict
        if not self.accepted:
            return f"REFUSED: {counted(len(found.reasons), 'reason')}"
        return f"ACCEPTED: {found.verified} of {counted(found.rows, 'row')} verified"


def review(folder: Path, bounds: Bounds | None = None) -> Review:
    """Review the submission in `<...>/SUITE/NAME`. InputError if there is no such folder."""
    if not os.path.lexists(folder):
        raise InputError(f"{folder}: no such folder; give that of a submission, results/submissions/SUITE/NAME")
    place = Path(os.path.abspath(folder))
    return review_as(place.parent.name, place.name, place, bounds or Bounds())


def review_as(suite: str, name: str, folder: Path, bounds: Bounds) -> Review:
    """Review the submission `name` to `suite`, which lies in `folder`, whatever that is called."""
    # The examining process has another working directory.
    place = Path(os.path.abspath(folder))
    try:
        expected = demands_of(suite)
    except InputError as error:
        return Review(suite, name, refused([str(error)]))
    faults = tree_faults(place, bounds)
    if faults:
        return Review(suite, name, refused(faults))
    task = Task(
        folder=str(place),
        name=name,
        expected=expected,
        bounds=bounds,
        known=known_predictions(RESULTS, suite, name),
        places=places_of(RESULTS, suite, name, place),
    )
    return Review(suite, name, asked(task))


def asked(task: Task) -> Verdict:
    """The verdict of the examining process. One that doesn't end in time, or as it should, gives no verdict but a refusal."""
    seconds = task.bounds.seconds
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.publishing.examine"],
            cwd=ROOT,
            env=environment_of(Path(place)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        try:
            said, complaints = process.communicate(task.model_dump_json(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return refused(
                [
                    f"not examined within {seconds} seconds; submit fewer rows at a time (`--only`), or give a busy machine more "
                    "time (`review --seconds`)"
                ]
            )
        finally:
            end(process)
    try:
        if process.returncode == 0:
            return Verdict.model_validate_json(said)
    except ValidationError:
        complaints = said
    last = next(iter(complaints.strip().splitlines()[-1:]), "")
    memory = task.bounds.memory_bytes >> 20
    return refused(
        [f"its examination ended with exit code {process.returncode} ({last[:200]}); it has {memory} MiB of memory"]
    )


def environment_of(place: Path) -> dict[str, str]:
    """The environment of the examining process, which keeps temporary files in `place`."""
    kept = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith("SAMIRO_BENCH_")}
    return {**kept, "TMPDIR": str(place)}


def end(process: subprocess.Popen[str]) -> None:
    """End a process with all that it started, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lines_of(reviews: Sequence[Review]) -> list[str]:
    """What came out, a line a submission and one a reason or mark below it.

    No line begins with what a stranger wrote: services that run checks take commands from lines of their logs.
    """
    return [
        line
        for one in reviews
        for line in (
            f"{one.suite}/{one.name}: {one.state}",
            *(f"- {told}" for told in (*one.verdict.reasons, *one.verdict.marks)),
        )
    ]


def to_summary(reviews: Sequence[Review]) -> str:
    """The same in Markdown, in which strangers' text shows as itself."""
    lines = []
    for one in reviews:
        lines += [f"### {markdown(one.suite)}/{markdown(one.name)}", "", f"{one.state}.", ""]
        lines += [f"- {markdown(told)}" for told in (*one.verdict.reasons, *one.verdict.marks)]
        lines.append("")
    return "\n".join(lines)


def marked(review: Review, mark: str) -> Review:
    """A review with a mark more, before its others."""
    return replace(review, verdict=review.verdict.model_copy(update={"marks": (mark, *review.verdict.marks)}))


def refused_besides(review: Review, reason: str) -> Review:
    """A review with a reason against the submission before all else that was found."""
    return replace(review, verdict=review.verdict.model_copy(update={"reasons": (reason, *review.verdict.reasons)}))


def refusal(suite: str, name: str, reasons: Sequence[str]) -> Review:
    """The review of what wasn't even looked at."""
    plain = told_of([suite, name])
    return Review(plain[0], plain[1], refused(reasons))
