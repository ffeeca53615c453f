"""Pixel ranges: from 0..255 in RGB to what a network was trained on, and its gradients back."""

from __future__ import annotations

import numpy as np

from gradviz_cli.errors import UsageError

# ImageNet statistics of the models that Caffe (BGR, 0..255) and PyTorch (RGB, 0..1) trained.
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)


def _colours(pixels: np.ndarray, option: str) -> np.ndarray:
    if pixels.shape[-1] != 3:
        raise UsageError(
            f"--preprocess {option} needs a model input of 3 channels, this one has {pixels.shape[-1]}",
            "use raw, unit or signed",
        )
    return pixels.astype(np.float32)


def _caffe(pixels: np.ndarray) -> np.ndarray:
    return _colours(pixels, "caffe")[..., ::-1] - _CAFFE_MEAN


def _torch(pixels: np.ndarray) -> np.ndarray:
    return (_colours(pixels, "torch") / np.float32(255) - _TORCH_MEAN) / _TORCH_STD


def _same(gradient: np.ndarray) -> np.ndarray:
    return gradient


def _reversed(gradient: np.ndarray) -> np.ndarray:
    return gradient[..., ::-1]


# Name -> (uint8 or float [n, h, w, c], RGB, 0..255) -> float32 of the same shape, as the network expects it.
PREPROCESS = {
    "raw": lambda pixels: pixels.astype(np.float32),
    "unit": lambda pixels: pixels.astype(np.float32) / np.float32(255),
    "signed": lambda pixels: pixels.astype(np.float32) / np.float32(127.5) - np.float32(1),
    "caffe": _caffe,
    "torch": _torch,
}
# Name -> gradient with respect to the preprocessed input -> the same numbers, channels in the image's order.
PREPROCESS_GRADIENT = {name: _reversed if name == "caffe" else _same for name in PREPROCESS}
