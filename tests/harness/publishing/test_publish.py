"""What `publish` writes into a README: what stands between its markers and nothing else. Ctrl-C leaves the old or the new."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from harness.cell.keys import cell_phases
from harness.cell.phases import PhaseState
from harness.errors import InputError
from harness.matrix.plan import CellState, Plan
from harness.publishing.checksums import write_sums
from harness.publishing.publish import between, check_target, publish_tables, refuse_unaccepted, replaced
from harness.publishing.verify import Verification
from harness.records.record import Record
from harness.suite import cells_of, load_suite

BEGIN, END = "<!-- leaderboard:mini -->", "<!-- /leaderboard:mini -->"


def test_what_stands_between_the_markers_is_replaced_and_nothing_else() -> None:
    text = f"# Title\n{BEGIN}\nof yesterday\n{END}\nend\n"
    assert between(Path("README.md"), text, "leaderboard:mini", "new") == f"# Title\n{BEGIN}\nnew\n{END}\nend\n"


@pytest.mark.parametrize(
    "text",
    ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}\n{END}\n{END}"],
    ids=["none", "no end", "no begin", "turned round", "two begins", "two ends"],
)
def test_markers_that_are_no_pair_are_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"README.md: needs the lines {BEGIN} and {END}, once each")):
        between(Path("README.md"), text, "leaderboard:mini", "new")


@pytest.mark.parametrize("target", ["runs/local", "runs/local/mini", "runs", "link/local/mini"])
def test_nothing_takes_the_place_of_runs_or_of_what_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("runs")
    plan = Plan(load_suite("mini"), Path("runs/local"), (), ())
    check_target(plan, Path("runs/mini"))
    with pytest.raises(InputError, match=f"{target}: runs live there or below"):
        check_target(plan, Path(target))


def a_plan(tmp_path: Path, *states: PhaseState, shared: PhaseState | None = None) -> Plan:
    """A plan of cells of the mini suite whose trainings stand so."""
    suite = load_suite("mini")
    cells = []
    for cell, state in zip(cells_of(suite), states, strict=False):
        phases = cell_phases(tmp_path, cell, {"roads": "key"})
        cells.append(CellState(cell, phases, ((phases.train, state),), recorded=True))
    artefacts = () if shared is None else ((cells[0].phases.train, shared),)
    return Plan(suite, tmp_path, tuple(cells), artefacts)


@pytest.mark.parametrize(
    ("stands", "keeps"),
    [
        (PhaseState("stale", "other code: harness/training/loop.py"), True),
        (PhaseState("missing", "made with other options: seed", obsolete=True), False),
    ],
    ids=["of other code", "of other options"],
)
def test_cells_that_nobody_accepted_are_refused_with_the_first_of_them_the_reason_and_the_ways_out(
    tmp_path: Path, record: Record, stands: PhaseState, keeps: bool
) -> None:
    plan = a_plan(tmp_path, PhaseState("done"), stands, stands)
    name = plan.cells[1].cell.id
    with pytest.raises(InputError) as caught:
        refuse_unaccepted(plan, [record.model_copy(update={"id": name})])
    said = str(caught.value)
    assert said.startswith(
        f"{name}: train: {stands.reason} (2 of 3 cells made by other code or options than there are now)"
    )
    assert "`bench --redo-stale` makes them again" in said
    assert ("`bench --accept-stale` keeps them and flags their rows" in said) == keeps
    assert said.endswith(f"or publish at the commit that they were made at, {record.environment.commit}")


def test_an_artefact_of_other_code_that_cells_share_is_refused_and_what_is_done_is_not(tmp_path: Path) -> None:
    refuse_unaccepted(a_plan(tmp_path, PhaseState("done"), shared=PhaseState("done")), [])
    with pytest.raises(InputError, match=r"train: other code \(1 shared artefact made by other code"):
        refuse_unaccepted(a_plan(tmp_path, PhaseState("done"), shared=PhaseState("stale", "other code")), [])


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("renames", "kept"), [(1, "old"), (2, "new")])
def test_ctrl_c_amid_the_renames_leaves_one_whole_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, kept: str
) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini/leaderboard.md").write_text("old")
    rename, done = Path.rename, []

    def interrupted(path: Path, target: Path) -> Path:
        done.append(rename(path, target))
        if len(done) == renames:
            raise KeyboardInterrupt
        return done[-1]

    monkeypatch.setattr(Path, "rename", interrupted)
    with suppress(KeyboardInterrupt), replaced(tmp_path / "mini") as made:
        made.mkdir()
        (made / "leaderboard.md").write_text("new")
    assert len(done) >= renames
    assert files_in(tmp_path) == {tmp_path / "mini/leaderboard.md": kept.encode()}


def test_a_publication_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "large/of mini").mkdir(parents=True)
    (tmp_path / "mini").symlink_to("large/of mini")
    with replaced(tmp_path / "mini") as made:
        assert made.name == "mini"
        made.mkdir()
        (made / "leaderboard.md").write_text("new")
    assert (tmp_path / "mini").is_symlink()
    assert (tmp_path / "large/of mini/leaderboard.md").read_text() == "new"


@pytest.mark.parametrize("name", ["badge.svg", "leaderboard.tex", "site/index.html"])
def test_tables_that_are_links_are_refused_before_what_they_lead_to_is_copied(
    two_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mini = Path(shutil.copytree(two_rows, tmp_path / "mini"))
    (mini / name).unlink(missing_ok=True)
    (mini / name).parent.mkdir(exist_ok=True)
    (mini / name).symlink_to("/dev/zero")
    monkeypatch.setattr("shutil.copytree", lambda *_: pytest.fail("copied"))
    with pytest.raises(InputError, match=f"{name}: a link, and a publication has none"):
        publish_tables(mini, None, tmp_path)


def test_tables_made_again_fill_a_readme_wherever_it_lies_or_leave_all_as_it_was(
    two_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.publishing.publish.verify", lambda folder: Verification((), (), (), ()))
    mini, readme = Path(shutil.copytree(two_rows, tmp_path / "my results/mini")), tmp_path / "docs/README.md"
    readme.parent.mkdir()

    def page(folder: Path, *_: object) -> Path:
        (folder / "site").mkdir()
        (folder / "site/index.html").write_text("the page")
        return folder / "site/index.html"

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.publishing.publish.write_site", page)

    for text, sums, stopped in (
        (f"{BEGIN}\n", write_sums, InputError),
        (f"{BEGIN}\n{END}\n", interrupted, KeyboardInterrupt),
    ):
        readme.write_text(text)
        before = files_in(tmp_path)
        monkeypatch.setattr("harness.publishing.publish.write_sums", sums)
        with pytest.raises(stopped):
            publish_tables(mini, readme, tmp_path)
        assert files_in(tmp_path) == before
    monkeypatch.setattr("harness.publishing.publish.write_sums", write_sums)
    assert {mini / "SHA256SUMS", mini / "site/index.html", readme} <= set(publish_tables(mini, readme, tmp_path))
    assert (mini / "site/index.html").is_file()
    assert "](../my%20results/mini/leaderboard.md)" in readme.read_text()
    assert "badge" not in readme.read_text()
