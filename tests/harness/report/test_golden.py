"""Every table as a whole, in Markdown, CSV and LaTeX, of records whose scores can be worked out by hand.

The expected files lie in golden/. After a change that is meant, look at the differences, work out the figures that changed, and
copy the files that the failing test names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.records.record import Record
from harness.report.badge import to_badge
from harness.report.beside import published_rows
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.published import Figure, Published
from harness.report.published_cells import published_note, published_table
from harness.report.tables import write_leaderboard

GOLDEN = Path(__file__).parent / "golden"

MISSES = {
    ("baseline", 0): 10,
    ("baseline", 1): 11,
    ("baseline", 2): 12,
    ("samiro", 0): 8,
    ("samiro", 1): 10,
    ("samiro", 2): 9,
}
"""In how many of 40 images in a row a cell misses one lane."""


def figure(**changes: Any) -> Figure:
    values: dict[str, Any] = {
        "dataset": "culane",
        "detector": "RESA",
        "backbone": "resnet18",
        "method": "baseline",
        "implementation": "authors",
        "variant": "",
        "split": "test",
        "metric": "f1_50",
        "value": 90.5,
        "definition": "F1 at IoU 0.50",
        "kind": "mean of runs",
        "evaluator": "culane/official",
        "selection": "last",
        "source": "example/net README.md",
        "note": "",
    }
    return Figure(**(values | changes))


def not_available(dataset: str, metric: str, split: str) -> Figure:
    return figure(
        dataset=dataset, detector="any", backbone="any", method="samiro", metric=metric, split=split, value=None,
        kind="not available", source="paper: arXiv 2511.10385", note="its tables are not public to us",
    )  # fmt: skip


PUBLISHED = Published(
    (
        figure(),
        *(
            figure(metric=metric, value=value, kind="best of runs", implementation="pytorch-auto-drive",
                   variant="augmentation level 0", evaluator="not stated", selection="test-best", source="other/zoo docs/ZOO.md")
            for metric, value in (("f1_50", 91.25), ("normal", 95.0), ("cross_fp", 1000), ("night", 80.0))
        ),
        not_available("culane", "f1_50", "test"),
        *(
            figure(dataset="tusimple", metric=metric, value=value, evaluator="tusimple/official", kind="released checkpoint")
            for metric, value in (("accuracy", 95.0), ("fp", 5.0), ("fn", 4.0))
        ),
        figure(dataset="tusimple", metric="f1", value=96.5, evaluator="not stated", kind="repository", definition="not stated"),
        not_available("tusimple", "accuracy", "test"),
        figure(dataset="llamas", split="val", value=96.0, evaluator="llamas/official"),
        figure(dataset="llamas", split="test", value=99.0, evaluator="benchmark server"),
        not_available("llamas", "f1_50", "val"),
    ),
    (("resa_resnet18", "RESA"),),
)  # fmt: skip


def cells(
    made: Any, folder: Path, dataset: str, counts: Callable[[int], Any], *, split: str = "test", metric: str
) -> list[Record]:
    """A baseline and a method of one detector over three seeds, and one cell that isn't ranked."""
    gpu = made.environment(device="Example GPU", cuda="13.0", cudnn="9.1", driver="600.1")

    def cell(detector: str, method: str, seed: int, misses: int, **changes: Any) -> Record:
        p50 = 8.0 if detector == "resa_resnet18" else 4.0
        timed = made.throughput(
            p50 + seed / 10,
            protocol="lane-latency/1",
            device="Example GPU",
            peak_memory_bytes=300 * 2**20,
            iterations=3000,
            gflops=84.1,
            parameters=6_617_646,
        )
        record: Record = made.record(
            folder, counts(misses), detector=detector, method=method, seed=seed,
            identity_changes={
                "dataset": dataset, "form": dataset, "dataset_key": {"form": dataset},
                "detector_meta": {"paper": f"paper of {detector}", "backbone": "resnet18"},
            },
            evaluation_changes={"dataset": dataset, "metric": metric, "split": split},
            environment=gpu, throughput=(timed,), training=made.training(peak_memory_bytes=2 * 2**30), **changes,
        )  # fmt: skip
        return record

    ranked = [cell("resa_resnet18", method, seed, misses) for (method, seed), misses in MISSES.items()]
    return [*ranked, cell("other_net", "baseline", 0, 4, flags=("stale accepted",))]


def culane(made: Any, folder: Path) -> list[Record]:
    """34,680 images in 120 clips, 4 lanes each and none on crossroads, where the n images of 40 that miss a lane invent one."""
    perfect = made.split(images=34_680, clips=120)
    place = np.arange(34_680) % 40

    def counts(misses: int) -> Any:
        missing = (place < misses).astype(np.int32)
        lanes = perfect.labels > 0
        at_50 = perfect.true_positives - (missing * lanes)[:, None]
        # From IoU .75 on, every image misses one lane more.
        at_50[:, 5:] -= lanes[:, None].astype(np.int32)
        return replace(perfect, true_positives=at_50, predictions=perfect.labels + (missing * ~lanes).astype(np.int32))

    return cells(made, folder, "culane", counts, metric="culane/official")


def tusimple(made: Any, folder: Path) -> list[Record]:
    """2,782 images in 26 clips, 4 lanes each: of an image that misses one, accuracy is .75 and FP and FN are .25."""
    perfect = made.rated(images=2_782, clips=26)
    place = np.arange(2_782) % 40

    def counts(misses: int) -> Any:
        missing = place < misses
        share = np.where(missing, 0.25, 0.0)
        return replace(
            perfect, matched=(perfect.labels - missing).astype(np.int32), accuracy=1 - share, fp=share, fn=share
        )

    return cells(made, folder, "tusimple", counts, metric="tusimple/official")


def llamas(made: Any, folder: Path) -> list[Record]:
    """20,844 images in 209 clips, 4 lanes each."""
    perfect = made.split(images=20_844, clips=209, scenarios=("unnamed",))
    place = np.arange(20_844) % 40

    def counts(misses: int) -> Any:
        at_50 = perfect.true_positives - (place < misses).astype(np.int32)[:, None]
        at_50[:, 5:] -= 1
        return replace(perfect, true_positives=at_50)

    return cells(made, folder, "llamas", counts, split="val", metric="llamas/official")


BOARDS = {"culane": culane, "tusimple": tusimple, "llamas": llamas}


@pytest.fixture(scope="module")
def boards(made: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Leaderboard]:
    found = {}
    for name, records in BOARDS.items():
        folder = tmp_path_factory.mktemp(name)
        found[name] = leaderboard(records(made, folder), folder, PUBLISHED)
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_all_tables_are_the_golden_ones(boards: dict[str, Leaderboard], tmp_path: Path, name: str) -> None:
    for path in write_leaderboard(tmp_path, boards[name]):
        golden = GOLDEN / f"{name}{path.suffix}"
        assert path.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8"), f"{path} is not {golden}"


def test_the_badge_is_the_golden_one(boards: dict[str, Leaderboard]) -> None:
    assert to_badge(boards["culane"]) == (GOLDEN / "culane.svg").read_text(encoding="utf-8")


def test_published_figures_stand_only_beside_whole_published_splits(made: Any, tmp_path: Path) -> None:
    def board(name: str, records: list[Record]) -> Leaderboard:
        return leaderboard(records, tmp_path / name, PUBLISHED)

    def records(name: str, images: int = 34_680, **changes: Any) -> list[Record]:
        identity = {
            "dataset": "culane",
            "dataset_key": {"form": "culane"},
            "detector_meta": {"paper": "p", "backbone": "resnet18"},
        }
        evaluation = {"dataset": "culane", **changes.pop("evaluation", {})}
        return [
            made.record(
                tmp_path / name, made.split(images=images, clips=12), detector=changes.pop("detector", "resa_resnet18"),
                identity_changes=identity | changes, evaluation_changes=evaluation,
            )
        ]  # fmt: skip

    def sources(board: Leaderboard) -> int:
        return sum(len(item.published) for section in board.sections for item in section.reproductions)

    assert sources(board("whole", records("whole"))) == 2
    for name, changes in {
        "rendered": {"dataset_key": {"rendered": "abc"}},
        "part": {"images": 34_679},
        "val": {"evaluation": {"split": "val"}},
        "fog": {"evaluation": {"corruption": "fog-3"}},
        "elsewhere": {"dataset": "roads"},
        "small": {"detector": "resa_micro"},
        "backbone": {"detector_meta": {"paper": "p", "backbone": "resnet34"}},
    }.items():
        assert sources(board(name, records(name, **changes))) == 0, name


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "best of runs"}, {"implementation": "lanedet"}, {"variant": "with augmentation"}, {"evaluator": "not stated"},
        {"selection": "test-best"}, {"note": "another crop"},
    ],
    ids=str,
)  # fmt: skip
def test_figures_of_another_run_never_stand_in_one_line(boards: dict[str, Leaderboard], other: dict[str, str]) -> None:
    """Two figures of one paper, of which one is of another run: each line has one of the two, and its own caveats."""
    (section,) = boards["llamas"].sections
    row = section.rows[0]
    figures = [figure(), figure(metric="f1_75", value=80.0, **other)]
    lines = list(published_rows(section.key, section.columns, row, figures))
    assert [[value for value in line.values if value is not None] for line in lines] == [[90.5], [80.0]]
    again = figure(metric="f1_75", value=80.0, source="paper: its table 4")
    (same,) = published_rows(section.key, section.columns, row, [figure(), again])
    assert [value for value in same.values if value is not None] == [90.5, 80.0]
    assert ": example/net README.md; paper: its table 4." in published_note(same)


def test_the_headline_stands_beside_published_figures_of_a_scenario_alone(made: Any, tmp_path: Path) -> None:
    published = Published((figure(metric="night", value=80.0),), (("resa_resnet18", "RESA"),))
    (section,) = leaderboard(culane(made, tmp_path), tmp_path, published).sections
    table = published_table(section)
    assert table.header == ("Detector", "Method", "Figures", "F1@50", "night", "Note")
    assert table.rows[-1][2:] == ("reproduced - published", "", "+13.12", "")  # 93.12 less 80, as in the golden table


def test_published_figures_change_no_rank_and_no_gain(made: Any, tmp_path: Path) -> None:
    records = llamas(made, tmp_path)
    (alone,) = leaderboard(records, tmp_path).sections
    (beside,) = leaderboard(records, tmp_path, PUBLISHED).sections
    assert beside.reproductions
    assert not alone.reproductions
    assert [row.rank for row in alone.rows] == [row.rank for row in beside.rows]
    assert [gain.adjusted_p for gain in alone.gains] == [gain.adjusted_p for gain in beside.gains]
