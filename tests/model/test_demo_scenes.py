"""The scenes, the model trained on them and the sample images, as they ship. About 10 seconds, most of it TensorFlow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from commands import pixels
from PIL import Image

from gradviz_cli import demo
from gradviz_cli.demo.training import samples, scenes, train

SAMPLE_IMAGES = demo.IMAGES.parents[2] / "sample_images"
FRESH = range(3 * 10**9, 3 * 10**9 + 200)  # seeds that neither training nor its report uses


def scene_with(objects: int) -> scenes.Scene:
    made = (scenes.compose(seed, aspect=4 / 3) for seed in range(100))
    return next(scene for scene in made if len(scene.objects) == objects)


def same_outline(thing: scenes.Thing) -> scenes.Thing:
    """The object without its shadow, in a colour that no background has."""
    return replace(thing, shadow=0.0, texture=replace(thing.texture, colours=((1, 0, 1), (1, 0, 1))))


def test_a_seed_decides_everything():
    one, other, next_one = (scenes.draw(scenes.compose(seed), 96) for seed in (7, 7, 8))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.masks, other.masks)
    assert not np.array_equal(one.image, next_one.image)


@pytest.mark.parametrize(("aspect", "shape"), [(1, (90, 90)), (4 / 3, (90, 120)), (0.75, (120, 90))])
def test_image_and_masks_have_the_size_asked_for(aspect, shape):
    scene = scenes.compose(3, aspect=aspect)
    picture = scenes.draw(scene, 90)
    assert picture.image.shape == (*shape, 3)
    assert picture.image.dtype == np.uint8
    assert picture.masks.shape == (len(scene.objects), *shape)
    assert picture.masks.dtype == bool


def test_a_scene_is_the_same_at_every_size():
    scene = scenes.compose(11, aspect=4 / 3, grain=0.0)
    small, large = (scenes.draw(scene, short).image for short in (96, 288))
    shrunk = np.asarray(Image.fromarray(large).reduce(3), float)
    other = scenes.draw(scenes.compose(12, aspect=4 / 3, grain=0.0), 96).image
    assert np.abs(shrunk - small).mean() < 4
    assert np.abs(shrunk - other).mean() > 20


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_a_mask_is_exactly_where_the_object_was_drawn(objects):
    scene = replace(scene_with(objects), grain=0.0)
    scene = replace(scene, objects=tuple(map(same_outline, scene.objects)))
    picture = scenes.draw(scene, 120)
    for index, mask in enumerate(picture.masks):
        others = scene.objects[:index] + scene.objects[index + 1 :]
        without = scenes.draw(replace(scene, objects=others), 120).image
        changed = (picture.image != without).any(axis=-1)
        assert not (changed & ~mask).any(), "drawn outside its mask"
        assert (mask & ~changed).sum() <= 0.02 * mask.sum(), "mask where nothing was drawn"


def test_objects_do_not_overlap_and_lie_inside_the_picture():
    for seed in range(60):
        masks = scenes.draw(scenes.compose(seed, aspect=1.4), 96).masks
        assert masks.any(axis=(1, 2)).all()
        assert masks.sum(axis=0).max() == 1
        assert not masks[:, [0, -1]].any()
        assert not masks[:, :, [0, -1]].any()


def test_the_main_object_is_by_far_the_largest():
    companions = 0
    for seed in range(60):
        scene = scenes.compose(seed, aspect=1.4)
        areas = scenes.draw(scene, 96).masks.sum(axis=(1, 2))
        assert scene.label == scenes.CLASSES.index(scene.objects[0].kind)
        for thing, area in zip(scene.objects[1:], areas[1:], strict=True):
            companions += 1
            assert thing.kind != scene.objects[0].kind
            assert thing.radius <= scenes.COMPANION * scene.objects[0].radius
            assert area < 0.75 * areas[0]  # half, and the pixels at the edge, which count in full
    assert companions > 20


def test_all_classes_and_patterns_occur():
    made = [scenes.compose(seed) for seed in range(300)]
    assert {scene.objects[0].kind for scene in made} == set(scenes.CLASSES)
    assert {scene.background.pattern for scene in made} == set(scenes.PATTERNS)
    assert {len(scene.objects) for scene in made} == {1, 2, 3}


@pytest.mark.parametrize("kind", scenes.CLASSES)
@pytest.mark.parametrize("detail", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.999, 0.999)])
def test_outlines_stay_in_the_unit_circle_and_fill_a_good_part_of_it(kind, detail):
    outline = scenes.OUTLINES[kind](*detail)
    assert np.isfinite(outline).all()
    assert 0.85 <= np.hypot(*outline.T).max() <= 1.001
    assert scenes._area(kind, detail) > 0.2


@pytest.mark.parametrize("pattern", scenes.PATTERNS)
def test_patterns_vary_between_zero_and_one(pattern):
    canvas = scenes.Canvas(96, 72)
    values = scenes.PATTERNS[pattern](canvas, np.random.default_rng(1), 1.0)
    assert values.shape == (72, 96)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0.05


def test_cells_name_what_covers_them():
    _, scene, masks = train.example(5)
    _, label, cells = train.lesson(5)
    assert label == scene.label
    assert cells.shape == (train.CELLS, train.CELLS)
    step = train.SIZE // train.CELLS
    covered = masks.any(axis=0).reshape(train.CELLS, step, train.CELLS, step).mean(axis=(1, 3))
    assert (cells[covered == 0] == 0).all()
    assert set(cells[covered == 1]) <= {1 + scenes.CLASSES.index(thing.kind) for thing in scene.objects}
    assert (cells == 1 + label).sum() > 0


def test_labels_are_the_classes():
    labels = (demo.MODEL / "assets.extra" / "labels.txt").read_text(encoding="utf-8")
    assert tuple(labels.splitlines()) == scenes.CLASSES


def test_the_model_is_small():
    assert sum(file.stat().st_size for file in demo.MODEL.rglob("*") if file.is_file()) < 1_000_000


def test_sample_images_are_those_of_the_package():
    packaged = {file.name: file.read_bytes() for file in demo.IMAGES.iterdir()}
    assert set(packaged) == set(samples.SAMPLES)
    assert {file.name: file.read_bytes() for file in SAMPLE_IMAGES.iterdir()} == packaged
    assert sum(map(len, packaged.values())) < 1_500_000


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_sample_image_is_what_its_seed_draws(name):
    stored = pixels(demo.IMAGES / name).astype(float)
    assert np.abs(stored - samples.picture(name).image).mean() < (0.5 if name.endswith(".png") else 4)


@pytest.fixture(scope="module")
def classify():
    """The shipped model: images `[N, SIZE, SIZE, 3]` -> probabilities `[N, K]`."""
    tf = pytest.importorskip("tensorflow")
    model = tf.saved_model.load(str(demo.MODEL))

    def run(images):
        return model.signatures["serving_default"](image=tf.constant(images, tf.float32))["probabilities"].numpy()

    run.model = model  # else its variables are deleted
    return run


def test_the_signature_of_the_shipped_model(classify):
    signature = classify.model.signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert list(classify.model.signatures) == ["serving_default"]
    assert {name: spec.shape.as_list() for name, spec in inputs.items()} == {"image": [None, 128, 128, 3]}
    assert signature.structured_outputs["probabilities"].shape.as_list() == [None, len(scenes.CLASSES)]


def test_every_weight_is_stored_once(classify):
    stored = sum(file.stat().st_size for file in (demo.MODEL / "variables").iterdir())
    weights = sum(weight.shape.num_elements() for weight in classify.model.weights)
    assert 4 * weights <= stored < 4 * weights + 20_000  # and the index


def test_the_shipped_model_names_fresh_scenes(classify):
    images, made, _ = zip(*map(train.example, FRESH), strict=True)
    guesses = classify(np.stack(images)).argmax(axis=1)
    assert np.mean(guesses == [scene.label for scene in made]) > 0.95


def test_the_shipped_model_is_sure_of_the_sample_images(classify):
    opened = (Image.fromarray(pixels(demo.IMAGES / name)) for name in samples.SAMPLES)
    images = np.stack([image.resize((train.SIZE, train.SIZE), Image.Resampling.BILINEAR) for image in opened])
    scores = classify(images)
    assert [scenes.CLASSES[best] for best in scores.argmax(axis=1)] == [name.split("-")[0] for name in samples.SAMPLES]
    assert scores.max(axis=1).min() > 0.9
