"""The badge of a leaderboard: what its verdicts come to in one line, and a picture of that line that needs no network."""

from __future__ import annotations

from collections import Counter, defaultdict
from xml.sax.saxutils import escape

from harness.report.leaderboard import Leaderboard, headline_sections
from harness.report.rows import Gain
from harness.report.text import counted, one_line

VERDICTS = ("better", "worse", "not separated")
CHARACTER = 6.5
"""Width of a character in pixels: text is set to it, whatever the reader's font."""
PADDING = 8
WITH_VERDICT, WITHOUT_VERDICT = "#007ec6", "#8a8a8a"
"""Colours that take no side."""


def badge_text(board: Leaderboard) -> str:
    """The verdicts of every method over its rows; each dataset counts once, by its test split and official metric."""
    gains: dict[str, list[Gain]] = defaultdict(list)
    for section in headline_sections(board.sections):
        for gain in section.gains:
            gains[gain.arm.method].append(gain)
    return "; ".join(f"{one_line(method)}: {told(gains[method])}" for method in sorted(gains)) or "no method compared"


def told(gains: list[Gain]) -> str:
    """How many of a method's rows have which verdict, or why none has one."""
    counts = Counter(gain.verdict for gain in gains)
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]]
    others = sorted(set(counts) - set(VERDICTS))
    rows = counted(len(gains), "row")
    if parts and others:
        parts.append(f"{sum(counts[verdict] for verdict in others)} without verdict")
    return f"{rows}, {', '.join(parts)}" if parts else f"{rows}, {others[0] if len(others) == 1 else 'no verdict'}"


def to_badge(board: Leaderboard) -> str:
    """The badge as SVG: stable text, everything foreign escaped."""
    label, text = f"SAMIRO-Bench {', '.join(one_line(suite) for suite in board.suites)}".strip(), badge_text(board)
    left, right = (round(len(part) * CHARACTER) + 2 * PADDING for part in (label, text))
    decided = any(gain.verdict in VERDICTS for section in headline_sections(board.sections) for gain in section.gains)
    parts = [
        f'<rect width="{left}" height="20" fill="#444"/>',
        f'<rect x="{left}" width="{right}" height="20" fill="{WITH_VERDICT if decided else WITHOUT_VERDICT}"/>',
        *(
            f'<text x="{x + PADDING}" y="14" textLength="{width - 2 * PADDING}">{escape(part)}</text>'
            for x, width, part in ((0, left, label), (left, right, text))
        ),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img">\n'
        f"<title>{escape(f'{label}: {text}')}</title>\n"
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">\n'
        + "\n".join(parts)
        + "\n</g>\n</svg>\n"
    )
