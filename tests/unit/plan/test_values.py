"""What the values of options mean, written or given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.plan import values

SECONDS, POSITIVE = values.seconds(1), values.seconds(above=True)


@pytest.mark.parametrize(
    ("read", "given", "expected"),
    [
        (values.size, "224x320", (224, 320)),
        (values.size, "8X9", (8, 9)),
        (values.size, (224, 320), (224, 320)),
        (values.size, [8, np.int64(9)], (8, 9)),
        (values.amount, "500", 500),
        (values.amount, "2k", 2000),
        (values.amount, "50M", 50_000_000),
        (values.amount, "3G", 3_000_000_000),
        (values.amount, 7, 7),
        (SECONDS, "1", 1.0),
        (SECONDS, 2.5, 2.5),
        (POSITIVE, 0.001, 0.001),
        (values.auto, "auto", None),
        (values.auto, "16", 16),
        (values.auto, 3, 3),
        (values.shard, "2/8", (2, 8)),
        (values.shard, (1, 1), (1, 1)),
        (values.position, "3, 4", (3, 4)),
        (values.position, 5, (5,)),
        (values.position, (), ()),
        (values.position, [0, 2], (0, 2)),
        (values.number, 95, 95.0),
        (values.number, "0.5", 0.5),
        (values.flag, np.True_, True),
        (values.target, 3, "3"),
        (values.target, "cat", "cat"),
        (values.path, "a/b", Path("a/b")),
        (values.feed, "x=1", ("x", "1")),
        (values.feed, "x=[1, 2.50]", ("x", "[1, 2.5]")),
        (values.feed, "x=True", ("x", "true")),
        (values.feed, 'x="a=b"', ("x", '"a=b"')),
        (values.feed, ("x", " [1,2]"), ("x", "[1, 2]")),
        (values.feed, ("x", np.arange(3)), ("x", "[0, 1, 2]")),
        (values.feed, ("x", np.float32(0.5)), ("x", "0.5")),
        (values.feed, ("x", [0.5, 1]), ("x", "[0.5, 1]")),
        (values.feed, ("x", [np.int64(1), 2]), ("x", "[1, 2]")),
        (values.feeds, {"x": 0.5, "y": True}, (("x", "0.5"), ("y", "true"))),
        (values.feeds, ["x=1", ("y", 2)], (("x", "1"), ("y", "2"))),
        (values.feeds, "x=1", (("x", "1"),)),
        (values.several(values.text), ["a", "b", "a"], ("a", "b")),
        (values.several(values.text), "ab", ("ab",)),
        (values.several(values.target), 3, ("3",)),
        (values.choice("ab"), "a", "a"),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_values(read, given: object, expected: object) -> None:
    found = read(given)
    assert found == expected and type(found) is type(expected)
    if expected is not None:
        assert read(found) == found  # canonical


@pytest.mark.parametrize(
    ("read", "given", "said"),
    [
        (values.size, "224", "224 is not HEIGHTxWIDTH"),
        (values.size, "0x8", "HEIGHTxWIDTH"),
        (values.size, (8, -1), "HEIGHTxWIDTH"),
        (values.size, "100000x2", "100000x2 has a side of more than 99999 pixels; give a smaller one"),
        (values.size, "1x2x3", "1x2x3 is not HEIGHTxWIDTH, such as 224x224; did you mean 1x2"),
        (values.size, "1000000", "1000000 is not HEIGHTxWIDTH, such as 224x224"),
        (values.amount, "0", "no amount"),
        (values.amount, "5T", "no amount"),
        (values.amount, -3, "no amount"),
        (values.amount, "\u00b2", "no amount"),
        (values.amount, 1.5, "no amount"),
        (SECONDS, "nan", "no number of seconds from 1"),
        (SECONDS, 0.5, "from 1"),
        (POSITIVE, 0, "above 0"),
        (POSITIVE, "inf", "above 0"),
        (SECONDS, "soon", "soon is no number"),
        (values.auto, 0, "neither a whole number above 0 nor auto"),
        (values.auto, "some", "nor auto"),
        (values.shard, "0/3", "is not I/N"),
        (values.shard, "4/3", "is not I/N"),
        (values.position, "1,a", "no position"),
        (values.position, "", "no position"),
        (values.number, True, "no number"),
        (values.number, "x", "no number"),
        (values.flag, "yes", "neither true nor false"),
        (values.flag, 1, "neither true nor false"),
        (values.text, 3, "no text"),
        (values.target, True, "no text"),
        (values.path, "", "is a variable not set?"),
        (values.path, 3, "no path"),
        (values.feed, "x", "is not NAME=VALUE"),
        (values.feed, "=1", "is not NAME=VALUE"),
        (values.feed, "x=abc", "abc is neither a number, a JSON list nor a .npy file"),
        (values.number, "1e999", "1e999 is not finite"),
        (values.number, "nan", "nan is not finite"),
        (values.number, 10**400, " is no number"),
        (values.numbers, "1,,2", "'' is no number"),
        (values.numbers, "", "'' is no number"),
        (values.numbers, [], "it is empty"),
        (values.pixel_range, "1", "1 is not LOW,HIGH"),
        (values.pixel_range, "1,0", "1,0 is not LOW,HIGH"),
        (values.pixel_range, (0, 0), "(0, 0) is not LOW,HIGH"),
        (values.pixel_range, "-1e38,1e38", "-1e38,1e38 is beyond what pixels are"),
        (values.pixel_range, "0,1e-40", "0,1e-40 is no range of pixels"),
        (values.pixels, "1e30", "1e30 is beyond what pixels are"),
        (values.deviations, "0.2,0", "0.2,0 is no standard deviation"),
        (values.deviations, "1e-300", "1e-300 is no standard deviation of pixels"),
        (values.shift, "1.5", "1.5 is no whole number"),
        (values.shift, True, "True is no whole number"),
        (values.feed, "x=none.npy", "none.npy cannot be read"),
        (values.feed, ("x", object()), "x is neither a number nor an array"),
        (values.feed, "x=null", "null is neither a number nor an array"),
        (values.feed, 'x={"a": 1}', "is neither a number nor an array"),
        (values.feed, 'x=[1, "a"]', "is neither a number nor an array"),
        (values.feed, "x=[1, null]", "is neither a number nor an array"),
        (values.feed, "x=[[1], [1, 2]]", "has rows of different lengths"),
        (values.feed, "x=1e999", "1e999 holds numbers that are not finite"),
        (values.feed, "x=[1, NaN]", "holds numbers that are not finite"),
        (values.feed, "x=-Infinity", "holds numbers that are not finite"),
        (values.feed, ("x", np.array([np.inf])), "x holds numbers that are not finite"),
        (values.feed, "x=" + "[" * 5000, "is neither a number, a JSON list"),
        (values.feeds, ["x=1", ("x", 2)], "x is given twice"),
        (values.choice("ab"), "c", "'c' is none of a, b"),
    ],
    ids=lambda value: "" if callable(value) or isinstance(value, tuple) else str(value),
)
def test_what_makes_no_sense(read, given: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(given)
    assert said in str(caught.value)


def test_a_fed_array_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.5, 2]]))
    assert values.feed(f"x={tmp_path / 'a.npy'}") == ("x", "[[1.5, 2.0]]")


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        values.feed(f"x={tmp_path / 'a.npy'}")


def test_too_much_to_be_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_FEED", 3)
    assert values.feed(("x", [1, 2, 3]))[1] == "[1, 2, 3]"
    with pytest.raises(ValueError, match="4 numbers, more than 3"):
        values.feed(("x", [1, 2, 3, 4]))


def test_a_length_on_paper_is_in_points():
    told = {"72pt": 72, "25.4mm": 72, "1 in": 72, "2.54CM": 72, "89mm": 252.28}
    assert {text: round(values.length(text), 2) for text in told} == told
    for wrong in ("", "89", "mm", "-1in", "1e3mm", "0mm", "6000mm", "٣mm", "1px"):
        with pytest.raises(ValueError, match="no width on paper"):
            values.length(wrong)


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (values.percentile, "99%", "99% is not a percentile, such as 99; did you mean 99?"),
        (values.percentile, 0.95, "did you mean 95?"),
        (values.percentile, "100.00001", "100.00001 is not a percentile"),
        (values.weight, "30%", "did you mean 0.3?"),
        (values.weight, 1.5, "give a number from 0 to 1"),
        (values.seconds(), "1.5h", "did you mean 5400?"),
        (values.seconds(), "1e3s", "is no number of seconds from 0"),
        (values.amount, "100 MiB", "did you mean 100M?"),
        (values.size, "224*128", "did you mean 224x128?"),
        (values.pixel_range, "-1..1", "did you mean -1,1?"),
        (values.choice(("raw", "never")), "none", "did you mean raw or never?"),
        (values.choice(("torch", "caffe")), "zebra", "'zebra' is none of torch, caffe; choose one of these"),
        (values.path, "~/x", "begins with a ~ that no shell has read; did you mean /"),
    ],
)
def test_what_was_meant_is_said(read: values.Read, value: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(value)
    assert said in str(caught.value)
