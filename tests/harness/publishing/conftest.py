"""Labels that are made once, and publications and submissions to be damaged."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.datasets.base import Dataset
from harness.lanes import Lane
from harness.publishing.demands import demands_of
from harness.publishing.expected import ExpectedSuite
from harness.publishing.rescoring import metric_of, scored_again
from harness.records.counts import Counts
from harness.records.record import Evaluation, Record, read_record
from harness.rendered.dataset import label_dataset
from harness.rendered.spec import RenderSpec, dataset_key
from tests.harness.publishing.forging import MINI, RECORD, hashed_again, submission
from tests.harness.publishing.published_rows import REST


@pytest.fixture(scope="session")
def label_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RenderSpec, Path, str], None]:
    """`label_dataset`, which makes each split's labels once; later ones get copies."""
    made: dict[tuple[str, str], Path] = {}

    def label(spec: RenderSpec, root: Path, split: str) -> None:
        key = dataset_key(spec), split
        if key not in made:
            made[key] = tmp_path_factory.mktemp("labels")
            label_dataset(spec, made[key], split)
        shutil.copytree(made[key], root, dirs_exist_ok=True)

    return label


@pytest.fixture(scope="session")
def score_once() -> Callable[..., Counts]:
    """`scored_again`, which scores equal predictions on equal labels once."""
    made: dict[str, Counts] = {}

    def score(dataset: Dataset, evaluation: Evaluation, ids: list[str], lanes: list[list[Lane]], place: Path) -> Counts:
        asked = metric_of(dataset), evaluation.metric, evaluation.split, dataset.content_key(), ids, lanes
        key = hashlib.sha256(pickle.dumps(asked)).hexdigest()
        if key not in made:
            made[key] = scored_again(dataset, evaluation, ids, lanes, place)
        return made[key]

    return score


# Not for every module of this folder: those that ask for it take labels and scores for granted, others are about how they are made.
@pytest.fixture(scope="module")
def labelled_once(
    label_once: Callable[[RenderSpec, Path, str], None], score_once: Callable[..., Counts]
) -> Iterator[None]:
    """The mini suite's labels are made, and equal predictions scored, once for all tests of the modules that use this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.publishing.labels.label_dataset", label_once)
        patch.setattr("harness.publishing.verify.scored_again", score_once)
        yield


@pytest.fixture(scope="session")
def suite() -> ExpectedSuite:
    """What the mini suite demands, as the examining process gets it."""
    return ExpectedSuite.model_validate_json(demands_of("mini").model_dump_json())


@pytest.fixture(scope="session")
def record() -> Record:
    """A published record of the mini suite."""
    return read_record(MINI / "records" / f"{RECORD}.json")


@pytest.fixture(scope="session")
def one_row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submission(tmp_path_factory.mktemp("submissions") / "mini/alice", RECORD)


@pytest.fixture
def alice(one_row: Path, tmp_path: Path) -> Path:
    """A submission of one row, to be damaged."""
    return Path(shutil.copytree(one_row, tmp_path / "mini/alice"))


@pytest.fixture(scope="session")
def two_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published mini suite with two of its rows and without its page, to be quick."""
    folder = Path(shutil.copytree(MINI, tmp_path_factory.mktemp("published") / "mini"))
    shutil.rmtree(folder / "site")
    for name in REST:
        for path in folder.glob(f"*/{name}.*"):
            path.unlink()
    hashed_again(folder)
    return folder


@pytest.fixture
def mini(two_rows: Path, tmp_path: Path) -> Path:
    """A copy of two published rows, to be damaged."""
    return Path(shutil.copytree(two_rows, tmp_path / "mini"))
