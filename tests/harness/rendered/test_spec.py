"""What a rendered dataset may be asked to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.records.record import read_records
from harness.rendered.dataset import plan_clips
from harness.rendered.spec import HIGHWAY_SHARES, SCENARIOS, RenderSpec, SplitSpec, dataset_key
from harness.suite import load_suite

PUBLISHED = Path(__file__).parents[3] / "results"


def test_an_unknown_scenario_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ValidationError, match=r"unknown scenario 'nigth': did you mean 'night'\?"):
        SplitSpec(frames=3, scenarios={"nigth": 1.0})


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"unknown split 'vall': did you mean 'val'\?"):
        RenderSpec(splits={"vall": SplitSpec(frames=1)})


@pytest.mark.parametrize("weights", [{"normal": 0.0}, {}])
def test_weights_without_any_above_zero_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="no scenario has a weight above 0"):
        SplitSpec(frames=3, scenarios=weights)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_that_are_no_shares_are_refused(weight: float) -> None:
    with pytest.raises(ValidationError, match=r"night: the weight is"):
        SplitSpec(frames=3, scenarios={"night": weight})


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="dificulty"):
        RenderSpec.model_validate({"dificulty": 0.1, "splits": {"train": {"frames": 1}}})


def test_the_key_changes_with_every_field_and_is_otherwise_stable() -> None:
    spec = RenderSpec(splits={"train": SplitSpec(frames=4)})
    again = RenderSpec.model_validate(spec.model_dump())
    assert dataset_key(spec) == dataset_key(again)
    others = [
        {"seed": 1},
        {"width": 820},
        {"height": 295},
        {"difficulty": 0.6},
        {"splits": {"train": SplitSpec(frames=5)}},
        {"splits": {"val": SplitSpec(frames=4)}},
    ]
    keys = {dataset_key(spec.model_copy(update=change)) for change in others}
    assert len(keys) == len(others)
    assert dataset_key(spec) not in keys


def test_every_scenario_is_in_a_split_of_nine_clips_or_more() -> None:
    for frames in (18, 37, 400):
        clips = plan_clips(RenderSpec(splits={"test": SplitSpec(frames=frames, frames_per_clip=2)}))
        assert {clip.scenario for clip in clips} == set(SCENARIOS)
        assert sum(clip.frames for clip in clips) == frames


def test_shares_follow_the_weights() -> None:
    weights = {"normal": 3.0, "night": 1.0}
    clips = plan_clips(RenderSpec(splits={"val": SplitSpec(frames=80, frames_per_clip=1, scenarios=weights)}))
    names = [clip.scenario for clip in clips]
    assert names.count("normal") == pytest.approx(60, abs=2)
    assert names.count("normal") + names.count("night") == 80


def test_no_scene_is_shared_between_clips_splits_or_seeds() -> None:
    split = SplitSpec(frames=40, frames_per_clip=2)
    seeds = []
    for seed in (0, 1):
        spec = RenderSpec(seed=seed, splits={"train": split, "val": split, "test": split})
        seeds += [clip.seed for clip in plan_clips(spec)]
    assert len(set(seeds)) == len(seeds) == 120


def test_the_mini_suites_roads_are_those_that_its_published_records_name() -> None:
    rendered = load_suite("mini").datasets["roads"].rendered
    assert rendered is not None
    named = [record.identity.dataset_key for record in read_records(PUBLISHED / "mini/records")]
    assert named == 4 * [{"rendered": dataset_key(rendered)}]


def test_sizes_and_clip_lengths_are_those_of_the_form_unless_given() -> None:
    for form, size, length in (("culane", (1640, 590), 6), ("tusimple", (1280, 720), 1), ("llamas", (1276, 717), 6)):
        for split in ({"frames": 9}, SplitSpec(frames=9)):
            spec = RenderSpec.model_validate({"form": form, "splits": {"val": split}})
            assert (spec.width, spec.height) == size
            assert spec.splits["val"].frames_per_clip == length
    spec = RenderSpec.model_validate({"form": "llamas", "splits": {"val": {"frames": 9, "frames_per_clip": 3}}})
    assert spec.splits["val"].frames_per_clip == 3
    assert RenderSpec.model_validate(spec.model_dump()) == spec


def test_the_key_tells_forms_and_their_options_apart() -> None:
    splits = {"val": {"frames": 4, "frames_per_clip": 1}}
    specs = [
        {"form": "tusimple", "splits": splits},
        {"form": "tusimple", "splits": splits, "unlabelled_frames": True},
        {"form": "llamas", "splits": splits},
        {"form": "culane", "width": 1276, "height": 717, "splits": splits},
    ]
    assert len({dataset_key(RenderSpec.model_validate(spec)) for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"form": "tusimple", "width": 640, "splits": {"val": {"frames": 1}}}, "form tusimple is 1280x720"),
        ({"form": "llamas", "height": 590, "splits": {"val": {"frames": 1}}}, "form llamas is 1276x717"),
        ({"form": "tusimple", "splits": {"val": {"frames": 8, "frames_per_clip": 4}}}, "one labelled frame"),
        ({"form": "tusimple", "splits": {"train": {"frames": 1}}}, "at least 2 frames"),
        ({"form": "llamas", "splits": {"val": {"frames": 1, "scenarios": {"cross": 1}}}}, "has no scenario 'cross'"),
        ({"form": "culane", "unlabelled_frames": True, "splits": {"val": {"frames": 1}}}, "is for form tusimple"),
        ({"form": "tusimpel", "splits": {"val": {"frames": 1}}}, "'culane', 'tusimple' or 'llamas'"),
    ],
)
def test_what_a_form_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RenderSpec.model_validate(wrong)


def test_highways_have_scenarios_of_their_own() -> None:
    spec = RenderSpec(form="tusimple", splits={"test": SplitSpec(frames=200)})
    names = [clip.scenario for clip in plan_clips(spec)]
    for name, share in HIGHWAY_SHARES.items():
        assert names.count(name) == pytest.approx(200 * share, abs=2)
