"""Suites: what is accepted, how cells are told apart, and what a mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.errors import InputError
from harness.scaffold.write import write_scaffold
from harness.suite import Suite, adapter_of, cells_of, load_suite, suite_names

MINI = {
    "title": "test",
    "datasets": {"roads": {"rendered": {"seed": 1, "splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}},
    "oracles": {"small": {"dataset": "roads", "configuration": {"name": "mim:resnet_micro", "steps": 2}}},
    "detectors": {"ufldv2_micro": None},
    "methods": {"baseline": None, "samiro": {"oracle": "small"}},
}


def load(tmp_path: Path, value: object) -> Suite:
    path = tmp_path / "mine.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))
    return load_suite(str(path))


def changed(**parts: object) -> dict[str, object]:
    return {**MINI, **parts}


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_loads_and_has_cells(name: str) -> None:
    assert cells_of(load_suite(name))


def test_cells_are_the_product_with_the_arms_of_a_seed_side_by_side(tmp_path: Path) -> None:
    cells = cells_of(load(tmp_path, changed(seeds=2)))
    assert [(cell.identity.method, cell.identity.seed) for cell in cells] == [
        ("baseline", 0),
        ("samiro", 0),
        ("baseline", 1),
        ("samiro", 1),
    ]
    assert len({cell.id for cell in cells}) == 4


def test_the_same_suite_gives_the_same_ids_whatever_the_file_is_called_from(tmp_path: Path) -> None:
    first = [cell.id for cell in cells_of(load(tmp_path, MINI))]
    (tmp_path / "deeper").mkdir()
    assert [cell.id for cell in cells_of(load(tmp_path / "deeper", MINI))] == first


@pytest.mark.parametrize(
    "parts",
    [
        {"detectors": {"ufldv2_micro": {"recipe": {"learning_rate": 0.5}}}},
        {"training": {"threads": 2}},
        {"training": {"precision": "bf16"}},
        {"datasets": {"roads": {"rendered": {"seed": 2, "splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}}},
    ],
)
def test_what_can_change_a_result_changes_every_id(tmp_path: Path, parts: dict[str, object]) -> None:
    before = {cell.id for cell in cells_of(load(tmp_path, MINI))}
    assert before.isdisjoint(cell.id for cell in cells_of(load(tmp_path, changed(**parts))))


@pytest.mark.parametrize("parts", [{"title": "other"}, {"training": {"workers": 3}}, {"seeds": 3}])
def test_what_cannot_change_a_result_changes_no_id(tmp_path: Path, parts: dict[str, object]) -> None:
    before = {cell.id for cell in cells_of(load(tmp_path, MINI))}
    assert before <= {cell.id for cell in cells_of(load(tmp_path, changed(**parts)))}


def test_an_oracle_option_changes_the_regularized_cell_only(tmp_path: Path) -> None:
    oracle = {"small": {"dataset": "roads", "configuration": {"name": "mim:resnet_micro", "steps": 3}}}
    before = {cell.identity.method: cell.id for cell in cells_of(load(tmp_path, MINI))}
    after = {cell.identity.method: cell.id for cell in cells_of(load(tmp_path, changed(oracles=oracle)))}
    assert before["baseline"] == after["baseline"]
    assert before["samiro"] != after["samiro"]


def test_overrides_reach_the_recipe_and_leave_the_rest(tmp_path: Path) -> None:
    plain = cells_of(load(tmp_path, MINI))[0].configuration
    cell = cells_of(load(tmp_path, changed(detectors={"ufldv2_micro": {"recipe": {"steps": 5}}})))[0]
    assert cell.configuration.recipe.steps == 5
    assert cell.configuration.recipe.epochs is None
    assert cell.configuration.recipe.learning_rate == plain.recipe.learning_rate
    assert cell.configuration.input == plain.input


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("title: [unclosed", r"mine\.yaml:1:\d+: not YAML"),
        ("- a\n- b\n", "a suite is a mapping"),
        ("title: a\ntitle: b\n", r"mine\.yaml:2:1.*'title' stands twice"),
        ("a: !!python/object:os.system x\n", "not YAML"),
        (changed(detektors={}), "unknown key 'detektors': did you mean 'detectors'"),
        (changed(detectors={"ufldv2_mikro": None}), "detectors.ufldv2_mikro.*did you mean 'ufldv2_micro'"),
        (changed(detectors={"ufldv2_micro": {"recipe": {"learning_rte": 1}}}), "learning_rte.*did you mean 'learning_rate'"),
        (changed(detectors={"ufldv2_micro": {"architecture": {"hed": 1}}}), "hed.*did you mean 'head'"),
        (changed(detectors={"ufldv2_micro": {"recipe": {"learning_rate": "fast"}}}), "learning_rate.*number"),
        (changed(methods={"samiroo": {}}), "samiroo.*did you mean 'samiro'"),
        (changed(methods={"samiro": {"oracle": "smal"}}), "unknown oracle 'smal': did you mean 'small'"),
        (changed(methods={"samiro": {"oracle": "small", "lamda": 1}}), "lamda.*did you mean 'lambda'"),
        (changed(methods={"samiro": 3}), "methods.samiro.*mapping"),
        (changed(seeds=0), "seeds"),
        (changed(seeds=True), "key 'seeds': must be a number, not true"),
        (changed(exclude=[{"seed": True}]), r"key 'exclude\.0\.seed\.0': must be a number, not true"),
        (changed(include=[{"seeds": True}]), r"key 'include\.0\.seeds': must be a number, not true"),
        (changed(exclude={"method": "samiro"}), r"key 'exclude': must be a list \(it is \{'method': 'samiro'\}\)"),
        (changed(methods={"samiro": {"oracle": "small", "taps": "backbone.layer3"}}),
         r"key 'methods\.samiro\.taps': must be a list \(it is 'backbone\.layer3'\)"),
        (changed(methods=["baseline"]), r"key 'methods': must be a mapping \(it is \['baseline'\]\)"),
        (changed(datasets={"roads": 3}), r"key 'datasets\.roads': must be a mapping \(it is 3\)"),
        (changed(datasets={"roads": {"form": "culane", "root": "/data/CULane"}}),
         r"key 'datasets\.roads\.root': '/data/CULane' isn't a name: write `NAME: /data/CULane` into paths\.yaml, and `root: NAME`"),
        (changed(datasets={}), "datasets"),
        (changed(datasets={"roads": {"form": "mine.py:Bezier"}}), "datasets.roads.form.*isn't a form: culane.*docs/add-a-dataset.md"),
        (changed(datasets={"roads": {}}), "datasets.roads.*'rendered'.*'form'"),
        (changed(datasets={"roads": {"rendered": {"splits": {"train": {"frames": 1, "scenarios": {"nite": 1}}}}}}),
         "nite.*did you mean 'night'"),
        (changed(training={"threads": 0}), "training.threads"),
        (changed(throughput="fast"), "throughput"),
        (changed(training={"selection": "val-best"}), "training.selection"),
        (changed(evaluations={}), "evaluations"),
        (changed(evaluations={"a/../b": {}}), "evaluations"),
        (changed(evaluations={"test": {"split": "tets"}}), "evaluations.test.split"),
        (changed(evaluations={"val": {"split": "val"}}), "rendered.splits.*has no 'val', which evaluations.val reads"),
        (changed(methods={"../baseline": {"kind": "baseline"}}), "methods"),
        (changed(name="mine"), "unknown key 'name'"),
        ("title: a\n? [1, 2]\n: b\n", "a key is a plain word"),
        ("title: a\ntraining:\n  <<: {threads: 1}\n", r":3:3: not YAML: `<<` isn't taken here: write the keys out"),
        (changed(oracles={"small": {"dataset": "roads", "configuration": {"name": "mim:resnet_mcro"}}}),
         "oracles.small.configuration.name.*did you mean 'resnet_micro'"),
        (changed(oracles={"small": {"per_seed": True, "configuration": {"name": "init"}}}),
         "key 'oracles.small.per_seed': 'init' isn't made from a dataset's images"),
        (changed(oracles={"small": {"per_seed": True, "configuration": {"name": "mim:resnet_micro", "seed": 0}}}),
         "key 'oracles.small.configuration.seed': with 'per_seed' the matrix gives the seeds"),
        (changed(datasets={"roads": {"rendered": {"splits": {"tset": {"frames": 1}}}}}),
         "datasets.roads.rendered.splits.*did you mean 'test'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_file_and_key(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        cells_of(load(tmp_path, value))
    assert "\n" not in str(caught.value)
    assert "mine" in str(caught.value)


def test_two_datasets_with_one_variable_are_refused_where_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {"form": "culane"}
    suite = changed(datasets={**MINI["datasets"], "my-roads": real, "night": {**real, "root": "my_roads"}})
    assert load(tmp_path, suite)
    monkeypatch.setenv("SAMIRO_BENCH_DATA_MY_ROADS", str(tmp_path))
    with pytest.raises(InputError, match=r"SAMIRO_BENCH_DATA_MY_ROADS is set.* 'my-roads' and of 'my_roads'"):
        load(tmp_path, suite)
    assert load(
        tmp_path, changed(datasets={**MINI["datasets"], "my-roads": real, "my_roads": MINI["datasets"]["roads"]})
    )


def test_names_that_become_files_names_are_short_and_those_of_folders_are_what_they_are(tmp_path: Path) -> None:
    real = {"form": "culane", "root": 49 * "r"}
    assert load(tmp_path, changed(datasets={**MINI["datasets"], 48 * "d": real}))
    with pytest.raises(InputError, match=r"datasets\.d{49}"):
        load(tmp_path, changed(datasets={**MINI["datasets"], 49 * "d": real}))


@pytest.mark.parametrize("name", ["my suite", 49 * "x", "straße", "-x", "a\nb", "a,b", "a\udcffb"])
def test_a_file_whose_name_is_no_suites_name_is_to_be_renamed(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(MINI))
    with pytest.raises(InputError, match=r"a suite is named after its file, and .* is no name: rename the file"):
        load_suite(str(tmp_path / f"{name}.yaml"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_of_another_encoding_is_to_be_saved_as_utf_8(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.yaml").write_text("title: Straße\n", encoding=encoding)
    with pytest.raises(InputError, match=r"mine\.yaml: not UTF-8 text: .* at byte \d+; save it as UTF-8$"):
        load_suite(str(tmp_path / "mine.yaml"))


def test_a_suite_cannot_be_called_as_a_folder_of_results(tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text(yaml.safe_dump(MINI))
    with pytest.raises(InputError, match="rename the file"):
        load_suite(str(path))


def test_a_bare_off_in_yaml_is_the_word(tmp_path: Path) -> None:
    suite = load(tmp_path, changed(methods={"samiro": {"oracle": "small", "mi_attention": False}}))
    assert suite.methods["samiro"].model_dump()["mi_attention"] == "off"


def test_an_unknown_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'mini'"):
        load_suite("minni")


def test_a_suite_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such suite file"):
        load_suite(str(tmp_path / "nowhere.yaml"))


def test_a_folder_is_no_suite_file(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(InputError, match=r"folder\.yaml: this is a folder"):
        load_suite(str(tmp_path / "folder.yaml"))


def with_file(folder: Path) -> Suite:
    """A suite that names an adapter file beside it."""
    folder.mkdir()
    write_scaffold("my_lanes", folder)
    return load(folder, changed(detectors={"my_lanes.py:MyLanes": None}))


def test_an_adapter_file_lies_from_the_suites_folder_and_its_path_is_no_part_of_the_cell(tmp_path: Path) -> None:
    cells = [cells_of(with_file(tmp_path / name)) for name in ("a", "b")]
    assert [cell.id for cell in cells[0]] == [cell.id for cell in cells[1]]
    assert cells[0][0].adapter == f"{tmp_path.resolve()}/a/my_lanes.py:MyLanes"
    assert cells[0][0].identity.detector == "my_lanes"
    assert str(tmp_path) not in cells[0][0].identity.model_dump_json()


def test_an_edit_of_an_adapter_file_makes_other_cells_and_is_noticed_by_those_in_flight(tmp_path: Path) -> None:
    suite = with_file(tmp_path / "a")
    before = cells_of(suite)
    assert adapter_of(before[0]).meta.name == "my_lanes"
    path = tmp_path / "a" / "my_lanes.py"
    path.write_text(path.read_text() + "# a word\n")
    assert {cell.id for cell in before}.isdisjoint(cell.id for cell in cells_of(suite))
    with pytest.raises(InputError, match=r"my_lanes\.py:MyLanes: changed while the suite ran"):
        adapter_of(before[0])


def test_one_adapter_file_under_two_paths_is_refused(tmp_path: Path) -> None:
    write_scaffold("my_lanes", tmp_path)
    with pytest.raises(InputError, match=r"mine\.yaml: key 'detectors': one adapter stands twice"):
        load(tmp_path, changed(detectors={"my_lanes.py:MyLanes": None, "./my_lanes.py:MyLanes": None}))
