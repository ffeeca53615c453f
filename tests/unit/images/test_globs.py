"""--include and --exclude mean what a shell, rsync or ripgrep would lead one to expect."""

from __future__ import annotations

import pytest

from gradviz_cli.images.globs import Globs, full_path, parts, pattern

ROOT = full_path("/srv/Photos")


@pytest.mark.parametrize(
    ("glob", "rel", "matches"),
    [
        ("*.jpg", "a/B.JPG", True),
        ("*.jpg", "a.jpeg", False),
        ("*.jpg", "a.jpg.json", False),
        ("thumbs", "a/thumbs/x.png", True),  # a folder stands for what is in it
        ("thumbs/", "thumbs/x.png", True),
        ("thumbs", "a/thumbs.png", False),
        ("a/*.png", "a/x.png", True),
        ("a/*.png", "b/a/x.png", True),
        ("a/*.png", "a/b/x.png", False),
        ("a/**", "a/b/x.png", True),
        ("**/t/*", "t/x.png", True),
        ("a/**/x.png", "a/b/c/x.png", True),
        ("./a", "a/x.png", True),
        ("/a", "a/x.png", True),
        ("/a", "b/a/x.png", False),
        ("/a/*.png", "b/a/x.png", False),
        ("/srv/photos/private", "private/x.png", True),
        ("photos/private", "private/x.png", True),
        ("photos", "x.png", False),  # that is the folder that was given
        ("srv/photos", "x.png", False),
        ("*", "x", True),
        ("?.png", "x.png", True),
        ("?.png", "xy.png", False),
        ("*.{png,gif}", "x.gif", True),
        ("*.{png,gif}", "x.gi", False),
        ("IMG_[0-9].png", "img_7.png", True),
        ("[!a]*", "b.png", True),
        ("[!a]*", "a.png", False),
        ("[^a]?", "/x", False),
        ("[]]x", "]x", True),
        ("[ab", "[ab", True),
        ("{a", "{a", True),
        ("[]", "[]", True),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("#recycle", "#recycle/x.png", True),
        ("a+b (1).*", "a+b (1).png", True),
        ("cafe\u0301*", "CAF\u00c9.png", True),
        ("stra\u00dfe*", "STRASSE.png", True),
    ],
)
def test_patterns(glob: str, rel: str, matches: bool) -> None:
    assert Globs((pattern(glob),)).matches(ROOT, rel) == matches
    assert Globs(("none of these", glob)).matches(ROOT, rel) == matches
    assert not Globs(()).matches(ROOT, rel)


@pytest.mark.parametrize(
    ("glob", "rel", "spells"),
    [
        ("*.dat", "x.dat", True),
        ("*.np[yz]", "a.npy", True),
        ("*.{npy,dat}", "a/x.dat", True),
        ("data/x.dat", "data/x.dat", True),
        ("IMG_*", "IMG_1.xmp", False),
        ("*", "x.db", False),
        ("*.*", "x.db", False),
        ("*.???", "x.xmp", False),
        ("2024/*", "2024/x.xmp", False),
        ("album.2024", "album.2024/x.xmp", False),  # the ending of the folder
        ("*.dat", "x.xmp", False),
    ],
)
def test_a_pattern_may_say_how_a_name_ends(glob: str, rel: str, spells: bool) -> None:
    assert Globs((glob,)).spells_ending(ROOT, rel) == spells


@pytest.mark.parametrize("wrong", ["", "/", "./", "[z-a]", 3, None, b"*"])
def test_what_is_no_pattern(wrong: object) -> None:
    with pytest.raises(ValueError):
        pattern(wrong)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("*.jpg,*.png", ["*.jpg", "*.png"]),
        ("*.{jpg,png}", ["*.{jpg,png}"]),
        ("a[,]b*", ["a[,]b*"]),
        ("a,b*", ["a,b*"]),  # the comma of a name
        ("*", ["*"]),
    ],
)
def test_patterns_with_a_comma_between_them(text: str, want: list[str]) -> None:
    assert parts(text) == want
