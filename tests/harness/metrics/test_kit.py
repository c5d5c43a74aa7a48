"""Every metric against what the official evaluators said of the committed conformance kit (kit/README.md)."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.metrics import culane, culane_ports, llamas, tusimple

KIT = Path(__file__).parent / "kit"


def cases(name):
    with gzip.open(KIT / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def lay_out(root, content, encoding):
    """Write a file, or none for None."""
    root.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        root.write_bytes(content.encode(encoding))


def image_counts(counts, row):
    return [int(counts.n_gt[row]), int(counts.n_pred[row]), *map(int, counts.tp[row, :10])]


@pytest.fixture(scope="module")
def culane_cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("culane")
    found = cases("culane")
    for number, case in enumerate(found):
        for side in ("label", "prediction"):
            lay_out(folder / side / f"{number}.lines.txt", case[side], "latin-1")
    return folder / "label", folder / "prediction", found


@pytest.mark.parametrize(("metric", "key"), [(culane, "official"), (culane_ports, "ports")])
def test_culane(culane_cases, metric, key):
    labels, predictions, found = culane_cases
    scored = [number for number, case in enumerate(found) if not isinstance(case[key], str)]
    counts, _ = metric.score_images(labels, predictions, [f"{number}.jpg" for number in scored])
    for row, number in enumerate(scored):
        assert image_counts(counts, row) == found[number][key], found[number]["case"]
    refused = sorted(set(range(len(found))) - set(scored))
    assert len(scored) > 150
    assert refused
    for number in refused:
        with pytest.raises(InputError, match=rf"{number}\.lines\.txt"):
            metric.score_images(labels, predictions, [f"{number}.jpg"], workers=1)


def test_tusimple(tmp_path):
    files = tmp_path / "labels.json", tmp_path / "predictions.json"
    for case in cases("tusimple"):
        for file, side in zip(files, ("label", "prediction"), strict=True):
            lay_out(file, case[side], "utf-8")
        if case["official"] == "raises":
            with pytest.raises(InputError, match=r"(labels|predictions)\.json"):
                tusimple.score_file(*files)
            continue
        counts, _ = tusimple.score_file(*files)
        means = [counts.mean(rates) for rates in (counts.accuracy, counts.fp, counts.fn)]
        assert [None if math.isnan(mean) else mean for mean in means] == case["official"], case["case"]


def test_llamas(tmp_path):
    labels, predictions, found = tmp_path / "labels", tmp_path / "predictions", cases("llamas")
    for number, case in enumerate(found):
        lay_out(labels / f"{number}/i.json", case["label"], "utf-8")
        lay_out(predictions / f"{number}/i.lines.txt", case["prediction"], "utf-8")
    scored = [number for number, case in enumerate(found) if case["official"] != "raises"]
    counts, _ = llamas.count_labels([f"{labels}/{number}/i.json" for number in scored], predictions)
    for row, number in enumerate(scored):
        assert image_counts(counts, row) == found[number]["official"], found[number]["case"]
    for number in sorted(set(range(len(found))) - set(scored)):
        with pytest.raises(InputError, match=rf"{number}/i\.(json|lines\.txt)"):
            llamas.count_labels([f"{labels}/{number}/i.json"], predictions, workers=1)
