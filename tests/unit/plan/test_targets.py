"""What --target means."""

from __future__ import annotations

import pytest

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.plan.targets import Target, by_label, nearest, of_image, parse_targets

LABELS = ("cat", "dog", "Fox", "fox", "red panda", "Owl", "7", "tench, Tinca tinca", "caf\u00e9")


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (("top1",), [Target(rank=0)]),
        (("top3",), [Target(rank=0), Target(rank=1), Target(rank=2)]),
        (("7",), [Target(index=7)]),  # a number is an index, whatever the labels
        (("dog",), [Target(index=1)]),
        (("DOG",), [Target(index=1)]),
        (("Fox",), [Target(index=2)]),  # the exact spelling wins
        (("fox",), [Target(index=3)]),
        (("red panda", "0"), [Target(index=4), Target(index=0)]),
        (("top2", "top3", "dog", "1"), [Target(rank=0), Target(rank=1), Target(rank=2), Target(index=1)]),
        (("007",), [Target(index=7)]),
        (("rank1",), [Target(rank=0)]),
        (("rank3", "top1"), [Target(rank=2), Target(rank=0)]),
        (("4,dog", "0, top2"), [Target(index=4), Target(index=1), Target(index=0), Target(rank=0), Target(rank=1)]),
        (("tench, Tinca tinca",), [Target(index=7)]),  # a label with a comma
        (("cafe\u0301",), [Target(index=8)]),  # as a Mac writes it
    ],
    ids=str,
)
def test_specs(specs: tuple[str, ...], expected: list[Target]) -> None:
    assert parse_targets(specs, LABELS) == tuple(expected)


def test_a_number_with_zeros_ahead_is_the_label_that_is_spelled_so() -> None:
    labels = ("001", "002", "003", "10")
    assert parse_targets(("001,1", "10", "004"), labels) == tuple(Target(index=index) for index in (0, 1, 10, 4))
    assert by_label(("001",)) and not by_label(("1,10,top01",))


@pytest.mark.parametrize(
    ("spec", "labels", "said"),
    [
        ("dog", (), "no labels are known"),
        ("parent", (), "no labels are known"),
        ("", ("cat", ""), "it is empty"),
        ("FOX", LABELS, "2 classes have that label; give an index: [2, 3]"),
        (
            "unicorn",
            LABELS,
            "no such label; give a class index, topK, rankK or a label",
        ),
        ("panda", LABELS, "did you mean red panda?"),
        ("re panda", LABELS, "did you mean red panda?"),
        ("tench, tinca tinka", LABELS, "did you mean tench, Tinca tinca?"),
        ("top0", LABELS, "the best class is top1"),
        ("rank0", (), "the best class is rank1"),
        ("top123456", LABELS, "too many"),
        ("1234567", LABELS, "no model has so many classes"),
        ("-1", (), "a class index is a whole number from 0"),
        ("3.5", LABELS, "a class index is a whole number from 0"),
        ("\u00b2", LABELS, "no such label"),  # a digit, and no number
        ("", LABELS, "it is empty; give a class index, topK, rankK or a label"),
    ],
)
def test_what_means_nothing(spec: str, labels: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets((spec,), labels)
    assert str(caught.value).startswith(f"--target {spec or repr(spec)}: ") and said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "name", "spec", "code"),
    [
        (Target(rank=0), "", "top1", -1),
        (Target(rank=2), "top3", "top3", -3),
        (Target(index=0), "0", "0", 0),
        (Target(index=12), "12", "12", 12),
        (Target(parent=True), "parent", "parent", -1),
    ],
)
def test_names_and_codes(target: Target, name: str, spec: str, code: int) -> None:
    assert (target.name, target.spec, target.code) == (name, spec, code)


@pytest.mark.parametrize("both", [{}, {"rank": 0, "index": 0}, {"rank": 0, "parent": True}])
def test_a_target_is_one_thing(both: dict) -> None:
    with pytest.raises(ValueError, match="a rank or an index"):
        Target(**both)


def test_of_several_with_commas_the_wrong_one_is_named() -> None:
    with pytest.raises(UsageError, match="--target 0,unicorn: unicorn: no such label"):
        parse_targets(("0,unicorn",), LABELS)


NAMES = (
    "tench, Tinca tinca",
    "goldfish, Carassius auratus",
    "great white shark",
    "caf\u00e9",
    "Siamese cat",
    "",
    "goldfinch",
)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("Tench", "tench, Tinca tinca"),
        ("tinca_tinca", "tench, Tinca tinca"),
        ("white shark", "great white shark"),
        ("goldfihs", "goldfish, Carassius auratus"),
        ("goldfynch", "goldfinch"),
        ("siamese-cat", "Siamese cat"),
        ("cafe\u0301s", "caf\u00e9"),
        ("unicorn", None),
        ("a", None),
        ("", None),
        ("1.5", None),
    ],
)
def test_the_nearest_comes_first_and_what_is_far_not_at_all(typed: str, first: str | None) -> None:
    assert next(iter(nearest(typed, NAMES)), None) == first


def test_a_label_in_the_other_unicode_form() -> None:
    assert parse_targets(("cafe\u0301",), NAMES) == parse_targets(("caf\u00e9",), NAMES) == (Target(index=3),)


def test_which_targets_need_labels() -> None:
    assert not by_label(("top1", "7", "rank3", "top2, 4"))
    assert by_label(("7", "cat")) and by_label(("parent",)) and by_label(("top1,dog",)) and not by_label(())


FOLDERS = ("cat", "Cat", "dog", "caf\u00e9", "crane", "crane", "")


@pytest.mark.parametrize(
    ("path", "index"),
    [
        ("/p/cat/x.png", 0),
        ("/p/Cat/x.png", 1),
        ("/p/cafe\u0301/x.png", 3),
        ("/p/cat/../dog/x.png", 2),
        (b"/p/dog/\xff.png", 2),
    ],
)
def test_the_class_of_the_folder(path: str | bytes, index: int) -> None:
    targets = (Target(parent=True), Target(rank=0), Target(index=2))
    expected = dict.fromkeys((Target(index=index), Target(rank=0), Target(index=2)))
    assert of_image(targets, FOLDERS, path) == tuple(expected)


def test_a_path_without_a_folder_lies_in_the_one_of_work(tmp_path, monkeypatch) -> None:
    (tmp_path / "dog").mkdir()
    monkeypatch.chdir(tmp_path / "dog")
    assert of_image((Target(parent=True),), FOLDERS, "x.png") == (Target(index=2),)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/p/CAT/x.png", "no label is the name of its folder CAT; did you mean cat or Cat?"),  # case as it is
        ("/p/dogs/x.png", "folder dogs; did you mean dog?"),
        ("/p/elephant/x.png", "folder elephant"),
        ("/p/crane/x.png", "2 classes have the label crane"),
        ("/x.png", "no label is the name of its folder "),
    ],
)
def test_a_folder_that_is_no_label_fails_its_images_alone(path: str, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        of_image((Target(parent=True),), FOLDERS, path)
    assert caught.value.kind == "target" and caught.value.message.endswith(said)
