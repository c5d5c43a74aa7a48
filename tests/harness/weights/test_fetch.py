"""Getting weights: from a server that is there, from none, from a file. The only server that is asked is one of the test's own."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from detectors.pretrained import is_counter
from harness.cli.main import main
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.matrix.needed_weights import backbones_of
from harness.pytorch.torchvision_guard import ensure_torchvision
from harness.weights import fetch as module
from harness.weights.cache import WeightsCard, cached_path, card_path
from harness.weights.fetch import Published, Source, add, fetch, published

NAME = "resnet18.tv_in1k"


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and announces more than it sends of what is called `short`."""

    def log_message(self, format: str, *arguments: object) -> None:
        return None

    def send_header(self, keyword: str, value: str) -> None:
        grown = keyword == "Content-Length" and "short" in self.path
        super().send_header(keyword, str(int(value) + 1000) if grown else value)


@pytest.fixture
def server(downloads: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(downloads))) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say where resnet18's weights can be had."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def offer(*sources: Source) -> None:
        monkeypatch.setattr(module, "published", lambda backbone: Published(NAME, "bsd-3-clause", sources))

    return offer


def no_server() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_what_is_published_names_the_file_of_torchvision_and_its_hash() -> None:
    ensure_torchvision()
    from torchvision.models import ResNet18_Weights, ResNet34_Weights

    for backbone, theirs in (("resnet18", ResNet18_Weights), ("resnet34", ResNet34_Weights)):
        what = published(backbone)
        first = what.sources[0]
        assert first.url == theirs.IMAGENET1K_V1.url
        assert first.url.endswith(f"-{first.digest}.pth")
        assert len(first.digest) == 8
        assert len(what.sources) == 2


def test_what_a_server_has_is_cached_whole_with_its_card(
    server: str, offered: Callable[..., None], downloads: Path, resnet18: dict[str, Tensor]
) -> None:
    digest = sha256_of_file(downloads / "resnet18.pth")
    offered(Source(f"{server}/resnet18.pth", digest[:8]))
    seen: list[tuple[int, int | None]] = []
    card = fetch("resnet18", lambda done, total: seen.append((done, total)))
    size = (downloads / "resnet18.pth").stat().st_size
    assert seen[-1] == (size, size)
    assert card == WeightsCard.model_validate_json(card_path(cached_path(NAME)).read_bytes())
    assert (card.source, card.source_sha256, card.published) == (f"{server}/resnet18.pth", digest, True)
    assert card.sha256 == sha256_of_file(cached_path(NAME))
    cached = load_file(cached_path(NAME))
    assert cached.keys() == {name for name in resnet18 if not is_counter(name)}
    assert all(torch.equal(value, resnet18[name]) for name, value in cached.items())


def test_what_is_cached_is_not_fetched_again(server: str, offered: Callable[..., None]) -> None:
    offered(Source(f"{server}/resnet18.pth", ""))
    card = fetch("resnet18")
    offered(Source(f"{no_server()}/resnet18.pth", ""))
    assert fetch("resnet18") == card


def test_damaged_weights_are_fetched_anew(server: str, offered: Callable[..., None]) -> None:
    offered(Source(f"{server}/resnet18.pth", ""))
    card = fetch("resnet18")
    cached_path(NAME).write_bytes(b"broken")
    assert fetch("resnet18") == card
    assert sha256_of_file(cached_path(NAME)) == card.sha256


@pytest.mark.parametrize(
    ("name", "digest", "said"),
    [
        ("absent.pth", "", "File not found"),
        ("other.pth", "00000000", "isn't the published file"),
        ("resnet34.pth", "", "unknown: layer1.2."),
    ],
)
def test_a_source_that_fails_is_told_and_the_next_one_asked(
    server: str, offered: Callable[..., None], name: str, digest: str, said: str
) -> None:
    offered(Source(f"{server}/{name}", digest))
    with pytest.raises(InputError, match=said) as raised:
        fetch("resnet18")
    assert "\n" not in str(raised.value)
    assert not cached_path(NAME).exists()
    offered(Source(f"{server}/{name}", digest), Source(f"{server}/resnet18.safetensors", ""))
    assert fetch("resnet18").source == f"{server}/resnet18.safetensors"


def test_no_room_for_a_download_is_told_with_its_file_and_not_as_a_network_that_is_missing(
    server: str, offered: Callable[..., None]
) -> None:
    offered(Source(f"{server}/resnet18.safetensors", ""), Source(f"{no_server()}/resnet18.pth", ""))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            fetch("resnet18")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(raised.value.filename).endswith("/resnet18.safetensors")
    assert not cached_path(NAME).exists()


def test_a_download_that_breaks_off_is_none(server: str, offered: Callable[..., None]) -> None:
    offered(Source(f"{server}/short.pth", ""))
    with pytest.raises(InputError, match=r"broke after 5,000 of 6,000 bytes"):
        fetch("resnet18")
    assert not cached_path(NAME).exists()


def test_without_a_network_one_line_names_the_ways_out(
    offered: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offered(Source(f"{no_server()}/resnet18-f37072fd.pth", "f37072fd"), Source(f"{no_server()}/model.safetensors", ""))
    started = time.monotonic()
    assert main(["weights", "fetch", "resnet18"]) == 2
    assert time.monotonic() - started < 60
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.strip().splitlines()
    for part in ("resnet18-f37072fd.pth", "--from", "weights: file:", "weights: none", "Connection refused"):
        assert part in line


def test_a_server_that_says_nothing_is_given_up(offered: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        offered(Source(f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18.pth", ""))
        with pytest.raises(InputError, match="timed out"):
            fetch("resnet18")


def test_the_same_tensors_are_the_same_weights_in_whatever_file(downloads: Path) -> None:
    first = add("resnet18", downloads / "resnet18.pth")
    again = add("resnet18", downloads / "resnet18.safetensors")
    assert first.sha256 == again.sha256
    assert first.source_sha256 != again.source_sha256


def test_a_file_by_hand_counts_as_published_by_its_hash_alone(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not add("resnet18", downloads / "resnet18.pth").published
    digest = sha256_of_file(downloads / "resnet18.pth")[:8]
    monkeypatch.setattr(
        module, "published", lambda backbone: Published(NAME, None, (Source("https://example.org/a.pth", digest),))
    )
    assert add("resnet18", downloads / "resnet18.pth").published


def test_other_weights_never_take_the_place_of_cached_ones(downloads: Path) -> None:
    card = add("resnet18", downloads / "resnet18.pth")
    with pytest.raises(InputError, match="other weights are cached under this name"):
        add("resnet18", downloads / "other.pth")
    assert sha256_of_file(cached_path(NAME)) == card.sha256
    assert not list(cached_path(NAME).parent.glob("*.part"))


def test_a_file_of_another_network_is_refused(downloads: Path) -> None:
    with pytest.raises(InputError, match=r"resnet34\.pth: doesn't fit the backbone resnet18"):
        add("resnet18", downloads / "resnet34.pth")
    with pytest.raises(InputError, match=r"resnet18\.pth: doesn't fit the backbone resnet34.*missing: layer1\.2\."):
        add("resnet34", downloads / "resnet18.pth")
    assert not cached_path(NAME).exists()


def test_names_of_backbones_detectors_and_suites_stand_for_their_weights(tmp_path: Path) -> None:
    assert backbones_of("resnet34") == ["resnet34"]
    assert backbones_of("lstr_resnet34") == ["resnet34"]
    assert backbones_of("mini") == []
    (tmp_path / "mine.yaml").write_text(
        "title: a\ndatasets: {d: {rendered: {splits: {train: {frames: 2}, test: {frames: 2}}}}}\nmethods: {baseline: }\n"
        "detectors: {resa_resnet34: , ufldv2_resnet18: , lstr_resnet34: , resa_resnet18: {weights: none}, resa_micro: }\n"
    )
    assert backbones_of(str(tmp_path / "mine.yaml")) == ["resnet34", "resnet18"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet_micro", "no published ImageNet weights"),
        ("resa_micro", "random weights in every configuration"),
        ("resnet19", "did you mean 'resnet18'"),
    ],
)
def test_names_that_stand_for_no_weights_are_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        backbones_of(name)


def test_the_command_takes_a_file_and_lists_what_is_there(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "resa_resnet18", "--from", str(downloads / "resnet18.pth")]) == 0
    said = capsys.readouterr().out
    assert f"sha256 {sha256_of_file(cached_path(NAME))}" in said
    assert "not confirmed" in said
    assert main(["weights", "list", "--json"]) == 0
    rows = {row["backbone"]: row for row in json.loads(capsys.readouterr().out)["weights"]}
    assert rows["resnet18"]["cached"]["sha256"] == sha256_of_file(cached_path(NAME))
    assert (rows["resnet34"]["imagenet"], rows["resnet34"]["cached"]) == ("resnet34.tv_in1k", None)
    assert rows["resnet_micro"]["imagenet"] is None
    assert main(["weights", "list"]) == 0
    assert "bsd-3-clause" in capsys.readouterr().out
    assert main(["weights", "fetch", "mini", "--from", str(downloads / "resnet18.pth")]) == 2
    assert "name one backbone" in capsys.readouterr().err
    assert main(["weights", "fetch", "resnet18", "--from", str(downloads)]) == 2
    assert "this is a folder; give the file in it" in capsys.readouterr().err
