"""`gradviz show`: what a picture carries, for people and for machines. Under a second."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradviz_cli.cli.show import command
from gradviz_cli.draw.png import encode_png

RECORD = {
    "version": "0.1.0",
    "mode": "guided",
    "estimator": "gradient",
    "style": "heatmap",
    "target": {"index": 3, "label": "tabby", "rank": 0, "score": 12.3456789, "output": 0.975},
    "signature": "serving_default",
    "preprocess": "torch",
    "clip": 99.0,
    "scale": [0.0, 0.00123456789],
    "unit": "attribution per model-input unit",
    "model": "ab" * 32,
    "image": "cd" * 32,
    "digest": "ef" * 32,
}


def picture(path: Path, text: str) -> Path:
    path.write_bytes(encode_png(np.zeros((4, 5), np.uint8), None, text))
    return path


def show(*arguments) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


def test_people_get_aligned_lines_with_units(tmp_path: Path) -> None:
    shown = show(picture(tmp_path / "cat.png", json.dumps(RECORD)))
    assert shown.return_value == 0
    first, *rest = shown.output.splitlines()
    assert first == str(tmp_path / "cat.png")
    assert {line.index(line.split(maxsplit=1)[1]) for line in rest} == {len("  preprocess  ")}
    values = dict(line.split(maxsplit=1) for line in rest)
    assert values["target"] == "tabby (class 3)"
    assert values["score"] == "12.3457"
    assert values["rank"] == "1 (1 is the best)"
    assert values["scale"] == "0 to 0.00123457 attribution per model-input unit"
    assert values["clip"] == "percentile 99"
    assert values["image"] == "SHA-256 " + "cd" * 32
    assert set(values) == {*RECORD, "score", "output", "rank"} - {"unit"}


def test_a_panel_has_a_scale_for_each_mode_and_options_are_as_typed(tmp_path: Path) -> None:
    more = {
        "scale": {"backprop": [0.0, 0.5], "guided": None},
        "npy": {"guided": "12" * 32},
        "options": {"mode": ["backprop", "guided"], "clip": 99.0, "input": "two words", "trust-model": True},
    }
    shown = show(picture(tmp_path / "cat.png", json.dumps({**RECORD, **more})))
    values = dict(line.split(maxsplit=1) for line in shown.output.splitlines()[1:])
    assert values["scale"] == "backprop 0 to 0.5, guided not finite attribution per model-input unit"
    assert values["npy"] == "guided " + "12" * 32
    assert values["options"] == "--mode backprop --mode guided --clip 99 --input 'two words' --trust-model"


@pytest.mark.parametrize("value", [None, 3, "x", [], [[]], {"": {}}, {"a": [None, {}]}, [1, 2, 3]])
def test_what_no_run_writes_is_shown_as_it_is(tmp_path: Path, value: object) -> None:
    for name in ("scale", "npy", "options", "colormap", "target"):
        shown = show(picture(tmp_path / "cat.png", json.dumps({**RECORD, name: value})))
        assert shown.return_value == 0, shown.exception


def test_machines_get_the_record_itself(tmp_path: Path) -> None:
    shown = show("--json", picture(tmp_path / "cat.png", json.dumps(RECORD)))
    assert json.loads(shown.output) == RECORD


def test_several_pictures_keep_their_order_and_the_bad_one_its_place(tmp_path: Path) -> None:
    first = picture(tmp_path / "a.png", json.dumps({**RECORD, "mode": "deconv"}))
    last = picture(tmp_path / "b.png", json.dumps(RECORD))
    shown = show("--json", first, tmp_path / "none.png", last)
    assert shown.return_value == 2
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [record and record["mode"] for record in records] == ["deconv", None, "guided"]
    assert show(first, last).output.count("\n\n") == 1


def test_a_panel_names_all_its_modes(tmp_path: Path) -> None:
    record = {**RECORD, "mode": ["backprop", "guided"], "scale": None}
    shown = show(picture(tmp_path / "panel.png", json.dumps(record)))
    assert "mode        backprop, guided" in shown.output
    assert "scale" not in shown.output


def test_what_a_later_version_adds_is_shown_as_well(tmp_path: Path) -> None:
    shown = show(picture(tmp_path / "a.png", json.dumps({**RECORD, "colormap": "viridis", "more": {"x": [1]}})))
    assert "  colormap    viridis\n" in shown.output
    assert '  more        {"x": [1]}\n' in shown.output


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _whole(text: str) -> bytes:
    return encode_png(np.zeros((4, 5), np.uint8), None, text)


BAD = {
    "missing": (lambda path: None, "No such file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "fifo": (_fifo, "is a FIFO"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "jpeg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(99)), "is not a PNG"),
    "cut short": (lambda path: path.write_bytes(_whole("{}")[:-5]), "or is damaged"),
    "of another program": (
        lambda path: path.write_bytes(_whole("{}").replace(b"gradviz", b"pencils")),
        "no text",
    ),
    "no JSON": (lambda path: path.write_bytes(_whole("{")), "or is damaged"),
    "a list": (lambda path: path.write_bytes(_whole("[]")), "no text of gradviz"),
    "deep": (lambda path: path.write_bytes(_whole("[" * 100_000)), "no text of gradviz"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_picture_is_a_usage_error_that_names_it(case: str, tmp_path: Path) -> None:
    make, told = BAD[case]
    make(tmp_path / "x.png")
    shown = show(tmp_path / "x.png")
    assert shown.exception is None
    assert shown.return_value == 2
    assert shown.stdout == ""
    assert len(shown.stderr.splitlines()) == 1
    assert str(tmp_path / "x.png") in shown.stderr
    assert told in shown.stderr


def test_numbers_and_labels_of_a_stranger_cannot_harm(tmp_path: Path) -> None:
    target = {"index": 10**400, "label": "\x1b[31mred\n\u202eevil", "rank": None, "score": float("nan")}
    path = picture(tmp_path / "a.png", json.dumps({**RECORD, "target": target, "scale": [0, {"a": 1}]}))
    for_people, for_machines = show(path), show("--json", path)
    assert for_people.exception is for_machines.exception is None
    assert "\x1b" not in for_people.output + for_machines.output
    assert "\\x1b[31mred\\n\\u202eevil" in for_people.output
    assert json.loads(for_machines.output, parse_constant=pytest.fail)["target"]["score"] is None


def test_every_mutation_of_a_picture_is_shown_or_refused(tmp_path: Path) -> None:
    whole, random = _whole(json.dumps(RECORD)), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        (tmp_path / "x.png").write_bytes(data[: random.integers(1, len(data) + 1)])
        shown = show(tmp_path / "x.png")
        assert shown.exception is None
        assert shown.return_value in (0, 2)
