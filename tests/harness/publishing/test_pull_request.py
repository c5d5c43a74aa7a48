"""What a pull request submits, on a real git repository: only plain files of one submission leave git, and nothing else is touched."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from harness.cli.review import reviews_of_commit
from harness.errors import InputError
from harness.publishing.examine import Verdict
from harness.publishing.pull_request import Refused, Submitting, entries_of, extract, replaces_mark, submitting
from harness.publishing.quarantine import Bounds
from harness.publishing.review import Review
from tests.harness.publishing.repositories import committed, git

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / ".github/workflows/submission.yml"
ALICE = "results/submissions/mini/alice"
GOOD = {f"{ALICE}/submission.yaml": "who: me\n", f"{ALICE}/records/a.json": "{}", f"{ALICE}/SHA256SUMS": ""}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit on `main`, and a branch `head` of the same."""
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch=main")
    committed(place, {"README.md": "hello\n", "results/submissions/mini/bob/submission.yaml": "who: bob\n"})
    git(place, "switch", "--quiet", "--create", "head")
    return place


def taken(repository: Path, commit: str, place: Path, bounds: Bounds | None = None) -> Path:
    found = submitting(repository, "main", commit)
    assert found is not None
    extract(repository, commit, found, place, bounds or Bounds())
    return place


def test_a_submission_is_taken_out_byte_for_byte_as_the_commit_has_it(repository: Path, tmp_path: Path) -> None:
    committed(repository, {**GOOD, f"{ALICE}/suite.yaml": "a\r\nb\n"})
    (repository / ALICE / "suite.yaml").chmod(0o755)
    commit = committed(repository, {})
    assert submitting(repository, "main", commit) == Submitting("mini", "alice")
    place = taken(repository, commit, tmp_path / "out")
    files = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    wanted = {name.removeprefix(f"{ALICE}/"): text.encode() for name, text in GOOD.items()}
    assert files == {**wanted, "suite.yaml": b"a\r\nb\n"}


def test_what_the_base_branch_did_meanwhile_is_no_change_of_the_pull_request(repository: Path) -> None:
    commit = committed(repository, GOOD)
    git(repository, "switch", "--quiet", "main")
    committed(repository, {"README.md": "more\n"})
    assert submitting(repository, "main", commit) == Submitting("mini", "alice")
    committed(repository, {f"{ALICE}/submission.yaml": "who: another alice\n"})
    assert submitting(repository, "main", commit) == Submitting("mini", "alice", replaces=True)


def test_without_a_submission_there_is_nothing_to_review(repository: Path) -> None:
    assert submitting(repository, "main", committed(repository, {"README.md": "other\n"})) is None
    assert submitting(repository, "main", committed(repository, {"results/submissions/README.md": "page\n"})) is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"harness/errors.py": "evil\n"}, "changes 'harness/errors.py' besides a submission (1 such files)"),
        ({".github/workflows/submission.yml": "on: push\n"}, "besides a submission"),
        ({"results/submissions/README.md": "mine is best\n"}, "besides a submission"),
        (
            {"results/submissions/mini/bob/submission.yaml": "who: alice\n"},
            "changes 2 submissions ('mini/alice', 'mini/bob')",
        ),
        ({"results/submissions/mini/bob/submission.yaml": None}, "changes 2 submissions"),
    ],
)
def test_submissions_come_alone(repository: Path, files: dict[str, str | None], said: str) -> None:
    commit = committed(repository, {**GOOD, **files})
    with pytest.raises(Refused, match=re.escape(said)):
        submitting(repository, "main", commit)


@pytest.mark.parametrize(
    "name", ["mini/Alice", "mini/a b", "mini/-x", "mini/a\nb", ".hidden/alice", "mini/x" + "y" * 50]
)
def test_names_of_submissions_are_plain(repository: Path, name: str) -> None:
    commit = committed(repository, {f"results/submissions/{name}/submission.yaml": "x"})
    with pytest.raises(Refused, match="a submission lies in results/submissions/SUITE/NAME"):
        submitting(repository, "main", commit)


@pytest.mark.parametrize("name", ["mini/alice", "notes.md", "mini/notes.md", "mini/alice/\nevil.py"])
def test_files_beside_submissions_are_not_passed_over_as_nothing_to_review(repository: Path, name: str) -> None:
    commit = committed(repository, {f"results/submissions/{name}": "x"})
    with pytest.raises(Refused, match=r"besides a submission|no part of a submission"):
        taken(repository, commit, repository.parent / "out")


def test_a_submission_that_is_a_link_is_not_passed_over(repository: Path) -> None:
    (repository / ALICE).symlink_to("/etc")
    with pytest.raises(Refused, match="changes 'results/submissions/mini/alice' besides a submission"):
        submitting(repository, "main", committed(repository, {}))


def test_a_change_of_an_accepted_submission_is_marked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = committed(repository, {"results/submissions/mini/bob/submission.yaml": "who: alice\n"})
    found = submitting(repository, "main", commit)
    assert found == Submitting("mini", "bob", replaces=True)
    assert "changes results/submissions/mini/bob, which is there already" in replaces_mark(found)
    accepted = Review("mini", "bob", Verdict(reasons=(), marks=("part of the suite",)))
    monkeypatch.setattr("harness.publishing.review.review", lambda folder, bounds: accepted)
    monkeypatch.chdir(repository)
    (reviewed,) = reviews_of_commit("main", commit, Bounds())
    assert reviewed.verdict.marks == (replaces_mark(found), "part of the suite")
    (reviewed,) = reviews_of_commit(
        "main", committed(repository, GOOD | {"results/submissions/mini/bob/submission.yaml": "who: bob\n"}), Bounds()
    )
    assert reviewed.verdict.marks == ("part of the suite",)


def test_a_reversion_hidden_by_a_second_merge_base_is_refused(repository: Path) -> None:
    """`side` was merged before README.md was mended on main: beside `side` alone a head that undoes the mending changes nothing."""
    git(repository, "switch", "--quiet", "--create", "side", "main")
    side = committed(repository, {"side": "x"})
    git(repository, "switch", "--quiet", "main")
    mended = committed(repository, {"README.md": "mended\n"})
    git(repository, "merge", "--quiet", "--no-edit", side)
    git(repository, "switch", "--quiet", "--detach", mended)
    git(repository, "merge", "--quiet", "--no-edit", side)
    commit = committed(repository, {"README.md": "hello\n", **GOOD})
    git(repository, "switch", "--quiet", "main")
    committed(repository, {"more": "x"})
    with pytest.raises(Refused, match="meet in 2 commits instead of one"):
        submitting(repository, "main", commit)


def test_a_history_of_its_own_is_refused(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--orphan", "alone")
    with pytest.raises(Refused, match="meet in 0 commits"):
        submitting(repository, "main", committed(repository, GOOD))


def test_a_tree_that_holds_itself_over_and_over_is_refused_before_memory_runs_out(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 entries a level, 10 levels: 10,000,000,000 paths in a kilobyte."""
    monkeypatch.setattr("harness.publishing.pull_request.GIT_MEMORY", 256 << 20)
    blob = git(repository, "hash-object", "-w", "--stdin", given=b"x")
    tree = git(repository, "mktree", given="".join(f"100644 blob {blob}\tf{n}\n" for n in range(10)).encode())
    for _ in range(9):
        tree = git(repository, "mktree", given="".join(f"040000 tree {tree}\td{n}\n" for n in range(10)).encode())
    submissions = tree
    for name in ("records", "alice", "mini", "submissions", "results"):
        submissions = git(repository, "mktree", given=f"040000 tree {submissions}\t{name}\n".encode())
    commit = git(repository, "commit-tree", "-p", "main", "-m", "bomb", submissions)
    with pytest.raises(InputError, match="git diff: "):
        submitting(repository, "main", commit)


def test_a_deleted_submission_is_no_submission(repository: Path, tmp_path: Path) -> None:
    commit = committed(repository, {"results/submissions/mini/bob/submission.yaml": None})
    with pytest.raises(Refused, match="deletes results/submissions/mini/bob"):
        taken(repository, commit, tmp_path / "out")


def test_links_code_and_submodules_never_leave_git(repository: Path, tmp_path: Path) -> None:
    committed(repository, {**GOOD, f"{ALICE}/adapter.py": "evil", f"{ALICE}/.gitattributes": "* export-subst\n"})
    (repository / ALICE / "records" / "link.json").symlink_to("/etc/passwd")
    git(repository, "add", "--all")
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},{ALICE}/predictions/module.npz")
    git(repository, "commit", "--quiet", "--message", "more")
    with pytest.raises(Refused) as refused:
        taken(repository, git(repository, "rev-parse", "HEAD"), tmp_path / "out")
    assert refused.value.reasons == (
        "'.gitattributes': no part of a submission; take it away",
        "'adapter.py': no part of a submission; take it away",
        "'predictions/module.npz': no plain file; take it away",
        "'records/link.json': a symbolic link, and a submission has none; take it away",
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_link_is_refused(repository: Path, tmp_path: Path) -> None:
    committed(repository, GOOD)
    shutil.rmtree(repository / ALICE / "records")
    (repository / ALICE / "records").symlink_to("/etc")
    with pytest.raises(Refused, match="'records': a symbolic link"):
        taken(repository, committed(repository, {}), tmp_path / "out")


def crafted(repository: Path, *lines: str) -> str:
    """A commit whose tree holds the submission `alice` with entries as no `git add` writes them."""
    blob = git(repository, "hash-object", "-w", "--stdin", given=b"escaped")
    raw = b"".join(f"100644 {name}\0".encode() + bytes.fromhex(blob) for name in lines)
    alice = git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", given=raw)
    bob = git(repository, "rev-parse", "main:results/submissions/mini/bob")
    tree = git(repository, "mktree", given=f"040000 tree {alice}\talice\n040000 tree {bob}\tbob\n".encode())
    for name in ("mini", "submissions"):
        tree = git(repository, "mktree", given=f"040000 tree {tree}\t{name}\n".encode())
    readme = git(repository, "ls-tree", "main", "README.md")
    whole = git(repository, "mktree", given=f"{readme}\n040000 tree {tree}\tresults\n".encode())
    return git(repository, "commit-tree", "-p", "main", "-m", "crafted", whole)


@pytest.mark.parametrize("name", ["..", "../../escaped", "{place}/escaped", "records/../../../escaped.json"])
def test_a_path_that_leads_out_of_the_folder_is_refused(repository: Path, tmp_path: Path, name: str) -> None:
    commit = crafted(repository, "submission.yaml", name.format(place=tmp_path))
    with pytest.raises(Refused, match="take it away"):
        taken(repository, commit, tmp_path / "deep/er/out")
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_name_that_a_tree_holds_twice_is_refused(repository: Path, tmp_path: Path) -> None:
    commit = crafted(repository, "submission.yaml", "submission.yaml")
    with pytest.raises(Refused, match=r"'submission\.yaml': is there twice"):
        taken(repository, commit, tmp_path / "out")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (Bounds(files=2), "3 files, and the limit is 2"),
        (Bounds(file_bytes=4), "'submission.yaml': 8 bytes, and the limit is 4 a file"),
        (Bounds(total_bytes=5), "10 bytes in all, and the limit is 5"),
    ],
)
def test_what_is_too_much_never_leaves_git(repository: Path, tmp_path: Path, bounds: Bounds, said: str) -> None:
    commit = committed(repository, GOOD)
    with pytest.raises(Refused, match=said):
        taken(repository, commit, tmp_path / "out", bounds)
    assert not (tmp_path / "out").exists()
    assert taken(repository, commit, tmp_path / "out", Bounds(files=3, file_bytes=8, total_bytes=10)).is_dir()


def test_git_prints_no_more_and_lasts_no_longer_than_it_may(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = committed(repository, GOOD)
    monkeypatch.setattr("harness.publishing.pull_request.GIT_BYTES", 100)
    with pytest.raises(InputError, match="git diff: prints more than 100 bytes"):
        submitting(repository, "main", commit)
    monkeypatch.setattr("harness.publishing.pull_request.GIT_SECONDS", 0)
    with pytest.raises(InputError, match="git ls-tree: not done within 0 seconds"):
        entries_of(repository, commit, ALICE)


def test_the_command_reviews_commits_and_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from harness.cli.main import main

    monkeypatch.chdir(repository)
    summary = ["--summary", str(tmp_path / "summary")]
    assert main(["review", "--base", "main", "--head", "main", *summary]) == 0
    assert capsys.readouterr().out == "no submission is changed: nothing to review\n"
    committed(repository, {**GOOD, f"{ALICE}/adapter.py": "evil"})
    assert main(["review", "--base", "main", "--head", "head", *summary]) == 1
    said = ["mini/alice: REFUSED: 1 reason", "- 'adapter.py': no part of a submission; take it away"]
    assert capsys.readouterr().out.splitlines() == said
    assert (tmp_path / "summary").read_text().startswith("No submission is changed.\n### mini/alice\n\nREFUSED")
    committed(repository, {f"{ALICE}/adapter.py": None, "README.md": "mine\n"})
    assert main(["review", "--base", "main", "--head", "head"]) == 1
    assert capsys.readouterr().out.startswith("this/pull request: REFUSED: 1 reason\n- changes 'README.md' besides")
    assert main(["review", "--base", "main", "--head", "--upload-pack=evil"]) == 2


def test_the_workflow_has_no_secret_a_time_limit_and_the_base_branchs_program() -> None:
    text = WORKFLOW.read_text()
    found = yaml.load(text, Loader=yaml.BaseLoader)
    assert set(found["on"]) == {"pull_request"}
    assert found["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    (job,) = found["jobs"].values()
    assert int(job["timeout-minutes"]) <= 60
    assert "permissions" not in job
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in uses)
    (checkout,) = (step for step in job["steps"] if "uses" in step)
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert checkout["with"]["persist-credentials"] == "false"
    # What a pull request says of itself never becomes part of a script.
    assert not any("${{" in step.get("run", "") for step in job["steps"])
    # Between the event and the fetch another commit may have been pushed: the result stands at this one.
    assert job["steps"][-1]["env"] == {"HEAD": "${{ github.event.pull_request.head.sha }}"}
    assert 'samiro-bench review --base HEAD --head "$HEAD"' in job["steps"][-1]["run"]
