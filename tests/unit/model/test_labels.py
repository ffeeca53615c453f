"""Files of labels as people have them."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gradviz_cli.errors import ImageError, ModelRefused, UsageError
from gradviz_cli.model import labels
from gradviz_cli.model.label_files import labels_in
from gradviz_cli.model.labels import misfit, read_labels


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("a.txt", b"cat\ndog\n", ("cat", "dog")),
        ("a.txt", b"cat\r\n dog \r\n", ("cat", "dog")),
        ("a.txt", b"\xef\xbb\xbfcat\ndog", ("cat", "dog")),
        ("a.txt", "köter\n猫".encode(), ("köter", "猫")),
        ("a.txt", b"cat\n\ndog", ("cat", "", "dog")),
        ("a.txt", b'"cat"\n"dog, red"\n', ("cat", "dog, red")),
        ("a.txt", b"'cat',\n'dog',\n", ("cat", "dog")),
        ("a.txt", b'"cat"\ndog\'s\n', ('"cat"', "dog's")),
        ("a.json", b'["cat", "dog"]', ("cat", "dog")),
        ("a.txt", b'  ["cat", "dog"]', ("cat", "dog")),
        ("a.json", b'{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("a.json", b'{"0": "cat", "2": "dog"}', ("cat", "", "dog")),
        ("a.json", b'{"0": ["n02123045", "tabby"]}', ("tabby",)),
        ("a.json", b"[1, 2]", ("1", "2")),
    ],
)
def test_read(tmp_path: Path, name: str, content: bytes, labels: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_labels(tmp_path / name, tmp_path) == labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"7"),
        ("a.json", b"[]"),
        ("a.json", b'["cat", null]'),
        ("a.json", b'{"cat": 0, "dog": 0}'),
        ("a.json", b'{"0": "cat", "0": "dog"}'),
        ("a.json", b"{}"),
        ("a.json", b'{"99999999": "x"}'),
        ("a.json", b"[" * 100_000),
        ("a.txt", b""),
        ("a.txt", b"\xff\xfe\x00"),
    ],
)
def test_what_is_no_list_of_labels_is_the_options_mistake(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"--labels .*{name}"):
        read_labels(tmp_path / name, tmp_path)


def test_labels_that_lie_in_the_model(tmp_path: Path) -> None:
    assert read_labels(None, tmp_path) == ()
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "labels.txt").write_text("ant\nbee\n")
    assert read_labels(None, tmp_path) == ("ant", "bee")
    (tmp_path / "own.json").write_text(json.dumps(["x"]))
    assert read_labels(tmp_path / "own.json", tmp_path) == ("x",)


def test_a_file_that_may_not_be_read_is_no_wrong_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> bytes:
        raise ImageError("unreadable", "cannot be opened: Permission denied")

    monkeypatch.setattr(labels, "read_bytes", refused)
    with pytest.raises(UsageError, match="Permission denied") as caught:
        read_labels(tmp_path / "l.txt", tmp_path)
    assert "chmod" in caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.txt"):
        read_labels(tmp_path / "none.txt", tmp_path)


ROSES = ("rose", "tulip", "daisy")
NUMBERED = ("", *ROSES)  # from 1 on: what is class 0 the file does not say

UNDERSTOOD = {
    # JSON
    "class_indices": (".json", '{"tulip": 1, "rose": 0, "daisy": 2}', ROSES),
    "class_indices as texts": (".json", '{"tulip": "1", "rose": "0", "daisy": "2"}', ROSES),
    "imagenet_class_index": (".json", '{"0": ["n1", "rose"], "1": ["n2", "tulip"], "2": ["n3", "daisy"]}', ROSES),
    "config.json": (".json", '{"model_type": "vit", "id2label": {"0": "rose", "2": "daisy", "1": "tulip"}, "label2id": {}}', ROSES),
    "label2id": (".json", '{"label2id": {"rose": 0, "tulip": 1, "daisy": 2}, "hidden": 3}', ROSES),
    "list within": (".json", '{"classes": ["rose", "tulip", "daisy"]}', ROSES),
    "COCO": (".json", '{"images": [], "categories": [{"id": 2, "name": "tulip"}, {"id": 1, "name": "rose"}, {"id": 3, "name": "daisy"}]}', NUMBERED),
    "list of pairs": (".json", '[["n1", "rose"], ["n2", "tulip"], ["n3", "daisy"]]', ROSES),
    "list of pairs with an index": (".json", '[["tulip", 1], ["rose", 0], ["daisy", 2]]', ROSES),
    "list of pairs, the index first": (".json", '[[2, "daisy"], [0, "rose"], [1, "tulip"]]', ROSES),
    "list of pairs of Python": (".txt", "[('tulip', 1), ('rose', 0), ('daisy', 2)]", ROSES),
    "list of pairs of texts": (".json", '[["tulip", "1"], ["rose", "0"]]', ("rose", "tulip")),
    "numbers by index": (".json", '{"0": 10, "1": 20, "2": 50}', ("10", "20", "50")),
    "indices of numbers": (".json", '{"10": 0, "20": 1, "50": 2}', ("10", "20", "50")),
    "Teachable Machine with numbers": (".txt", "0 10\n1 20\n2 50\n", ("10", "20", "50")),
    "digits for themselves": (".json", '{"0": 0, "1": 1}', ("0", "1")),
    "JSON by another name": (".txt", '\n["rose", "tulip", "daisy"]', ROSES),
    "as Python prints it": (".txt", "{0: 'rose',\n 1: 'tulip',\n 2: 'daisy'}", ROSES),
    "a list of Python": (".txt", "['rose', \"tulip\", 'daisy',]", ROSES),
    # YAML
    "yaml map": (".yaml", "path: ../flowers\nnc: 3\nnames:\n  0: rose\n  1: tulip\n  2: daisy  # white\ntest: x\n", ROSES),
    "yaml list": (".yml", "names:\n- rose\n- 'tulip'\n- \"daisy\"\nnc: 3\n", ROSES),
    "yaml list set in": (".yaml", "# flowers\nnames:\n    - rose\n\n    - tulip\n    - daisy", ROSES),
    "yaml in one line": (".yaml", "train: a\nnames: ['rose', tulip, \"daisy\"]  # all\n", ROSES),
    "yaml in lines": (".yaml", "names: [ 'rose', 'tulip',\n         'daisy' ]\nnc: 3", ROSES),
    "yaml map in one line": (".yaml", "names: {0: rose, 1: 'tulip', 2: daisy}", ROSES),
    "yaml with marks": (".yaml", "names:\n  0: 'it''s, so'\n  1: a#b\n  2: \"x: y\"", ("it's, so", "a#b", "x: y")),
    "yaml with escapes": (".yaml", 'names:\n- "caf\\xE9"\n- "\\u72D7\\U0001F408"\n- "a \\"b\\" \\\\ c"\n', ("caf\u00e9", "\u72d7\U0001f408", 'a "b" \\ c')),
    "yaml with escapes in one line": (".yaml", 'names: {0: "a \\", b", 1: \'it\'\'s, so\'}', ('a ", b', "it's, so")),
    "no escapes in single quotes": (".yaml", "names: ['caf\\xE9']", ("caf\\xE9",)),
    "yaml with comments in lines": (".yaml", 'names: ["rose", # red "ones"\n  "#1 tulip", # [x]\n  daisy#3]', ("rose", "#1 tulip", "daisy#3")),
    "yaml with comments": (".yaml", "names:\n- rose # the \"red\" one\n- it's # mine\n- 'a # b' # c\n", ("rose", "it's", "a # b")),
    "yaml by another name": (".txt", "names:\n  0: rose\n  1: tulip\n  2: daisy\n", ROSES),
    "yaml without a key": (".yaml", "0: rose\n1: tulip\n2: daisy\n", ROSES),
    "a list of dashes": (".txt", "- rose\n- tulip\n- daisy\n", ROSES),
    # label maps
    "pbtxt": (".pbtxt", "".join(f"item {{\n  id: {i}\n  name: '{one}'\n}}\n" for i, one in enumerate(ROSES, 1)), NUMBERED),
    "pbtxt of Open Images": (".pbtxt", 'item {\n name: "/m/01"\n id: 1\n display_name: "rose"\n}\nitem{name:"/m/02" id:2 display_name:"tulip"}', ("", "rose", "tulip")),
    "pbtxt with escapes": (".pbtxt", 'item { id: 0 name: "caf\\303\\251 \\xe7\\x8b\\x97 \\"x\\"" }', ('caf\u00e9 \u72d7 "x"',)),
    "pbtxt with comments and more": (".txt", "# map\nitem: { id: 0; name: 'it\\'s' keypoints { id: 9 label: 'nose' } }", ("it's",)),
    "pbtxt with a text in parts": (".pbtxt", "item { id: 0 name: \"caf\" 'e' }\nitem { id: 1 name: '\\303'\n  # then\n '\\251' \"03\" }", ("cafe", "\u00e903")),
    # programs
    "Python": (".txt", "labels = ['rose', 'tulip',\n  'daisy']\n", ROSES),
    "Python with a type": (".py", "# flowers\n\nLABELS: dict[int, str] = {0: 'rose', 1: 'tulip', 2: 'daisy',  # white\n}\n", ROSES),
    "Python with a docstring": (".py", '"""Flowers."""\n\nLABELS = ["rose", "tulip", "daisy"]\n', ROSES),
    "Python of more": (".py", "from x import y\nMEAN = [.4, .5]\nSIZE = (224, 224)\nLABELS = ('rose', 'tulip', 'daisy')\nN = len(LABELS)\nprint(LABELS)\n", ROSES),
    "Python that says it twice": (".py", "LABELS = ['rose', 'tulip', 'daisy']\nid2label = {0: 'rose', 1: 'tulip', 2: 'daisy'}\n", ROSES),
    "Python in a class": (".py", "class Flowers:\n    CLASSES = ('rose', 'tulip', 'daisy')\n    PALETTE = [[1, 2, 3], [4, 5, 6]]\n", ROSES),
    "Python that tells what it offers": (".py", "__all__ = ['FLOWERS']\nN_CLASSES = 2\nFLOWERS = ['rose', 'tulip', 'daisy']\n", ROSES),
    "a list alone in Python": (".py", "# flowers\n['rose',\n 'tulip', 'daisy']\n", ROSES),
    "JavaScript": (".txt", 'export const labels = ["rose", "tulip", "daisy"];\n', ROSES),
    # tables
    "csv with blanks behind quotes": (".csv", 'label ,index\n"rose" ,0\n"tulip" , 1\n"da""isy"  ,2\n', ("rose", "tulip", 'da"isy')),
    "tsv with an empty column": (".tsv", 'label\tnote\tindex\n"rose"\t\t0\n"tulip"\t\t1\n', ("rose", "tulip")),
    "csv": (".csv", "index,label\n1,tulip\n0,rose\n2,daisy\n", ROSES),
    "csv with quotes": (".csv", 'id;name\r\n0;"rose"\r\n1;"tulip"\r\n2;"daisy"\r\n', ROSES),
    "csv of TensorFlow Hub": (".csv", 'index,mid,display_name\n0,/m/1,"rose, red"\n1,/m/2,tulip', ("rose, red", "tulip")),
    "tsv": (".tsv", "label\tclass\nrose\t0\ntulip\t1\ndaisy\t2\n", ROSES),
    "a table by another name": (".txt", "class_id,class_name\n0,rose\n1,tulip\n2,daisy", ROSES),
    "csv without a header": (".csv", "0,rose\n1,tulip\n2,daisy\n", ROSES),
    "csv of pandas": (".csv", ",label\n0,rose\n1,tulip\n2,daisy\n", ROSES),
    "csv of one column with commas": (".csv", '"rose, red"\n"tulip, Tulipa"\n', ("rose, red", "tulip, Tulipa")),
    "csv with a line break": (".csv", 'index,label\n0,"rose,\nred"\n1,tulip\n', ("rose, red", "tulip")),
    "csv with line breaks of Windows": (".csv", 'label,index\r\n"rose \r\n\r\n red",0\r\ntulip,1\r\n', ("rose red", "tulip")),
    "csv with a line break in one column": (".csv", 'label\n"rose\nred"\ntulip\n', ("rose red", "tulip")),
    "csv with an inch": (".csv", 'index,label\n0,5" pipe\n1,2" pipe\n', ('5" pipe', '2" pipe')),
    "csv of road signs, named otherwise": (".csv", "ClassId,Name\n0,Stop\n1,Yield\n", ("Stop", "Yield")),
    "csv of three columns": (".csv", "Class ID,Class Name,Count\n0,Stop,9\n1,Yield,7\n", ("Stop", "Yield")),
    "csv of one known column": (".csv", "id,description\n1,Yield\n0,Stop\n", ("Stop", "Yield")),
    "csv of another known column": (".csv", "name,number\nYield,1\nStop,0\n", ("Stop", "Yield")),
    "csv of road signs": (".csv", "ClassId,SignName\n0,Stop\n1,Yield\n", ("Stop", "Yield")),
    "csv with spaces": (".csv", '0, "rose, red"\n1, "tulip"\n', ("rose, red", "tulip")),
    "csv, the label first": (".csv", "rose,0\ntulip,1\n", ("rose", "tulip")),
    "csv of one column": (".csv", "label\nrose\ntulip\ndaisy\n", ROSES),
    # lines
    "numbered": (".txt", "0 rose\n1 tulip\n2 daisy\n", ROSES),
    "numbered in any order": (".txt", "2: daisy\n0: rose\n1: tulip\n", ROSES),
    "numbered with commas": (".txt", "0,rose\n1,tulip\n2,daisy", ROSES),
    "numbered with dashes": (".txt", "0 - rose\n1 - tulip\n2 - daisy", ROSES),
    "numbered with long dashes": (".txt", "0 \u2013 rose\n1 \u2014 tulip", ("rose", "tulip")),
    "numbered with arrows": (".txt", "0 -> rose\n1=>tulip", ("rose", "tulip")),
    "numbered with bars": (".txt", "0|rose\n1 | tulip", ("rose", "tulip")),
    "numbered in brackets": (".txt", "[0] rose\n[1] tulip", ("rose", "tulip")),
    "numbered in parentheses": (".txt", "(0) rose\n(1) tulip", ("rose", "tulip")),
    "numbers behind an arrow": (".txt", "tulip -> 1\nrose -> 0", ("rose", "tulip")),
    "numbered from 1": (".txt", "1. rose\n2. tulip\n3. daisy", NUMBERED),
    "numbers behind": (".txt", "/r/rose 0\n/t/tulip 1\n/d/daisy 2", ("/r/rose", "/t/tulip", "/d/daisy")),
    "numbers behind a colon": (".txt", "tulip: 1\nrose: 0\ndaisy: 2", ROSES),
    "numbered behind a background": (".txt", "background\n1 rose\n2 tulip\n3 daisy\n", ("background", *ROSES)),
    "numbered behind a dummy": (".txt", "dummy\n1: rose\n3: daisy\n2: tulip", ("dummy", *ROSES)),
    "one behind a background": (".txt", "background\n1 rose\n", ("background", "rose")),
    "numbers behind, and a background": (".txt", "background\nrose 1\ntulip 2\ndaisy 3", ("background", *ROSES)),
    "numbered with a mark behind another": (".txt", "no flower\n1: rose\n2: tulip", ("no flower", "rose", "tulip")),
    "numbered and quoted": (".txt", "0: 'rose, red',\n 1: \"lady's mantle\",\n", ("rose, red", "lady's mantle")),
    "numbered, one without a name": (".txt", "1 rose\n2 tulip\n3\n4 daisy\n", ("", "rose", "tulip", "", "daisy")),
    "numbered with gaps": (".txt", "".join(f"{i}  r{i:02}\n" for i in range(1, 91) if i % 10), tuple(f"r{i:02}" if i % 10 else "" for i in range(90))),
    "numbered synsets": (".txt", "0 n01440764 rose\n1 n01443537 tulip", ("rose", "tulip")),
    "synset_words": (".txt", "n01440764 rose, red\nn01443537 tulip\nn01484850 daisy", ("rose, red", "tulip", "daisy")),
    "synsets behind a background": (".txt", "background\nn01440764 rose\nn01443537 tulip", ("background", "rose", "tulip")),
    "map_clsloc": (".txt", "n02119789 1 rose\nn02100735 2 tulip\nn02110185 3 daisy", NUMBERED),
    # names that look like something else
    "codes alone": (".txt", "n01440764\nn01443537\n", ("n01440764", "n01443537")),
    "digits": (".txt", "".join(f"{i}\n" for i in range(10)), tuple("0123456789")),
    "a quote in the first": (".txt", '"rose\ntulip, "x"\n', ('"rose', 'tulip, "x"')),
    "a number at its own place": (".txt", "cat\n1 legged dog\nfish\nbird\n", ("cat", "1 legged dog", "fish", "bird")),
    "numbers in a few": (".txt", "2 seater\n4 seater\n7 seater\nbus\ncar\nvan\nship\n", ("2 seater", "4 seater", "7 seater", "bus", "car", "van", "ship")),
    "a name that is set equal": (".txt", "x = y\nlabels = none\n", ("x = y", "labels = none")),
    "a bracket that is set equal": (".txt", "cat = (felis)\ndog = (canis)\n", ("cat = (felis)", "dog = (canis)")),
    "one bracket": (".txt", "x = (y)", ("x = (y)",)),
    "brackets without quotes": (".txt", "cat = [felis, catus]\ndog = {canis}", ("cat = [felis, catus]", "dog = {canis}")),
    "a word and a colon": (".txt", "- Star Wars: A New Hope\n- Alien\n", ("Star Wars: A New Hope", "Alien")),
    "numbers that are part of a name": (".txt", "boeing 747\nairbus 320\n", ("boeing 747", "airbus 320")),
    "names that differ by a number": (".txt", "class 0\nclass 1\nclass 2\n", ("class 0", "class 1", "class 2")),
    "hours": (".txt", "10 pm\n11 pm\nnoon\n", ("10 pm", "11 pm", "noon")),
    "coins of one kind": (".txt", "1 euro\n2 euro\n5 euro\n10 euro", ("1 euro", "2 euro", "5 euro", "10 euro")),
    "one and many": (".txt", "1 dollar\n2 dollars", ("1 dollar", "2 dollars")),
    "one and many, and a word": (".txt", "1 dollar\n2 dollars\nfive dollars", ("1 dollar", "2 dollars", "five dollars")),
    "ranges with blanks": (".txt", "0 - 2\n3 - 9\n10 - 19\nmore than 70", ("0 - 2", "3 - 9", "10 - 19", "more than 70")),
    "ranges alone": (".txt", "0 to 9 years\n10 to 19 years", ("0 to 9 years", "10 to 19 years")),
    "numbers that are most of a name": (".txt", "1 star\n2 stars\n3 stars\n", ("1 star", "2 stars", "3 stars")),
    "ages": (".txt", "0-9 years\n10-19 years\n", ("0-9 years", "10-19 years")),
    "Teachable Machine": (".txt", "0 Class 1\n1 Class 2\n", ("Class 1", "Class 2")),
    "a number in some": (".txt", "3 legged dog\ncat\n", ("3 legged dog", "cat")),
    "commas in names": (".txt", "tench, Tinca tinca\ngoldfish\n", ("tench, Tinca tinca", "goldfish")),
    "a word for a column in some": (".txt", "name, given\nclass\n", ("name, given", "class")),
    # marks and ends
    "UTF-16": (".txt", "\ufeffrose\r\ntulip\r\n".encode("utf-16-le"), ("rose", "tulip")),
    "UTF-16, big end": (".txt", "\ufeffr\u00f6se\ntulip".encode("utf-16-be"), ("r\u00f6se", "tulip")),
    "old Mac": (".txt", b"rose\rtulip \r", ("rose", "tulip")),
    "empty lines behind": (".txt", b"rose\ntulip\n\n \n", ("rose", "tulip")),
    "decomposed": (".txt", "cafe\u0301\nrose", ("caf\u00e9", "rose")),
    "no end of a line": (".txt", "a\u2028b\x85c\nd", ("a\u2028b\x85c", "d")),
    "twice": (".txt", "crane\ncrane\n", ("crane", "crane")),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_forms_that_trainers_write(tmp_path: Path, name: str) -> None:
    suffix, content, expected = UNDERSTOOD[name]
    (tmp_path / f"labels{suffix}").write_bytes(content.encode() if isinstance(content, str) else content)
    assert read_labels(tmp_path / f"labels{suffix}", tmp_path) == expected


DOUBTFUL = {
    "which are the indices": (".json", '{"0": 1, "1": 2, "2": 0}', "keys and values are numbers, and either may be the indices"),
    "which of a table": (".csv", "0,2\n1,0\n2,1\n", "either may be the indices"),
    "which of lines": (".txt", "0,2\n1,0\n2,1\n", "either may be the indices"),
    "which of two that count": (".txt", "0 1\n1 2\n2 3\n", "either may be the indices"),
    "which of two that do not count": (".json", '{"3": 5, "7": 9}', "either may be the indices"),
    "which of pairs": (".json", "[[0, 2], [1, 0], [2, 1]]", "either may be the indices"),
    "which of a table where one is twice": (".csv", "0,1\n1,1\n2,0\n", "either may be the indices"),
    "which of lines where one is twice": (".txt", "0,1\n1,1\n2,0\n", "either may be the indices"),
    "numbers before most": (".txt", "0 tench\n1 goldfish\n\nshark\n3 ray\n", "line 4 does not begin with a number as others do: shark"),
    "numbers before the first": (".txt", "0: tench\n1: goldfish\nshark\nray\ncock\nhen\n", "line 3 does not begin with a number as others do: shark"),
    "numbers from 1 before most": (".txt", "1. tench\n2. goldfish\nshark\n", "line 3 does not begin"),
    "numbers behind a background from 0 on": (".txt", "background\n0 dog\n1 cat", "line 1 does not begin with a number as others do: background; number every line"),
    "numbers behind a background with a gap": (".txt", "background\n1 dog\n3 cat", "line 1 does not begin with a number"),
    "numbers and a first of no known word": (".txt", "no person\n1 person\n2 people\n3 or more people", "line 1 does not begin with a number"),
    "numbers before all but the last": (".txt", "1 up\n2 down\n3 left\nnone of the above", "line 4 does not begin with a number as others do: none of the above; number every line from 0 on or none"),
    "rows behind an open quote": (".csv", '0,"rose\n1,tulip"\n2,daisy\n', "line 1 is none of a table: a quote is not closed before line 2, which is a row by itself"),
    "an open quote up to the end": (".csv", 'label\nrose\n"tulip\ndaisy\n', "line 3 is none of a table: a quote is not closed"),
    "an open quote": (".csv", 'index,label\n0,"rose\n1,tulip\n', "line 2 is none of a table: a quote is not closed"),
    "an open quote that another closes": (".csv", 'index,label\n\n0,"rose\n1,"tulip"\n', "line 3 is none of a table: a quote is not closed"),
    "a word behind a quote": (".csv", 'index,label\n0,"rose" red\n', "line 2 is none of a table"),
    "a long row": (".csv", "index,label\n\n0,rose\n1,tulip,red\n", "line 4 has 3 columns, and line 1 2"),
    "a name of a label map twice": (".pbtxt", "item { id: 1\n name: 'a'\n name: 'b' }", "line 3 has a second name for one item"),
    "a list in a list of yaml": (".yaml", "names:\n- - rose\n- tulip\n", "- rose is no plain name"),
    "a map in a list of yaml": (".yaml", "names:\n- name: rose\n- name: tulip\n", "name: rose is no plain name"),
    "names of yaml twice": (".yaml", "names: [a, b]\nnc: 2\nnames:\n- c\n- d\n", "line 3 has names: once more, after line 1"),
    "a program that computes": (".txt", "labels = [x for x in range(3)]\n", "line 1 begins labels = as in a program"),
    "a program of more": (".txt", "\nlabels = ['a', 'b']\nprint(labels)\n", "line 2 begins labels = as in a program"),
    "a program without labels": (".py", "\nimport os\n", "gives no name to a list of labels that stands as it is"),
    "two lists": (".py", "A = ['a', 'b']\n\nB = ['c', 'd']\n", "several lists that may be the labels: A in line 1, B in line 3"),
    "a list that grows": (".py", "A = ['a', 'b']\nA.append('c')\n", "line 2 may change A"),
    "a list that is written to": (".py", "A = ['a', 'b']\nA[0] = 'c'\n", "line 2 may change A"),
    "a list that is handed on": (".py", "A = B = ['a', 'b']\nC = len(A)\nshuffle(B)\n", "line 3 may change B"),
    "a list that is taken from elsewhere": (".py", "A = ['a', 'b']\nfrom x import y as A\n", "line 2 may change A"),
    "labels that are computed": (".py", "LABELS = 'a b'.split()\nSPLITS = ['train', 'test']\n", "line 1 computes LABELS"),
    "a key twice in Python": (".py", "A = {0: 'a', 1: 'b', 1: 'c'}\n", "it has a key twice"),
    "a key twice as Python prints it": (".txt", "{0: 'a', 1: 'b', 1: 'c'}", "it has a key twice"),
    "no Python": (".py", "A = ['a'\nB = 2\n", "line 1 is no Python"),
    "a set": (".txt", "labels = {'a', 'b'}\n", "neither a list of labels nor"),
    "pairs of which some have an index": (".json", '[["rose", 0], ["tulip", "x"]]', "neither a list of labels nor"),
    "a number among names": (".json", '[["n1", "rose", 7]]', "is no label"),
    "an escape of yaml that is none": (".yaml", 'names: ["a\\qb"]', "an escape that YAML has not"),
    "half a character": (".yaml", 'names: ["\\uD83D"]', "an escape of no character"),
    "bytes that are no text": (".pbtxt", 'item { id: 0 name: "\\303" }', "no UTF-8"),
    "two for one": (".json", '{"0": "rose", "00": "tulip"}', "two labels for class 0"),
    "nothing": (".txt", "\n \n", "it holds no labels"),
    "a web page": (".txt", "<!DOCTYPE html><html>", "a web page"),
    "Latin-1": (".txt", "rose\ncaf\u00e9".encode("latin-1"), "line 2 is not UTF-8; save the file as UTF-8"),
    "zeros": (".txt", "rose\ntulip".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "coins": (".txt", "1 penny\n5 nickel\n10 dime", "numbers that do not count the classes"),
    "half of them with codes": (".txt", "n01440764 rose\nn01443537 tulip\ndaisy", "some of its lines begin with a code"),
    "a table without an index": (".csv", "file,label\na.jpg,rose\nb.jpg,tulip", "without a column label and a column index"),
    "a table of counts": (".csv", "count,label\n40,rose\n50,tulip", "without a column label and a column index"),
    "a table of numbers alone": (".csv", "id,count\n0,40\n1,50", "without a column label and a column index"),
    "a ragged table": (".csv", "index,label\n0,rose\n1,tulip,red", "different numbers of columns"),
    "a table without names": (".csv", "a,b,c\n1,2,3", "without a header"),
    "a class twice": (".csv", "index,label\n0,rose\n0,tulip", "two labels for class 0"),
    "deep yaml": (".yaml", "names:\n  0:\n    en: rose\n", "no YAML that gradviz reads"),
    "yaml anchors": (".yaml", "names:\n  0: &a rose\n  1: *a\n", "no plain name"),
    "yaml without names": (".yaml", "path: x\ntrain: y\n", "neither a list of labels nor"),
    "an open list": (".yaml", "names: [rose, tulip\n", "has no end"),
    "half a label map": (".pbtxt", "item { id: 1 name: 'rose'", "no label map"),
    "a label map without ids": (".pbtxt", "item { name: 'rose' }", "has no id"),
    "another map": (".pbtxt", "node { name: 'x' }\n", "an entry has no id"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_in_doubt_is_refused_with_the_form_that_is_wanted(tmp_path: Path, name: str) -> None:
    suffix, content, said = DOUBTFUL[name]
    (tmp_path / f"labels{suffix}").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError) as caught:
        read_labels(tmp_path / f"labels{suffix}", tmp_path)
    assert said in caught.value.message and caught.value.remedy.startswith("give one label a line, a JSON list, or")


@pytest.mark.parametrize(
    "text",
    ["#" * 50_000, "[" * 50_000, "names: [" + "'" * 50_000, "item {" * 50_000, "0" * 50_000 + " x\ny 1", "a " * 50_000 + "1",
     " " * 50_000 + "x 0\ny 1", "- " * 50_000, "names:\n" + " " * 50_000 + "x", '"' * 50_000 + ",label"],
    ids=lambda text: text[:9],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".txt", ".json", ".yaml", ".pbtxt", ".csv", ".py"])
def test_a_text_made_to_be_slow_is_read_at_once(text: str, suffix: str) -> None:
    start = time.process_time()
    with suppress(ValueError, RecursionError):
        labels_in(text, suffix)
    assert time.process_time() - start < 1


def test_where_the_labels_begin(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("background\ncat\ndog\n")
    assert read_labels(tmp_path / "a.txt", tmp_path, 1) == ("cat", "dog")
    assert read_labels(tmp_path / "a.txt", tmp_path, -1) == ("", "background", "cat", "dog")
    with pytest.raises(UsageError, match="--labels-from 3: .*a.txt has 3 labels"):
        read_labels(tmp_path / "a.txt", tmp_path, 3)
    with pytest.raises(UsageError, match="--labels-from 1: there are no labels"):
        read_labels(None, tmp_path, 1)


@pytest.mark.parametrize(
    ("labels", "classes", "said", "remedy"),
    [
        (
            1001,
            1000,
            "1001 labels for 1000 classes",
            "^check that it is the file of this model.*first may be a background class .*--labels-from 1 ",
        ),
        (1000, 1001, "1000 labels for 1001 classes", "^check that it is the file of this model.*--labels-from -1 "),
        (2, 4, "2 labels for 4 classes", "--output"),
        (2, 1, "2 labels for 1 class", "second label: --labels-from 1 "),
    ],
)
def test_as_many_labels_as_classes(labels: int, classes: int, said: str, remedy: str) -> None:
    found = misfit(("x",) * labels, classes)
    assert found is not None and found[0] == said and re.search(remedy, found[1])
    assert misfit(("x",) * classes, classes) is None and misfit((), classes) is None and misfit(("x",), None) is None


def test_empty_ones_are_counted() -> None:
    found = misfit(("x", "", "y"), 2)
    assert found is not None and found[0] == "3 labels (1 of them empty) for 2 classes"


def test_an_empty_line_among_them_is_no_background() -> None:
    """Whoever left out the first line then would have every class in front of it off by one."""
    found = misfit(("x", "", "y"), 2)
    assert found is not None and "remove it" in found[1] and "--labels-from" not in found[1]
    first = misfit(("", "x", "y"), 2)  # of a map that counts from 1
    assert first is not None and "--labels-from 1" in first[1]


def test_labels_of_a_model_that_lie_elsewhere(tmp_path: Path) -> None:
    model, cache = tmp_path / "model", tmp_path / "blobs"
    (model / "assets.extra").mkdir(parents=True)
    cache.mkdir()
    (cache / "labels").write_text("cat\n")
    (cache / "graph").write_bytes(b"")
    (tmp_path / "secret").write_text("SECRET\n")
    shipped = model / "assets.extra" / "labels.txt"
    shipped.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelRefused, match="link out of the model; give --labels FILE"):
        read_labels(None, model)
    shipped.unlink()
    shipped.symlink_to(cache / "labels")
    (model / "saved_model.pb").symlink_to(cache / "graph")  # as in a download cache
    assert read_labels(None, model) == ("cat",)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".txt", "x\n" * 10_000_001),
        (".txt", "a" + "\u0301\u0323" * 100_000),
        (".json", json.dumps(["a" * 1001])),
        (".json", "[" + "0," * 1_000_000 + "0]"),
        (".yaml", "names: [a" + "'" * 300_000),
        (".yaml", "names: ['" + "a" * 300_000),
        (".pbtxt", "item { name: '" + "\\" * 300_000),
        (".csv", "index,name\n" + '"' * 300_000),
        (".txt", "[" + "-" * 300_000),
        (".txt", "[" + "(" * 300_000),
        (".py", "['a']\n" * 100_000),
        (".py", "".join(f"a{i} = ['a']\n" for i in range(20_000))),
        (".py", "a = ['a', 'b']\n" + "len(a)\n" * 30_000),
        (".py", "a" + ".a" * 300_000),
        (".csv", 'a,b\n0,"' + "\n" * 1_000_000),
        (".csv", '0,"a\n,"' * 200_000),
        (".csv", '0,"' + "x\n" * 1_000_000),
        (".txt", "1 " + " " * 300_000 + "\x85\n" * 3),
    ],
    ids=lambda value: value[:20] if value.startswith(".") else "",
)
def test_what_a_stranger_wrote_is_refused_soon(suffix: str, text: str) -> None:
    start = time.process_time()
    with suppress(ValueError, RecursionError):
        assert max(map(len, labels_in(text, suffix))) <= 1000
    assert time.process_time() - start < 5


def test_those_of_a_model_are_smaller_than_those_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_OWN_BYTES", 10)
    (tmp_path / "assets.extra").mkdir()
    for file in (tmp_path / labels.SHIPPED, tmp_path / "own.txt"):
        file.write_text("ant\nbee\nwasp\n")
        with pytest.raises(UsageError, match="more than the limit"):
            read_labels(file, tmp_path)
    assert read_labels(tmp_path / "own.txt", tmp_path / "elsewhere") == ("ant", "bee", "wasp")
