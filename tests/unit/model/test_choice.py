"""Which of several models below a folder is meant."""

from __future__ import annotations

import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.model.choice import is_version, only


def chosen(*names: str) -> str:
    return "/".join(
        only(
            [tuple(filter(None, name.split("/"))) for name in names], "birds", lambda one: f"name one: {'/'.join(one)}"
        )
    )


@pytest.mark.parametrize(
    "names, meant",
    [
        (["a"], "a"),
        (["deep/er/a"], "deep/er/a"),
        (["1", "2", "10"], "10"),  # by number, not by letter
        (["9", "010"], "010"),
        (["export/1589", "export/1590"], "export/1590"),
        (["1", "2", "2.bak", "latest"], "2"),  # as for TensorFlow Serving: other names do not count
        (["", "1", "assets.extra/other"], ""),  # what lies inside a model is a part of it
        (["a", "a/1", "a/2"], "a"),
    ],
)
def test_the_one_that_is_meant(names: list[str], meant: str) -> None:
    assert chosen(*names) == meant


@pytest.mark.parametrize("names", [["a", "b"], ["a/1", "b/1"], ["a/1", "a/2", "b"], ["v1", "v2"], ["1x", "2x"]])
def test_several_are_named(names: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(*names)
    assert names[-1] in str(caught.value) and "name one" in str(caught.value)


def test_the_example_is_one_of_those_that_are_listed() -> None:
    with pytest.raises(UsageError, match="birds/10, half/3; name one: birds/10"):
        chosen("birds/1", "birds/10", "half/3")


def test_of_many_only_some_are_named() -> None:
    with pytest.raises(UsageError, match="m0, m1, m2, m3, m4 and 95 more"):
        chosen(*[f"m{number}" for number in range(100)])


def test_versions_are_digits_of_ascii() -> None:
    assert is_version("0012") and not any(map(is_version, ["", "1.0", "-1", "v1", "１２", "1" * 19]))
