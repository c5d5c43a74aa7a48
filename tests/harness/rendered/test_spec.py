"""What a rendered dataset may be asked to be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.rendered.dataset import plan_clips
from harness.rendered.spec import SCENARIOS, RenderSpec, SplitSpec, dataset_key


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
