"""What readers are told above or below the tables of a leaderboard: what a column is, and what it is not.

*Emphasis* and `code` are Markdown's; the page and LaTeX make their own of it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from harness.report.columns import ACCURACY, EMPTY_SCENARIO, OVERLAP
from harness.report.leaderboard import Leaderboard, Section
from harness.report.statistics import NOT_SEPARATED

MARKED = re.compile(r"\*([^*]+)\*|`([^`]+)`")
"""Emphasis and code in the texts below."""

HOW_TO_READ = """
Scores are points (x 100), means over training seeds; *Seed SD* is their standard deviation in {headline}. {scores} `#` ranks by
{headline}. A Δ row is the method minus its baseline over paired seeds (same initial weights, data order, augmentations,
micro-batch and threads), ± the half-width of its marginal 95 % interval over training seeds and test clips (with one seed: over
clips alone; under 10 clips there is none); *Seed SD* is then that of the paired differences. Only {headline} has a verdict, from 3
paired seeds on, at a Holm-adjusted .05 over the table's rows of one method, under whatever names (those
towards a control's oracle by themselves); the other intervals are for orientation. A blank cell is a figure that doesn't exist."""

HOW_TO_READ_NOT_SEPARATED = """
*Not separated* doesn't mean equal: *detectable*, beside it, is the true gain that these seeds and clips would have shown with 80 %
probability, at an unadjusted .05: after Holm's adjustment a larger one can be not separated."""

HOW_TO_READ_IN_PRINT = """
Scores are points (x 100), means over training seeds; bold: the best of the ranked rows; *SD*: the standard deviation over seeds in
{headline}. A Δ row is the method minus its baseline over paired seeds, and its SD that of the paired differences; ± is the half-width
of the marginal 95 % interval over training seeds and test clips (with one seed: over clips alone). Only {headline} has a verdict, from
3 paired seeds on, at .05 after Holm's adjustment over the table's rows of one method; the other intervals are for orientation."""

HOW_TO_READ_CROSS = "*cross FP* counts false positives on images without lanes: lower is better."

HOW_TO_READ_ACCURACY = """
*accuracy*, *FP* and *FN* are TuSimple's official means over images; of FP and FN, lower is better. *F1 (CLRNet)* is made from those
means, *F1 (matched)* from all lanes together. One prediction may match several lanes of a label, which makes an image's FP negative:
*FP < 0* counts such images."""

HOW_TO_READ_UNSCORED = """\
Predictions on splits whose labels only the benchmark's own server has. Each cell's folder holds them as its server reads
them, in `score-<evaluation>/submission.zip`."""

HOW_TO_READ_LEFT_OUT = "Records on which no figure of this page rests, and why."

HOW_TO_READ_MISSING = "Rows without records of all the seeds that the suite has, and which of them are lacking."

HOW_TO_READ_OUTDATED = (
    "Rows of cells whose code, options, data or oracle are others since: they are of what was there before."
)

HOW_TO_READ_GAINS = """\
The *95 % interval* spans seeds and clips; the *seed interval* holds the clips fixed, the *clip interval* the seeds.
*Pooled seeds* is the interval with the seed variance pooled over the rows: for sensitivity, no verdict rests on it.
*p (Holm)* is p after Holm's adjustment over the table's rows of one method: the verdict's.
*Detectable* is the true gain that this many seeds and clips would have shown with 80 % probability, at an unadjusted
.05. *Correlation* is that of the two arms' scores over the seeds: sharing seeds narrows the seed interval only where it
exceeds .58 with 3 pairs, or .31 with 5."""

HOW_TO_READ_LOST_TO_HOLM = """\
An interval that excludes 0 beside *not separated* is of its row alone; the verdict is after Holm's adjustment over the rows of one
method."""

HOW_TO_READ_FAILED = "Cells that were run and gave no result, and why."

HOW_TO_READ_PUBLISHED = """\
What others published of the same detector and backbone, as results/published/ has it: never ranked, and in no Δ above.
The notes below the table name each source and what is known to differ from the measurement here, or isn't stated."""

HOW_TO_READ_CONTRASTS = """\
A method's gain in one row of a detector minus its gain in another, as with another schedule or on another backbone of
its paper, over the seeds of both, with intervals as above and no verdict, not adjusted for how many there are: whether
one of two gains is separated from zero and the other isn't doesn't answer this."""

HOW_TO_READ_METHODS = """\
SAMIRO minus each other method on the same detector, or each two methods where there is no SAMIRO, over the seeds of
both, with intervals as above and no verdict, not adjusted for how many there are. Where the two are configured alike in
all else, it is what mutual information adds, minus *attention_only*, and what an oracle's knowledge does, minus a
control's oracle; a row with another lambda, say, differs by that as well."""

HOW_TO_READ_VARIANTS = """\
Where a method has several variants on one detector, under whatever names: the one with the highest mean in the score
by which rows are ranked minus each other, over the seeds that all of them have, with intervals as above and no verdict;
rows that aren't ranked come last. The highest of several is flattered by having been picked: choose on a validation
split, and test what was chosen."""

HOW_TO_READ_TIMES = """\
Batch 1, host to device + model + post-processing, wall clock; medians over the cells. *Relative* is p50 over the p50
of torchvision's resnet18 at 1x3x288x800 in the same process. `lane-latency/1-short` is one process and 100
iterations: shown, never ranked. Compare within one table only: each is one protocol on one machine."""

HOW_TO_READ_INFERENCE = """\
Time of a method's network over that of the same network without what the method left in it, batch 1, both in turns in
one process: the median over the cells (the lowest to the highest end of any cell's 95 % bootstrap interval). Methods
that aren't here leave nothing behind: their network is the baseline's. *Graph*: as it is, exported, compiled, or as a
CUDA graph."""

HOW_TO_READ_TRAINING = (
    "Means over the cells, of the training steps alone: *s/step* of each cell's median step, *Minutes* of all its steps, the slow ones "
    "too. Compare within one table only. *Step × baseline* is a step's time over the baseline's, both in turns in one process: the "
    "median of its blocks (the lowest to the highest); ≥ where its protocol, step-cost/1, left out what `lambda_mode: ratio` measures; "
    "the words behind it are flags of that measurement."
)

HOW_TO_READ_OWN_TIMES = (
    "What programs that run in an environment of their own say of an image's time: each by its own clock and its own idea of what "
    "counts. Compare with nothing."
)

HOW_TO_READ_SUMMARY = """\
Random effects over the rows' gains in {headline} (REML, Hartung-Knapp), the backbones of a detector averaged: the
prediction interval is for the gain on a new detector. *Consistently improves* means that it lies above 0, and takes at
least 5 detectors. Nothing here is adjusted for how many variants of a method there are."""

DATASETS_ARE_INDEPENDENT = (
    "Rows of different datasets count as independent: of datasets that share frames to test on, the error is larger."
)


def headlines(board: Leaderboard) -> str:
    """The scores that rows are ranked by: TuSimple has one of its own."""
    titles = sorted({section.headline.title for section in board.sections})
    return titles[0] if len(titles) == 1 else f"{OVERLAP.headline.title} (TuSimple: {ACCURACY.headline.title})"


def how_to_read(board: Leaderboard) -> str:
    """What the columns of the board's tables are, in lines of 118 characters."""
    columns = {column for section in board.sections for column in section.columns}
    told = [HOW_TO_READ_CROSS] if any(column.scenario == EMPTY_SCENARIO for column in columns) else []
    told += [HOW_TO_READ_ACCURACY] if ACCURACY.headline in columns else []
    text = HOW_TO_READ.format(headline=headlines(board), scores=" ".join(told))
    if any(some_not_separated(section) for section in board.sections):
        text += HOW_TO_READ_NOT_SEPARATED
    return textwrap.fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)


def how_to_read_summary(board: Leaderboard) -> str:
    """What the table of methods over all rows is, in lines of 118 characters where more is to be said than usually."""
    text = HOW_TO_READ_SUMMARY.format(headline=headlines(board))
    if all(summary.datasets == 1 for summary in board.summaries):
        return text
    return f"{text}\n{DATASETS_ARE_INDEPENDENT}"


def how_to_read_in_print(section: Section) -> str:
    """What the columns of a section's table in a paper are, which has no other text beside it."""
    text = HOW_TO_READ_IN_PRINT.format(headline=section.headline.title)
    return text + HOW_TO_READ_NOT_SEPARATED if some_not_separated(section) else text


def how_to_read_gains(sections: Iterable[Section]) -> str:
    """What the columns of gains are; and, where some gain's interval excludes 0 and its verdict doesn't follow, why not."""
    lost = any(gain.lost_to_holm for section in sections for gain in section.gains)
    return f"{HOW_TO_READ_GAINS}\n{HOW_TO_READ_LOST_TO_HOLM}" if lost else HOW_TO_READ_GAINS


def some_not_separated(section: Section) -> bool:
    """Whether a section has a gain with that verdict."""
    return any(gain.verdict == NOT_SEPARATED for gain in section.gains)


@dataclass(frozen=True)
class Faults:
    """What some figures don't rest on: of which kind it is, what that means, and a line each."""

    title: str
    text: str
    lines: tuple[str, ...]


def faults_of(board: Leaderboard) -> tuple[Faults, ...]:
    """The seeds that failed, the records that are left out, that are missing or don't hold any more, as far as there are any."""
    found = (
        Faults("Failed seeds", HOW_TO_READ_FAILED, board.failed),
        Faults("Not used", HOW_TO_READ_LEFT_OUT, board.left_out),
        Faults("Missing", HOW_TO_READ_MISSING, board.missing),
        Faults("Outdated", HOW_TO_READ_OUTDATED, board.outdated),
    )
    return tuple(faults for faults in found if faults.lines)
