"""A page that holds its pictures opens wherever it is sent."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gallery.browser import Browser, serving
from gallery.folders import collected, draw, embedded, explained, log, photo
from PIL import Image

from gradviz_cli import gallery
from gradviz_cli.cli.gallery import command
from gradviz_cli.errors import UsageError
from gradviz_cli.gallery.inside import Inside

PLACE = b"Alte Gasse 7"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A page alone in a folder: a JPEG that says where it was taken, a TIFF, a page of one, a large picture, a failure."""
    here = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        make_sent(here)
    shutil.rmtree(here / "maps")
    shutil.rmtree(here / "photos")
    yield here / "mail/page.html"


def make_sent(here: Path) -> None:
    out, rng = Path("maps"), np.random.default_rng(0)
    Path("photos").mkdir()
    exif = Image.Exif()
    exif[0x010E] = PLACE.decode()
    Image.new("RGB", (640, 480), (200, 60, 40)).save("photos/a.jpg", exif=exif)
    explained("a.jpg", pixels=rng.integers(0, 256, (480, 640), np.uint8), colormap="inferno")
    explained("b.tif")
    green = Image.new("RGB", (40, 30), (1, 200, 1))
    Image.new("RGB", (40, 30)).save("photos/c.tif", save_all=True, append_images=[green])
    picture = draw(out, Path("photos/c.tif"), "c.tif#2", "guided")
    log(out, here / "photos/c.tif#2", [picture], page=2, image_sha256=None)
    log(out, photo(Path("photos/y.jpg")), status="failed", error={"kind": "truncated", "message": "ends too early"})
    Path("mail").mkdir()
    gallery.write(out, to=Path("mail/page.html"), pixels=320)


def copies(page: Path) -> list[bytes]:
    (found,) = re.findall(r'<script type="application/json" id="copies">(.*?)</script>', page.read_text("ascii"), re.S)
    return [base64.b64decode(copy) for copy in json.loads(found)]


def test_all_pictures_are_there_and_nothing_is_asked_for(browser: Browser, sent: Path) -> None:
    browser.open(sent)
    assert browser.cards()[:3] == ["y.jpg", "a.jpg", "b.tif"]
    browser.settle()
    assert browser.js("[...document.images].every((img) => img.naturalWidth > 0)")
    assert len(browser.all(".thumb img")) >= 4 and browser.texts(".absent") == []
    browser.one("[data-at='1']").click()
    browser.settle()
    assert browser.js("document.querySelector('#frame .map').naturalWidth") == 320
    assert browser.one("#blend").is_enabled()
    assert browser.all("#facts a") == []
    assert "reduced copies" in browser.one("#about").get_property("textContent")
    assert browser.errors() == []
    asked = browser.requests()
    assert [address for address in asked if not address.startswith(("data:", "about:"))] == [sent.absolute().as_uri()]


def test_it_opens_over_http_as_well(browser: Browser, sent: Path) -> None:
    with serving(sent.parent) as address:
        browser.open(f"{address}/page.html", at="image=a.jpg")
        browser.settle()
        assert browser.js("document.querySelector('#frame .map').naturalWidth") == 320
        assert browser.errors() == []
        asked = [each for each in browser.requests() if not each.startswith(("data:", "about:"))]
        assert asked == [f"{address}/page.html"]


def test_a_linked_page_is_served_with_its_folder(browser: Browser, here: Path) -> None:
    explained()
    gallery.write(Path("maps"))
    with serving(here) as address:
        browser.open(f"{address}/maps/")
        browser.settle()
        assert browser.js("[...document.images].map((img) => img.naturalWidth)") == [40, 40]
        assert browser.errors() == []


def test_only_pixels_of_the_images_go_out(sent: Path) -> None:
    text = sent.read_text("ascii")
    assert "img-src data:;" in text and "file:" not in text.split("</head>")[0].split("policy")[0]
    assert str(sent.parent.parent) not in text
    assert json.loads(embedded(sent))["root"] == ""
    found = copies(sent)
    assert not any(PLACE in copy for copy in found)
    pictures = [Image.open(io.BytesIO(copy)).convert("RGB") for copy in found]
    assert {picture.size for picture in pictures} == {(320, 240), (40, 30)}
    middles = [picture.getpixel((20, 15)) for picture in pictures]
    assert sum(middle == pytest.approx((1, 200, 1), abs=8) for middle in middles) == 1  # the second page, not the first


def test_a_copy_looks_like_the_image_and_what_is_small_keeps_its_size(here: Path) -> None:
    explained("a.jpg", size=(900, 600))
    page = gallery.write(Path("maps"), pixels=300)
    image, picture = copies(page)
    found = Image.open(io.BytesIO(image)).convert("RGB")
    assert found.size == (300, 200) and found.getpixel((150, 100)) == pytest.approx((200, 60, 40), abs=6)
    found = Image.open(io.BytesIO(picture)).convert("RGB")
    assert found.size == (40, 30) and found.getpixel((20, 15)) == pytest.approx((20, 40, 220), abs=6)


def test_what_cannot_be_read_is_left_out(browser: Browser, here: Path) -> None:
    explained()
    data = Path("maps/a.jpg.guided.png").read_bytes()
    Path("maps/a.jpg.guided.png").write_bytes(
        data.replace(b"IDAT", b"IDAT\xff\xff\xff", 1)
    )  # its text and end are whole
    page = gallery.write(Path("maps"), pixels=320)
    assert list(map(bool, copies(page))) == [True, False]
    browser.open(page)
    browser.settle()
    assert browser.texts(".absent") == ["Not drawn"]
    browser.check()


def test_a_page_that_no_browser_opens_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained()
    monkeypatch.setattr(gallery, "LARGEST", 1000)
    made = iter(["x" * 600, "x" * 600])
    monkeypatch.setattr(Inside, "copies", lambda inside: (next(made) for _ in range(9)))
    with pytest.raises(UsageError, match="--pixels"):
        gallery.write(Path("maps"), pixels=320)
    assert list(made) == [] and not Path("maps/index.html").exists()  # no third was asked for


def test_the_command_warns_of_a_page_too_large_for_mail(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained()
    monkeypatch.setattr(Inside, "copies", lambda inside: ("UklG" * 300 for _ in inside.wanted))
    for most, said in ((20 * 2**20, ""), (1000, "page.html has 0 MiB, more than most mail takes")):
        monkeypatch.setattr("gradviz_cli.cli.gallery.MAIL", most)
        run = CliRunner().invoke(command, ["maps", "--embed", "-o", "page.html"], standalone_mode=False)
        assert (run.return_value, run.stdout) == (0, "")
        assert said in run.stderr and bool(said) == bool(run.stderr)


def test_pictures_are_linked_from_wherever_the_page_is(here: Path) -> None:
    explained("deep/a b.jpg")
    data = json.loads(embedded(gallery.write(Path("maps"), to=Path("page.html"))))
    assert data["outs"] == [{"name": "maps", "base": "maps/", "models": []}]
    assert data["folders"] == [["photos/", "photos/"]]
    assert collected()["outs"][0]["base"] == ""
