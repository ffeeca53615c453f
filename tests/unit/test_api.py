"""The Python door with a worker that is played: what may be given, what comes of it, and who is blamed for what."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import descendants
from PIL import Image

import gradviz_cli
from gradviz_cli import api
from gradviz_cli.batch import planning
from gradviz_cli.errors import GradvizWarning, ImageError, ModelUnusable, OutputError, UsageError
from gradviz_cli.estimators import GRADIENT
from gradviz_cli.images import reader
from gradviz_cli.images.decoders import Decoders, Pixels
from gradviz_cli.model import explainer
from gradviz_cli.process.protocol import Decode, Facts, InputFacts, Loaded, Row, to_wire
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.settings import LoadSettings, LookSettings, RunSettings, default_of

H, W = 4, 6
LABELS = ("cat", "dog", "owl")
FACTS = Facts(
    "serving_default", "the only one", InputFacts("x", (None, H, W, 3), "float32"), "y:0", "z:0", None, None, 3,
    (H, W), 3, "raw", {"Relu": (1, 1)}, 0, 0, ("the model is odd",),
)  # fmt: skip


class Worker:
    """The best class of an image is 2, then 1, then 0. The map of class k is (k + 1) times the image."""

    proof, fingerprint, path, stderr = None, "f" * 64, "birds", ""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.asked: list[tuple[int, ...]] = []
        self.closed = 0
        self.before = lambda: None

    def load(self, proof=None) -> Loaded:
        return Loaded(FACTS, 1.0, 2.0, Sandbox("full", 5, True, ()))

    def require(self, methods, estimation) -> bool:
        return False

    def explain(self, images, request):
        self.sizes.append(len(images))
        self.asked.append(request.targets)
        self.before()
        index = np.array([one if one >= 0 else 3 + one for one in request.targets], np.int32)
        for image in images:
            if image.max() == 13:
                yield ImageError("model", "it says no")
                continue
            maps = np.stack([image * (one + 1) for one in index]).astype(np.float32)
            score = index.astype(np.float32)
            yield Row(index, (2 - index).astype(np.int32), score, score, dict.fromkeys(request.methods, maps))

    def close(self) -> None:
        self.closed += 1


class Decoding:
    """Decodes in this process."""

    def __init__(self, limits, timeout):
        self.limits = limits

    def decode(self, data, geometry, pixels, fast, page) -> Pixels:
        limits = self.limits.max_pixels, self.limits.max_file_size
        asked = Decode(*limits, **vars(geometry), pixels=pixels, fast=fast, page=page)
        answer, arrays = reader.answer(to_wire(asked), data)
        if "kind" in answer:
            raise ImageError(answer["kind"], answer["message"])
        return Pixels((answer["height"], answer["width"]), arrays[0], arrays[1], answer["held"], tuple(answer["notes"]))

    def close(self) -> None:
        pass


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(explainer, "RemoteModel", lambda *_: worker)
    monkeypatch.setattr(explainer, "Decoders", Decoding)
    return worker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"a graph")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    return tmp_path


@pytest.fixture
def model(worker: Worker, folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradvizWarning)
        with api.load(folder / "model", labels=folder / "labels.txt") as loaded:
            yield loaded


def noise(seed: int = 0, size: tuple[int, ...] = (9, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def png(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


# ---- what may be given


def forms(pixels: np.ndarray, tmp_path: Path) -> dict[str, object]:
    path = png(pixels, tmp_path / "a.png")
    data, alpha = path.read_bytes(), np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return {
        "path": path,
        "text": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "open file": io.BytesIO(data),
        "Pillow": Image.open(path),
        "array": pixels,
        "float32": pixels.astype(np.float32),
        "int64": pixels.astype(np.int64),
        "channels first": np.moveaxis(pixels, -1, 0),
        "RGBA": alpha,
        "Pillow RGBA": Image.fromarray(alpha),
        "a batch": pixels[None],
        "a list": [pixels],
        "a generator": (one for one in [path]),
        "an array of paths": np.array([str(path)]),
    }


def test_one_image_in_every_form_is_one_image(model, tmp_path: Path) -> None:
    given = forms(noise(), tmp_path)
    found = {name: model.explain(one) for name, one in given.items()}
    want = found["path"].attribution
    assert want.shape == (1, H, W, 3) and want.dtype == np.float32 and want.any()
    assert [name for name, one in found.items() if not np.array_equal(one.attribution, want)] == []
    assert {found[name].names[0] for name in ("path", "text", "Pillow")} == {str(tmp_path / "a.png")}
    assert found["bytes"].names == found["array"].names == ("image-0",)


@pytest.mark.filterwarnings("ignore::gradviz_cli.errors.GradvizWarning")
def test_its_processes_outlive_the_thread_that_asked_first(worker, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(explainer, "Decoders", Decoders)
    before = set(descendants(os.getpid()))
    with api.load(folder / "model") as model:
        path = png(noise(), folder / "a.png")
        asking = threading.Thread(target=lambda: model.explain(path))
        asking.start()
        asking.join()
        started = set(descendants(os.getpid())) - before
        time.sleep(0.3)
        assert started and started <= set(descendants(os.getpid()))
        assert len(model.explain(path)) == 1


def test_the_range_of_numbers_is_said_or_warned_of(model, recwarn) -> None:
    pixels = noise()
    want = model.explain(pixels).attribution
    for low, high in ((0, 1), (-1, 1), (0, 65535)):
        scaled = pixels / 255 * (high - low) + low
        assert np.array_equal(model.explain(scaled, value_range=(low, high)).attribution, want)
    assert not [one for one in recwarn if "0..1" in str(one.message)]
    for parts in (pixels / 255, (pixels / 255).astype(np.float32)):
        assert np.array_equal(model.explain(parts).attribution, want)
    (said,) = (one for one in recwarn if "0..1" in str(one.message))
    assert "image-0: its numbers lie in 0..1" in str(said.message) and said.filename == __file__
    with pytest.raises(ImageError, match=r"image-0: holds numbers from .* and value_range is 0 to 1"):
        model.explain(pixels.astype(float), value_range=(0, 1))
    with pytest.raises(UsageError, match="value_range: .* is not LOW,HIGH"):
        model.explain(pixels, value_range=(1, 0))


def test_numbers_of_no_picture_go_to_the_model_as_they_are(model) -> None:
    numbers = np.random.default_rng(0).normal(0, 2, (H, W, 3)).astype(np.float32)
    with pytest.warns(
        GradvizWarning, match="image-0: its numbers are not whole .* value_range=.LOW, HIGH. takes them for a picture"
    ):
        found = model.explain(numbers)
    assert np.allclose(found.attribution[0], 3 * numbers)


def test_a_float_of_the_models_size_is_not_rounded(model) -> None:
    levels = np.random.default_rng(0).uniform(0, 255, (H, W, 3)).astype(np.float32)
    assert np.allclose(model.explain(levels).attribution[0], 3 * levels)


def test_gray_and_alpha_of_arrays_are_those_of_pictures(model, tmp_path: Path) -> None:
    gray, clear = noise(1, (9, 8)), noise(2, (9, 8, 4))
    for name, pixels in (("gray", gray), ("clear", clear)):
        want = model.explain(png(pixels, tmp_path / f"{name}.png")).attribution
        for given in (pixels, Image.fromarray(pixels), pixels / 255, np.atleast_3d(pixels)):
            assert np.array_equal(model.explain(given, value_range=None).attribution, want), name


def test_the_turn_that_a_photo_asks_for(model, tmp_path: Path) -> None:
    photo = Image.fromarray(noise())
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        found = model.explain(image)
    assert np.array_equal(found.attribution, model.explain(tmp_path / "a.png").attribution)
    assert found.image(0).size == (9, 8)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (None, "images: a NoneType is no image; give a path, bytes"),
        (3.5, "images: a float is no image"),
        ({"a": "b"}, "images: a dict is no image"),
        (["a.png", None], r"images: number 1 \(from 0\) is a NoneType, which is no image"),
        ([["a.png"]], r"images: number 0 \(from 0\) is a list"),
        (io.StringIO("a"), "an open file gives text"),
        (io.TextIOWrapper(io.BytesIO(b"\xff\xd8"), "utf-8"), "an open file gives text"),
        (np.zeros(4), r"an array of float64 and shape \[4\] is no image"),
        (np.zeros((1, 1, H, W, 3)), r"shape \[1, 1, 4, 6, 3\] is no image"),
        (np.zeros((H, W, 3), complex), "an array of complex128"),
    ],
    ids=[
        "None",
        "float",
        "dict",
        "None in a list",
        "list in a list",
        "text file",
        "picture as text",
        "vector",
        "five axes",
        "complex",
    ],
)
def test_what_is_no_image(model, tmp_path: Path, monkeypatch, images: object, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    png(noise(), tmp_path / "a.png")
    with pytest.raises(UsageError, match=said):
        model.explain(images)


@pytest.mark.parametrize(
    ("image", "kind", "said"),
    [
        (b"a.png", "format", "image-0: no image begins like this"),
        (b"", "empty", "image-0: the file is empty"),
        (b"P6 9 9 255 " + b"a" * 90_000, "too-large", "image-0: 90011 bytes are more than the limit of 90000"),
        (np.zeros((5, 7, 2), np.uint8), "shape", r"image-0: is an array of shape \[5, 7, 2\]; give \[H, W, C\] with 1, 3 or 4"),
        (np.full((H, W, 3), np.nan), "damaged", "image-0: .*NaN or infinity"),
        (np.zeros((0, 4, 3)), "shape", "holds no pixel"),
        ("gone.png", "missing", "^gone.png: "),
        (noise(0, (30, 30, 3)), "too-large", "see --max-pixels|lets it in"),
    ],
    ids=["bytes", "no bytes", "many bytes", "channels", "NaN", "empty", "missing", "large"],
)  # fmt: skip
def test_an_image_that_fails_is_named(worker, folder: Path, image: object, kind: str, said: str) -> None:
    with (
        pytest.warns(GradvizWarning, match="odd"),
        api.load(folder / "model", max_pixels=500, max_file_size=90_000) as model,
    ):
        with pytest.raises(ImageError, match=said) as caught:
            model.explain(image)
        assert caught.value.kind == kind


# ---- several


def test_an_iterable_is_asked_for_a_batch_at_a_time(worker, folder: Path) -> None:
    taken: list[int] = []
    worker.before = lambda: worker.asked.append(("taken", len(taken)))

    def images():
        for seed in range(7):
            taken.append(seed)
            yield noise(seed)

    with pytest.warns(GradvizWarning, match="odd"), api.load(folder / "model", batch_size=3) as model:
        assert len(model.explain(images())) == 7
        assert worker.sizes == [3, 3, 1] and [one[1] for one in worker.asked if one[0] == "taken"] == [3, 6, 7]
        taken.clear()
        first = next(model.each(images()))
        assert len(first) == 1 and len(taken) == 3


def test_rows_are_image_mode_target_in_this_order(model) -> None:
    found = model.explain([noise(0), noise(1)], mode="backprop,guided", target=["top2", 0])
    assert found.images.tolist() == [0] * 6 + [1] * 6
    assert found.modes == (*("backprop",) * 3, *("guided",) * 3) * 2
    assert found.targets.tolist() == [2, 1, 0] * 4 and found.ranks.tolist() == [0, 1, 2] * 4
    assert found.labels[:3] == ("owl", "dog", "cat") and found.scores.tolist() == [2, 1, 0] * 4
    alone = [model.explain(noise(seed)).attribution[0] / 3 for seed in (0, 1)]
    for row in range(12):
        want = alone[found.images[row]] * (found.targets[row] + 1)
        assert np.allclose(found.attribution[row], want)
    assert found.estimators == (GRADIENT,) * 12


@pytest.mark.parametrize(
    ("target", "classes"),
    [("top1", [2]), ("top2", [2, 1]), ("rank2", [1]), (0, [0]), ("dog", [1]), ("owl,cat", [2, 0]), ([1, "top1"], [1, 2])],
    ids=repr,
)  # fmt: skip
def test_a_target_means_what_it_means_on_the_command_line(model, target, classes: list[int]) -> None:
    assert model.explain(noise(), target=target).targets.tolist() == classes


def test_the_class_of_the_folder_of_each_image(model, worker, tmp_path: Path) -> None:
    for name in ("dog", "owl", "nest"):
        (tmp_path / name).mkdir()
    paths = [png(noise(), tmp_path / name / "a.png") for name in ("dog", "dog", "owl")]
    assert model.explain(paths, target="parent").targets.tolist() == [1, 1, 2]
    assert worker.sizes == [2, 1]
    with pytest.raises(ImageError, match="nest/a.png: --target parent: no label"):
        model.explain(png(noise(), tmp_path / "nest" / "a.png"), target="parent")
    with pytest.raises(UsageError, match="image-0 lies in no folder"):
        model.explain(noise(), target="parent")


BAD = [noise(0), b"nothing", np.zeros((H, W, 3), np.uint8), np.full((H, W, 3), 13, np.uint8), noise(1)]


def test_a_bad_image_does_not_cost_the_others(model) -> None:
    with pytest.warns(GradvizWarning) as said:
        found = model.explain(BAD, errors="skip")
    assert found.images.tolist() == [0, 4] and len(found) == 2
    assert [(one.image, one.kind) for one in found.skipped] == [(1, "format"), (2, "zero"), (3, "model")]
    assert np.array_equal(found.attribution[1], model.explain(BAD[4]).attribution[0])
    lines = [str(one.message) for one in said if "(skipped)" in str(one.message)]
    assert [line.split(":")[0] for line in lines] == ["image-1", "image-2", "image-3"]
    for place in (1, 2, 3):
        with pytest.raises(ImageError, match="^image-0: "):
            model.explain(BAD[place])
    nothing = model.explain(BAD[1], errors="skip")
    assert nothing.attribution.shape == (0, H, W, 3) and repr(nothing).endswith("empty; 1 skipped>")


def test_an_empty_map_is_refused_unless_it_is_asked_for(model) -> None:
    with pytest.raises(ImageError, match="^image-0: guided, target top1: the attribution is zero everywhere") as caught:
        model.explain(BAD[2])
    assert caught.value.kind == "zero"
    found = model.explain(BAD[2], allow_empty_map=True)
    assert not found.attribution.any() and found.image(0, "heatmap").getextrema() == ((0, 0), (0, 0), (0, 0))


# ---- the door itself


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_size": 2.5}, "--batch-size"),
        ({"timeout": 0}, "--timeout"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"mode": "all"}, "no option mode"),
        ({"jobs": 3}, "no option jobs"),
        ({"preproces": "raw"}, "no option preproces; did you mean preprocess"),
        ({"preprocess": "rew"}, "--preprocess: 'rew' is none of"),
        ({"fit": "squeeze"}, "--fit"),
        ({"max_pixels": "many"}, "--max-pixels"),
    ],
    ids=repr,
)
def test_options_are_checked_before_the_model(monkeypatch, folder: Path, options: dict, named: str) -> None:
    monkeypatch.setattr(api, "Explainer", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UsageError, match=named):
        api.load(folder / "model", **options)


def test_what_the_models_own_file_says_counts(worker, folder: Path) -> None:
    (folder / "model" / "assets.extra").mkdir()
    (folder / "model" / "assets.extra" / "gradviz.toml").write_text('fit = "crop"')
    photo = noise(0, (H * 4, W * 8, 3))
    with pytest.warns(GradvizWarning, match="odd"):
        cut, whole = api.load(folder / "model"), api.load(folder / "model", fit="stretch")
    middle = photo[:, W * 2 : W * 6]
    assert np.array_equal(cut.explain(photo).attribution, whole.explain(middle).attribution)
    assert not np.array_equal(whole.explain(photo).attribution, cut.explain(photo).attribution)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"mode": "Guided"}, "--mode: 'Guided' is none of"),
        ({"target": "wren"}, "--target wren: no such label"),
        ({"target": None}, "--target: None"),
        ({"target": []}, "--target"),
        ({"estimator": "magic"}, "estimator: 'magic' is none of gradient"),
        ({"estimator": []}, "--estimator: "),
        ({"errors": "ignore"}, "errors: 'ignore' is none of raise, skip"),
        ({"allow_empty_map": "yes"}, "allow_empty_map"),
    ],
    ids=repr,
)
def test_what_is_asked_is_checked_before_an_image(model, asked: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        model.explain((pytest.fail("an image was taken") for _ in range(1)), **asked)
    with pytest.raises(UsageError, match=named):
        model.each([], **asked)


def test_warnings_are_pythons_and_come_once(worker, folder: Path) -> None:
    with pytest.warns(GradvizWarning) as said, api.load(folder / "model") as model:
        model.explain(noise())
        model.explain(noise())
        assert model.warnings == ("birds: the model is odd",)
    assert [str(one.message) for one in said] == ["birds: the model is odd"] and said[0].filename == __file__


def test_a_batch_is_as_asked_or_suits_the_model(worker, folder: Path) -> None:
    for given, sizes in ((3, [3, 1]), ("auto", [4])):
        with pytest.warns(GradvizWarning, match="odd"), api.load(folder / "model", batch_size=given) as model:
            model.explain([noise(seed) for seed in range(4)])
        assert worker.sizes == sizes
        worker.sizes.clear()


def test_a_model_that_is_closed(model, worker) -> None:
    def taken_away():
        model.close()
        raise ImageError("memory", "the decoder was killed, most likely because memory ran out")

    worker.before = taken_away
    with pytest.raises(UsageError, match="the model was closed while it explained"):
        model.explain(noise(), errors="skip")
    with pytest.raises(UsageError, match="the model is closed; load it again"):
        model.explain(noise())
    model.close()
    assert worker.closed == 1 and "closed" in repr(model)


def test_what_came_before_a_model_was_at_its_end_is_given(model, worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command writes it: with errors="skip", image by image."""
    computed = worker.explain

    def ends(images, request):
        yield from computed(images[:2], request)
        raise ModelUnusable("birds: memory ran out, on 3 different images in a row")

    monkeypatch.setattr(worker, "explain", ends)
    found = model.each([noise(seed) for seed in range(3)], errors="skip")
    assert [next(found).attribution.shape[0] for _ in range(2)] == [1, 1]
    with pytest.raises(ModelUnusable, match="in a row"):
        next(found)
    with pytest.raises(ModelUnusable, match="in a row"):
        next(model.each([noise(seed) for seed in range(3)]))


def test_a_model_that_is_forgotten_ends(worker, folder: Path) -> None:
    with pytest.warns(GradvizWarning, match="odd"):
        model = api.load(folder / "model")
    del model
    assert worker.closed == 1


def test_a_forked_process_leaves_its_parents_model_alone(model, worker) -> None:
    reader_, writer = os.pipe()
    if os.fork() == 0:
        try:
            model.explain(noise())
        except UsageError as error:
            os.write(writer, str(error).encode())
        model.close()
        os.write(writer, f" {worker.closed} closed".encode())
        os._exit(0)
    os.close(writer)
    with open(reader_, "rb") as file:
        said = file.read().decode()
    os.wait()
    assert "was loaded by another process" in said and said.endswith("0 closed")
    assert len(model.explain(noise())) == 1
    with pytest.raises(TypeError, match="load it where it is needed"):
        pickle.dumps(model)


def test_threads_take_turns(model, worker) -> None:
    inside: list[int] = []
    together: list[int] = []

    def asked() -> None:
        inside.append(1)
        together.append(len(inside))
        time.sleep(0.005)
        inside.pop()

    worker.before = asked
    images = [noise(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(model.explain, images))
    worker.before = lambda: None
    assert set(together) == {1} and len(together) == 12
    want = model.explain(images).attribution
    assert all(np.array_equal(one.attribution[0], each) for one, each in zip(found, want, strict=True))


def test_after_ctrl_c_it_goes_on(model, worker) -> None:
    def interrupted():
        worker.before = lambda: None
        raise KeyboardInterrupt

    worker.before = interrupted
    with pytest.raises(KeyboardInterrupt):
        model.explain(noise(), errors="skip")
    assert len(model.explain(noise())) == 1


# ---- what is shown of it


def test_the_package_lists_what_it_offers() -> None:
    code = (
        "import sys, gradviz_cli\n"
        "assert {'load', 'explain', 'run', 'ImageError'} <= set(dir(gradviz_cli)), dir(gradviz_cli)\n"
        "assert all(getattr(gradviz_cli, name) is not None for name in gradviz_cli.__all__)\n"
        "from gradviz_cli import load, explain, run\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(gradviz_cli.__file__).parents[1])
    assert set(gradviz_cli._HOMES) | {"__version__"} == set(gradviz_cli.__all__)


def test_every_option_is_in_a_signature() -> None:
    """A new option of the command is told to completion and type checkers in `settings`."""
    known = {*planning.OF_MODEL, *planning.OF_LABELS, *planning.OF_LOADING}
    assert set(LoadSettings.__annotations__) == known
    assert set(RunSettings.__annotations__) == set(planning.OPTIONS)
    assert set(LookSettings.__annotations__) <= set(planning.OF_DRAWING)
    for function, settings in ((api.load, LoadSettings), (api.explain, LoadSettings), (api.run, RunSettings)):
        shown = inspect.signature(function).parameters
        assert set(settings.__annotations__) <= set(shown)
        assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in shown.values())
    shown = inspect.signature(api.Explanation.image).parameters
    assert (shown["style"].default, shown["colormap"].default, shown["clip"].default) == ("overlay", "inferno", 99.0)


def test_every_default_is_as_good_as_not_given(folder: Path) -> None:
    given = {name: default_of(name) for name in RunSettings.__annotations__}
    free = {
        name: value for name, value in given.items() if name not in ("colormap", "alpha", *planning.TOLD)
    }  # of styles and estimators that use them
    assert planning.plan_from(folder / "model", **free) == planning.plan_from(folder / "model")


@pytest.mark.slow
def test_type_checkers_know_it(tmp_path: Path) -> None:
    """Names of options, and the type of what comes back."""
    api_ = pytest.importorskip("mypy.api")
    (tmp_path / "used.py").write_text(
        "from gradviz_cli import explain, load, run\n"
        "with load('m', preprocess='raw', input_size=(4, 4)) as model:\n"
        "    reveal_type(model.explain(['a.png'], mode=['guided'], target=3).image(0, clip=95.0))\n"
        "    model.explain(b'', errors=1)\n"
        "    load('m', preproces='raw')\n"
        "explain('m', 'a.png', labels=3)\n"
        "for one in run('m', 'photos', mode='all', jobs=2, dry_run='yes'):\n"
        "    reveal_type(one.status)\n"
    )
    root = str(Path(gradviz_cli.__file__).parents[1])
    said, _, _ = api_.run(
        [
            "--config-file",
            f"{root}/pyproject.toml",
            "--no-incremental",
            "--follow-imports",
            "silent",
            str(tmp_path / "used.py"),
        ]
    )
    lines = [line for line in said.splitlines() if "used.py:" in line and "defined in" not in line]
    by_line = {int(line.split(":")[1]): line for line in lines}
    assert "PIL.Image.Image" in by_line[3] and "results.Status" in by_line[8], said
    assert (
        '"errors"' in by_line[4]
        and "preproces" in by_line[5]
        and '"labels"' in by_line[6]
        and '"dry_run"' in by_line[7]
    )
    assert len(by_line) == 6, said


# ---- the result


@pytest.fixture
def found(model, tmp_path: Path):
    paths = [png(noise(seed), tmp_path / f"{name}.png") for seed, name in enumerate(["<b>", "b"])]
    return model.explain([*paths, noise(3)], mode="all", target="top2")


def test_a_result_is_frozen_and_travels(found) -> None:
    for name in ("attribution", "scores", "targets"):
        with pytest.raises(AttributeError):
            setattr(found, name, None)
        with pytest.raises(ValueError):
            getattr(found, name)[0] = 0
    copy = pickle.loads(pickle.dumps(found))
    assert np.array_equal(copy.attribution, found.attribution)
    assert copy.image(3).tobytes() == found.image(3).tobytes()


def test_a_part_of_a_result_is_one(found) -> None:
    assert len(found) == 18 and len(list(found)) == 18 and len(found[2:4]) == 2
    part = found.select(image=1, mode="guided")
    assert part.targets.tolist() == [2, 1] and part.images.tolist() == [1, 1]
    assert np.array_equal(part.attribution, found.attribution[[10, 11]])
    assert part.image(1).tobytes() == found.image(11).tobytes() and found[-1].images.tolist() == [2]
    assert len(found.select(target=0)) == 0
    label = found.labels[10]
    assert found.select(image=1, target=label).targets.tolist() == [2] * 3
    with pytest.raises(UsageError, match="no map is of a class that is named nought"):
        found.select(target="nought")
    with pytest.raises(UsageError, match="image: a.png is no number of an image"):
        found.select(image="a.png")
    assert len(found.select(image=np.int64(1))) == 6
    for wrong, near in ({"mode": "guidd"}, "guided"), ({"estimator": "gradcam"}, "grad-cam"):
        with pytest.raises(UsageError, match=f"did you mean {near}"):
            found.select(**wrong)
    with pytest.raises(IndexError, match="there is no map 18: there are 18, from 0"):
        found[18]
    with pytest.raises(IndexError, match="there is no map 'a'"):
        found.image("a")


def test_pictures_are_of_the_size_of_the_image(found, model) -> None:
    for style in ("heatmap", "gray", "signed", "rgb", "overlay"):
        picture = found.image(0, style)
        assert (picture.size, picture.mode) == ((8, 9), "RGB"), style
    assert found.image(0, size="input").size == (W, H)
    assert found.image(0, "panel").width > 300
    large = model.explain(noise(5, (2000, 1000, 3)))
    assert large.image(0).size == (724, 1448)  # at most a megapixel
    with pytest.raises(UsageError, match="--style: 'hot' is none of"):
        found.image(0, "hot")
    with pytest.raises(UsageError, match="style: heatmap, gray are several"):
        found.image(0, "heatmap,gray")
    with pytest.raises(UsageError, match="--alpha 0.5: --style heatmap cannot use it"):
        found.image(0, "heatmap", alpha=0.5)


def test_saving(found, tmp_path: Path) -> None:
    written = found.select(image=1, mode="guided").save(tmp_path / "out", style="heatmap,overlay", raw=True)
    names = {"b.png.guided.png", "b.png.guided.overlay.png", "b.png.guided.top2.png", "b.png.guided.top2.overlay.png"}
    assert {one.name for one in written} == names
    arrays = {"b.png.guided.npy", "b.png.guided.top2.npy"}
    assert {one.name for one in (tmp_path / "out").iterdir()} == names | arrays
    assert np.array_equal(np.load(tmp_path / "out" / "b.png.guided.top2.npy"), found.attribution[11])
    (one,) = found[0].save(tmp_path / "one.png", style="overlay")
    assert np.array_equal(np.asarray(Image.open(one)), np.asarray(found.image(0, "overlay")))
    found[0].save(tmp_path / "one.png", style="gray")  # ours may be replaced
    with pytest.raises(UsageError, match=r"one\.png: is the name of one picture, and there are 18"):
        found.save(tmp_path / "one.png")
    with pytest.raises(
        UsageError, match=r"one\.JPG: pictures are written as PNG; name it .*one\.png, or give a folder"
    ):
        found[0].save(tmp_path / "one.JPG")
    with pytest.raises(
        UsageError, match=r"one\.pdf: pictures are written as PNG; gradviz figure draws one from a folder"
    ):
        found[0].save(tmp_path / "one.pdf")
    for out, said in (
        ("", "out: it is empty"),
        ("s3://b/maps", "out: s3://b/maps is an address"),
        (None, "is no path"),
    ):
        with pytest.raises(UsageError, match=said):
            found.save(out)
    (tmp_path / "folder.jpg").mkdir()
    (one,) = found[0].save(tmp_path / "folder.jpg")
    assert one.parent.name == "folder.jpg"


def test_saving_replaces_nothing_of_others(found, model, tmp_path: Path) -> None:
    for name in ("image-2.guided.png", "image-2.deconv.npy"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_bytes(b"mine")
        with pytest.raises(OutputError, match="is there already, and not of gradviz"):
            found.select(image=2).save(out, raw=True)
        assert [(one.name, one.read_bytes()) for one in out.iterdir()] == [(name, b"mine")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.jsonl").write_text("")
    with pytest.raises(UsageError, match="is an output folder of `gradviz explain`"):
        found.save(tmp_path / "run")
    (tmp_path / "other").mkdir()
    twice = model.explain([tmp_path / "b.png", png(noise(9), tmp_path / "other" / "b.png")])
    with pytest.raises(UsageError, match="two images would be written to .*select"):
        twice.save(tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_what_a_notebook_shows_is_short_small_and_harmless(found, model) -> None:
    assert repr(found) == ("<Explanation: 18 maps [4, 6, 3], backprop, deconv, guided: owl 2, dog 1, owl 2, ...>")
    page = found._repr_html_()
    assert page.count("<figure") == 6 and page.count("<img") == 12 and page.count("alt=") == 12
    assert "and 12 more" in page and "<b>" not in page and "&lt;b&gt;.png" in page and "http" not in page
    large = model.explain([noise(seed, (600, 600, 3)) for seed in range(3)])
    assert len(large._repr_html_()) < 250_000 and 'width="192"' in large._repr_html_()
    with pytest.warns(GradvizWarning):
        skipped = model.explain([b"<script>", b"x"], errors="skip")._repr_html_()
    assert "2 skipped" in skipped and "<script>" not in skipped and "image-0" in skipped
    assert repr(model).startswith("<LoadedModel /") and "4x6x3, 3 classes, loaded" in repr(model)


# ---- run


def test_a_run_that_nobody_asks_for_results_says_so(folder: Path) -> None:
    with pytest.warns(GradvizWarning, match="did nothing: its results were never asked for"):
        api.run(folder / "model", folder, folder / "out")
    assert not (folder / "out").exists()
    with pytest.raises(UsageError, match="--mode"):  # at once
        api.run(folder / "model", folder, folder / "out", mode="all,none")
    plan = planning.plan_from(folder / "model", folder / "out")
    with pytest.raises(UsageError, match="a plan has its own folder and options, and out, mode would not count"):
        api.run(plan, folder, "elsewhere", mode="all")
