"""The attributions of one image -> its files, staged: pictures, with what they show written into them, and arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradviz_cli.draw import panel, styles
from gradviz_cli.draw.png import encode_npy, encode_png
from gradviz_cli.draw.record import Context, Source, _text
from gradviz_cli.errors import OutputError
from gradviz_cli.files.whole import Staged, discard, stage, sync_folder, writing
from gradviz_cli.images.fit import unfit
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.digests import joint_digest
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Result

WHY = {
    "zero": "the attribution is zero everywhere: no change of the image changes the score (saturated or dead units)",
    "nonfinite": "the attribution holds NaN or infinity: the model overflows on this image; check --preprocess",
}


def needs_pixels(plan: Plan) -> bool:
    """Whether a picture shows the source image itself."""
    return any(style == "panel" or styles.STYLES[style].needs_image for style in plan.drawing.styles)


@dataclass(frozen=True)
class Drawn:
    """One image that is done, its files still under temporary names."""

    result: Result
    files: tuple[Staged, ...] = ()


class _Files:
    """The files of one image so far: staged, with their hashes."""

    def __init__(self, out: Path):
        self._out = out
        self.staged: list[Staged] = []
        self.hashes: dict[Path, str] = {}

    def add(self, path: Path, data: bytes) -> None:
        try:
            staged = stage(path, data)
        except OutputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            _make_folders(path.parent, self._out)
            staged = stage(path, data)
        self.staged.append(staged)
        self.hashes[path] = hashlib.sha256(data).hexdigest()


def draw(context: Context, source: Source, found: Attribution, outputs: Sequence[Output], seconds: float) -> Drawn:
    """Draw every output of one image.

    A map that is zero or not finite is not drawn (unless --allow-empty-map): the others are, and the image fails.

    Raises
    ------
    OutputError
        One of them cannot be written; none is left behind then.
    """
    drawing = context.plan.drawing
    maps = _attributions(found)
    bad = {key: word for key, value in maps.items() if (word := styles.degenerate(value))}
    drawable = {key: value for key, value in maps.items() if drawing.allow_empty_map or key not in bad}
    files = _Files(context.plan.out)
    try:
        if drawing.raw:
            _draw_arrays(context, outputs, maps, drawable, files)
        for output in outputs:
            if _keys(context, output) <= drawable.keys():
                _draw_picture(context, source, found, output, drawable, files)
    except BaseException:
        for staged in files.staged:
            discard(staged)
        raise
    error = None
    status = "written"
    if bad and not drawing.allow_empty_map:
        (mode, place), status = next(iter(bad.items()))
        error = {"kind": status, "message": f"{mode}, target {drawing.targets[place].spec}: {WHY[status]}"}
    by_name = {str(path.relative_to(context.plan.out)): sha256 for path, sha256 in files.hashes.items()}
    digest = joint_digest([context.digests.of(output, source.sha256) for output in outputs])
    result = Result(str(source.job.path), status, tuple(by_name), found.targets, error, digest, seconds, by_name)
    return Drawn(result, tuple(files.staged))


def _attributions(found: Attribution) -> dict[tuple[str, int], np.ndarray]:
    """(mode, place among the targets) -> float32 [h, w, c]."""
    return {(mode, i): each for mode, maps in found.maps.items() for i, each in enumerate(maps)}


def _keys(context: Context, output: Output) -> set[tuple[str, int]]:
    place = context.plan.drawing.targets.index(output.target)
    modes = context.plan.drawing.modes if output.mode is None else (output.mode,)
    return {(mode, place) for mode in modes}


def _draw_arrays(context: Context, outputs: Sequence[Output], maps: dict, drawable: dict, files: _Files) -> None:
    """Each attribution once."""
    for output in outputs:
        place = context.plan.drawing.targets.index(output.target)
        for mode, path in output.array_paths(context.plan.drawing.modes).items():
            if path not in files.hashes and (mode, place) in drawable:
                files.add(path, encode_npy(np.ascontiguousarray(maps[mode, place])))


def _draw_picture(
    context: Context, source: Source, found: Attribution, output: Output, drawable: dict, files: _Files
) -> None:
    place = context.plan.drawing.targets.index(output.target)
    if output.style == "panel":
        pixels, scales = _panel(context, source, found, place, drawable)
        palette, scale = None, {mode: _plain(each) for mode, each in scales.items()}
    else:
        picture = _picture(context, source, output, place, drawable)
        pixels, palette, scale = picture.pixels, picture.palette, _plain(picture.scale)
    paths = output.array_paths(context.plan.drawing.modes)
    hashes = {mode: files.hashes[path] for mode, path in paths.items() if path in files.hashes}
    text = _text(context, source, found.targets[place], output, scale, hashes)
    files.add(output.path, encode_png(pixels, palette, text))


def _plain(scale: styles.Scale | None) -> list[float] | None:
    return list(scale) if scale else None


def _picture(context: Context, source: Source, output: Output, place: int, drawable: dict) -> styles.Picture:
    style, look = styles.STYLES[output.style], context.look
    field = style.reduce(drawable[output.mode, place])
    if context.plan.drawing.scale == "shared":
        scale = _shared(style, look, drawable)
    else:
        scale = style.limits(field, look)
    image = None
    if context.plan.drawing.size == "image":
        field, image = unfit(field, context.geometry, source.size), source.pixels
    elif style.needs_image:
        image = _as_rgb(source.fitted)
    return style.colour(field, image, look, scale)


def _shared(style: styles.Style, look: styles.Look, drawable: dict) -> styles.Scale | None:
    """One scale for every mode and target of the image, in a panel as elsewhere."""
    return style.share(style.limits(style.reduce(value), look) for value in drawable.values())


def _panel(
    context: Context, source: Source, found: Attribution, place: int, drawable: dict
) -> tuple[np.ndarray, dict[str, styles.Scale | None]]:
    """Input and every mode of one target side by side; the scale of each mode."""
    style, look, drawing = styles.STYLES[styles.PANEL], context.look, context.plan.drawing
    shared = drawing.scale == "shared"
    fields = {mode: style.reduce(drawable[mode, place]) for mode in drawing.modes}
    common = _shared(style, look, drawable) if shared else None
    image, size = source.pixels, panel.size_in_panel(*source.size)
    if drawing.size == "input":
        image = _as_rgb(source.fitted)
    columns = []
    for mode, field in fields.items():
        scale = common or style.limits(field, look)
        shown = field if drawing.size == "input" else unfit(field, context.geometry, size)
        columns.append(panel.Column(mode, style.colour(shown, None, look, scale), _captions(found, place)))
    notes = (f"The bars end at percentile {look.clip:g}.",)
    name = Path(source.job.rel).name
    pixels = panel.panel(image, columns, lines=(name,), notes=notes, shared=shared)
    return pixels, {column.mode: column.picture.scale for column in columns}


def _captions(found: Attribution, place: int) -> tuple[str, ...]:
    """Below each map of a panel. The index also stands beside a label, which may be cut or in letters the font lacks."""
    target = found.targets[place]
    score = "not finite" if target.score is None else f"{target.score:.4g}"
    return (*filter(None, [target.label]), f"class {target.index}", f"score {score}")


def _as_rgb(fitted: np.ndarray) -> np.ndarray:
    return np.repeat(fitted, 3, axis=2) if fitted.shape[2] == 1 else fitted[..., :3]


def _make_folders(folder: Path, out: Path) -> None:
    """Make a folder below OUT; OUT itself is there, or was taken away and must not come back empty."""
    missing = []
    while folder != out and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        with writing(folder):
            with suppress(FileExistsError):  # another thread was faster
                folder.mkdir()
            sync_folder(folder.parent)
