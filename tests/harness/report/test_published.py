"""The published figures that are part of the repository, and the reader that refuses damaged ones."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from detectors.backbone_sources import BACKBONES as OWN_BACKBONES
from detectors.registry import TABLE, detector_meta
from harness.errors import InputError
from harness.report.published import BACKBONES, COLUMNS, PUBLISHED, Published, read_figures, read_published

FILES = {
    "CULane": "culane",
    "TuSimple": "tusimple",
    "LLAMAS": "llamas",
    "CurveLanes": "curvelanes",
    "(model)": "models",
}
SPELLINGS = {
    "BézierLaneNet": "BezierLaneNet",
    "BezierNet": "BezierLaneNet",
    "ENet-Label": "ENet-SAD",
    "CLRerNet*": "CLRerNet",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PUBLISHED, tmp_path / "published"))


def test_every_line_has_a_source_and_known_names() -> None:
    published = read_published()
    assert {figure.dataset for figure in published.figures} == {"culane", "tusimple", "llamas", "curvelanes", "models"}
    assert all(re.search(r"\.md|arXiv|abstract", figure.source) for figure in published.figures)


def test_every_column_of_the_files_is_described() -> None:
    text = (PUBLISHED.parents[1] / "docs" / "published.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"(?m)^\| `(\w+)` \|", text)) == COLUMNS


def test_backbones_are_spelled_as_the_registry_spells_them() -> None:
    # Nobody published figures of these.
    assert (
        set(OWN_BACKBONES) - {"resnet_micro", "resnet_micro_2x", "resnet_micro_4x", "resnet18s_1x", "efficientnet_b1"}
        <= BACKBONES
    )


def test_every_detector_of_a_paper_has_published_figures_and_small_ones_have_none() -> None:
    published = read_published()
    names = dict(published.names)
    figures = {(figure.detector, figure.backbone) for figure in published.figures}
    detectors = {name.partition("_")[0]: detector for name, detector in names.items()}
    # Of our own making, by the recipe of another backbone.
    ours = {"clrnet_convnext_tiny"}
    for name in TABLE:
        published_here = (detectors[name.partition("_")[0]], detector_meta(name).backbone) in figures
        assert (name in names) == (published_here and name not in ours), name


def test_the_tables_of_samiro_itself_are_not_available() -> None:
    lines = [figure for figure in read_published().figures if figure.method == "samiro"]
    assert [(figure.dataset, figure.value, figure.kind) for figure in lines] == [
        ("culane", None, "not available"), ("tusimple", None, "not available"), ("llamas", None, "not available"),
    ]  # fmt: skip
    assert all("2511.10385" in figure.source for figure in lines)


def collected(shared: Path) -> Counter[tuple[str, str, str, str, Decimal, str]]:
    """The collected figures: file, detector, backbone, what is scored, value in the unit of the leaderboard, source."""
    found: Counter[tuple[str, str, str, str, Decimal, str]] = Counter()
    with (shared / "published_scores.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["dataset"] not in FILES:
                continue
            file, scale = FILES[row["dataset"]], Decimal(1)
            metric = re.sub(r"\s*\(.*", "", row["metric"]).lower()
            if file == "tusimple" and metric in ("fp", "fn"):
                scale = Decimal(100)
            elif row["metric"] == "params(m)":
                scale = Decimal(1_000_000)
            elif metric == "macs":
                scale = Decimal("0.001")
            detector = re.sub(r"\s*\(.*", "", row["detector"])
            backbone = re.sub(r"[^a-z0-9]", "", re.split(r" [\[@]", row["backbone"])[0].lower()) or "notstated"
            source = row["source"].split()[0] if "README" in row["source"] or "docs/" in row["source"] else ""
            scope = "" if row["scenario"].split()[0] in ("total", "test", "valid", "-") else row["scenario"]
            kind = scope or metric
            name = SPELLINGS.get(detector, detector)
            found[file, name, backbone, kind, Decimal(row["value"]) * scale, source] += 1
    return found


NAMES = {
    "acc": "accuracy", "fdr": "fp", "fnr": "fn", "flops": "gflops", "params": "parameters", "macs": "gmacs", "f1@50": "f1_50",
    "f1@75": "f1_75", "noline": "no_line", "cross": "cross_fp",
}  # fmt: skip
FROM_FP_AND_FN = {"Turoad/CLRNet", "cfzd/Ultra-Fast-Lane-Detection-v2"}
"""Repositories whose TuSimple evaluation makes its F1 of FP and FN (their tusimple_metric.py and lane2.py)."""

LANES = {"tp": "true_positives", "fp": "false_positives", "fn": "false_negatives"}


def test_no_collected_figure_was_lost_or_changed(shared: Path) -> None:
    ours: Counter[tuple[str, str, str, str, Decimal, str]] = Counter()
    for file in FILES.values():
        with (PUBLISHED / f"{file}.csv").open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                if row["kind"] == "not available":
                    continue
                source = row["source"].split()[0] if ".md" in row["source"] and "model_zpp" not in row["source"] else ""
                backbone = row["backbone"].replace("_", "").replace(" ", "")
                ours[file, row["detector"], backbone, row["metric"], Decimal(row["value"]), source] += 1
    theirs: Counter[tuple[str, str, str, str, Decimal, str]] = Counter()
    for (file, detector, backbone, kind, value, source), amount in collected(shared).items():
        name = LANES.get(kind, kind) if file == "llamas" else NAMES.get(kind, kind)
        name = NAMES.get(name, name)
        if kind == "f1":
            name = "f1_50" if file != "tusimple" else "f1_clrnet" if source in FROM_FP_AND_FN else "f1"
        theirs[file, detector, backbone, name, value, source] += amount
    assert ours - theirs == Counter()
    assert theirs - ours == Counter()


def test_clrnets_f1_follows_from_its_false_positives_and_negatives() -> None:
    found: dict[str, dict[str, float]] = {}
    for figure in read_figures(PUBLISHED / "tusimple.csv"):
        if figure.source == "Turoad/CLRNet README.md" and figure.value is not None:
            found.setdefault(figure.backbone, {})[figure.metric] = figure.value
    assert len(found) == 3
    for values in found.values():
        right = 100 - values["fp"]
        assert 200 * right / (right + values["fn"] + 100) == pytest.approx(values["f1_clrnet"], abs=0.01)


def test_a_checkout_without_the_folder_has_no_published_figures(tmp_path: Path) -> None:
    assert read_published(tmp_path / "nowhere") == Published()


HEAD = (
    "detector,backbone,method,implementation,variant,split,metric,value,definition,kind,evaluator,selection,source,note"
)
LINE = (
    "RESA,resnet18,baseline,pytorch-auto-drive,,test,f1_50,72.76,F1,mean of runs,culane/official,not stated,a/b c.md,"
)


def test_a_whole_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "culane.csv"
    path.write_text(f"{HEAD}\n{LINE}\n")
    (figure,) = read_figures(path)
    assert (figure.dataset, figure.detector, figure.value, figure.kind) == ("culane", "RESA", 72.76, "mean of runs")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("RESA", "REAS", r"line 2: key 'detector': 'REAS' is no known detector: did you mean 'RESA'"),
        ("resnet18", "ResNet-18", r"line 2: key 'backbone': 'ResNet-18' is no known backbone"),
        ("f1_50", "F1@50", r"line 2: key 'metric': 'F1@50' is no known metric"),
        ("72.76", "high", r"line 2: key 'value': Input should be a valid number"),
        ("72.76", "nan", r"line 2: key 'value': "),
        ("72.76", "-1", r"line 2: key 'value': Input should be greater than or equal to 0"),
        ("72.76", "7276", r"line 2: 'value' 7276\.0 is beyond 100 points"),
        ("72.76", "100.01", r"line 2: 'value' 100\.01 is beyond 100 points"),
        ("72.76", "", r"line 2: a line has a 'value', or its 'kind' is 'not available'"),
        ("f1_50,72.76", "cross_fp,72.76", r"line 2: 'value' 72\.76 is no whole number"),
        ("mean of runs", "good run", r"line 2: key 'kind'"),
        ("mean of runs", "not available", r"line 2: a line has a 'value', or its 'kind' is 'not available'"),
        ("a/b c.md", "", r"line 2: key 'source': '' names no source"),
        ("a/b c.md", "somewhere", r"line 2: key 'source': 'somewhere' names no source"),
        ("a/b c.md,", "a/b c.md", r"line 2: 13 cells instead of 14"),
        ("a/b c.md,", "a/b c.md,one,two", r"line 2: 15 cells instead of 14"),
        ("a/b c.md,", 'a/b c.md,"', r"line 2: not CSV"),
        ("detector,backbone", "backbone,detector", r"line 1: key 'the order': the columns are detector, backbone"),
        ("backbone,", "", r"line 1: key 'backbone': the columns are detector, backbone"),
        ("note\n", "note,extra\n", r"line 1: key 'extra': the columns are"),
        (f"{LINE}\n", f"{LINE}\n{LINE}\n", r"line 3: key 'metric': the figure of line 2 again"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_line_and_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "culane.csv"
    text = f"{HEAD}\n{LINE}\n"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"culane\.csv: {told}"):
        list(read_figures(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RESA", "SCNN"), ("resnet18", "resnet34"), ("baseline", "samiro"), ("auto-drive,,", "auto-drive,wide,"),
        ("pytorch-auto-drive", "lanedet"),
        (",test,", ",val,"), ("f1_50", "f1_75"), ("mean of runs", "best of runs"), ("culane/official", "culane/clrnet"),
        ("c.md", "d.md"),
    ],
)  # fmt: skip
def test_figures_that_differ_in_what_they_are_of_are_two(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "culane.csv"
    assert LINE.count(old) == 1
    path.write_text(f"{HEAD}\n{LINE}\n{LINE.replace(old, new)}\n")
    assert len(list(read_figures(path))) == 2


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "culane.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"culane\.csv: not a readable CSV file in UTF-8"):
        list(read_figures(path))


def test_lost_and_unknown_files_are_refused_by_name(folder: Path) -> None:
    (folder / "extra.csv").write_text("x\n")
    with pytest.raises(InputError, match=r"extra\.csv: no file of published figures"):
        read_published(folder)
    (folder / "extra.csv").unlink()
    (folder / "llamas.csv").unlink()
    with pytest.raises(InputError, match=r"llamas\.csv: not a readable CSV file"):
        read_published(folder)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("resa_resnet18,UFLD3", r"key 'detector': 'UFLD3' has no published figure"),
        ("resa_resnet18,RESA", r"key 'name'"),
    ],
)
def test_a_damaged_list_of_names_is_refused(folder: Path, line: str, told: str) -> None:
    names = folder / "detectors.csv"
    number = len(names.read_text().splitlines()) + 1
    with names.open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(InputError, match=rf"detectors\.csv: line {number}: {told}"):
        read_published(folder)
