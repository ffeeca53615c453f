"""What the model says of images under each pixel range."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.cli import probe as module
from gradviz_cli.cli.probe import lines, probe
from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.preprocess import PREPROCESS, Preset
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.process.protocol import NUMBERS, Facts, InputFacts

LABELS = ("dark", "middle", "light")


class Played:
    """A model of 0..255: an image is dark, middle or light. In any other range all is dark, and the score is the same."""

    labels = LABELS

    def __init__(self, dtype: str = "float32", preset: Preset = PREPROCESS["unit"], channels: int = 3):
        self.facts = Facts(
            "s", "w", InputFacts("x", None, dtype), "y", "z", None, None, 3, (2, 2), channels, preset.name, {}, 0, 0, ()
        )
        self.preset = preset
        self.asked: list[int] = []

    def decode(self, data: bytes) -> Pixels:
        if not data.isdigit():
            raise ImageError("format", "is no image")
        return Pixels((2, 2), np.full((2, 2, self.facts.channels), int(data), np.uint8), None)

    def explain(self, fitted, request, preprocess):
        self.asked.append(len(fitted))
        preset = PREPROCESS[preprocess] if preprocess else self.preset
        for level in preset.to_model(np.stack(fitted)).max(axis=(1, 2, 3)):
            if level == 13:
                yield ImageError("model", "it says no")
                continue
            index = min(2, int(max(level, 0) // 85))
            yield Attribution((TargetResult(index, self.labels[index], 0, float(index), 0.5),), {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, levels in {"dark": (1, 2, 90), "light": (200, 255), "misty": (100,)}.items():
        (tmp_path / name).mkdir()
        for level in levels:
            (tmp_path / name / f"{level}.png").write_text(str(level))
    (tmp_path / "dark" / "notes.png").write_text("notes")
    return tmp_path


def test_a_folder_says_how_many_are_right(folder: Path) -> None:
    told, images = probe(Played(), folder)
    assert images == {"found": 7, "read": 6, "unread": 1, "labelled": 5}
    assert told["raw"] == {
        "grouped": 4, "right": 4, "labelled": 5, "classes": 3, "output": 0.5, "failed": 0, "dead": False, "same_as": None,
    }  # fmt: skip
    assert (told["unit"]["right"], told["unit"]["dead"], told["unit"]["same_as"]) == (3, True, None)
    assert told["signed"]["same_as"] == told["torch"]["same_as"] == "unit"
    assert set(told) == set(PREPROCESS)
    json.dumps([told, images], allow_nan=False)
    said = list(lines(told, images))
    assert (
        said[0] == "probe       6 of 7 images, 1 of those asked cannot be read, 5 in a folder with the name of a label"
    )
    assert said[1] == "--preprocess raw     4 of 5 right, 3 different classes, mean output 0.5"
    assert said[3].endswith("(same as unit; dead: one class for all of them)")


def test_without_labels_there_is_no_right(folder: Path) -> None:
    model = Played()
    model.labels = ("a", "b", "c")
    told, images = probe(model, folder)
    assert told["raw"]["right"] is None and images["labelled"] == 0 and not told["raw"]["dead"]
    assert told["unit"]["dead"]  # the score is the same for all
    assert "--labels FILE" in next(lines(told, images))


def test_one_folder_alone_is_not_called_dead_for_one_class(folder: Path) -> None:
    (folder / "dark" / "90.png").unlink()
    model = Played()
    monotone = [TargetResult(0, "dark", 0, score, 0.5) for score in (1.0, 2.0)]
    assert not module._many(monotone, [0, 0], None)["dead"]
    assert module._many(monotone, [0, 2], None)["dead"]
    assert probe(model, folder / "dark")[0]["raw"]["right"] == 2


def test_of_many_images_some_from_all_over(tmp_path: Path) -> None:
    for number in range(250):
        (tmp_path / f"{number:03}.png").write_text(str(number))
    model = Played()
    told, images = probe(model, tmp_path)
    assert images["found"] == 250 and 24 <= images["read"] <= module.MOST_IMAGES
    assert told["raw"]["classes"] == 3 and max(model.asked) <= module.AT_ONCE


def test_one_image(folder: Path) -> None:
    told, images = probe(Played(), folder / "dark" / "90.png")
    assert images is None and told["raw"] == {
        "index": 1, "label": "middle", "score": 1.0, "output": 0.5, "dead": False,
    }  # fmt: skip
    assert told["signed"]["same_as"] == "unit" and told["unit"]["dead"] and not told["raw"]["dead"]
    assert "dead: its negative, noise and black get the same" in list(lines(told, images))[1]
    assert "class 1 middle  score 1, output 0.5" in next(lines(told, images))
    (folder / "dark" / "90.png").write_text("13")
    assert probe(Played(), folder / "dark" / "90.png")[0]["raw"] == {"error": "it says no"}
    for path in (folder / "dark" / "notes.png", folder / "none"):
        with pytest.raises(UsageError, match="give another --image"):
            probe(Played(), path)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no image; give another --image"):
        probe(Played(), tmp_path)


def test_what_was_given_stands_beside_the_presets(folder: Path) -> None:
    given = Preset("given", "numbers", 0, 255)
    told, images = probe(Played(preset=given), folder)
    assert told["given"]["right"] == 4 and told["given"]["same_as"] == "raw"
    assert [line for line in lines(told, images) if line.startswith("as it is given")]


@pytest.mark.parametrize(
    ("model", "names"),
    [(Played(kind, PREPROCESS["raw"]), {"raw"}) for kind in ("uint8", "int16", "int64")]
    + [(Played(channels=1), {"raw", "unit", "signed"})],
)
def test_only_what_the_model_takes_is_tried(folder: Path, model: Played, names: set[str]) -> None:
    assert set(probe(model, folder)[0]) == names


def row(right: int, grouped: int | None, classes: int = 3, **more) -> dict:
    counts = {"right": right, "labelled": 8, "grouped": grouped, "classes": classes, "output": 0.5, "failed": 0}
    return {**counts, "dead": classes == 1, "same_as": None, **more}


IMAGES = {"found": 8, "read": 8, "unread": 0, "labelled": 8}


@pytest.mark.parametrize(
    ("told", "last"),
    [
        ({"raw": row(7, 7), "unit": row(6, 6)}, "mean output is "),
        ({"raw": row(7, 7), "unit": row(7, 7)}, "raw and unit: 7 of 8 right under each; nothing tells them apart here"),
        ({"raw": row(7, 7), "unit": row(7, 7, same_as="raw")}, "mean output is "),
        (
            {"raw": row(2, None, 1), "unit": row(0, 7)},
            "7 of 8 go by their folders, but to other classes than the labels",
        ),
        ({"raw": row(2, None, 1), "unit": row(1, 3)}, "few are right under any choice: are these the labels of this "),
        ({"raw": row(2, None, 1), "unit": row(2, None, 1)}, "mean output is "),
    ],
)
def test_ties_and_strange_labels_are_said(told: dict, last: str) -> None:
    assert list(lines(told, IMAGES))[-1].startswith(last)


def test_images_that_go_by_their_folders() -> None:
    assert module._grouped([(3, 0), (3, 0), (1, 0), (2, 1)]) == 3
    assert module._grouped([(3, 0), (3, 1)]) is None
    assert module._grouped([(3, 0), (1, 0)]) is None


def test_arrays_where_there_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("200")
    assert probe(Played(), tmp_path)[1]["read"] == 1
    (tmp_path / "b.png").write_text("1")
    assert probe(Played(), tmp_path)[0]["raw"]["output"] == 0.5 and probe(Played(), tmp_path)[1]["found"] == 1


def test_numbers_of_another_range_are_tried_as_they_are_alone(tmp_path: Path) -> None:
    class OfNumbers(Played):
        def decode(self, data: bytes) -> Pixels:
            return Pixels((2, 2), np.full((2, 2, 3), int(data) / 255, np.float32), None, NUMBERS)

    (tmp_path / "a.npy").write_text("200")
    told, images = probe(OfNumbers(), tmp_path / "a.npy")
    assert set(told) == {"raw"} and told["raw"]["ready"]
    assert "(the only choice: the numbers are no levels of 0..255)" in next(lines(told, images))


def test_why_a_folder_gives_nothing_is_said(folder: Path, tmp_path: Path) -> None:
    (folder / "only").mkdir()
    (folder / "only" / "notes.txt").touch()
    with pytest.raises(UsageError, match="1 file is not named as an image"):
        probe(Played(), folder / "only")
    (folder / "only" / "notes.png").write_text("no")
    with pytest.raises(UsageError, match="no image that can be read .*notes.png: is no image"):
        probe(Played(), folder / "only")
