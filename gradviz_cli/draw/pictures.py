"""The attributions of one image -> its files, staged: pictures, with what they show written into them, and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradviz_cli.draw import styles
from gradviz_cli.draw.look import Look, Picture, Scale, look_of
from gradviz_cli.draw.png import encode_npy, encode_png
from gradviz_cli.draw.record import describe
from gradviz_cli.draw.styles import Style
from gradviz_cli.files.reading import Stamp
from gradviz_cli.files.whole import Staged, StagedFiles
from gradviz_cli.images.fit import Geometry, as_rgb, resized, unfit
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output, targets_of
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, Seen, Status, why_empty
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import PICTURE, Facts
from gradviz_cli.rules import PLAIN

Key = tuple[str, int]  # mode, place among the targets
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
    with StagedFiles(context.plan.out) as files:
        if drawing.raw:
            _draw_arrays(context, source.job, outputs, drawable, files)
        for output in outputs:
            if _keys(context, source.job, output) <= drawable.keys():
                _draw_picture(context, source, found, output, drawable, files)
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
    result = replace(result, image_sha256=source.sha256, image_stamp=source.stamp)
    return Drawn(result, tuple(files.staged))


def _empty(
    context: Context, found: Attribution, bad: Mapping[Key, Status], targets: Sequence[Target]
) -> list[tuple[Status, str]]:
    """What the maps that are not drawn mean, each with its mode and target."""
    said = []
    for (mode, place), status in bad.items():
        seen = found.seen.get(place) or Seen((PLAIN, place) in bad if PLAIN in found.maps else None)
        status, why = why_empty(status, mode, found.targets[place].score, context.facts.positions, seen)
        said.append((status, f"{mode}, target {targets[place].spec}: {why}"))
    return said


def _attributions(found: Attribution) -> dict[Key, np.ndarray]:
    return {(mode, i): each for mode, maps in found.maps.items() for i, each in enumerate(maps)}


def _place(context: Context, job: Job, output: Output) -> int:
    """Among the targets of its image."""
    return targets_of(context.plan, job).index(output.target)


def _keys(context: Context, job: Job, output: Output) -> set[Key]:
    place = _place(context, job, output)
    modes = context.plan.drawing.modes if output.mode is None else (output.mode,)
    return {(mode, place) for mode in modes}


def _draw_arrays(context: Context, job: Job, outputs: Sequence[Output], drawable: Maps, files: StagedFiles) -> None:
    """Each attribution once."""
    for output in outputs:
        place = _place(context, job, output)
        for mode, path in output.array_paths(context.plan.drawing.modes).items():
            if path not in files.hashes and (mode, place) in drawable:
                files.add(path, encode_npy(drawable[mode, place]))


class Shown(NamedTuple):
    """The pixels of one output, the palette that they are shown through, and the scale; on a sheet that of each mode."""

    pixels: np.ndarray
    palette: np.ndarray | None
    scale: Scale | Mapping[str, Scale | None] | None


def shown(context: Context, source: Source, found: Attribution, output: Output, drawable: Maps) -> Shown:
    """One output as pixels, of the maps that it shows."""
    place = _place(context, source.job, output)
    if output.mode is None:
        pixels, scales = _sheet(context, source, found, output, place, drawable)
        return Shown(pixels, None, scales)
    picture = _map(context, source, styles.STYLES[output.style], drawable[output.mode, place], drawable)
    return Shown(picture.pixels, picture.palette, picture.scale)


def _draw_picture(
    context: Context, source: Source, found: Attribution, output: Output, drawable: Maps, files: StagedFiles
) -> None:
    """One output, with what it says of itself."""
    place = _place(context, source.job, output)
    pixels, palette, scale = shown(context, source, found, output, drawable)
    paths = output.array_paths(context.plan.drawing.modes)
    record = describe(
        context.plan,
        output,
        found.targets[place],
        scale,
        facts=context.facts,
        digests=context.digests,
        image=source.sha256,
        arrays={mode: files.hashes[path] for mode, path in paths.items() if path in files.hashes},
    )
    files.add(output.path, encode_png(pixels, palette, record.to_json()))


def _map(context: Context, source: Source, style: Style, attribution: np.ndarray, drawable: Maps) -> Picture:
    """One map at the size of the picture."""
    field, look, image = style.reduce(attribution), context.look, None
    shared = context.plan.drawing.scale == "shared"
    scale = _shared(style, look, drawable) if shared else style.limits(field, look)
    if context.plan.drawing.size == "image":
        field, image = unfit(field, context.geometry, source.size), source.pixels
    elif style.needs_image:
        image = as_rgb(source.fitted, context.geometry.alpha)
    return style.colour(field, image, look, scale)


def _shared(style: Style, look: Look, drawable: Maps) -> Scale | None:
    """One scale for every mode and target of the image, on a sheet as elsewhere."""
    return style.share(style.limits(style.reduce(value), look) for value in drawable.values())


def _sheet(
    context: Context, source: Source, found: Attribution, output: Output, place: int, drawable: Maps
) -> tuple[np.ndarray, dict[str, Scale | None]]:
    """Input and every mode of one target on one picture; the scale of each mode."""
    from gradviz_cli.draw.panel import Column

    sheet, look, drawing = styles.SHEETS[output.style], context.look, context.plan.drawing
    style, shared, at_input = sheet.maps, drawing.scale == "shared", drawing.size == "input"
    image = as_rgb(source.fitted, context.geometry.alpha) if at_input else source.pixels
    if image is None:
        raise ValueError(f"a {sheet.name} shows the source image, and the reader kept none")
    if not at_input:  # resampled like the maps beside it
        image = resized(image, sheet.size_of(*source.size))
    common = _shared(style, look, drawable) if shared else None
    columns = []
    for mode in drawing.modes:
        field = style.reduce(drawable[mode, place])
        scale = common or style.limits(field, look)
        shown = field if at_input else unfit(field, context.geometry, sheet.size_of(*source.size))
        columns.append(Column(mode, style.colour(shown, None, look, scale), _captions(found, place, context.facts)))
    notes = (f"The bars end at percentile {look.clip:g}.",)
    name = Path(source.job.rel).name
    pixels = sheet.compose(image, columns, lines=(name,), notes=notes, shared=shared)
    return pixels, {column.mode: column.picture.scale for column in columns}


def _captions(found: Attribution, place: int, facts: Facts) -> tuple[str, ...]:
    """Below each map of a sheet. The index also stands beside a label, which may be cut or in letters the font lacks; a
    score that is a sum over positions does not rank the classes, and what does is said."""
    target = found.targets[place]
    score = "not finite" if target.score is None else f"{target.score:.4g}"
    lines = (*filter(None, [target.label]), f"class {target.index}", f"score {score}")
    if facts.ranked_by is None or target.rank is None or facts.classes == 1:
        return lines
    return (*lines, "summed over positions", f"rank {target.rank + 1} by {facts.ranked_by}")
