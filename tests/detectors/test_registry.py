"""Detectors are found by name, in installed packages and in files; every mistake is one line that names the place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detectors import registry
from detectors.registry import TABLE, UPSTREAM, adapter_file, detector_class, detector_names, find_adapter, rooted
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.scaffold.write import write_scaffold

ROOT = Path(registry.__file__).parents[1]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter file with the class MyLanes and the variant my_lanes."""
    return write_scaffold("my_lanes", tmp_path)[0]


def test_of_many_detectors_an_unknown_name_is_told_the_nearest_and_where_all_are() -> None:
    with pytest.raises(InputError) as caught:
        find_adapter("clrnet_resnet81")
    told = str(caught.value)
    assert "did you mean 'clrnet_resnet18'?" in told
    assert f"{len(detector_names())} are known, nearest: clrnet_resnet18, " in told
    assert "`samiro-bench detectors list` has all" in told
    assert len(told) < 400


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`install(distribution, module, text, **entry points)`: puts a package on the path as pip leaves it."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def put(distribution: str, module: str, text: str, **points: str) -> None:
        information = site / f"{distribution}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"[{registry.ENTRY_POINTS}]", *(f"{name} = {value}" for name, value in points.items())]
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (site / f"{module}.py").write_text(text)
        registry.installed.cache_clear()

    registry.installed.cache_clear()
    yield put
    registry.installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("outside_")]:
        del sys.modules[name]


def message(name: str) -> str:
    with pytest.raises(InputError) as caught:
        find_adapter(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", list(TABLE))
def test_every_name_of_the_table_leads_to_its_own_variant(name: str) -> None:
    found = find_adapter(name)
    assert found.meta.name == name
    assert found.origin is None
    assert found.detector is detector_class(name)


@pytest.mark.parametrize("place", dict.fromkeys(TABLE.values()))
def test_the_table_has_every_variant_of_a_class(place: str) -> None:
    names = {name for name, where in TABLE.items() if where == place}
    assert set(detector_class(min(names)).metas) == names


def test_listing_names_imports_no_adapter_and_no_torch() -> None:
    code = "import sys; from detectors.registry import *; detector_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_what_an_adapter_prints_while_it_is_imported_stands_beside_no_answer(
    install: Callable[..., None], adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = adapter.read_text().replace("ROWS = 24\n", "ROWS = 24\nprint('hello')\n")
    adapter.write_text(text)
    find_adapter(f"{adapter}:MyLanes")
    assert capsys.readouterr() == ("", "hello\n")
    install("outside-lanes", "outside_loud", text, my_lanes="outside_loud:MyLanes")
    find_adapter("my_lanes")
    assert capsys.readouterr() == ("", "hello\n")


def test_an_installed_package_offers_its_detector_by_name(install: Callable[..., None], adapter: Path) -> None:
    install("outside-lanes", "outside_lanes", adapter.read_text(), my_lanes="outside_lanes:MyLanes")
    assert detector_names() == [*TABLE, *UPSTREAM, "my_lanes"]
    found = find_adapter("my_lanes")
    assert found.detector.__module__ == "outside_lanes"
    assert found.origin == {"distribution": "outside-lanes"}
    assert "did you mean 'my_lanes'" in message("my_lane")


def test_two_claims_to_one_name_are_refused_with_both_sides(install: Callable[..., None], adapter: Path) -> None:
    install(
        "one", "outside_one", adapter.read_text(), my_lanes="outside_one:MyLanes", ufldv2_micro="outside_one:MyLanes"
    )
    install("two", "outside_two", adapter.read_text(), my_lanes="outside_two:MyLanes")
    said = message("my_lanes")
    assert "outside_one:MyLanes of the package one" in said
    assert "outside_two:MyLanes of the package two" in said
    assert "detectors.ufldv2:UFLDv2 of samiro-bench and as outside_one:MyLanes of the package one" in message(
        "ufldv2_micro"
    )
    assert find_adapter("ufldv2_resnet18").meta.name == "ufldv2_resnet18"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_the_kind\n", "nothing_of_the_kind"),
        ("MyLanes = 3\n", "not a subclass"),
        ("import sys\nsys.exit('no GPU')\n", "SystemExit: no GPU"),
        (
            "from detectors.base import Detector\nclass MyLanes(Detector): pass\n",
            "the class lacks decode, encode_targets",
        ),
    ],
)
def test_a_package_that_is_broken_is_named_when_its_detector_is_asked_for(
    install: Callable[..., None], text: str, said: str
) -> None:
    install("outside-lanes", "outside_lanes", text, my_lanes="outside_lanes:MyLanes")
    assert "my_lanes" in detector_names()
    assert find_adapter("ufldv2_micro")
    assert said in message("my_lanes")
    assert "outside" in message("my_lanes")


def test_an_entry_point_is_called_as_the_variant_that_it_leads_to(install: Callable[..., None], adapter: Path) -> None:
    install("outside-lanes", "outside_lanes", adapter.read_text(), other="outside_lanes:MyLanes")
    assert "no variant that is called 'other', but my_lanes" in message("other")


def test_a_file_is_an_adapter_with_the_hash_of_its_bytes(adapter: Path) -> None:
    found = find_adapter(f"{adapter}:MyLanes")
    assert found.meta.name == "my_lanes"
    assert found.origin == {"file": "my_lanes.py", "sha256": sha256_of_file(adapter)}
    assert find_adapter(f"{adapter}:MyLanes@my_lanes").detector is found.detector
    assert not (adapter.parent / "__pycache__").exists()


def test_files_of_one_name_and_contents_of_one_file_do_not_meet(adapter: Path, tmp_path: Path) -> None:
    first = find_adapter(f"{adapter}:MyLanes")
    elsewhere = tmp_path / "elsewhere" / adapter.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(adapter.read_bytes())
    second = find_adapter(f"{elsewhere}:MyLanes")
    adapter.write_text(adapter.read_text().replace("ROWS = 24", "ROWS = 12"))
    third = find_adapter(f"{adapter}:MyLanes")
    assert len({found.detector.__module__ for found in (first, second, third)}) == 3
    assert [sys.modules[found.detector.__module__].ROWS for found in (first, second, third)] == [24, 24, 12]
    assert "my_lanes" not in sys.modules


def test_several_variants_are_told_apart_by_name(adapter: Path) -> None:
    text = adapter.read_text()
    adapter.write_text(
        text
        + '\nMyLanes.metas["my_lanes_big"] = MyLanes.metas["my_lanes"].model_copy(update={"name": "my_lanes_big"})\n'
    )
    assert find_adapter(f"{adapter}:MyLanes@my_lanes_big").meta.name == "my_lanes_big"
    assert "variants my_lanes, my_lanes_big: say" in message(f"{adapter}:MyLanes")
    assert "did you mean 'my_lanes_big'" in message(f"{adapter}:MyLanes@my_lanes_bik")


def test_a_file_does_not_see_its_neighbours(adapter: Path) -> None:
    (adapter.parent / "neighbour.py").write_text("X = 1\n")
    adapter.write_text("import neighbour\n" + adapter.read_text().replace("from __future__ import annotations\n", ""))
    assert "neighbour" in message(f"{adapter}:MyLanes")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ROWS = 24", "ROWS = = 24", "my_lanes.py:24: SyntaxError"),
        (
            "ROWS = 24",
            "raise SystemExit(3)",
            "my_lanes.py:24: ends the program while it is imported (SystemExit: 3); mend",
        ),
        ("ROWS = 24", "ROWS = 1 / 0", "my_lanes.py:24: ZeroDivisionError: division by zero; mend the adapter file"),
        ('"my_lanes": DetectorMeta', '"mine": DetectorMeta', "no variant that is called 'mine'"),
        (
            'name="my_lanes"',
            'name="mine"',
            "no variant that is called 'my_lanes', but under that key one whose `name` is 'mine'; give key and name",
        ),
        (
            "    recipe=Recipe(",
            "    recipee=Recipe(",
            "Configuration: unknown key 'recipee': did you mean 'recipe'",
        ),
        ('"my_lanes"', '"ufldv2_micro"', "has the name of detectors.ufldv2:UFLDv2"),
        ("def decode", "def unpack", "the class lacks decode"),
    ],
)
def test_a_broken_file_is_named_with_its_line(adapter: Path, old: str, new: str, said: str) -> None:
    text = adapter.read_text()
    line = text[: text.index("ROWS = 24")].count("\n") + 1
    assert old in text
    adapter.write_text(text.replace(old, new))
    assert said.replace(":24:", f":{line}:") in message(f"{adapter}:MyLanes")


def test_mistakes_in_the_reference_are_answered_with_what_there_is(adapter: Path) -> None:
    assert "did you mean 'MyLanes'" in message(f"{adapter}:MyLane")
    assert "names no class" in message(str(adapter))
    assert "No such file" in message(f"{adapter.parent}/nowhere.py:MyLanes")


def test_a_file_is_looked_for_from_the_folder_that_is_given(tmp_path: Path) -> None:
    assert rooted("a/b.py:Net@big", tmp_path) == f"{tmp_path.resolve()}/a/b.py:Net@big"
    assert rooted("/a/b.py:Net", tmp_path) == "/a/b.py:Net"
    assert rooted("ufldv2_micro", tmp_path) == "ufldv2_micro"
    assert adapter_file("a/b.py:Net@big") == Path("a/b.py")
    assert adapter_file("ufldv2_micro") is None
