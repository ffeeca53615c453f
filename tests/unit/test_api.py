"""The Python door refuses what makes no sense before a model is read, and blames no image for what a caller did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradviz_cli import api
from gradviz_cli.errors import GradvizWarning, ImageError, UsageError
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.process.protocol import Facts, InputFacts


class FakeExplainer:
    """Loads at once; the attribution of an image is the image."""

    proof = None
    labels = ("cat", "dog")

    facts = Facts(
        "serving_default", "the only one", InputFacts("x", (None, 2, 2, 3), "float32"), "y:0", "z:0", None, None, 5,
        (2, 2), 3, "raw", {"Relu": (1, 1)}, 0, 0, (),
    )  # fmt: skip
    made: list[FakeExplainer]

    def __init__(self, *given: object, **named: object):
        self.named, self.sizes, self.targets = named, [], []
        self.made.append(self)

    def load(self) -> None:
        pass

    def warnings(self, modes: object) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        pass

    def check_numbers(self, held, fitted):
        pass

    def assumed(self, held, size, fitted):
        return ()

    def explain(self, fitted, request, held=()):
        self.sizes.append(len(fitted))
        self.targets.append(request.targets)
        yield from (ImageError("model", "it says no") for _ in fitted)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeExplainer]:
    monkeypatch.setattr(FakeExplainer, "made", [], raising=False)
    monkeypatch.setattr(api, "Explainer", FakeExplainer)
    return FakeExplainer.made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "saved_model.pb").write_bytes(b"a graph")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_size": -1}, "--batch-size"),
        ({"batch_size": 2.5}, "--batch-size"),
        ({"timeout": 0}, "--timeout"),
        ({"timeout": "x"}, "--timeout"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"mode": "all"}, "no option mode"),
        ({"jobs": 3}, "no option jobs"),
        ({"allow": "x"}, "no option allow"),
    ],
    ids=repr,
)
def test_options_are_checked_before_the_model(made, folder: Path, options: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        api.load(folder, **options)
    assert made == []


def test_what_is_odd_about_a_file_is_warned_of_once(made, folder: Path, tmp_path: Path, monkeypatch) -> None:
    odd = Pixels((2, 2), np.zeros((2, 2, 3), np.uint8), None, notes=("it is odd",))
    monkeypatch.setattr(FakeExplainer, "decode", lambda self, data: odd, raising=False)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(b"a picture")
    with api.load(folder) as model:
        with pytest.warns(GradvizWarning, match=r"a\.png: it is odd") as said, pytest.raises(ImageError):
            model.explain(files)
        assert len(said) == 1 and said[0].filename == __file__


def test_a_batch_is_as_asked_or_suits_the_model(made, folder: Path) -> None:
    for given, most in ((3, 3), ("auto", 10)):
        with api.load(folder, batch_size=given, timeout=None) as model, pytest.raises(ImageError, match="it says no"):
            model.explain(np.zeros((10, 2, 2, 3)))
        assert made[-1].sizes == [most]
        assert made[-1].named["timeout"] is None


@pytest.mark.parametrize("images", [None, b"a.png", 3.5, [np.zeros((2, 2, 3))], [None]], ids=repr)
def test_images_are_paths_or_one_array(made, folder: Path, images: object) -> None:
    with api.load(folder) as model, pytest.raises(UsageError, match="images: a .* is no path"):
        model.explain(images)


@pytest.mark.parametrize("mode", [["guided"], None, "all", "Guided"], ids=repr)
def test_a_mode_is_one_of_the_rules(made, folder: Path, mode: object) -> None:
    with api.load(folder) as model, pytest.raises(UsageError, match="is none of backprop, deconv, guided"):
        model.explain(np.zeros((2, 2, 3)), mode)


def test_a_model_that_is_closed_meanwhile_is_not_blamed(made, folder: Path, monkeypatch) -> None:
    model = api.load(folder)

    def taken_away(fitted, request, held=()):
        model.close()
        raise ImageError("memory", "the decoder was killed, most likely because memory ran out")

    monkeypatch.setattr(made[0], "explain", taken_away, raising=False)
    with pytest.raises(UsageError, match="the model was closed while it explained"):
        model.explain(np.zeros((2, 2, 3)))
    with pytest.raises(UsageError, match="the model is closed"):
        model.explain(np.zeros((2, 2, 3)))


def test_the_class_of_the_folder_of_each_image(made, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(api.LoadedModel, "_read", lambda self, path: Pixels((2, 2), np.zeros((2, 2, 3)), None))
    monkeypatch.setattr(api, "_checked", lambda found, mode, place, positions: found)
    monkeypatch.setattr(api.LoadedModel, "_explanation", lambda self, found, mode: len(found))
    with api.load(folder, batch_size=2) as model:
        paths = ["/p/dog/1", "/p/dog/2", "/p/dog/3", "/p/cat/4", "/p/dog/5"]
        assert model.explain(paths, target="parent") == 5
        assert made[0].sizes == [2, 1, 1, 1] and made[0].targets == [(1,), (1,), (0,), (1,)]
        with pytest.raises(ImageError, match="^/p/Dog/1: --target parent: no label"):
            model.explain(["/p/Dog/1"], target="parent")
        with pytest.raises(UsageError, match="an array lies in no folder"):
            model.explain(np.zeros((2, 2, 3)), target="parent")
