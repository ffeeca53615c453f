"""The page in a browser; skipped without Debian's packages `chromium` and `chromium-driver`, and `selenium` from PyPI."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from gallery.browser import PHONE, Browser, luminance
from gallery.folders import HOSTILE, HOSTILE_LABEL, MODEL, draw, explained, log, photo
from PIL import Image

from gradviz_cli import gallery


def test_it_opens_with_failures_first_and_every_picture_loaded(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.cards() == ["y.jpg", "z.jpg", "a.jpg", "b.jpg", "d.jpg", "deep/c.png"]
    assert browser.one("#count").text == "6 images, 2 failed"
    assert browser.one(".card.failed").text.split("\n") == ["truncated", "ends too early", "y.jpg"]
    browser.settle()
    assert browser.js("[...document.images].every((img) => img.naturalWidth === 40)")
    assert len(browser.all(".thumb img")) == 4 * 3 - 1
    assert browser.texts(".absent") == ["The image is no longer there"]
    assert browser.texts(".card .line:not(.small)")[0].split("\n") == ["arrow", "score 20"]
    about = browser.one("#about").text
    assert MODEL in about and "gradviz 0.1.0" in about and "unit" in about
    browser.check()


def test_modes_styles_and_targets_switch(browser: Browser, page: Path) -> None:
    browser.open(page)

    def shown() -> list[str]:
        return browser.js("[...document.querySelectorAll('[data-at=\"2\"] img')].map((img) => img.getAttribute('src'))")

    assert shown() == ["../photos/a.jpg", "a.jpg.backprop.png", "a.jpg.guided.png"]
    browser.choose("mode", "guided")
    browser.choose("style", "overlay")
    assert shown() == ["../photos/a.jpg", "a.jpg.guided.overlay.png"]
    browser.choose("target", "top2")
    assert shown() == ["../photos/a.jpg", "a.jpg.guided.top2.overlay.png"]
    assert browser.texts("[data-at='2'] .label") == ["crescent"]
    browser.choose("style", "panel")
    assert shown() == ["a.jpg.top2.panel.png"]
    browser.settle()
    browser.check()


def test_filters_and_orders(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.select("#class", "0")
    assert browser.cards() == ["a.jpg", "d.jpg"]  # both arrows
    assert browser.one("#count").text == "2 of 6 images"
    browser.select("#class", "-1")
    browser.choose("status", "Failed")
    assert browser.cards() == ["y.jpg"]
    browser.choose("status", "Done")
    browser.select("#sort", "score+")
    assert browser.cards() == ["d.jpg", "deep/c.png", "b.jpg", "a.jpg"]
    browser.select("#sort", "output-")
    assert browser.cards() == ["a.jpg", "b.jpg", "deep/c.png", "d.jpg"]
    browser.choose("status", "All")
    browser.one("#first").click()
    assert browser.cards()[-2:] == ["y.jpg", "z.jpg"]  # without a score, so last
    browser.search("ARR deep")
    browser.until("document.querySelectorAll('.card').length === 1")
    assert browser.cards() == ["deep/c.png"]  # its second target
    browser.search("too early")
    browser.until("document.querySelector('.card .file').textContent === 'y.jpg'")
    browser.search("nothing like it")
    browser.until("!document.getElementById('empty').hidden")
    browser.one("#reset").click()
    assert len(browser.cards()) == 6
    browser.check()


def test_the_lightbox_steps_by_keyboard_and_gives_the_focus_back(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("[data-at='2']").click()
    assert browser.js("document.getElementById('box').open")
    assert browser.one("#box-title").text == "arrow"
    assert browser.texts("#figures b") == ["20", "90.0 %", "1"]
    browser.press(browser.keys.ARROW_RIGHT)
    assert (browser.one("#box-title").text, browser.one("#box-place").text) == ("crescent", "4 of 6")
    browser.press(browser.keys.HOME)
    assert browser.one("#box-title").text == "Failed"
    assert "ends too early" in browser.one("#frame").text
    assert browser.js("document.querySelectorAll('#frame img').length") == 0
    browser.press(browser.keys.ARROW_LEFT)  # there is nothing before the first
    assert browser.one("#box-place").text == "1 of 6"
    browser.press(browser.keys.END)
    browser.one("#previous").click()
    assert browser.one("#box-name").text == "photos/d.jpg"
    browser.press(browser.keys.ESCAPE)
    browser.until("document.activeElement.dataset.at === '4'")
    assert not browser.js("document.getElementById('box').open")
    browser.press(browser.keys.ENTER)
    assert browser.one("#box-name").text == "photos/d.jpg"
    browser.check()


def test_the_focus_stays_in_the_lightbox(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("[data-at='2']").click()
    for key in (browser.keys.TAB, browser.keys.SHIFT + browser.keys.TAB):
        seen = set()
        for _ in range(20):
            browser.press(key)
            assert browser.js("document.getElementById('box').contains(document.activeElement)")
            seen.add(
                browser.js(
                    "document.activeElement.id || document.activeElement.name || document.activeElement.textContent"
                )
            )
        assert {"close", "next", "blend", "box-target", "image"} <= seen
    browser.check()


def test_the_slider_blends_the_map_over_the_input(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("[data-at='2']").click()
    browser.settle()
    slider, red, blue = browser.one("#blend"), (200, 60, 40), (20, 40, 220)

    def colour() -> tuple[int, ...]:
        return browser.pixel(browser.one("#frame"), 0.5, 0.5)

    for key, weight in ((browser.keys.HOME, 0), (browser.keys.END, 1), (browser.keys.PAGE_DOWN, 0.9)):
        slider.send_keys(key)
        assert slider.get_attribute("value") == str(round(100 * weight))
        mixed = [(1 - weight) * a + weight * b for a, b in zip(red, blue, strict=True)]
        assert colour() == pytest.approx(mixed, abs=4)
    assert slider.get_attribute("aria-valuetext") == "90 percent map, 10 percent input"
    browser.one("#box-title").click()
    browser.js("document.getElementById('box-title').focus()")
    browser.press(browser.keys.ARROW_DOWN)
    assert slider.get_attribute("value") == "80"
    browser.press(browser.keys.ARROW_RIGHT)  # the choice stays for the next image
    assert slider.get_attribute("value") == "80"
    browser.one("#strip [data-mode='input']").click()
    assert colour() == pytest.approx(red, abs=4)
    browser.check()


def test_keys_and_the_strip_switch_what_the_lightbox_shows(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("[data-at='2']").click()

    def shown() -> str:
        return browser.js("document.querySelector('#frame .map').getAttribute('src')")

    assert shown() == "a.jpg.backprop.png"
    browser.press("m")
    assert shown() == "a.jpg.guided.png"
    assert browser.texts("#strip [aria-pressed=true]") == ["guided"]
    browser.press("s", "t")
    assert shown() == "a.jpg.guided.top2.overlay.png"
    browser.one("#strip [data-mode='0']").click()
    assert shown() == "a.jpg.backprop.top2.overlay.png"
    assert browser.js("document.activeElement.dataset.mode") == "0"
    browser.choose("box-style", "panel")
    assert shown() == "a.jpg.top2.panel.png"
    assert not browser.one("#blend").is_enabled()
    browser.settle()
    browser.check()


def test_a_map_is_not_blended_with_what_it_does_not_fit(browser: Browser, here: Path) -> None:
    explained("fits.jpg")
    source = photo(Path("photos/crop.jpg"), size=(90, 30))  # the map is of a cropped input
    log(Path("maps"), source, [draw(Path("maps"), source, "crop.jpg", "guided")])
    source = photo(Path("photos/odd.tif"))  # Chromium cannot show it
    log(Path("maps"), source, [draw(Path("maps"), source, "odd.tif", "guided")])
    source = Path("photos/turned.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40), (200, 60, 40)).save(source, exif=exif)
    log(Path("maps"), source, [draw(Path("maps"), source, "turned.jpg", "guided")])
    browser.open(gallery.write(Path("maps")))
    assert browser.cards() == ["crop.jpg", "fits.jpg", "odd.tif", "turned.jpg"]
    browser.settle()
    browser.until("document.querySelectorAll('.absent').length === 1")
    assert browser.texts(".absent") == ["Not shown by this browser"]
    browser.one("[data-at='0']").click()
    told = {"crop": "shape of the model input", "fits": None, "odd": "cannot show the image", "turned": None}
    for reason in told.values():
        browser.settle()
        browser.until("document.getElementById('blend').disabled === arguments[0]", reason is not None)
        if reason:
            assert reason in browser.one("#blend-why").text
        browser.press(browser.keys.ARROW_RIGHT)
    browser.check()


def test_hostile_names_and_labels_do_nothing(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    browser.settle()
    assert browser.js("[...document.images].every((img) => img.naturalWidth === 40)")
    assert len(browser.all(".thumb img")) == 2 * len(HOSTILE)
    assert set(browser.js("[...document.querySelectorAll('.label')].map((label) => label.textContent)")) == {
        HOSTILE_LABEL
    }
    assert "a b\\nc\\t.jpg" in browser.cards()
    browser.one("[data-at='1']").click()
    for _ in HOSTILE:
        browser.settle()
        assert browser.js("document.querySelectorAll('#frame img').length") == 2
        browser.press(browser.keys.ARROW_RIGHT)
    assert browser.js("window.hacked") is None
    browser.check()


def test_nothing_leaves_the_page_even_if_it_tried(browser: Browser, page: Path, server) -> None:
    address, asked = server
    tries = f"void Object.assign(new Image(), {{src: '{address}/image'}}); fetch('{address}/fetch').catch(() => 0)"
    browser.open(page)
    browser.js("window.refused = []")
    browser.js("addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective))")
    browser.driver.execute_script(tries)
    browser.until("refused.length === 2")
    assert set(browser.js("refused")) == {"connect-src", "img-src"}
    assert asked == []


def test_what_goes_wrong_on_a_page_would_be_seen(browser: Browser, here: Path, server) -> None:
    address, asked = server
    Path("plain.html").write_text(f"<img src='{address}/image'><img src='none.png'><script>nonsense()</script>")
    for _ in range(20):  # a browser that has just begun may call a page loaded that it asked nothing for
        browser.open(Path("plain.html"))
        if asked:
            break
    assert asked[0] == "/image"
    assert f"{address}/image" in browser.requests()
    errors = "\n".join(browser.errors())
    assert "nonsense is not defined" in errors
    assert "none.png" in errors


def test_dark_and_light(browser: Browser, page: Path) -> None:
    def ground() -> float:
        return luminance("#{:02x}{:02x}{:02x}".format(*browser.pixel(browser.one("body"), 0.5, 0.001)))

    browser.open(page, dark=True)
    assert ground() < 0.05
    browser.open(page)
    assert ground() > 0.8
    browser.one("#theme").click()
    assert browser.one("#theme").get_attribute("aria-pressed") == "true"
    assert ground() < 0.05
    for _ in range(20):  # remembered, as soon as the browser has put it away: its storage is written behind
        browser.open(page)
        if browser.one("#theme").get_attribute("aria-pressed") == "true":
            break
    assert ground() < 0.05
    browser.one("#theme").click()
    assert ground() > 0.8
    browser.check()


def test_a_phone_has_all_of_it_in_its_width(browser: Browser, page: Path) -> None:
    browser.open(page, PHONE)
    assert browser.js("document.documentElement.scrollWidth") <= PHONE[0]
    assert not browser.one("#text").is_displayed()
    browser.one("#more").click()
    assert browser.one("#more").get_attribute("aria-expanded") == "true"
    assert browser.one("#text").is_displayed()
    assert browser.js("document.documentElement.scrollWidth") <= PHONE[0]
    browser.one("#more").click()
    browser.one("[data-at='2']").click()
    browser.settle()
    for id in ("close", "next", "previous", "blend"):
        place = browser.one(f"#{id}").rect
        assert place["x"] >= 0 and place["x"] + place["width"] <= PHONE[0]
        assert min(place["width"], place["height"]) >= 32
    assert browser.js("document.getElementById('box').scrollWidth") <= PHONE[0]
    browser.check()


def test_every_control_has_a_name(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("[data-at='2']").click()
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "slider", "radio", "checkbox", "combobox", "searchbox", "link", "image", "dialog"}
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    controls = [(role, name) for role, name in found if role in roles]
    assert {"button", "slider", "radio", "link", "dialog"} <= {role for role, _ in controls}
    assert [role for role, name in controls if not name.strip()] == []
    assert ("slider", "Map over input") in controls
    assert ("dialog", "arrow") in controls


def test_cards_are_walked_by_arrow_keys(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.js("document.querySelector('.card[tabindex=\"0\"]').focus()")
    places = []
    for key in ("ARROW_RIGHT", "ARROW_DOWN", "ARROW_UP", "END", "ARROW_RIGHT", "HOME"):
        browser.press(getattr(browser.keys, key))
        places.append(int(browser.js("document.activeElement.dataset.at")))
    columns = browser.js(
        "new Set([...document.querySelectorAll('.card:not(.low)')].map((c) => c.getBoundingClientRect().x)).size"
    )
    assert columns > 1
    assert places == [1, 2, 0, 5, 5, 0]  # 1, below it 2, above that 0: the bands have columns of their own
    assert browser.js("document.querySelectorAll('.card[tabindex=\"0\"]').length") == 1


def test_ten_thousand_images_open_and_are_searched(browser: Browser, here: Path, capsys) -> None:
    explained("first.jpg")
    lines, line = [], json.loads(Path("maps/manifest.jsonl").read_text())
    for i in range(10_000):
        name = f"p{i}.jpg"
        os.link("photos/first.jpg", f"photos/{name}")
        os.link("maps/first.jpg.guided.png", f"maps/{name}.guided.png")
        change = {
            "image": f"photos/{name}",
            "source": str(here / "photos" / name),
            "outputs": [f"{name}.guided.png"],
        }
        lines.append(json.dumps({**line, **change}))
    Path("maps/manifest.jsonl").write_text("\n".join(lines))
    page = gallery.write(Path("maps"))
    browser.open(page)
    ready = browser.js("performance.getEntriesByName('gradviz-ready')[0].startTime")
    loaded = browser.js("performance.getEntriesByType('navigation')[0].loadEventEnd")
    with capsys.disabled():
        size = page.stat().st_size / 1e6
        print(f"\ngallery of 10,000 images, {size:.1f} MB: usable after {ready:.0f} ms, loaded after {loaded:.0f} ms")
    assert browser.one("#count").text == "10,000 images"
    assert len(browser.all(".card")) < 300
    browser.js("document.querySelector('.card').focus()")
    browser.press(browser.keys.END)
    assert browser.js("document.activeElement.querySelector('.file').textContent") == "p9999.jpg"
    assert len(browser.all(".card")) < 300
    browser.settle()
    assert browser.js("[...document.images].every((img) => img.naturalWidth === 40)")
    for tenth in range(10):
        browser.js("scrollTo(0, document.body.scrollHeight * arguments[0] / 10)", tenth)
        browser.until("[...document.querySelectorAll('.card')].some((c) => {"
                      " const place = c.getBoundingClientRect(); return place.top < 600 && place.bottom > 300; })")  # fmt: skip
    assert len(browser.all(".card")) < 300  # what scrolled away is gone
    browser.js("document.querySelector('.card[tabindex=\"0\"]').focus()")
    browser.press(browser.keys.END)
    browser.press(browser.keys.ENTER, browser.keys.ARROW_LEFT)
    assert browser.one("#box-name").text == "photos/p9998.jpg"
    browser.press(browser.keys.ESCAPE)
    browser.search("p512")
    browser.until("document.getElementById('count').textContent === '11 of 10,000 images'")
    browser.check()
