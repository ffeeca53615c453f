"""What `explain` found: arrays, and the pictures that the command would draw of them."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from gradviz_cli.batch.planning import drawing_from
from gradviz_cli.batch.single import folder_and_file
from gradviz_cli.draw import pictures
from gradviz_cli.draw.pictures import Context, Source
from gradviz_cli.draw.png import Rows, read_text
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.estimators import ESTIMATORS, Method
from gradviz_cli.files import whole
from gradviz_cli.files.near import did_you_mean, nearest
from gradviz_cli.files.text import printable
from gradviz_cli.images.fit import Geometry
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan import values
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import LOCK, MANIFEST, Output, outputs
from gradviz_cli.plan.plan import Drawing, Plan
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import Facts
from gradviz_cli.rules import RULES
from gradviz_cli.settings import LookSettings, shows

if TYPE_CHECKING:
    from PIL import Image

    from gradviz_cli.settings import AnyPath, Several, Unpack

# Maps that a notebook shows, and the pixels of their longer side.
MOST_SHOWN, SIDE = 6, 192
MOST_NAMED = 3  # maps that `repr` names
MOST_LABELS = 12  # of a message
QUALITY = 85  # of the JPEGs there


@dataclass(frozen=True)
class Skipped:
    """What is missing of an image, and why.

    Attributes
    ----------
    image : int
        Its place among those that were given, from 0.
    name : str
        What it is called.
    kind, message : str
        Of the ImageError that `errors="raise"` would have raised: a word for machines (`truncated`, `zero`, ...), and a line.
    """

    image: int
    name: str
    kind: str
    message: str


@dataclass(frozen=True, eq=False)
class Kept:
    """One image as far as its pictures need it, its targets, and what was found of each."""

    source: Source
    targets: tuple[Target, ...]
    found: tuple[TargetResult, ...]
    preprocess: str  # how its numbers were brought to the model's range
    numbers: Mapping[str, np.ndarray]  # method -> what is recorded beside each of its maps


@dataclass(frozen=True, eq=False)
class Origin:
    """What all images have in common: the model, and what was asked of it."""

    plan: Plan
    facts: Facts
    fingerprint: str
    geometry: Geometry


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """N maps: one of each image, method and target, in this order (all of the first image come first). A method is a mode, or an
    estimator over it.

    With one method and one target, which is the default, N counts images. It keeps of each image what its pictures need: it
    does not need the model any more.

    Attributes
    ----------
    attribution : numpy.ndarray
        float32 [N, H, W, C]: gradient of the score with respect to the model input after preprocessing, channels in the
        image's order; of other estimators what they say of it. Not clipped, not scaled. The map of a layer is enlarged to the
        model input, and C is 1 where all are such (else it stands in each channel); `save(raw=True)` writes it as it is.
    images : numpy.ndarray
        int32 [N]: which image, as its place among those that were given, from 0.
    names : tuple of str
        What that image is called: its path, or `image-0` for what is no file.
    modes, estimators : tuple of str
        How each map was made.
    targets, ranks : numpy.ndarray
        int32 [N]: the class explained, and its place among the classes (0 is the best, -1 is unknown).
    scores, outputs : numpy.ndarray
        float32 [N]: the score that was differentiated, and the same class in the model's own output.
    labels : tuple
        Name of each target, None where none is known.
    skipped : tuple of Skipped
        What `errors="skip"` left out; it has no row in the arrays.
    """

    attribution: np.ndarray
    images: np.ndarray
    names: tuple[str, ...]
    modes: tuple[str, ...]
    estimators: tuple[str, ...]
    targets: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    outputs: np.ndarray
    labels: tuple[str | None, ...]
    skipped: tuple[Skipped, ...]
    _places: tuple[int, ...] = field(default=())  # of each map's target among those of its image
    _small: tuple[np.ndarray | None, ...] = field(default=())  # each map that is not of the model input's size
    _kept: Mapping[int, Kept] = field(default_factory=dict)
    _origin: Origin | None = None

    def __len__(self) -> int:
        return len(self.attribution)

    def __getitem__(self, which: int | slice) -> Explanation:
        """One map, or a slice of them, as an Explanation of its own."""
        if isinstance(which, slice):
            return self._rows(range(len(self))[which])
        return self._rows([self._row(which)])

    def __iter__(self) -> Iterator[Explanation]:
        return (self._rows([row]) for row in range(len(self)))

    def select(
        self,
        image: int | None = None,
        mode: str | None = None,
        target: int | str | None = None,
        estimator: str | None = None,
    ) -> Explanation:
        """The maps of one image (its number, from 0), mode, class (its index or label) or estimator; raises UsageError for what
        is no number, and for a mode, an estimator or a label that there is none of."""
        if image is not None and not isinstance(image, int | np.integer):
            raise UsageError(f"image: {printable(str(image))} is no number of an image", "see `images` and `names`")
        for said, name, known in (("mode", mode, RULES), ("estimator", estimator, ESTIMATORS)):
            if name is not None and name not in known:
                near = did_you_mean(nearest(str(name), known))
                raise UsageError(
                    f"there is no {said} {printable(str(name))}", near or f"it is one of {', '.join(known)}"
                )
        if isinstance(target, str) and target not in self.labels:
            labels = tuple(dict.fromkeys(label for label in self.labels if label))
            known_ = (
                f"they are of {', '.join(map(printable, labels[:MOST_LABELS]))}" if labels else "give a class index"
            )
            near = did_you_mean(nearest(target, labels))
            raise UsageError(f"no map is of a class that is named {printable(target)}", near or known_)
        return self._rows(
            [
                row
                for row in range(len(self))
                if image in (None, int(self.images[row]))
                and mode in (None, self.modes[row])
                and estimator in (None, self.estimators[row])
                and target in (None, int(self.targets[row]), self.labels[row])
            ]
        )

    @shows(LookSettings)
    def image(self, i: int = 0, style: str = "overlay", **look: Unpack[LookSettings]) -> Image.Image:
        """One map as a picture, as the command draws it.

        Parameters
        ----------
        i : int
            Which map.
        style : str
            heatmap, gray, signed, rgb, overlay, or panel: all maps of this image and target side by side.
        **look
            colormap, clip, alpha, scale, size: as on the command line.

        Returns
        -------
        PIL.Image.Image
            RGB, at the size of the image as far as that has at most a million pixels; larger ones are reduced to that.
        """
        row = self._row(i)
        drawing = drawing_from(style=style, **look)
        if len(drawing.styles) > 1:
            raise UsageError(f"style: {', '.join(drawing.styles)} are several", "give one; save takes several")
        return self._image(row, drawing)

    @shows(LookSettings)
    def save(
        self, out: AnyPath, style: Several = "heatmap", *, raw: bool = False, **look: Unpack[LookSettings]
    ) -> tuple[Path, ...]:
        """Write the pictures, named and described as the command does it: NAME.MODE[.TARGET][.STYLE].png.

        Parameters
        ----------
        out : path
            A folder, made if missing; or the name of one `.png` file, where there is one map and one style. Only pictures of
            gradviz are replaced. An output folder of `gradviz explain` is refused: its manifest would not know of them.
        style : str or list of str
            As on the command line; several with commas or in a list.
        raw : bool
            Also write the attributions, as float32 `.npy`.
        **look
            As `image`.

        Returns
        -------
        tuple of Path
            The pictures.

        Raises
        ------
        UsageError
            An option makes no sense, two images have one name, or `out` is the name of a picture of another format.
        OutputError
            It cannot be written, or something else has that name.
        """
        place = _place(out)
        drawing = replace(drawing_from(style=style, **look), raw=raw)
        folder, name = folder_and_file(place, option="", folder="give a folder")
        wanted = {image: self._outputs(image, drawing, folder) for image in self._kept}
        if name:
            wanted = _named(wanted, place)
        _check_free(folder, wanted, drawing)
        with whole.writing(folder):
            os.makedirs(folder, exist_ok=True)
        for image, files in wanted.items():
            context, source = self._context(self._kept[image], drawing, folder), self._kept[image].source
            for staged in pictures.draw(context, source, self._attribution(image), files, 0.0).files:
                whole.publish(staged)
        return tuple(one.path for files in wanted.values() for one in files)

    def __repr__(self) -> str:
        maps = f"{len(self)} map{'s' * (len(self) != 1)} {list(self.attribution.shape[1:])}"
        how = ", ".join(dict.fromkeys(map(self._method, range(len(self)))))
        named = [f"{_called(self, row)} {self.scores[row]:.4g}" for row in range(min(len(self), MOST_NAMED))]
        more = ["..."] * (len(self) > MOST_NAMED)
        left = f"; {len(self.skipped)} skipped" if self.skipped else ""
        return f"<Explanation: {', '.join(filter(None, [maps, how]))}: {', '.join([*named, *more]) or 'empty'}{left}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first maps beside their images, small."""
        shown = range(min(len(self), MOST_SHOWN))
        more = f"<p>and {len(self) - MOST_SHOWN} more</p>" if len(self) > MOST_SHOWN else ""
        figures = "".join(self._figure(row) for row in shown)
        skipped = "".join(
            f"<li>{html.escape(one.name)}: {html.escape(one.message)}</li>" for one in self._first_skipped
        )
        left = f"<p>{len(self.skipped)} skipped:</p><ul>{skipped}</ul>" if skipped else ""
        return f"<div><p>{html.escape(repr(self)[1:-1])}</p>{figures}{more}{left}</div>"

    @property
    def _first_skipped(self) -> Sequence[Skipped]:
        return self.skipped[:MOST_SHOWN]

    def _figure(self, row: int) -> str:
        """One map beside its image; its text may be anybody's."""
        said = html.escape(f"{_called(self, row)}, score {self.scores[row]:.4g}, {self._method(row)}")
        name = html.escape(os.path.basename(self.names[row]))
        pixels = self._kept[int(self.images[row])].source.pixels
        tags = [_tag(self._image(row, Drawing(styles=("overlay",))), f"{name}: {said}")]
        if pixels is not None:
            from PIL import Image

            tags.insert(0, _tag(Image.fromarray(pixels), name))
        place = "display:inline-block;margin:4px 12px 4px 0;vertical-align:top;text-align:left"
        return (
            f'<figure style="{place}">{" ".join(tags)}'
            f'<figcaption style="max-width:{2 * SIDE}px;overflow-wrap:anywhere">{name}<br>{said}</figcaption></figure>'
        )

    def _row(self, which: int) -> int:
        try:
            return range(len(self))[which]
        except (IndexError, TypeError):
            raise IndexError(f"there is no map {which!r}: there are {len(self)}, from 0") from None

    def _rows(self, rows: Sequence[int]) -> Explanation:
        every = list(rows)
        arrays = ("attribution", "images", "targets", "ranks", "scores", "outputs")
        tuples = ("names", "modes", "estimators", "labels", "_places", "_small")
        found: dict[str, Any] = {name: frozen(getattr(self, name)[every]) for name in arrays}
        found |= {name: tuple(getattr(self, name)[row] for row in every) for name in tuples}
        images = set(found["images"].tolist())
        found["_kept"] = {image: kept for image, kept in self._kept.items() if image in images}
        return replace(self, skipped=(), **found)

    @property
    def estimates(self) -> tuple[Mapping[str, Any], ...]:
        """Of each map what its estimator says of it: `completeness_gap`, `noise_left`, `cam_layer` and its `share`, the `box`
        (pixels of the image) where that was asked for; as the manifest has them."""
        return tuple(
            MappingProxyType(self._told(int(image))[self._method(row), self._places[row]])
            for row, image in enumerate(self.images)
        )

    def _told(self, image: int) -> dict[tuple[str, int], dict[str, Any]]:
        kept = self._kept[image]
        context = self._context(kept, Drawing(), Path())
        return pictures.told(context, kept.source, self._attribution(image), self._drawable(image))

    def _method(self, row: int) -> str:
        return Method(self.modes[row], self.estimators[row]).name

    def _drawable(self, image: int) -> dict[tuple[str, int], np.ndarray]:
        """Method and place of the target -> each map of an image, at its own size."""
        rows = np.flatnonzero(self.images == image).tolist()
        return {(self._method(row), self._places[row]): self._own(row) for row in rows}

    def _own(self, row: int) -> np.ndarray:
        small: np.ndarray | None = self._small[row] if self._small else None
        return self.attribution[row] if small is None else small

    def _attribution(self, image: int) -> Attribution:
        """All maps of an image; one that is missing is zero, and no output asks for it."""
        kept, there = self._kept[image], self._drawable(image)
        places, maps = range(len(kept.targets)), {}
        for method in dict.fromkeys(method for method, _ in there):
            none = next(np.zeros_like(one) for (name, _), one in there.items() if name == method)
            maps[method] = np.stack([there.get((method, place), none) for place in places])
        return Attribution(kept.found, maps, dict(kept.numbers))

    def _context(self, kept: Kept, drawing: Drawing, out: Path) -> Context:
        assert self._origin is not None, "an explanation without a model"
        plan, facts = self._origin.plan, self._origin.facts
        asked = plan.drawing
        drawing = replace(drawing, targets=kept.targets, fit=asked.fit, estimation=asked.estimation, box=asked.box)
        drawing = replace(drawing, allow_empty_map=asked.allow_empty_map)
        drawing = _of_methods(drawing, tuple(dict.fromkeys(map(self._method, range(len(self))))))
        plan = replace(plan, drawing=drawing, out=out)
        facts = replace(facts, preprocess=kept.preprocess)
        return Context(plan, facts, Digests(plan, self._origin.fingerprint), self._origin.geometry)

    def _outputs(self, image: int, drawing: Drawing, out: Path) -> tuple[Output, ...]:
        """The pictures of an image, of the maps that are there."""
        kept, there = self._kept[image], self._drawable(image)
        plan = self._context(kept, drawing, out).plan
        methods = plan.drawing.methods

        def drawn(one: Output) -> bool:
            place = kept.targets.index(one.target)
            return there.keys() >= {(name, place) for name in (methods if one.method is None else (one.method,))}

        return tuple(filter(drawn, outputs(plan, kept.source.job, SHEETS)))

    def _image(self, row: int, drawing: Drawing) -> Image.Image:
        from PIL import Image

        image, place, (style,) = int(self.images[row]), self._places[row], drawing.styles
        kept, there = self._kept[image], self._drawable(image)
        context = self._context(kept, drawing, Path())
        method = None if style in SHEETS else self._method(row)
        if method is None:  # of the methods that this target has
            methods = tuple(one for one in context.plan.drawing.methods if (one, place) in there)
            plan = replace(context.plan, drawing=_of_methods(context.plan.drawing, methods))
            context = replace(context, plan=plan)
        output, all_maps = Output(Path(), method, kept.targets[place], style), self._attribution(image)
        told = pictures.told(context, kept.source, all_maps, there)
        found = pictures.shown(context, kept.source, all_maps, output, there, told)
        whole = found.pixels.whole() if isinstance(found.pixels, Rows) else found.pixels
        pixels = whole if found.palette is None else found.palette[whole]
        return Image.fromarray(pixels).convert("RGB")


def _of_methods(drawing: Drawing, methods: tuple[str, ...]) -> Drawing:
    """The drawing of these methods alone."""
    found = [Method.of(name) for name in methods]
    modes, estimators = (tuple(dict.fromkeys(column)) for column in zip(*found, strict=True)) if found else ((), ())
    drawing = replace(drawing, modes=modes, estimators=estimators, only=())
    return drawing if drawing.methods == methods else replace(drawing, only=methods)


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, which nobody may change any more."""
    array.setflags(write=False)
    return array


def _called(found: Explanation, row: int) -> str:
    return found.labels[row] or f"class {found.targets[row]}"


def _tag(image: Image.Image, said: str) -> str:
    """A small picture in the page itself."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{said}" width="{image.width}" height="{image.height}" src="data:image/jpeg;base64,{data}">'


Wanted = dict[int, tuple[Output, ...]]


def _place(out: object) -> Path:
    """A path that the command would take too: neither empty nor a URL, which would become a folder of that name."""
    try:
        return values.path(out)
    except ValueError as error:
        raise UsageError(f"out: {error}") from None


def _named(wanted: Wanted, out: Path) -> Wanted:
    """The only picture, under the name that it was given."""
    count = sum(map(len, wanted.values()))
    if count != 1:
        raise UsageError(
            f"{printable(out)}: is the name of one picture, and there are {count}",
            "give a folder, or choose one: result[0].save(...)",
        )
    return {image: tuple(replace(one, path=out) for one in files) for image, files in wanted.items()}


def _check_free(folder: Path, wanted: Wanted, drawing: Drawing) -> None:
    """Refuse to write over anything but pictures of gradviz, and what those of another image would be written over."""
    if any((folder / name).exists() for name in (MANIFEST, LOCK)):
        raise UsageError(
            f"{printable(folder)}: is an output folder of `gradviz explain`, whose manifest would not know of these",
            "give another folder",
        )
    taken: dict[Path, int] = {}
    for image, files in wanted.items():
        for one in files:
            if taken.setdefault(one.path, image) != image:
                raise UsageError(
                    f"two images would be written to {printable(one.path)}",
                    "save them apart: result.select(image=0).save(...)",
                )
            written = os.path.lexists(one.path)
            arrays = one.array_paths(drawing.modes).values() if drawing.raw and not written else ()
            for path in (one.path, *arrays):
                if os.path.lexists(path) and read_text(path) is None:
                    raise OutputError(f"{printable(path)}: is there already, and not of gradviz", whole.OWN_REMEDY)
