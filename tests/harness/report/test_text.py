"""Numbers as text."""

from __future__ import annotations

import pytest

from harness.report.text import csv_text, markdown, number, p_text, significant


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "text"),
    [
        (1.005, 2, False, "1.00"),
        (-0.001, 2, False, "0.00"),
        (-0.001, 2, True, "0.00"),
        (0.5, 2, True, "+0.50"),
        (-0.5, 2, True, "-0.50"),
        (None, 2, False, ""),
    ],
)
def test_numbers_have_fixed_decimals_and_no_negative_zero(value: float, decimals: int, sign: bool, text: str) -> None:
    assert number(value, decimals, sign=sign) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1507, "0.151"), (1.5, "1.50"), (15.07, "15.1"), (1507.0, "1507"), (None, "")]
)
def test_sizes_have_three_significant_digits(value: float | None, text: str) -> None:
    assert significant(value, 3) == text


def test_p_values_below_a_thousandth_say_so() -> None:
    assert [p_text(0.0001), p_text(0.0454), p_text(None)] == ["< 0.001", "0.045", ""]


def test_names_stay_readable_in_markdown() -> None:
    assert markdown("ufldv2_micro") == "ufldv2_micro"
    assert markdown("_a_ | b") == r"\_a\_ \| b"


def test_dollars_begin_no_mathematics_in_markdown() -> None:
    r"""As https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/writing-mathematical-expressions."""
    assert markdown("5 $a$") == "5 <span>$</span>a<span>$</span>"


def test_only_text_that_begins_like_a_formula_is_quoted() -> None:
    assert [csv_text("=1"), csv_text("-x"), csv_text("a=1")] == ["'=1", "'-x", "a=1"]
