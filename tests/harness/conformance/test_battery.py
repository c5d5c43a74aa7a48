"""The battery passes what keeps its promises, and tells what it can't look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detectors.registry import TABLE
from harness.conformance.battery import CHECKS, cases, check_adapter, run_check
from harness.conformance.seeds import check_seeds
from harness.conformance.subject import Arm, Demands, subject_of
from harness.errors import InputError
from tests.harness.conformance.broken import HEAD, OWN_SEED, changed, one_check

MICRO = [name for name in TABLE if name.endswith("_micro")]


def torch_settings() -> tuple[bool, bool, bool, int]:
    cudnn = torch.backends.cudnn.benchmark
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return cudnn, *algorithms, torch.get_num_threads()


def test_a_micro_detector_passes_all_but_the_long_check_in_both_arms_and_torch_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    generator, settings = torch.get_rng_state(), torch_settings()
    results = check_adapter("ufldv2_micro", "culane", quick=True)
    assert [result for result in results if result.outcome == "failed"] == []
    assert {result.check for result in results if result.outcome == "skipped"} <= {"CPU and GPU"}
    assert [(result.check, result.arm) for result in results] == [(check.name, arm) for check, arm in cases(quick=True)]
    assert {result.arm for result in results} == {"adapter", "baseline", "samiro"}
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch_settings() == settings


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
def test_every_micro_detector_passes_the_whole_battery(name: str) -> None:
    results = check_adapter(name, "culane")
    assert [result for result in results if result.outcome == "failed"] == []
    assert sum(result.check == "overfits 8 images" for result in results) == 2


@pytest.mark.parametrize("backbone", ["dla34", "convnext_tiny", pytest.param("resnet101", marks=pytest.mark.slow)])
def test_every_kind_of_backbone_keeps_the_promises_of_its_taps_and_trains_with_samiro(
    backbone: str, tmp_path: Path
) -> None:
    name = changed(
        tmp_path,
        ('backbone="resnet_micro"', f'backbone="{backbone}"'),
        ("recipe=Recipe(", 'weights="imagenet",\n    recipe=Recipe('),
        ("network=(128, 320)", "network=(64, 160)"),
    )
    (tmp_path / "work").mkdir()
    subject = subject_of(name, "culane", tmp_path / "work")
    arms: dict[str, Arm] = {"metadata": "adapter", "taps": "adapter", "forward and backward": "samiro"}
    results = [run_check(subject, check, arms[check.name]) for check in CHECKS if check.name in arms]
    assert [(result.outcome, result.detail) for result in results if result.outcome != "passed"] == []


def test_an_adapter_that_uses_a_published_backbone_can_start_from_its_weights(tmp_path: Path) -> None:
    start = ("recipe=Recipe(", 'weights="imagenet",\n    recipe=Recipe(')
    adapter = changed(tmp_path, ('backbone="resnet_micro"', 'backbone="resnet18"'), start)
    result = one_check(adapter, "metadata", "adapter", tmp_path)
    assert result.outcome == "passed", result
    assert "starts from resnet18.tv_in1k" in result.detail
    renamed = adapter.replace("my_lanes.py", "renamed.py")
    text = (
        (tmp_path / "my_lanes.py").read_text().replace("self.backbone", "self.body").replace('"backbone")', '"body")')
    )
    (tmp_path / "renamed.py").write_text(text)
    (tmp_path / "again").mkdir()
    result = one_check(renamed, "metadata", "adapter", tmp_path / "again")
    assert result.outcome == "failed"
    assert "`backbone_path`" in result.detail


LOADED = """        self.load_state_dict({name: value + 0 for name, value in self.state_dict().items()})
"""


def test_weights_that_the_adapter_loads_itself_or_that_are_constant_may_be_the_same_for_every_seed(
    tmp_path: Path,
) -> None:
    constant = "        for weight in self.parameters():\n            nn.init.constant_(weight, 0.01)\n"
    for folder, more in ((tmp_path / "loaded", OWN_SEED + LOADED), (tmp_path / "constant", constant)):
        folder.mkdir()
        name = changed(folder, (HEAD, HEAD + more))
        check_seeds(subject_of(name, "culane", folder / "work"))


def test_a_decode_that_changes_the_outputs_in_place_breaks_no_promise(tmp_path: Path) -> None:
    name = changed(tmp_path, ("outputs.float().sigmoid()", "outputs.float().sigmoid_()"))
    result = one_check(name, "state dict", "baseline", tmp_path)
    assert (result.outcome, result.detail) == ("passed", "88 tensors")


def test_outputs_may_be_lists_of_as_much_as_an_image_has(tmp_path: Path) -> None:
    kept = (
        "return logits.view(-1, 2, LANES, ROWS)",
        "logits = logits.view(-1, 2, LANES, ROWS)\n"
        "        return logits if self.training else [one[:, one[1].mean(1) > one[1].mean()] for one in logits]",
    )
    shown = ("outputs.float().sigmoid().cpu().numpy()", "[one.sigmoid().numpy() for one in outputs]")
    result = one_check(changed(tmp_path, kept, shown), "batch invariance", "baseline", tmp_path)
    assert result.outcome == "passed", result
    (tmp_path / "again").mkdir()
    shifted = (kept[0], kept[1].replace("[one[:,", "[(one + logits.mean())[:,"))
    result = one_check(changed(tmp_path / "again", shifted, shown), "batch invariance", "baseline", tmp_path / "again")
    assert "alone and in a batch" in result.detail, result


def test_losses_that_make_the_host_wait_for_a_gpu_are_told_and_are_no_fault(tmp_path: Path) -> None:
    name = changed(tmp_path, ("exists.sum().clamp(min=1)", "max(exists.sum().item(), 1)"))
    (line,) = (n for n, text in enumerate((tmp_path / "my_lanes.py").read_text().splitlines(), 1) if ".item()" in text)
    result = one_check(name, "one device", "baseline", tmp_path)
    assert (result.outcome, result.detail) == (
        "passed",
        "2 losses, their gradients and the lanes; the losses make the host wait for a GPU once, "
        f"most often for aten._local_scalar_dense.default at my_lanes.py:{line}",
    )


PROBABILITIES = (
    ("return logits.view(-1, 2, LANES, ROWS)", "return logits.view(-1, 2, LANES, ROWS).sigmoid()"),
    ("place.sigmoid() - x", "place - x"),
    ("binary_cross_entropy_with_logits(existence, exists)", "nn.functional.binary_cross_entropy(existence, exists)"),
    ("outputs.float().sigmoid()", "outputs.float()"),
)
"""What makes the scaffold's adapter give probabilities, with a loss that refuses all else."""


def test_outputs_that_are_probabilities_make_the_round_trip_in_their_range(tmp_path: Path) -> None:
    result = one_check(changed(tmp_path, *PROBABILITIES), "round trip", "adapter", tmp_path)
    assert result.outcome == "passed", result
    assert " short steps of the outputs; steps of the outputs end in RuntimeError: " in result.detail


def test_a_round_trip_that_no_way_leads_through_tells_of_both(tmp_path: Path) -> None:
    shifted = ("self.rows.points(place * self.rows.cells)", "self.rows.points(place * self.rows.cells + 90)")
    result = one_check(changed(tmp_path, shifted), "round trip", "adapter", tmp_path)
    assert result.outcome == "failed"
    assert result.detail.count("F1@50 0.") == 2
    assert "after 400 steps of the outputs; F1@50 0" in result.detail
    assert "after 400 short steps of the outputs; below 0.95; decoded x " in result.detail


def test_without_taps_there_is_nothing_to_regularize(tmp_path: Path) -> None:
    change = (
        '        """The stages of the backbone."""\n        return backbone_taps(self.backbone, "backbone")',
        "        return ()",
    )
    name = changed(tmp_path, change, ("last = self.taps()[-1]", 'last = backbone_taps(self.backbone, "backbone")[-1]'))
    for number, (check, arm, outcome) in enumerate(
        [("taps", "adapter", "skipped"), ("empty labels", "samiro", "skipped"), ("empty labels", "baseline", "passed")]
    ):
        (tmp_path / str(number)).mkdir()
        result = one_check(name, check, arm, tmp_path / str(number))  # type: ignore[arg-type]
        assert result.outcome == outcome, result


def test_a_detector_that_cannot_be_built_fails_once_and_nothing_escapes(tmp_path: Path) -> None:
    results = check_adapter(changed(tmp_path, ("squeezed = nn.Conv2d(", "squeezed = nn.Conv9d(")), "culane", quick=True)
    assert [result.check for result in results if result.outcome == "failed"] == ["metadata"]
    others = {result.detail for result in results if result.outcome == "skipped"}
    assert others <= {"not looked at: see metadata", "no CUDA device here"}


def test_too_few_steps_or_too_high_a_demand_do_not_pass(tmp_path: Path) -> None:
    result = one_check("ufldv2_micro", "overfits 8 images", "baseline", tmp_path, Demands(steps=1, f1=0.95))
    assert result.outcome == "failed"
    assert "after 1 steps, below 0.95" in result.detail


def test_an_unknown_name_or_form_is_the_callers_mistake() -> None:
    with pytest.raises(InputError, match="did you mean 'ufldv2_micro'"):
        check_adapter("ufldv2_mikro", "culane")
    with pytest.raises(InputError, match="no configuration for form 'llamas'"):
        check_adapter("lstr_resnet34", "llamas")
