"""Every part of a clip is drawn from a stream of random numbers of its own."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from harness.rendered import llamas_form, tusimple_form
from harness.rendered.clip import Clip
from harness.rendered.frame import prepare, render_frame
from harness.rendered.sampling import sample_scene
from harness.rendered.scene import Scene
from harness.rendered.streams import Stream, open_stream


def street(clip: Clip, difficulty: float) -> Scene:
    return sample_scene(clip.scenario, difficulty, clip.seed, clip.frames)


SCENES = {"culane": street, "tusimple": tusimple_form.scene_of, "llamas": llamas_form.scene_of}


@pytest.mark.parametrize("form", SCENES)
def test_no_two_parts_of_a_clip_draw_the_same_numbers(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is opened is watched where NumPy makes it: a part that seeds a generator by itself is seen too.
    opened: Counter[tuple[int, ...]] = Counter()
    real = np.random.SeedSequence

    def watched(entropy: object, **others: object) -> np.random.SeedSequence:
        sequence = real(entropy, **others)  # type: ignore[arg-type]
        opened[tuple(np.ravel(np.array(entropy, dtype=object)))] += 1
        return sequence

    monkeypatch.setattr(np.random, "SeedSequence", watched)
    stage = prepare(SCENES[form](Clip("train", 0, "clip", "normal", 2511, 2), 0.5))
    for number in range(2):
        render_frame(stage, number, width=320, height=180)
    assert len([entropy for entropy in opened if entropy[0] == 2511]) >= 6
    assert [entropy for entropy, times in opened.items() if times > 1] == []


def test_streams_of_one_seed_share_no_number_and_equal_ones_share_all() -> None:
    drawn = {stream: open_stream(2511, stream).random(64) for stream in Stream}
    for first, second in combinations(Stream, 2):
        assert not np.isin(drawn[first], drawn[second]).any()
    assert np.array_equal(drawn[Stream.LOOK], open_stream(2511, Stream.LOOK).random(64))


def test_seeds_that_differ_in_their_high_half_alone_and_frames_of_a_clip_have_streams_of_their_own() -> None:
    assert open_stream(1, Stream.LOOK).random() != open_stream(1 + (1 << 40), Stream.LOOK).random()
    assert open_stream(1, Stream.SHAKE, 0).random() != open_stream(1, Stream.SHAKE, 1).random()
