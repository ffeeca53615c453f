"""From arguments to images: order, what is passed over, names that would meet, parts for several machines."""

from __future__ import annotations

import codecs
import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.errors import TimeUp, UsageError
from gradviz_cli.images import listing
from gradviz_cli.images.aside import LeftOut
from gradviz_cli.images.listing import Inputs, names_in
from gradviz_cli.plan.plan import Walk


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def inputs(*paths: str, out: str = "out", **more) -> Inputs:
    walk = Walk(**{field.name: more.pop(field.name) for field in fields(Walk) if field.name in more})
    return Inputs(tuple(map(Path, paths)), Path(out), walk=walk, **more)


def rels(given: Inputs) -> list[str]:
    return [job.rel for job in given.jobs()]


def test_a_folder_is_walked_in_name_order(here: Path) -> None:
    made("in/b.png", "in/a/2.png", "in/a/10.png", "in/a.png", "in/Z.png", "in/c/d/e.png")
    found = list(inputs("in").jobs())
    assert [job.rel for job in found] == ["Z.png", "a/10.png", "a/2.png", "a.png", "b.png", "c/d/e.png"]
    assert all(job.path == Path("in") / job.rel and job.trouble is None for job in found)
    assert rels(inputs("in")) == rels(inputs("in"))  # as often as needed


def test_hidden_ones_and_linked_folders_are_passed_over(here: Path) -> None:
    made("in/a.png", "in/.b.png", "in/.git/c.png", "elsewhere/d.png")
    Path("in/link.png").symlink_to(here / "elsewhere" / "d.png")
    Path("in/folder").symlink_to(here / "elsewhere")
    Path("in/circle").symlink_to(here / "in")
    Path("in/broken.png").symlink_to("nowhere")
    assert rels(inputs("in")) == ["a.png", "broken.png", "link.png"]


def test_a_file_that_is_named_stands_for_itself(here: Path) -> None:
    made("in/.hidden.png", "in/notes.txt")
    Path("link").symlink_to("in")
    assert rels(inputs("in/.hidden.png", "in/notes.txt")) == [".hidden.png", "notes.txt"]
    made("in/a.png")
    assert rels(inputs("link")) == ["a.png"]  # a link to a folder that is named is followed


def test_outputs_are_no_inputs(here: Path) -> None:
    made("in/a.png", "in/maps/a.png.guided.png", "in/maps/deep/b.png")
    assert rels(inputs("in", out="in/maps")) == ["a.png"]
    Path("by another name").symlink_to("in/maps")
    assert rels(inputs("in", out="by another name")) == ["a.png"]
    for folder in ("in/maps", "in/maps/deep", "by another name"):
        given = inputs(folder, out="in/maps")
        assert rels(given) == []
        assert "is not searched, as it is --out" in given.why_none()
    assert [inputs("in/maps/deep", out="elsewhere", shard=(one, 9)).any_elsewhere() for one in (1, 9)] == [True, True]
    assert not inputs("in/maps/deep", out="elsewhere").any_elsewhere()
    Path("empty").mkdir()
    assert inputs("empty").why_none() == "no image was found in empty"


def test_a_folder_that_cannot_be_listed_is_one_trouble(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("in/a.png", "in/locked/b.png")
    real = os.scandir

    def refused(folder: str) -> Iterator[os.DirEntry]:
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", refused)
    good, bad = inputs("in").jobs()
    assert (good.rel, good.trouble) == ("a.png", None)
    assert (bad.rel, bad.trouble) == ("locked", "the folder cannot be listed: Permission denied")


def test_what_a_listing_calls_a_file_is_not_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("in/a.d/b.png", "in/a.png", "in/a/c.png", "in/note.txt", "in/z.png")
    Path("in/link.png").symlink_to("a.png")
    real, looked = os.lstat, []

    def lstat(path: str) -> os.stat_result:
        looked.append(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert rels(inputs("in")) == ["a/c.png", "a.d/b.png", "a.png", "link.png", "z.png"]
    assert {path for path in looked if path != "in"} == {"in/a", "in/a.d", "in/link.png"}


def test_names_from_a_list_follow_the_arguments(here: Path) -> None:
    made("in/a.png", "b.png", "c/d.png")
    listed = lambda: iter([Path("b.png"), Path("c"), Path("gone.png")])  # noqa: E731
    given = inputs("in", listed=listed)
    assert rels(given) == rels(given) == ["a.png", "b.png", "d.png", "gone.png"]


# ---- what lies in folders of photos


def found(given: Inputs) -> tuple[list[str], str]:
    """Names of images, and what was said of the others."""
    left = LeftOut()
    return [job.rel for job in given.jobs(left)], str(left)


def test_only_what_is_named_as_an_image(here: Path) -> None:
    made(
        *(f"in/{name}" for name in ("a.JPG", "b.jpeg", "c.tif", "Thumbs.db", "a.xmp", "notes", "a.jpg.json", "b.jpg~"))
    )
    made("in/d.NEF", "in/e.heic", "in/f.npy", "in/g.png/h.webp")
    names, said = found(inputs("in"))
    assert names == ["a.JPG", "b.jpeg", "c.tif", "g.png/h.webp"]
    assert said == (
        "5 files are not named as images (.db, .json, .xmp, .jpg~, ...), "
        "1 raw photo (.nef), 1 HEIC photo (.heic), 1 array (.npy)"
    )
    Path("others").mkdir()
    made("others/notes", "others/a.npz", "others/.b.png", "others/b.pdf")
    Path("others/b.pdf").write_bytes(b"%PDF-1.7")
    Path("others/notes").write_bytes(b"\xff\xd8\xff\xe0")
    np.savez("others/a.npz", np.zeros(1))
    Path("others/link").symlink_to(here / "in")
    assert inputs("others").why_none() == (
        "no image was found: 1 hidden name, 1 array (.npz), 2 files are not named as images (.pdf, no ending), "
        "1 link to a folder; name what you mean, or: --include '*.npz' for arrays, --include '*', --follow-links"
    )


def test_no_pattern_is_named_that_would_find_texts(here: Path) -> None:
    made("in/a.html", "in/b.jsonl", "in/c.pdf", "in/d.1", "in/e.2")
    said = "no image was found: 5 files are not named as images (.html, .jsonl, .pdf, .1, ...)"
    assert inputs("in").why_none() == said
    Path("in/e.2").write_bytes(b"GIF89a")
    assert inputs("in").why_none() == f"{said}; name what you mean, or: --include '*.2'"


def test_an_ending_alone_is_no_pattern(here: Path) -> None:
    made("in/a.jpg")
    for word in ("jpg", ".JPG"):
        said = inputs("in", include=(word,)).why_none()
        assert said.lower().endswith("; did you mean --include '*.jpg'?")
    assert "did you mean" not in inputs("in", include=("*.png", "in")).why_none()


def test_folders_of_systems_and_programs(here: Path) -> None:
    folders = [
        "@eaDir",
        "#recycle",
        "@Recycle",
        "$recycle.bin/S-1",
        "System Volume Information",
        "__MACOSX",
        "lost+found",
    ]
    folders += [
        ".Trash-1000",
        ".thumbnails",
        ".picasaoriginals",
        ".AppleDouble",
        "_gsdata_",
        "Catalog Previews.lrdata/0/0A",
    ]
    made(*(f"in/{folder}/a.png" for folder in folders), "in/sub/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "in/sub/a.png")
    made("in/My.photoslibrary/originals/0/b.jpg", "in/My.photoslibrary/resources/derivatives/b.jpg")
    names, said = found(inputs("in"))
    assert names == ["My.photoslibrary/originals/0/b.jpg", "sub/a.png"]
    assert "11 system folders" in said and "4 hidden names" in said
    assert rels(inputs("in/@eaDir", "in/My.photoslibrary")) == ["a.png", "originals/0/b.jpg"]  # named, so it is meant


def drawn(name: str, chunk: bytes = b"tEXt") -> None:
    """A PNG as far as it is told from a photo."""
    made(name)
    Path(name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + 17 * b"\0" + b"\0\0\0\x09" + chunk + b"gradviz\0{}")


LINE = '{"image": "a.png", "status": "written", "outputs": ["a.png.guided.png"]}\n'


@pytest.mark.parametrize(
    ("file", "text"),
    [("manifest.jsonl", LINE), ("manifest.jsonl", f'{{"im\n{LINE}'), (".gradviz.lock", ""),
     (".gradviz.lock", "process 7 on moon since today\n")],
)  # fmt: skip
def test_other_outputs_of_gradviz(here: Path, file: str, text: str) -> None:
    """Photos beside them are still photos: somebody's OUT was the folder of a photo."""
    made("in/a.png", f"in/maps/{file}", "in/maps/sub/b.png.guided.npy", "in/maps/sub/photo.png")
    Path("in/maps", file).write_text(text)
    drawn("in/maps/a.png.guided.png")
    drawn("in/maps/sub/b.png.panel.png", b"iTXt")
    names, said = found(inputs("in"))
    assert names == ["a.png", "maps/sub/photo.png"] and "1 folder is an output of gradviz" in said
    assert rels(inputs("in", include=("*.npy", "*.png"))) == names
    assert rels(inputs("in/maps/sub")) == ["photo.png"]  # one above is an output
    Path("in/maps/sub/photo.png").unlink()
    assert "1 folder is an output of gradviz" in inputs("in/maps").why_none()


def test_copies_of_heatmaps_among_photos(here: Path) -> None:
    """`cp heatmaps/*.png photos/best`: what they say of themselves counts, as there is no manifest."""
    made("in/a.jpg", "in/a.jpg.png", "in/b.jpg.guided.png", "in/b.jpg.guided.npy")
    drawn("in/best/a.jpg.guided.png")
    drawn("in/best/a.jpg.3.panel.png", b"iTXt")
    for name in ("check.png", "figure.png"):
        drawn(f"in/best/{name}")
        made(f"in/{name}")  # of somebody else
    names, said = found(inputs("in"))
    assert names == ["a.jpg", "a.jpg.png", "b.jpg.guided.png", "check.png", "figure.png"]
    assert "4 pictures that gradviz wrote" in said
    assert rels(inputs("in", include=("*.npy",))) == ["b.jpg.guided.npy"]
    assert rels(inputs("in/best/a.jpg.guided.png")) == ["a.jpg.guided.png"]  # named, so it is meant


@pytest.mark.parametrize(
    ("file", "text"),
    [("manifest.jsonl", '{"image": "a.png"}\n'), ("manifest.jsonl", "[1]\n"), ("manifest.jsonl", ""),
     ("manifest.jsonl", LINE.strip()), (".gradviz.lock", "mine"), ("manifest.jsonl", "[" * 70_000)],
)  # fmt: skip
def test_a_manifest_of_somebody_else(here: Path, file: str, text: str) -> None:
    made("in/a.png", f"in/maps/{file}")
    Path("in/maps", file).write_text(text)
    drawn("in/maps/b.png")
    assert found(inputs("in"))[0] == ["a.png", "maps/b.png"]


def test_links_to_folders_are_said_or_followed(here: Path) -> None:
    made("in/a/1.png", "out of the way/2.png", "in/.store/3.png")
    Path("in/b").symlink_to(here / "out of the way")
    Path("in/circle").symlink_to(here / "in")
    Path("in/inner").symlink_to("a")
    Path("in/kept").symlink_to(".store")
    Path("out of the way/back").symlink_to(here / "in")
    Path("in/z").symlink_to(here / "out of the way")
    names, said = found(inputs("in"))
    assert names == ["a/1.png"] and "5 links to folders" in said
    names, said = found(inputs("in", follow_links=True))
    assert names == ["a/1.png", "b/2.png", "kept/3.png"]  # each folder once, by its own name where it has one
    assert "4 links to folders that are searched anyway" in said
    assert rels(inputs("in", follow_links=True, out="out of the way")) == ["a/1.png", "kept/3.png"]


@pytest.mark.parametrize(
    ("walk", "want"),
    [
        ({"include": ("*.jpg",)}, ["IMG_1.JPG", "old/IMG_2.jpg"]),
        ({"include": ("old",)}, ["old/IMG_2.jpg", "old/c.png"]),
        ({"include": ("IMG_*",)}, ["IMG_1.JPG", "old/IMG_2.jpg"]),  # a sidecar is still none
        ({"include": ("*.dat", "scan*")}, ["numbers.dat", "scan0001"]),
        ({"include": ("*",)}, ["IMG_1.JPG", "c.gif", "old/IMG_2.jpg", "old/c.png", "scan0001"]),
        ({"exclude": ("old",)}, ["IMG_1.JPG", "c.gif"]),
        ({"exclude": ("old/*.png", "*.gif")}, ["IMG_1.JPG", "old/IMG_2.jpg"]),
        ({"include": ("*.jpg",), "exclude": ("in/old/",)}, ["IMG_1.JPG"]),
    ],
    ids=str,
)
def test_include_and_exclude(here: Path, walk: dict, want: list[str]) -> None:
    made(
        "in/IMG_1.JPG", "in/IMG_1.xmp", "in/c.gif", "in/old/IMG_2.jpg", "in/old/c.png", "in/numbers.dat", "in/scan0001"
    )
    assert rels(inputs("in", **walk)) == want


def test_exclude_holds_for_what_is_named_too(here: Path) -> None:
    """`photos/*` is what a shell makes of it."""
    made("in/a.png", "in/notes.txt")
    names, said = found(inputs("in/a.png", "in/notes.txt", exclude=("*.txt",)))
    assert names == ["a.png"] and said == "1 is left out by --exclude"


@pytest.mark.parametrize("root", [None, "in"])
@pytest.mark.parametrize(
    ("pattern", "names"),
    [("a", "xy"), ("a/", "xy"), ("A*", "xy"), ("in/a", "xy"), ("in/a/", "xy"), ("in/**/x.png", "x"), ("b/x.png", "x")]
    + [("in", {None: "xyz", "in": ""}), ("/a", {None: "", "in": "xy"}), ("/in/a", {None: "xy", "in": ""})],
)  # fmt: skip
def test_a_folder_of_what_is_named_goes_as_a_whole(here: Path, root: str | None, pattern: str, names) -> None:
    """In a list, by any name; a leading slash is meant from --root, or from the working folder."""
    made("in/a/b/x.png", "in/a/y.png", "in/c/z.png")
    gone = names if isinstance(names, str) else names[root]
    for top in (Path("in"), here / "in"):
        listed = lambda top=top: iter([top / "a/b/x.png", top / "a/y.png", top / "c/z.png"])  # noqa: E731
        left = LeftOut()
        kept = [job.path.stem for job in inputs(listed=listed, root=root, exclude=(pattern,)).jobs(left)]
        assert "".join(kept) == "".join(name for name in "xyz" if name not in gone)
        assert str(left).partition(" ")[0] == (str(len(gone)) if gone else "")


def test_a_named_folder_that_is_excluded(here: Path) -> None:
    made("in/a/x.png", "in/b/y.png", "in/c.png")
    shells = ("in/a", "in/b", "in/c.png")
    for pattern in ("a", "a/", "in/a", "/in/a", "/a"):
        assert found(inputs(*shells, exclude=(pattern,))) == (["y.png", "c.png"], "1 is left out by --exclude")
    assert rels(inputs("in/a", "in/b/", exclude=("in",))) == []
    assert "1 is left out by --exclude" in inputs("in/a", exclude=("a",)).why_none()


def test_where_a_folder_lies_is_no_reason_to_exclude_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("drafts/in/a.png", "drafts/in/drafts/b.png", "elsewhere/c.png")
    monkeypatch.chdir("elsewhere")
    assert rels(inputs(str(here / "drafts/in"), exclude=("drafts",))) == ["a.png"]
    assert rels(inputs("../drafts/in", ".", exclude=("drafts", ".*", "elsewhere"))) == ["a.png", "c.png"]
    assert rels(inputs(str(here / "drafts/in/a.png"), "../elsewhere/c.png", exclude=("drafts",))) == ["c.png"]
    monkeypatch.chdir(here / "drafts/in")
    assert rels(inputs("a.png", "drafts/b.png", exclude=("drafts",))) == ["a.png"]


def test_names_below_a_root(here: Path) -> None:
    made("in/x/a.png", "in/y/a.png", "b.png")
    listed = lambda: iter([Path("in/y/a.png")])  # noqa: E731
    given = inputs("in/x", listed=listed, root="in").checked()
    assert rels(given) == ["x/a.png", "y/a.png"]
    assert rels(inputs("in", root=".").checked()) == ["in/x/a.png", "in/y/a.png"]
    Path("link").symlink_to("in")
    assert rels(inputs("link/x/a.png", str(here / "in/y"), root="in").checked()) == ["x/a.png", "y/a.png"]
    for paths in (("b.png",), (".",), ("in/../b.png",)):
        with pytest.raises(UsageError, match="does not lie in --root in"):
            inputs(*paths, root="in").checked()
    with pytest.raises(UsageError, match="--root gone: no such folder"):
        inputs("in", root="gone").checked()


# ---- names that would meet


def test_names_that_a_file_system_takes_for_one(here: Path) -> None:
    made("in/a.png", "in/A.png", "in/sub/caf\u00e9.png", "in/sub/cafe\u0301.png")
    assert len(rels(inputs("in").checked())) == 4
    with pytest.raises(UsageError, match=r"in/A\.png and in/a\.png would both be written as a\.png"):
        inputs("in", fold=str.casefold).checked()
    with pytest.raises(UsageError, match=r"would both be written as sub/caf\u00e9\.png.*; rename one"):
        inputs("in", fold=lambda name: unicodedata.normalize("NFC", name)).checked()
    with pytest.raises(UsageError, match=r"in/A\.png and in/a\.png would both be written"):
        inputs("in/A.png", "in/a.png", fold=str.casefold).checked()


def test_an_argument_that_is_not_there(here: Path) -> None:
    made("a.png")
    inputs("a.png").checked()
    with pytest.raises(UsageError, match="no such file or folder: b"):
        inputs("a.png", "b\n.png").checked()


@pytest.mark.parametrize("paths", [("x/a.png", "y/a.png"), ("x", "y"), ("x", "y/a.png")])
def test_two_images_with_one_name(here: Path, paths: tuple[str, ...]) -> None:
    made("x/a.png", "y/a.png", "y/b.png")
    with pytest.raises(UsageError, match=r"x/a\.png and y/a\.png would both be written as a\.png\.\*"):
        inputs(*paths).checked()


def test_one_image_given_twice_is_done_once(here: Path) -> None:
    made("in/a.png", "in/b.png", "c.png")
    listed = lambda: iter(map(Path, ["in/a.png", "./c.png", str(here / "c.png"), "in/b.png", "in/b.png"]))  # noqa: E731
    assert rels(inputs("c.png", "c.png").checked()) == ["c.png"]
    assert rels(inputs("in", listed=listed).checked()) == ["a.png", "b.png", "c.png"]
    assert rels(inputs("in", "in/", "in/b.png", shard=(1, 1)).checked()) == ["a.png", "b.png"]
    Path("other").mkdir()
    os.link("c.png", "other/c.png")  # the same file by another name
    assert rels(inputs("c.png", "other/c.png").checked()) == ["c.png"]


def test_names_of_outputs_may_meet_within_a_folder(here: Path) -> None:
    made("in/cat.png", "in/cat.png.3.png")
    inputs("in").checked()
    with pytest.raises(
        UsageError, match=r"in/cat\.png and in/cat\.png\.3\.png would both be written as cat\.png\.3\.png"
    ):
        inputs("in").checked(lambda rel: (rel, f"{rel}.3.png"))


def test_a_hash_that_collides_is_no_clash(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names decide."""
    made("x/a.png", "y/b.png")
    monkeypatch.setattr(listing, "hash", lambda name: 7, raising=False)
    inputs("x", "y").checked()


def test_listing_ends_with_the_time_for_the_run(here: Path) -> None:
    made("x/a.png", "y/b.png")
    inputs("x", "y").checked(end=float("inf"))
    with pytest.raises(TimeUp, match="--max-duration"):
        inputs("x", "y").checked(end=0.0)


# ---- parts


def test_parts_are_disjoint_together_everything_and_the_same_everywhere(here: Path) -> None:
    made(*(f"in/{i}.png" for i in range(60)))
    parts = [rels(inputs("in", shard=(i, 4))) for i in (1, 2, 3, 4)]
    assert sorted(sum(parts, [])) == sorted(rels(inputs("in"))) and min(map(len, parts)) > 5
    Path("in").rename("moved")
    assert [rels(inputs("moved", shard=(i, 4))) for i in (1, 2, 3, 4)] == parts
    want = int(hashlib.sha256(b"0.png").hexdigest()[:16], 16) % 4
    assert "0.png" in parts[want]


# ---- lists of names


LETTERS = [bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz"]


@pytest.mark.parametrize(
    ("data", "null", "want"),
    [
        (b"a\nb c\n", False, ["a", "b c"]),
        (b"a\r\nb\r\n\r\n", False, ["a", "b"]),
        (b"\n\na", False, ["a"]),
        (b"a\nb\0c\0", True, ["a\nb", "c"]),
        (b"a\r\0b", True, ["a\r", "b"]),
        (b"caf\xe9\n", False, ["caf\udce9"]),
        (b"", False, []),
        (b"\n".join(letter * 4000 for letter in LETTERS), False, [letter.decode() * 4000 for letter in LETTERS]),
        (b"\xef\xbb\xbfa\r\nb", False, ["a", "b"]),
        (b"\xef\xbb\xbfa\0b", True, ["a", "b"]),
        ("caf\u00e9\r\n\U0001f408.png\n".encode("utf-16"), False, ["caf\u00e9", "\U0001f408.png"]),
        (codecs.BOM_UTF16_BE + "a b\nc".encode("utf-16-be"), False, ["a b", "c"]),
        (codecs.BOM_UTF16_LE + ("\u00e9" * 2000 + "\n").encode("utf-16-le") * 20, False, ["\u00e9" * 2000] * 20),
        ("a\0b\0".encode("utf-16"), True, ["a", "b"]),
        (b"a\n" + b"b/" * 1000 + b"c\n", False, ["a", "b/" * 1000 + "c"]),  # costs itself, and not the run
    ],
)
def test_names_in_a_list(tmp_path: Path, data: bytes, null: bool, want: list[str]) -> None:
    (tmp_path / "list").write_bytes(data)
    with open(tmp_path / "list", "rb") as file:
        assert [str(path) for path in names_in(file, null)] == want
        assert [str(path) for path in names_in(file, null)] == want  # again, whoever read it before


@pytest.mark.parametrize(
    ("data", "null", "said"),
    [
        (b"a\0b\0", False, "holds NUL bytes; add -0"),
        (
            b"\xff\xd8\xff\xe0\0\x10JFIF\0",
            False,
            "--files-from: a name holds NUL bytes; add -0 if its names end in NUL; is it a list, and not an image?",
        ),  # fmt: skip
        ("a\n".encode("utf-16-le"), False, "holds NUL bytes"),  # without a mark
        (b"\0\0\0\rIHDR", False, "--files-from: a name holds NUL bytes"),
        (b"/some/name.jpg\n" * 400_000, True, "leave out -0"),
        (b"x" * 5000, False, "add -0"),
        (b"a.png\nhttps://a.b/a.png\n", False, "https://a.b/a.png is an address"),  # both slashes
        (codecs.BOM_UTF16_LE + b"a\0\0\xdc\0", False, "no UTF-16"),
    ],
)
def test_lists_of_another_form(tmp_path: Path, data: bytes, null: bool, said: str) -> None:
    (tmp_path / "list").write_bytes(data)
    with open(tmp_path / "list", "rb") as file, pytest.raises(UsageError, match=said) as caught:
        list(names_in(file, null))
    assert "--files-from" in str(caught.value) and len(str(caught.value)) < 500


def test_two_may_walk_through_one_list(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"".join(b"%d\n" % i for i in range(20_000)))
    with open(tmp_path / "list", "rb") as file:
        one: Iterator[Path] = names_in(file, False)
        other = names_in(file, False)
        assert all(a == b for a, b in zip(one, other, strict=True))


def test_what_cannot_be_looked_at_is_not_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a folder of photos: its path is too long, or the folder above it may be listed and not entered."""
    made("in/a.png", "in/album/b.png", "in/gone")
    real = os.lstat

    def refused(path: str) -> os.stat_result:
        if path.endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory")
        if path.endswith("album"):
            raise OSError(36, "File name too long")
        return real(path)

    monkeypatch.setattr(os, "lstat", refused)
    assert rels(inputs("in")) == ["a.png", "album"]
