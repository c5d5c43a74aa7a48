"""The page's content: what it claims, that foreign text stays text, and that it stays small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.report.badge import VERDICTS
from harness.report.figures import figure_names, latency, scenarios, write_figures
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.rows import Gain
from harness.report.site.claim import claim_of, sentence_of
from harness.report.site.page import to_page
from harness.report.site.plots import NAMES, distance, forest_of, labels_of, latency_of, overlap, pareto
from harness.report.site.rows import rows_of
from harness.report.site.scale import Scale

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028{{ 7*7 }}"


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._inside == "script" else self.text).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def data_of(page: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(Parsed(page).scripts[0])
    return made


@pytest.fixture(scope="module")
def board(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    """Two detectors with three paired seeds each, one of which gains much."""
    folder = tmp_path_factory.mktemp("records")
    base = made.split(images=240, clips=80)
    return leaderboard(
        [*made.pairs(folder, base=base, better=0.1), *made.pairs(folder, base=base, detector="laneatt")], folder
    )


def test_every_verdict_and_gain_of_the_tables_is_on_the_page(board: Leaderboard) -> None:
    told = " ".join(Parsed(to_page(board)).text)
    (section,) = board.sections
    for gain in section.gains:
        assert gain.verdict in told
        assert gain.headline is not None
        assert f"{gain.headline.comparison.mean * 100:+.2f}".replace("-", "−") in told
    assert {gain.verdict for gain in section.gains} & set(VERDICTS)


def test_every_row_can_be_opened_and_shows_its_seeds_as_dots(board: Leaderboard) -> None:
    text = to_page(board)
    page, data = Parsed(text), data_of(text)
    (section,) = board.sections
    opened = {attributes["data-open"] for attributes in page.named("button") if "data-open" in attributes}
    assert opened == set(data["rows"])
    assert len(opened) == len(section.rows)
    for row in data["rows"].values():
        assert [seed["seed"] for seed in row["seeds"]] == [0, 1, 2]
        for seed in row["seeds"]:
            assert seed["file"] == f"../records/{seed['record']}.json"
            assert seed["curve"][0] == max(seed["curve"])
            assert {data["pool"][name] for name, _ in seed["hashes"]} >= {
                "checkpoint",
                "predictions",
                "counts",
                "labels",
            }
            assert data["pool"][seed["environment"]]["torch"] == "2.13.0"
    circles = [attributes for attributes in page.named("circle") if attributes.get("class") == "seed"]
    assert len(circles) == sum(len(row.seeds) for row in section.rows) + sum(len(gain.seeds) for gain in section.gains)


def test_foreign_text_stays_text(made: Any, tmp_path: Path) -> None:
    meta = {"paper": HOSTILE, "family": HOSTILE, "backbone": HOSTILE}
    records = [
        record.model_copy(
            update={
                "flags": (HOSTILE,),
                "suite": HOSTILE,
                "identity": record.identity.model_copy(update={"detector": HOSTILE}),
            }
        )
        for record in made.pairs(tmp_path, identity_changes={"detector_meta": meta})
    ]
    text = to_page(leaderboard(records, tmp_path, missing=[HOSTILE], failed=[HOSTILE]))
    page, data = Parsed(text), data_of(text)
    assert len(page.named("script")) == 2
    assert not page.named("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in " ".join(page.text)
    assert HOSTILE in next(iter(data["rows"].values()))["seeds"][0]["told"]
    assert HOSTILE in [value.get("family") for value in data["pool"] if isinstance(value, dict)]


def test_the_page_asks_nobody_for_anything(board: Leaderboard) -> None:
    text = to_page(board)
    page = Parsed(text)
    addresses = [
        (name, value)
        for name, attributes in page.elements
        for key in ("src", "href", "action")
        if (value := attributes.get(key))
    ]
    assert addresses
    elsewhere = [found for found in addresses if re.match(r"(?!data:,$)[a-z+.-]*:|//", found[1])]
    assert elsewhere == [("a", "https://arxiv.org/abs/2511.10385")]  # a link, which asks when a reader does
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    (policy,) = [meta for meta in page.named("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in str(policy["content"])


def test_equal_records_give_an_equal_page_whatever_their_order(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path)
    assert to_page(leaderboard(records, tmp_path)) == to_page(leaderboard(records[::-1], tmp_path))


def test_a_page_of_one_cell_or_of_none_says_what_there_is(made: Any, tmp_path: Path) -> None:
    alone = leaderboard([made.record(tmp_path, made.split())], tmp_path)
    text = to_page(alone)
    assert "No method was compared with a baseline." in text
    assert forest_of(alone) is None
    assert len(data_of(text)["rows"]) == 1
    assert "No scored records yet." in to_page(leaderboard([], tmp_path))


def test_tusimple_and_rows_without_times_have_a_page(made: Any, tmp_path: Path) -> None:
    board = leaderboard(made.pairs(tmp_path, base=made.rated(), throughput=()), tmp_path)
    (section,) = board.sections
    text = to_page(board)
    assert "accuracy" in text
    assert latency_of(rows_of(section, board)) is None
    assert all(not seed["curve"] for row in data_of(text)["rows"].values() for seed in row["seeds"])


def test_rendered_datasets_are_told_at_the_top_whatever_they_are_called(made: Any, tmp_path: Path) -> None:
    def facts(*keys: dict[str, str]) -> str:
        records = [
            record
            for key, name in zip(keys, ("culane", "tusimple"), strict=False)
            for record in made.pairs(
                tmp_path,
                detector=name,
                identity_changes={"dataset": name, "dataset_key": key},
                evaluation_changes={"dataset": name, "dataset_sha256": name[0] * 64},
            )
        ]
        return claim_of(leaderboard(records, tmp_path)).facts

    rendered, real = {"rendered": "abc"}, {"form": "culane"}
    assert " · 1 rendered dataset · " in facts(rendered)
    assert " · 1 dataset · " in facts(real)
    assert " · 2 rendered datasets · " in facts(rendered, rendered)
    assert " · 2 datasets, 1 rendered · " in facts(rendered, real)


def test_an_opened_row_of_another_training_set_names_it(made: Any, tmp_path: Path) -> None:
    board = leaderboard(made.pairs(tmp_path, identity_changes={"dataset": "highways"}), tmp_path)
    rows = data_of(to_page(board))["rows"].values()
    assert {row["place"] for row in rows} == {"mini, test: culane/official, trained on highways"}


@pytest.mark.slow
def test_500_rows_have_a_page_of_bounded_size(made: Any, tmp_path: Path) -> None:
    base = made.split()
    names = [f"d{number:03d}" for number in range(250)]
    board = leaderboard(
        [record for name in names for record in made.pairs(tmp_path, seeds=1, detector=name, base=base)], tmp_path
    )
    text = to_page(board)
    assert len(data_of(text)["rows"]) == 500
    assert len(text) < 6_000_000
    (section,) = board.sections
    plot = latency_of(rows_of(section, board))
    assert plot is not None
    assert len(plot.points) == 500


def verdicts(*named: str, method: str = "samiro") -> list[Gain]:
    made: Any = [SimpleNamespace(verdict=name, arm=SimpleNamespace(method=method)) for name in named]
    return list(made)


@pytest.mark.parametrize(
    ("gains", "methods", "said"),
    [
        ([], 0, "No method was compared with a baseline."),
        (verdicts("no verdict: 1 seed"), 1, "No verdict on samiro yet: 1 seed."),
        (verdicts("not separated"), 1, "samiro is not separated from its baseline."),
        (verdicts("not separated", "not separated"), 2, "No method is separated from its baseline in either comparison."),
        (3 * verdicts("not separated"), 1, "samiro is not separated from its baseline in any of 3 comparisons."),
        (verdicts("better", "better"), 1, "samiro is better than its baseline in both comparisons."),
        (3 * verdicts("worse"), 1, "samiro is worse than its baseline in all 3 comparisons."),
        (
            verdicts("better", "not separated", "worse", "no verdict: 1 seed"),
            1,
            "Of 4 comparisons, samiro is better in 1, worse in 1, not separated in 1, without verdict in 1.",
        ),
        (verdicts("better", "better"), 2, "The methods are better than their baselines in both comparisons."),
        (verdicts("worse", "not separated"), 2, "Of 2 comparisons, the methods are worse in 1, not separated in 1."),
    ],
)  # fmt: skip
def test_the_claim_counts_verdicts_and_nothing_else(gains: list[Gain], methods: int, said: str) -> None:
    assert sentence_of(gains, methods) == said


def test_the_claim_of_a_board_is_of_its_own_verdicts(board: Leaderboard) -> None:
    (section,) = board.sections
    better = sum(gain.verdict == "better" for gain in section.gains)
    assert 0 < better < len(section.gains)
    assert f"better in {better}" in claim_of(board).sentence


def test_the_front_holds_the_rows_that_none_beats_in_both() -> None:
    rows: Any = [
        ("slow", 9.0, 80.0),
        ("fast", 1.0, 70.0),
        ("beaten", 5.0, 69.0),
        ("middle", 5.0, 75.0),
        ("same", 9.0, 80.0),
    ]
    assert [str(name) for name, *_ in pareto(rows)] == ["fast", "middle", "slow"]


def test_a_name_stands_by_its_own_point_and_by_no_other() -> None:
    placed = {"first": (300.0, 100.0), "below": (250.0, 108.0), "lone": (500.0, 200.0)}
    found = labels_of({row: f"{row}, of some method" for row in placed}, placed, NAMES)
    for row, (x, y, text) in found.items():
        box = (x, y - NAMES.above, x + NAMES.width * len(text), y + NAMES.below)
        own, *others = sorted(placed, key=lambda name: distance(placed[name], box))
        assert own == row
        assert all(distance(placed[other], box) > 1.9 * distance(placed[own], box) for other in others)
    assert "lone" in found
    crowd = {f"d{number}": (300.0 + 9 * number, 100.0) for number in range(9)}
    assert not {f"d{number}" for number in range(1, 8)} & set(labels_of({row: 20 * "x" for row in crowd}, crowd, NAMES))


def test_the_plot_of_gains_names_the_score_that_its_points_are_of(
    board: Leaderboard, made: Any, tmp_path: Path
) -> None:
    assert "Method minus baseline in points of F1@50, with" in to_page(board)
    others = made.pairs(
        tmp_path,
        detector="laneatt",
        base=made.rated(240, 80),
        identity_changes={"dataset": "us"},
        evaluation_changes={"dataset": "us", "dataset_sha256": "a" * 64},
    )
    both = [*made.pairs(tmp_path, base=made.split(240, 80)), *others]
    page = to_page(leaderboard(both, tmp_path))
    assert "in points of F1@50 or accuracy, with" in page
    assert ", accuracy</span>" in page


def test_marks_of_an_axis_are_round_and_within_it() -> None:
    assert Scale(-8.7, 0.3, 0, 100).ticks() == (-8.0, -6.0, -4.0, -2.0, 0.0)
    assert Scale(0.9, 120.0, 0, 100, logarithmic=True).ticks() == (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    scale = Scale(1.0, 100.0, 0.0, 300.0, logarithmic=True)
    assert [scale(value) for value in (1.0, 10.0, 100.0, 1000.0)] == [0.0, 150.0, 300.0, 300.0]


def test_an_interval_that_dwarfs_all_gains_is_cut_off_and_marked(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.report.site.plots.OUTLYING", 1.5)
    base = made.split(images=240, clips=80)
    board = leaderboard(
        [*made.pairs(tmp_path, seeds=2, base=base), *made.pairs(tmp_path, detector="laneatt", base=base)], tmp_path
    )
    forest = forest_of(board)
    assert forest is not None
    for line in forest.lines:
        assert line.gain.headline is not None
        assert line.gain.headline.half_widths is not None
        assert line.low is not None
        assert line.high is not None
        assert 4.0 <= line.low <= line.mean <= line.high <= 296.0
    pair = next(line for line in forest.lines if len(line.dots) == 2)
    assert pair.cut_low or pair.cut_high


def test_names_in_a_figure_for_papers_cover_neither_each_other_nor_a_point(made: Any, tmp_path: Path) -> None:
    base = made.split(images=240, clips=80)
    times = {"scnn_micro": 5.0, "ganet_micro": 5.05, "laneatt_micro": 5.1, "clrnet_micro": 9.0}
    board = leaderboard(
        [
            record
            for detector, p50 in times.items()
            for record in made.pairs(tmp_path, base=base, detector=detector, throughput=(made.throughput(p50=p50),))
        ],
        tmp_path,
    )
    (section,) = board.sections
    rows = rows_of(section, board)
    figure = latency(section, rows)
    assert figure is not None
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [tuple(text.get_window_extent().extents) for text in axes.texts]
    points = [axes.transData.transform((row.timing.p50, row.score.value)) for row in rows if row.timing]
    boxes += [(x - 2, y - 2, x + 2, y + 2) for x, y in points]
    assert len(axes.texts) >= 2
    assert [
        (one, other)
        for number, one in enumerate(boxes[: len(axes.texts)])
        for other in boxes[number + 1 :]
        if overlap(one, other)
    ] == []


def test_the_figure_of_scenarios_says_what_its_numbers_are(board: Leaderboard) -> None:
    (section,) = board.sections
    figure = scenarios(section, rows_of(section, board))
    assert figure is not None
    told = figure.axes[0].get_xlabel()
    assert told.startswith("F1@50, points")
    assert told.endswith("the darker, the better")


def test_figures_for_papers_are_svg_and_png_of_every_kind(board: Leaderboard, tmp_path: Path) -> None:
    written = write_figures(tmp_path, board)
    assert [path.name for path in written] == [name for names in figure_names(1).values() for name in names]
    for path in written:
        start = b"<?xml" if path.suffix == ".svg" else b"\x89PNG"
        assert path.read_bytes().startswith(start)
