"""What is said where a dataset is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import InputError


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The one line of the InputError that a call ends in."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
