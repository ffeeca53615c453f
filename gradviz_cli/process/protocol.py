"""What the command and its child processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass


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
