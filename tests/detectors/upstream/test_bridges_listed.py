"""Which bridges there are, as they are registered, listed and refused, without a checkout."""

from __future__ import annotations

import json

import pytest

from detectors.registry import TABLE, UPSTREAM, bridge_class, find_adapter
from detectors.upstream import checkouts
from detectors.upstream.bridge import NO_LICENCE, PairedBridge
from detectors.upstream.repositories import REPOSITORIES
from harness.cli.main import main
from harness.errors import InputError


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("clrnet_resnet18_upstream", "CLRNet"),
        ("clrernet_dla34_upstream", "CLRerNet"),
        ("clrkdnet_resnet18_upstream", "CLRKDNet"),
        ("laneatt_resnet122_upstream", "LaneATT"),
        ("lstr_resnet18s_upstream", "LSTR"),
        ("polarrcnn_resnet18_upstream", "PolarRCNN"),
        ("bezierlanenet_resnet18_upstream", "pytorch-auto-drive"),
        ("srlane_resnet18_upstream", "SRLane"),
        ("ufld_resnet18_upstream", "Ultra-Fast-Lane-Detection"),
        ("ufldv2_resnet18_upstream", "Ultra-Fast-Lane-Detection-v2"),
    ],
)
def test_without_a_checkout_a_bridge_is_refused_in_a_line(name, repository, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    with pytest.raises(
        InputError, match=rf"no checkout of {repository}: .*`samiro-bench detectors fetch {repository}`"
    ):
        find_adapter(name)


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_bridge_offers_the_names_that_are_registered_with_facts_of_its_repository(name):
    bridge = bridge_class(name)
    meta, repository = bridge.metas[name], REPOSITORIES[bridge.reference.repository]
    assert meta.name == name
    assert set(meta.configurations) <= set(bridge.reference.variants[name.removesuffix("_upstream")])
    assert (name.removesuffix("_upstream") in TABLE) == issubclass(bridge, PairedBridge)
    assert (meta.upstream, meta.commit) == (repository.url, repository.commit)
    assert meta.licence == (repository.licence or NO_LICENCE)


@pytest.mark.usefixtures("remembering")
def test_listing_tells_third_party_code_without_a_checkout(monkeypatch, answers, capsys):
    assert not list(answers.rglob("CLRNet"))
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    assert main(["detectors", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["upstream"]}
    assert set(rows) == set(UPSTREAM)
    shown = rows["clrnet_resnet18_upstream"]
    assert shown["checkout"] == "none: samiro-bench detectors fetch CLRNet"
    assert (shown["family"], shown["year"], shown["licence"]) == ("anchor", 2022, "Apache-2.0")
    assert "Cross Layer Refinement" in shown["paper"]
    assert shown["parameters"] == {"culane": 11_774_387, "tusimple": 11_774_773, "llamas": 11_774_387}
    assert shown["parity"] == "differs as documented: culane, tusimple, llamas"
    assert rows["srlane_resnet18_upstream"]["parity"] is None
    for name in ("polarrcnn_resnet18_upstream", "srlane_resnet18_upstream"):
        assert "your own checkout only" in rows[name]["licence"]


@pytest.mark.usefixtures("remembering")
def test_listing_says_that_the_variable_names_no_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path / "absent"))
    assert main(["detectors", "list", "--json"]) == 0
    told = {row["checkout"] for row in json.loads(capsys.readouterr().out)["upstream"]}
    assert told == {"none: SAMIRO_BENCH_UPSTREAM names no folder"}
