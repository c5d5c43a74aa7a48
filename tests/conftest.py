"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from harness.engines.worker_process import thread_environment
from harness.files import remembered

# How long one example takes says nothing on a machine that others use too. Continuous integration judges a change, so it draws the same
# examples each time; everywhere else they are new ones.
settings.register_profile("samiro-bench", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("samiro-bench")


# Where tests run in as many processes as there are cores, a second thread of one waits for a core of another, and burns up to seven
# times the processor time while it does. Set before anything imports torch; what these tests start inherits it.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name, value in thread_environment(1).items():
        os.environ.setdefault(name, value)

# A script's shell has what it runs in the background ignore Ctrl-C, and so would each process that a test starts in order to stop it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def asked_in_earnest() -> Iterator[None]:
    """What a test patches must not be remembered for others: its own process asks in earnest. Those that it starts remember, as a
    user's do, which spares each of them an import of torch.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "_LIGHT", False)
        yield


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder in which the tests that ask for `remembering` keep what they asked of torch."""
    return tmp_path_factory.mktemp("answers")


@pytest.fixture
def remembering(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test asked of torch the next ones remember, as one user's commands do: for tests that patch no detector."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(answers))
    monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "1")
    monkeypatch.setattr(remembered, "_LIGHT", True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of official results and real material, which lies beside the checkout and is never part of it."""
    named = os.environ.get("SAMIRO_BENCH_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared"
    if (folder / "conformance").is_dir():
        return folder
    if named:
        pytest.fail(f"SAMIRO_BENCH_SHARED={named} has no folder conformance/")
    pytest.skip("official results are not at hand: set SAMIRO_BENCH_SHARED to their folder")
