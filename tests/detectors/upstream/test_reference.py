from __future__ import annotations

import pytest

from detectors.upstream.isolation import Isolation
from detectors.upstream.reference import Unavailable, needed, polylines_of


def test_lanes_are_read_off_the_lines_of_a_file_and_blank_lines_are_none() -> None:
    found = polylines_of("1.5 590 2 580\n\n3 570 \n")
    assert [lane.tolist() for lane in found] == [[[1.5, 590.0], [2.0, 580.0]], [[3.0, 570.0]]]
    assert polylines_of("") == []


def test_what_a_module_of_upstreams_lacks_is_said_by_its_name(tmp_path) -> None:
    (tmp_path / "encoder.py").write_text("import no_such_package\n")
    with Isolation(tmp_path), pytest.raises(Unavailable, match=r"^its encoder needs the package no_such_package$"):
        needed("encoder", "its encoder needs")
