from __future__ import annotations

import numpy as np

from detectors.meta import InputSize
from detectors.parts.shares import shares_of
from harness.lanes import plain_geometry


def test_shares_are_label_coordinates_over_the_frames_size_as_upstreams_have_them() -> None:
    size = InputSize(frame=(590, 1640), crop=(0, 0, 590, 1640), network=(288, 800))
    frame, geometry = shares_of(size), plain_geometry(size.frame, size.crop, size.network)
    points = np.array([[0.0, 0.0], [820.0, 295.0], [410.0, 590.0], [-164.0, 59.0]])
    np.testing.assert_allclose(frame.of(geometry.to_network(points)), points / [1640, 590], atol=1e-12)
    np.testing.assert_allclose(geometry.to_original(frame.to_network(points / [1640, 590])), points, atol=1e-9)


def test_of_a_cropped_frame_shares_are_those_of_the_crop() -> None:
    size = InputSize(frame=(720, 1280), crop=(160, 80, 720, 1200), network=(128, 320))
    geometry = plain_geometry(size.frame, size.crop, size.network)
    corners = geometry.to_network([[80.0, 160.0], [1200.0, 720.0], [640.0, 440.0]])
    np.testing.assert_allclose(shares_of(size).of(corners), [[0, 0], [1, 1], [0.5, 0.5]], atol=1e-12)
