"""The page as text: a pure function of a leaderboard and of what lies beside it. Everything foreign is escaped.

Styles and script are in the page itself, and its content-security policy lets nothing else run and nothing be fetched from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.files.stored import write_text
from harness.report.beyond_cells import (
    HOW_TO_READ_ROBUSTNESS,
    HOW_TO_READ_TRANSFER,
    robustness_notes,
    robustness_table,
    transfer_tables,
)
from harness.report.cells import (
    contrast_table,
    detectable_text,
    gain_table,
    method_table,
    summary_table,
    unscored_table,
    variant_table,
)
from harness.report.cost_cells import inference_tables, own_timing_tables, training_tables
from harness.report.cost_cells import timing_tables as latency_tables
from harness.report.how_to_read import (
    HOW_TO_READ_CONTRASTS,
    HOW_TO_READ_INFERENCE,
    HOW_TO_READ_METHODS,
    HOW_TO_READ_OWN_TIMES,
    HOW_TO_READ_PUBLISHED,
    HOW_TO_READ_TIMES,
    HOW_TO_READ_TRAINING,
    HOW_TO_READ_UNSCORED,
    HOW_TO_READ_VARIANTS,
    MARKED,
    faults_of,
    how_to_read,
    how_to_read_gains,
    how_to_read_summary,
)
from harness.report.leaderboard import Leaderboard, Section, headline_sections
from harness.report.published_cells import published_notes, published_table
from harness.report.section_text import section_notes, section_text, section_title
from harness.report.site.claim import claim_of
from harness.report.site.details import NO_EXTRAS, Extras, details_of
from harness.report.site.plots import (
    LEFT,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    RIGHT,
    WIDTH,
    Latency,
    Strip,
    forest_of,
    latency_of,
    strips_of,
)
from harness.report.site.rows import RowView, further_places, rows_of, scenario_places
from harness.report.table import Table
from harness.report.text import one_line

HERE = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class SectionView:
    """One section of the page."""

    number: int
    section: Section
    title: str
    text: str
    notes: tuple[str, ...]
    rows: tuple[RowView, ...]
    further: tuple[str, ...]
    scenarios: tuple[str, ...]
    strips: dict[str, Strip]
    latency: Latency | None
    figures: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Shown:
    """A plain table with what is to be known about it."""

    title: str
    text: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def to_page(board: Leaderboard, extras: Extras = NO_EXTRAS) -> str:
    """The page of a leaderboard as HTML."""
    views = tuple(section_view(number, part, board, extras) for number, part in enumerate(board.shown, start=1))
    rows = [row for view in views for row in view.rows]
    style, script = source("page.css"), source("page.js")
    return (
        templates()
        .get_template("page.html")
        .render(
            title=", ".join(one_line(suite) for suite in board.suites) or "no records",
            claim=claim_of(board),
            forest=forest_of(board),
            sections=views,
            filters={
                "dataset": sorted({view.section.key.dataset for view in views}),
                "family": sorted({row.family for row in rows if row.family}),
                "backbone": sorted({row.backbone for row in rows if row.backbone}),
                "method": sorted({row.method_name for row in rows}),
            },
            row_count=len(rows),
            how_to_read=how_to_read(board) if board.sections else "",
            how_to_read_gains=how_to_read_gains(headline_sections(board.sections)),
            further_tables=further_tables(board),
            faults=tuple((faults.title, tuple(map(one_line, faults.lines))) for faults in faults_of(board)),
            data=details_of({view.number: (view.section, view.rows) for view in views}, extras),
            style=Markup(style),
            script=Markup(script),
            policy=policy(script),
            plot={"width": PLOT_WIDTH, "height": PLOT_HEIGHT, "left": LEFT, "right": RIGHT, "strip": WIDTH},
        )
    )


def write_page(folder: Path, board: Leaderboard, extras: Extras = NO_EXTRAS) -> Path:
    """Write index.html into `folder`, atomically; returns its path."""
    path = folder / "index.html"
    write_text(path, to_page(board, extras))
    return path


def section_view(number: int, section: Section, board: Leaderboard, extras: Extras) -> SectionView:
    """One section with all that its part of the page shows."""
    rows = rows_of(section, board)
    return SectionView(
        number=number,
        section=section,
        title=one_line(section_title(section)),
        text=one_line(section_text(section)),
        notes=tuple(one_line(note) for note in section_notes(section, board)),
        rows=rows,
        further=tuple(section.columns[place].title for place in further_places(section)),
        scenarios=tuple(one_line(section.columns[place].title) for place in scenario_places(section)),
        strips=strips_of(rows),
        latency=latency_of(rows),
        figures=tuple(extras.figures.get(number, {}).items()),
    )


def further_tables(board: Leaderboard) -> tuple[Shown, ...]:
    """The tables that stand folded at the page's end, those that there are."""
    found = [
        Shown(
            "Methods over all rows",
            how_to_read_summary(board) if board.summaries else "",
            (summary_table(board),) if board.summaries else (),
        ),
        *(
            Shown(f"Paired gains: {section_title(section)}", how_to_read_gains([section]), (gain_table(section),))
            for section in board.shown
            if section.gains
        ),
        *(
            Shown(
                f"Gains held against each other: {section_title(section)}",
                HOW_TO_READ_CONTRASTS,
                (contrast_table(section),),
            )
            for section in board.shown
            if section.contrasts
        ),
        *(
            Shown(
                f"Methods held against each other: {section_title(section)}",
                HOW_TO_READ_METHODS,
                (method_table(section),),
            )
            for section in board.shown
            if section.method_differences
        ),
        *(
            Shown(f"Variants held against each other: {section_title(section)}", HOW_TO_READ_VARIANTS, (table,))
            for section in board.shown
            if (table := variant_table(section)).rows
        ),
        *(
            Shown(
                f"Published beside reproduced: {section_title(section)}",
                HOW_TO_READ_PUBLISHED,
                (published_table(section),),
                tuple(f"{place}. {note}" for note, place in published_notes(section).items()),
            )
            for section in board.shown
            if section.reproductions
        ),
        Shown("Transfer", HOW_TO_READ_TRANSFER, tuple(transfer_tables(board))),
        *(
            Shown(f"Robustness: {table.title}", HOW_TO_READ_ROBUSTNESS, (table,), tuple(robustness_notes(part)))
            for part in board.robustness
            for table in [robustness_table(part)]
        ),
        Shown("Latency", HOW_TO_READ_TIMES, tuple(latency_tables(board))),
        Shown("What methods cost at inference", HOW_TO_READ_INFERENCE, tuple(inference_tables(board))),
        Shown("Programs by their own clocks", HOW_TO_READ_OWN_TIMES, tuple(own_timing_tables(board))),
        Shown("Training cost", HOW_TO_READ_TRAINING, tuple(training_tables(board))),
        Shown("Not scored here", HOW_TO_READ_UNSCORED, (unscored_table(board),) if board.unscored else ()),
    ]
    return tuple(shown for shown in found if shown.tables)


def policy(script: str) -> str:
    """The content-security policy: this one script, styles of the page, pictures beside it; no requests at all."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )


def source(name: str) -> str:
    """The text of a file of this package."""
    return (HERE / name).read_text(encoding="utf-8").strip()


@cache
def templates() -> Environment:
    """The page's templates, in which everything is escaped that isn't marked as HTML."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked"] = marked
    environment.filters["line"] = one_line
    environment.filters["breakable"] = breakable
    environment.filters["detectable"] = detectable_text
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": False}
    return environment


def breakable(text: str) -> Markup:
    """A name that may be broken behind its underscores, where a screen is narrow."""
    return Markup("_<wbr>").join(text.split("_"))


def marked(text: str) -> Markup:
    """One of our own texts with its emphasis and code as HTML; the rest is escaped."""

    def element(match: re.Match[str]) -> str:
        return f"<em>{match[1]}</em>" if match[1] else f"<code>{match[2]}</code>"

    return Markup(MARKED.sub(element, str(escape(text))))
