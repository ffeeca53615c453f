"""The Python door: `load` a SavedModel, `explain` images, get arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import printable
from gradviz_cli.images import decode
from gradviz_cli.images.fit import Geometry, fit
from gradviz_cli.images.preprocess import PREPROCESS, PREPROCESS_GRADIENT
from gradviz_cli.model.labels import read_labels
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.plan.targets import Target, parse_targets
from gradviz_cli.process.protocol import Facts, ModelOptions
from gradviz_cli.rules import RULES

Images = np.ndarray | Sequence[str | os.PathLike]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The attributions of N images for one target in one mode.

    Attributes
    ----------
    attribution : numpy.ndarray
        float32 [N, H, W, C]: gradient of the score with respect to the model input after preprocessing, channels in the
        image's order. Not clipped, not scaled.
    targets, ranks : numpy.ndarray
        int32 [N]: the class explained, and its place among the classes (0 is the best).
    scores, outputs : numpy.ndarray
        float32 [N]: the score that was differentiated, and the same class in the model's own output.
    labels : tuple
        Name of each target, None where none is known.
    """

    attribution: np.ndarray
    mode: str
    targets: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    outputs: np.ndarray
    labels: tuple[str | None, ...]


@dataclass(frozen=True)
class PatchReport:
    """What was found between image and score: type -> (reachable, patched), and gates that are never patched."""

    activations: Mapping[str, tuple[int, int]]
    gates: int


class LoadedModel:
    """A SavedModel in a worker process of its own. Close it, or use it in a `with`."""

    def __init__(
        self, path: str | os.PathLike, labels: str | os.PathLike | None = None, batch_size: int = 8, **options
    ):
        self._labels = read_labels(Path(labels) if labels else None, Path(path))
        self._batch_size = batch_size
        # Every mode is patched for; whether one has anything to act on is asked when it is used.
        self._remote = RemoteModel(ModelOptions(str(path), **options), ("backprop",))
        try:
            self._facts: Facts = self._remote.load()
        except BaseException:
            self._remote.close()
            raise

    @property
    def report(self) -> PatchReport:
        activations = {name: tuple(counts) for name, counts in self._facts.activations.items()}
        return PatchReport(MappingProxyType(activations), self._facts.gates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the command line would have said on stderr."""
        return tuple(self._facts.warnings)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels that images are brought to."""
        return (*self._facts.size, self._facts.channels)

    def explain(self, images: Images, mode: str = "guided", target: str | int = "top1") -> Explanation:
        """Attributions of one target.

        Parameters
        ----------
        images : array [N, H, W, C] or sequence of paths
            Pixels 0..255 in RGB order at `input_shape`, which `preprocess` then brings to the model's range (with
            `raw` they are taken as they are); or image files, decoded and resized as the command does.
        mode : str
            backprop, deconv or guided.
        target : str or int
            top1, top2, ... (the class of that rank), a class index, or a label.

        Raises
        ------
        UsageError, ModelUnusable
            As the command line; ImageError for an image that cannot be read or explained.
        """
        if mode not in RULES:
            raise UsageError(f"mode {mode!r} is none of {', '.join(RULES)}", "choose one of these")
        place = _one_target(target, self._labels)
        pixels = self._pixels(images)
        found = []
        for start in range(0, len(pixels), self._batch_size):
            found.extend(self._remote.explain(pixels[start : start + self._batch_size], [place.code], (mode,)))
        return self._explanation(found, mode)

    def _explanation(self, rows: list, mode: str) -> Explanation:
        for row in rows:
            if isinstance(row, ImageError):
                raise row
        reorder = PREPROCESS_GRADIENT[self._facts.preprocess]
        empty = np.empty((0, *self.input_shape), np.float32)
        maps = np.stack([reorder(row.gradients[mode][0]) for row in rows]) if rows else empty
        columns = [np.array([getattr(row, name)[0] for row in rows]) for name in ("index", "rank", "score", "output")]
        names = tuple(self._labels[i] if i < len(self._labels) else None for i in columns[0].astype(int))
        return Explanation(maps, mode, *columns, names)

    def _pixels(self, given: Images) -> np.ndarray:
        height, width, channels = self.input_shape
        if not isinstance(given, np.ndarray):
            geometry = Geometry(height, width, channels)
            given = (
                np.stack([_read(path, geometry) for path in given]) if len(given) else np.empty((0, *self.input_shape))
            )
        if given.ndim != 4 or given.shape[1:] != self.input_shape:
            raise UsageError(
                f"images of shape {given.shape}: the model takes [N, {height}, {width}, {channels}]", "resize them"
            )
        return PREPROCESS[self._facts.preprocess](given)

    def close(self) -> None:
        """Stop the worker."""
        self._remote.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: str | os.PathLike, **options) -> LoadedModel:
    """Load a SavedModel into a worker process.

    Parameters
    ----------
    path : str or path
        SavedModel folder.
    **options
        As on the command line: preprocess, activations, score, signature, tag, input, output, input_size, labels,
        allow_ops, trust_model; and batch_size.
    """
    return LoadedModel(path, **options)


def explain(
    path: str | os.PathLike, images: Images, mode: str = "guided", target: str | int = "top1", **options
) -> Explanation:
    """Load a model, explain images, close it."""
    with load(path, **options) as model:
        return model.explain(images, mode, target)


def _one_target(target: str | int, labels: tuple[str, ...]) -> Target:
    """top2 alone means the second class, not the two best."""
    return parse_targets((str(target),), labels)[-1]


def _read(path: str | os.PathLike, geometry: Geometry) -> np.ndarray:
    limits = Limits()
    try:
        return fit(decode.decode(read_bytes(path, limits), limits), geometry)
    except ImageError as error:
        raise ImageError(error.kind, f"{printable(path)}: {error.message}") from error
