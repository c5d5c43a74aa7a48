from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.parts import lane_suppression
from detectors.parts.lane_suppression import Kept, suppressed, suppressed_on_host, unsuppressed

ROWS = 12


def covered(start: float, length: float, rows: int) -> range:
    """The rows of a lane by the published arithmetic: single precision, a half added, and cut towards zero as C does."""
    first = int(float(np.float32(start) * np.float32(rows - 1)) + 0.5)
    last = int(float(np.float32(first) + np.float32(length) - np.float32(1)) + 0.5 - (length < 1))
    return range(max(first, 0), min(last, rows - 1) + 1)


def greedy(
    scores: np.ndarray, starts: np.ndarray, lengths: np.ndarray, places: np.ndarray, threshold: float, limit: int
) -> list[int]:
    """The published rule for one image, word for word: one lane and one pair at a time."""
    kept: list[int] = []
    spans = [covered(start, length, places.shape[1]) for start, length in zip(starts, lengths, strict=True)]
    for index in sorted(range(len(scores)), key=lambda lane: -scores[lane]):
        for better in kept:
            common = [row for row in spans[index] if row in spans[better]]
            total = sum(abs(float(places[index, row]) - float(places[better, row])) for row in common)
            if common and total < threshold * len(common):
                break
        else:
            kept.append(index)
        if len(kept) == limit:
            break
    return kept


def lists(kept: Kept) -> list[list[int]]:
    return [
        indices[present].tolist() for indices, present in zip(kept.indices.numpy(), kept.present.numpy(), strict=True)
    ]


def drawn(seed: int, images: int, lanes: int, rows: int = ROWS) -> tuple[np.ndarray, ...]:
    """Lanes in bundles, so that there is something to suppress; starts below and lengths beyond the image among them."""
    generator = np.random.default_rng(seed)
    scores = generator.permutation(images * lanes).reshape(images, lanes) / (images * lanes)
    starts = np.round(generator.uniform(-0.1, 0.9, (images, lanes)), 2)
    lengths = np.round(generator.uniform(-1, rows + 3, (images, lanes)), 1)
    bundles = generator.integers(0, 5, (images, lanes, 1)) * 40.0
    places = bundles + np.cumsum(generator.integers(-4, 5, (images, lanes, rows)), axis=2)
    return tuple(array.astype(np.float32) for array in (scores, starts, lengths, places))


def suppress(
    arrays: tuple[np.ndarray, ...], threshold: float, limit: int, candidates: np.ndarray | None = None
) -> Kept:
    chosen = None if candidates is None else torch.from_numpy(candidates)
    tensors = [torch.from_numpy(array) for array in arrays]
    return suppressed(*tensors, threshold=threshold, limit=limit, candidates=chosen)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 60), st.sampled_from([5.0, 15.0, 45.0]), st.integers(1, 70)
)
def test_lanes_are_kept_as_by_going_through_them_one_by_one(
    seed: int, images: int, lanes: int, threshold: float, limit: int
) -> None:
    arrays = drawn(seed, images, lanes)
    expected = [greedy(*image, threshold, limit) for image in zip(*arrays, strict=True)]
    assert lists(suppress(arrays, threshold, limit)) == expected


@pytest.mark.parametrize("limit", [4, 3000])
def test_many_lanes_are_decided_on_in_blocks_as_if_in_one(limit: int) -> None:
    arrays = drawn(3, images=2, lanes=400, rows=20)
    expected = [greedy(*image, 3.0, limit) for image in zip(*arrays, strict=True)]
    assert len(expected[0]) == limit or 128 < len(expected[0]) < 400
    assert lists(suppress(arrays, 3.0, limit)) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.floats(0, 1))
def test_lanes_that_take_no_part_neither_stay_nor_suppress(seed: int, share: float) -> None:
    arrays = drawn(seed, images=2, lanes=30)
    candidates = np.random.default_rng(seed).random((2, 30)) < share
    expected = []
    for image, chosen in zip(zip(*arrays, strict=True), candidates, strict=True):
        indices = np.flatnonzero(chosen)
        expected.append([int(indices[lane]) for lane in greedy(*(array[indices] for array in image), 15.0, 10)])
    assert lists(suppress(arrays, 15.0, 10, candidates)) == expected


def test_a_distance_equal_to_the_threshold_suppresses_nothing() -> None:
    places = torch.tensor([0.0, 5.0, 9.9])[None, :, None].expand(1, 3, ROWS)
    scores, starts, lengths = torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3), torch.full((1, 3), float(ROWS))
    kept = suppressed(scores, starts, lengths, places, threshold=5.0, limit=9)
    assert lists(kept) == [[0, 1]]


def test_of_equal_scores_the_first_lane_is_the_better() -> None:
    ones = torch.ones(1, 50)
    kept = suppressed(ones, 0 * ones, 5 * ones, torch.zeros(1, 50, ROWS), threshold=1.0, limit=9)
    assert lists(kept) == [[0]]


def test_lanes_without_a_common_row_both_stay() -> None:
    starts, lengths = torch.tensor([[0.0, 6 / (ROWS - 1)]]), torch.tensor([[6.0, 6.0]])
    kept = suppressed(torch.tensor([[0.4, 0.5]]), starts, lengths, torch.zeros(1, 2, ROWS), threshold=50.0, limit=9)
    assert lists(kept) == [[1, 0]]


def test_a_whole_batch_without_a_lane_keeps_nothing() -> None:
    for lanes in (0, 3):
        empty = torch.zeros(2, lanes)
        kept = suppressed(
            empty,
            empty,
            empty,
            torch.zeros(2, lanes, ROWS),
            threshold=5.0,
            limit=4,
            candidates=torch.zeros(2, lanes, dtype=torch.bool),
        )
        assert kept.indices.shape == kept.present.shape == (2, 0)


def test_broken_numbers_drop_the_lane_or_spare_the_others() -> None:
    places = torch.zeros(1, 4, ROWS)
    places[0, 1, 3] = math.nan
    places[0, 2, 3] = math.inf
    scores = torch.tensor([[0.5, 0.6, 0.7, math.nan]])
    lengths = torch.tensor([[2.0, 8.0, 8.0, 8.0]])
    kept = suppressed(scores, torch.zeros(1, 4), lengths, places, threshold=5.0, limit=9)
    assert lists(kept)[0][0] == 2
    assert 3 not in lists(kept)[0]
    assert 0 not in lists(kept)[0], "its own rows are sound, and lie on those of the best lane"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 60), st.sampled_from([5.0, 15.0, 45.0]), st.integers(1, 8))
def test_on_the_host_the_same_lanes_are_kept(seed: int, lanes: int, threshold: float, limit: int) -> None:
    arrays = drawn(seed, 1, lanes)
    scores, starts, lengths, places = (array[0] for array in arrays)
    kept = suppressed_on_host(scores, starts, lengths, places, threshold=threshold, limit=limit)
    assert kept == greedy(scores, starts, lengths, places, threshold, limit)


def test_on_the_host_too_what_is_no_number_disturbs_nothing() -> None:
    scores = np.array([np.nan, 0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    places = np.full((5, ROWS), 100.0, dtype=np.float32)
    places[3, 2], places[4, 2] = np.nan, -np.inf
    starts, lengths = np.zeros(5, dtype=np.float32), np.full(5, 12.0, dtype=np.float32)
    starts[2], lengths[2] = np.nan, np.nan
    kept = suppressed_on_host(scores, starts, lengths, places, threshold=50.0, limit=5)
    whole = suppress((scores[None], starts[None], lengths[None], places[None]), 50.0, 5)
    assert [kept] == lists(whole) == [[1, 2, 3, 4]]


@pytest.mark.parametrize("kind", ["cpu", "accelerator"])
@pytest.mark.parametrize("lanes", [0, 1, 40, 1100])
def test_without_a_limit_those_are_unsuppressed_that_are_kept(
    kind: str, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = [torch.from_numpy(array) for array in drawn(5, images=3, lanes=lanes)]
    tensors[0][:1, :30:7] = math.nan
    kept = lists(suppressed(*tensors, threshold=3.0, limit=max(lanes, 1)))
    monkeypatch.setattr(lane_suppression, "_kind", lambda values: kind)
    mask = unsuppressed(*tensors, threshold=3.0)
    assert mask.shape == (3, lanes)
    assert [torch.nonzero(row).flatten().tolist() for row in mask] == [sorted(one) for one in kept]


def test_a_chain_of_lanes_is_asked_for_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_suppression, "_kind", lambda values: "accelerator")
    asked = []
    monkeypatch.setattr(torch, "equal", lambda *pair, equal=torch.equal: asked.append(pair) or equal(*pair))
    scores, ones = torch.linspace(1, 0, 300)[None], torch.ones(1, 300)
    places = (10.0 * torch.arange(300))[None, :, None].expand(-1, -1, ROWS)
    mask = unsuppressed(scores, 0 * ones, ROWS * ones, places, threshold=15.0)
    assert torch.equal(mask, torch.arange(300)[None] % 2 == 0)
    assert len(asked) <= 10
