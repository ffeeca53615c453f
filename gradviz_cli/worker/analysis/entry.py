"""How pixels enter a graph and how gradients leave it: layouts, fixed batches, integer and encoded inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import LAYOUTS

CHANNELS = (1, 3, 4)
# Where neither the model nor the user settles the size: what most published networks were trained on.
USUAL_SIZE = (224, 224)
# Lengths of rows that are pictures beyond doubt: MNIST's and CIFAR's. Others may be any features.
FLAT_PICTURES = frozenset({28 * 28, 32 * 32 * 3})
SETTLE_SIZE = "settle it with --input-size HxW"


@dataclass(frozen=True)
class Entry:
    """What the model input is, in terms of pictures.

    Attributes
    ----------
    layout : str
        A key of LAYOUTS.
    size : (height, width)
    channels : int
        1, 3 or 4.
    batch : int or None
        The number of images that the graph takes at once, None for any.
    encoding : str
        `pixels` (numbers), `bytes` (an encoded image as a string) or `base64` (the same, web-safe base64).
    whole : bool
        The model takes whole numbers.
    """

    layout: str
    size: tuple[int, int]
    channels: int
    batch: int | None = None
    encoding: str = "pixels"
    whole: bool = False

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
            laid = laid.reshape(len(laid), -1)
        return tf.cast(np.ascontiguousarray(laid), dtype)

    def spec(self, dtype: tf.DType) -> tf.TensorSpec:
        """What `to_model` gives."""
        axes = LAYOUTS[self.layout]
        if self.encoding != "pixels":
            return tf.TensorSpec([self.batch] if "N" in axes else [], tf.string)
        if self.layout.startswith("flat"):
            return tf.TensorSpec([self.batch, self.size[0] * self.size[1] * self.channels], dtype)
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
        return strings[0] if "N" not in LAYOUTS[self.layout] else tf.stack(strings)


def find(
    key: str,
    shape: tuple[int, ...] | None,
    layout: str | None,
    asked: tuple[int, int] | None,
) -> tuple[Entry, str | None]:
    """The entry that a shape means, and a warning where something had to be assumed.

    Parameters
    ----------
    shape : tuple of int or None
        As the signature says it, -1 where open.
    layout, asked : optional
        What --layout and --input-size say.

    Raises
    ------
    UsageError
        An option contradicts the model, or the shape needs one.
    ModelUnusable
        The shape is no image's.
    """
    if shape is None:
        shape = (
            (-1, -1, -1, 3) if layout is None else (-1,) * (2 if layout.startswith("flat") else len(LAYOUTS[layout]))
        )
    layout = layout or guess_layout(shape)
    if layout is None:
        raise ModelUnusable(
            f"the input {key} has shape {_text(shape)}, which is no picture's",
            "name another with --input, or give --layout",
        )
    if layout.startswith("flat"):
        return _flat(key, shape, layout, asked)
    axes = LAYOUTS[layout]
    if len(shape) != len(axes):
        raise UsageError(
            f"--layout {layout}: the input {key} has shape {_text(shape)}", "give a layout of as many axes"
        )
    sizes = dict(zip(axes, shape, strict=True))
    channels = sizes.get("C", 1)
    channels = 3 if channels < 0 else channels
    if channels not in CHANNELS:
        raise ModelUnusable(
            f"the input {key} has shape {_text(shape)}: {channels} channels are no picture's",
            "give --layout, or another --input",
        )
    size, warning = _size(key, (sizes["H"], sizes["W"]), asked)
    batch = sizes.get("N", 1)
    return Entry(layout, size, channels, None if batch < 0 else max(1, batch)), warning


def guess_layout(shape: tuple[int, ...]) -> str | None:
    """The usual reading of a shape; None for one that is no image."""
    if len(shape) == 4:
        if shape[3] in CHANNELS or shape[3] < 0 and shape[1] not in CHANNELS:
            return "NHWC"
        return "NCHW" if shape[1] in CHANNELS else None
    if len(shape) == 3:
        if shape[0] > 4 and shape[2] in CHANNELS:
            return "HWC"
        return "CHW" if shape[0] in (3, 4) and min(shape[1:]) > 4 else "NHW"
    if len(shape) == 2:
        return "HW" if min(shape) >= 16 and shape[0] == shape[1] else "flat"
    return None


def _size(key: str, found: tuple[int, int], asked: tuple[int, int] | None) -> tuple[tuple[int, int], str | None]:
    if asked is not None:
        if any(ours not in (theirs, -1) for theirs, ours in zip(asked, found, strict=True)):
            raise UsageError(
                f"--input-size {asked[0]}x{asked[1]}: the model takes {found[0]}x{found[1]}", "leave the option out"
            )
        return asked, None
    if min(found) > 0:
        return found, None
    height, width = (known if known > 0 else usual for known, usual in zip(found, USUAL_SIZE, strict=True))
    warning = f"the model leaves the size of its input {key} open, {height}x{width} is taken; {SETTLE_SIZE}"
    return (height, width), warning


def _flat(key: str, shape: tuple[int, ...], layout: str, asked: tuple[int, int] | None) -> tuple[Entry, str | None]:
    """[N, H*W*C]: a square of one or three channels, unless --input-size says which rectangle."""
    if len(shape) != 2:
        raise UsageError(f"--layout {layout}: the input {key} has shape {_text(shape)}", "a flat layout has two axes")
    batch, length = shape[0] if shape[0] >= 0 else None, shape[1]
    if asked is not None:
        channels, rest = divmod(length, asked[0] * asked[1])
        if length < 0:
            channels, rest = 3, 0
        if rest or channels not in CHANNELS:
            raise UsageError(
                f"--input-size {asked[0]}x{asked[1]}: the input {key} holds {length} numbers", "give its size"
            )
        return Entry(layout, asked, channels, batch), None
    for channels in (1, 3, 4):
        side = math.isqrt(max(0, length) // channels)
        if side >= 4 and side * side * channels == length:
            taken = f"{length} numbers, which are taken for a picture of {side}x{side} with {channels} channel(s)"
            warning = None if length in FLAT_PICTURES else f"the input {key} holds {taken}; {SETTLE_SIZE}"
            return Entry(layout, (side, side), channels, batch), warning
    raise ModelUnusable(
        f"the input {key} has shape {_text(shape)}: {length} numbers are no square picture",
        "give --input-size HxW, or another --input",
    )


def _text(shape: tuple[int, ...]) -> str:
    return str([size if size >= 0 else "?" for size in shape]).replace("'", "")
