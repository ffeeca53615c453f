"""The gallery: its data from folders made here, and the page itself in a real Chromium. About 20 s, 2 s without one.

The browser tests need Debian's packages `chromium` and `chromium-driver`, and `selenium` from PyPI.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from gradviz_cli import gallery
from gradviz_cli.batch import manifest
from gradviz_cli.cli.gallery import command
from gradviz_cli.draw.png import encode_png
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.files.whole import sweep
from gradviz_cli.plan.results import Result

MODEL = "12" * 32
LABELS = ["arrow", "crescent", "cross"]


# ---- folders as runs leave them


def photo(path: Path, colour: tuple[int, int, int] = (200, 60, 40), size: tuple[int, int] = (40, 30)) -> Path:
    """An image of one colour, `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=95)
    return path


def draw(out: Path, source: Path, rel: str, mode: str, style: str = "heatmap", spec: str = "", **text) -> str:
    """Write a picture as a run does: all of one blue, with what it says of itself; returns its name.

    `over` replaces what it says of its mode and style, too.
    """
    over = text.pop("over", {})
    parts = [rel, "" if style == "panel" else mode, spec, "" if style == "heatmap" else style, "png"]
    name = ".".join(filter(None, parts))
    record = {
        "version": "0.1.0",
        "mode": ["backprop", "guided"] if style == "panel" else mode,
        "estimator": "gradient",
        "style": style,
        "target": {"index": 0, "label": LABELS[0], "rank": 0, "score": 12.5, "output": 0.975},
        "preprocess": "unit",
        "scale": [0.0, 0.00123456789],
        "unit": "attribution per model-input unit",
        "model": MODEL,
        "image": hashlib.sha256(source.read_bytes()).hexdigest(),
        "digest": "ef" * 32,
        **text,
        **over,
    }
    pixels = np.full((30, 120 if style == "panel" else 40, 3), (20, 40, 220), np.uint8)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(encode_png(pixels, None, json.dumps(record)))
    return name


def log(out: Path, image: Path | str, outputs: tuple | list = (), status: str = "written", **more) -> None:
    """Add a line to the manifest as a run does."""
    out.mkdir(parents=True, exist_ok=True)
    book = manifest.Manifest(out)
    book.add(Result(str(image), status, tuple(outputs), **more))
    book.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: images in `photos`, pictures in `maps`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explained(name: str = "a.jpg", modes: tuple[str, ...] = ("guided",), **text) -> None:
    """One image of `photos`, explained into `maps`."""
    source = photo(Path("photos") / name)
    log(Path("maps"), source, [draw(Path("maps"), source, name, mode, **text) for mode in modes])


def collected(out: str = "maps") -> dict:
    return gallery.collect(Path(out))


def only(data: dict) -> dict:
    (image,) = data["images"]
    return image


def modes_of(data: dict, image: dict) -> set[str]:
    return {data["modes"][mode]["name"] for mode, *_ in data["sets"][image["set"]]}


def source_of(data: dict, image: dict) -> str:
    return data["folders"][image["folder"]][1] + image.get("url", image["name"])


# ---- which images and pictures are shown


def test_the_last_line_of_an_image_wins(here: Path) -> None:
    explained()
    log(Path("maps"), "photos/a.jpg", status="failed", error={"kind": "timeout", "message": "took too long"})
    image = only(collected())
    assert image["status"] == "failed"
    assert image["error"] == ["timeout", "took too long"]
    assert "set" not in image
    explained()
    assert only(collected())["status"] == "written"


def test_one_image_under_two_spellings_is_one(here: Path) -> None:
    explained()
    log(Path("maps"), here / "photos" / "a.jpg", ["a.jpg.guided.png"], "current")
    assert only(collected())["status"] == "current"


def test_torn_and_foreign_lines_are_passed_over(here: Path) -> None:
    explained()
    with open("maps/manifest.jsonl", "ab") as book:
        book.write(b'[1]\n{"image": 3, "status": "written"}\n{"image": "x", "status": "new"}\n\xff\n{"image": "pho')
    assert only(collected())["name"] == "a.jpg"


def test_a_run_with_another_mode_adds_to_a_folder(here: Path) -> None:
    explained()
    explained(modes=("deconv",))
    data = collected()
    assert modes_of(data, only(data)) == {"guided", "deconv"}


def test_pictures_of_another_model_or_of_the_image_as_it_was_do_not_count(here: Path) -> None:
    explained(modes=("guided", "backprop"))
    explained(modes=("deconv",), model="34" * 32)
    data = collected()
    assert modes_of(data, only(data)) == {"deconv"}


def test_a_picture_written_anew_for_another_image_is_that_image_s(here: Path) -> None:
    explained()
    other = photo(Path("others/a.jpg"), (1, 2, 3))
    log(Path("maps"), other, [draw(Path("maps"), other, "a.jpg", "guided")])
    assert only(collected())["folder"] == 0
    assert collected()["folders"][0][0] == "others/"


def test_an_image_whose_pictures_are_gone_is_told_apart_from_a_pruned_one(here: Path) -> None:
    explained()
    Path("maps/a.jpg.guided.png").unlink()
    assert only(collected())["status"] == "missing"
    Path("photos/a.jpg").unlink()
    assert collected()["images"] == []


def test_only_pictures_of_ours_inside_out_are_shown(here: Path) -> None:
    source = photo(Path("photos/a.jpg"))
    draw(Path("."), source, "a.jpg", "guided")
    names = [
        "../a.jpg.guided.png",
        str(here / "a.jpg.guided.png"),
        "a.jpg.guided.png",
        "a.jpg.deconv.png",
        "\ud800.png",
    ]
    log(Path("maps"), source, names)
    os.mkfifo("maps/a.jpg.guided.png")
    photo(Path("maps/a.jpg.deconv.png"))
    assert only(collected())["status"] == "missing"


def test_targets_styles_and_panels_are_told_by_the_names(here: Path) -> None:
    source, out = photo(Path("photos/x.5.jpg")), Path("maps")
    names = [draw(out, source, "x.5.jpg", "guided", spec=spec) for spec in ("", "top10", "top2", "281")]
    names += [
        draw(out, source, "x.5.jpg", "guided", "overlay", "281"),
        draw(out, source, "x.5.jpg", "", "panel"),
    ]
    log(out, source, names)
    data = collected()
    assert data["targets"] == ["top1", "top2", "top10", "281"]
    assert [style["name"] for style in data["styles"]] == ["heatmap", "overlay", "panel"]
    assert [style["aspect"] for style in data["styles"]] == [pytest.approx(4 / 3, rel=1e-4)] * 2 + [4]
    suffixes = {suffix for *_, suffix in data["sets"][only(data)["set"]]}
    assert {"x.5.jpg" + suffix for suffix in suffixes} == set(names)


def test_failed_images_are_named_like_the_others_of_their_folder(here: Path) -> None:
    explained("deep/a.jpg")
    for name in ("deep/b.jpg", "c.jpg"):
        log(
            Path("maps"),
            photo(Path("photos") / name),
            status="failed",
            error={"kind": "crash", "message": "m"},
        )
    assert [image["name"] for image in collected()["images"]] == ["c.jpg", "deep/a.jpg", "deep/b.jpg"]


def test_names_are_in_the_order_people_expect(here: Path) -> None:
    names = ["p10.jpg", "p2.jpg", "P1.jpg", "p02.jpg", "\u0663.jpg", "q" + "9" * 200 + ".jpg"]
    for name in names:
        explained(name)
    order = [image["name"] for image in collected()["images"]]
    assert order[:4] == ["P1.jpg", "p02.jpg", "p2.jpg", "p10.jpg"]


def test_how_pictures_were_made_is_said_once_for_all_styles_of_a_run(here: Path) -> None:
    source, out = photo(Path("photos/a.jpg")), Path("maps")
    told = {"clip": 99.0, "scale": "shared", "fit": "crop", "mode": ["guided"], "target": ["top1"]}
    looks = {"heatmap": {"colormap": "magma"}, "gray": {}, "overlay": {"colormap": "magma", "alpha": 0.4}}
    names = [
        draw(out, source, "a.jpg", "guided", style, clip=99.0, options={**told, **look, "style": style}, **look)
        for style, look in looks.items()
    ]
    log(out, source, names)
    (run,) = collected()["runs"]
    assert run["pictures"] == 3
    assert run["facts"]["fit"] == "crop" and run["facts"]["scale"] == "shared" and run["facts"]["clip"] == 99
    assert not {"options", "colormap", "alpha", "mode", "target", "style"} & run["facts"].keys()


def test_numbers_that_json_does_not_have_become_null(here: Path) -> None:
    target = {"index": 10**400, "label": None, "rank": True, "score": float("nan"), "output": float("inf")}
    explained(target=target, scale=[0, float("-inf")], odd=float("nan"))
    data = json.loads(embedded(gallery.write(Path("maps"))), parse_constant=pytest.fail)
    assert only(data)["targets"] == {"0": [0, None, None, None]}
    assert only(data)["scales"] == [[0, None]]


@pytest.mark.parametrize("key", ["image", "source", "outputs", "targets", "error", "time", "status", "sha256"])
@pytest.mark.parametrize("value", [None, 3, "", "\0", "\ud800", [], [[]], {}, ["../x.png"], float("inf")])
def test_a_damaged_line_never_stops_the_page(key: str, value: object, here: Path) -> None:
    explained("a.jpg")
    explained("b.jpg")
    lines = Path("maps/manifest.jsonl").read_text().splitlines()
    Path("maps/manifest.jsonl").write_text("\n".join([lines[0], json.dumps({**json.loads(lines[1]), key: value})]))
    page = gallery.write(Path("maps"))
    assert "a.jpg" in [image["name"] for image in json.loads(embedded(page))["images"]]


@pytest.mark.parametrize("key", ["mode", "style", "target", "scale", "model", "image"])
@pytest.mark.parametrize("value", [None, 3, "odd", [], {}, [["x"]], {"index": {}, "label": 3}])
def test_a_damaged_picture_never_stops_the_page(key: str, value: object, here: Path) -> None:
    explained("a.jpg")
    explained("b.jpg", over={key: value})
    assert len(json.loads(embedded(gallery.write(Path("maps"))))["images"]) == 2


# ---- where the images are


def test_images_are_linked_relative_to_the_page(here: Path) -> None:
    explained("deep/a.jpg")
    data = collected()
    assert source_of(data, only(data)) == "../photos/deep/a.jpg"
    assert "gone" not in only(data)


def test_an_image_that_changed_or_went_away_is_not_linked(here: Path) -> None:
    explained()
    photo(Path("photos/a.jpg"), (0, 99, 0))
    future = Path("maps/manifest.jsonl").stat().st_mtime + 10
    os.utime("photos/a.jpg", (future, future))
    assert only(collected())["gone"] == "changed"
    Path("photos/a.jpg").unlink()
    assert only(collected())["gone"] == "gone"


def test_a_younger_copy_of_the_same_bytes_is_the_same_image(here: Path) -> None:
    explained()
    future = Path("maps/manifest.jsonl").stat().st_mtime + 10
    os.utime("photos/a.jpg", (future, future))
    assert "gone" not in only(collected())


def test_a_folder_moved_together_with_its_images_still_finds_them(here: Path) -> None:
    (here / "old").mkdir()
    os.chdir("old")
    explained()
    os.chdir("..")
    os.rename("old", "new")
    data = collected("new/maps")
    assert source_of(data, only(data)) == "../photos/a.jpg"
    photo(Path("new/photos/a.jpg"), (0, 0, 9))
    assert only(collected("new/maps"))["gone"] == "gone"


def test_a_failed_image_is_never_loaded(here: Path) -> None:
    log(
        Path("maps"),
        photo(Path("photos/bomb.png")),
        status="failed",
        error={"kind": "too-large", "message": "m"},
    )
    data = collected()
    assert only(data)["gone"] == "failed"
    assert data["folders"][0][1] == ""


def test_a_zero_map_keeps_its_image_and_its_other_pictures(here: Path) -> None:
    source = photo(Path("photos/a.jpg"))
    error = {"kind": "zero", "message": "deconv: zero everywhere"}
    log(Path("maps"), source, [draw(Path("maps"), source, "a.jpg", "guided")], "zero", error=error)
    log(Path("maps"), photo(Path("photos/b.jpg")), (), "nonfinite", error=error)
    first, second = collected()["images"]
    assert (first["status"], second["status"]) == ("zero", "nonfinite")
    assert "set" in first and "set" not in second
    assert "gone" not in first and "gone" not in second


# ---- the page as a file

HOSTILE = [
    "a#b?c%41&d.jpg",
    "a b\nc\t.jpg",
    "</script><script>hacked=1</script>.jpg".replace("/", "\u2215"),
    '"><img src=x onerror=hacked=1>.jpg',
    "\u65e5\u672c \u202egpj.jpg",
    os.fsdecode(b"caf\xe9\xff.jpg"),
    "\\xff.jpg",
    "javascript:hacked=1.jpg",
    "!--<!--.jpg",
]
HOSTILE_LABEL = "</script><img src=x onerror=hacked=1>\u2028&amp;"


@pytest.fixture
def hostile(here: Path) -> Path:
    for name in HOSTILE:
        target = {"index": 1, "label": HOSTILE_LABEL, "rank": 0, "score": 1.5, "output": 0.5}
        explained(name, target=target, signature=HOSTILE_LABEL)
    error = {"kind": "<b>", "message": "</script><script>hacked=1</script>"}
    log(Path("maps"), photo(Path("photos/failed.jpg")), status="failed", error=error)
    return gallery.write(Path("maps"))


def embedded(page: Path) -> str:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("ascii"), re.S)
    return data


def test_names_and_labels_stay_text(hostile: Path) -> None:
    text = hostile.read_text("ascii")
    assert text.lower().count("<script") == text.lower().count("</script") == 2
    assert not re.search("[<>&]", embedded(hostile))
    data = json.loads(embedded(hostile))
    assert data["classes"] == [[1, HOSTILE_LABEL]]


def test_addresses_lead_to_the_files_whatever_their_names(hostile: Path) -> None:
    data = json.loads(embedded(hostile))
    linked = [image for image in data["images"] if "set" in image]
    assert len(linked) == len(HOSTILE)
    for image in linked:
        for address in (source_of(data, image), image.get("url", image["name"]) + ".guided.png"):
            assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", address)
            assert os.path.isfile(os.path.join(b"maps", unquote_to_bytes(address)))


def test_the_policy_allows_this_style_and_this_script_only(here: Path) -> None:
    explained()
    text = gallery.write(Path("maps")).read_text("ascii")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:; ")
    for kind in ("style", "script"):
        (part,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|\bon[a-z]+=|innerHTML|\beval\b|document\.write", outside)


def test_two_pages_differ_only_in_their_time(here: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        explained(name, ("guided", "deconv"))
    texts = [re.sub(r'"made":"[^"]+"', "", gallery.write(Path("maps")).read_text("ascii")) for _ in range(2)]
    assert texts[0] == texts[1]


def test_the_page_says_where_it_comes_from(here: Path) -> None:
    explained("a.jpg")
    explained("b.jpg", model="34" * 32, preprocess="torch")
    runs = collected()["runs"]
    assert [(run["pictures"], run["facts"]["model"], run["facts"]["preprocess"]) for run in runs] == [
        (1, MODEL, "unit"),
        (1, "34" * 32, "torch"),
    ]
    assert not {"target", "image", "digest", "scale"} & runs[0]["facts"].keys()


def test_an_index_of_someone_else_is_left_alone(here: Path) -> None:
    explained()
    Path("maps/index.html").write_text("<title>my site</title>")
    with pytest.raises(OutputError, match=r"index\.html: is not a gallery"):
        gallery.write(Path("maps"))
    assert Path("maps/index.html").read_text() == "<title>my site</title>"
    Path("maps/index.html").unlink()
    Path("maps/index.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        gallery.write(Path("maps"))


def test_a_run_that_sweeps_meanwhile_does_no_harm(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained()
    replace, swept = os.replace, []

    def sweep_first(source, target) -> None:
        if not swept:
            swept.append(sweep("maps"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", sweep_first)
    assert gallery.write(Path("maps")).is_file()
    assert swept == [1]


def test_a_file_is_no_output_folder(here: Path) -> None:
    Path("file").write_text("x")
    with pytest.raises(UsageError, match="file: is not a folder"):
        gallery.write(Path("file"))


def test_where_no_run_has_written_is_a_usage_error(here: Path) -> None:
    for path in ("photos", "nowhere"):
        with pytest.raises(UsageError, match="no run has written there"):
            gallery.write(Path(path))
    Path("maps").mkdir()
    os.mkfifo("maps/manifest.jsonl")
    with pytest.raises(UsageError, match="not a regular file"):
        gallery.write(Path("maps"))


def test_the_command_writes_the_page_and_says_nothing(here: Path) -> None:
    explained()
    run = CliRunner().invoke(command, ["maps"], standalone_mode=False)
    assert (run.return_value, run.output) == (0, "")
    assert Path("maps/index.html").is_file()
    assert not [name for name in os.listdir("maps") if name.startswith(".gradviz-")]


def test_a_folder_without_images_makes_an_empty_page(here: Path) -> None:
    Path("maps").mkdir()
    Path("maps/manifest.jsonl").touch()
    assert json.loads(embedded(gallery.write(Path("maps"))))["images"] == []


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_text_stands_out_from_what_is_behind_it_in_both_colours() -> None:
    css = (Path(gallery.__file__).parent / "page.css").read_text()
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", css))
    colours = {name: pair.split(", ") for name, pair in pairs.items()}
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    grounds = {"text": ["back", "raised", "well", "bad-back"], "soft": ["back", "raised", "well", "bad-back"]}
    grounds |= {"bad": ["back", "raised", "bad-back"], "accent": ["back", "raised"], "on-accent": ["accent"]}
    for text, behind in grounds.items():
        for ground in behind:
            for theme in (0, 1):
                assert contrast(colours[text][theme], colours[ground][theme]) >= 4.5, (text, ground, theme)
    for theme in (0, 1):
        assert contrast(colours["edge"][theme], colours["back"][theme]) >= 3


# ---- the page in a browser

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


class Browser:
    """One Chromium; a page at a time, and what went wrong on it."""

    def __init__(self, profile: Path):
        from selenium import webdriver
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
        self.keys, self._css, self._wait = Keys, By.CSS_SELECTOR, WebDriverWait

    def open(self, page: Path, size: tuple[int, int] = WIDE, dark: bool = False) -> None:
        self.driver.get("about:blank")
        self.errors(), self.requests()  # of what was open before
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(page.absolute().as_uri())

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
        self.driver.switch_to.active_element.send_keys(*keys)

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
        picture = Image.open(BytesIO(element.screenshot_as_png)).convert("RGB")
        return picture.getpixel((int(picture.width * x), int(picture.height * y)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    missing = missing_for_browser()
    if missing:
        reason = f"THE GALLERY WAS NOT TRIED IN A BROWSER: install {', '.join(missing)}"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def page(here: Path) -> Path:
    """Six images: two modes, two styles and a panel, two targets; one failed, one zero, one whose source is gone."""
    out = Path("maps")
    for i, name in enumerate(["a.jpg", "b.jpg", "deep/c.png", "d.jpg"]):
        source, outputs = photo(Path("photos") / name), []
        for place, spec in enumerate(("", "top2")):
            index = (i + place) % 3
            target = {
                "index": index,
                "label": LABELS[index],
                "rank": place,
                "score": 20 - i - place,
                "output": 0.9 - i / 10,
            }
            for mode in ("backprop", "guided"):
                for style in ("heatmap", "overlay"):
                    outputs.append(draw(out, source, name, mode, style, spec, target=target))
            outputs.append(draw(out, source, name, "", "panel", spec, target=target, scale=None))
        log(out, source, outputs)
    Path("photos/d.jpg").unlink()
    log(
        out,
        photo(Path("photos/y.jpg")),
        status="failed",
        error={"kind": "truncated", "message": "ends too early"},
    )
    log(out, photo(Path("photos/z.jpg")), status="zero", error={"kind": "zero", "message": "guided: all zero"})
    return gallery.write(out)


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


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


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
    browser.open(Path("plain.html"))
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
