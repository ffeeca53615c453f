"""A map over its input: what shows through, and how close one can look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gallery.browser import PHONE, Browser
from gallery.folders import explained

from gradviz_cli import gallery
from gradviz_cli.draw.colormaps import COLORMAPS

RED = (200, 60, 40)
INTENSITIES = [1, 64, 128, 191, 255]


def striped(levels: list[int]) -> np.ndarray:
    """Intensities as upright stripes, [30, 40]."""
    return np.repeat(np.array(levels, np.uint8)[None], 30, 0).repeat(40 // len(levels), 1)


@pytest.mark.parametrize(
    ("style", "colormap", "strengths"),
    [
        ("heatmap", "inferno", [1 / 255, 64 / 255, 128 / 255, 191 / 255, 1]),
        ("signed", "blue-white-red", [1, 64 / 127, 0, 63 / 127, 1]),
    ],
)
def test_the_input_shows_where_the_map_is_weak(
    browser: Browser, here: Path, style: str, colormap: str, strengths: list[float]
) -> None:
    """By arithmetic: opacity = strength ^ ((1 - share) / share), source over destination."""
    explained(style=style, pixels=striped(INTENSITIES), colormap=colormap)
    browser.open(gallery.write(Path("maps")), at="image=a.jpg")
    browser.settle()
    slider = browser.one("#blend")
    for share in (0.5, 0.75, 1.0, 0.0):
        browser.js(
            "(arguments[0].value = arguments[1], arguments[0].dispatchEvent(new Event('input')))", slider, 100 * share
        )
        stripes = browser.pixels(
            browser.one("#frame .map"), [(i + 0.5) / len(INTENSITIES) for i in range(len(INTENSITIES))], 0.5
        )
        for seen, level, strength in zip(stripes, INTENSITIES, strengths, strict=True):
            opacity = strength ** ((1 - share) / share) if 0 < share < 1 else share
            mixed = [(1 - opacity) * a + opacity * b for a, b in zip(RED, COLORMAPS[colormap][level], strict=True)]
            assert seen == pytest.approx(mixed, abs=6 if style == "heatmap" else 12), (share, level)
    browser.check()


@pytest.fixture
def large(here: Path) -> Path:
    """Two images of 1200 x 900 pixels."""
    for name in ("a.jpg", "b.jpg"):
        explained(name, size=(1200, 900), pixels=np.full((900, 1200, 3), (20, 40, 220), np.uint8))
    return gallery.write(Path("maps"))


def width(browser: Browser) -> float:
    return browser.js("document.querySelector('#frame .map').getBoundingClientRect().width")


def place(browser: Browser) -> list[float]:
    return browser.js("(({scrollLeft, scrollTop}) => [scrollLeft, scrollTop])(document.querySelector('.pane'))")


def test_keys_zoom_to_the_pixels_and_move_the_picture(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.one("[data-at='0']").click()
    browser.settle()
    fitted = width(browser)
    assert fitted < 1200
    browser.press("z")
    assert width(browser) == 1200
    before = place(browser)
    browser.press(browser.keys.ARROW_LEFT, browser.keys.ARROW_UP)
    left, up = place(browser)
    assert left < before[0] and up < before[1]
    assert browser.one("#box-name").text == "photos/a.jpg"
    browser.press("n")  # the same part of the next image
    browser.settle()
    assert browser.one("#box-name").text == "photos/b.jpg"
    browser.until("document.querySelector('.pane').scrollWidth === 1200")
    near = f"Math.abs(document.querySelector('.pane').scrollLeft - {left}) <= 2"
    browser.until(f"{near} && Math.abs(document.querySelector('.pane').scrollTop - {up}) <= 2")
    browser.press("+")
    assert width(browser) == 2400 and browser.at().endswith("zoom=2")
    browser.driver.refresh()
    browser.settle()
    assert width(browser) == 2400
    browser.press("-", "-")
    assert width(browser) == fitted
    browser.press(browser.keys.ARROW_LEFT)  # steps again
    assert browser.one("#box-name").text == "photos/a.jpg"
    browser.check()


def test_the_choice_zooms_too_and_the_focus_reaches_what_scrolls(browser: Browser, large: Path) -> None:
    browser.open(large, PHONE, at="image=a.jpg")
    browser.settle()
    assert browser.js("document.querySelectorAll('.pane[tabindex]').length") == 0
    browser.choose("zoom", "1:1")
    assert browser.js("document.activeElement.name === 'zoom' || document.activeElement.id === 'box-title'")
    assert browser.one(".pane[tabindex='0']").get_attribute("aria-label")
    assert width(browser) == 1200
    assert browser.js("document.getElementById('box').scrollWidth") <= PHONE[0]
    browser.check()
