"""Native detectors beside upstream's own code, from checkouts below SAMIRO_BENCH_UPSTREAM: one variant of every reference.

All variants and forms: `samiro-bench detectors parity`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.checkpoints import import_checkpoint, read_state
from detectors.registry import TABLE, detector_class, detector_meta
from detectors.resa import RESA
from detectors.upstream.reference import Reference
from detectors.upstream.references import REFERENCES
from detectors.upstream.repositories import REPOSITORIES
from harness.errors import InputError
from harness.lanes import plain_geometry
from harness.parity.compare import parity, reference_class
from harness.parity.lanes import compared
from harness.parity.shown import frames_for
from tests.checkouts import checkout_of

ONE_OF_EACH = {
    where: min((name for name in REFERENCES if REFERENCES[name] == where), key=lambda name: ("18" not in name, name))
    for where in REFERENCES.values()
}.values()
"""A small variant of every reference."""


def built(name: str, form: Any = None) -> tuple[Reference, Any]:
    """The upstream model of a variant with random weights, and the form."""
    build = reference_class(name)
    torch.manual_seed(0)
    form = form or build.variants[name][0]
    reference = build(checkout_of(build.repository), name, form)
    reference.make_comparable()
    return reference, form


def test_every_variant_with_a_reference_has_an_upstream_configuration_and_a_form_of_ours() -> None:
    for name in REFERENCES:
        reference, meta = reference_class(name), detector_meta(name)
        repository = REPOSITORIES[reference.repository]
        assert name in TABLE
        assert (meta.upstream, meta.commit) == (repository.url, repository.commit), name
        assert reference.variants[name]
        assert set(reference.variants[name]) <= set(meta.configurations), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.filterwarnings("ignore::harness.errors.InputWarning")
def test_ours_computes_what_upstream_computes(name: str) -> None:
    checkout = checkout_of(reference_class(name).repository)
    modules, path, folder = set(sys.modules), list(sys.path), Path.cwd()
    found = parity(name, reference_class(name).variants[name][0], checkout)
    assert found.holds, [layer for layer in found.layers if layer.outcome == "differs"]
    assert sum(layer.outcome == "agrees" for layer in found.layers) >= 5
    assert (sys.path, Path.cwd()) == (path, folder)
    left = {
        module
        for module in set(sys.modules) - modules
        if str(checkout) in str(getattr(sys.modules[module], "__file__", ""))
    }
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_upstreams_state_dict_is_imported_from_every_container_and_with_every_prefix(name: str, tmp_path: Path) -> None:
    reference, form = built(name)
    state = reference.model.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    profiled = {**state, "total_ops": torch.zeros(1), "backbone.total_params": torch.zeros(1)}
    contents: dict[str, Any] = {
        "bare": state,
        "net": {"net": wrapped, "epoch": 3},
        "model": {"model": state, "optimizer": None},
        "state_dict": {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        "counted": {"model": profiled},
    }
    if sum(value.numel() for value in state.values()) > 5e7:
        # Of the largest network, whose file has 800 MB, two.
        contents = {what: contents[what] for what in ("bare", "net")}
    plain = None
    for what, content in contents.items():
        path = tmp_path / f"{what}.pt"
        torch.save(content, path)
        found = import_checkpoint(name, form, path).state_dict()
        plain = plain or found
        assert found.keys() == plain.keys()
        assert all(torch.equal(value, plain[key]) for key, value in found.items()), what
        path.unlink()
    assert plain is not None
    theirs = {value.numpy().tobytes() for value in state.values()}
    assert not [key for key, value in plain.items() if value.numpy().tobytes() not in theirs]


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_state_dict_of_other_shapes_is_refused_with_its_first_entries(name: str, tmp_path: Path) -> None:
    reference, form = built(name)
    state = dict(reference.model.state_dict())
    first = next(key for key, value in state.items() if value.ndim == 4)
    state[first] = state[first][:1]
    state["surplus.weight"] = torch.zeros(1)
    torch.save({"model": state}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"1 of another shape: \S+ \(1, .*\) instead of .*1 unknown: surplus\.weight"):
        import_checkpoint(name, form, tmp_path / "other.pt")


@pytest.mark.slow
def test_resas_decoding_is_upstreams_where_both_read_whole_rows() -> None:
    reference, _ = built("resa_resnet18", "tusimple")
    meta = detector_meta("resa_resnet18")
    configuration = meta.configurations["tusimple"]
    # In the frame the middle of network row 355 is 710.5, where upstream reads what it writes on row 710.
    whole = configuration.model_copy(update={"architecture": {**configuration.architecture, "bottom_row": 710.5}})
    detector = RESA(meta.model_copy(update={"configurations": {"tusimple": whole}}), "tusimple").eval()
    theirs, ours = reference.drawn() or pytest.fail("nothing is drawn")
    size = configuration.input
    geometry = plain_geometry(size.frame, size.crop, size.network)
    decoded = detector.decode(ours, [geometry] * 2)
    # Upstream writes the column's left edge, ours its middle.
    shifted = [[lane.points.astype(np.float64) - 0.5 for lane in lanes] for lanes in decoded]
    found = compared(reference.lanes(theirs), shifted)
    assert (found.matched, found.unmatched) == (10, 0)
    assert found.points > 400
    # Where two columns are equally likely, rounding chooses: a column is two pixels wide.
    assert found.largest < 2.0
    assert found.mean < 0.02


@pytest.mark.slow
def test_with_its_published_weights_lstr_gives_upstreams_lanes(tmp_path: Path) -> None:
    reference, form = built("lstr_resnet18s")
    path = checkout_of("LSTR") / "cache" / "nnet" / "LSTR" / "LSTR_500000.pkl"
    detector = import_checkpoint("lstr_resnet18s", form, path)
    reference.model.load_state_dict(read_state(path))
    shown = frames_for(detector_class("lstr_resnet18s")(detector_meta("lstr_resnet18s"), form), tmp_path)
    with torch.no_grad():
        upstream = reference.forward(reference.normalised(shown.images))
        ours = detector(shown.images)
    theirs, native = reference.raw(upstream), reference.ours(ours)
    for name in theirs:
        assert float((theirs[name] - native[name]).abs().max()) <= 1e-4 * float(theirs[name].abs().max())
    geometry = detector.geometry_of(shown.size)
    lanes = [[lane.points.astype(np.float64) for lane in one] for one in detector.decode(ours, [geometry] * 4)]
    # Points beyond the frame's sides, which upstream writes, are none of ours.
    width = shown.size[1]
    written = [[lane[(lane[:, 0] >= 0) & (lane[:, 0] <= width)] for lane in one] for one in reference.lanes(upstream)]
    found = compared(written, lanes)
    assert found.unmatched == 0
    assert found.matched >= 6
    assert found.largest < 0.1
