"""Kept labels: the same figures as without them, whatever the labels and whatever became of the pack."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError, InputWarning
from harness.files import fingerprint
from harness.metrics import culane, label_pack
from harness.metrics.image_lists import lanes_file
from harness.metrics.image_matches import Painters
from harness.metrics.label_pack import LARGEST_RECORD, TRAILER_BYTES, packed, painting_code, unpacked
from harness.metrics.lane_text import read_lanes
from harness.metrics.overlaps import Painter, polylines

PAINTERS = Painters(culane.IMAGE_SIZE, culane.LANE_WIDTH)

NAMES = [f"{number}.jpg" for number in range(4)]


def write(root, texts):
    root.mkdir(exist_ok=True, parents=True)
    for name, text in texts.items():
        Path(lanes_file(root, name)).write_bytes(text)


@pytest.fixture
def tree(tmp_path):
    """Labels, predictions and a folder of packs."""
    write(
        tmp_path / "labels",
        {name: b"%d 580 400 300\n900 580 700 300\n" % (200 + 50 * i) for i, name in enumerate(NAMES)},
    )
    write(tmp_path / "predictions", {name: b"240 580 400 300\n880 580 700 300\n" for name in NAMES})
    return tmp_path / "labels", tmp_path / "predictions", tmp_path / "cache"


def outcome(labels, predictions, images, cache, **more):
    """All that scoring says, or how it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            counts, odd = culane.score_images(labels, predictions, images, cache=cache, workers=1, **more)
        except InputError as error:
            return str(error)
    return counts.n_gt.tolist(), counts.n_pred.tolist(), counts.tp.tolist(), odd


def painted_files(monkeypatch):
    """The label texts that are parsed from now on."""
    seen = []
    original = culane.read_lanes
    monkeypatch.setattr(culane, "read_lanes", lambda text: seen.append(text) or original(text))
    return seen


def pack_of(cache):
    (pack,) = cache.iterdir()
    return pack


COORDINATE = st.one_of(
    st.integers(-100, 1740).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["1e39", "-3e9", "nan", "x", ""]),
)
TEXT = st.one_of(
    st.lists(st.lists(COORDINATE, max_size=8).map(" ".join), max_size=4).map("\n".join).map(str.encode),
    st.binary(max_size=60),
)


def label_outcome(label, predicted, pack):
    """The oddities and the bits of the IoUs of one label, or how it is refused."""
    try:
        odd, ious = culane.label_ious(label, read_lanes(predicted), PAINTERS.painter, pack)
    except ZeroDivisionError as error:
        PAINTERS.painter = Painter(culane.IMAGE_SIZE, culane.LANE_WIDTH)
        return str(error)
    return odd.tolist(), ious.shape, ious.tobytes()


@settings(max_examples=200, deadline=None)
@given(label=TEXT, first=TEXT, second=TEXT)
def test_any_label_has_the_same_ious_as_without_a_pack(label, first, second):
    with tempfile.TemporaryDirectory() as folder:
        for text in [first, second, second]:
            plain = label_outcome(label, text, None)
            with label_pack.kept_labels(Path(folder), Path(), [], culane.IMAGE_SIZE, culane.LANE_WIDTH) as pack:
                assert label_outcome(label, text, pack) == plain


def agrees_with_a_pack(labels, predictions, names, cache, monkeypatch):
    """All that can be scored, then each that is refused: without a pack, when it is made, and from it; strictly too."""
    plain = {
        name: label_outcome(*(culane.read_bytes(lanes_file(root, name))[0] for root in (labels, predictions)), None)
        for name in names
    }
    scored = [name for name in names if not isinstance(plain[name], str)]
    for more in ({}, {"strict": True}):
        expected = outcome(labels, predictions, scored, None, **more)
        assert [outcome(labels, predictions, scored, cache, **more) for _ in range(2)] == [expected] * 2
    for name in set(names) - set(scored):
        refused = outcome(labels, predictions, [name], None)
        assert "crashes" in refused
        assert [outcome(labels, predictions, [name], cache) for _ in range(2)] == [refused] * 2
    seen = painted_files(monkeypatch)
    _, n_pred, _, _ = outcome(labels, predictions, scored, cache)
    assert len(seen) <= len(scored) + n_pred.count(0)  # those of predictions, and labels without any


def test_the_conformance_kit_scores_as_without_a_pack(tmp_path, monkeypatch):
    with gzip.open(Path(__file__).parent / "kit/culane.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = list(map(json.loads, lines))
    for side in ("label", "prediction"):
        write(
            tmp_path / side,
            {f"{i}.jpg": case[side].encode("latin-1") for i, case in enumerate(found) if case[side] is not None},
        )
    names = [f"{number}.jpg" for number in range(len(found))]
    agrees_with_a_pack(tmp_path / "label", tmp_path / "prediction", names, tmp_path / "cache", monkeypatch)


def test_the_official_edge_cases_score_as_without_a_pack(shared, tmp_path, monkeypatch):
    edge = shared / "conformance/culane/edge"
    names = [f"{name}.jpg" for name in json.loads((edge / "expected.json").read_text())]
    agrees_with_a_pack(edge / "gt", edge / "pred", names, tmp_path / "cache", monkeypatch)


@settings(max_examples=60, deadline=None)
@given(
    lanes=st.lists(st.lists(st.tuples(st.integers(-50, 250), st.integers(-50, 150)), max_size=6), max_size=4),
    odd=st.integers(0, 6),
)
def test_a_record_gives_back_the_label_to_the_bit(lanes, odd):
    painted = Painter((120, 200), 4).painted(polylines([np.array(lane, np.int32).reshape(-1, 2) for lane in lanes]))
    label = label_pack.PaintedLabel(painted, np.full(len(lanes), odd))
    back = unpacked(packed(label))
    for one, other in [(back.odd, label.odd), *((getattr(back.lanes, n), getattr(painted, n)) for n in vars(painted))]:
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()
        assert one.flags.writeable  # or numba compiles everything a second time


def test_a_second_run_paints_no_label(tree, monkeypatch):
    first = outcome(*tree[:2], NAMES, tree[2])
    monkeypatch.setattr(label_pack.LabelPack, "add", lambda *_: pytest.fail("painted again"))
    before = pack_of(tree[2]).stat()
    assert outcome(*tree[:2], NAMES, tree[2]) == first
    after = pack_of(tree[2]).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_edited_label_is_seen_though_size_and_time_are_the_same(tree):
    outcome(*tree[:2], NAMES, tree[2])
    file = Path(lanes_file(tree[0], NAMES[1]))
    stat = file.stat()
    file.write_bytes(file.read_bytes().replace(b"900 580 700 300", b"300 580 100 300"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    plain = outcome(*tree[:2], NAMES, None)
    for _ in range(2):
        assert outcome(*tree[:2], NAMES, tree[2]) == plain
    size = pack_of(tree[2]).stat().st_size
    outcome(*tree[:2], NAMES, tree[2])
    shutil.rmtree(tree[2])
    outcome(*tree[:2], NAMES, tree[2])
    assert pack_of(tree[2]).stat().st_size == size, "what the label was before is still kept"


@pytest.mark.parametrize("change", [{"image_size": (600, 1640)}, {"lane_width": 10}])
def test_another_size_or_width_is_painted_anew(tree, change):
    outcome(*tree[:2], NAMES, tree[2])
    for _ in range(2):
        assert outcome(*tree[:2], NAMES, tree[2], **change) == outcome(*tree[:2], NAMES, None, **change)
    assert len(list(tree[2].iterdir())) == 2


def test_other_code_makes_the_pack_stale(tree, monkeypatch):
    """A pack of code that counts differently is replaced, without a word."""
    original = Painter.painted

    def wrong(painter, lanes):
        found = original(painter, lanes)
        found.runs[:, 1] //= 2
        return found

    with monkeypatch.context() as other:
        other.setattr(Painter, "painted", wrong)
        other.setattr(label_pack, "painting_code", lambda: {"harness/metrics/thick_line.py": "another"})
        outcome(*tree[:2], NAMES, tree[2])
    assert outcome(*tree[:2], NAMES, tree[2]) == outcome(*tree[:2], NAMES, None)
    seen = painted_files(monkeypatch)
    outcome(*tree[:2], NAMES, tree[2])
    assert len(seen) == len(NAMES)  # the predictions


@pytest.mark.parametrize("file", ["thick_line", "overlaps", "natural_spline", "lane_text", "painted_lanes", "compiled"])
def test_every_change_of_the_code_that_paints_changes_what_a_pack_belongs_to(file, tmp_path, monkeypatch):
    shutil.copytree(fingerprint.ROOT / "harness/metrics", tmp_path / "harness/metrics")
    source = tmp_path / f"harness/metrics/{file}.py"
    source.write_text(source.read_text() + "\nCHANGED = 1\n")
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    assert painting_code.__wrapped__() != painting_code()


def test_any_damage_is_seen_said_once_and_mended(tree):
    plain = outcome(*tree[:2], NAMES, tree[2])
    pack = pack_of(tree[2])
    sound = pack.read_bytes()
    damaged = [sound[:size] for size in (0, 1, TRAILER_BYTES - 1, TRAILER_BYTES, len(sound) // 2, len(sound) - 1)]
    for place in [*range(0, len(sound), 997), *range(len(sound) - TRAILER_BYTES, len(sound), 7)]:
        damaged.append(sound[:place] + bytes([sound[place] ^ 0x40]) + sound[place + 1 :])
    for text in [*damaged, sound + b"\0", b"\xff" * 500]:
        pack.write_bytes(text)
        with pytest.warns(InputWarning, match="damaged") as said:
            counts, odd = culane.score_images(*tree[:2], NAMES, cache=tree[2], workers=2)
        assert len(said) == 1
        assert (counts.n_gt.tolist(), counts.n_pred.tolist(), counts.tp.tolist(), odd) == plain
        assert outcome(*tree[:2], NAMES, tree[2]) == plain  # without a warning
        assert len(pack.read_bytes()) == len(sound)


def test_a_folder_that_takes_no_file_is_a_warning(tree):
    tree[2].write_text("a file")
    with pytest.warns(InputWarning, match=r"can't be written \(.*\); the labels will be painted again") as said:
        counts, _ = culane.score_images(*tree[:2], NAMES, cache=tree[2])
    assert len(said) == 1
    assert counts.tp.tolist() == outcome(*tree[:2], NAMES, None)[2]


@pytest.mark.parametrize("at", ["spool", "pack"])
def test_a_full_disk_is_a_warning_and_the_old_pack_stays(tree, at, monkeypatch):
    outcome(*tree[:2], NAMES[:2], tree[2])
    write(tree[0], {NAMES[0]: b"500 580 400 300\n"})
    plain, before = outcome(*tree[:2], NAMES[:2], None), pack_of(tree[2]).read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    module, name = {"spool": (tempfile, "TemporaryFile"), "pack": (shutil, "copyfileobj")}[at]
    monkeypatch.setattr(module, name, full)
    with pytest.warns(InputWarning, match="No space left") as said:
        counts, _ = culane.score_images(*tree[:2], NAMES[:2], cache=tree[2])
    assert len(said) == 1
    assert counts.tp.tolist() == plain[2]
    assert pack_of(tree[2]).read_bytes() == before


def test_a_writer_that_is_killed_leaves_the_old_pack(tree):
    """Killed at the moment when all is written and nothing renamed yet."""
    script = (
        "import os, sys, harness.files.stored as files\n"
        "from pathlib import Path\n"
        "from harness.metrics.culane import score_images\n"
        "files.os.fsync = lambda descriptor: (print('writing', flush=True), sys.stdin.read())\n"
        "labels, predictions, cache = map(Path, sys.argv[1:4])\n"
        "score_images(labels, predictions, sys.argv[4:], cache=cache)\n"
    )
    outcome(*tree[:2], NAMES, tree[2])
    pack = pack_of(tree[2])
    before = pack.read_bytes()
    write(tree[0], {NAMES[0]: b"500 580 400 300\n"})
    arguments = [sys.executable, "-c", script, *map(str, tree), *NAMES]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "writing\n"
        writer.kill()
    assert pack.read_bytes() == before
    assert outcome(*tree[:2], NAMES, tree[2]) == outcome(*tree[:2], NAMES, None)


def test_two_that_score_at_once_both_count_right(tree):
    """The second one opens, writes and replaces the pack while the first one has it open."""
    outcome(*tree[:2], NAMES, tree[2])
    write(tree[0], {NAMES[3]: b"500 580 400 300\n"})
    plain = outcome(*tree[:2], NAMES, None)
    inner = []
    counts, _ = culane.score_images(
        *tree[:2],
        NAMES,
        cache=tree[2],
        progress=lambda _: inner.append(outcome(*tree[:2], NAMES, tree[2])),
    )
    assert inner == [plain]
    assert counts.tp.tolist() == plain[2]
    assert outcome(*tree[:2], NAMES, tree[2]) == plain


def test_nothing_is_stored_when_scoring_is_refused(tree):
    write(tree[1], {NAMES[3]: b"952 1e39 590 0\n"})
    assert "crashes on" in outcome(*tree[:2], NAMES, tree[2])
    assert list(tree[2].iterdir()) == []


def test_a_label_that_takes_too_much_room_is_not_kept(tree):
    dense = "".join(f"{x} 0 {x} 589\n" for x in range(0, 1640, 50)).encode()
    write(tree[0], {NAMES[0]: dense})
    plain = outcome(*tree[:2], NAMES, None)
    for _ in range(2):
        assert outcome(*tree[:2], NAMES, tree[2]) == plain
    assert pack_of(tree[2]).stat().st_size < LARGEST_RECORD
