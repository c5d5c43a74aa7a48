"""What the page of parity says of a variant is what it is listed with."""

from __future__ import annotations

from detectors.upstream.references import REFERENCES
from detectors.upstream.repositories import REPOSITORIES
from harness.cli.detectors import parity_of
from harness.parity.compare import Parity
from harness.parity.layers import Layer, Outcome
from harness.parity.outcomes import PAGE, in_words, outcomes
from harness.parity.page import page


def parity(name: str, form: str, *ended: Outcome) -> Parity:
    names = ("image", "raw logits", "lanes", "loss lane", "losses, no lane", "gradient")
    layers = [
        Layer(layer, outcome, None if outcome == "unavailable" else 0.5, 1.0, "px", "a | b")
        for layer, outcome in zip(names, ended, strict=False)
    ]
    return Parity(name, form, REPOSITORIES["LSTR"], "abc with local changes", tuple(layers), {})  # type: ignore[arg-type]


def test_the_outcome_that_counts_most_is_read_back_from_the_page() -> None:
    text = page(
        [
            parity("one", "culane", *["agrees"] * 6),
            parity("one", "tusimple", "documented", "agrees", "unavailable"),
            parity("two", "culane", "documented", "differs", "agrees"),
            parity("three", "llamas", *["unavailable"] * 6),
        ]
    )
    assert outcomes(text) == {
        "one": {"culane": "agrees", "tusimple": "documented"},
        "two": {"culane": "differs"},
        "three": {"llamas": "unavailable"},
    }


def test_forms_without_an_outcome_are_told() -> None:
    found: dict[str, Outcome] = {"culane": "agrees", "tusimple": "documented"}
    told = in_words(found, ["culane", "tusimple", "llamas"])
    assert told == "differs as documented: tusimple; agrees: culane; not compared: llamas"


def test_the_published_page_is_read_for_the_variants_that_can_be_compared() -> None:
    read = outcomes(PAGE.read_text(encoding="utf-8"))
    assert set(read) <= set(REFERENCES)
    assert len(read) > 10
    assert parity_of("clrnet_resnet18") == "differs as documented: culane, tusimple, llamas"
    assert parity_of("clrnet_micro") is None
