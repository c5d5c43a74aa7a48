"""The page in a real browser: sorting, filters, rows that open, the keyboard, contrast, and that nothing is asked of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.report.leaderboard import leaderboard
from harness.report.site.page import write_page
from harness.report.site.plots import overlap

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).resolve().parents[4] / "results"
MINI, ABLATION, TRANSFER, FIELD = (
    RESULTS / suite / "site" / "index.html" for suite in ("mini", "ablation", "mini-transfer", "field")
)
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"

NAMES = "[...document.querySelectorAll('.board')].at(-1).tBodies[0]"
SHOWN = "[...document.querySelectorAll('tr[data-row]')].filter(row => row.offsetParent).map(row => row.dataset.method)"
OPEN = "document.getElementById('details').open"

CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const holder = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !holder.checkVisibility()) continue;
    if (holder.closest("script, style, svg, .hidden, .skip, option")) continue;
    const grounds = [];
    for (let node = holder; node; node = node.parentElement) grounds.unshift(getComputedStyle(node).backgroundColor);
    const ground = over(grounds);
    const text = over([...grounds, getComputedStyle(holder).color]);
    const [one, other] = [light(ground), light(text)].sort((a, b) => b - a);
    if ((one + .05) / (other + .05) < 4.5) low.push(`${walker.currentNode.data.trim()}: ${text} on ${ground}`);
  }
  return low;
})()"""


def column(place: int) -> str:
    return f"[...{NAMES}.rows].map(row => row.cells[{place}].dataset.value)"


def test_it_loads_in_silence_and_asks_for_nothing_else(browser: Any) -> None:
    browser.open(MINI)
    assert browser.errors == []
    assert [address for address in browser.requests if not address.startswith("data:")] == [MINI.as_uri()]


def test_a_column_sorts_both_ways_and_back_and_says_so(browser: Any) -> None:
    browser.open(ABLATION)
    given = browser.run(column(3))
    head = f"{NAMES}.parentElement.tHead.rows[0].cells[3]"
    orders = []
    for expected in (sorted(given, key=float, reverse=True), sorted(given, key=float), given):
        browser.run(f"{head}.querySelector('button').click()")
        assert browser.run(column(3)) == expected
        orders.append(browser.run(f"{head}.getAttribute('aria-sort')"))
    assert orders == ["descending", "ascending", "none"]
    browser.run(f"{NAMES}.parentElement.tHead.rows[0].cells[6].querySelector('button').click()")
    assert browser.run(column(6))[-1] == ""


def test_filters_and_search_hide_rows_everywhere_and_count_them(browser: Any) -> None:
    browser.open(ABLATION)
    everything = browser.run(SHOWN)
    browser.run("document.querySelector('select[name=method]').value = 'samiro'")
    browser.run("document.getElementById('filters').dispatchEvent(new Event('input'))")
    assert browser.run(SHOWN) == ["samiro"] * 3
    assert browser.run("document.getElementById('count').textContent") == f"3 of {len(everything)} rows"
    browser.run("document.querySelector('select[name=dataset]').value = 'few'")
    browser.run("document.querySelector('[name=text]').focus()")
    browser.type("UFLDv2 row-wise")
    assert browser.run(SHOWN) == ["samiro"]
    marks = "[...document.querySelectorAll('[data-mark]')].filter(mark => mark.checkVisibility()).length"
    assert browser.run(marks) == 3  # gain, scenarios, latency
    browser.type(" nowhere")
    assert browser.run(SHOWN) == []
    browser.run("document.querySelector('#filters [type=reset]').click()")
    assert browser.run(f"new Promise(done => setTimeout(() => done({SHOWN}), 50))") == everything


def test_a_row_opens_its_record_curves_hashes_and_frames(browser: Any) -> None:
    browser.open(MINI)
    browser.run("document.querySelector('.board .open').click()")
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run(OPEN)
    text = browser.run("document.getElementById('details').textContent")
    for word in ("Environment", "checkpoint", "predictions", "Configuration", "F1 over IoU", "torch", "best: F1@50"):
        assert word in text
    record = browser.run("document.querySelector('#details a[href$=\".json\"]').getAttribute('href')")
    assert (MINI.parent / record).is_file()
    pictures = "[...document.querySelectorAll('#details image')]"
    assert browser.run(f"{pictures}.length") == 27
    load = "one => { const made = new Image(); made.src = one.getAttribute('href'); return made.decode(); }"
    loaded = browser.run(f"Promise.all({pictures}.map({load})).then(all => all.length)")
    assert loaded == 27
    assert browser.errors == []
    assert all(address.startswith(("file:", "data:")) for address in browser.requests)


def test_a_link_to_a_row_opens_it_and_closing_forgets_it(browser: Any) -> None:
    browser.open(MINI)
    row = browser.run("document.querySelector('tr[data-row]').dataset.row")
    browser.open(MINI, fragment=f"#row={row}")
    assert browser.run(OPEN)
    browser.press("Escape", 27)
    assert browser.run(f"new Promise(done => setTimeout(() => done([{OPEN}, location.hash]), 100))") == [False, ""]
    browser.open(MINI, fragment="#row=nosuchrow")
    assert not browser.run(OPEN)
    assert browser.errors == []


def test_the_keyboard_alone_sorts_opens_and_comes_back(browser: Any) -> None:
    browser.open(MINI)
    focused = "document.activeElement.dataset?.sort ?? document.activeElement.dataset?.open ?? ''"
    for _ in range(60):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.matches('.board [data-sort]')"):
            break
    browser.press("Enter", 13, "\r")
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    for _ in range(20):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.matches('.board .open')"):
            break
    row = browser.run(focused)
    browser.press("Enter", 13, "\r")
    assert browser.run(f"new Promise(done => setTimeout(() => done({OPEN}), 100))")
    assert browser.run("document.activeElement.textContent") == "Close"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press("Enter", 13, "\r")
    assert not browser.run(f"new Promise(done => setTimeout(() => done({OPEN}), 100))")
    assert browser.run(focused) == row


@pytest.mark.parametrize("page", [MINI, ABLATION, TRANSFER], ids=["mini", "ablation", "transfer"])
@pytest.mark.parametrize("width", [1280, 1120, 1081, 800])
def test_a_desktop_shows_every_column_of_its_tables(browser: Any, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.run(WIDE) == 0
    beyond = (
        "[...document.querySelectorAll('.board')].map(board => board.scrollWidth - board.parentElement.clientWidth)"
    )
    assert max(browser.run(beyond)) <= (0 if width != 1081 else 30)


def test_paper_has_the_columns_that_a_narrow_screen_leaves_out(browser: Any) -> None:
    browser.open(ABLATION, width=718, height=1000)
    titles = "[...document.querySelectorAll('.board')][0].tHead.rows[0].cells"
    shown = f"[...{titles}].filter(cell => cell.checkVisibility()).length === {titles}.length"
    assert not browser.run(shown)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run(shown)
    assert browser.run(WIDE) == 0
    browser.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_the_gains_by_scenario_stand_under_the_scores(browser: Any) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(MINI)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    seen = "[...document.querySelectorAll('.heat tbody span.changes')].filter(one => one.checkVisibility()).length"
    assert browser.run(seen) == 18
    assert browser.run("[...document.querySelectorAll('.switch')].every(one => !one.checkVisibility())")


@pytest.mark.parametrize("page", [MINI, ABLATION], ids=["mini", "ablation"])
def test_a_phone_needs_no_scrolling_sideways(browser: Any, page: Path) -> None:
    browser.open(page, width=390, height=844)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(wide) == 0
    browser.run("document.querySelector('.board .open').click()")
    assert browser.run(f"new Promise(done => setTimeout(() => done({wide}), 100))") == 0
    assert (
        browser.run("(() => { const d = document.getElementById('details'); return d.scrollWidth - d.clientWidth; })()")
        == 0
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_marks_of_an_axis_are_never_cut_off(browser: Any, made: Any, tmp_path: Path, width: int) -> None:
    records = made.pairs(tmp_path, base=made.split(240, 80))
    board = leaderboard(records, tmp_path)
    browser.open(write_page(tmp_path, board), width=width)
    first = "document.querySelector('.forest th.axis text')"
    browser.run(f"{first}.setAttribute('x', 4)")  # where the lowest mark is if it ends the axis
    shown = (
        f"(() => {{ const text = {first}.getBoundingClientRect(); const axis = {first}.ownerSVGElement; "
        "return [text.left - axis.getBoundingClientRect().left, text.left, getComputedStyle(axis).overflow]; })()"
    )
    beyond, left, overflow = browser.run(shown)
    assert beyond < 0 < left
    assert overflow == "visible"


@pytest.mark.parametrize("width", [320, 390, 700, 761, 900, 1024, 1100, 1440])
def test_letters_of_the_axis_of_gains_can_be_read_at_every_width(
    browser: Any, written: dict[str, Path], width: int
) -> None:
    browser.open(written["culane"], width=width)
    size = (
        "(() => { const text = document.querySelector('.forest th.axis text'); "
        "return parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a; })()"
    )
    assert 9 <= browser.run(size) <= 18
    assert browser.run("document.querySelector('.forest td.axis svg').getBoundingClientRect().width") >= 240
    assert browser.run(WIDE) == 0


@pytest.mark.parametrize("width", [800, 1280])
def test_what_is_gone_to_is_never_behind_the_bar(browser: Any, written: dict[str, Path], width: int) -> None:
    browser.open(written["culane"], width=width, height=700)
    bar = "document.getElementById('filters').getBoundingClientRect().bottom"
    browser.press("Tab", 9)
    browser.press("Enter", 13, "\r")
    title = "document.querySelector('[data-section] h2').getBoundingClientRect().top"
    assert browser.run(f"new Promise(done => setTimeout(() => done({title} - {bar}), 100))") >= 0
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    browser.run("[...document.querySelectorAll('.latency a')].at(-1).focus()")
    for _ in range(30):
        browser.press("Tab", 9, shift=True)
        if browser.run("document.activeElement.closest('#filters') !== null"):
            break
        if browser.run("document.activeElement.matches('button')"):
            assert browser.run(f"document.activeElement.getBoundingClientRect().top - {bar}") >= 0
    else:
        pytest.fail("the bar was never reached")


def test_which_map_is_shown_is_seen_in_forced_colours(browser: Any, written: dict[str, Path]) -> None:
    browser.open(written["culane"])
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
    grounds = "[...document.querySelectorAll('.switch button')].map(one => getComputedStyle(one).backgroundColor)"
    on, off = browser.run(grounds)[:2]
    assert on != off


def test_a_row_is_announced_by_its_detector_and_its_method(browser: Any, written: dict[str, Path]) -> None:
    browser.open(written["culane"])
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    heads = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "rowheader"]
    detectors = ("bezierlanenet_resnet18", "ufld_micro")
    for name in (f"{detector}, {method}" for detector in detectors for method in ("baseline", "samiro")):
        assert sum(head.startswith(name) for head in heads) == 1
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    browser.run("document.querySelector('.board .open').click()")
    tables = "[...document.querySelectorAll('.plain')]"
    assert browser.run(f"{tables}.length") >= 3
    assert browser.run(f"{tables}.every(one => [...one.tBodies[0].rows].every(row => row.cells[0].scope === 'row'))")


@pytest.fixture(scope="module")
def written(made: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages made now: of TuSimple's figures, and of scenarios that don't fit a phone."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("tusimple", "culane")}
    bases = {"tusimple": made.rated(240, 80), "culane": made.split(240, 80)}
    detectors = {"bezierlanenet_resnet18": 0.1, "ufld_micro": 0.0}
    found = {}
    for name, folder in folders.items():
        records = [
            record
            for detector, better in detectors.items()
            for record in made.pairs(
                folder,
                base=bases[name],
                detector=detector,
                better=better,
                throughput=(made.throughput(flags=("noisy",)),),
            )
        ]
        found[name] = write_page(folder, leaderboard(records, folder))
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_all_text_follows_the_size_that_a_reader_has_chosen(browser: Any, written: dict[str, Path], width: int) -> None:
    texts = "['p', '.forest td strong', '.forest .weak', '.facts']"
    sizes = f"{texts}.map(one => parseFloat(getComputedStyle(document.querySelector(one)).fontSize))"
    browser.open(written["culane"], width=width)
    before = browser.run(sizes)
    browser.call("Page.setFontSizes", fontSizes={"standard": 32})
    try:
        browser.open(written["culane"], width=width)
        assert browser.run(sizes) == [2 * size for size in before]
        assert browser.run(WIDE) == 0
    finally:
        browser.call("Page.setFontSizes", fontSizes={"standard": 16})


@pytest.mark.parametrize("name", ["tusimple", "culane"])
@pytest.mark.parametrize("width", [320, 335, 390])
def test_no_table_of_scores_is_wider_than_a_small_phone(
    browser: Any, written: dict[str, Path], name: str, width: int
) -> None:
    browser.open(written[name], width=width, height=844)
    assert browser.run(WIDE) == 0
    beyond = (
        "[...document.querySelectorAll('.board')].map(board => board.scrollWidth - board.parentElement.clientWidth)"
    )
    assert browser.run(beyond) == [0]
    browser.run("document.querySelector('.board [data-sort]').click()")
    assert browser.run(beyond) == [0]


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_verdict_and_seed_sd_are_seen_once_at_every_width(browser: Any, written: dict[str, Path], width: int) -> None:
    browser.open(written["culane"], width=width)
    seen = "[...document.querySelectorAll('.board tbody *')].filter(one => one.checkVisibility())"
    verdicts = f"{seen}.filter(one => one.matches('.verdict')).map(one => one.textContent.trim().slice(0, 15))"
    assert sorted(browser.run(verdicts)) == ["not separated (", "▲ better"]
    detectable = f"{seen}.filter(one => one.matches('.verdict .weak')).map(one => one.textContent.slice(0, 12))"
    assert browser.run(detectable) == ["(detectable:"]
    small = browser.run(f"{seen}.filter(one => one.matches('.for-w')).map(one => one.textContent)")
    cells = browser.run(f"{seen}.filter(one => one.matches('td:nth-child(6)')).map(one => one.textContent)")
    assert sorted(map(len, (small, cells))) == [0, 4]
    assert all(text.startswith("SD 0.") or text.startswith("SD 1.") for text in small)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_an_edge_is_shaded_only_where_a_table_goes_on_behind_it(
    browser: Any, written: dict[str, Path], tmp_path: Path, dark: bool
) -> None:
    browser.open(written["culane"], width=390, height=844, dark=dark)
    box = "[...document.querySelectorAll('.scroll')].find(box => box.scrollWidth > box.clientWidth + 40)"
    browser.run(f"{box}.scrollIntoView({{block: 'start'}})")
    there = f"(() => {{ const r = {box}.getBoundingClientRect(); return [r.left, r.right, r.top]; }})()"
    left, right, top = browser.run(there)

    def edges() -> list[int]:
        """How far the ground at both edges, beside the caption, is from the page's."""
        browser.picture(tmp_path / "seen.png")
        with Image.open(tmp_path / "seen.png") as picture:
            seen = picture.convert("L")
        places = [(2 * left + 3, 2 * top + 6), (2 * right - 3, 2 * top + 6), (2 * left - 12, 2 * top + 6)]
        *found, ground = (seen.getpixel((int(x), int(y))) for x, y in places)
        return [abs(value - ground) for value in found]

    before = edges()
    browser.run(f"{box}.scrollLeft = {box}.scrollWidth")
    after = edges()
    assert (before[0] <= 2, before[1] > 8) == (True, True)
    assert (after[0] > 8, after[1] <= 2) == (True, True)


def test_flagged_times_are_hollow_and_the_plot_says_so(browser: Any, written: dict[str, Path]) -> None:
    browser.open(written["culane"])
    fills = "[...document.querySelectorAll('.latency .point')].map(point => getComputedStyle(point).fill)"
    assert set(browser.run(fills)) == {browser.run("getComputedStyle(document.body).backgroundColor")}
    assert "No Pareto front" in browser.run("document.querySelector('.latency figcaption').textContent")
    browser.run("document.querySelector('.board .open').click()")
    told = browser.run(
        "new Promise(done => setTimeout(() => done(document.getElementById('details').textContent), 100))"
    )
    assert "p50 latency10.00 ms, flagged: noisy" in told


@pytest.mark.parametrize(("width", "kind"), [(1280, "name"), (390, "rank")])
def test_labels_of_a_plot_cover_neither_each_other_nor_a_point(browser: Any, width: int, kind: str) -> None:
    browser.open(FIELD, width=width)
    boxes = """(selector) => [...document.querySelectorAll(".latency " + selector)].filter(one => one.checkVisibility()).map(one => {
      const { left, top, right, bottom } = one.getBoundingClientRect();
      const spare = (bottom - top) * .15;  // a line is higher than its letters
      return [left, top + spare, right, bottom - spare];
    })"""
    texts = browser.run(f"({boxes})('a text')")
    assert len(texts) == len(browser.run(f"({boxes})('a .{kind}')")) >= 7
    apart = [(one, other) for number, one in enumerate(texts) for other in texts[:number]]
    apart += [(one, other) for one in texts for other in browser.run(f"({boxes})('.point')")]
    covered = [pair for pair in apart if overlap(*pair)]
    assert covered == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_has_enough_contrast(browser: Any, dark: bool) -> None:
    browser.open(MINI, dark=dark)
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 21, 20)" if dark else "rgb(253, 253, 251)")
    assert browser.run(CONTRAST) == []
    browser.run("document.querySelector('[data-show=changes]').click()")
    assert browser.run(CONTRAST) == []
    browser.run("document.querySelector('.board .open').click()")
    assert browser.run(f"new Promise(done => setTimeout(() => done({CONTRAST}), 100))") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_hint_in_the_search_is_as_dark_as_other_weak_text(
    browser: Any, written: dict[str, Path], dark: bool
) -> None:
    browser.open(written["culane"], dark=dark)
    hint = browser.run("getComputedStyle(document.querySelector('[name=text]'), '::placeholder').color")
    assert hint == browser.run("getComputedStyle(document.querySelector('.facts')).color")


def test_tables_have_captions_and_buttons_have_names(browser: Any) -> None:
    browser.open(ABLATION)
    assert browser.run("[...document.querySelectorAll('table')].every(table => table.caption?.textContent.trim())")
    assert browser.run(
        "[...document.querySelectorAll('button, select, input')].every(one => one.textContent.trim() || one.labels?.length)"
    )
    plots = "[...document.querySelectorAll('svg:not([role=presentation])')]"
    assert browser.run(f"{plots}.every(one => one.hasAttribute('aria-label'))")


def test_foreign_text_is_shown_and_never_run(browser: Any, made: Any, tmp_path: Path) -> None:
    records = [
        record.model_copy(
            update={
                "flags": (HOSTILE,),
                "identity": record.identity.model_copy(update={"detector": HOSTILE, "method": HOSTILE}),
            }
        )
        for record in made.pairs(tmp_path, seeds=1)
    ]
    browser.open(write_page(tmp_path, leaderboard(records[1:], tmp_path)))
    browser.run("document.querySelector('.board .open').click()")
    shown = browser.run("new Promise(done => setTimeout(() => done(document.body.textContent), 200))")
    assert HOSTILE in shown
    assert "frames here" in shown
    assert browser.run("window.hacked === undefined && document.images.length === 0")
    assert browser.errors == []
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
