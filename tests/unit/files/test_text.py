"""Names of any origin, for people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from children import python

from gradviz_cli.files.text import plain, printable, shortened


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[31mred", r"\x1b[31mred"),
        (b"caf\xe9.png", r"caf\xe9.png"),
        ("caf\udce9.png", r"caf\xe9.png"),
        ("猫 café", "猫 café"),
        ("gpj\u202egnp", r"gpj\u202egnp"),
        ("a\u2028b\x85c\x7f", r"a\u2028b\x85c\x7f"),
        ("\ud800", r"\ud800"),
        (Path("a/b"), "a/b"),
        ("", ""),
    ],
)
def test_printable(name, shown):
    assert printable(name) == shown


def test_printable_takes_anything():
    random = np.random.default_rng(18)
    for _ in range(3000):
        raw = random.bytes(int(random.integers(0, 40)))
        wild = "".join(map(chr, random.integers(0, 0x110000, 9)))
        for name in (raw, os.fsdecode(raw), wild):
            shown = printable(name)
            assert shown.isprintable()
            shown.encode()
        assert printable(raw) == printable(os.fsdecode(raw))


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_printable_in_a_locale_without_unicode(locale):
    code = r"""if True:
        import sys
        from gradviz_cli.files.text import printable
        for name in ("\u732b\n.png", b"caf\xe9", "\udcff", "\ud800", sys.argv[1]):
            print(printable(name))
    """
    for strict in ({}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        result = python(code, "猫", env={"LC_ALL": locale, "LANG": locale, **strict})
        assert result.returncode == 0, result.stderr
        assert rb"\n.png" in result.stdout
        assert result.stdout.splitlines()[1] == rb"caf\xe9"
        if strict:
            assert result.stdout.isascii()


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    words = "".join(chr(97 + i % 26) for i in range(5000))
    found = shortened(words, 1000)
    assert len(found) <= 1000 and found.startswith(words[:900]) and found.endswith(words[-80:]) and " ... " in found
    assert shortened(words[:1000], 1000) == words[:1000]
    assert all(len(shortened(words, most)) <= most for most in range(20, 1000))


def test_plain_is_one_line_that_says_the_same() -> None:
    assert plain("tab\there\nnext \x1b[0m é猫 \u200b") == r"tab\there\nnext \x1b[0m é猫 \u200b"
    assert plain("caf\udce9 \ud800 \udc7f") == r"caf\xe9 \ud800 \udc7f"
