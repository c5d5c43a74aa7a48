"""What `publish` writes into a README: what stands between its markers and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.publishing.publish import between

BEGIN, END = "<!-- leaderboard:mini -->", "<!-- /leaderboard:mini -->"


def test_what_stands_between_the_markers_is_replaced_and_nothing_else() -> None:
    text = f"# Title\n{BEGIN}\nof yesterday\n{END}\nend\n"
    assert between(Path("README.md"), text, "leaderboard:mini", "new") == f"# Title\n{BEGIN}\nnew\n{END}\nend\n"


@pytest.mark.parametrize(
    "text",
    ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}\n{END}\n{END}"],
    ids=["none", "no end", "no begin", "turned round", "two begins", "two ends"],
)
def test_markers_that_are_no_pair_are_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"README.md: needs the lines {BEGIN} and {END}, once each")):
        between(Path("README.md"), text, "leaderboard:mini", "new")
