"""What the command and its child processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Options:
    """What the command asks of a model, as the options of `gradviz explain` say it."""

    path: str
    modes: tuple[str, ...] = ("guided",)
    targets: int = 1  # how many will be asked for at once
    signature: str | None = None
    tag: str | None = None
    input: str | None = None
    output: str | None = None
    score: str = "logit"
    activations: str = "relu"
    preprocess: str = "auto"
    input_size: tuple[int, int] | None = None
    layout: str | None = None
    at: tuple[int, ...] = ()
    feeds: tuple[tuple[str, str], ...] = ()
    precision: str = "float32"
    allow_ops: tuple[str, ...] = ()
    trust_model: bool = False


@dataclass(frozen=True)
class ModelOptions:
    """Everything that decides which graph is differentiated and how its input is meant."""

    path: str
    signature: str | None = None
    tag: str | None = None
    input: str | None = None
    output: str | None = None
    score: str = "logit"
    activations: str = "relu"
    preprocess: str = "auto"
    input_size: tuple[int, int] | None = None
    layout: str | None = None
    at: tuple[int, ...] = ()
    feeds: tuple[tuple[str, str], ...] = ()
    precision: str = "float32"
    allow_ops: tuple[str, ...] = ()
    trust_model: bool = False


@dataclass(frozen=True)
class Row:
    """What the worker found for one image: [t] per target, gradients by mode [t, h, w, c] in the model's channel order."""

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: dict[str, np.ndarray]


@dataclass(frozen=True)
class Facts:
    """What the worker said of the model when it had loaded it (see worker.model.Facts)."""

    values: dict[str, Any]
    seconds: dict[str, float]
    sandbox: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None
