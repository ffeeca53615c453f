"""From arguments to images: order, what is passed over, names that would meet, parts for several machines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradviz_cli.errors import TimeUp, UsageError
from gradviz_cli.images import listing
from gradviz_cli.images.listing import Inputs, names_in


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def inputs(*paths: str, out: str = "out", **more) -> Inputs:
    return Inputs(tuple(map(Path, paths)), Path(out), **more)


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
    assert rels(inputs("link")) == ["notes.txt"]  # a link to a folder that is named is followed


def test_outputs_are_no_inputs(here: Path) -> None:
    made("in/a.png", "in/maps/a.png.guided.png", "in/maps/deep/b.png")
    assert rels(inputs("in", out="in/maps")) == ["a.png"]
    Path("by another name").symlink_to("in/maps")
    assert rels(inputs("in", out="by another name")) == ["a.png"]
    for folder in ("in/maps", "in/maps/deep", "by another name"):
        given = inputs(folder, out="in/maps")
        assert rels(given) == []
        assert "is not searched, as it is --out" in given.why_none()
    assert inputs("in", out="elsewhere").why_none() == "no image was found"


def test_a_folder_that_cannot_be_listed_is_one_trouble(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("in/a.png", "in/locked/b.png")
    real = os.listdir

    def refused(folder: str) -> list[str]:
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "listdir", refused)
    good, bad = inputs("in").jobs()
    assert (good.rel, good.trouble) == ("a.png", None)
    assert (bad.rel, bad.trouble) == ("locked", "the folder cannot be listed: Permission denied")


def test_names_from_a_list_follow_the_arguments(here: Path) -> None:
    made("in/a.png", "b.png", "c/d.png")
    listed = lambda: iter([Path("b.png"), Path("c"), Path("gone.png")])  # noqa: E731
    given = inputs("in", listed=listed)
    assert rels(given) == rels(given) == ["a.png", "b.png", "d.png", "gone.png"]


# ---- names that would meet


def test_an_argument_that_is_not_there(here: Path) -> None:
    made("a.png")
    inputs("a.png").check()
    with pytest.raises(UsageError, match="no such file or folder: b"):
        inputs("a.png", "b\n.png").check()


@pytest.mark.parametrize("paths", [("x/a.png", "y/a.png"), ("x", "y"), ("x", "y/a.png")])
def test_two_images_with_one_name(here: Path, paths: tuple[str, ...]) -> None:
    made("x/a.png", "y/a.png", "y/b.png")
    with pytest.raises(UsageError, match=r"x/a\.png and y/a\.png would both be written as a\.png\.\*"):
        inputs(*paths).check()


def test_one_image_given_twice(here: Path) -> None:
    made("a.png")
    with pytest.raises(UsageError, match="a.png is given twice"):
        inputs("a.png", "a.png").check()
    with pytest.raises(UsageError, match="a.png is given twice"):
        inputs("a.png", listed=lambda: iter([Path("a.png")])).check()


def test_names_of_outputs_may_meet_within_a_folder(here: Path) -> None:
    made("in/cat", "in/cat.3")
    inputs("in").check()
    with pytest.raises(UsageError, match=r"in/cat and in/cat\.3 would both be written as cat\.3"):
        inputs("in").check(lambda rel: (rel, f"{rel}.3"))


def test_a_hash_that_collides_is_no_clash(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names decide."""
    made("x/a.png", "y/b.png")
    monkeypatch.setattr(listing, "hash", lambda name: 7, raising=False)
    inputs("x", "y").check()


def test_listing_ends_with_the_time_for_the_run(here: Path) -> None:
    made("x/a.png", "y/b.png")
    inputs("x", "y").check(end=float("inf"))
    with pytest.raises(TimeUp, match="--max-duration"):
        inputs("x", "y").check(end=0.0)


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
        (b"x" * 70_000 + b"\n" + b"y" * 70_000, False, ["x" * 70_000, "y" * 70_000]),
    ],
)
def test_names_in_a_list(tmp_path: Path, data: bytes, null: bool, want: list[str]) -> None:
    (tmp_path / "list").write_bytes(data)
    with open(tmp_path / "list", "rb") as file:
        assert [str(path) for path in names_in(file, null)] == want
        assert [str(path) for path in names_in(file, null)] == want  # again, whoever read it before


def test_two_may_walk_through_one_list(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"".join(b"%d\n" % i for i in range(20_000)))
    with open(tmp_path / "list", "rb") as file:
        one: Iterator[Path] = names_in(file, False)
        other = names_in(file, False)
        assert all(a == b for a, b in zip(one, other, strict=True))
