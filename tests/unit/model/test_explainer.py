"""The way from pixels to attributions, with a worker and decoders that are played."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradviz_cli.errors import ImageError, ModelUnusable, UsageError
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.fit import Geometry
from gradviz_cli.model import explainer
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.process.protocol import (
    NUMBERS,
    PICTURE,
    PIXELS,
    WITNESSES,
    Explain,
    Facts,
    InputFacts,
    Loaded,
    ModelOptions,
    Proof,
    Row,
    Witness,
)
from gradviz_cli.process.sandbox.enter import Sandbox

FULL = Sandbox("full", 5, True, ())
REQUEST = Explain((-1,), ("backprop",))


def facts(preprocess: str = "unit", channels: int = 3, **more) -> Facts:
    given = {
        "signature": "s", "why": "w", "input": InputFacts("x", None, "float32"), "output": "y", "score": "z", "bypassed": None, "channel": None,
        "classes": 3, "size": (2, 2), "channels": channels, "preprocess": preprocess, "activations": {"Relu": (1, 1)}, "gates": 0,
        "custom_gradients": 0, "warnings": (),
    }  # fmt: skip
    return Facts(**{**given, **more})


class Worker:
    """The score of class k is (k + 1) times the sum of the first channel; its gradient lies in that channel."""

    proof = None

    def __init__(self, known: Facts, sandbox: Sandbox):
        self.path, self.known, self.sandbox = "birds", known, sandbox
        self.seen: list[np.ndarray] = []
        self.closed = False

    def load(self, proof=None) -> Loaded:
        return Loaded(self.known, 1.0, 2.0, self.sandbox)

    def explain(self, images, request):
        self.seen.append(images)
        for image in images:
            if not image.any():
                yield ImageError("model", "all is zero")
                continue
            gradient = np.zeros((1, *image.shape), np.float32)
            gradient[..., 0] = 3
            total = 3 * image[..., 0].sum()
            index, rank = np.array([2], np.int32), np.array([0], np.int32)
            yield Row(index, rank, np.array([total]), np.array([np.nan]), {"backprop": gradient})

    def close(self) -> None:
        self.closed = True


class Decoding:
    def __init__(self):
        self.asked = []

    def decode(self, data, geometry, pixels, fast, page):
        self.asked.append((data, geometry, pixels, fast, page))
        return Pixels((5, 6), np.full((geometry.height, geometry.width, geometry.channels), 7, np.uint8), None)

    def close(self) -> None:
        pass


@pytest.fixture
def made(monkeypatch):
    """Makes an explainer whose worker says what it is told to say."""

    def make(known: Facts, sandbox: Sandbox = FULL, model: dict | None = None, **options) -> tuple[Explainer, Worker]:
        worker = Worker(known, sandbox)
        monkeypatch.setattr(explainer, "RemoteModel", lambda *_: worker)
        monkeypatch.setattr(explainer, "Decoders", lambda *_: Decoding())
        explained = Explainer(ModelOptions("birds", **(model or {})), ("backprop",), **options)
        explained.load()
        return explained, worker

    return make


def image(*channels: int) -> np.ndarray:
    return np.broadcast_to(np.array(channels, np.uint8), (2, 2, len(channels))).copy()


def test_pixels_are_brought_to_the_range_that_was_found(made) -> None:
    model, worker = made(facts("signed"))
    list(model.explain([image(0, 128, 255)], REQUEST))
    np.testing.assert_allclose(worker.seen[0][0, 0, 0], [-1, 128 / 127.5 - 1, 1], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_what_the_worker_says_behind_the_last_image_is_raised_behind_it(made, count: int) -> None:
    model, worker = made(facts())
    computed = worker.explain

    def explain(images, request):
        yield from computed(images, request)
        raise ModelUnusable("birds: memory ran out, on 3 different images in a row")

    worker.explain = explain
    outcomes = model.explain([image(0, 0, 0)] * count, REQUEST)
    assert [next(outcomes).kind for _ in range(count)] == ["model"] * count
    with pytest.raises(ModelUnusable, match="in a row"):
        next(outcomes)


def test_another_range_may_be_tried(made) -> None:
    model, worker = made(facts("signed"))
    list(model.explain([image(0, 128, 255)], REQUEST, "raw"))
    assert worker.seen[0][0, 0, 0].tolist() == [0, 128, 255]


def test_a_model_that_takes_bgr_gives_maps_in_the_order_of_the_image(made) -> None:
    """Its first channel is blue: the gradient belongs to the image's last."""
    model, _ = made(facts("caffe"))
    (found,) = model.explain([image(10, 20, 200)], REQUEST)
    assert found.maps["backprop"][0, 0, 0].tolist() == [0, 0, 3]


def test_labels_and_numbers_of_a_target(made) -> None:
    model, _ = made(facts("raw"), labels=("ant", "bee", "cat"))
    (found,) = model.explain([image(1, 0, 0)], REQUEST)
    (target,) = found.targets
    assert (target.index, target.label, target.rank, target.score, target.output) == (2, "cat", 0, 12.0, None)


def test_a_class_beyond_the_labels_has_none(made) -> None:
    model, _ = made(facts("raw", classes=None), labels=("ant",))
    (found,) = model.explain([image(1, 0, 0)], REQUEST)
    assert found.targets[0].label is None


def test_a_bad_image_among_good_ones_keeps_its_place(made) -> None:
    model, _ = made(facts("raw"))
    first, second, third = model.explain([image(1, 0, 0), image(0, 0, 0), image(2, 0, 0)], REQUEST)
    assert isinstance(second, ImageError) and (first.targets[0].score, third.targets[0].score) == (12.0, 24.0)


def test_no_image_asks_nothing(made) -> None:
    model, worker = made(facts())
    assert list(model.explain([], REQUEST)) == [] and worker.seen == []


def test_a_range_of_colours_needs_three_channels(made) -> None:
    with pytest.raises(UsageError, match="--preprocess torch .* this one has 1; use raw, unit, signed"):
        made(facts("torch", channels=1))


def test_images_are_decoded_to_the_model_input(made) -> None:
    model, _ = made(facts(), fit="crop")
    assert model.decode(b"data").fitted.shape == (2, 2, 3)
    assert model._decoders.asked == [(b"data", Geometry(2, 2, 3, "crop"), False, False, None)]


def test_before_the_model_is_loaded_a_geometry_may_be_guessed(made) -> None:
    model, _ = made(facts())
    model.decode(b"data", Geometry(4, 4, 1), True, True, 3)
    assert model._decoders.asked == [(b"data", Geometry(4, 4, 1), True, True, 3)]


def test_warnings_name_the_model_then_the_sandbox_each_once(made) -> None:
    known = facts(warnings=("a guess", "a guess"), activations={"Elu": (4, 0)})
    model, _ = made(known, Sandbox("partial", 0, True, ("Landlock: this kernel does not have it",)))
    assert model.warnings(["backprop"]) == (
        "birds: a guess",
        "the model runs without a full sandbox: Landlock: this kernel does not have it; --require-sandbox refuses that",
    )
    assert "4 Elu" in model.warnings(["guided"])[1]


def test_closing_ends_the_worker(made) -> None:
    model, worker = made(facts())
    with model:
        pass
    assert worker.closed


# ---- files of numbers


NUMBERS_IN = np.full((2, 2, 3), 0.5, np.float32)


def with_options(made, known: Facts, **options) -> tuple[Explainer, Worker]:
    model, worker = made(known)
    model._options = ModelOptions("birds", **options)
    return model, worker


def test_numbers_go_to_the_model_as_they_are_beside_pictures_that_are_mapped(made) -> None:
    model, worker = made(facts("caffe"))
    picture, numbers = model.explain([image(10, 20, 200), NUMBERS_IN], REQUEST, held=[PICTURE, NUMBERS])
    assert np.array_equal(worker.seen[0][1], NUMBERS_IN)
    assert worker.seen[0][0, 0, 0, 0] == pytest.approx(200 - 103.939)
    assert picture.maps["backprop"][0, 0, 0].tolist() == [0, 0, 3]  # of the image, and not of BGR
    assert numbers.maps["backprop"][0, 0, 0].tolist() == [3, 0, 0]  # as they came
    assert (model.preprocess_of(NUMBERS), model.preprocess_of(PIXELS)) == ("raw", "caffe")


def test_what_is_said_is_done_to_numbers_too(made) -> None:
    model, worker = with_options(made, facts("unit"), preprocess="unit")
    list(model.explain([NUMBERS_IN * 255], REQUEST, held=[NUMBERS]))
    assert np.array_equal(worker.seen[0][0], NUMBERS_IN)


@pytest.mark.parametrize(
    ("held", "found", "said", "highest", "words"),
    [
        (PICTURE, "unit", "auto", 255, ()),
        (PIXELS, "unit", "auto", 255, ("brought to 0..1", "--preprocess unit", "--preprocess raw")),
        (PIXELS, "raw", "auto", 255, ()),
        (PIXELS, "unit", "unit", 255, ()),
        (NUMBERS, "unit", "auto", 7, ("as they are", "--preprocess raw settles it")),
        (
            NUMBERS,
            "unit",
            "auto",
            200,
            ("lie in 0..255, but are floats", "as they are", "--preprocess unit takes them"),
        ),
        (NUMBERS, "unit", "auto", 300, ("are not whole ones of 0..255",)),
        (NUMBERS, "raw", "auto", 200, ("are not whole ones of 0..255",)),
        (NUMBERS, "raw", "raw", 7, ()),
        (NUMBERS, "unit", "unit", 7, ()),
    ],
)
def test_what_is_assumed_of_numbers_is_said_in_a_line(made, held, found, said, highest, words) -> None:
    model, _ = with_options(made, facts(found), preprocess=said)
    lines = model.assumed(held, (2, 2), np.full((2, 2, 3), highest, np.float32))
    assert len(lines) == bool(words) and all(word in lines[0] for word in words)


@pytest.mark.parametrize(
    ("options", "value", "right"),
    [
        ({}, 1, True),
        ({"preprocess": "raw"}, -7, True),
        ({"preprocess": "unit"}, 200, True),
        ({"preprocess": "unit"}, 1, False),
        ({"preprocess": "torch"}, 1000, False),
        ({"preprocess": "signed"}, -1, False),
        ({"pixel_range": (0.0, 1.0)}, 1, False),
    ],
)
def test_numbers_are_never_divided_twice(made, options, value, right) -> None:
    """As who wrote floats of 0..1 has divided them."""
    model, _ = made(facts(options.get("preprocess", "given" if options else "unit")), model=options)
    numbers = np.full((2, 2, 3), value, np.float32)
    model.check_numbers(PICTURE, numbers)
    model.check_numbers(PIXELS, numbers)
    if right:
        model.check_numbers(NUMBERS, numbers)
        return
    option = "--pixel-range" if "pixel_range" in options else f"--preprocess {options['preprocess']}"
    with pytest.raises(ImageError, match=f"from {value} to {value}, and {option} is for levels of 0..255; ") as caught:
        model.check_numbers(NUMBERS, numbers)
    assert caught.value.kind == "range"


def test_numbers_of_another_size_are_resampled_and_that_is_said(made) -> None:
    model, _ = with_options(made, facts("raw"), preprocess="raw")
    (line,) = model.assumed(NUMBERS, (5, 7), NUMBERS_IN)
    assert "5x7" in line and "2x2" in line and line.endswith("(said of the first such file alone)")
    assert model.assumed(PICTURE, (5, 7), NUMBERS_IN) == ()


@pytest.mark.parametrize(
    ("dtype", "value", "right"),
    [
        ("float32", 0.5, True),
        ("int32", 300, True),
        ("int32", 0.5, False),
        ("uint8", 255, True),
        ("uint8", 256, False),
        ("uint8", -1, False),
        ("string", 256, False),
    ],
)
def test_numbers_that_a_model_of_whole_numbers_does_not_take_are_refused(made, dtype, value, right) -> None:
    known = facts()
    model, _ = made(replace(known, input=replace(known.input, dtype=dtype)))
    numbers = np.full((2, 2, 3), value, np.float32)
    if right:
        model.check_numbers(NUMBERS, numbers)
        return
    with pytest.raises(ImageError, match="takes whole ones from") as caught:
        model.check_numbers(NUMBERS, numbers)
    assert caught.value.kind == "range"


def test_the_model_input_says_where_its_channels_are(made) -> None:
    known = facts(channels=4)
    model, _ = made(replace(known, input=replace(known.input, layout="NCHW"), alpha=True))
    assert model.geometry == Geometry(2, 2, 4, "stretch", alpha=True, channels_first=True)


@pytest.mark.parametrize("labels", [("ant", "bee"), ("ant", "bee", "cat", "dog")], ids=str)
def test_labels_that_do_not_fit_name_no_class(made, labels) -> None:
    """The model has three classes, and the label of its class 2 may be any of them."""
    with pytest.raises(UsageError, match=f"--labels own.txt: {len(labels)} labels for 3 classes; .*--labels-from"):
        made(facts("raw"), labels=labels, labels_asked="--labels own.txt")
    model, _ = made(facts("raw"), labels=labels)
    (found,) = model.explain([image(1, 0, 0)], REQUEST)
    assert model.labels == () and found.targets[0].label is None
    (warning,) = model.warnings(["backprop"])
    assert "own labels are left out: " in warning and "--labels FILE" in warning
    other, _ = made(facts("raw"), labels=labels, model={"output": "hidden:0"})  # they are not of these scores
    assert other.labels == () and other.warnings(["backprop"]) == ()


@pytest.mark.parametrize("labels", [("", "ant", "bee", "cat"), ("bee", "cat")], ids=str)
def test_another_shift_is_not_answered_with_a_shift(made, labels) -> None:
    with pytest.raises(UsageError, match="leave --labels-from out") as caught:
        made(facts("raw"), labels=labels, labels_asked="--labels own.txt --labels-from -1")
    assert "--labels-from 1" not in caught.value.remedy and "--labels-from -1" not in caught.value.remedy


def test_an_empty_label_is_none(made) -> None:
    model, _ = made(facts("raw"), labels=("ant", "bee", ""))
    (found,) = model.explain([image(1, 0, 0)], REQUEST)
    assert found.targets[0].label is None


def test_numbers_in_place_of_a_preset(made) -> None:
    numbers = {"pixel_range": (0.0, 1.0), "mean": (0.5,), "std": (0.25,), "channel_order": "bgr"}
    model, worker = made(facts("given"), model=numbers)
    (found,) = model.explain([image(0, 51, 255)], REQUEST)
    np.testing.assert_allclose(worker.seen[0][0, 0, 0], [2, -1.2, -2], atol=1e-6)
    assert found.maps["backprop"][0, 0, 0].tolist() == [0, 0, 3]  # the model's first channel is the image's last
    with pytest.raises(UsageError, match="--channel-order: it is of 3 channels, the model input has 1"):
        made(facts("given", channels=1), model=numbers)


class Shy(Worker):
    """Its gradient is that of `max(score - 100, 0)`: nothing below."""

    def explain(self, images, request):
        for given in images:
            (row,) = super().explain(given[None] + 1e-3, request)
            closed = given[..., 0].sum() <= 100
            yield replace(row, gradients={mode: one * (not closed) for mode, one in row.gradients.items()})


def test_an_empty_map_is_looked_into_for_the_first_images(monkeypatch) -> None:
    monkeypatch.setattr(explainer, "RemoteModel", lambda *given: Shy(facts("unit"), FULL))
    monkeypatch.setattr(explainer, "MOST_LOOKED", 2)
    with Explainer(ModelOptions("birds"), ("backprop",)) as model:
        model.load()
        first, second, third = model.explain([image(200, 200, 200)] * 3, REQUEST)
        (tried,) = model.explain([image(1, 1, 1)], REQUEST, "raw")
    seen = first.seen[0]
    assert seen == second.seen[0] and not third.seen and not tried.seen
    assert seen.plain_empty and seen.one_colour and not seen.others_alive and not seen.by_output
    assert (seen.used, seen.ranges, len(set(seen.scores)), len(seen.scores)) == ("unit", ("raw", "caffe"), 4, 4)


@pytest.mark.parametrize(("kind", "looks"), [("timeout", 1), ("memory", 1), ("model", 3)])
def test_a_look_that_brings_the_worker_down_is_the_last(monkeypatch, kind: str, looks: int) -> None:
    """Each would cost a worker, and maybe a timeout for each picture that the model hangs on."""
    asked: list[int] = []

    class Fragile(Shy):
        def explain(self, images, request):
            asked.append(len(images))
            for given in images:
                yield ImageError(kind, "gone") if given.max() > 1 else next(super().explain(given[None], request))

    monkeypatch.setattr(explainer, "RemoteModel", lambda *given: Fragile(facts("unit"), FULL))
    with Explainer(ModelOptions("birds"), ("backprop",)) as model:
        model.load()
        found = list(model.explain([image(200, 200, 200)] * 3, REQUEST))
    assert not any(one.seen for one in found) and len(asked) == 1 + looks


# ---- when a proof is worth remembering

COMPLETE = Proof(tuple(Witness(name, said="not needed") for name in WITNESSES))
LOST = Proof((Witness("forward", said="not run"),), warnings=("the model could not be proved",))


class Proving(Worker):
    """A worker that has this proof once it is loaded, unless it is told one; whose gradient can be computed, or not."""

    fingerprint, works, tries = "f", True, 0

    def load(self, proof=None) -> Loaded:
        self.proof = proof or self.finds
        return super().load(proof)

    def try_gradient(self) -> bool:
        self.tries += 1
        return self.works


@pytest.fixture
def proving(monkeypatch):
    """A function: how to prove, ... -> an explainer that is loaded, its worker, and the proofs that are remembered."""

    def make(prove: str, finds: Proof = COMPLETE, known: Proof | None = None, works: bool = True):
        kept: list[Proof] = []
        worker = Proving(facts(), FULL)
        worker.finds, worker.works = finds, works
        monkeypatch.setattr(explainer, "RemoteModel", lambda *_: worker)
        monkeypatch.setattr(explainer, "Decoders", lambda *_: Decoding())
        monkeypatch.setattr(explainer.proofs, "known", lambda key: known)
        monkeypatch.setattr(explainer.proofs, "remember", lambda key, proof: proof and kept.append(proof))
        found = Explainer(ModelOptions("birds"), ("backprop",), prove=prove)
        found.load()
        return found, worker, kept

    return make


def test_a_proof_is_remembered_once_a_gradient_was_computed(proving) -> None:
    found, _, kept = proving("auto")
    asked = Explain((2,), ("backprop",))
    assert isinstance(next(iter(found.explain([image(0, 0, 0)], asked))), ImageError) and kept == []
    list(found.explain([image(9, 0, 0), image(9, 9, 0)], asked))
    assert kept == [COMPLETE]


@pytest.mark.parametrize(
    ("given", "tries", "remembered"),
    [
        ({"prove": "auto"}, 1, 1),
        ({"prove": "auto", "works": False}, 1, 0),
        ({"prove": "auto", "finds": LOST}, 0, 0),
        ({"prove": "auto", "known": COMPLETE}, 0, 1),
        ({"prove": "always"}, 1, 1),
    ],
)
def test_a_trial_is_for_a_model_that_was_proved_just_now(proving, given: dict, tries: int, remembered: int) -> None:
    found, worker, kept = proving(**given)
    found.try_gradient()
    assert (worker.tries, len(kept)) == (tries, remembered)
