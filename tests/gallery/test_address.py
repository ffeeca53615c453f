"""What is chosen stands in the address of the page: it survives a reload, and can be passed on."""

from __future__ import annotations

from pathlib import Path

import pytest
from gallery.browser import Browser
from gallery.folders import HOSTILE


def test_filter_order_and_look_survive_a_reload(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.at() == ""
    browser.choose("mode", "guided")
    browser.choose("style", "overlay")
    browser.choose("status", "Done")
    browser.select("#sort", "score+")
    browser.one("#first").click()
    browser.search("ARR")
    browser.until("document.querySelectorAll('.card').length === 3")
    before = browser.cards()
    assert browser.at() == "mode=guided&style=overlay&status=done&q=ARR&sort=score+&mixed=yes"
    browser.driver.refresh()
    assert browser.cards() == before == ["d.jpg", "deep/c.png", "a.jpg"]
    shown = "[...document.querySelectorAll('[data-at=\"2\"] img')].map((img) => img.getAttribute('src'))"
    assert browser.js(shown) == ["../photos/a.jpg", "a.jpg.guided.overlay.png"]
    assert browser.one("#text").get_attribute("value") == "ARR"
    assert browser.one("#sort").get_attribute("value") == "score+"
    assert not browser.one("#first").is_selected()
    assert browser.one("input[name=status]:checked").get_attribute("value") == "done"
    browser.check()


def test_an_image_with_its_look_is_passed_on(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("[data-at='2']").click()
    browser.press("m", "t", "z", "z")
    browser.one("#blend").send_keys(browser.keys.HOME)
    browser.one("#next").click()
    at = browser.at()
    assert at == "image=b.jpg&see-mode=guided&see-target=top2&blend=0"
    browser.open(page, at=at)
    assert browser.one("#box-name").text == "photos/b.jpg"
    assert browser.js("document.querySelector('#frame .map').getAttribute('src')") == "b.jpg.guided.top2.png"
    assert browser.one("#blend").get_attribute("value") == "0"
    browser.press(browser.keys.ESCAPE)
    assert browser.at() == ""
    browser.check()


def test_back_closes_an_image_and_forward_opens_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.choose("mode", "guided")
    browser.one("[data-at='3']").click()
    assert browser.at() == "mode=guided&image=b.jpg"
    browser.driver.back()
    browser.until("!document.getElementById('box').open")
    assert browser.at() == "mode=guided"
    browser.driver.forward()
    browser.until("document.getElementById('box').open")
    assert browser.one("#box-name").text == "photos/b.jpg"
    browser.press(browser.keys.ESCAPE)
    browser.until("!location.hash.includes('image')")
    assert browser.js("document.activeElement.dataset.at") == "3"
    browser.check()


def test_an_image_that_the_filter_leaves_out_is_shown_without_the_filter(browser: Browser, page: Path) -> None:
    browser.open(page, at="q=nothing&status=failed&image=b.jpg")
    assert browser.one("#box-name").text == "photos/b.jpg"
    assert browser.one("#box-place").text == "4 of 6"
    browser.check()


@pytest.mark.parametrize(
    "at",
    [
        "mode=nope&style=__proto__&target=constructor&status=toString&class=9&sort=hasOwnProperty&verdict=x&folder=all",
        "image=../../etc/passwd&zoom=9&blend=1e9&see-mode=all&see-style=7",
        "%E0%A4%A&=&&mode&<script>hacked=1</script>&status=written&mixed=no&q=",
    ],
)
def test_an_address_of_another_page_does_no_harm(browser: Browser, page: Path, at: str) -> None:
    browser.open(page, at=at)
    assert browser.one("#count").text == "6 images, 2 failed"
    assert not browser.js("document.getElementById('box').open")
    assert browser.js("window.hacked") is None
    browser.check()


def test_an_odd_look_falls_back(browser: Browser, page: Path) -> None:
    browser.open(page, at="image=a.jpg&zoom=9&blend=1e9&see-mode=all&see-style=7&see-target=-1")
    assert browser.js("document.querySelector('#frame .map').getAttribute('src')") == "a.jpg.backprop.png"
    assert browser.one("#blend").get_attribute("value") == "60"
    browser.check()


def test_names_of_any_kind_stand_in_the_address(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    names = browser.cards()[1:]
    assert len(names) == len(HOSTILE)
    browser.one("[data-at='1']").click()
    for _ in names[::3]:
        name = browser.one("#box-name").get_property("textContent")
        browser.at()
        browser.driver.refresh()
        assert browser.one("#box-name").get_property("textContent") == name
        browser.press("n", "n", "n")
    assert browser.js("window.hacked") is None
    browser.check()
