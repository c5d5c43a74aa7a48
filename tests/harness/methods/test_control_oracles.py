"""The oracles `init` and `shuffled`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.errors import InputError
from harness.methods.config import method_configuration
from harness.methods.control_oracles import OwnStart, Shuffled
from harness.methods.pairing import tap_pairs
from harness.methods.samiro import gradient_ratios
from harness.methods.statistics import target_statistics

Attached = Callable[..., Any]


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "tokens"])
def test_an_own_start_gives_the_features_of_the_detector_as_it_began(toy: ModuleType, layout: str) -> None:
    detector = toy.detector(layout=layout).eval()
    oracle = OwnStart(detector)
    images = toy.batch().images
    seen: list[torch.Tensor] = []
    handles = [stage.register_forward_hook(lambda m, i, o: seen.append(o)) for stage in detector.stages]
    with torch.no_grad():
        detector(images)
    for handle in handles:
        handle.remove()
    for place, (own, feature) in enumerate(zip(seen, oracle(images), strict=True)):
        rows, columns = feature.shape[2:]
        assert torch.equal(detector.stages[place].plain(own, (rows, columns)), feature)
        assert not feature.requires_grad


def test_an_own_start_stays_frozen_while_the_detector_trains(toy: ModuleType, attached: Attached) -> None:
    detector = toy.detector()
    oracle = OwnStart(detector)
    images = toy.batch().images
    before = [feature.clone() for feature in oracle(images)]
    model = attached("miro", detector=detector, teacher=oracle, oracle="o", variance="unit")
    optimizer = torch.optim.SGD([p for group in model.parameter_groups() for p in group.parameters], 0.1)
    model.train()
    for seed in range(3):
        optimizer.zero_grad()
        torch.stack(list(model(toy.batch(seed)).values())).sum().backward()
        optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, oracle(images), strict=True))
    fresh = OwnStart(toy.detector())(images)
    assert all(torch.equal(one, other) for one, other in zip(before, fresh, strict=True))
    assert not any(name.startswith("oracle.") for name in model.state_dict())


def test_at_the_start_an_own_start_predicts_itself(toy: ModuleType, attached: Attached) -> None:
    # MIRO with the identity: nothing differs yet but for batch normalisation in training mode, which this detector is taken out of.
    detector = toy.detector().eval()
    model = attached("miro", detector=detector, teacher=OwnStart(detector), oracle="o", projection="identity")
    model.eval()
    model(toy.batch())
    # But for rounding: the oracle's batch normalisation is folded into its convolutions.
    assert max(float(terms.squared_error.max()) for terms in model.last) < 1e-10
    assert [float(terms.loss) for terms in model.last] == pytest.approx([0.5 * torch.tensor(0.1).log().item()] * 3)


def test_each_tap_meets_itself_where_strides_are_equal(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = toy.detector()
    oracle = OwnStart(detector)
    pairs = tap_pairs(detector, oracle, method_configuration("samiro", {"oracle": "o"}))
    assert [pair.oracle_tap.path for pair in pairs] == [pair.tap.path for pair in pairs]
    assert all(pair.grid == pair.oracle_grid for pair in pairs)
    same = tuple(tap.__class__(tap.path, tap.channels, 8) for tap in oracle.taps)
    oracle.taps = same
    assert [oracle.partner(tap) for tap in detector.taps()] == [0, 1, 2]


def test_an_own_start_looks_at_its_own_size_only(toy: ModuleType, attached: Attached) -> None:
    with pytest.raises(InputError, match="'oracle_scale'"):
        attached("samiro", teacher=OwnStart(toy.detector()), oracle="o", oracle_scale=0.5)
    # Before the network sees an image of another size, of which it may make anything.
    with pytest.raises(InputError, match="'oracle_scale'"):
        OwnStart(toy.detector()).grids((30, 50), 0.5)


def test_a_shuffled_oracle_gives_another_images_features(toy: ModuleType) -> None:
    oracle, images = toy.oracle(), toy.batch().images
    for plain, shuffled in zip(oracle(images), Shuffled(oracle)(images), strict=True):
        assert torch.equal(shuffled, plain.roll(1, 0))
        assert not any(torch.equal(one, other) for one, other in zip(plain, shuffled, strict=True))


def test_a_shuffled_oracle_looks_at_the_scale_and_has_the_partners_of_its_oracle(toy: ModuleType) -> None:
    oracle, images = toy.oracle(), toy.batch().images
    for plain, shuffled in zip(oracle(images, 0.5), Shuffled(oracle)(images, 0.5), strict=True):
        assert torch.equal(shuffled, plain.roll(1, 0))
    assert Shuffled(oracle).grids(toy.SIZE, 0.5) == oracle.grids(toy.SIZE, 0.5) != oracle.grids(toy.SIZE)
    # Which tap is whose partner may be another's decision than that of strides.
    detector = toy.detector()
    own = OwnStart(detector)
    own.taps = tuple(tap.__class__(tap.path, tap.channels, 8) for tap in own.taps)
    assert [Shuffled(own).partner(tap) for tap in detector.taps()] == [0, 1, 2]


def test_a_shuffled_oracle_draws_nothing_and_does_the_same_again(toy: ModuleType, attached: Attached) -> None:
    before = torch.get_rng_state()
    model = attached("samiro", teacher=Shuffled(toy.oracle()), oracle="o")
    batch = toy.batch()
    first = model(batch)["mutual_information"].item()
    assert torch.equal(torch.get_rng_state(), before)
    assert copy.deepcopy(model)(batch)["mutual_information"].item() == first
    assert model(batch)["mutual_information"].item() == first


def test_a_shuffled_oracle_shares_grids_and_statistics_with_its_oracle(toy: ModuleType) -> None:
    oracle, detector = toy.oracle(), toy.detector()
    configuration = method_configuration("samiro", {"oracle": "o"})
    pairs = tap_pairs(detector, oracle, configuration)
    assert tap_pairs(detector, Shuffled(oracle), configuration) == pairs
    images = [toy.batch(seed).images for seed in range(3)]
    plain = target_statistics(oracle, pairs, configuration, images)
    shuffled = target_statistics(Shuffled(oracle), pairs, configuration, images)
    for one, other in zip(plain.pairs, shuffled.pairs, strict=True):
        torch.testing.assert_close(one.mean, other.mean)
        torch.testing.assert_close(one.variance, other.variance)


def test_one_image_alone_has_no_other_to_meet(toy: ModuleType, attached: Attached) -> None:
    model = attached("samiro", teacher=Shuffled(toy.oracle()), oracle="o")
    with pytest.raises(InputError, match="at least 2") as caught:
        model(toy.batch(count=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shuffled", [False, True])
def test_diagnostics_and_gradient_ratios_work_with_the_controls(
    toy: ModuleType, attached: Attached, shuffled: bool
) -> None:
    detector = toy.detector()
    oracle = OwnStart(detector)
    model = attached("samiro", detector=detector, teacher=Shuffled(oracle) if shuffled else oracle, oracle="o")
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    model(toy.batch())
    assert all(value > 0 for value in gradient_ratios(model, toy.batch()).taps.values())
    assert {f"r2/stages.{place}" for place in range(3)} <= set(model.diagnostics())
