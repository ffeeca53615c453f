"""Names of any origin, for people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from children import python

from gradviz_cli.files.text import printable


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
