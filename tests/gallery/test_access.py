"""For everyone: what axe-core finds in the real browser, with the keyboard, in every theme and width."""

from __future__ import annotations

from pathlib import Path

import pytest
from gallery.browser import PHONE, WIDE, Browser
from gallery.folders import explained, photo, said

from gradviz_cli import gallery

RUN = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(done)"


def violations(browser: Browser, axe: str) -> list[str]:
    browser.settle()
    browser.driver.execute_script(axe)
    found = browser.driver.execute_async_script(RUN)["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


@pytest.fixture
def both(page: Path) -> Path:
    """The folder of `page` beside another one, whose images lie in folders that are labels."""
    for i, (name, label) in enumerate([("cross/e.jpg", "cross"), ("arrow/f.jpg", "cross")]):
        photo(Path("photos") / name, (i, 90, 90))
        explained(name, ("guided",), out="more", target=said(label))
    return gallery.write(Path("maps"), Path("more"))


STATES = ["sort=wrong", "q=nothing+like+it", "image=arrow/f.jpg", "image=y.jpg", "image=b.jpg&zoom=4&see-style=overlay"]


@pytest.mark.parametrize(("size", "dark", "at"), [(WIDE, False, STATES[0]), (PHONE, True, STATES[-1])])
def test_axe_finds_nothing(browser: Browser, both: Path, axe: str, size: tuple[int, int], dark: bool, at: str) -> None:
    browser.open(both, size, dark, at)
    assert violations(browser, axe) == []
    browser.check()


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, PHONE])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_anywhere(browser: Browser, both: Path, axe: str, size: tuple[int, int], dark: bool) -> None:
    for at in STATES:
        browser.open(both, size, dark, at)
        assert violations(browser, axe) == [], at


def test_axe_would_find_something(browser: Browser, both: Path, axe: str) -> None:
    browser.open(both)
    browser.js("document.getElementById('theme').removeAttribute('aria-label')")
    browser.js("document.getElementById('runs').style.color = '#bbb'")
    assert {found.split(":")[0] for found in violations(browser, axe)} == {"button-name", "color-contrast"}


def test_all_of_it_is_reached_and_worked_with_the_keyboard(browser: Browser, both: Path) -> None:
    browser.open(both, at="q=f.jpg")
    browser.js("document.querySelector('.skip').focus()")
    browser.press(browser.keys.ENTER)
    assert browser.at() == "q=f.jpg"
    browser.press(browser.keys.ENTER)
    assert browser.one("#box-name").text == "photos/arrow/f.jpg"
    assert browser.js("document.activeElement.id") == "box-title"
    browser.press("z")
    reached = set()
    for _ in range(25):
        browser.press(browser.keys.TAB)
        reached.add(
            browser.js("document.activeElement.id || document.activeElement.name || document.activeElement.className")
        )
    assert {"previous", "next", "close", "blend", "zoom", "box-style"} <= reached
    assert any("zoomed" in one for one in reached)
    browser.press(browser.keys.ESCAPE)
    assert browser.js("document.activeElement.dataset.at") == "0"
    browser.check()


def test_nothing_moves_by_itself() -> None:
    """So there is nothing to stop for who prefers reduced motion."""
    web = Path(gallery.__file__).parent / "web"
    text = "".join(part.read_text() for part in web.iterdir())
    assert not any(
        word in text for word in ("transition", "animation", "@keyframes", "smooth", "<marquee", ".animate(")
    )
