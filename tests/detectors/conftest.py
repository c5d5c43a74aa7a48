"""What the tests of the detectors assert in a module of their own is told as fully as what stands in a test."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.detectors.promises")
