"""A real Chromium, driven by selenium."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_plus

from PIL import Image

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")
WIDE, PHONE = (1300, 900), (390, 844)


def missing_for_browser() -> list[str]:
    """What would have to be installed to drive a browser."""
    wanted = {"chromium": "chromium (apt)", "chromedriver": "chromium-driver (apt)"}
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    try:
        import selenium  # noqa: F401
    except ImportError:
        missing.append("selenium (PyPI)")
    return missing


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a folder over HTTP."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Browser:
    """One Chromium; a page at a time, and what went wrong on it."""

    def __init__(self, profile: Path):
        from selenium import webdriver
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.ui import WebDriverWait

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.keys, self._css, self._wait, self._actions = Keys, By.CSS_SELECTOR, WebDriverWait, ActionChains

    def open(self, page: Path | str, size: tuple[int, int] = WIDE, dark: bool = False, at: str = "") -> None:
        """A file or an address; `at` stands behind its #."""
        self.driver.get("about:blank")
        self.errors(), self.requests()  # of what was open before
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        address = page if isinstance(page, str) else page.absolute().as_uri()
        self.driver.get(f"{address}#{at}" if at else address)

    def at(self) -> str:
        """What stands behind the # of the address, once all that was chosen has come there."""
        time.sleep(0.2)
        return unquote_plus(self.js("location.hash.slice(1)"))

    def js(self, script: str, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def all(self, selector: str) -> list:
        return self.driver.find_elements(self._css, selector)

    def one(self, selector: str):
        return self.driver.find_element(self._css, selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def until(self, script: str, *arguments) -> None:
        self._wait(self.driver, 20, 0.02).until(lambda driver: self.js(script, *arguments), script)

    def press(self, *keys: str) -> None:
        """As a keyboard does: whatever has the focus gets them, in sight or not."""
        self._actions(self.driver).send_keys(*keys).perform()

    def choose(self, name: str, text: str) -> None:
        """Click one of the pills."""
        self.js("[...document.querySelectorAll(`input[name=${arguments[0]}]`)].find((input) =>"
                " input.parentElement.innerText.split('\\n')[0] === arguments[1]).click()", name, text)  # fmt: skip

    def select(self, selector: str, value: str) -> None:
        self.one(f"{selector} option[value='{value}']").click()

    def search(self, text: str) -> None:
        field = self.one("#text")
        field.clear()
        if text:
            field.send_keys(text)

    def settle(self) -> None:
        """Until every image in the window has been loaded, or replaced by words."""
        self.until("[...document.images].every((img) => img.complete)")

    def cards(self) -> list[str]:
        """File names, in the order of the page."""
        return self.js("[...document.querySelectorAll('.card .file')].map((file) => file.textContent)")

    def errors(self) -> list[str]:
        """What the console said since the last call, up to now: a last word of ours shows that it has arrived."""
        self.driver.execute_script("console.error('last word')")
        found: list[str] = []
        while not any("last word" in message for message in found):
            found += [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]
        return [message for message in found if "last word" not in message]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def check(self) -> None:
        """No error on the console, and nothing asked for but files and what the page itself holds."""
        assert self.errors() == []
        asked = self.requests()
        assert asked
        assert {address.split(":")[0] for address in asked} <= {"file", "data"}

    def pixel(self, element, x: float, y: float) -> tuple[int, ...]:
        """The colour at a place in an element, as shares of its size."""
        return self.pixels(element, [x], y)[0]

    def pixels(self, element, across: Iterable[float], y: float) -> list[tuple[int, ...]]:
        """The colours at several places beside each other."""
        picture = Image.open(BytesIO(element.screenshot_as_png)).convert("RGB")
        return [picture.getpixel((int(picture.width * x), int(picture.height * y))) for x in across]


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)
