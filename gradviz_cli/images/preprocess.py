"""Pixel ranges: from 0..255 in RGB to what a network was trained on, and gradients back to the image's channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from gradviz_cli.errors import UsageError
from gradviz_cli.process.protocol import GIVEN, ModelOptions

Array: TypeAlias = "np.ndarray"

RGBA = "rgba"
ORDERS = {"rgb": slice(None), "bgr": slice(None, None, -1), RGBA: slice(None)}
"""Choice of --channel-order -> where the network has the image's channels, as many as the name has letters. Each is its
own way back."""


@dataclass(frozen=True)
class Preset:
    """What a network was trained on: a pixel mapped from 0..255 to low..high, less the mean, by the deviation.

    Attributes
    ----------
    mean, std : tuple of float
        In the range low..high: of each channel in the image's order, or one number for all; empty for 0 and 1.
    order : str
        A key of ORDERS.
    """

    name: str
    summary: str
    low: float
    high: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: str = ""

    def takes(self, channels: int) -> bool:
        """Whether a model input of so many channels can be meant."""
        return {len(self.mean), len(self.std), len(self.order)} <= {0, 1, channels}

    def check(self, channels: int) -> None:
        """Raise UsageError unless a model input of so many channels can be meant."""
        if self.takes(channels):
            return
        said = {"--mean": self.mean, "--std": self.std, "--channel-order": self.order}
        option, needed = next((name, len(one)) for name, one in said.items() if len(one) not in (0, 1, channels))
        if self.name == GIVEN:
            raise UsageError(
                f"{option}: it is of {needed} channels, the model input has {channels}", f"give 1 number or {channels}"
            )
        raise UsageError(
            f"--preprocess {self.name} needs a model input of {needed} channels, this one has {channels}",
            f"use {', '.join(name for name, preset in PREPROCESS.items() if preset.takes(channels))}",
        )

    def to_model(self, pixels: Array) -> Array:
        """uint8 or float [n, h, w, c], RGB, 0..255 -> float32 of the same shape.

        Raises
        ------
        UsageError
            It is for another number of channels.
        """
        self.check(pixels.shape[-1])
        found = self._ordered(pixels.astype(np.float32))
        if (self.low, self.high) != (0, 255):
            found = found / np.float32(255 / (self.high - self.low))
        if self.low:
            found = found + np.float32(self.low)
        if self.mean:
            found = found - self._ordered(np.array(self.mean, np.float32))
        return found / self._ordered(np.array(self.std, np.float32)) if self.std else found

    def to_image(self, gradient: Array) -> Array:
        """Gradient with respect to the network's input [..., c], its channels in the network's order -> the same numbers,
        channels in the image's order."""
        return self._ordered(gradient)

    def _ordered(self, values: Array) -> Array:
        return values[..., ORDERS[self.order]] if self.order else values


PREPROCESS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("raw", "0..255", 0, 255),
        Preset("unit", "0..1", 0, 1),
        Preset("signed", "-1..1", -1, 1),
        # ImageNet statistics of the models that Caffe (BGR, 0..255) and PyTorch (RGB, 0..1) trained.
        Preset("caffe", "BGR less the ImageNet mean", 0, 255, (123.68, 116.779, 103.939), order="bgr"),
        Preset("torch", "ImageNet mean and standard deviation", 0, 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
}
"""Name -> preset; with `auto`, the choices of --preprocess."""


def preset_of(name: str, options: ModelOptions) -> Preset:
    """What the worker found or was told, by its name, with what --pixel-range, --mean, --std and --channel-order say.

    Raises
    ------
    KeyError
        There is no such name.
    """
    if name == GIVEN and options.pixel_range:
        summary = "as --pixel-range, --mean and --std say"
        preset = Preset(GIVEN, summary, *options.pixel_range, options.mean, options.std)
    else:
        preset = PREPROCESS[name]
    return replace(preset, order=options.channel_order) if options.channel_order else preset
