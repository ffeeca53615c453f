"""One SavedModel, ready to differentiate: folder -> data -> policy -> patch -> gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.rules import RULES
from gradviz_cli.worker import expand, graph, patch, policy, savedmodel, weights
from gradviz_cli.worker.gradient import Differentiator, Explained

REMEDY = {
    "relu": "use --mode backprop, or --activations all to let these obey the rule too",
    "none": "use --mode backprop",
}


@dataclass(frozen=True)
class Options:
    """What the command asks of a model, as the options of `gradviz explain` say it."""

    path: str
    modes: tuple[str, ...] = ("guided",)
    signature: str | None = None
    tag: str | None = None
    input: str | None = None
    output: str | None = None
    score: str = "logit"
    activations: str = "relu"
    preprocess: str = "auto"
    input_size: tuple[int, int] | None = None
    allow_ops: tuple[str, ...] = ()
    trust_model: bool = False


@dataclass(frozen=True)
class Facts:
    """What the command has to know about the model before it prepares images; all of it plain data."""

    signature: str
    input: str
    output: str
    score: str
    bypassed: str | None
    size: tuple[int, int]
    channels: int
    preprocess: str
    activations: dict[str, tuple[int, int]]
    gates: int
    custom_gradients: int
    warnings: tuple[str, ...]


class Model:
    """A loaded model. Built once a worker; `explain` may be called any number of times."""

    def __init__(self, options: Options):
        saved = savedmodel.read(Path(options.path))
        meta = graph.choose_meta(saved, options.tag)
        name, signature = graph.choose_signature(meta, options.signature)
        image, output = graph.choose_input(signature, options.input), graph.choose_output(signature, options.output)
        flat = expand.expand(meta, [output.name], {image.name: image.dtype.as_datatype_enum})
        if image.name not in flat.feeds:
            raise ModelUnusable(
                f"the output {output.key} does not depend on the input {image.key}", "choose others with --input, --output"
            )
        policy.judge(flat, options.allow_ops, options.trust_model)
        self._values = weights.load(saved.path, [*flat.weights.values(), *flat.handles.values()], expand.restored(meta))
        fed, end = f"{flat.feeds[image.name]}:0", flat.outputs[0]
        flat, score, bypassed = graph.bypass(flat, end) if options.score == "logit" else (flat, end, None)
        path = expand.ancestors(flat.nodes, [score]) & expand.descendants(flat.nodes, [expand.split(fed)[0]])
        flat, report = patch.patch(flat, path, options.activations)
        self._options, self._report = options, report
        self._insist_on_patches(options.modes)
        preprocess, warning = self._preprocess(flat, fed, options)
        self.facts = Facts(
            signature=name,
            input=image.key,
            output=output.key,
            score=score,
            bypassed=bypassed,
            size=_size(image, options),
            channels=image.shape[3],
            preprocess=preprocess,
            activations=dict(report.activations),
            gates=report.gates,
            custom_gradients=flat.custom_gradients,
            warnings=tuple(filter(None, (*saved.warnings, warning, _left_alone(report, options)))),
        )
        self._differentiator = Differentiator(flat, self._values, fed, fed, score, end)
        self._differentiator.prepare(options.modes)

    def explain(self, images: np.ndarray, targets: list[int], modes: list[str]) -> Explained:
        """Attributions [t, n, h, w, c] for images float32 [n, h, w, c] in the range that the model expects."""
        self._insist_on_patches(modes)
        return self._differentiator.explain(images, targets, modes)

    def _insist_on_patches(self, modes: Sequence[str]) -> None:
        """deconv and guided need something to act on; the plain gradient under their name would be a lie."""
        strict = [mode for mode in modes if RULES[mode].changes_gradient]
        if not strict or self._report.patched:
            return
        left, gates = self._report.left, self._report.gates
        seen = ", ".join(f"{count} {name}" for name, count in left.items()) or "no other activation"
        raise ModelUnusable(
            f"{self._options.path}: no ReLU lies between the image and the score ({seen}"
            f"{f', {gates} gates' if gates else ''}), so {' and '.join(strict)} would be the plain gradient",
            REMEDY["relu" if left else "none"],
        )

    def _preprocess(self, flat: expand.Flat, fed: str, options: Options) -> tuple[str, str | None]:
        if options.preprocess != "auto":
            return options.preprocess, None
        small = {
            name: self._values[variable].numpy()
            for name, variable in flat.weights.items()
            if self._values[variable].dtype.is_floating and self._values[variable].shape.num_elements() <= 16
        }
        found = graph.found_preprocess(flat, fed, small)
        if found:
            return found, None
        return "unit", (
            "the model does not say which pixel range it expects, 0..1 is taken; settle it with --preprocess "
            "(`gradviz inspect MODEL --image FILE` shows what the model says under each choice)"
        )


def _left_alone(report: patch.Report, options: Options) -> str | None:
    if not report.left or not any(RULES[mode].changes_gradient for mode in options.modes):
        return None
    names = ", ".join(f"{count} {name}" for name, count in report.left.items())
    return f"not patched: {names}; they pass the plain gradient (--activations all lets them obey the rule too)"


def _size(image: graph.Tensor, options: Options) -> tuple[int, int]:
    """(height, width) that images are brought to."""
    if not graph.looks_like_image(image) or image.shape[3] not in (1, 3, 4):
        raise ModelUnusable(
            f"the input {image.key} is {image.dtype.name} {list(image.shape or ())}, not [N, H, W, C] pixels",
            "name another with --input NAME",
        )
    height, width = image.shape[1:3]
    if options.input_size is not None:
        asked_height, asked_width = options.input_size
        if height not in (-1, asked_height) or width not in (-1, asked_width):
            raise UsageError(
                f"--input-size {asked_height}x{asked_width}: the model takes {height}x{width}", "leave the option out"
            )
        return options.input_size
    if height < 0 or width < 0:
        raise UsageError("the model leaves the size of its input open", "give one with --input-size HxW")
    return height, width
