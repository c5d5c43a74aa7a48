"""One detector in several rows of a suite, under names of the suite's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.scaffold.write import write_scaffold
from harness.suite import Choice, adapter_of, cells_of
from harness.suite.load import load_suite
from tests.harness.suite.conftest import Loading

LONG = {"adapter": "resa_micro", "recipe": {"steps": 900}}


def test_a_row_of_its_own_has_its_name_and_overrides_and_the_adapters_network(loading: Loading) -> None:
    suite = loading(detectors={"resa_micro": None, "resa_long": LONG})
    plain, _, long, with_method = cells_of(suite)
    assert [cell.identity.detector for cell in (plain, long, with_method)] == ["resa_micro", "resa_long", "resa_long"]
    assert long.id.startswith("roads-resa_long-baseline-s0-")
    assert (long.configuration.recipe.steps, long.adapter) == (900, "resa_micro")
    assert plain.configuration.recipe.steps != 900
    assert long.identity.recipe == plain.identity.recipe | {"steps": 900}
    # What is trained is the adapter's network, under the adapter's name: that is how a checkpoint of it is read again.
    assert long.identity.detector_meta == plain.identity.detector_meta
    assert (long.meta.name, adapter_of(long).detector) == ("resa_micro", adapter_of(plain).detector)


def test_the_same_overrides_under_the_detectors_own_name_make_the_same_cell_but_for_its_name(loading: Loading) -> None:
    (own,) = cells_of(loading(detectors={"resa_micro": {"recipe": {"steps": 900}}}), Choice(only=("method=baseline",)))
    (named,) = cells_of(loading(detectors={"resa_long": LONG}), Choice(only=("method=baseline",)))
    assert named.identity == own.identity.model_copy(update={"detector": "resa_long"})


def test_conditions_know_it_by_its_name(loading: Loading) -> None:
    suite = loading(
        detectors={"resa_micro": None, "resa_long": LONG}, exclude=[{"detector": "resa_long", "method": "samiro"}]
    )
    assert len(cells_of(suite)) == 3
    (cell,) = cells_of(suite, Choice(only=("detector=*_long",)))
    assert cell.identity.detector == "resa_long"


def test_input_and_architecture_are_tried_on_the_adapter(loading: Loading) -> None:
    narrow = {"adapter": "resa_micro", "input": {"network": [96, 320]}}
    (cell, _) = cells_of(loading(detectors={"narrow": narrow}))
    assert cell.configuration.input.network == (96, 320)
    for wrong, said in (
        ({"input": {"network": [7, 9]}}, "key 'detectors.narrow.input.network': the network of resa_micro can't take"),
        ({"architecture": {"tea": 1}}, "key 'detectors.narrow.architecture.tea'"),
        ({"recipe": {"tea": 1}}, "key 'detectors.narrow.recipe.tea'"),
    ):
        with pytest.raises(InputError, match=said):
            loading(detectors={"narrow": {"adapter": "resa_micro"} | wrong})


def test_a_batch_that_processes_cannot_share_is_said_to_be_of_the_row(loading: Loading) -> None:
    odd = {"adapter": "resa_micro", "recipe": {"batch_size": 15}}
    suite = loading(detectors={"resa_micro": None, "resa_odd": odd}, training={"processes": 2})
    with pytest.raises(InputError, match=r"a batch of 15 \(resa_odd\) evenly"):
        cells_of(suite)


def test_an_adapter_file_lies_from_the_suites_folder_and_may_stand_twice(loading: Loading) -> None:
    folder = Path(loading().file).parent
    write_scaffold("my_lanes", folder)
    file = "my_lanes.py:MyLanes"
    suite = loading(detectors={file: None, "slow_lanes": {"adapter": f"./{file}", "recipe": {"steps": 9}}})
    plain, slow = (cell for cell in cells_of(suite) if cell.identity.method == "baseline")
    assert [cell.identity.detector for cell in (plain, slow)] == ["my_lanes", "slow_lanes"]
    assert plain.adapter == slow.adapter == f"{folder.resolve()}/{file}"
    assert slow.identity.detector_meta["origin"] == plain.identity.detector_meta["origin"]
    assert adapter_of(slow).meta.name == "my_lanes"


@pytest.mark.parametrize(
    ("detectors", "said"),
    [
        ({"resa_long": {"adapter": "resa_mikro"}}, "key 'detectors.resa_long.adapter': .*resa_micro"),
        ({"ufld_micro": LONG}, "key 'detectors.ufld_micro': a detector is called 'ufld_micro' already"),
        ({"resa_micro": {"adapter": "ufldv2_micro"}}, "key 'detectors.resa_micro': a detector is called"),
        ({"tea.yaml": None, "seer": LONG}, "key 'detectors.seer': a detector is called 'seer' already"),
        ({"resa long": LONG}, "key 'detectors.resa long': 'resa long' is no name"),
        ({49 * "x": LONG}, "key 'detectors.x{49}': 'x{49}' is no name: .* of up to 48 letters"),
        ({"tea.yaml": LONG}, "key 'detectors..*tea.yaml': .* is no name"),
        ({"mine.py:Mine": LONG}, "key 'detectors..*mine.py:Mine': .* is no name"),
        ({"tea": {"adapter": "tea.yaml"}}, "key 'detectors.tea.adapter': a program is run as its description says"),
        ({"resa_long": {"adapter": 3}}, "key 'detectors.resa_long.adapter'"),
    ],
)
def test_a_name_that_cannot_be_is_told_with_its_key(loading: Loading, detectors: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        loading(detectors=detectors)
    assert len(str(refused.value).splitlines()) == 1


def test_the_rest_of_a_suite_may_not_name_an_adapter(loading: Loading) -> None:
    with pytest.raises(InputError, match=r"unknown key 'defaults\.adapter'"):
        loading(defaults={"adapter": "resa_micro"})


def test_a_variant_whose_name_is_too_long_for_files_is_refused_unless_the_suite_gives_it_another(
    loading: Loading, tmp_path: Path
) -> None:
    adapter, suite, _ = write_scaffold("my_lanes", tmp_path)
    adapter.write_text(adapter.read_text().replace('"my_lanes"', f'"{49 * "x"}"'))
    with pytest.raises(
        InputError, match=r"key 'detectors\..*my_lanes\.py:MyLanes': 'x{49}' has more than 48 characters"
    ):
        load_suite(str(suite))
    loading(detectors={"short": {"adapter": f"{adapter}:MyLanes"}})


def test_a_scaffold_that_no_suite_could_be_named_after_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="48 at most"):
        write_scaffold(49 * "x", tmp_path)
    assert not [*tmp_path.iterdir()]
