"""What a leaderboard comes to in a sentence and a line a method: counts of the verdicts that its tables hold, nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.badge import VERDICTS, told
from harness.report.leaderboard import NOT_REPORTED, Leaderboard, Section, headline_sections
from harness.report.rows import Gain
from harness.report.text import counted, one_line


@dataclass(frozen=True)
class Claim:
    """sentence: of all methods. facts: what it rests on. methods: each method's name and what its verdicts come to."""

    sentence: str
    facts: str
    methods: tuple[tuple[str, str], ...]


def claim_of(board: Leaderboard) -> Claim:
    """The claim of a leaderboard: each dataset counts once, by its test split and official metric."""
    sections = headline_sections(board.sections)
    by_method: dict[str, list[Gain]] = defaultdict(list)
    for section in sections:
        for gain in section.gains:
            by_method[one_line(gain.arm.method)].append(gain)
    gains = [gain for members in by_method.values() for gain in members]
    seeds = sorted({len(gain.seeds) for gain in gains} or {len(row.seeds) for part in sections for row in part.rows})
    clips = sorted({section.clips for section in sections})
    facts = [
        counted(sum(len(section.rows) for section in sections), "row"),
        f"{' or '.join(map(str, seeds))} {'paired ' if gains else ''}{'seed' if seeds == [1] else 'seeds'} each",
        datasets_text(sections),
        f"{' or '.join(map(str, clips))} {'test ' if {part.key.split for part in sections} == {'test'} else ''}clips",
    ]
    methods = tuple((name, told(members)) for name, members in sorted(by_method.items()))
    return Claim(sentence_of(gains, len(methods)), " · ".join(facts) if sections else "", methods)


def datasets_text(sections: Sequence[Section]) -> str:
    """How many datasets there are, and how many of them are rendered: their names don't say it."""
    names = {section.key.dataset for section in sections}
    rendered = {section.key.dataset for section in sections if section.rendered}
    if rendered == names:
        return counted(len(names), "rendered dataset")
    return counted(len(names), "dataset") + (f", {len(rendered)} rendered" if rendered else "")


def sentence_of(gains: list[Gain], methods: int) -> str:
    """How many comparisons have which verdict."""
    if not gains:
        return "No method was compared with a baseline."
    counts = Counter(gain.verdict for gain in gains)
    judged = [f"{verdict} in {counts[verdict]}" for verdict in VERDICTS if counts[verdict]]
    others = sorted(set(counts) - set(VERDICTS))
    name = one_line(gains[0].arm.method) if methods == 1 else "The methods" if judged else f"{methods} methods"
    compared = counted(len(gains), "comparison")
    if not judged:
        why = others[0].removeprefix("no verdict: ") if len(others) == 1 else "see each row"
        yet = "" if others == [NOT_REPORTED] else " yet"
        return f"No verdict on {name}{yet}: {one_line(why)}."
    if len(judged) == 1 and not others:
        (verdict,) = (verdict for verdict in VERDICTS if counts[verdict])
        return unanimous(verdict, name if methods == 1 else None, len(gains))
    rest = sum(counts[verdict] for verdict in others)
    parts = [*judged, *([f"without verdict in {rest}"] if rest else [])]
    return f"Of {compared}, {name.replace('The m', 'the m')} {'is' if methods == 1 else 'are'} {', '.join(parts)}."


def unanimous(verdict: str, method: str | None, comparisons: int) -> str:
    """The sentence where all comparisons, of which there is one at least, have one verdict. method: None for several."""
    if verdict == "not separated":
        among = {1: "", 2: " in either comparison"}.get(comparisons, f" in any of {counted(comparisons, 'comparison')}")
        return f"{f'{method} is not' if method else 'No method is'} separated from its baseline{among}."
    among = {1: "", 2: " in both comparisons"}.get(comparisons, f" in all {counted(comparisons, 'comparison')}")
    return f"{f'{method} is {verdict} than its baseline' if method else f'The methods are {verdict} than their baselines'}{among}."
