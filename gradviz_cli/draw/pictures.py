"""The attributions of one image -> its files, staged: pictures, with what they show written into them, and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradviz_cli.draw import estimates, objects, styles
from gradviz_cli.draw.look import Look, Scale, look_of
from gradviz_cli.draw.png import Rows, encode_npy, encode_png
from gradviz_cli.draw.record import describe
from gradviz_cli.draw.styles import Style
from gradviz_cli.estimators import ESTIMATORS, Method, estimators_of
from gradviz_cli.files.reading import Stamp
from gradviz_cli.files.whole import Staged, StagedFiles
from gradviz_cli.images.fit import Geometry, as_rgb, bands_in_steps, is_tame, resized, spread, to_input, unfit
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output, targets_of
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, Seen, Status, why_empty
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import PICTURE, Facts
from gradviz_cli.rules import PLAIN

Key = tuple[str, int]  # method, place among the targets
Maps = Mapping[Key, np.ndarray]  # float32 [h, w, c] each


@dataclass(frozen=True, eq=False)
class Source:
    """One image as the reader gave it: upright size (height, width), pixels only where a style needs them, what its file
    held, and what is to be said of it."""

    job: Job
    size: tuple[int, int]
    sha256: str
    fitted: np.ndarray
    pixels: np.ndarray | None
    held: str = PICTURE
    notes: tuple[str, ...] = ()
    stamp: Stamp | None = None  # of the file when it was read


@dataclass(frozen=True)
class Context:
    """What is the same for all images of a run."""

    plan: Plan
    facts: Facts
    digests: Digests
    geometry: Geometry

    @property
    def look(self) -> Look:
        return look_of(self.plan.drawing)


@dataclass(frozen=True)
class Drawn:
    """One image that is done, its files still under temporary names."""

    result: Result
    files: tuple[Staged, ...] = ()


def needs_pixels(plan: Plan) -> bool:
    """Whether a picture of this plan shows the source image itself."""
    return any(map(styles.needs_image, plan.drawing.styles))


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
    bad = {key: status for key, value in maps.items() if (status := styles.degenerate(value))}
    drawable = {key: value for key, value in maps.items() if drawing.allow_empty_map or key not in bad}
    said = told(context, source, found, drawable)
    with StagedFiles(context.plan.out) as files:
        if drawing.raw:
            _draw_arrays(context, source.job, outputs, drawable, files)
        for output in outputs:
            if _keys(context, source.job, output) <= drawable.keys():
                _draw_picture(context, source, found, output, drawable, said, files)
    error, status = None, Status.WRITTEN
    if bad and not drawing.allow_empty_map:
        targets = targets_of(context.plan, source.job)
        status, message = min(_empty(context, found, bad, targets), key=lambda one: not one[0].failed)
        error = {"kind": status.value, "message": message}
    by_name = {str(path.relative_to(context.plan.out)): sha256 for path, sha256 in files.hashes.items()}
    job = source.job
    indices = {target: one.index for target, one in zip(targets_of(context.plan, job), found.targets, strict=True)}
    digest = joint_digest([context.digests.of(one, source.sha256, indices[one.target]) for one in outputs])
    named, reading = (job.name, status, tuple(by_name)), context.facts.reading
    result = Result(*named, found.targets, error, digest, seconds, by_name, source.notes, job.number, reading)
    listed = estimates.records(said, targets_of(context.plan, job), found.targets)
    result = replace(result, image_sha256=source.sha256, image_stamp=source.stamp, estimates=listed)
    return Drawn(result, tuple(files.staged))


def told(context: Context, source: Source, found: Attribution, drawable: Maps) -> dict[Key, estimates.Said]:
    """What the estimators say of their maps, with the box around the object where that is asked for."""
    return {
        key: {**estimates.said(found, context.facts, *key), **_box(context, source, key, one)}
        for key, one in drawable.items()
    }


def _empty(
    context: Context, found: Attribution, bad: Mapping[Key, Status], targets: Sequence[Target]
) -> list[tuple[Status, str]]:
    """What the maps that are not drawn mean, each with its method and target."""
    said = []
    for (method, place), status in bad.items():
        seen = found.seen.get(place) or Seen((PLAIN, place) in bad if PLAIN in found.maps else None)
        status, why = why_empty(status, method, found.targets[place].score, context.facts.positions, seen)
        said.append((status, f"{method}, target {targets[place].spec}: {why}"))
    return said


def _attributions(found: Attribution) -> dict[Key, np.ndarray]:
    return {(method, i): each for method, maps in found.maps.items() for i, each in enumerate(maps)}


def _place(context: Context, job: Job, output: Output) -> int:
    """Among the targets of its image."""
    return targets_of(context.plan, job).index(output.target)


def _keys(context: Context, job: Job, output: Output) -> set[Key]:
    place = _place(context, job, output)
    methods = context.plan.drawing.methods if output.method is None else (output.method,)
    return {(method, place) for method in methods}


def _draw_arrays(context: Context, job: Job, outputs: Sequence[Output], drawable: Maps, files: StagedFiles) -> None:
    """Each attribution once."""
    for output in outputs:
        place = _place(context, job, output)
        for method, path in output.array_paths(context.plan.drawing.methods).items():
            if path not in files.hashes and (method, place) in drawable:
                flat = not ESTIMATORS[Method.of(method).estimator].at_input
                files.add(path, encode_npy(drawable[method, place][..., 0] if flat else drawable[method, place]))


class Shown(NamedTuple):
    """The pixels of one output, the palette that they are shown through, and the scale; on a sheet that of each method."""

    pixels: np.ndarray | Rows
    palette: np.ndarray | None
    scale: Scale | Mapping[str, Scale | None] | None


def shown(
    context: Context,
    source: Source,
    found: Attribution,
    output: Output,
    drawable: Maps,
    said: Mapping[Key, estimates.Said],
) -> Shown:
    """One output as pixels, of the maps that it shows and what their estimators say of them."""
    place = _place(context, source.job, output)
    if output.method is None:
        pixels, scales = _sheet(context, source, found, output, place, drawable, said)
        return Shown(pixels, None, scales)
    return _map(context, source, styles.STYLES[output.style], (output.method, place), drawable)


def _draw_picture(
    context: Context,
    source: Source,
    found: Attribution,
    output: Output,
    drawable: Maps,
    said: Mapping[Key, estimates.Said],
    files: StagedFiles,
) -> None:
    """One output, with what it says of itself."""
    place = _place(context, source.job, output)
    pixels, palette, scale = shown(context, source, found, output, drawable, said)
    paths = output.array_paths(context.plan.drawing.methods)
    record = describe(
        context.plan,
        output,
        found.targets[place],
        scale,
        facts=context.facts,
        digests=context.digests,
        image=source.sha256,
        arrays={method: files.hashes[path] for method, path in paths.items() if path in files.hashes},
        estimates={method: one for (method, at), one in said.items() if at == place},
    )
    files.add(output.path, encode_png(pixels, palette, record.to_json()))


def _map(context: Context, source: Source, style: Style, key: Key, drawable: Maps) -> Shown:
    """One map at the size of the picture."""
    field, look = style.reduce(drawable[key]), context.look
    shared = context.plan.drawing.scale == "shared"
    scale = _shared(style, look, key[0], drawable) if shared else style.limits(field, look)
    field = to_input(field, context.geometry)
    boxed = style.needs_image and _is_boxed(context, key[0])
    if context.plan.drawing.size == "image":
        if scale is not None and field.dtype == np.float32 and is_tame(field) and not boxed:
            return _by_rows(context, source, style, field, scale)
        field, image = unfit(field, context.geometry, source.size), source.pixels
    else:
        image = as_rgb(source.fitted, context.geometry.alpha) if style.needs_image else None
    picture = style.colour(field, image, look, scale)
    if boxed and (marks := objects.find(field)):
        picture = replace(picture, pixels=objects.drawn(picture.pixels, marks))
    return Shown(picture.pixels, picture.palette, picture.scale)


def _by_rows(context: Context, source: Source, style: Style, field: np.ndarray, scale: Scale) -> Shown:
    """The same at the size of the image, which is drawn as it is written: of a large photo that is twice as quick."""
    look, size = context.look, source.size

    def drawn() -> Iterator[np.ndarray]:
        top = 0
        for band in bands_in_steps(field, context.geometry, size, style.steps(scale)):
            image = None if source.pixels is None else source.pixels[top : top + len(band)]
            yield style.painted(band, image, look)
            top += len(band)

    seen, shown = spread(context.geometry, size)
    enlarged = size[0] * size[1] > context.geometry.height * context.geometry.width
    shape = size if style.paletted else (*size, 3)
    taller = seen.height * shown.width >= seen.width * shown.height
    rows = Rows(shape, drawn, smooth=enlarged or style.needs_image, taller=taller)
    return Shown(rows, style.legend(look) if style.paletted else None, scale)


def _is_boxed(context: Context, method: str) -> bool:
    return context.plan.drawing.box and ESTIMATORS[Method.of(method).estimator].is_area


def _box(context: Context, source: Source, key: Key, attribution: np.ndarray) -> estimates.Said:
    """The bounding box of the object in pixels of the source image, where there is one."""
    if not _is_boxed(context, key[0]):
        return {}
    field = unfit(to_input(attribution[..., 0], context.geometry), context.geometry, source.size)
    marks = objects.find(field)
    return {"box": marks.box._asdict()} if marks else {}


def _shared(style: Style, look: Look, method: str, drawable: Maps) -> Scale | None:
    """One scale for every mode and target of the image, on a sheet as elsewhere; the maps of each estimator have units of
    their own."""
    alike = (value for (name, _), value in drawable.items() if Method.of(name).estimator == Method.of(method).estimator)
    return style.share(style.limits(style.reduce(value), look) for value in alike)


def _sheet(
    context: Context,
    source: Source,
    found: Attribution,
    output: Output,
    place: int,
    drawable: Maps,
    said: Mapping[Key, estimates.Said],
) -> tuple[np.ndarray, dict[str, Scale | None]]:
    """Input and every method of one target on one picture; the scale of each."""
    from gradviz_cli.draw.panel import Column

    sheet, look, drawing = styles.SHEETS[output.style], context.look, context.plan.drawing
    style, shared, at_input = sheet.maps, drawing.scale == "shared", drawing.size == "input"
    image = as_rgb(source.fitted, context.geometry.alpha) if at_input else source.pixels
    if image is None:
        raise ValueError(f"a {sheet.name} shows the source image, and the reader kept none")
    if not at_input:  # resampled like the maps beside it
        image = resized(image, sheet.size_of(*source.size))
    methods = drawing.methods
    columns = []
    for method in methods:
        field = style.reduce(drawable[method, place])
        scale = (_shared(style, look, method, drawable) if shared else None) or style.limits(field, look)
        field = to_input(field, context.geometry)
        shown = field if at_input else unfit(field, context.geometry, sheet.size_of(*source.size))
        captions = (*_captions(found, place, context.facts), *estimates.captions(method, said[method, place]))
        marks = objects.find(shown) if _is_boxed(context, method) else None
        unit = ESTIMATORS[Method.of(method).estimator].unit
        heading = " ".join(Method.of(method)) if "." in method else method
        columns.append(Column(heading, style.colour(shown, None, look, scale), captions, unit, marks))
    several = len(estimators_of(methods)) > 1
    notes = [f"The bars end at percentile {look.clip:g}."]
    if shared and several:
        notes.insert(0, "The maps of each estimator share one scale.")
    name = Path(source.job.rel).name
    pixels = sheet.compose(image, columns, lines=(name,), notes=notes, shared=shared and not several)
    return pixels, {method: column.picture.scale for method, column in zip(methods, columns, strict=True)}


def _captions(found: Attribution, place: int, facts: Facts) -> tuple[str, ...]:
    """Below each map of a sheet. The index also stands beside a label, which may be cut or in letters the font lacks; a
    score that is a sum over positions does not rank the classes, and what does is said."""
    target = found.targets[place]
    score = "not finite" if target.score is None else f"{target.score:.4g}"
    lines = (*filter(None, [target.label]), f"class {target.index}", f"score {score}")
    if facts.ranked_by is None or target.rank is None or facts.classes == 1:
        return lines
    return (*lines, "summed over positions", f"rank {target.rank + 1} by {facts.ranked_by}")
