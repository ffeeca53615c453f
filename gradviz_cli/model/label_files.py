"""Files of labels in the forms that trainers write: text -> labels by class index.

A file is read where its form is beyond doubt. Each function of `FORMS` gives the labels, None where the file has another
form, or says (ValueError) what is in doubt: a line of a table or of a map is never taken for a name.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gradviz_cli.model.label_programs import LABELISH, labels_of_program, literal

Labels = tuple[str, ...]

MOST, MOST_LINES = 1_000_000, 10_000_000  # of a class index, and of lines: a label map has several for each
LONGEST = 1000  # characters of a name; Unicode's composed form takes a time that grows with the square
MOST_BROKEN = 20  # lines of a cell of a table
LONGEST_LITERAL = 1 << 20  # characters of a list or dict as Python writes it
# Byte order marks, the longer ones first: one of UTF-16 begins one of UTF-32.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Where an object of JSON, or a YAML file, holds the labels; the first that is there counts.
HOLDERS = ("id2label", "label2id", "names", "labels", "class_names", "classes", "categories")
# Columns of a table and fields of a map, the first that is there counts.
NAMES = (
    "display_name",
    "label",
    "name",
    "class_name",
    "label_name",
    "classname",
    "class",
    "labels",
    "names",
    "classes",
)
NAMED = frozenset(NAMES)
INDICES = (
    *("index", "idx", "id", "class_id", "class_index", "class_idx", "label_id", "label_index", "label_idx"),
    *("classid", "labelid", ""),
)
WORDNET = re.compile(r"n\d{8}[\s,:]+(?=\S)")
# 0 tench, 0: tench, 0 - tench, 0 -> tench, 0|tench, [0] tench, and the other way round.
LEADING = re.compile(r"[\[(]?(\d{1,6})\s*([-=]>|[:,;=|\t)\]]|\.\s|[-\u2013\u2014]\s|\s)\s*(\S.*)")
PLURAL = re.compile(r"(?<=\w\w)(?:ie|e|y)?s?\b")
BEFORE_NUMBERS = ":,;=|>-\u2013\u2014[(\t "
QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)'),?""")
MOSTLY = 0.9  # of names differ: those of ImageNet do; "1 star, 2 stars, 3 stars" without the numbers do not
MANY, FEW_GAPS = 20, 0.8  # numbers that count, and leave out some, and the part of steps that are 1
BACKGROUND = ("background", "dummy", "__background__", "_background_", "bg", "unlabeled", "???")
RANGE = re.compile(r"(\d{1,6})\s*(?:[-\u2013\u2014]|to\b)\s*(\d{1,6})\b")  # 10 - 19 years


def decoded(data: bytes) -> str:
    """Raises ValueError for what is no text in UTF-8 or, with its mark, UTF-16."""
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not {encoding.removesuffix('-sig').upper()}; save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise ValueError("it is no text, or UTF-16 without a byte order mark; save it as UTF-8")
    return text


def labels_in(text: str, suffix: str) -> Labels:
    """Labels by class index, in the composed Unicode form; a class that the file leaves out has an empty one.

    Parameters
    ----------
    suffix : str
        Of the file's name, in small letters.

    Raises
    ------
    ValueError
        It has none of the forms, or its form is in doubt.
    """
    if text.count("\n") > MOST_LINES:
        raise ValueError(f"it has more than {MOST_LINES} lines")
    found = next(found for form in FORMS if (found := form(text, suffix)) is not None)
    if not any(found):
        raise ValueError("it holds no labels")
    if len(found) > MOST or max(map(len, found)) > LONGEST:
        raise ValueError(f"no model has more than {MOST} classes, and no name is longer than {LONGEST} characters")
    return tuple(unicodedata.normalize("NFC", label) for label in found)


def _marked_up(text: str, suffix: str) -> None:
    if re.match(r"\s*<(!doctype|html|\?xml|svg)", text, re.I):
        raise ValueError("it is a web page or XML")


def _json(text: str, suffix: str) -> Labels | None:
    """JSON, or a list or dict as Python prints it."""
    start = text.lstrip()[:1]
    if suffix != ".json" and (start not in ("{", "[") or re.match(r"\s*\[\d+\]\s*[^\s,\]]", text)):  # [0] tench
        return None
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        found = literal(text) if len(text) <= LONGEST_LITERAL else None
        if found is None:
            raise ValueError(f"it is no JSON: {error}") from None
    return _structure(found)


# labels = [..., in Python or JavaScript.
ASSIGNED = re.compile(
    r"(?P<word>(?:export\s+)?(?:(?:const|let|var)\s+)?)(?P<name>[A-Za-z_]\w*)\s*(?::[^=\n]{1,100})?=\s*(?P<value>[\[({].*)",
    re.DOTALL,
)
# cat = (felis): names, whose brackets hold no list.
SET_EQUAL = re.compile(r"[A-Za-z_]\w*\s*=\s*(?:\(.*\)|\[[^\]\"']*\]|\{[^}\"':]*\})")


def _source(text: str, suffix: str) -> Labels | None:
    """A list or dict that a program gives a name: `labels = ["cat", "dog"]`."""
    if suffix == ".py":
        if len(text) > LONGEST_LITERAL:
            raise ValueError(f"it is a program of more than {LONGEST_LITERAL} characters")
        return labels_of_program(text, _structure)
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(("#", "//"))), 0)
    found = ASSIGNED.match("\n".join(lines[start:]))
    if found is None:
        return None
    value = literal(found["value"].rstrip().rstrip(";")) if len(text) <= LONGEST_LITERAL else None
    if isinstance(value, list | tuple | dict | set):
        return _structure(value)
    alone = SET_EQUAL.fullmatch(lines[start].strip()) and not LABELISH.fullmatch(found["name"])
    if not found["word"] and (alone or re.match(r"\([ \t]*[^\s\"']", found["value"])):
        return None
    raise ValueError(
        f"line {start + 1} begins {found['name'][:40]} = as in a program, and no list of labels alone follows"
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a key twice")
    return found


def _structure(found: Any) -> Labels:
    """A list; an object from index to label or from label to index; or an object that holds one of these."""
    if isinstance(found, Mapping):
        holder = next((key for key in HOLDERS if isinstance(found.get(key), Mapping | list | tuple)), None)
        return _structure(found[holder]) if holder else _mapping(found)
    if isinstance(found, list | tuple):
        if found and all(isinstance(one, Mapping) for one in found):
            return _by_index(_fields(one) for one in found)
        return _paired(found) if _are_pairs(found) else tuple(map(_name, found))
    raise ValueError("it is neither a list of labels nor an object of index and label")


def _are_pairs(found: Sequence[Any]) -> bool:
    """Whether a list is one of pairs with an index, and not of ImageNet's ["n02123045", "tabby"]."""
    pairs = [one for one in found if isinstance(one, list | tuple) and len(one) == 2]
    return len(pairs) == len(found) > 0 and any(_index(cell) is not None for one in pairs for cell in one)


def _mapping(found: Mapping[Any, Any]) -> Labels:
    return _paired(list(found.items()))


def _paired(found: Sequence[Sequence[Any]]) -> Labels:
    """Of pairs of index and label, or of label and index."""
    to_label = [(index, label) for key, label in found if (index := _index(key)) is not None]
    to_index = [(index, key) for key, value in found if (index := _index(value)) is not None]
    whole = [pairs for pairs in (to_label, to_index) if pairs and len(pairs) == len(found)]
    if not whole:
        raise ValueError("it is neither a list of labels nor one of index and label")
    try:
        readings = {_by_index(pairs) for pairs in whole}
    except ValueError:
        if len(whole) == 1:
            raise
        readings = set()
    if len(readings) == 2:  # of `0 10`, `1 20`, `2 50` one counts the classes, and the other does not
        counting = {reading for reading in readings if all(reading)}
        readings = counting if any(not all(reading[1:]) for reading in readings - counting) else readings
    if len(readings) != 1:
        raise ValueError("keys and values are numbers, and either may be the indices")
    return readings.pop()


def _fields(one: Mapping[Any, Any]) -> tuple[int, Any]:
    """{"id": 3, "name": "tench"} and the like."""
    index = next((found for key in INDICES if (found := _index(one.get(key))) is not None), None)
    name = next((one[key] for key in NAMES if isinstance(one.get(key), str)), None)
    if index is None or name is None:
        raise ValueError("an entry has no id, or no name")
    return index, name


def _index(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    said = str(value).strip()
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 18 else None


def _name(value: Any) -> str:
    """A label, also of ImageNet's ["n02123045", "tabby"]."""
    several = isinstance(value, list | tuple) and value
    last = value[-1] if several else value
    if isinstance(last, bool) or not isinstance(last, str if several else str | int):
        raise ValueError(f"{str(last)[:40]!r} is no label")
    return str(last).strip()


def _by_index(pairs: Iterable[tuple[int, Any]]) -> Labels:
    found: dict[int, str] = {}
    for index, label in pairs:
        if index in found:
            raise ValueError(f"it has two labels for class {index}")
        if index >= MOST:
            raise ValueError(f"no model has a class {index}")
        found[index] = _name(label)
    return tuple(found.get(i, "") for i in range(max(found) + 1)) if found else ()


TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<mark>[{}:,;<>])|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>[\w.+-]+)"""
)


def _label_map(text: str, suffix: str) -> Labels | None:
    """The label map of TensorFlow's object detection: item { id: 1 name: "cat" }."""
    if suffix != ".pbtxt" and not re.match(r"\s*(?:#[^\n]*\n\s*)*item\s*:?\s*\{", text):
        return None
    found: list[tuple[int, Any]] = []
    fields: dict[str, bytes] = {}
    depth, key, last, at = 0, "", "", 0
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1} is not as in a label map")
        at = token.end()
        word, value = token["word"] or token["mark"], token["text"]
        if word in ("{", "}"):
            depth += 1 if word == "{" else -1
            if word == "{" and depth == 1:
                fields = {}
            elif word == "}" and depth == 0:
                found.append(_fields({key: _text_of(said) for key, said in fields.items()}))
            key = last = ""
        elif depth == 1 and key and (value or token["word"]):
            if key in fields and key in (*NAMES, *INDICES):
                raise ValueError(f"line {text.count(chr(10), 0, at) + 1} has a second {key} for one item")
            fields.setdefault(key, _of_text_format(value[1:-1]) if value else word.encode())
            key, last = "", key if value else ""
        elif value and last:  # of several texts in a row, as in C, all count
            fields[last] += _of_text_format(value[1:-1])
        elif token["word"] or word:
            key, last = token["word"] or key, ""
    if depth or not found:
        raise ValueError("it is no label map: item { id: 1 name: 'cat' } and so on")
    return _by_index(found)


_ESCAPED = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _of_text_format(text: str) -> bytes:
    """Escapes of C, of bytes: caf\\303\\251."""

    def byte(match: re.Match[bytes]) -> bytes:
        said = match[1]
        if said[:1] in (b"x", b"X") and len(said) > 1:
            return bytes([int(said[1:], 16)])
        return bytes([int(said, 8) & 255]) if said.isdigit() else _LETTERS.get(said, said)

    return _ESCAPED.sub(byte, text.encode())


def _text_of(said: bytes) -> str:
    try:
        return said.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{said[:40]!r} is no UTF-8 once its escapes are read") from None


def _yaml(text: str, suffix: str) -> Labels | None:
    """`names:` of a data.yaml, or a list or map alone; of YAML no more than that."""
    numbered = [
        (i, line) for i, line in enumerate(_lines(text), 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    lines = [line for _, line in numbered]
    holders = [re.match(r"(names|class_names|classes)\s*:(\s|$)", line) for line in lines]
    start = next((i for i, holder in enumerate(holders) if holder), None)
    keys: dict[str, int] = {}
    for (number, _), holder in zip(numbered, holders, strict=True):
        if holder and keys.setdefault(holder[1], number) != number:
            raise ValueError(f"line {number} has {holder[1]}: once more, after line {keys[holder[1]]}")
    listed = bool(lines) and all(re.match(r"-\s", line) for line in lines)
    if start is None and not listed and suffix not in (".yaml", ".yml"):
        return None
    if start is None:
        return _yaml_block(lines)
    first, *rest = lines[start:]
    inline = _uncommented(first.partition(":")[2]).strip()
    if inline[:1] in ("[", "{"):
        return _yaml_inline(" ".join([inline, *map(_uncommented, rest)]))
    if inline:
        raise ValueError("its names are neither a list nor a map")
    block = []
    for line in rest:
        if not line[:1].isspace() and not line.startswith("- "):
            break
        block.append(line)
    return _yaml_block(block)


def _uncommented(line: str) -> str:
    """Of YAML, where # begins a comment behind a space and outside of quotes, which stand at the start of a text."""
    found = next((part for part in _PART.finditer(line) if part["comment"]), None)
    return line[: found.start()] if found else line


_PART = re.compile(r"""(?<![^\s\[{,:])(?:"(?:\\.|[^"\\])*"|'(?:[^']|'')*')|(?P<comment>(?<!\S)\#.*)|.""", re.DOTALL)


def _yaml_block(lines: Sequence[str]) -> Labels:
    depths = {len(line) - len(line.lstrip()) for line in lines}
    if len(depths) != 1:
        raise ValueError("it is no YAML that gradviz reads: names: and below it a list or a map")
    items = [re.fullmatch(r"-\s+(.*)", line.strip()) for line in lines]
    if all(items):
        return tuple(_scalar(one[1]) for one in items if one)
    pairs = [re.fullmatch(r"([^:]*):\s+(.*)", line.strip()) for line in lines]
    if all(pairs):
        return _mapping(_once([(_scalar(one[1]), _scalar(one[2])) for one in pairs if one]))
    raise ValueError("it is no YAML that gradviz reads: names: and below it a list or a map")


def _yaml_inline(text: str) -> Labels:
    """[cat, 'red panda'] or {0: cat, 1: dog}, up to the bracket that ends it."""
    ends = {"[": "]", "{": "}"}[text[0]]
    parts: list[str] = []
    part, quote = "", ""
    for letter in text[1:]:
        if quote or _opens(letter, part):
            ends_it = letter == quote and not (quote == '"' and _is_escaped(part))
            part += letter
            quote = "" if ends_it else quote or letter
        elif letter in ("[", "{"):
            break
        elif letter in (",", ends):
            parts += [part] if part.strip() else []
            part = ""
            if letter == ends:
                return _yaml_block([f"- {one.strip()}" if ends == "]" else one.strip() for one in parts])
        else:
            part += letter
    raise ValueError("the list of its names has no end")


def _opens(letter: str, before: str) -> bool:
    """Whether it begins a text in quotes, or goes on with one whose quote is doubled."""
    if letter not in ("'", '"') or len(before) >= LONGEST:
        return False
    return not before.strip().strip("0123456789: ") or letter == before[-1] == "'"


def _is_escaped(before: str) -> bool:
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _scalar(text: str) -> str:
    """A text of YAML, with or without quotes."""
    said = text.strip()
    if said[:1] in ("'", '"'):
        quoted = re.match(r"'((?:[^']|'')*)'|\"((?:\\.|[^\"\\])*)\"", said)
        if quoted is None or said[quoted.end() :].strip()[:1] not in ("", "#"):
            raise ValueError(f"{said[:40]} is not quoted as in YAML")
        return quoted[1].replace("''", "'") if quoted[1] is not None else _of_yaml(quoted[2])
    said = _uncommented(said).strip()
    key = re.match(r"(\w+):(\s|$)", said)
    nested = re.match(r"[-?](\s|$)", said) or key and key[1] in (*NAMES, *INDICES)
    if nested or said[:1] in ("&", "*", "!", "|", ">", "{", "["):
        raise ValueError(f"{said[:40]} is no plain name")
    return said


_YAML_ESCAPED = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_YAML_LETTERS = dict(zip('0abtnvfre "/\\N_LP', '\0\a\b\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029', strict=True))


def _of_yaml(text: str) -> str:
    """Escapes of a text in double quotes (YAML 1.2, 5.7)."""

    def letter(match: re.Match[str]) -> str:
        said = match[1]
        if len(said) == 1 and said not in _YAML_LETTERS:
            raise ValueError(f"{text[:40]} has an escape that YAML has not: {match[0]}")
        return _YAML_LETTERS[said] if len(said) == 1 else _character(int(said[1:], 16), text)

    return _YAML_ESCAPED.sub(letter, text)


def _character(number: int, text: str) -> str:
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise ValueError(f"{text[:40]} has an escape of no character")
    return chr(number)


def _table(text: str, suffix: str) -> Labels | None:
    """A table with a header, or of two columns, one of them the index."""
    lines = [(number, line) for number, line in enumerate(_lines(text), 1) if line.strip()]
    mark = next((one for one in "\t;," if lines and one in lines[0][1]), ",")
    written = suffix in (".csv", ".tsv")
    try:
        first = next(_rows(lines, mark), (0, []))[1]
    except ValueError:
        if written:
            raise
        return None
    header = [cell.strip().strip("\"'").lower().replace(" ", "_") for cell in first]
    known = [cell for cell in header if cell in NAMES or cell and cell in INDICES]
    if not written and not (len(known) > 1 and not NAMED.isdisjoint(known)):
        return None
    rows = list(_rows(lines, mark))
    odd = next(((number, row) for number, row in rows if len(row) != len(header)), None)
    if odd is not None:
        said = f"line {odd[0]} has {len(odd[1])} columns, and line {rows[0][0]} {len(header)}"
        raise ValueError(f"its rows have different numbers of columns: {said}")
    columns = [[cell.strip() for cell in column] for column in zip(*(row for _, row in rows), strict=True)]
    if len(header) == 1:
        return tuple(columns[0][bool(known) :])
    if known:
        return _columns(dict(zip(header, (column[1:] for column in columns), strict=True)))
    if len(columns) == 2:
        pairs = list(zip(*columns, strict=True))
        headed = len(pairs) > 1 and all(cell and _index(cell) is None for cell in pairs[0])  # ClassId,SignName
        return _paired(pairs[headed:])
    raise ValueError("it is a table without a header that names a column label and a column index")


def _rows(lines: Sequence[tuple[int, str]], mark: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their line. A cell in quotes may go on in further lines, but in none that is a row: a quote that is
    not closed would make one row of several."""
    at, width = 0, 0
    while at < len(lines):
        number, (row, end) = lines[at][0], _row(lines, at, mark)
        width = width or len(row)
        inside = next((further for further, line in lines[at + 1 : end] if _is_row(line, mark, width)), None)
        if inside and _is_row(lines[at][1], mark, width):
            raise ValueError(
                f"line {number} is none of a table: a quote is not closed before line {inside}, which is a row by itself"
            )
        yield number, [re.sub(r"\s*\n\s*", " ", cell) for cell in row]
        at = end


def _is_row(line: str, mark: str, width: int) -> bool:
    cells = [cell.strip().strip('"') for cell in line.split(mark)]
    return len(cells) == width > 1 and any(_index(cell) is not None for cell in cells)


def _row(lines: Sequence[tuple[int, str]], at: int, mark: str) -> tuple[list[str], int]:
    """The row that begins with a line, and the place of the line behind it."""
    number, text = lines[at]
    said = ""
    for end in range(at + 1, min(len(lines), at + MOST_BROKEN) + 1):
        try:
            return next(csv.reader([re.sub(rf'" +(?={mark}|$)', '"', text)], _Table, delimiter=mark)), end
        except csv.Error as error:
            is_open = "end of data" in str(error)
            said = said or ("a quote is not closed" if is_open else "a word follows a quote")
        if not is_open:
            break
        text = "\n".join([text, *(line for _, line in lines[end : end + 1])])
    raise ValueError(f"line {number} is none of a table: {said}") from None


class _Table(csv.excel):
    strict, skipinitialspace = True, True


def _columns(columns: Mapping[str, Sequence[str]]) -> Labels:
    whole = {name for name, column in columns.items() if column and all(_index(cell) is not None for cell in column)}
    index = next((name for name in (*INDICES, *NAMES) if name in whole), None)
    name = next((name for name in NAMES if name in columns and name != index), None)
    other = next((one for one in columns if one not in (index, name)), None) if len(columns) == 2 else None
    if name is None and index is not None and other not in whole:  # id,description
        name = other
    elif index is None and other in whole and _counts([(int(cell), "") for cell in columns[other]]):  # number,name
        index = other
    if name is None or index is None:
        raise ValueError("it is a table without a column label and a column index of whole numbers")
    return _by_index((int(number), label) for number, label in zip(columns[index], columns[name], strict=True))


def _names(text: str, suffix: str) -> Labels:
    """One label a line; numbers and WordNet's codes beside them are taken off."""
    lines = [line.strip() for line in _lines(text)]
    while lines and not lines[-1]:
        lines.pop()
    lines = _unquoted(lines)
    coded = [line for line in lines if WORDNET.match(line)]
    begins = lines[:1] and lines[0].casefold() in BACKGROUND
    if coded and len(coded) == len(lines) - bool(begins):
        lines = [WORDNET.sub("", line, count=1) for line in lines]
    elif 2 * len(coded) > len(lines):
        raise ValueError("some of its lines begin with a code of WordNet, and some do not")
    found = tuple(_unquoted(_numbered(lines) or lines))
    behind = all(WORDNET.match(label) for label in found if label)  # the numbers
    return tuple(WORDNET.sub("", label, count=1) for label in found) if behind else found


def _unquoted(lines: Sequence[str]) -> list[str]:
    """Without the quotes and commas of the source of a list, where every line has them."""
    quoted = [QUOTED.fullmatch(line) for line in lines if line]
    if len(quoted) < 2 or not all(quoted):
        return list(lines)
    return [(one[1] or one[2] or "") if (one := QUOTED.fullmatch(line)) else "" for line in lines]


def _numbered(lines: Sequence[str]) -> Labels | None:
    """`0 tench`, `0: tench`, `tench 0`: the numbers are those of classes where they are all from 0 or 1 on."""
    full = [line for line in lines if line]
    leading = [pair for line in full if (pair := _leading(line))]
    bare = [(int(line), "") for line in full if line.isascii() and line.isdigit() and len(line) <= 6]
    if len(bare) < len(leading) == len(full) - len(bare) and _counts(leading + bare):
        leading += bare  # classes without a name
    every = len(full) == len(leading) > 1
    if every and all(map(_is_range, full)) and not _counts(leading):
        return None
    if every and all(_index(label) is not None for _, label in leading):
        return _paired(leading)
    if (behind := _behind_background(full)) is not None:
        return behind
    if not every:
        _check_all_or_none(lines)
    elif _differ(full):
        if not _counts(leading) and not _counts_with_gaps(leading):
            raise ValueError(f"its lines begin with numbers that do not count the classes; {ALL_OR_NONE}")
        return _paired(leading)
    trailing = [pair for line in full if (pair := _trailing(line))]
    if len(full) == len(trailing) > 1 and len({label for _, label in trailing}) == len(full) and _counts(trailing):
        return _by_index(trailing)
    return None


ALL_OR_NONE = "number every line from 0 on or none, and give names that begin with a number as a JSON list"


def _behind_background(full: Sequence[str]) -> Labels | None:
    """`background`, `1 dog`, `2 cat`: the first line is that of class 0, and the others count."""
    first, rest = "".join(full[:1]), full[1:]
    known = first.casefold() in BACKGROUND
    for parted in (_leading, _trailing) if first and rest and not _leading(first) else ():
        found = [pair for line in rest if (pair := parted(line))]
        if len(found) == len(rest) and _differ(rest) and _counts([(0, first), *found]):
            marked = len(rest) > 1 and all((one := LEADING.fullmatch(line)) and one[2].strip(" ") for line in rest)
            return _by_index([(0, first), *found]) if known or marked else None
    return None


def _check_all_or_none(lines: Sequence[str]) -> None:
    """Refuse lines of which some, and not all, begin with the number of their class. That of a name may begin it too: `3 legged
    dog`; but it is no name where most lines count, or several have that of their own place."""
    full = [(place, line) for place, line in enumerate(lines) if line]
    counted = [(place, found[0], line) for place, line in full if not _is_range(line) and (found := _leading(line))]
    numbers = [number for _, number, _ in counted]
    if len(counted) in (0, 1, len(full)) or not _differ([line for *_, line in counted]):
        return
    ordered = numbers == sorted(set(numbers)) or _counts([(number, "") for number in numbers])
    most = 2 * len(counted) > len(full) and min(numbers) in (0, 1) and ordered
    if most or sum(place == number for place, number, _ in counted) > 1:
        odd = min({place for place, _ in full} - {place for place, *_ in counted})
        raise ValueError(f"line {odd + 1} does not begin with a number as others do: {lines[odd][:40]}; {ALL_OR_NONE}")


def _leading(line: str) -> tuple[int, str] | None:
    """`0 tench`."""
    found = LEADING.fullmatch(line)
    return (int(found[1]), found[3]) if found else None


def _is_range(line: str) -> bool:
    found = RANGE.match(line)
    return found is not None and int(found[1]) < int(found[2])


def _differ(lines: Sequence[str]) -> bool:
    """Whether most names differ without their numbers: those of `1 dollar` and `2 dollars` do not, where no mark parts them."""
    bare = set()
    for line in lines:
        found = LEADING.fullmatch(line)
        label = found[3] if found else line.rstrip("0123456789")
        bare.add(PLURAL.sub("", label.casefold()) if found and not found[2].strip(" ") else label)
    return len(bare) >= MOSTLY * len(lines)


def _trailing(line: str) -> tuple[int, str] | None:
    """`tench 0`."""
    label = line.rstrip("0123456789")
    number, name = line[len(label) :], label.rstrip(BEFORE_NUMBERS)
    return (int(number), name) if 0 < len(number) <= 6 and name and name != label else None


def _counts(pairs: Sequence[tuple[int, str]]) -> bool:
    numbers = sorted(number for number, _ in pairs)
    return numbers in (list(range(len(pairs))), list(range(1, len(pairs) + 1)))


def _counts_with_gaps(pairs: Sequence[tuple[int, str]]) -> bool:
    """As the 80 classes of COCO do, from 1 to 90."""
    numbers = [number for number, _ in pairs]
    steps = [after - before for before, after in zip(numbers, numbers[1:], strict=False)]
    return len(steps) >= MANY and numbers[0] in (0, 1) and min(steps) > 0 and steps.count(1) >= FEW_GAPS * len(steps)


def _lines(text: str) -> list[str]:
    """At the ends of Unix, Windows and old Macs, and at nothing else that Unicode takes for one."""
    return re.split(r"\r\n|\n|\r", text)


FORMS: tuple[Callable[[str, str], Labels | None], ...] = (_marked_up, _source, _json, _label_map, _yaml, _table, _names)
