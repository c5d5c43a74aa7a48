from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.metrics.counts import LADDER, Counts
from harness.metrics.image_lists import ImageList
from harness.metrics.oddities import Oddity
from harness.metrics.splits import count_splits


def scored(images):
    ones = np.ones(len(images), np.int64)
    return Counts(tuple(images), ones, 2 * ones, np.ones((len(images), 10), np.int64), LADDER), ()


def test_the_total_is_the_sum_and_oddities_of_lists_are_kept():
    odd = Oddity(Path("b.txt"), 2, "a blank line")
    lists = [ImageList("a", Path("a.txt"), ("1", "2"), ()), ImageList("b", Path("b.txt"), ("3",), (odd,))]
    found = count_splits(lists, scored)
    assert list(found.splits) == ["a", "b"]
    assert found.total.images == ("1", "2", "3")
    assert found.total.sums(0.5).fp == 3
    assert found.warnings == (odd,)
    with pytest.raises(InputError, match=r"b\.txt, line 2: a blank line"):
        count_splits(lists, scored, strict=True)
