"""What texts on the command line mean, and which mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from gradviz_cli.cli.types import (
    Amount,
    Auto,
    Between,
    Feed,
    ImagePath,
    NamedPath,
    Names,
    Position,
    Seconds,
    Shard,
    Size,
)
from gradviz_cli.images.listing import STDIN
from gradviz_cli.plan.values import MAX_FEED


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Size(), "224x128", (224, 128)),
        (Size(), "1X99999", (1, 99999)),
        (Amount(), "7", 7),
        (Amount(), "500k", 500_000),
        (Amount(), "50M", 50_000_000),
        (Amount(), "3G", 3_000_000_000),
        (Auto(), "auto", None),
        (Auto(), "12", 12),
        (Between(10, 2400), "72.5", 72.5),
        (Shard(), "1/1", (1, 1)),
        (Shard(), "2/8", (2, 8)),
        (Position(), "3,4", (3, 4)),
        (Position(), " 0 , 12 ", (0, 12)),
        (Position(), "5", (5,)),
        (Seconds(), "0", 0.0),
        (Seconds(), "2.5", 2.5),
        (Seconds(1.0), "1", 1.0),
        (Seconds(above=True), "1e-3", 0.001),
        (Feed(), "phase=False", ("phase", "false")),
        (Feed(), "rate=0.5", ("rate", "0.5")),
        (Feed(), "sizes=[[1], [2]]", ("sizes", "[[1], [2]]")),
        (Feed(), 'name="a=b"', ("name", '"a=b"')),
        (NamedPath(), "a/b", Path("a/b")),
        (ImagePath(), "a/b", Path("a/b")),
        (ImagePath(), "-", STDIN),
        (ImagePath(), "./-", Path("-")),  # a file
        (Names(("guided", "all")), "guided, all", "guided,all"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_text_and_its_value(kind: click.ParamType, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[(Size(), text) for text in ("224", "0x5", "5x0", "5x5x5", "-1x5", "100000x5", "5.0x5", "x", "\u00b2x5")],
        *[(Amount(), text) for text in ("", "0", "k", "0M", "1.5M", "-3", "1kM", "\u0663")],
        *[(Auto(), text) for text in ("", "0", "Auto", "-1", "1.0", "9" * 19)],
        *[(Between(10, 2400), text) for text in ("nan", "inf", "9", "2401", "a")],
        *[(Shard(), text) for text in ("1", "0/3", "4/3", "1/2/3", "a/b", "1/", "-1/3")],
        *[(Position(), text) for text in ("", "1,,2", "a", "1,-2", "1.5,2")],
        *[(Seconds(), text) for text in ("", "nan", "inf", "-0.1", "2e9", "soon")],
        (Seconds(1.0), "0.99"),
        (Seconds(above=True), "0"),
        *[(Feed(), text) for text in ("x", "=1", "x=", "x=yes", "x=nowhere.npy", "x=[1, 2", "x=[1, [2, 3]]", "x=null")],
        (NamedPath(), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_text_that_means_nothing(kind: click.ParamType, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


def test_what_is_a_value_already_stays() -> None:
    """click converts a default once more."""
    assert Size().convert((3, 4), None, None) == (3, 4)
    assert Shard().convert((1, 2), None, None) == (1, 2)
    assert Position().convert((7,), None, None) == (7,)
    assert Feed().convert(("a", "1"), None, None) == ("a", "1")
    assert Auto().convert(None, None, None) is None


def test_a_feed_may_be_a_file_of_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "state.npy", np.array([[1.5, -2.0], [0.0, 4.0]], np.float32))
    name, text = Feed().convert(f"state={tmp_path}/state.npy", None, None)
    assert (name, json.loads(text)) == ("state", [[1.5, -2.0], [0.0, 4.0]])


def test_a_feed_runs_no_program_and_has_an_end(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "large.npy", np.zeros(MAX_FEED + 1, np.uint8))
    for name, word in (("pickled", "cannot be read"), ("large", "more than")):
        with pytest.raises(click.BadParameter, match=word):
            Feed().convert(f"x={tmp_path}/{name}.npy", None, None)


@pytest.mark.parametrize("text", ["guide", "all,guide", "Guided"])
def test_a_name_that_is_near_is_offered(text: str) -> None:
    with pytest.raises(click.BadParameter, match="did you mean guided"):
        Names(("guided", "all")).convert(text, None, None)
