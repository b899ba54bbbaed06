"""The sheet in a real browser: it asks for nothing, runs only its own, and obeys the keys."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from lensctl.show.sheet import (
    Chart,
    Picture,
    Section,
    Series,
    Table,
    render_sheet,
    write_sheet,
)
from lensctl.show.thumb_cache import ThumbnailCache
from support.browser import open_browser

TAKEN = "document.title='taken'"
HOSTILE = f'"><script>{TAKEN}</script><img src=x onerror="{TAKEN}">\''
COLOURS = ["#b03030", "#30b030", "#3030b0", "#b0b030", "#b030b0", "#30b0b0", "#808080"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def _photo(colour: str, size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.new("RGB", size, colour)


def _grid(count: int = 7) -> Section:
    pictures = [
        Picture(_photo(COLOURS[n]), f"photo {n}", facts={"taken": "2024-05-01"}, score=0.9 - n / 10)
        for n in range(count)
    ]
    return Section("Results", pictures=pictures)


def _open(browser: Chrome, folder: Path, *sections: Section, title: str = "Sheet") -> None:
    path = folder / "sheet.html"
    write_sheet(path, title, sections)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())


def _focused(browser: Chrome) -> str:
    return browser.switch_to.active_element.get_attribute("aria-label") or ""


def _press(browser: Chrome, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def test_nothing_is_fetched_and_nothing_is_refused(browser: Chrome, tmp_path: Path) -> None:
    chart = Chart([Series("train", [3, 2, 1]), Series("val", [3, 2.5, 2])], x_label="step")
    rows = [
        [Picture(_photo("red"), mark="query"), "at night", Picture(_photo("navy"), mark="good")]
    ]
    _open(browser, tmp_path, _grid(), Section("Chart", chart=chart), Section("Triplets", rows=rows))
    assert browser.get_log("browser") == []
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    page = (tmp_path / "sheet.html").as_uri()
    asked = [
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent" and one["params"]["documentURL"] == page
    ]
    assert page in asked
    assert [url for url in asked if url != page and not url.startswith("data:")] == []


def test_every_picture_is_decoded_by_the_browser(browser: Chrome, tmp_path: Path) -> None:
    _open(browser, tmp_path, _grid())
    widths = browser.execute_script(
        "return [...document.images].slice(0, 7).map(i => i.naturalWidth)"
    )
    assert widths == [300] * 7


def test_hostile_words_stay_words(browser: Chrome, tmp_path: Path) -> None:
    picture = Picture(
        _photo("red"), HOSTILE, facts={HOSTILE: HOSTILE}, original=Path("/a") / HOSTILE
    )
    section = Section(
        HOSTILE,
        HOSTILE,
        [picture],
        Table([HOSTILE], [[HOSTILE]]),
        Chart([Series(HOSTILE, [1, 2]), Series("b", [1, 2])], x_label=HOSTILE, y_label=HOSTILE),
        [[picture, HOSTILE]],
    )
    _open(browser, tmp_path, section, title=HOSTILE)
    assert browser.title == HOSTILE
    assert browser.find_element(By.TAG_NAME, "h2").text == HOSTILE
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    assert browser.execute_script("return document.querySelectorAll('img[onerror]').length") == 0
    assert browser.get_log("browser") == []


def test_a_script_that_got_in_would_not_run(browser: Chrome, tmp_path: Path) -> None:
    page = render_sheet("Sheet", [_grid(1)])
    assert "</main>" in page
    attack = f"<script>{TAKEN}</script><img src='data:,' onerror=\"{TAKEN}\">"
    path = tmp_path / "altered.html"
    path.write_text(page.replace("</main>", attack + "</main>"))
    browser.get(path.as_uri())
    assert browser.title == "Sheet"
    assert any("Content Security Policy" in one["message"] for one in browser.get_log("browser"))


def test_arrows_move_over_the_grid(browser: Chrome, tmp_path: Path) -> None:
    _open(browser, tmp_path, _grid())
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_RIGHT)
    assert _focused(browser).endswith("photo 0")
    _press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert _focused(browser).endswith("photo 2")
    columns = browser.execute_script(
        "const views = [...document.querySelectorAll('.view')];"
        "const tops = views.map(view => view.getBoundingClientRect().top);"
        "return tops.filter(top => top === tops[0]).length"
    )
    assert 2 < columns < 7
    _press(browser, Keys.HOME, Keys.ARROW_DOWN)
    assert _focused(browser).endswith(f"photo {columns}")
    _press(browser, Keys.ARROW_UP, Keys.END)
    assert _focused(browser).endswith("photo 6")


def test_enter_shows_a_picture_large_and_escape_goes_back(browser: Chrome, tmp_path: Path) -> None:
    _open(browser, tmp_path, _grid())
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    _press(browser, Keys.ENTER)
    dialog = browser.find_element(By.ID, "large")
    assert dialog.is_displayed()
    assert dialog.find_element(By.TAG_NAME, "img").get_attribute("alt") == "photo 0"
    _press(browser, Keys.ARROW_RIGHT)
    assert dialog.find_element(By.TAG_NAME, "img").get_attribute("alt") == "photo 1"
    assert "photo 1" in dialog.find_element(By.CLASS_NAME, "about").text
    _press(browser, Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert _focused(browser).endswith("photo 1")


def test_one_stop_for_the_tab_key(browser: Chrome, tmp_path: Path) -> None:
    """A keyboard user passes a hundred pictures with one press, not with a hundred."""
    _open(browser, tmp_path, _grid())
    assert (
        browser.execute_script(
            "return [...document.querySelectorAll('.view')].filter(v => v.tabIndex === 0).length"
        )
        == 1
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(browser: Chrome, tmp_path: Path, scheme: str) -> None:
    """Contrast of 4.5 to 1 or better for every text (WCAG 2.1, 1.4.3)."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    marked = [Picture(_photo("red"), "a", {"b": "c"}, mark) for mark in ("query", "good", "bad")]
    original = Picture(_photo("red"), "with a link", original=Path("/photo.jpg"))
    table = Table(["name", "value"], [["a", "1"]])
    _open(browser, tmp_path, Section("H", "text", [*marked, original], table), title="T")
    worst = min(browser.execute_script(_CONTRASTS), key=lambda one: one[1])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert worst[1] >= 4.5, worst


def test_fits_a_phone(browser: Chrome, tmp_path: Path) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wide = Table([f"column {n}" for n in range(12)], [[str(n) for n in range(12)]])
    long = Picture(_photo("red"), "a_name_without_any_place_to_break_" * 5)
    rows = [[Picture(_photo("red")), "words", Picture(_photo("red")), Picture(_photo("red"))]]
    _open(browser, tmp_path, _grid(), Section("More", pictures=[long], table=wide, rows=rows))
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 360


def test_pictures_are_bounded_upright_and_without_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "secret maker"
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (2000, 1000), "red").save(photo, exif=exif)
    page = render_sheet("Sheet", [Section(pictures=[Picture(photo)])], picture_side=100)
    assert 'width="50" height="100"' in page
    assert len(page) < 30_000
    assert "secret maker" not in page


def test_a_photo_that_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    page = render_sheet("Sheet", [Section(pictures=[Picture(broken, "broken.jpg"), Picture(b"")])])
    assert page.count('class="view problem"') == 2
    assert "not an image" in page


def test_broken_names_are_shown_escaped() -> None:
    name = b"caf\xe9\x1b[31m.jpg".decode("utf-8", "surrogateescape")
    page = render_sheet("Sheet", [Section(pictures=[Picture(_photo("red"), name)])])
    page.encode("utf-8")
    assert "caf\\xe9\\x1b[31m.jpg" in page
    assert "\x1b" not in page


def test_a_failed_write_leaves_the_old_sheet(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    path.write_text("<!doctype html>old")
    with pytest.raises(ValueError, match="2 x for 1 y"):
        write_sheet(path, "Sheet", [Section(chart=Chart([Series("a", [1], [1, 2])]))])
    assert [one.name for one in tmp_path.iterdir()] == ["sheet.html"]
    write_sheet(path, "Sheet", [])
    assert path.stat().st_mode & 0o777 == 0o600


_CONTRASTS = """
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = e => {
  for (; e; e = e.parentElement) {
    const back = numbers(getComputedStyle(e).backgroundColor);
    if (back.length < 4 || back[3] > 0) return back;
  }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
};
const found = [];
for (const e of document.querySelectorAll('header *, main *, footer *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))];
  found.push([e.tagName + ' ' + e.textContent, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
}
return found;
"""


@pytest.mark.parametrize("side", [960, 320])
def test_a_photo_whose_copy_is_kept_is_not_read_again(tmp_path: Path, side: int) -> None:
    photo = tmp_path / "photo.png"
    _photo("teal", (2000, 1000)).save(photo)
    kept = ThumbnailCache(tmp_path / "thumbs")
    sections = [Section("A", pictures=[Picture(photo, content="ab")])]
    page = render_sheet("A", sections, picture_side=side, kept=kept)
    photo.unlink()
    assert render_sheet("A", sections, picture_side=side, kept=kept) == page
    assert f'width="{side}"' in page
    assert "empty" not in page.partition("</style>")[2]


@pytest.mark.parametrize("width", [390, 1180, 1900])
def test_words_in_tables_stay_whole(browser: Chrome, tmp_path: Path, width: int) -> None:
    """No cell is narrower than its longest word; what does not fit is scrolled."""
    header = ["method", *(f"photograph to cartoon {number}" for number in range(9)), "comment"]
    comment = "a sentence about the method that is somewhat longer than the others"
    table = Table(header, [["MagicLens", *(f"{n}.25 ± 0.3" for n in range(9)), comment]])
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        _open(browser, tmp_path, Section("Scores", table=table))
        broken = browser.execute_script(_BROKEN_WORDS)
        page = browser.execute_script("return document.documentElement.scrollWidth")
        comment_width = browser.execute_script(
            "return document.querySelector('td:last-child').clientWidth"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert broken == []
    assert page <= width
    assert comment_width > 200


_BROKEN_WORDS = """
const broken = [];
for (const cell of document.querySelectorAll('th, td')) {
  const text = cell.firstChild;
  for (const word of cell.textContent.matchAll(/\\S+/g)) {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    if (range.getClientRects().length > 1) broken.push(word[0]);
  }
}
return broken;
"""
