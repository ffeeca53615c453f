"""The page as a file."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from children import as_nobody
from click.testing import CliRunner
from gallery.browser import contrast
from gallery.folders import HOSTILE, HOSTILE_LABEL, MODEL, collected, embedded, explained, source_of

from gradviz_cli import cli, gallery
from gradviz_cli.cli.gallery import command
from gradviz_cli.errors import ExitCode, OutputError, UsageError
from gradviz_cli.files.whole import sweep


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


def test_an_index_of_someone_else_is_found_before_anything_is_drawn(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def drawn(*arguments: object) -> None:
        raise AssertionError("a run has begun")

    for name in ("demo", "explain"):
        monkeypatch.setattr(importlib.import_module(f"gradviz_cli.cli.{name}"), "run", drawn)
    Path("site").mkdir()
    Path("site/index.html").write_text("<title>my site</title>")
    Path("a.jpg").write_bytes(b"")
    for arguments in (["demo", "site"], ["explain", "demo", "a.jpg", "-o", "site", "--gallery"]):
        assert cli.main([*arguments]) == ExitCode.OUTPUT
        assert "site/index.html: is not a gallery; move it away" in capfd.readouterr().err
    assert cli.main(["demo", "other"]) == ExitCode.BUG, "this one would have begun"


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


OURS = b'<!doctype html><meta name="generator" content="gradviz 0">'


def make_foreign(what: str, page: Path) -> None:
    other = page.with_name("other.html")
    other.write_bytes(OURS)
    if what == "empty":
        page.touch()
    elif what == "link":
        page.symlink_to("other.html")
    elif what == "dangling link":
        page.symlink_to("nowhere")
    elif what == "hard link":
        page.hardlink_to(other)
    elif what == "pipe":
        os.mkfifo(page)
    elif what == "huge":
        page.write_bytes(OURS)
        os.truncate(page, 2**31 + 1)
    else:
        page.write_bytes(b"x" * 4096 + OURS)


@pytest.mark.parametrize("what", ["empty", "link", "dangling link", "hard link", "pipe", "huge", "only quotes it"])
def test_an_index_that_may_be_someone_else_s_is_left_alone(here: Path, what: str) -> None:
    explained()
    page = Path("maps/index.html")
    make_foreign(what, page)
    before = page.lstat()
    with pytest.raises(OutputError, match=r"index\.html: .*; move it away"):
        gallery.write(Path("maps"))
    assert page.lstat() == before and Path("maps/other.html").read_bytes() == OURS
    assert not [name for name in os.listdir("maps") if name.startswith(".gradviz-")]


def test_an_index_that_cannot_be_read_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told is not what is not there."""
    with tempfile.TemporaryDirectory(prefix="gradviz-tests-") as folder:  # pytest's own are closed to others
        os.chmod(folder, 0o755)
        monkeypatch.chdir(folder)
        explained()
        page = Path(folder, "maps/index.html")
        page.write_text("somebody else's site")
        page.chmod(0)
        os.chmod("maps", 0o777)
        said = as_nobody(lambda: gallery.write(page.parent))
        assert "index.html: cannot be written: it cannot be read: Permission denied" in said
        assert page.read_text() == "somebody else's site"
        monkeypatch.undo()


def test_an_index_that_comes_while_the_page_is_made_is_left_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained()
    render = gallery.render

    def slowly(*given):
        Path("maps/index.html").write_text("somebody else's site")
        return render(*given)

    monkeypatch.setattr(gallery, "render", slowly)
    with pytest.raises(OutputError, match="is not a gallery"):
        gallery.write(Path("maps"))
    assert Path("maps/index.html").read_text() == "somebody else's site"


def test_a_run_that_sweeps_meanwhile_does_no_harm(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained()
    replace, swept = os.replace, []

    def sweep_first(source, target, **folders) -> None:
        if not swept:
            swept.append(sweep("maps"))
        replace(source, target, **folders)

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


def test_text_stands_out_from_what_is_behind_it_in_both_colours() -> None:
    css = (Path(gallery.__file__).parent / "web/page.css").read_text()
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


@pytest.mark.parametrize(
    ("manifest", "said", "remedy"),
    [
        (b"", "it tells of no image", "once more"),
        ("\ufeff{}\n".encode("utf-16-le"), "it is no manifest of gradviz", "give the folder"),
        (b'{"audio": "a.wav"}\n', "it is no manifest of gradviz", "give the folder"),
    ],
    ids=["empty", "another encoding", "another program's"],
)
def test_a_manifest_that_tells_of_no_image_makes_no_page(here: Path, manifest: bytes, said: str, remedy: str) -> None:
    explained()
    page = gallery.write(Path("maps"))
    before = page.read_bytes()
    Path("maps/manifest.jsonl").write_bytes(manifest)
    with pytest.raises(gallery.NothingTold, match=f"maps/manifest.jsonl: {said}") as caught:
        gallery.write(Path("maps"))
    assert page.read_bytes() == before and remedy in caught.value.remedy
