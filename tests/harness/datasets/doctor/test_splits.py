"""Counts of the public dataset's scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.datasets.doctor import sources
from harness.datasets.doctor.examine import examine
from harness.errors import InputError
from tests.harness.datasets.doctor.trees import CLIP, HEIGHT, NAMES, WIDTH, edit, findings, rendered


@pytest.fixture
def public(culane: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The six images as if CULane had no more."""
    monkeypatch.setitem(sources.IMAGES, "culane", {"train": 3, "val": 1, "test": 2})
    monkeypatch.setitem(sources.IMAGE_SIZES, "culane", (HEIGHT, WIDTH))
    for scenario in [*sources.SCENARIOS]:
        monkeypatch.setitem(sources.SCENARIOS, scenario, {"normal": 1, "night": 1}.get(scenario, 0))
    (culane / "driver_23_30frame").mkdir()
    return culane


def test_scenarios_of_another_size_than_culanes_are_told(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(public, "count") == []
    for known, count in (("2", 2), ("0", 0)):
        monkeypatch.setitem(sources.SCENARIOS, "night", count)
        ((severity, file, what, _),) = findings(public, "count")
        assert (severity, file) == ("warning", "list/test_split")
        assert what == f"scenario night has 1 images instead of {known}"


@pytest.mark.parametrize("clip", [CLIP, ""])
def test_the_clip_that_two_splits_share_is_named_also_if_it_is_the_root(culane: Path, clip: str) -> None:
    for split, number in (("train", 0), ("val", 3)):
        name = f"{clip}/{number:05d}".lstrip("/")
        for ending in ("jpg", "lines.txt"):
            (culane / f"{NAMES[number]}.{ending}").rename(culane / f"{name}.{ending}")
        edit(f"list/{split}.txt", lambda text, number=number, name=name: text.replace(NAMES[number], name))(culane)
    assert [one[:2] for one in findings(culane, "shared-clip")] == [("warning", clip or ".")]


@pytest.mark.parametrize("part", [5, {}, {"frames": "3"}])
def test_a_rendered_split_without_a_count_is_refused_by_name(culane: Path, part: object) -> None:
    rendered(culane, HEIGHT, WIDTH)
    edit("rendering.json", lambda text: text.replace('"splits": {}', f'"splits": {json.dumps({"train": part})}'))(
        culane
    )
    with pytest.raises(InputError, match=r"rendering\.json: the spec has no number of frames of split train; render"):
        examine(culane)


def test_a_rendering_without_a_size_is_refused_by_name(culane: Path) -> None:
    rendered(culane, HEIGHT, WIDTH)
    edit("rendering.json", lambda text: text.replace('"height"', '"heigth"'))(culane)
    with pytest.raises(InputError, match=r"rendering\.json: the spec has no height and width; render"):
        examine(culane)


def test_broken_scenarios_are_told_once(public: Path) -> None:
    (public / "list/test_split/test8_night.txt").write_text("")
    assert len(findings(public, "test-split")) == 1
    assert findings(public, "no-scenarios") == []
