"""Files of options in TOML, which a stranger may have written: read, or refused at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.files.toml import MAX_DEPTH, read_toml

KEY = ".".join("a" * 25_000)
# Texts that hold much of what a key or a bracket may not be, and that are options all the same.
FINE = {
    "a.b.c.d = 1": {"a": {"b": {"c": {"d": 1}}}},
    "mean = [0.485, 0.456, 0.406]": {"mean": [0.485, 0.456, 0.406]},
    f'a = "{KEY}"': {"a": KEY},
    f"a = '{KEY}'": {"a": KEY},
    f'a = """{KEY}"""': {"a": KEY},
    f"a = '''\n{KEY}'''": {"a": KEY},
    f"a = 1 # {KEY} [[[[[[[[[[[[": {"a": 1},
    "a = '[[[[[[[[[[[['": {"a": "[" * 12},
    r'a = "\"[[[[[[[[[[[[ # "': {"a": '"[[[[[[[[[[[[ # '},
    'a = """x""" # "': {"a": "x"},
    'a = """"x"""""': {"a": '"x""'},
    "a = [[1], [2]]\nb = {c = [3]}": {"a": [[1], [2]], "b": {"c": [3]}},
    "a = 1.5\nb = 1979-05-27T07:32:00.999Z": None,
    "\n": {},
    "\ufeffa = 1": {"a": 1},
    "mean = [" + "0.5, " * 4000 + "]": {"mean": [0.5] * 4000},
}
REFUSED = {
    "one key of many parts": KEY + " = 1",
    "many keys of many parts": "".join(f"b{number}.{KEY[:800]} = 1\n" for number in range(80)),
    "quoted parts": ".".join(['"a"', "'b'"] * 5000) + " = 1",
    "parts with blanks": " . ".join("a" * 9000) + " = 1",
    "parts with tabs": "\t.\t".join("a" * 9000) + " = 1",
    "a table's name of many parts": f"[{KEY}]",
    "a list of tables of many parts": f"[[{KEY}]]",
    "a key of many parts in a table": f"a = {{ {KEY} = 1 }}",
    "a key behind a text": f'a = "x"\n{KEY} = 1',
    "a key behind a text of lines": f'a = """\n"x"\n"""\n{KEY} = 1',
    "a key behind a quoted quote": f"a = '\"'\n{KEY} = 1",
    "a key behind a comment with a quote": f"# '''\n{KEY} = 1",
    "open brackets": "a = " + "[" * 5000,
    "closed brackets": "a = " + "[" * 5000 + "]" * 5000,
    "open braces": "a = " + "{a=" * 5000,
    "brackets and braces": "a = " + "[{a=" * 5000 + "1" + "}]" * 5000,
    "one bracket too many": "a = " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "a text without an end": 'a = """' + "x" * 60_000,
    "quotes": '"' * 60_001,
    "triple quotes": "a = " + "'''" * 20_001,
    "back slashes": 'a = "' + "\\" * 60_001,
    "too large": "a = 1\n" * 12_000,
    "a number of many digits": "a = " + "9" * 60_000,
    "a hexadecimal number of many digits": "a = 0x" + "f" * 60_000,
    "a binary number of many digits": "a = 0b" + "_1" * 30_000,
    "a fraction of many digits": "a = 1." + "9" * 60_000,
    "an exponent of many digits": "a = 1e" + "9" * 60_000,
    "a time of many digits": "a = 07:32:00." + "9" * 60_000,
    "a number of 65 bits": "a = [[0x10000000000000000]]",
    "a NUL": "a\0 = 1",
    "no TOML": "what is this",
    "the same key twice": "a = 1\na = 2",
    "no end": "a = [",
    "half a surrogate": r'a = "\ud800"',
}


@pytest.mark.parametrize("text", FINE)
def test_options_are_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    found = read_toml(file)
    assert FINE[text] is None or found == FINE[text]


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_options_look_like_is_refused_at_once(tmp_path: Path, case: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(REFUSED[case])
    start = time.process_time()
    with pytest.raises(UsageError) as caught:
        read_toml(file)
    assert time.process_time() - start < 1
    assert str(file) in str(caught.value) and len(str(caught.value)) < 1000


def test_what_is_no_text_or_no_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    for data in (b"a = '\xff'", b"\xff\xfea\0"):
        file.write_bytes(data)
        with pytest.raises(UsageError):
            read_toml(file)
    with pytest.raises(UsageError, match="folder"):
        read_toml(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        read_toml(tmp_path / "none")


def test_a_file_without_a_byte_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "options.toml").touch()
    assert read_toml(tmp_path / "options.toml") == {} == read_toml(Path("/dev/null"), named=True)
    with pytest.raises(UsageError, match="is a device"):
        read_toml(Path("/dev/null"))
