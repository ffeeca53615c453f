"""What was meant by a word, or by a path, that is not known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.files.near import check_path, did_you_mean, distance, near_path, nearest

WORDS = ("explain", "inspect", "prune", "show", "guided", "batch-size", "size", "blue-white-red", "channels_last")


@pytest.mark.parametrize(
    ("word", "want"),
    [
        ("explian", ["explain"]),
        ("EXPLAIN", ["explain"]),
        ("expl", ["explain"]),
        ("batch_size", ["batch-size"]),
        ("batchsize", ["batch-size"]),
        ("sise", ["size"]),
        ("white", ["blue-white-red"]),
        ("guided-backprop", ["guided"]),
        ("run", []),  # not prune
        ("shwo", ["show"]),
        ("shoes", []),
        ("ow", []),
        ("", []),
        ("heatmap", []),
    ],
)
def test_names_are_near_or_not_named(word: str, want: list[str]) -> None:
    assert nearest(word, WORDS) == want


def test_the_nearest_comes_first_and_few_are_named() -> None:
    assert nearest("relu1", ["relu3", "relu2", "relu1_1", "conv"])[0] == "relu1_1"
    assert len(nearest("relu", [f"relu{i}" for i in range(9)])) == 3


@pytest.mark.parametrize(
    ("one", "other", "want"), [("", "abc", 3), ("abc", "abc", 0), ("abcd", "abdc", 1), ("kitten", "sitting", 3)]
)
def test_letters_between_two_words(one: str, other: str, want: int) -> None:
    assert distance(one, other) == distance(other, one) == want


def test_paths_that_are_near_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "photos/dog.jpg", ".cap.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert near_path("cap.png") == "did you mean cat.png?"
    assert near_path("cat.jpeg") == "did you mean cat.png?"  # the same name of another kind
    assert near_path(Path("phots/dog.jpg")) == "did you mean photos/dog.jpg?"
    assert near_path(tmp_path / "photos" / "dgo.jpg") == f"did you mean {tmp_path}/photos/dog.jpg?"
    assert near_path("photo", os.path.isfile) == near_path("phots/dog.jpg", os.path.isdir) == ""
    assert near_path("photo", os.path.isdir) == "did you mean photos?"
    assert near_path("phots/cow.jpg") == near_path("x/y/z") == near_path("cat.png") == near_path("a\0b") == ""


def test_a_question_in_one_line() -> None:
    assert did_you_mean(["a\n", "b"]) == "did you mean a\\n or b?" and did_you_mean([]) == ""


def test_a_path_that_cannot_be_looked_for_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """A closed folder, a link to itself: the system says which; root, as whom tests may run, only meets the second."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UsageError, match="cat.png: it cannot be looked for: Too many levels of symbolic links"):
        check_path(loop / "cat.png")
    with pytest.raises(UsageError, match="--image .*cat.png: no such file or folder; check the path"):
        check_path(tmp_path / "cat.png", "--image")
    with pytest.raises(UsageError, match="no such file or folder: .*/a/b; look there"):
        check_path(tmp_path / "a/b", remedy="look there")
    check_path(loop)  # a link is there, wherever it leads
