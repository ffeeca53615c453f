"""One image's attributions -> its files, staged: what is drawn, what is not, and what the result says."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradviz_cli.draw.look import DEFAULT_LOOK
from gradviz_cli.draw.pictures import Context, Drawn, Source, _captions, draw, needs_pixels
from gradviz_cli.draw.record import Record
from gradviz_cli.draw.styles import SHEETS, STYLES
from gradviz_cli.errors import OutputError
from gradviz_cli.estimators import Taps, estimators_of, modes_of
from gradviz_cli.files import whole
from gradviz_cli.images.fit import Geometry, unfit
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Drawing, Job, Plan
from gradviz_cli.plan.results import Seen, Status, TargetResult, why_empty
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import Facts, InputFacts, ModelOptions

FACTS = Facts(
    "serving_default", "the only one", InputFacts("x", (None, 2, 3, 1), "float32", "NHWC"), "y", "logits",
    None, None, 5, (2, 3), 1, "unit", {}, 0, 0, (),
)  # fmt: skip
SHA256 = "cd" * 32
FIELD = np.array([[2, 4, 1], [0, 1, 4]], np.float32)
# 255 * value / 4, to the nearest whole number, half to even
INTENSITIES = [[128, 255, 64], [0, 64, 255]]


def drawn(out: Path, maps: dict[str, list[np.ndarray]], image: np.ndarray | None = None, **drawing) -> Drawn:
    """An image of 2 x 3, the size of the model input; a map for each mode and target."""
    wanted = {"modes": tuple(maps), "clip": 100.0, "size": "input", **drawing}
    plan = Plan(ModelOptions("model"), out, Drawing(**wanted))
    job = Job(Path("photos/a.png"), "deep/a.png")
    context = Context(plan, FACTS, Digests(plan, "ab" * 32), Geometry(2, 3, 1))
    source = Source(job, (2, 3), SHA256, np.full((2, 3, 1), 77, np.uint8), image)
    targets = tuple(TargetResult(i, f"class-{i}", i, 1.5, 0.5) for i in range(len(plan.drawing.targets)))
    found = Attribution(targets, {mode: np.stack(each)[..., None] for mode, each in maps.items()})
    return draw(context, source, found, outputs(plan, job, SHEETS), 0.25)


@pytest.fixture(autouse=True)
def _nothing_left():
    """Files that no test publishes are no concern of the next one."""
    yield
    whole.discard_all()


def published(done: Drawn, out: Path) -> dict[str, bytes]:
    for staged in done.files:
        whole.publish(staged)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_map_is_drawn_with_what_it_says(tmp_path: Path) -> None:
    done = drawn(tmp_path, {"guided": [FIELD]})
    assert not list(tmp_path.rglob("*.png"))  # not yet published
    files = published(done, tmp_path)
    assert list(files) == ["deep/a.png.guided.png"]
    picture = Image.open(io.BytesIO(files["deep/a.png.guided.png"]))
    assert np.asarray(picture).tolist() == INTENSITIES
    record = Record.read(tmp_path / "deep/a.png.guided.png")
    assert record is not None
    assert (record.scale, record.mode, record.image) == ((0.0, 4.0), "guided", SHA256)
    assert done.result.status is Status.WRITTEN and done.result.seconds == 0.25
    assert done.result.hashes == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert done.result.digest == record.digest


def test_the_array_is_written_once_for_all_styles(tmp_path: Path) -> None:
    files = published(drawn(tmp_path, {"guided": [FIELD]}, styles=("heatmap", "signed", "panel"), raw=True), tmp_path)
    assert {name for name in files if name.endswith(".npy")} == {"deep/a.png.guided.npy"}
    array = np.load(io.BytesIO(files["deep/a.png.guided.npy"]))
    assert array.dtype == np.float32 and array[..., 0].tolist() == FIELD.tolist()
    sha256 = hashlib.sha256(files["deep/a.png.guided.npy"]).hexdigest()
    said = {suffix: Record.read(tmp_path / f"deep/a.png.{suffix}.png").npy for suffix in ("guided", "guided.signed", "panel")}  # fmt: skip
    assert said == {"guided": sha256, "guided.signed": sha256, "panel": {"guided": sha256}}


@pytest.mark.parametrize(("value", "status"), [(0, Status.ZERO), (np.nan, Status.NONFINITE)])
def test_a_map_that_is_none_fails_the_image_and_leaves_the_others(tmp_path: Path, value: float, status: Status) -> None:
    maps = {"backprop": [FIELD], "guided": [np.full_like(FIELD, value)]}
    done = drawn(tmp_path, maps, styles=("heatmap", "panel"), raw=True)
    files = published(done, tmp_path)
    assert set(files) == {"deep/a.png.backprop.png", "deep/a.png.backprop.npy"}  # nor a sheet with a hole
    assert done.result.status is status and done.result.failed
    why = (
        status.why
        if status is Status.NONFINITE
        else (
            "the attribution is zero everywhere: no positive gradient reaches a ReLU, and guided lets only those through; "
            "backprop has a map (--mode backprop)"
        )
    )
    assert done.result.error == {"kind": status.value, "message": f"guided, target top1: {why}"}


@pytest.mark.parametrize(
    ("score", "positions", "status", "words"),
    [
        (0.0, True, Status.NOWHERE, "found nowhere in this image"),
        (0.5, True, Status.ZERO, "saturated or dead"),
        (0.0, False, Status.ZERO, "saturated or dead"),
    ],
)
def test_a_class_that_is_nowhere_is_no_failure(score: float, positions: bool, status: Status, words: str) -> None:
    found, why = why_empty(Status.ZERO, "backprop", score, positions)
    assert found is status and words in why


def test_why_nothing_is_let_through() -> None:
    said = [why_empty(Status.ZERO, "deconv", 1.0, False, Seen(plain))[1] for plain in (None, False, True)]
    assert ["no change of the image" in one for one in said] == [False, False, True]
    assert ["backprop has a map" in one for one in said] == [False, True, False]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"ranges": ("raw", "caffe"), "scores": (0, 0, 0, 0)}, "as --preprocess unit has it, no change of this image"),
        (
            {"scores": (1, 0.2, 1, 0.5)},
            "the score is 1, where its sigmoid or softmax is flat (saturated); explain --output",
        ),
        ({"scores": (1, 0.2, 1, 0.5), "by_output": True}, "explain --score logit"),
        ({"scores": (1, 0.2, 7, 0.5), "others_alive": True}, "while a noisy picture has a map"),
        ({"scores": (0, 0.2, 7, 0.5), "others_alive": True}, "the score is 0, the positive part alone"),
        ({"scores": (0, 0, 7, 0.5), "others_alive": True, "one_colour": True}, "the image is of one colour"),
        ({"scores": (0, 0, 7, 0.5), "one_colour": True}, "the score is 0, the positive part alone"),
        ({"scores": (2, 2, 2, 2)}, "the score is 2 for this image and for a black, a white and a noisy one alike"),
        ({"scores": (2, 2, 2, 3), "others_alive": True, "one_colour": True}, "the image is of one colour"),
        ({"scores": (-2, 2, 2, 3)}, "no change of the image changes the score (saturated or dead units)"),
        ({"scores": ()}, "no change of the image changes the score (saturated or dead units)"),
    ],
)
def test_the_cause_of_an_empty_map_is_what_was_seen(seen: dict, words: str) -> None:
    for mode in ("backprop", "guided"):
        status, why = why_empty(Status.ZERO, mode, 1.0, False, Seen(True, "unit", **seen))
        assert status is Status.ZERO and words in why


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("backprop.integrated-gradients", "the image is like its baseline"),
        ("backprop.input-x-gradient", "the model is given the number 0"),
        ("deconv.vargrad", "the gradient does not vary"),
        ("backprop.guided-grad-cam", "the Grad-CAM is"),
        ("backprop.chefer", "no attention raises the score"),
    ],
)
def test_a_map_is_empty_by_what_is_made_of_a_gradient_that_is_not(method: str, words: str) -> None:
    """As the variance of what is the same everywhere; no other pixel range is at fault."""
    seen = {"used": "unit", "ranges": ("raw",), "scores": (2, 2, 7, 3), "others_alive": True}
    said = [why_empty(Status.ZERO, method, 1.0, False, Seen(plain, **seen))[1] for plain in (None, False, True)]
    assert [words in one for one in said] == [True, True, False]
    assert ["or backprop is zero too" in one for one in said] == [True, False, False]
    assert ["no change of this image" in one for one in said] == [False, False, True]


def test_it_is_drawn_where_that_is_allowed(tmp_path: Path) -> None:
    maps = {"guided": [np.full_like(FIELD, np.nan)]}
    done = drawn(tmp_path, maps, allow_empty_map=True, styles=("gray",))
    files = published(done, tmp_path)
    assert not np.asarray(Image.open(io.BytesIO(files["deep/a.png.guided.gray.png"]))).any()
    assert done.result.status is Status.WRITTEN and done.result.error is None
    assert Record.read(tmp_path / "deep/a.png.guided.gray.png").scale is None


@pytest.mark.parametrize(
    ("facts", "more"),
    [
        (FACTS, ()),
        (replace(FACTS, ranked_by="positions won"), ("summed over positions", "rank 2 by positions won")),
        (replace(FACTS, ranked_by="positions won", classes=1), ()),
    ],
)
def test_a_panel_says_what_ranks_the_classes_where_their_scores_do_not(facts: Facts, more: tuple[str, ...]) -> None:
    found = Attribution((TargetResult(3, "cat", 1, 34.1, 0.5),), {})
    assert _captions(found, 0, facts) == ("cat", "class 3", "score 34.1", *more)


@pytest.mark.parametrize(("scale", "ends"), [("each", [4.0, 8.0]), ("shared", [8.0, 8.0])])
def test_a_scale_of_its_own_or_one_for_all(tmp_path: Path, scale: str, ends: list[float]) -> None:
    targets = (Target(rank=0), Target(rank=1))
    published(drawn(tmp_path, {"guided": [FIELD, 2 * FIELD]}, targets=targets, scale=scale), tmp_path)
    records = [Record.read(tmp_path / f"deep/a.png.guided{part}.png") for part in ("", ".top2")]
    assert [record.scale[1] for record in records] == ends
    assert [record.target.label for record in records] == ["class-0", "class-1"]


def test_nothing_is_left_of_an_image_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "deep" / "a.png.guided.gray.png").mkdir(parents=True)
    with pytest.raises(OutputError, match="it is a folder"):
        drawn(tmp_path, {"guided": [FIELD]}, styles=("heatmap", "gray"))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png.guided.gray.png"]


def test_a_folder_that_was_taken_away_does_not_come_back(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="gone"):
        drawn(tmp_path / "unmounted", {"guided": [FIELD]})
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.parametrize(
    ("styles", "needed"), [(("heatmap", "rgb"), False), (("gray", "overlay"), True), (("panel",), True)]
)
def test_who_needs_the_source_image(styles: tuple[str, ...], needed: bool) -> None:
    assert needs_pixels(Plan(ModelOptions("m"), Path("out"), Drawing(styles=styles))) is needed


def test_the_input_of_a_panel_is_resampled_like_the_maps(tmp_path: Path, monkeypatch) -> None:
    """An image whose map has its own values is shown as its map is."""
    levels = np.array([[0, 200, 50], [100, 255, 10]], np.uint8)
    given = {}

    def panel(image, columns, **more):
        given.update(image=image, map=columns[0].picture.pixels)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("gradviz_cli.draw.panel.panel", panel)
    image = np.repeat(levels[..., None], 3, axis=2)
    maps = {"guided": [levels.astype(np.float32)]}
    published(drawn(tmp_path, maps, styles=("panel",), size="image", colormap="gray", image=image), tmp_path)
    assert given["image"].shape[:2] == given["map"].shape == SHEETS["panel"].size_of(2, 3)
    assert np.abs(given["image"][..., 0].astype(int) - given["map"]).max() <= 1


# ---- estimators


CAM = np.array([[0, 1], [0, 4]], np.float32)  # of a layer of 2 x 2, on an input of 4 x 6


def enlarged() -> np.ndarray:
    """CAM at the size of the image, as Pillow enlarges it, within its range."""
    large = Image.fromarray(CAM).resize((6, 4), Image.Resampling.BICUBIC)
    return np.clip(Image.fromarray(np.clip(large, 0, 4)).resize((12, 8), Image.Resampling.BICUBIC), 0, 4)


def estimated(out: Path, maps: dict[str, np.ndarray], numbers: dict[str, list[float]], **wanted) -> Drawn:
    """An image of 8 x 12; maps [h, w, c] by method, and what is recorded beside them."""
    wanted = {"estimators": tuple(estimators_of(tuple(maps))), "modes": modes_of(tuple(maps)), **wanted}
    plan = Plan(ModelOptions("model"), out, Drawing(clip=100.0, **wanted))
    facts = replace(FACTS, size=(4, 6), taps=(Taps("cam", ("relu:0",), (2, 2), (0, 1, 2)),))
    pixels = np.full((8, 12, 3), 200, np.uint8)
    source = Source(Job(Path("a.png"), "a.png"), (8, 12), SHA256, np.full((4, 6, 1), 77, np.uint8), pixels)
    told = {name: np.array([each], np.float32) for name, each in numbers.items()}
    found = Attribution((TargetResult(3, "cat", 0, 2.5, 0.5),), {name: one[None] for name, one in maps.items()}, told)
    context = Context(plan, facts, Digests(plan, "ab" * 32), Geometry(4, 6, 1))
    return draw(context, source, found, outputs(plan, source.job, SHEETS), 0.25)


def test_a_map_of_a_layer_is_written_at_its_size_and_drawn_at_that_of_the_image(tmp_path: Path) -> None:
    done = estimated(tmp_path, {"backprop.grad-cam": CAM[..., None]}, {"backprop.grad-cam": [0.5]}, raw=True)
    files = published(done, tmp_path)
    assert set(files) == {"a.png.backprop.grad-cam.png", "a.png.backprop.grad-cam.npy"}
    assert np.load(io.BytesIO(files["a.png.backprop.grad-cam.npy"])).tolist() == CAM.tolist()
    want = np.rint(enlarged() / 4 * 255)
    got = np.asarray(Image.open(io.BytesIO(files["a.png.backprop.grad-cam.png"])), np.float32)
    assert np.abs(got - want).max() <= 1
    record = Record.read(tmp_path / "a.png.backprop.grad-cam.png")
    assert (record.mode, record.estimator, record.unit) == ("backprop", "grad-cam", "score")
    assert record.estimate == {"cam_layer": "relu:0", "share": 0.5}
    assert record.options["estimator"] == ("grad-cam",) and "samples" not in record.options


def test_what_an_estimator_says_of_its_map_stands_in_the_manifest(tmp_path: Path) -> None:
    flat = np.ones((4, 6, 1), np.float32)
    maps = {"guided": flat, "guided.smoothgrad": flat, "guided.integrated-gradients": flat}
    numbers = {"guided.smoothgrad": [0.25], "guided.integrated-gradients": [np.nan]}
    (line,) = estimated(tmp_path, maps, numbers).result.record("now")["estimates"]
    assert line == {"mode": "guided", "estimator": "smoothgrad", "target": "top1", "index": 3, "noise_left": 0.25}
    assert "estimates" not in drawn(tmp_path, {"guided": [FIELD]}).result.record("now")


def test_the_box_is_in_pixels_of_the_image_and_drawn_on_what_shows_it(tmp_path: Path) -> None:
    def run(**wanted) -> tuple[dict[str, bytes], dict]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        out.mkdir()
        done = estimated(
            out, {"backprop.hires-cam": CAM[..., None]}, {}, styles=("heatmap", "overlay", "panel"), **wanted
        )
        return published(done, out), done.result.record("now")["estimates"][0]

    (plain, none), (boxed, line) = run(), run(box=True)
    rows, columns = np.nonzero(enlarged() >= 0.3 * enlarged().max())  # all of it hangs together
    sides = {"top": rows[0], "left": columns.min(), "height": np.ptp(rows) + 1, "width": np.ptp(columns) + 1}
    assert "box" not in none and line["box"] == sides
    same = {name: pixels_of(plain[name]) == pixels_of(boxed[name]) for name in plain}
    assert same == {
        "a.png.backprop.hires-cam.png": True,
        "a.png.backprop.hires-cam.overlay.png": False,
        "a.png.panel.png": False,
    }


def pixels_of(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_a_shared_scale_is_one_of_each_estimator(tmp_path: Path) -> None:
    small, large = np.full((4, 6, 1), 2, np.float32), np.full((4, 6, 1), 8, np.float32)
    small[0, 0], large[0, 0] = 0, 0
    maps = {"backprop": small, "guided": large, "backprop.smoothgrad": small / 4, "guided.smoothgrad": small / 8}
    done = estimated(
        tmp_path,
        maps,
        {"backprop.smoothgrad": [0.1], "guided.smoothgrad": [0.1]},
        scale="shared",
        styles=("heatmap", "panel"),
    )
    published(done, tmp_path)
    ends = {name: Record.read(tmp_path / f"a.png.{name}.png").scale[1] for name in maps}
    assert ends == {"backprop": 8, "guided": 8, "backprop.smoothgrad": 0.5, "guided.smoothgrad": 0.5}
    assert {name: end[1] for name, end in Record.read(tmp_path / "a.png.panel.png").scale.items()} == ends


def test_a_map_that_is_zero_says_what_of_its_estimator(tmp_path: Path) -> None:
    zero = {"backprop.grad-cam": np.zeros((2, 2, 1), np.float32)}
    done = estimated(tmp_path, zero, {"backprop.grad-cam": [1.0]})
    assert done.result.status is Status.ZERO and "--cam-layer" in done.result.error["message"] and not done.files


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_picture_that_is_drawn_row_by_row_is_that_of_the_whole(
    tmp_path: Path, style: str, fit: str, monkeypatch
) -> None:
    monkeypatch.setattr("gradviz_cli.images.fit.FEW", 0)
    monkeypatch.setattr("gradviz_cli.images.enlarge.BAND", 1000)
    random, size, geometry = np.random.default_rng(20), (90, 130), Geometry(20, 22, 3, fit)
    image = random.integers(0, 256, (*size, 3), np.uint8)
    attribution = random.normal(size=(1, 20, 22, 3)).astype(np.float32)
    plan = Plan(ModelOptions("model"), tmp_path, Drawing(modes=("guided",), styles=(style,), fit=fit))
    job = Job(Path("photos/a.png"), "a.png")
    context = Context(plan, FACTS, Digests(plan, "ab" * 32), geometry)
    source = Source(job, size, SHA256, np.zeros((20, 22, 3), np.uint8), image)
    found = Attribution((TargetResult(0, "class-0", 0, 1.5, 0.5),), {"guided": attribution})
    files = published(draw(context, source, found, outputs(plan, job, SHEETS), 0.25), tmp_path)
    chosen = STYLES[style]
    field = chosen.reduce(attribution[0])
    whole = chosen.colour(unfit(field, geometry, size), image, DEFAULT_LOOK, chosen.limits(field, DEFAULT_LOOK))
    picture = Image.open(io.BytesIO(next(iter(files.values()))))
    assert np.array_equal(np.asarray(picture), whole.pixels)
    if whole.palette is not None:
        assert np.array_equal(np.array(picture.getpalette()).reshape(-1, 3), whole.palette)
