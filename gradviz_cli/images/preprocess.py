"""Pixel ranges: from 0..255 in RGB to what a network was trained on, and gradients back to the image's channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradviz_cli.errors import UsageError

Array = np.ndarray

ORDERS = {"rgba": slice(None)}
"""Choice of --channel-order -> where the network has the image's channels, as many as the name has letters."""

# ImageNet statistics of the models that Caffe (BGR, 0..255) and PyTorch (RGB, 0..1) trained.
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Preset:
    """One choice of --preprocess.

    Attributes
    ----------
    forward : callable
        float32 [n, h, w, c] in RGB order, 0..255 -> the same shape as the network expects it.
    backward : callable
        Gradient with respect to the network's input [..., c] -> the same numbers, channels in the image's order.
    colours : bool
        Only for a model input of three channels.
    """

    name: str
    summary: str
    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array] = lambda gradient: gradient
    colours: bool = False

    def takes(self, channels: int) -> bool:
        """Whether a model input of so many channels can be meant."""
        return channels == 3 or not self.colours

    def to_model(self, pixels: Array) -> Array:
        """uint8 or float [n, h, w, c], RGB, 0..255 -> float32 of the same shape.

        Raises
        ------
        UsageError
            The preset is for colours, and the model input has none.
        """
        if not self.takes(pixels.shape[-1]):
            raise UsageError(
                f"--preprocess {self.name} needs a model input of 3 channels, this one has {pixels.shape[-1]}",
                f"use {', '.join(name for name, preset in PREPROCESS.items() if not preset.colours)}",
            )
        return self.forward(pixels.astype(np.float32))

    def to_image(self, gradient: Array) -> Array:
        """Gradient [..., c] as the network has its channels -> as the image has them."""
        return self.backward(gradient)


PREPROCESS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("raw", "0..255", lambda pixels: pixels),
        Preset("unit", "0..1", lambda pixels: pixels / np.float32(255)),
        Preset("signed", "-1..1", lambda pixels: pixels / np.float32(127.5) - np.float32(1)),
        Preset(
            "caffe",
            "BGR less the ImageNet mean",
            lambda pixels: pixels[..., ::-1] - _CAFFE_MEAN,
            lambda gradient: gradient[..., ::-1],
            colours=True,
        ),
        Preset(
            "torch",
            "ImageNet mean and standard deviation",
            lambda pixels: (pixels / np.float32(255) - _TORCH_MEAN) / _TORCH_STD,
            colours=True,
        ),
    )
}
"""Name -> preset; with `auto`, the choices of --preprocess."""
