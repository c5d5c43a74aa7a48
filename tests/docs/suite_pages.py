"""What the tests of docs/results.md and docs/follow-ups.md ask of a suite's section and of its publication."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from harness.records.record import read_checked_counts, read_records
from harness.report.claim import Claim, claim_of

ROOT = Path(__file__).resolve().parents[2]
FOLLOW_UPS, RESULTS = ((ROOT / f"docs/{page}.md").read_text() for page in ("follow-ups", "results"))


@dataclass(frozen=True)
class Suite:
    """What the page says of a suite. heading: of its section; rows: detector in the publication -> how its line of the table begins;
    sign: of the page's difference, which is the second row's gain minus the first's, beside the publication's; 0 without one.
    """

    name: str
    heading: str
    rows: dict[str, str]
    sign: int

    @property
    def folder(self) -> Path:
        """The publication."""
        return ROOT / "results" / self.name

    @property
    def page(self) -> str:
        """The section."""
        return section(self.heading)

    def lines(self, kind: str) -> dict[str, dict[str, str]]:
        """The lines of a kind in the published leaderboard, by detector."""
        with (self.folder / "leaderboard.csv").open() as stream:
            return {line["detector"]: line for line in csv.DictReader(stream) if line["kind"] == kind}

    def row(self, start: str) -> list[str]:
        """The cells of the page's table in a line that begins so, without emphasis."""
        return [cell.strip().strip("*") for cell in self.line(start).strip("|").split("|")]

    def is_bold(self, start: str) -> bool:
        """Whether a cell of that line is emphasised, as gains with a verdict are."""
        return "**" in self.line(start)

    def line(self, start: str) -> str:
        """The line of the page's table that begins so."""
        (found,) = [line for line in self.page.splitlines() if line.startswith(f"| {start} |")]
        return found


CAPACITY = Suite(
    "capacity",
    "On a backbone twice as wide",
    {"resa_micro": "micro", "resa_micro_2x": "twice as wide"},
    1,
)
WIDER = Suite(
    "wider",
    "On a backbone four times as wide",
    {"resa_micro": "micro", "resa_micro_4x": "four times as wide"},
    1,
)
SCENARIOS = ("normal", "crowded", "dazzle", "shadow", "no_line", "arrow", "curve", "cross_fp", "night")


def section(heading: str) -> str:
    """What the two pages have under a heading of the second rank."""
    return re.split(r"\n##+ ", f"{FOLLOW_UPS}\n{RESULTS}".partition(f"\n## {heading}\n")[2])[0]


def told(line: dict[str, str], score: str, decimals: int, sign: int = 1) -> str:
    """A difference as the page writes it."""
    half = (float(line[f"{score}_high"]) - float(line[f"{score}_low"])) / 2
    return f"{sign * float(line[score]):+.{decimals}f} ± {half:.{decimals}f}"


def diagnostics(suite: Suite) -> dict[tuple[str, str], list[float]]:
    """What SAMIRO's arms showed at the last step, of all taps and seeds, by detector and kind."""
    found = defaultdict(list)
    for record in read_records(suite.folder / "records"):
        if record.identity.method != "baseline":
            assert record.training is not None
            for key, value in record.training.final_diagnostics.items():
                found[record.identity.detector, key.partition("/")[0]].append(value)
    return found


def more_loss(suite: Suite, detector: str, variant: str = "samiro*") -> list[float]:
    """By how many percent the detector's own loss over the last tenth of the steps is higher in SAMIRO's arm, for each seed."""
    more = []
    for seed in range(len(list((suite.folder / "training").glob(f"hard-{detector}-baseline-s*.jsonl")))):
        own = []
        for method in (variant, "baseline"):
            (log,) = (suite.folder / "training").glob(f"hard-{detector}-{method}-s{seed}-*.jsonl")
            steps = [json.loads(line) for line in log.read_text().splitlines()]
            steps = [step for step in steps if "losses" in step]
            last = [step["losses"] for step in steps if step["step"] > 0.9 * steps[-1]["step"]]
            own.append(mean(sum(losses.values()) - losses.get("mutual_information", 0.0) for losses in last))
        more.append(100 * (own[0] / own[1] - 1))
    return more


def claims_of(
    suite: Suite, detector: str, pairs: Iterable[tuple[str, str]], first: int = 0
) -> dict[tuple[str, str], Claim]:
    """Each method beside another on one detector, from the counts alone, seeds paired, from the seed `first` on."""
    folder = suite.folder / "records"
    counts = {
        (record.identity.method, record.identity.seed): read_checked_counts(folder, record, record.evaluations[0])
        for record in read_records(folder)
        if record.identity.detector == detector
    }
    seeds = sorted({seed for _, seed in counts if seed >= first})
    return {
        (method, beside): claim_of([counts[beside, seed] for seed in seeds], [counts[method, seed] for seed in seeds])
        for method, beside in pairs
    }


def difference(claim: Claim, key: str, decimals: int) -> str:
    """A difference of a score in points, with the half-width of its interval."""
    (found,) = [
        part for column, part in zip(claim.columns, claim.differences, strict=True) if column.key == key and part
    ]
    assert found.half_widths is not None
    return f"{100 * found.comparison.mean:+.{decimals}f} ± {100 * found.half_widths.total:.{decimals}f}"
