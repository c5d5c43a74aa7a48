"""The leaderboard as Markdown: stable text, so that the same records give the same bytes. The CSV is harness.report.table_csv."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from harness.files.stored import write_text
from harness.report.beyond_cells import (
    HOW_TO_READ_ROBUSTNESS,
    HOW_TO_READ_TRANSFER,
    robustness_notes,
    robustness_table,
    transfer_tables,
)
from harness.report.cells import (
    Table,
    contrast_table,
    gain_table,
    inference_tables,
    own_timing_tables,
    score_table,
    summary_table,
    timing_tables,
    training_tables,
    unscored_table,
    variant_table,
)
from harness.report.columns import ACCURACY, EMPTY_SCENARIO, OVERLAP
from harness.report.leaderboard import Leaderboard, Section
from harness.report.published_cells import published_notes, published_table
from harness.report.section_text import section_notes, section_text, section_title
from harness.report.table_csv import to_csv
from harness.report.table_latex import to_latex
from harness.report.text import markdown

HOW_TO_READ = """
Scores are points (x 100), means over training seeds; *Seed SD* is their standard deviation in {headline}. {scores} `#` ranks by
{headline}. A Δ row is the method minus its baseline over paired seeds (same initial weights, data order, augmentations,
micro-batch and threads), ± the half-width of its marginal 95 % interval over training seeds and test clips (with one seed: over
clips alone; under 10 clips there is none); *Seed SD* is then that of the paired differences. Only {headline} has a verdict, from 3
paired seeds on, at a Holm-adjusted .05 over the table's rows of one method, under whatever names, a control's oracle
apart; the other intervals are for orientation. A blank cell is a figure that doesn't exist."""

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

HOW_TO_READ_GAINS = """\
The *95 % interval* spans seeds and clips; the *seed interval* holds the clips fixed, the *clip interval* the seeds.
*Pooled seeds* is the interval with the seed variance pooled over the rows: for sensitivity, no verdict rests on it.
*Detectable* is the true gain that this many seeds and clips would have shown with 80 % probability. *Correlation* is
that of the two arms' scores over the seeds: sharing seeds narrows the seed interval only where it exceeds .58 with 3
pairs, or .31 with 5."""

HOW_TO_READ_FAILED = "Cells that were run and gave no result, and why."

HOW_TO_READ_PUBLISHED = """\
What others published of the same detector and backbone, as results/published/ has it: never ranked, and in no Δ above.
The notes below the table name each source and what is known to differ from the measurement here, or isn't stated."""

HOW_TO_READ_CONTRASTS = """\
A method's gain in one row of a detector minus its gain in another, as with another schedule or on another backbone of
its paper, over the seeds of both, with intervals as above and no verdict, not adjusted for how many there are: whether
one of two gains is separated from zero and the other isn't doesn't answer this."""

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


def write_leaderboard(folder: Path, board: Leaderboard) -> tuple[Path, ...]:
    """Write leaderboard.md, leaderboard.csv and leaderboard.tex into `folder`, each atomically; returns their paths."""
    texts = {"md": to_markdown(board), "csv": to_csv(board), "tex": to_latex(board)}
    paths = {folder / f"leaderboard.{ending}": text for ending, text in texts.items()}
    for path, text in paths.items():
        write_text(path, text)
    return tuple(paths)


def to_markdown(board: Leaderboard) -> str:
    """The whole leaderboard as GitHub Markdown."""
    suites = ", ".join(markdown(suite) for suite in board.suites)
    parts = [f"# Leaderboard{f': {suites}' if suites else ''}"]
    if not board.sections and not board.unscored:
        parts.append("No records yet.")
    if board.sections:
        parts.append(how_to_read(board))
    for section in board.shown:
        parts += score_parts(section, board) + gain_parts(section)
    parts += beyond_parts(board)
    if board.summaries:
        parts += ["## Methods over all rows", how_to_read_summary(board), table_text(summary_table(board))]
    parts += failed_parts(board)
    if board.unscored:
        parts += ["## Not scored here", HOW_TO_READ_UNSCORED, table_text(unscored_table(board))]
    parts += left_out_parts(board)
    for title, text, tables in (
        ("Latency", HOW_TO_READ_TIMES, timing_tables(board)),
        ("What methods cost at inference", HOW_TO_READ_INFERENCE, inference_tables(board)),
        ("Programs by their own clocks", HOW_TO_READ_OWN_TIMES, own_timing_tables(board)),
        ("Training cost", HOW_TO_READ_TRAINING, training_tables(board)),
    ):
        if tables:
            parts += [f"## {title}", text]
        for table in tables:
            parts += [f"### {markdown(table.title)}", table_text(table)]
    return "\n\n".join(parts) + "\n"


def scores_to_markdown(board: Leaderboard) -> str:
    """The scores of the leaderboard alone, for a page that leads to the whole: with their notes, and with what failed or is missing."""
    parts = [how_to_read(board)] if board.sections else []
    for section in board.shown:
        parts += score_parts(section, board)
    return "\n\n".join([*parts, *failed_parts(board), *left_out_parts(board)])


def beyond_parts(board: Leaderboard) -> list[str]:
    """The tables of transfer and of robustness, where there are any."""
    parts = []
    for table in transfer_tables(board):
        parts += ["## Transfer", HOW_TO_READ_TRANSFER, table_text(table)]
    if board.robustness:
        parts += ["## Robustness", HOW_TO_READ_ROBUSTNESS]
    for found in board.robustness:
        table = robustness_table(found)
        parts += [f"### {markdown(table.title)}", table_text(table)]
        parts.append("\n".join(f"- {markdown(note)}" for note in robustness_notes(found)))
    return parts


def failed_parts(board: Leaderboard) -> list[str]:
    """Which cells gave no result."""
    if not board.failed:
        return []
    return ["## Failed seeds", HOW_TO_READ_FAILED, "\n".join(f"- {markdown(line)}" for line in board.failed)]


def left_out_parts(board: Leaderboard) -> list[str]:
    """What is wrong with records that no figure rests on, and which seeds of a row there are none of."""
    parts = []
    for title, text, lines in (
        ("Not used", HOW_TO_READ_LEFT_OUT, board.left_out),
        ("Missing", HOW_TO_READ_MISSING, board.missing),
    ):
        if lines:
            parts += [f"## {title}", text, "\n".join(f"- {markdown(line)}" for line in lines)]
    return parts


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
    return textwrap.fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)


def how_to_read_summary(board: Leaderboard) -> str:
    """What the table of methods over all rows is, in lines of 118 characters where more is to be said than usually."""
    text = HOW_TO_READ_SUMMARY.format(headline=headlines(board))
    if all(summary.datasets == 1 for summary in board.summaries):
        return text
    return f"{text}\n{DATASETS_ARE_INDEPENDENT}"


def score_parts(section: Section, board: Leaderboard) -> list[str]:
    """The scores of a section: what it is, its table and the notes."""
    parts = [f"## {markdown(section_title(section))}", markdown(section_text(section))]
    parts.append(table_text(score_table(section, board.timings)))
    notes = section_notes(section, board)
    if notes:
        parts.append("\n".join(f"- {markdown(note)}" for note in notes))
    return parts


def gain_parts(section: Section) -> list[str]:
    """What a section's scores are held against: its gains, and the published figures."""
    parts = []
    if section.gains:
        parts += [f"### Paired gains in {section.headline.title}", HOW_TO_READ_GAINS, table_text(gain_table(section))]
    if section.contrasts:
        parts += ["### Gains held against each other", HOW_TO_READ_CONTRASTS, table_text(contrast_table(section))]
    if (variants := variant_table(section)).rows:
        parts += ["### Variants held against each other", HOW_TO_READ_VARIANTS, table_text(variants)]
    if section.reproductions:
        parts += ["### Published beside reproduced", HOW_TO_READ_PUBLISHED, table_text(published_table(section))]
        parts.append("\n".join(f"{place}. {markdown(note)}" for note, place in published_notes(section).items()))
    return parts


def table_text(table: Table) -> str:
    """A table in pipe syntax: text left, numbers right."""
    escaped = [[markdown(cell) for cell in row] for row in table.rows]
    frame = pd.DataFrame(escaped, columns=list(escape_all(table.header)), dtype=str)
    align = ["left"] * table.text_columns + ["right"] * (len(table.header) - table.text_columns)
    text = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
    assert isinstance(text, str)
    return text


def escape_all(texts: Iterable[str]) -> list[str]:
    """Every text escaped for Markdown."""
    return [markdown(text) for text in texts]
