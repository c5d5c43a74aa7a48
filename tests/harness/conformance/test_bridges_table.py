"""What was measured of bridges is read back from the page as it was written."""

from __future__ import annotations

from detectors.registry import UPSTREAM
from harness.conformance.bridges import Measured, in_words, read_measured
from tests.docs.bridges_page import bridges_by_class, measured_table, read_stand_ins, repositories_table


def test_what_was_measured_comes_back_from_a_page() -> None:
    seen = {
        ("clrnet_resnet18_upstream", "culane"): Measured(11_774_387, {"adapter": (5, 5), "samiro": (4, 5)}),
        ("clrnet_resnet18_upstream", "tusimple"): Measured(7, {}),
    }
    page = f"# Page\n\n| a | b |\n\n{measured_table(seen)}\n"  # type: ignore[arg-type]
    read = read_measured(page)
    assert {key: one for key, one in read.items() if one != Measured(None, {})} == seen
    assert {name for name, _ in read} == set(UPSTREAM)


def test_what_stands_in_comes_back_from_a_page() -> None:
    told = {names[0]: ["mmcv", "clrnet.ops"] for names in bridges_by_class()}
    assert read_stand_ins(f"words\n\n{repositories_table(told)}\n\nwords | and `clrnet_resnet18_upstream`") == told


def test_failed_forms_are_told_first() -> None:
    whole, broken = Measured(1, {"adapter": (5, 5)}), Measured(1, {"adapter": (4, 5)})
    told = in_words({"culane": whole, "tusimple": broken, "llamas": Measured(1, {})})
    assert told == "failed: tusimple; passed: culane; not run: llamas"
