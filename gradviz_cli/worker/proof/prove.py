"""The proof of one model: the witnesses are asked in turn, and what they say decides how the model is run, or whether.

What only makes a graph faster is left out where the graph is right without it; what is wrong with all of it is refused.
Numbers that depend on the other images, or on chance, and a gradient that is no slope, are warned of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import GradvizError, ProofFailed
from gradviz_cli.process.protocol import OPTIONAL_STEPS, Proof, Witness
from gradviz_cli.worker.analysis.activations import value_path
from gradviz_cli.worker.graph.graph import Graph, maker_name, source, split
from gradviz_cli.worker.graph.match import constant
from gradviz_cli.worker.graph.tf_private import as_written
from gradviz_cli.worker.graph.words import described
from gradviz_cli.worker.proof import witnesses
from gradviz_cli.worker.proof.original import NotRun, Original, original
from gradviz_cli.worker.proof.probes import scenes, span
from gradviz_cli.worker.proof.witnesses import Measure, Measured, Slope
from gradviz_cli.worker.read import weights
from gradviz_cli.worker.read.entries import entries
from gradviz_cli.worker.run.differentiate import Differentiator
from gradviz_cli.worker.run.prepared import Prepared
from gradviz_cli.worker.run.rules import is_substitute
from gradviz_cli.worker.run.targets import Problem

Array = np.ndarray

SEED = 20_260
MAX_WEIGHTS = 2**30  # bytes; a second copy of more is not worth the memory
# Steps that only make a graph faster are left out one by one, then together.
FALLBACKS: tuple[tuple[str, ...], ...] = ((), *((name,) for name in OPTIONAL_STEPS), OPTIONAL_STEPS)
# What is flat between its steps: a gradient that passes it is a substitute.
STAIRCASES = frozenset({"Round", "Rint", "Floor", "Ceil", "FloorDiv", "FloorMod", "TruncateDiv"})
# What a StopGradient may read and change nothing by: the mean within a variance, the maximum within a softmax.
STOPPED = frozenset({"Mean", "Max"})
# Sums over an axis that may be the batch; a softmax of them is one-sided for bright images, and not for faint ones.
SUMMING = frozenset({"Mean", "Sum", "Max", "Min", "Prod"})
FAINT = (1 / 16, 1 / 256)  # of the span
DRAWN = "the model is random, and each image is run alone with the same numbers"
# Steps to leave out, how the graph is differentiated -> its gradients.
Build = Callable[[tuple[str, ...], Problem], Differentiator]


@dataclass(frozen=True, eq=False)
class _Theirs:
    """The output of TensorFlow's own run, or why there is none."""

    output: Array | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Begun:
    """TensorFlow's own run of some images, which goes on while gradviz builds its graph.

    Attributes
    ----------
    batch : int or None
        Images of a call, as `Entry.batch`.
    ours : Measure, optional
        The rewritten graph, which runs these images while its gradients are built.
    """

    batch: int | None
    images: Array
    theirs: Future[_Theirs]
    ours: Measure | None = None


@dataclass(frozen=True, eq=False)
class _Trial:
    """A way to rewrite the graph, and what the witnesses say of it."""

    without: tuple[str, ...]
    differentiator: Differentiator
    measure: Measure
    measured: Measured | None
    found: tuple[Witness, ...]

    @property
    def wrong(self) -> Witness | None:
        """The first witness against it."""
        return next((one for one in self.found if one.failed), None)


def begun(subject: Prepared) -> Begun:
    """Let TensorFlow run the model as it is, beside this thread."""
    entry = subject.problem.entry
    images = scenes(entry, _span(subject), (entry.batch or 2) if subject.batched else 1, SEED)
    run = _ready(subject, images)
    with_it = ThreadPoolExecutor(1, "original")
    theirs = with_it.submit(_ran, run)
    with_it.shutdown(wait=False)
    return Begun(entry.batch, images, theirs)


def measured_ahead(subject: Prepared, usual: Differentiator, ahead: Begun) -> Begun:
    """Let the rewritten graph run too, beside this thread, which may build its gradients meanwhile."""
    measure = _measure(subject, usual)
    try:
        measure.begin(ahead.images, _last(ahead.images))
    except Exception:  # it is said when it is asked in its turn
        return ahead
    return replace(ahead, ours=measure)


def proof_of(
    subject: Prepared, usual: Differentiator, ahead: Begun, build: Build, thorough: bool = False
) -> tuple[Differentiator, Proof]:
    """What a model is differentiated with from now on, and what was found.

    Parameters
    ----------
    usual : Differentiator
        What `build` gives where nothing is left out.
    ahead : Begun
        TensorFlow's own run of the model.
    thorough : bool
        Ask the slope also where every gradient is TensorFlow's own.

    Raises
    ------
    ProofFailed
        What gradviz computes of it is not what TensorFlow computes.
    """
    # Of a model that says one row of any number of images a call takes one.
    ours = ahead.ours or _measure(subject, usual)
    ahead, entry = replace(ahead, ours=ours), replace(subject.problem.entry, batch=ours.size)
    subject = replace(subject, problem=replace(subject.problem, entry=entry))
    if ahead.batch != entry.batch:
        ahead = begun(subject)
    images = ahead.images
    trial, given_up = _settled(subject, usual, build, ahead)
    with as_written():
        beside = _independence(subject, trial, images)
        single = _one_by_one(subject, trial, images) if beside.failed and entry.batch is None else trial
        sloping = _slope(subject, single, images[: entry.batch or 1], thorough)
        strange = trial.wrong is not None or beside.failed or sloping.failed
        random = strange and _is_random(trial, images)
    alone = (subject.random or beside.failed and not random) and entry.batch is None
    if beside.failed and subject.random:  # it draws other numbers at another place, as it was said to
        beside = replace(beside, failed=False, value=None, said="the model is random")
    said = (
        given_up,
        _unnamed(subject, trial),
        (alone and _in_rows(subject, trial, len(images))) or _dependent(subject, beside, random, alone),
        None if random else _no_slope(sloping),
    )
    found = (*trial.found, beside, sloping)
    if random:  # nothing can be held against numbers that are others each time
        found = tuple(replace(one, failed=False, value=None, said="the model is random") for one in found)
    proof = Proof(found, trial.without, alone, tuple(text for text in said if text))
    return build(proof.without, proved(subject.problem, proof)) if alone else trial.differentiator, proof


def proved(problem: Problem, proof: Proof | None) -> Problem:
    """How a model is differentiated once it is proved."""
    if proof is None or not proof.alone:
        return problem
    return replace(problem, entry=replace(problem.entry, batch=1))


def _settled(subject: Prepared, usual: Differentiator, build: Build, ahead: Begun) -> tuple[_Trial, str | None]:
    """The first way to rewrite the graph that holds, and a warning where it is not the usual one."""
    images = ahead.images
    against: list[Witness] = []
    for without in FALLBACKS:
        differentiator = build(without, subject.problem) if without else usual
        with as_written():
            trial = _tried(subject, differentiator, ahead, without)
            if trial.wrong is None or _is_random(trial, images):
                return trial, _given_up(without, against[0]) if against else None
        against.append(trial.wrong)
    raise ProofFailed(
        f"the proof fails: gradviz does not compute what TensorFlow computes of this model: {against[0]}",
        "try another --output or --input; --proof never explains it all the same",
    )


def _measure(subject: Prepared, differentiator: Differentiator) -> Measure:
    # A graph of whole pixels that was written for floats takes parts of them too, which the slope needs.
    whole = subject.problem.entry.whole and not subject.dtype.is_floating
    problem = replace(subject.problem, entry=replace(subject.problem.entry, whole=whole))
    return Measure(differentiator, problem, subject.dtype)


def _tried(subject: Prepared, differentiator: Differentiator, ahead: Begun, without: tuple[str, ...]) -> _Trial:
    measure = (not without and ahead.ours) or _measure(subject, differentiator)
    images, theirs = ahead.images, ahead.theirs
    try:
        measured = measure(images)
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError as error:  # as on some image: no reason to refuse, unless TensorFlow's own run works
        said = f"the model fails on generated images ({described(error)})"
        failed = theirs.result().output is not None
        found = (Witness("forward", said=said, failed=failed), Witness("class", said=said), Witness("marks", said=said))
        return _Trial(without, differentiator, measure, None, found)
    output = theirs.result().output
    why = "the output is a decision in other words" if subject.question.coded else theirs.result().why
    if output is None or subject.question.coded:
        exact = (Witness("forward", said=why), Witness("class", said=why))
    else:
        exact = (
            witnesses.forward(measured, output, subject.question.ranked),
            Witness("class", said="the output lists the best of the scores, or detections")
            if subject.question.ranked or subject.question.detections
            else witnesses.best_class(measured, output, subject.batched),
        )
    return _Trial(without, differentiator, measure, measured, (*exact, witnesses.marks(measure, measured, images)))


def _one_by_one(subject: Prepared, trial: _Trial, images: Array) -> _Trial:
    """The same way, asked for one image at a time: beside others a score would move with these as well."""
    problem = replace(subject.problem, entry=replace(subject.problem.entry, batch=1))
    measure = Measure(trial.differentiator, problem, subject.dtype)
    return replace(trial, measure=measure, measured=measure(images[:1]))


def _is_random(trial: _Trial, images: Array) -> bool:
    """The same images give other numbers each time: nothing can be held against those."""
    if trial.measured is None:
        return False
    again = trial.measure(images).scores
    return witnesses.distance(again, trial.measured.scores) > witnesses.INDEPENDENCE


# -- TensorFlow's own run


def _ready(subject: Prepared, images: Array) -> Callable[[], Array] | _Theirs:
    """What runs the model as it is, or why it is not run."""
    if subject.random:
        return _Theirs(None, why=DRAWN)
    size = sum(value.dtype.size * value.shape.num_elements() for value in subject.read.values())
    if size > MAX_WEIGHTS:
        return _Theirs(None, why=f"its weights take {size >> 20} MiB, and a second copy is not made")
    fed = _fed(subject, images)
    types = {name: tensor.dtype for name, tensor in fed.items()}
    try:
        options = subject.options
        part = original(subject.meta, subject.question.output.name, types, options.allow_ops, options.trust_model)
        values = _values(subject, part)
    except (NotRun, GradvizError) as error:
        return _Theirs(None, why=str(error))
    try:
        return part.ready(values, fed)
    except Exception as error:
        return _fails(error)


def _ran(ready: Callable[[], Array] | _Theirs) -> _Theirs:
    try:
        return ready if isinstance(ready, _Theirs) else _Theirs(ready())
    except Exception as error:
        return _fails(error)


def _fails(error: Exception) -> _Theirs:
    """Whatever TensorFlow throws at a graph that it cannot run as it is."""
    if isinstance(error, MemoryError):
        return _Theirs(None, why="there is no memory for it")
    return _Theirs(None, why=f"TensorFlow cannot run it as it is ({described(error)})")


def _fed(subject: Prepared, images: Array) -> dict[str, tf.Tensor]:
    """Tensor of the meta graph -> what it is given: the images, and the other inputs."""
    problem, question = subject.problem, subject.question
    entry = problem.entry
    dtype = subject.dtype if question.image.dtype.is_floating else question.image.dtype  # no half precision
    fed = {question.image.name: tf.cast(entry.to_model(images, subject.dtype), dtype)}
    for tensor in (*question.others, *question.unfed):
        name = subject.graph.feeds[tensor.name]
        value = tf.constant(problem.constants[name], tensor.dtype)
        fed[tensor.name] = tf.repeat(value, len(images), axis=0) if name in problem.repeated else value
    return fed


def _values(subject: Prepared, part: Original) -> Mapping[str, tf.Tensor]:
    """The values of its variables; those that a flat graph does without are read now."""
    missing = [name for name in part.variables if name not in subject.read]
    if not missing:
        return subject.read
    more = weights.load(Path(subject.options.path), missing, entries(subject.meta))
    return {**subject.read, **more}


# -- what is warned of


def _given_up(without: tuple[str, ...], against: Witness) -> str:
    return f"the step {' and '.join(without)} changes the numbers ({against}) and is left out: slower, and right"


def _dependent(subject: Prepared, beside: Witness, random: bool, alone: bool) -> str | None:
    if random:
        return (
            "the model is random (dropout, noise or augmentation left on?): the same image gives another map each time; "
            "export it for inference, or explain a tensor before that with --output NAME"
        )
    if not beside.failed:
        return None
    done = "so images are run one by one" if alone else "so each is given beside copies of itself"
    return (
        f"the scores of an image change with its neighbours (batch norm in training mode?), {done} ({beside}); "
        "export the model for inference, in Keras as a function that calls model(images, training=False)"
    )


def _in_rows(subject: Prepared, trial: _Trial, count: int) -> str | None:
    """Several rows of scores for each image are no numbers that its neighbours change."""
    rows, left = divmod(len(trial.measured.scores) if trial.measured else 0, count)
    if rows < 2 or left:
        return None
    return (
        f"the output {subject.question.output.key} has {rows} rows for each image: they are read as a sequence, a class "
        "summed over the rows that it wins, and images are run one by one; choose another tensor with --output NAME, or "
        "the model's own size with --input-size HxW where that is open"
    )


def _independence(subject: Prepared, trial: _Trial, images: Array) -> Witness:
    if len(images) < 2:
        return Witness("independence", said="the model takes one image at a time")
    if subject.random:
        return Witness("independence", said=DRAWN)
    if trial.measured is None:
        return Witness("independence", said="the model fails on generated images")
    entry, measure = subject.problem.entry, trial.measure
    if entry.batch:  # beside others
        others = scenes(entry, _span(subject), len(images) - 1, SEED + 1)
        return witnesses.independence(
            trial.measured.scores[:1], measure(np.concatenate([images[:1], others])).scores[:1]
        )
    last = _last(images)
    scores = witnesses.independence(trial.measured.scores[-1:], measure(last).scores)
    if not scores.failed and _sums_over_images(subject, trial.differentiator.graph):
        scores = _of_faint(subject, measure, images) or scores
    if scores.failed or not any(map(_replaced, _on_the_way(subject, trial.differentiator.graph))):
        return scores
    # A gradient of the model's own may mix what the scores keep apart.
    return witnesses.independence(measure.gradient(images)[-1:], measure.gradient(last))


def _of_faint(subject: Prepared, measure: Measure, images: Array) -> Witness | None:
    """What fails where the images are dark: weights that are mixed by a softmax move there, and are 0 or 1 elsewhere."""
    low = _span(subject)[0]
    for part in FAINT:
        faint = (low + (images - low) * part).astype(images.dtype)
        found = witnesses.independence(measure(faint).scores[-1:], measure(_last(faint)).scores)
        if found.failed:
            return found
    return None


def _sums_over_images(subject: Prepared, graph: Graph) -> bool:
    """Whether some tensor on the way is summed over its first axis, which the images of a call mostly lie along."""
    sums = (node for nodes in _on_the_way(subject, graph)[:1] for node in nodes.values() if node.op in SUMMING)
    axes = (constant(graph.nodes, source(node, 1)) for node in sums)
    return any(one is not None and 0 in np.ravel(one) for one in axes)


def _last(images: Array) -> Array:
    """It also has another place in the call than an image alone."""
    return images[-1:]


def _slope(subject: Prepared, trial: _Trial, images: Array, thorough: bool) -> Witness:
    entry = subject.problem.entry
    if trial.measured is None:
        return Witness("slope", said="the model fails on generated images")
    if not thorough and not _is_suspect(subject, trial.differentiator.graph):
        return Witness("slope", said="not needed, as every gradient on the way is TensorFlow's own")
    if subject.jumps:
        return Witness("slope", said="not run, as an activation jumps")
    if subject.guessed:
        return Witness("slope", said="not run, as the pixel range is a guess; settle it with --preprocess")
    if entry.encoding != "pixels" or trial.measured.scores.shape[1] > 1 or len(images) > 1:
        return Witness("slope", said="the scores are a map, a batch or of encoded images")
    gradient = np.asarray(entry.from_model(trial.measure.gradient(images)), np.float64)
    if gradient.shape != images.shape or not np.isfinite(gradient).all() or not gradient.any():
        return Witness("slope", said=f"the gradient is {list(gradient.shape[1:])}, zero or not finite")
    low, high = _span(subject)
    slope = Slope(
        images,
        gradient,
        int(trial.measured.index[0]),
        high - low,
        trial.measure.whole,
        _is_staircase(subject, trial.differentiator.graph),
    )
    of_image = trial.differentiator.graph.wrt == subject.problem.fed
    return slope.judged(trial.measure) if of_image else slope.turned(trial.measure)


def _span(subject: Prepared) -> tuple[float, float]:
    return span(subject.preprocess, subject.options)


def _is_suspect(subject: Prepared, graph: Graph) -> bool:
    """Whether some gradient on the way is not the derivative that TensorFlow has for an operation."""
    return any(map(_replaced, _on_the_way(subject, graph))) or subject.problem.entry.whole


def _is_staircase(subject: Prepared, graph: Graph) -> bool:
    return any(node.op in STAIRCASES for nodes in _on_the_way(subject, graph) for node in nodes.values())


def _on_the_way(subject: Prepared, graph: Graph) -> list[Mapping[str, NodeDef]]:
    """The nodes between image and score, those of each function by themselves."""
    path = value_path(graph.nodes, [split(subject.problem.fed)[0]], [graph.score])
    on_path = {name: graph.nodes[name] for name in path}
    return [on_path, *(function.nodes for function in graph.functions.values())]


def _replaced(nodes: Mapping[str, NodeDef]) -> bool:
    return any(
        node.op in STAIRCASES | {"Sign"}
        or is_substitute(node)
        and nodes.get(maker_name(node.input[0]), node).op not in STOPPED
        for node in nodes.values()
    )


def _unnamed(subject: Prepared, trial: _Trial) -> str | None:
    """Of an output that is not what it is taken for: a list of ranks, a probability that was not found to be one."""
    if trial.measured is None or subject.question.ranked or trial.measured.scores.shape[1] > 1:
        return None
    scores = trial.measured.scores[:, 0]
    if witnesses.is_sorted(scores):
        return f"{subject.graph.score} is sorted: a place in it is a rank and no class; another tensor is chosen with --output"
    unasked = subject.options.score == "logit" and subject.options.output is None and subject.question.head is None
    if unasked and not subject.probability and witnesses.are_probabilities(scores):
        return (
            f"{subject.graph.score} is a probability whose logits were not found, and its gradient fades where the model is "
            "sure; choose the logits with --output NAME, or keep it with --score output"
        )
    return None


def _no_slope(sloping: Witness) -> str | None:
    if not sloping.failed:
        return None
    return (
        f"the gradient is not the slope of the score ({sloping}): the model rounds, or has gradients of its own; maps show "
        "what these say"
    )
