"""Estimators on whole models, against the same arithmetic eagerly in float64. About 20 s on two cores."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import tensorflow as tf
from feature_maps import CLASSES, FORMS, Found, Net, eager, pictures, write
from PIL import Image
from reference import rule

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.estimators import ESTIMATORS, LEVELS, Estimation, seed
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.rules import RULES
from gradviz_cli.worker.model import Model

CAMS = ("grad-cam", "hires-cam", "layer-cam")
IMAGES = pictures(2)
NEAR = 1e-5


def distance(got: np.ndarray, want: np.ndarray) -> float:
    want = np.asarray(want, np.float64)
    assert got.shape == want.shape and np.linalg.norm(want) > 0
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A function: form, methods, ... -> the model, each made once."""
    folder, made = tmp_path_factory.mktemp("estimators"), {}

    def model(form: str, methods: tuple[str, ...], batch: int | None = None, **estimation) -> Model:
        place = folder / f"{form}-{batch}"
        if not place.exists():
            write(place, form, batch)
        key = (form, methods, batch, *estimation.items())
        if key not in made:
            options = ModelOptions(str(place), preprocess="raw")
            made[key] = Model(options, methods, verified=True, estimation=Estimation(**estimation))
        return made[key]

    return model


def maps(model: Model, methods: tuple[str, ...], images=IMAGES, target: int = -1, **more) -> dict[str, np.ndarray]:
    """Method -> [n, h, w, c]."""
    return {
        name: each[0]
        for name, each in zip(methods, model.explain(images, [target], methods, **more).gradients, strict=True)
    }


def cam(name: str, found: Found) -> np.ndarray:
    """The papers' equations again, in float64."""
    slope = {"grad-cam": found.slope.mean((0, 1), keepdims=True), "layer-cam": found.slope.clip(0)}.get(
        name, found.slope
    )
    return (slope * found.value).sum(-1).clip(0)


# ---- class activation maps


@pytest.mark.parametrize("form", FORMS)
def test_each_map_of_a_layer_is_that_of_the_eager_model(loaded, form: str) -> None:
    methods = tuple(f"backprop.{name}" for name in CAMS)
    model = loaded(form, methods)
    (taps,) = model.facts.taps
    assert taps.size == FORMS[form].size and taps.certain
    found = maps(model, methods)
    for place, image in enumerate(IMAGES):
        want = eager(form, image)
        for name in CAMS:
            assert distance(found[f"backprop.{name}"][place, ..., 0], cam(name, want)) < NEAR, name


@pytest.mark.parametrize("form", list(FORMS))
def test_the_share_is_one_where_all_behind_the_layer_is_linear(loaded, form: str) -> None:
    methods = tuple(f"backprop.{name}" for name in CAMS)
    shares = loaded(form, methods).explain(IMAGES, [-1], methods).numbers[0]
    assert shares.shape == (1, 2, 1)
    assert np.allclose(shares, 1, atol=1e-5) == FORMS[form].linear


def test_behind_a_mean_grad_cam_is_hires_cam_and_behind_a_flattening_it_is_not(loaded) -> None:
    methods = tuple(f"backprop.{name}" for name in CAMS)
    found = {form: maps(loaded(form, methods), methods) for form in ("pooled", "flat")}
    apart = {form: distance(one["backprop.grad-cam"], one["backprop.hires-cam"]) for form, one in found.items()}
    assert apart["pooled"] < NEAR and apart["flat"] > 0.1


def test_a_rule_acts_behind_the_layer_and_only_there(loaded) -> None:
    methods = tuple(f"{mode}.hires-cam" for mode in RULES)
    found = maps(loaded("dense", methods), methods)
    for mode in RULES:
        want = eager("dense", IMAGES[0], rule(mode))
        assert distance(found[f"{mode}.hires-cam"][0, ..., 0], cam("hires-cam", want)) < NEAR, mode
    said = loaded("pooled", ("guided.hires-cam",)).facts.warnings
    assert len(said) == 1 and "no ReLU lies between" in said[0] and "-m backprop" in said[0]
    assert not loaded("dense", methods).facts.warnings


def test_guided_grad_cam_is_the_guided_map_times_the_enlarged_one(loaded) -> None:
    methods = ("guided", "backprop.guided-grad-cam", "backprop.grad-cam")
    found = maps(loaded("pooled", methods), methods)
    small = cam("grad-cam", eager("pooled", IMAGES[0])).astype(np.float32)
    large = np.asarray(Image.fromarray(small).resize((16, 16), Image.Resampling.BILINEAR))
    want = eager("pooled", IMAGES[0], rule("guided")).gradient * large[..., None]
    assert distance(found["backprop.guided-grad-cam"][0], want) < NEAR
    assert distance(found["guided"][0], eager("pooled", IMAGES[0], rule("guided")).gradient) < NEAR


def test_another_layer_by_its_name_and_what_passes_it_by_is_said(loaded) -> None:
    methods = ("backprop.hires-cam",)
    layer = "Relu_1:0"
    model = loaded("passed by", methods, cam_layer=layer)
    (taps,) = model.facts.taps
    assert taps.tensors[0].endswith(layer) and not taps.certain
    assert "not all of the score passes" in model.facts.warnings[0]
    assert np.isnan(model.explain(IMAGES, [-1], methods).numbers[0]).all(), "what it rests at hangs on the image"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("nothing", ("--cam-layer nothing", "no such tensor", "inspect -v")),
        ("kepd:0", ("no such tensor", "did you mean", "kept:0")),
        ("D_1", ("no such tensor", "did you mean", "Conv2D_1:0")),  # a part of its name, as a layer of Keras is
        ("Mean", ("no output of rank 4", "give one such as")),
    ],
)
def test_a_layer_that_is_none_is_refused_by_its_name(loaded, layer: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        loaded("pooled", ("backprop.grad-cam",), cam_layer=layer)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_layer_of_one_row_is_taken_by_its_name(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    kernels = [draw.normal(size=shape).astype("f") for shape in ((3, 3, 3, 6), (8, 1, 6, 7), (8 * 7, CLASSES))]

    def scores(image, dtype, keep):
        first, second, last = (tf.constant(kernel, dtype) for kernel in kernels)
        x = tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(image, first, 2, "SAME")), second, 1, "VALID")
        return tf.reshape(keep(tf.nn.relu(x)), [-1, 8 * 7]) @ last

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3])])
    def serve(image):
        return {"scores": scores(image, tf.float32, lambda tensor: tf.identity(tensor, "row"))}

    tf.saved_model.save(tf.Module(), str(tmp_path / "rows"), signatures={"serving_default": serve})
    methods = ("backprop.hires-cam",)
    options = ModelOptions(str(tmp_path / "rows"), preprocess="raw")
    model = Model(options, methods, estimation=Estimation(cam_layer="row:0"))
    kept: list[tf.Tensor] = []

    def watched(tensor):
        tape.watch(tensor)
        kept.append(tensor)
        return tensor

    with tf.GradientTape() as tape:
        score = scores(tf.constant(IMAGES[:1], tf.float64), tf.float64, watched)[0, 2]
    want = (tape.gradient(score, kept[0])[0] * kept[0][0]).numpy().sum(-1).clip(0)
    assert want.shape == (1, 8)
    assert distance(maps(model, methods, IMAGES[:1], 2)["backprop.hires-cam"][0, ..., 0], want) < NEAR


def test_patches_that_a_transformer_takes_are_no_late_layer(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3])])
    def serve(image):
        x = tf.nn.conv2d(image, draw.normal(size=(4, 4, 3, 8)).astype("f"), 4, "VALID")
        x = tf.reshape(x, [-1, 16, 8])
        for _ in range(2):
            x += tf.nn.softmax(x @ tf.transpose(x, [0, 2, 1])) @ x
            x += tf.nn.gelu(x @ draw.normal(size=(8, 8)).astype("f"))
        return {"scores": tf.reduce_mean(x, 1) @ draw.normal(size=(8, 5)).astype("f")}

    tf.saved_model.save(tf.Module(), str(tmp_path / "vit"), signatures={"serving_default": serve})
    with pytest.raises(ModelUnusable, match="no feature map late in the model.*chefer.*--cam-layer"):
        Model(ModelOptions(str(tmp_path / "vit"), preprocess="raw"), ("backprop.grad-cam",))


# ---- sums over many gradients


def noisy(image: np.ndarray, estimation: Estimation, mark: int | None = None) -> np.ndarray:
    """The copies by the recipe; with a mark, others of the same kind, of exact normal numbers."""
    draw = np.random.Generator(np.random.PCG64(seed(image, estimation) if mark is None else mark))
    if mark is None:
        parts = draw.integers(0, LEVELS, (estimation.samples, *image.shape), np.uint16)
        noise = np.vectorize(NormalDist().inv_cdf)((parts + 0.5) / LEVELS)
    else:
        noise = draw.standard_normal((estimation.samples, *image.shape))
    return image + estimation.noise * (float(image.max()) - float(image.min())) * noise


@pytest.mark.parametrize(("form", "mode"), [("flat", "backprop"), ("flat", "guided"), ("map", "backprop")])
def test_smoothing_keeps_the_class_of_the_image_itself(loaded, form: str, mode: str) -> None:
    estimation, name = Estimation(samples=9, noise=2.0), f"{mode}.smoothgrad"
    found = maps(loaded(form, (name,)), (name,), estimation=estimation)[name][0]
    clean = eager(form, IMAGES[0])
    copies = noisy(IMAGES[0], estimation)
    fixed = [eager(form, copy, rule(mode), clean.index, clean.won).gradient for copy in copies]
    assert distance(found, np.mean(fixed, axis=0)) < 1e-4
    own = [eager(form, copy, rule(mode)) for copy in copies]
    assert distance(found, np.mean([one.gradient for one in own], axis=0)) > 0.05, "else this proves nothing"


def test_what_is_left_of_the_noise_is_how_far_another_draw_is_off(loaded) -> None:
    """Against 2,000 other copies: n = 32 is off by as much as it says of itself."""
    name, estimation = "backprop.smoothgrad", Estimation(samples=32, noise=0.15)
    model = loaded("dense", (name,))
    explained = model.explain(IMAGES[:1], [-1], (name,), estimation=estimation)
    found, left = explained.gradients[0][0, 0], float(explained.numbers[0][0, 0, 0])
    net, index = Net(tf.float64), eager("dense", IMAGES[0]).index
    x = tf.constant(noisy(IMAGES[0], Estimation(samples=2000), mark=1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = net.dense(x)[:, index]
    apart = distance(found, tape.gradient(score, x).numpy().mean(0))
    assert 0.02 < left < 1 and 0.7 * left < apart < 1.3 * left


@pytest.mark.parametrize("form", ["dense", "map"])
def test_integrated_gradients_are_those_of_the_eager_midpoints(loaded, form: str) -> None:
    name, estimation = "backprop.integrated-gradients", Estimation(samples=16)
    baseline = np.broadcast_to(IMAGES.mean((1, 2), keepdims=True), IMAGES.shape).astype(np.float32)
    explained = loaded(form, (name,)).explain(IMAGES, [-1], (name,), estimation=estimation, baselines=baseline)
    for place, image in enumerate(IMAGES):
        clean, way = eager(form, image), image.astype(np.float64) - baseline[place]
        points = [baseline[place] + (k + 0.5) / 16 * way for k in range(16)]
        want = way * np.mean([eager(form, one, index=clean.index, won=clean.won).gradient for one in points], axis=0)
        assert distance(explained.gradients[0][0, place], want) < 1e-4
        whole = clean.score - eager(form, baseline[place], index=clean.index, won=clean.won).score
        assert explained.numbers[0][0, place, 0] == pytest.approx((want.sum() - whole) / whole, abs=1e-4)


def test_points_between_whole_pixels_are_those_that_the_formulas_name(tmp_path: Path) -> None:
    """A model of bytes casts them to floats: its maps are those of the same model that is given floats."""
    methods = ("backprop.integrated-gradients", "guided.smoothgrad", "backprop.vargrad")
    images, estimation = np.rint(255 * IMAGES), Estimation(samples=8, noise=0.01)
    baselines = np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape).astype(np.float32)
    found = []
    for dtype in (tf.float32, tf.uint8):

        @tf.function(input_signature=[tf.TensorSpec([None, *images.shape[1:]], dtype, "image")])
        def serve(image):
            return {"scores": Net(tf.float32).dense(tf.cast(image, tf.float32) / 255)}

        folder = tmp_path / dtype.name
        tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})
        model = Model(ModelOptions(str(folder), preprocess="raw"), methods, verified=True, estimation=estimation)
        found.append(model.explain(images, [-1], methods, estimation=estimation, baselines=baselines))
    floats, whole = found
    for place in range(len(methods)):
        assert distance(whole.gradients[place], floats.gradients[place]) < NEAR
        assert np.allclose(whole.numbers[place], floats.numbers[place], rtol=1e-3, atol=1e-5, equal_nan=True)


def test_what_a_model_makes_of_a_file_is_what_its_gradient_is_multiplied_by(tmp_path: Path) -> None:
    """It decodes and scales: the parts of the score are those of the same model that is given such numbers."""
    methods = ("backprop.input-x-gradient", "backprop.integrated-gradients")
    estimation = Estimation(samples=4, baseline="black")
    levels = 8 * np.rint(31 * IMAGES.clip(0, 1)).astype(np.float32)  # so that all points are whole levels

    def scaled(one):
        image = tf.ensure_shape(tf.io.decode_png(one, 3), IMAGES.shape[1:])
        return tf.cast(image, tf.float32) / 127.5 - 1

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def of_files(image_bytes):
        images = tf.map_fn(scaled, image_bytes, fn_output_signature=tf.TensorSpec(IMAGES.shape[1:], tf.float32))
        return {"scores": Net(tf.float32).dense(images)}

    @tf.function(input_signature=[tf.TensorSpec([None, *IMAGES.shape[1:]], tf.float32, "image")])
    def of_numbers(image):
        return {"scores": Net(tf.float32).dense(image)}

    found = []
    for serve, ends in ((of_files, (0, 255)), (of_numbers, (-1, 1))):
        folder = tmp_path / serve.name
        tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})
        options = ModelOptions(str(folder), preprocess="raw", input_size=IMAGES.shape[1:3])
        model = Model(options, methods, verified=True, estimation=estimation)
        images = (ends[0] + levels / 255 * (ends[1] - ends[0])).astype(np.float32)
        start = np.full_like(images, ends[0])
        found.append(model.explain(images, [-1], methods, estimation=estimation, baselines=start))
    files, numbers = found
    for place in range(len(methods)):
        assert distance(files.gradients[place], numbers.gradients[place]) < NEAR
    assert files.numbers[1] == pytest.approx(numbers.numbers[1], abs=1e-3)


SUMS = ("backprop.smoothgrad", "backprop.vargrad", "deconv.smoothgrad-squared", "backprop.integrated-gradients")


def test_an_image_gives_the_same_bytes_alone_among_others_and_with_other_targets(loaded) -> None:
    methods = (*SUMS, "guided", "backprop.grad-cam", "backprop.guided-grad-cam")
    images, model = pictures(3, seed=4), loaded("pooled", methods)
    baselines = np.zeros_like(images)
    together = model.explain(images, [-1, 2], methods, baselines=baselines)
    for place in range(3):
        part = slice(place, place + 1)
        alone = model.explain(images[part], [-1, 2], methods, baselines=baselines[part])
        for one, other in zip(together.gradients, alone.gradients, strict=True):
            assert np.array_equal(one[:, part], other)
    assert together.index[:, 1].tolist() == [2, 2, 2]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_of_a_fixed_batch_gives_what_the_open_one_gives(loaded, batch: int) -> None:
    methods, estimation = ("backprop.smoothgrad", "backprop.hires-cam"), Estimation(samples=5)
    want = maps(loaded("dense", methods), methods, estimation=estimation)
    found = maps(loaded("dense", methods, batch), methods, estimation=estimation)
    assert all(distance(found[name], want[name]) < NEAR for name in methods)


def test_every_estimator_and_mode_can_be_asked_for_at_once(loaded) -> None:
    able = [name for name, one in ESTIMATORS.items() if one.taps != "attention"]  # which this model has none of
    methods = tuple(name if one == "gradient" else f"{name}.{one}" for one in able for name in RULES)
    found = loaded("dense", methods).explain(IMAGES[:1], [-1, -2], methods, baselines=np.zeros_like(IMAGES[:1]))
    assert [each.shape[:2] for each in found.gradients] == [(2, 1)] * len(methods)
    assert all(np.isfinite(each).all() for each in found.gradients)
    assert all(each[0].any() for name, each in zip(methods, found.gradients, strict=True) if "backprop" in name)
