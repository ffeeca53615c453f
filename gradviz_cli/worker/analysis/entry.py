"""How pixels enter a graph and how gradients leave it: layouts, fixed batches, integer and encoded inputs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import LAYOUTS
from gradviz_cli.worker.analysis.axes import PICTURE_CHANNELS as CHANNELS
from gradviz_cli.worker.analysis.axes import Axes

# Where neither the model nor the user settles the size: what most published networks were trained on.
USUAL_SIZE = (224, 224)
# Lengths of rows that are pictures beyond doubt: MNIST's and CIFAR's. Others may be any features.
FLAT_PICTURES = frozenset({28 * 28, 32 * 32 * 3})
# Of an input that is one, though it is a row of numbers.
PICTURE_NAME = re.compile("image|img|pixel|picture|photo", re.IGNORECASE)
# Of one that is what another network has made of an image.
INNER_NAME = re.compile("feature|embed|hidden|token", re.IGNORECASE)
SETTLE_SIZE = "settle it with --input-size HxW"
# A plane of fewer rows or columns is a table or a list of points, unless windows move over it; digits are 8x8 and more.
THIN = 8
# A picture so many times as wide as it is high is a line of text, or a strip, and hardly one that stands.
LINE = 2


@dataclass(frozen=True)
class Entry:
    """What the model input is, in terms of pictures.

    Attributes
    ----------
    layout : str
        A key of LAYOUTS.
    size : (height, width)
    channels : int
        Any number of planes; `alpha` says that the last of four is that of RGBA.
    batch : int or None
        The number of images that the graph takes at once, None for any.
    encoding : str
        `pixels` (numbers), `bytes` (an encoded image as a string) or `base64` (the same, web-safe base64).
    whole : bool
        The model takes whole numbers, or truths: of these what is brighter than half is true.
    given : tuple of int
        Of a flat layout: the axes behind the batch in which the graph takes the numbers, where they are not one. Of encoded
        images: axes of one behind the batch.
    """

    layout: str
    size: tuple[int, int]
    channels: int
    batch: int | None = None
    encoding: str = "pixels"
    whole: bool = False
    alpha: bool = False
    given: tuple[int, ...] = ()

    @property
    def takes_pictures(self) -> bool:
        """Whether the channels are those of gray, RGB or RGBA."""
        return self.channels in (1, 3) or self.alpha

    def to_model(self, images: np.ndarray, dtype: tf.DType) -> tf.Tensor:
        """Images float32 [n, h, w, c] as the graph takes them; n fits the batch already."""
        if self.encoding != "pixels":
            return self._encoded(images)
        if self.whole:
            images = np.rint(images)
        axes = LAYOUTS[self.layout]
        if "C" not in axes:
            images = images[..., 0]
        source = "NHWC" if "C" in axes else "NHW"
        if "N" not in axes:
            images, source = images[0], source[1:]
        laid = np.transpose(images, [source.index(axis) for axis in axes])
        if self.layout.startswith("flat"):
            laid = laid.reshape(len(laid), *(self.given or (-1,)))
        return tf.cast(np.ascontiguousarray(laid), dtype)

    def spec(self, dtype: tf.DType) -> tf.TensorSpec:
        """What `to_model` gives."""
        axes = LAYOUTS[self.layout]
        if self.encoding != "pixels":
            return tf.TensorSpec([self.batch, *self.given] if "N" in axes else [], tf.string)
        if self.layout.startswith("flat"):
            return tf.TensorSpec([self.batch, *(self.given or (math.prod(self.size) * self.channels,))], dtype)
        sizes = {"N": self.batch, "H": self.size[0], "W": self.size[1], "C": self.channels}
        return tf.TensorSpec([sizes[axis] for axis in axes], dtype)

    def from_model(self, gradients: np.ndarray) -> np.ndarray:
        """A gradient as the graph lays it out -> [n, h, w, c]."""
        axes = LAYOUTS[self.layout]
        if self.encoding != "pixels":
            return gradients if gradients.ndim == 4 else gradients[None]
        if self.layout.startswith("flat"):
            counts = {"N": len(gradients), "H": self.size[0], "W": self.size[1], "C": self.channels}
            gradients = gradients.reshape([counts[axis] for axis in axes])
        back = np.transpose(gradients, [axes.index(axis) for axis in "NHWC" if axis in axes])
        back = back if "N" in axes else back[None]
        return back if "C" in axes else back[..., None]

    def _encoded(self, images: np.ndarray) -> tf.Tensor:
        pixels = np.clip(np.rint(images), 0, 255).astype(np.uint8)
        strings = [tf.io.encode_png(image) for image in pixels]
        if self.encoding == "base64":
            strings = [tf.io.encode_base64(string, pad=True) for string in strings]
        together = tf.reshape(tf.stack(strings), [len(strings), *self.given])
        return together if "N" in LAYOUTS[self.layout] else strings[0]


def find(
    key: str,
    shape: tuple[int, ...] | None,
    layout: str | None,
    asked: tuple[int, int] | None,
    seen: Axes | None = None,
    whole: bool = False,
    levels: bool = False,
) -> tuple[Entry, str | None]:
    """The entry that a shape means, and a warning where something had to be assumed.

    Parameters
    ----------
    shape : tuple of int or None
        As the signature says it, -1 where open.
    layout, asked : optional
        What --layout and --input-size say.
    seen : Axes, optional
        What the graph says of the axes.
    whole : bool
        The input takes whole numbers of the kind that number words.
    levels : bool
        It takes numbers of the kind that only pixels are.

    Raises
    ------
    UsageError
        An option contradicts the model, or the shape needs one.
    ModelUnusable
        The shape is no image's.
    """
    if shape is None:
        shape = _any_rank(layout, seen)
    chosen = layout or guess_layout(shape, seen)
    if chosen is None:
        raise _no_picture(key, shape, whole)
    if chosen.startswith("flat"):
        return _flat(key, shape, chosen, asked, layout is not None, seen, whole)
    axes = LAYOUTS[chosen]
    if len(shape) != len(axes):
        raise UsageError(
            f"--layout {chosen}: the input {key} has shape {_text(shape)}", "give a layout of as many axes"
        )
    if layout is not None:
        _check_channels(key, shape, chosen)
    sure = levels or bool(PICTURE_NAME.search(key) and not INNER_NAME.search(key))
    if layout is None:
        _check_plane(key, shape, chosen, seen, sure)
    sizes = dict(zip(axes, shape, strict=True))
    channels = sizes.get("C", 1)
    told = seen if seen is not None and seen.layout == axes else Axes(axes)
    assumed = channels < 0 and told.channels is None
    channels = channels if channels > 0 else told.channels or 3
    inside = told.size or (-1, -1)
    open_size = [one if one > 0 else two for one, two in zip((sizes["H"], sizes["W"]), inside, strict=True)]
    size, warning = _size(key, (open_size[0], open_size[1]), asked, chosen if assumed and layout is None else None)
    doubt = _doubt(key, shape, chosen, seen, sure) if layout is None and seen is not None and not seen.row else None
    warning = "; ".join(filter(None, (warning, doubt))) or None
    batch = sizes.get("N", 1)
    return Entry(chosen, size, channels, None if batch < 0 else max(1, batch)), warning


def _check_plane(key: str, shape: tuple[int, ...], layout: str, seen: Axes | None, sure: bool) -> None:
    """Refuse what is no picture: steps of a sequence, points, a table; or numbers in an order that no picture has. `sure`:
    name or type say that it is one."""
    said = f"the input {key} has shape {_text(shape)}"
    remedy = f"explain a tensor behind it with --input NAME, or say that it is one plane with --layout {layout}"
    if seen is not None and not seen.layout:
        raise ModelUnusable(f"{said}, and the model lays out its numbers in an order that no picture has", remedy)
    if seen is not None and "D" in seen.layout and "N" not in seen.layout:
        raise _frames(said)
    plane = seen is not None and seen.weighed and (sure or _may_be_plane(shape, layout))
    if seen is not None and seen.one_axis and not seen.row and not plane:
        raise ModelUnusable(f"{said}, which the model reads as a sequence, not as a picture", remedy)
    if layout == "NHW" and seen is None and 0 < min(size if size > 0 else THIN for size in shape[1:]) < THIN:
        raise ModelUnusable(f"{said}, and nothing says that it is a picture and no table, points or steps", remedy)


def _may_be_plane(shape: tuple[int, ...], layout: str) -> bool:
    """Whether products with weights may take the rows of a picture one by one, as networks of MNIST do."""
    return layout != "NHW" or shape[1] == shape[2] > 0


def _doubt(key: str, shape: tuple[int, ...], layout: str, seen: Axes, sure: bool) -> str | None:
    """A warning of a picture that may lie on its side, or may be a sequence unless that is `sure`."""
    if seen.turned == LAYOUTS[layout]:
        size = (shape[LAYOUTS[layout].index("H")], shape[LAYOUTS[layout].index("W")])
        return None if _lies(size, seen.along, "H") else _turned(key, layout, seen.layout)
    if seen.one_axis and layout == "NHW" and not sure and math.prod(shape[1:]) not in FLAT_PICTURES:
        said = f"the model takes the rows of its input {key} {_text(shape)} one by one, as of a sequence, and a plane is taken"
        return f"{said}; settle it with --layout {layout}"
    return None


def _lies(size: tuple[int, int], along: str | None, width: str) -> bool:
    """Whether a reading is the right one of the two that a model allows which turns its picture on its side.

    The model goes step by step along its width, which the windows behind call `width`; else it is wider than high, or of
    any width, by so much that it lies even if it stands before the windows.
    """
    height, across = size
    wide = across > height > 0 if width == "W" else across >= LINE * height > 0
    return along == width if along else wide or across < 0 < height


def _turned(key: str, layout: str, other: str) -> str:
    said = f"the model turns its input {key} on its side first, and {layout} is taken"
    return f"{said}; settle it with --layout {layout} or {other}"


def _check_channels(key: str, shape: tuple[int, ...], layout: str) -> None:
    """Refuse a layout that makes the three channels of a shape a side of the picture, and one of its sides the channels."""
    axes = LAYOUTS[layout]
    place = axes.find("C")
    if place < 0 or shape[place] < 1 or shape[place] in CHANNELS:
        return
    other = len(axes) - 1 if place < len(axes) - 1 else axes.find("H")
    if shape[other] == 3:
        turned = "".join(axes[one] for one in range(len(axes)) if one != place)
        turned = f"{turned}C" if other == len(axes) - 1 else turned.replace("HW", "CHW")
        raise UsageError(
            f"--layout {layout}: the input {key} has shape {_text(shape)}, which would be {shape[place]} channels and a side "
            "of 3 pixels",
            f"leave out --layout, or give {turned}",
        )


def _any_rank(layout: str | None, seen: Axes | None) -> tuple[int, ...]:
    """A shape where the signature says none: as --layout or the graph has it, else [N, H, W, 3]."""
    if layout is not None:
        return (-1,) * (2 if layout.startswith("flat") else len(LAYOUTS[layout]))
    return (-1, -1, -1, 3) if seen is None else (-1, -1, -1, -1)


def guess_layout(shape: tuple[int, ...], seen: Axes | None = None) -> str | None:
    """The usual reading of a shape, else that of the graph, else the one with two equal sides; None for no image."""
    if seen is not None and (last := _images_last(shape, seen)):
        return last
    if len(shape) == 4:
        usual = _four(shape, seen)
        line = usual is not None and 1 in (shape[usual.index("H")], shape[usual.index("W")])
        laid = line and seen is not None and seen.picture and 1 not in (seen.size or ())
        return _flat_layout(seen.layout) if laid and seen is not None else usual
    if len(shape) == 3:
        if seen is not None and seen.picture:
            return _flat_layout(seen.layout)
        if shape[0] > 4 and shape[2] in CHANNELS or shape[0] > 1 and seen is not None and seen.layout == "HWC":
            return "HWC"
        first = shape[0] in (3, 4) or shape[0] > 1 and seen is not None and seen.layout == "CHW"
        return "CHW" if first and min(shape[1:]) > 4 else "NHW"
    if len(shape) == 2:
        return "HW" if min(shape) >= 16 and shape[0] == shape[1] else "flat"
    return None


def _images_last(shape: tuple[int, ...], seen: Axes) -> str | None:
    """The layout of [H, W, C, N] and the like, where the graph says that these are the axes and the sizes allow it."""
    axes = "HW".join(re.split("HW|WH", seen.layout))
    if seen.row or axes not in LAYOUTS or len(axes) != len(shape) or axes.find("N") < 1:
        return None
    images, channels = shape[axes.index("N")], shape[axes.index("C")] if "C" in axes else 1
    return axes if shape[0] > 1 and (images < 0 or images == 1 and channels in CHANNELS[1:]) else None


def _flat_layout(axes: str) -> str:
    """The name of the layout of a row of numbers that the graph gives axes; one plane has none of its channels."""
    axes = _with_channels(axes)
    return "flat" if axes == "NHWC" else f"flat-{axes}"


def _with_channels(axes: str) -> str:
    return axes if "C" in axes else f"{axes}C"


def _four(shape: tuple[int, ...], seen: Axes | None) -> str | None:
    fits = (
        seen is not None and seen.layout in LAYOUTS and len(seen.layout) == 4 and not (seen.row and max(shape[1:]) > 0)
    )
    told = seen.layout if seen is not None and fits else None
    if shape[3] in CHANNELS or shape[1] in CHANNELS:
        return "NHWC" if shape[3] in CHANNELS else "NCHW"
    if told or shape[3] < 0:
        return told or "NHWC"
    _, first, second, third = shape
    if min(first, second, third) < 1 or first == third:
        return None
    return "NHWC" if first == second else "NCHW" if second == third else None


def _no_picture(key: str, shape: tuple[int, ...], whole: bool) -> ModelUnusable:
    """In the words of what else it is."""
    said = f"the input {key} has shape {_text(shape)}"
    if len(shape) == 5:
        return _frames(said)
    if len(shape) == 4:
        return ModelUnusable(
            f"{said}, and nothing says which axis holds the channels", "say it with --layout NHWC or NCHW"
        )
    kind = "whole numbers, such as those of words," if whole else "sound, measurements or a code,"
    if len(shape) == 1:
        return ModelUnusable(f"{said}, a row of {kind} which is no picture's", "name another with --input")
    return ModelUnusable(f"{said}, which is no picture's", "name another with --input, or give --layout")


def _frames(said: str) -> ModelUnusable:
    return ModelUnusable(
        f"{said}: the frames of a video, or the slices of a volume, and no single image",
        "explain a tensor of single images behind it with --input NAME",
    )


def _size(
    key: str, found: tuple[int, int], asked: tuple[int, int] | None, layout: str | None
) -> tuple[tuple[int, int], str | None]:
    """Height and width; `layout` is the one that was assumed, together with three channels, where nothing says so."""
    if asked is not None and any(ours not in (theirs, -1) for theirs, ours in zip(asked, found, strict=True)):
        raise UsageError(
            f"--input-size {asked[0]}x{asked[1]}: the model takes {found[0]}x{found[1]}", "leave the option out"
        )
    height, width = asked or [known if known > 0 else usual for known, usual in zip(found, USUAL_SIZE, strict=True)]
    if layout is not None:
        taken = f"{height}x{width} with 3 channels, {layout}, is taken"
        return (
            height,
            width,
        ), f"the axes of the input {key} are open, {taken}; settle it with --layout and --input-size"
    if asked is not None or min(found) > 0:
        return (height, width), None
    warning = f"the model leaves the size of its input {key} open, {height}x{width} is taken; {SETTLE_SIZE}"
    return (height, width), warning


def _flat(
    key: str,
    shape: tuple[int, ...],
    layout: str,
    asked: tuple[int, int] | None,
    said: bool,
    seen: Axes | None,
    whole: bool,
) -> tuple[Entry, str | None]:
    """[N, H*W*C]: as --input-size or the graph says; a square of one or three channels where it is one by its name or
    length, or --layout (`said`) calls it a picture."""
    if len(shape) < 2:
        raise UsageError(f"--layout {layout}: the input {key} has shape {_text(shape)}", "a flat layout has two axes")
    batch, length = shape[0] if shape[0] >= 0 else None, -1 if min(shape[1:]) < 0 else math.prod(shape[1:])
    if asked is not None:
        channels, rest = divmod(length, asked[0] * asked[1])
        if length < 0:
            channels, rest = 3, 0
        if rest or channels < 1:
            raise UsageError(
                f"--input-size {asked[0]}x{asked[1]}: the input {key} holds {length} numbers", "give its size"
            )
        told, doubt = (None, None) if said else _row(key, seen, length, asked)
        laid = "flat" if not said and seen is not None and seen.picture else layout
        return _given(replace(told or Entry(laid, asked, channels), batch=batch), key, shape), doubt
    told, doubt = (_of_row(seen, length, layout), None) if said else _row(key, seen, length, None)
    if told is not None:
        return _given(replace(told, batch=batch), key, shape), doubt
    if not said and seen is not None and not seen.layout:
        raise ModelUnusable(
            f"the input {key} has shape {_text(shape)}, and the model lays out its numbers in an order that no picture has",
            "explain a tensor behind it with --input NAME, or give --layout and --input-size HxW",
        )
    square = _square(length)
    if length < 0:
        raise _no_picture(key, shape[1:], whole)
    if square is None:
        raise ModelUnusable(
            f"the input {key} has shape {_text(shape)}: {length} numbers are no square picture",
            "give --input-size HxW, or another --input",
        )
    if not said and (whole or length not in FLAT_PICTURES and not PICTURE_NAME.search(key)):
        kind = "whole numbers, such as those of words" if whole else "numbers"
        raise ModelUnusable(
            f"the input {key} takes {length} {kind}, and nothing says that they are a picture",
            "give --input-size HxW if they are one, or explain a tensor behind it with --input NAME",
        )
    (side, channels) = square
    taken = f"{length} numbers, which are taken for a picture of {side}x{side} with {channels} channel(s)"
    warning = f"the input {key} holds {taken}; {SETTLE_SIZE}"
    return _given(Entry(layout, (side, side), channels, batch), key, shape), warning


def _given(entry: Entry, key: str, shape: tuple[int, ...]) -> Entry:
    """With the axes in which the graph takes the numbers, where these are several; one that is open takes what is left."""
    numbers, known = math.prod(entry.size) * entry.channels, math.prod(size for size in shape[1:] if size > 0)
    if len(shape) == 2:
        return entry
    if shape[1:].count(-1) > 1 or numbers % known:
        raise UsageError(
            f"the input {key} has shape {_text(shape)}, which does not hold {entry.size[0]}x{entry.size[1]} with "
            f"{entry.channels} channel(s)",
            "explain a tensor behind it with --input NAME",
        )
    return replace(entry, given=tuple(size if size > 0 else numbers // known for size in shape[1:]))


def _row(key: str, seen: Axes | None, length: int, asked: tuple[int, int] | None) -> tuple[Entry | None, str | None]:
    """What the graph makes of a row of so many numbers; with a warning where it turns that on its side, and nothing says
    whether this makes it upright."""
    laid = _of_row(seen, length, None)
    readings = [] if laid is None else [(laid, "W")]
    if laid is not None and seen is not None and seen.width_first:
        other = _of_row(replace(seen, layout=seen.turned, size=laid.size[::-1]), length, None)
        readings += [] if other is None else [(other, "H")]
    fit = [(entry, width) for entry, width in readings if asked in (None, entry.size)]
    if len(fit) < 2 or seen is None:
        return next((entry for entry, _ in fit), None), None
    sure = [entry for entry, width in fit if _lies(entry.size, seen.along, width)]
    (laid, _), (other, _) = fit
    return (sure[0], None) if sure else (laid, _turned(key, laid.layout, other.layout))


def _of_row(seen: Axes | None, length: int, layout: str | None) -> Entry | None:
    """What the graph makes of a row of so many numbers; in the order that --layout says where it says one."""
    if seen is None or not seen.picture:
        return None
    if length not in (-1, math.prod(seen.sizes.values())):
        return None
    sizes, axes = seen.sizes, _with_channels(seen.layout)
    if layout is not None and LAYOUTS[layout].index("C") == axes.index("C"):
        sizes = {ours: sizes[theirs] for ours, theirs in zip(LAYOUTS[layout], axes, strict=True) if ours != "N"}
    return Entry(layout or _flat_layout(seen.layout), (sizes["H"], sizes["W"]), sizes["C"])


def _square(length: int) -> tuple[int, int] | None:
    """Side and channels of the square picture that so many numbers can be."""
    for channels in CHANNELS:
        side = math.isqrt(max(0, length) // channels)
        if side >= 4 and side * side * channels == length:
            return side, channels
    return None


def _text(shape: tuple[int, ...]) -> str:
    return str([size if size >= 0 else "?" for size in shape]).replace("'", "")
