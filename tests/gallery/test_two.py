"""Two output folders side by side, and images whose folder says what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from gallery.browser import PHONE, Browser
from gallery.folders import collected, draw, embedded, explained, log, photo, said

from gradviz_cli import gallery
from gradviz_cli.cli.gallery import command
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.gallery.inside import Inside


@pytest.fixture
def two(here: Path) -> Path:
    """Two models on three images: on b.jpg they differ, c.jpg the second could not explain, d.jpg it alone has."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        explained(name, ("backprop", "guided"), target=said("cat", score=3.0, output=0.9))
    explained("a.jpg", out="more", target=said("cat", score=5.0, output=0.99), model="34" * 32)
    explained("b.jpg", out="more", target=said("dog", score=4.0, output=0.8), model="34" * 32)
    error = {"kind": "timeout", "message": "took too long"}
    log(Path("more"), Path("photos/c.jpg"), status="failed", error=error)
    explained("d.jpg", out="more", target=said("fox"), model="34" * 32)
    return gallery.write(Path("maps"), Path("more"))


def test_each_image_stands_once_with_what_both_have_of_it(browser: Browser, two: Path) -> None:
    assert two == Path("maps/index.html")
    browser.open(two)
    assert browser.cards() == ["c.jpg", "a.jpg", "b.jpg", "d.jpg"]  # a failure in either comes first
    assert browser.one("#count").text == "4 images, 1 failed"
    browser.choose("mode", "guided")
    browser.settle()
    shown = "[...document.querySelectorAll('[data-at=\"2\"] img')].map((img) => img.getAttribute('src'))"
    assert browser.js(shown) == ["../photos/b.jpg", "b.jpg.guided.png", "../more/b.jpg.guided.png"]
    assert browser.texts("[data-at='2'] .label") == ["maps: cat", "more: dog"]
    assert browser.texts("[data-at='0'] .label") == ["maps: cat", "more: Failed"]
    assert browser.texts("[data-at='3'] .label") == ["maps: Not in this folder", "more: fox"]
    assert browser.texts("#runs span")[0].startswith("maps: run of ")
    browser.check()


def test_one_of_them_alone_and_those_that_differ_first(browser: Browser, two: Path) -> None:
    browser.open(two)
    browser.select("#sort", "differ")
    browser.one("#first").click()
    assert browser.cards() == ["b.jpg", "a.jpg", "c.jpg", "d.jpg"]  # then those that agree, then those of one alone
    browser.choose("out", "more")
    assert "dog" in browser.texts(".card .label")
    assert browser.at() == "folder=more&sort=differ&mixed=yes"
    browser.driver.refresh()
    assert "more: dog" not in browser.texts(".card .label") and "dog" in browser.texts(".card .label")
    browser.check()


def test_the_lightbox_shows_both_in_step(browser: Browser, two: Path) -> None:
    browser.open(two, at="mode=guided&image=b.jpg")
    browser.settle()
    assert browser.one("#box-title").text == "cat / dog"
    assert browser.texts(".half p") == ["maps cat", "more dog"]
    sources = "[...document.querySelectorAll('#frame .map')].map((img) => img.getAttribute('src'))"
    assert browser.js(sources) == ["b.jpg.guided.png", "../more/b.jpg.guided.png"]
    assert browser.texts("#figures b") == ["3", "90.0 %", "1", "4", "80.0 %", "1"]
    browser.one("#blend").send_keys(browser.keys.END)
    assert browser.js("[...document.querySelectorAll('#frame .map')].map((img) => img.style.opacity)") == ["1", "1"]
    browser.press("n")
    assert browser.one("#box-title").text == "Not in this folder / fox"
    browser.open(two, PHONE, at="image=b.jpg")
    browser.settle()
    first, second = (half.rect for half in browser.all(".half"))
    assert second["y"] > first["y"] and second["x"] == first["x"]
    browser.check()


def test_images_are_paired_by_their_bytes_and_else_by_their_name(here: Path) -> None:
    photo(Path("photos/a.jpg"), (1, 2, 3))
    photo(Path("photos/renamed.jpg"), (1, 2, 3))
    photo(Path("others/a.jpg"), (9, 9, 9))
    explained("a.jpg")
    explained("renamed.jpg", out="more")
    log(Path("more"), Path("others/a.jpg"), [draw(Path("more"), Path("others/a.jpg"), "a.jpg", "guided")])
    other, same = collected("maps", "more")["images"]
    assert (same["name"], same["status"], same["other"]["at"]) == ("a.jpg", "written", "renamed.jpg")
    assert (other["name"], other["status"], other["other"]["status"]) == ("a.jpg", "elsewhere", "written")


def test_a_page_of_both_holds_the_pictures_of_both(here: Path) -> None:
    explained()
    explained(out="more", modes=("backprop", "guided"))
    inside = Inside(64)
    (image,) = gallery.collect([Path("maps"), Path("more")], inside=inside)["images"]
    held = [Path(one.path).as_posix() for one in inside.wanted]
    assert [held[place] for place in image["inside"]] == ["maps/a.jpg.guided.png"]
    assert [held[place] for place in image["other"]["inside"]] == ["more/a.jpg.backprop.png", "more/a.jpg.guided.png"]
    assert held[image["input"]] == str(here / "photos/a.jpg")


def test_folders_of_one_name_are_told_apart(here: Path) -> None:
    explained(out="one/maps")
    explained(out="two/maps")
    data = collected("one/maps", "two/maps")
    assert [out["name"] for out in data["outs"]] == ["one/maps", "two/maps"]
    assert [out["base"] for out in data["outs"]] == ["", "../../two/maps/"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["maps", "more", "third"], "third: a page shows two folders at most"),
        (["maps", "./maps"], "maps: is named twice"),
        (["maps", "--pixels", "300"], "--pixels is of the copies"),
        (["maps", "-o", "page.png"], "-o page.png: is no name of a page"),
        (["maps", "nowhere"], "nowhere: no run has written there"),
    ],
)
def test_what_makes_no_page_is_a_usage_error(here: Path, arguments: list[str], why: str) -> None:
    explained()
    with pytest.raises(UsageError, match=why):
        CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
    assert not Path("maps/index.html").exists() and not Path("page.png").exists()


def test_a_file_of_someone_else_is_left_alone_wherever_it_is(here: Path) -> None:
    explained()
    Path("site.html").write_text("mine")
    with pytest.raises(OutputError, match=r"site\.html: is not a gallery; move it away, or name another file"):
        gallery.write(Path("maps"), to=Path("site.html"))
    assert Path("site.html").read_text() == "mine"
    with pytest.raises(OutputError, match="there is no such folder"):
        gallery.write(Path("maps"), to=Path("nowhere/page.html"))


# ---- what an image is, by its folder


@pytest.fixture
def judged(here: Path) -> Path:
    for name, label, output in [
        ("cat/1.jpg", "cat", 0.9), ("cat/2.jpg", "dog", 0.6), ("dog/3.jpg", "cat", 0.95), ("odd/4.jpg", "cat", 0.5),
    ]:  # fmt: skip
        explained(name, target=said(label, score=9 * output, output=output))
    return gallery.write(Path("maps"))


def test_wrong_ones_come_first_the_surest_of_them_before_all(browser: Browser, judged: Path) -> None:
    browser.open(judged)
    assert browser.one("#count").text == "4 images, 2 wrong"
    browser.select("#sort", "wrong")
    assert browser.cards() == ["dog/3.jpg", "cat/2.jpg", "cat/1.jpg", "odd/4.jpg"]
    assert browser.texts(".card .label") == ["cat \u2260 dog", "dog \u2260 cat", "cat", "cat"]
    said_aloud = browser.js("document.querySelector('.card').getAttribute('aria-label')")
    assert said_aloud == "dog/3.jpg: cat, score 8.55, 95.0\u00a0%, wrong: its folder says dog"
    browser.choose("verdict", "Wrong")
    assert browser.cards() == ["dog/3.jpg", "cat/2.jpg"]
    assert browser.at() == "verdict=wrong&sort=wrong"
    browser.one(".card").click()
    assert browser.one("#box-truth").text == "\u2260 Wrong: its folder says dog"
    browser.press(browser.keys.ESCAPE)
    assert "No label is the name of odd." in browser.one("#about").text
    browser.check()


def test_folders_are_judged_only_by_labels(here: Path) -> None:
    explained("cat/1.jpg", target=said("dog"))
    assert "truth" not in collected()["images"][0]  # who says that there are cats?
    explained("dog/2.jpg", target=said("dog"))
    cat, dog = collected()["images"]
    assert "right" not in cat and dog["right"] is True and dog["truth"] == "dog"


def test_labels_that_no_image_got_are_known_from_the_model(here: Path) -> None:
    """Else a class that is always missed would be the one that nobody sees."""
    Path("net/assets.extra").mkdir(parents=True)
    Path("net/saved_model.pb").touch()
    Path("net/assets.extra/labels.txt").write_text("dog\ncat\n")
    explained("cat/1.jpg", target=said("dog"))
    explained("dog/2.jpg", target=said("dog"))
    lines = [json.loads(line) for line in Path("maps/manifest.jsonl").read_text().splitlines()]
    lines[0]["model"] = {"typed": str(here / "net.keras"), "path": str(here / "net"), "fingerprint": "12" * 32}
    Path("maps/manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = collected()
    assert [image["right"] for image in data["images"]] == [False, True]
    assert data["outs"][0]["models"] == ["net.keras"] and data["runs"][0]["facts"]["name"] == "net.keras"


def test_the_rank_of_the_true_class_judges_as_well(here: Path) -> None:
    explained("cat/1.jpg", target=said("cat", rank=3), spec="parent")
    data = collected()
    assert data["targets"] == ["parent"] and data["images"][0]["right"] is False
    assert json.loads(embedded(gallery.write(Path("maps"))))["images"][0]["truth"] == "cat"
