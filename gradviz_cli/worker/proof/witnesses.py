"""What is measured to prove a graph: each witness is a distance between two numbers that must agree, and its limit.

    forward       the rewritten graph's output     against  TensorFlow's own run of the signature
    class         the output at the class explained  against  the output's largest value; its first axis against the images
    marks         the gradient of the marked graph   against  TensorFlow's own gradient of it, both without any rule
    independence  the scores of an image alone     against  those beside others
    slope         the gradient along itself          against  the change of the score over a small step that way; asked
                  where a gradient is not TensorFlow's own (a gradient of the model's own, whole pixels, a staircase)

The limits were found on some 300 models; the worst that any right one showed stands beside each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.process.protocol import LAYOUTS, Witness
from gradviz_cli.rules import PLAIN, RULES
from gradviz_cli.worker.graph.tf_private import as_written
from gradviz_cli.worker.run.differentiate import Differentiator, calls
from gradviz_cli.worker.run.rules import corners, is_replaced, obeying, unmarked
from gradviz_cli.worker.run.targets import Problem, chosen_class, positions, winners

Array = np.ndarray

FORWARD = 1e-4  # 7e-7
CLASS = 1e-6
ACCIDENT = math.log(1e6)  # orders that numbers may have, where one is no accident
MARKS = 1e-6  # 0
INDEPENDENCE = 1e-3  # 1e-4, of a score that is nearly 0 beside the numbers it is the sum of
SLOPE = 0.25  # 0.09
# Steps along the gradient, in parts of the pixels' range, the likeliest first: small beside what a picture holds, large
# beside rounding. Where all of them show another slope, the two smallest have to agree on it to be believed.
STEPS = (1e-3, 1e-4, 1e-2, 1e-5, 5e-2)
COARSE_STEPS = (1e-2, 3e-2, 3e-3)  # of a staircase, which is flat to small ones
WHOLE_STEPS = (4 / 255, 2 / 255, 10 / 255, 25 / 255, 60 / 255)
AGREE = 0.15
# Ways in which a gradient may lie otherwise than the image, and how much better one has to fit.
TURNS: dict[str, tuple[int, ...]] = {
    "as it is": (),
    "turned left to right": (2,),
    "turned upside down": (1,),
    "turned by half": (1, 2),
    "with its channels reversed": (3,),
}
FITS_BETTER = 1.5
MOST_SPELLED = 100  # operations of an activation; longer ones are each asked by themselves
# Of the scores: what rounding changes of them, many times over.
NOISE = 6e-5
LARGEST = 1e18  # what is further off has no figure
# Logarithms of probabilities that differ by less than this all say the same.
FLAT = 3e-2


@dataclass(frozen=True, eq=False)
class Measured:
    """What the rewritten graph gives for some images.

    Attributes
    ----------
    output : array
        The model's own output, as it stands in the graph.
    index : int [n]
        The class that would be explained.
    scores : [n, p, k]
        All scores.
    marks : float
        How far the gradients of marked activations are from TensorFlow's, at the worst of them.
    """

    output: Array
    index: Array
    scores: Array
    marks: Array


class Measure:
    """A rewritten graph, run on probes."""

    def __init__(self, differentiator: Differentiator, problem: Problem, dtype: tf.DType):
        self._differentiator, self._problem, self._dtype = differentiator, problem, dtype
        self._count = problem.entry.batch if "N" in LAYOUTS[problem.entry.layout] else 0
        spec = problem.entry.spec(dtype)
        self._forward = tf.function(self._run, autograph=False, input_signature=[spec])
        self._backward = tf.function(self._gradient, autograph=False, input_signature=[spec])
        self._own = tf.function(self._own_gradient, autograph=False, input_signature=[spec])
        self._begun: dict[bytes, Future[Measured]] = {}

    def __call__(self, images: Array) -> Measured:
        """As many images as a fixed batch holds; any number where there is none."""
        begun = self._begun.pop(images.tobytes(), None)
        return begun.result() if begun else self._measured(images)

    def begin(self, *parts: Array) -> None:
        """Let a thread compute what will be asked for, each once; one batch where their number is fixed."""
        self._forward.get_concrete_function()
        thread = ThreadPoolExecutor(1, "measure")
        for images in parts[:1] if self._problem.entry.batch else parts:
            if images.tobytes() not in self._begun:
                self._begun[images.tobytes()] = thread.submit(self._beside, images)
        thread.shutdown(wait=False)

    @property
    def size(self) -> int | None:
        """Images that a call takes, None for any number: one, where all that the model says of several at once is one row."""
        if self._problem.entry.batch:
            return self._problem.entry.batch
        scores = self._forward.get_concrete_function().structured_outputs[2]
        return 1 if scores.shape[0] == 1 else None

    def _beside(self, images: Array) -> Measured:
        with as_written():
            return self._measured(images)

    def _measured(self, images: Array) -> Measured:
        return Measured(*(tensor.numpy() for tensor in self._forward(self._laid(images))))

    def scores(self, images: Array) -> Array:
        """All scores [n, p, k] for any number of images, in as many calls as a fixed batch needs."""
        parts = [self(fed).scores[:count] for fed, count in calls(images, self._problem.entry.batch)]
        return np.concatenate(parts)

    def gradient(self, images: Array) -> Array:
        """Of the score that would be explained, under the plain rule, as the graph lays an image.

        Raises ModelUnusable where none reaches it.
        """
        found: Array = self._backward(self._laid(images)).numpy()
        return found

    def own_gradient(self, images: Array) -> Array:
        """The same as TensorFlow has it, as if nothing were marked."""
        found: Array = self._own(self._laid(images)).numpy()
        return found

    @property
    def whole(self) -> bool:
        """Only whole pixels can be fed."""
        return self._problem.entry.whole

    @property
    def marks_functions(self) -> bool:
        """Whether functions of loops and branches hold marks in the place of TensorFlow's gradients."""
        functions = self._differentiator.graph.functions.values()
        return any(is_replaced(node) for function in functions for node in function.nodes.values())

    def _laid(self, images: Array) -> tf.Tensor:
        return self._problem.entry.to_model(images, self._dtype)

    def _run(self, images: tf.Tensor) -> list[tf.Tensor]:
        with self._differentiator.imported(images) as (score, output, _, shown, _):
            scores = positions(score, self._count, self._problem)
            return [output, self._index(scores, shown), scores, _marks(output.graph)]

    def _gradient(self, images: tf.Tensor) -> tf.Tensor:
        with self._differentiator.imported(images) as (score, _, wrt, shown, _):
            scores = positions(score, self._count, self._problem)
            best = tf.one_hot(self._index(scores, shown), tf.shape(scores)[2], dtype=scores.dtype)[:, None, :]
            seed = tf.stop_gradient(self._won(scores, shown) * best)
            return tf.cast(self._differentiator.gradient(scores, wrt, seed, PLAIN), tf.float32)

    def _own_gradient(self, images: tf.Tensor) -> tf.Tensor:
        with unmarked():
            return self._gradient(images)

    def _index(self, scores: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
        outputs = positions(shown, self._count, self._problem)
        return chosen_class(scores, outputs, self._won(scores, shown), tf.constant(-1), self._problem)[0]

    def _won(self, scores: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
        return winners(scores, positions(shown, self._count, self._problem), self._problem)


def _marks(graph: tf.Graph) -> tf.Tensor:
    """Relative L2 distance of the gradients of all activations whose mark replaces TensorFlow's own.

    Each is asked by itself, so that what lies behind one that is closed is seen too, and of those that are spelled alike
    one; corners, where any gradient is right, are left out.
    """
    found = [op for op in graph.get_operations() if is_replaced(op.node_def)]
    marked = list({_spelling(op): op for op in found}.values())
    exits, entries = [op.outputs[0] for op in marked], [op.inputs[-1] for op in marked]
    if not marked:
        return tf.zeros([])
    with obeying(RULES[PLAIN]):
        ours = tf.gradients(exits, entries, stop_gradients=entries)
        with unmarked():
            theirs = tf.gradients(exits, entries, stop_gradients=entries)
    away = _joined([_away(op, entry) for op, entry in zip(marked, entries, strict=True)])
    one, other = (_joined([_dense(*pair) for pair in zip(each, entries, strict=True)]) for each in (ours, theirs))
    off, size = (tf.norm(tf.where(away > 0, each, 0.0)) for each in (one - other, other))
    return tf.where(size > 0, off / tf.maximum(size, 1e-30), off)


def _spelling(marked: tf.Operation) -> str:
    """What a marked activation computes of its entry, and its mark: alike for two that cannot have different gradients."""
    entry, todo = marked.inputs[-1], [marked.outputs[0]]
    places: dict[str, str] = {entry.name: "entry"}
    spelled: list[str] = []
    while todo:
        tensor = todo.pop()
        if len(spelled) > MOST_SPELLED:
            return marked.name
        if tensor.name in places:
            spelled.append(places[tensor.name])
            continue
        places[tensor.name] = f"%{len(places)}"
        node = NodeDef(op=tensor.op.type, attr=tensor.op.node_def.attr)
        known = node.op not in ("Placeholder", "_Arg")  # a weight, which differs from any other
        spelled.append(f"{tensor.value_index} {node if known else tensor.name}")
        todo.extend(tensor.op.inputs)
    return "\n".join(spelled)


def _joined(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.cast(tf.reshape(tensor, [-1]), tf.float32) for tensor in tensors], 0)


def _dense(gradient: tf.Tensor | None, entry: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(entry) if gradient is None else gradient


def _away(op: tf.Operation, entry: tf.Tensor) -> tf.Tensor:
    """1 where a marked activation's entry is finite and at none of its corners, else 0."""
    places = [entry != tf.constant(corner, entry.dtype) for corner in corners(op.node_def)]
    return tf.reduce_all(tf.stack([tf.math.is_finite(entry), *places]), 0)


def distance(one: Array, other: Array) -> float:
    """Relative L2 distance of two arrays; infinite where their shapes differ. What is NaN in both is equal."""
    if one.shape != other.shape:
        return float("inf")
    a, b = one.astype(np.float64), other.astype(np.float64)
    same = (np.isnan(a) & np.isnan(b)) | (a == b)  # infinities too
    a, b = np.where(same, 0, a), np.where(same & ~np.isfinite(b), 0, b)
    off, size = float(np.linalg.norm(np.where(same, 0, a - b))), float(np.linalg.norm(b))
    return off / size if size else off


def forward(measured: Measured, theirs: Array, ranked: bool = False) -> Witness:
    """Whether the rewritten graph has the output of the model, `theirs`.

    Parameters
    ----------
    ranked : bool
        It lists the best of the scores.
    """
    ours = measured.output
    if not np.issubdtype(theirs.dtype, np.floating):
        return _not_run("forward", "the output is a decision")
    if ranked:
        theirs = theirs.reshape(*ours.shape[:-1], -1)
        ours = -np.sort(-ours, axis=-1)[..., : theirs.shape[-1]]
    off = distance(ours, theirs)
    if ranked and not off <= FORWARD:  # they may have been made percent, or the like, on the way
        return _not_run("forward", "the output lists the best of the scores")
    if ours.shape == theirs.shape and are_probabilities(theirs):
        off = max(off, _logarithms(ours, theirs))
    return _judged("forward", off, FORWARD)


def is_sorted(scores: Array) -> bool:
    """Whether the scores [n, k] of each image fall, and that is no accident."""
    return bool((np.diff(scores) < 0).all()) and len(scores) * math.lgamma(scores.shape[1] + 1) > ACCIDENT


def are_probabilities(values: Array) -> bool:
    """Whether the numbers along the last axis are none below 0 and add up to 1."""
    if values.ndim < 2 or values.shape[-1] < 2 or not np.isfinite(values).all() or values.min() < 0:
        return False
    return bool(np.allclose(values.sum(-1), 1, atol=1e-3))


def _logarithms(ours: Array, theirs: Array) -> float:
    """Distance of the logarithms of probabilities, less their mean: those of an untrained model are all nearly equal."""
    seen = (ours > 1e-20) & (theirs > 1e-20)
    a, b = (np.log(np.where(seen, values.astype(np.float64), 1)) for values in (ours, theirs))
    count = np.maximum(seen.sum(-1, keepdims=True), 1)
    a, b = (np.where(seen, values - values.sum(-1, keepdims=True) / count, 0) for values in (a, b))
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), FLAT * np.sqrt(b.size)))


def best_class(measured: Measured, theirs: Array, batched: bool) -> Witness:
    """Whether the class that is explained is the one that the model's own output has at its largest value.

    Parameters
    ----------
    theirs : array
        The output of TensorFlow's own run.
    batched : bool
        Its first axis should be that of the images.
    """
    count = len(measured.index)
    if batched and count == 1 and theirs.shape[:1] != (1,):
        theirs = theirs[None]  # squeezed
    if batched and theirs.shape[:1] != (count,):
        said = f"the output is {list(theirs.shape)} for {count} images"
        return Witness("class", said=said, failed=True)
    if measured.scores.shape[1] > 1:
        if max(theirs.shape[batched:], default=0) == math.prod(theirs.shape[batched:]):
            said = f"the output is {list(theirs.shape)}: its one axis holds classes, and no positions"
            return Witness("class", said=said, failed=True)
        return _not_run("class", "the scores are a map or a sequence")
    if theirs.dtype.kind not in "fiu":
        return _not_run("class", "the output is a label")
    flat = theirs.reshape(count, -1).astype(np.float64)
    if not np.issubdtype(theirs.dtype, np.floating):
        if flat.shape[1] > 1 or measured.scores.shape[2] == 1:
            return _not_run("class", "the output is a decision, and no single class")
        return _judged("class", float(np.abs(flat[:, 0] - measured.index).max()), CLASS)
    if flat.shape[1] == 1 or flat.shape[1] != measured.scores.shape[2]:
        return _not_run("class", f"{flat.shape[1]} outputs stand for {measured.scores.shape[2]} scores")
    if not np.isfinite(flat).all():
        return _not_run("class", "the output is not finite")
    chosen = flat[np.arange(count), measured.index]
    size = np.maximum(np.abs(flat).max(1), 1e-30)
    return _judged("class", float(((flat.max(1) - chosen) / size).max()), CLASS)


def marks(measure: Measure, measured: Measured, images: Array) -> Witness:
    """Whether the marked graph has the gradient of the unmarked one as long as no rule acts."""
    off = float(measured.marks)
    if measure.marks_functions:  # of these nothing but the whole gradient can be seen
        off = max(off, distance(measure.gradient(images), measure.own_gradient(images)))
    return _judged("marks", off, MARKS)


def independence(together: Array, apart: Array) -> Witness:
    """Whether the numbers of an image depend on the others of a call: those beside others, and alone or beside yet others."""
    return _judged("independence", distance(together, apart), INDEPENDENCE)


@dataclass(frozen=True, eq=False)
class Slope:
    """Whether the gradient is the slope of the score, along itself.

    Attributes
    ----------
    image, gradient : [1, h, w, c]
    index : int
        The class.
    span : float
        The range of pixels, of which the steps are parts.
    whole : bool
        The model takes whole pixels, so steps are whole.
    coarse : bool
        The score is a staircase.
    """

    image: Array
    gradient: Array
    index: int
    span: float
    whole: bool
    coarse: bool

    @property
    def steps(self) -> tuple[float, ...]:
        """The likeliest first."""
        return WHOLE_STEPS if self.whole else COARSE_STEPS if self.coarse else STEPS

    def judged(self, measure: Measure) -> Witness:
        """A gradient that is the slope at any step is believed: along itself no other one is, but by accident."""
        seen: dict[float, tuple[float, float]] = {}
        for step in self.steps:
            found = self._off(step, measure)
            if found and found[0] <= SLOPE / 2:
                return _judged("slope", found[0], SLOPE)
            if found:
                seen[step] = found
        inward = [seen[step] for step in sorted(seen)]
        # Larger ones cross more corners, and of a staircase more steps.
        near = inward[-2:] if self.coarse else inward[:2]
        if len(near) < 2 or abs(near[0][1] - near[1][1]) > AGREE * max(abs(near[0][1]), abs(near[1][1])):
            return _not_run("slope", "no two steps agree")
        return _judged("slope", max(near[0][0], near[1][0]), SLOPE)

    def turned(self, measure: Measure) -> Witness:
        """Of a gradient that is another tensor's than the image's, larger or smaller: whether it would fit better turned
        round, or with its channels the other way round."""
        step = self.steps[0]
        rises = {}
        for name, axes in TURNS.items():
            move = self._inside(np.flip(self._move(step), axes))
            up, down = measure.scores(np.concatenate([self.image + move, self.image - move]))[:, 0, self.index]
            rises[name] = float(up - down)
        best = max(rises, key=lambda name: rises[name])
        off = max(rises.values()) / max(rises["as it is"], 1e-30)
        if best == "as it is" or off <= FITS_BETTER:
            return Witness("slope", said="of what the image becomes; it lies as the image does")
        return Witness("slope", said=f"the gradient fits the image better {best}", failed=True)

    def _move(self, step: float) -> Array:
        """Along the gradient, so far that the pixels change by `step` in the mean; whole pixels by no more than that."""
        size = np.abs(self.gradient).max() if self.whole else np.sqrt(np.mean(self.gradient**2))
        return self._inside(self.gradient / size * step * self.span).astype(np.float32)

    def _inside(self, move: Array) -> Array:
        """Of whole pixels, as far as it can be gone in both directions."""
        if not self.whole:
            return move
        room = np.floor(np.minimum(self.image, 255 - self.image))
        return np.clip(np.rint(move), -room, room)

    def _off(self, step: float, measure: Measure) -> tuple[float, float] | None:
        """(distance from what the gradient says, slope) of a step, where it shows more than rounding."""
        move = self._move(step)
        up, down = self._scores(measure, self.image + move, self.image - move)
        change, expected = (up - down) / 2, float((self.gradient * move).sum())
        if max(abs(change), abs(expected)) <= NOISE * max(abs(up), abs(down)):
            return None
        off = _apart(change, expected)
        if off > SLOPE / 2 and not (self.whole or self.coarse):
            # A corner on one side of the image leaves the other side's slope as it is.
            (here,) = self._scores(measure, self.image)
            off = min(off, _apart(up - here, expected), _apart(here - down, expected))
        return off, change / step

    def _scores(self, measure: Measure, *images: Array) -> list[float]:
        scores = measure.scores(np.concatenate(images))
        return [float(score) for score in scores[:, 0, self.index]]


def _apart(one: float, other: float) -> float:
    """Relative distance of two numbers."""
    return 2 * abs(one - other) / max(abs(one) + abs(other), 1e-30)


def _judged(name: str, off: float, limit: float) -> Witness:
    if not off < LARGEST:
        return Witness(name, None, limit, "shapes or numbers differ altogether", failed=True)
    return Witness(name, float(off), limit, failed=bool(off > limit))


def _not_run(name: str, why: str) -> Witness:
    return Witness(name, said=why)
