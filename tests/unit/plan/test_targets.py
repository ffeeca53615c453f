"""What --target means."""

from __future__ import annotations

import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.plan.targets import Target, parse_targets

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


@pytest.mark.parametrize(
    ("spec", "labels", "said"),
    [
        ("dog", (), "no labels are known"),
        ("FOX", LABELS, "2 classes have that label; give an index: [2, 3]"),
        ("unicorn", LABELS, "no such label; give a class index, topK, rankK or a label"),
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
        ("", LABELS, "no such label"),
    ],
)
def test_what_means_nothing(spec: str, labels: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets((spec,), labels)
    assert str(caught.value).startswith(f"--target {spec}: ") and said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "name", "spec", "code"),
    [
        (Target(rank=0), "", "top1", -1),
        (Target(rank=2), "top3", "top3", -3),
        (Target(index=0), "0", "0", 0),
        (Target(index=12), "12", "12", 12),
    ],
)
def test_names_and_codes(target: Target, name: str, spec: str, code: int) -> None:
    assert (target.name, target.spec, target.code) == (name, spec, code)


@pytest.mark.parametrize("both", [{}, {"rank": 0, "index": 0}])
def test_a_target_is_one_thing(both: dict) -> None:
    with pytest.raises(ValueError, match="a rank or an index"):
        Target(**both)


def test_of_several_with_commas_the_wrong_one_is_named() -> None:
    with pytest.raises(UsageError, match="--target unicorn: no such label"):
        parse_targets(("0,unicorn",), LABELS)
