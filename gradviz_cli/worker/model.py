"""One SavedModel, ready to differentiate.

    folder -> Opened -> ask -> Asked (graph, question) -> load -> Prepared (weights, input) -> build -> Differentiator

Everything that changes a graph on this way is a step in one of the tuples below, in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import GradvizError, ModelUnusable, ProofFailed
from gradviz_cli.estimators import ESTIMATORS, USUAL, Estimation, Taps, estimators_of, kinds_of, modes_of
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import Facts, ModelOptions, Proof, check_size
from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES
from gradviz_cli.worker.analysis import activations, policy
from gradviz_cli.worker.analysis.chance import find_chance
from gradviz_cli.worker.analysis.detections import Look
from gradviz_cli.worker.analysis.geometry import check_start
from gradviz_cli.worker.analysis.heads import Setting, find_head, hidden_probability
from gradviz_cli.worker.analysis.image import find_entry, find_preprocess, other_inputs, repeated
from gradviz_cli.worker.analysis.kernels import kernels, with_weights
from gradviz_cli.worker.analysis.own_gradients import lost_warning, passed_by
from gradviz_cli.worker.analysis.readings import read_scores
from gradviz_cli.worker.analysis.unfed import settle_unfed, unfed, unfed_warning
from gradviz_cli.worker.graph.device import on_gpu
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.steps import Check, Step, doing, run_steps
from gradviz_cli.worker.graph.tf_private import allow_races
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.graph.words import described
from gradviz_cli.worker.passes.batch_axis import batch_axis
from gradviz_cli.worker.passes.batch_norm import batch_norm
from gradviz_cli.worker.passes.constants import constants
from gradviz_cli.worker.passes.detections import detections
from gradviz_cli.worker.passes.equal_forms import equal_forms
from gradviz_cli.worker.passes.fast_products import fast_products
from gradviz_cli.worker.passes.fixed_chance import check_twins, fixed_chance
from gradviz_cli.worker.passes.float32 import float32, values
from gradviz_cli.worker.passes.float_image import float_image
from gradviz_cli.worker.passes.functionalize import functionalize
from gradviz_cli.worker.passes.logits import logits
from gradviz_cli.worker.passes.mark import mark
from gradviz_cli.worker.passes.onednn import without_strided_points
from gradviz_cli.worker.passes.own_gradients import own_gradients
from gradviz_cli.worker.passes.partial_gradients import partial_gradients
from gradviz_cli.worker.passes.products import without_broadcasts
from gradviz_cli.worker.passes.start import start
from gradviz_cli.worker.passes.unfused import unfused
from gradviz_cli.worker.proof.probes import scenes, span
from gradviz_cli.worker.proof.prove import SEED, Begun, begun, measured_ahead, proof_of, proved
from gradviz_cli.worker.read import frozen, objects, savedmodel, signatures, weights
from gradviz_cli.worker.read.entries import entries
from gradviz_cli.worker.read.question import check_loops, check_tables, settle
from gradviz_cli.worker.read.savedmodel import Saved
from gradviz_cli.worker.run.asking import Subject, estimated, forms, is_plain, looked_at
from gradviz_cli.worker.run.differentiate import AT_ONCE, OTHER_ENDS, Differentiator, calls
from gradviz_cli.worker.run.kernels import lacking
from gradviz_cli.worker.run.parallel import Calls, is_quicker_in_bfloat16
from gradviz_cli.worker.run.prepared import Prepared
from gradviz_cli.worker.run.redraw import Redrawn
from gradviz_cli.worker.run.targets import Explained, Problem, Sampled, joined
from gradviz_cli.worker.taps import TAPS, unpatched


def reading_steps(allow: Sequence[str] = (), trust: bool = False) -> tuple[Step[None], ...]:
    """Before it is settled which tensors are asked for: the names and types that it is settled by.

    Of the model's own gradients only those are kept that may run: `allow` and `trust` are for the policy.
    """

    def settled_gradients(graph: Graph, question: None) -> Graph:
        return own_gradients(graph, allow, trust)

    return (
        Step(
            "functionalize", functionalize, "inside a function only loops and branches of TensorFlow 2 have a gradient"
        ),
        Step("unfused", unfused, "a ReLU inside of a convolution would be none"),
        Step("float32", float32, "in half precision small gradients vanish, and no rounding of them is the right one"),
        Step(
            "own_gradients", settled_gradients, "a gradient of the model's own counts, where it is no mere derivative"
        ),
    )


READING_STEPS = reading_steps()
# Once it is settled, before the policy has judged the graph: nothing is given to TensorFlow here.
ASKING_STEPS: tuple[Step[Question], ...] = (
    Step("float_image", float_image, "a Cast of whole pixels would cut the gradient"),
)
# With the weights.
LOADING_STEPS: tuple[Step[Question], ...] = (
    Step("values", values, "weights stored in half precision are read as float32"),
    Step("products", without_broadcasts, "a kernel of oneDNN corrupts the heap where a product of matrices broadcasts"),
    Step("batch_axis", batch_axis, "one image alone would lose the axis that several have"),
    Step("start", start, "an encoded image has no gradient, the first numbers that it becomes have one"),
)
# With what the output lists.
DETECTING_STEPS: tuple[Step[Question], ...] = (
    Step("detections", detections, "boxes are no classes, and of many detections one is explained"),
)
# With the head that was found.
SCORING_STEPS: tuple[Step[Question], ...] = (
    Step("logits", logits, "the gradient of a probability says how sure the model is; that of its logit says why"),
)
# For the gradient, again for other weights.
BUILDING_STEPS: tuple[Step[Question], ...] = (
    Step("mark", mark, "the rule acts on activations, before anything hides how they are spelled"),
    Step("fixed_chance", fixed_chance, "a map depends on nothing but its image, also where dropout was left on"),
    Step("equal_forms", equal_forms, "some operations have no gradient, others no kernel of it on this machine"),
    Step("strided_points", without_strided_points, "a kernel of oneDNN corrupts the heap in their gradient"),
    Step("constants", constants, "what depends on weights alone is computed once and not for every image"),
    Step("batch_norm", batch_norm, "scale and shift of a channel cost nothing inside the kernel before them"),
    Step("fast_products", fast_products, "of one image, kernels and gaps cost more than the products"),
    Step(
        "partial_gradients", partial_gradients, "nobody asks for the gradients of weights, and they take long to write"
    ),
)
STEPS = (*READING_STEPS, *ASKING_STEPS, *LOADING_STEPS, *DETECTING_STEPS, *SCORING_STEPS, *BUILDING_STEPS)

# What puts weights into others, so that they could not be drawn anew.
MOVING_WEIGHTS = ("batch_norm", "constants", "fast_products")
# What is done with a rewritten graph before its gradients are built.
Begin = Callable[[Differentiator], None]

RACING = (
    "a GPU has no kernel for part of this model that gives the same bits each time, so pictures may differ in the last bits from "
    "run to run; settle it with CUDA_VISIBLE_DEVICES=-1, which lets the processors compute"
)
# A graph of fewer is read before anything else could be ready.
MANY_NODES = 800

OBEYING = ", or use --activations all to let these obey the rule too"


@dataclass(frozen=True)
class Opened:
    """The files of a model as data, and the meta graph that is meant."""

    saved: Saved
    meta: MetaGraphDef

    @property
    def nodes(self) -> int:
        """How many the graph has, in its functions too."""
        graph = self.meta.graph_def
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


@dataclass(frozen=True)
class Asked:
    """A model narrowed down to one question. Data only: no weight is read, nothing was given to TensorFlow."""

    options: ModelOptions
    opened: Opened
    graph: Graph
    question: Question


def open_folder(options: ModelOptions) -> Opened:
    """Read the graph of a model, once.

    Raises
    ------
    ModelUnusable, ModelRefused, UsageError
        The files are missing or damaged, or hold no such tag.
    """
    with doing("reading the files"):
        path = Path(options.path)
        saved = frozen.read(path) if path.is_file() else savedmodel.read(path)
        return Opened(saved, objects.with_signatures(signatures.choose_meta(saved, options.tag)))


def ask(opened: Opened, options: ModelOptions, check: Check | None = None) -> Asked:
    """Settle the question: which image, which score.

    Raises
    ------
    ModelUnusable, ModelRefused, UsageError
        The choice is not clear; the score does not depend on the image; the graph contradicts itself.
    """
    with doing("reading the graph"):
        steps = reading_steps(options.allow_ops, options.trust_model)
        graph, question = settle(opened.meta, options, lambda whole: run_steps(whole, None, steps, check))
    graph = run_steps(graph, question, ASKING_STEPS, check)
    with doing("following the image to the score", graph):
        check_loops(graph, question)
        check_tables(graph)
    return Asked(options, opened, graph, question)


def _weights(asked: Asked) -> dict[str, tf.Tensor]:
    with doing("reading the weights"):
        variables = [*asked.graph.weights.values(), *asked.graph.handles.values()]
        return weights.load(Path(asked.options.path), variables, entries(asked.opened.meta))


def load(asked: Asked, check: Check | None = None) -> Prepared:
    """Judge the graph, read its weights, and find out how pictures enter it.

    Raises
    ------
    ModelUnusable, ModelRefused, UsageError
        An operation may not run; weights are missing; the input is no picture's; an option contradicts the model.
    """
    options, question, graph = asked.options, asked.question, asked.graph
    with doing("judging the graph", graph):
        policy.judge_operations(graph, options.allow_ops, options.trust_model)
    with ThreadPoolExecutor(1, "weights") as beside:
        reading = beside.submit(_weights, asked)
        with doing("judging its sizes", graph):
            policy.check_room(graph)
        read = reading.result()
    graph = run_steps(replace(graph, values=read), question, LOADING_STEPS, check)
    with doing("looking at the input", graph):
        entry, size_warning = find_entry(graph, question, options)
        check_size(*entry.size, entry.channels)  # before images of that size are generated
        others, zeros = settle_unfed(
            graph, question, entry, other_inputs(graph, question, options), unfed(question, options)
        )
    with doing("looking at what the output lists", graph):
        question, reading_warning = read_scores(Look(graph, question, entry, others), options)
    graph = run_steps(graph, question, DETECTING_STEPS, check)
    graph, question, score_warning = _scored(graph, question, options, Setting.of(entry, others), check)
    with doing("looking at the image's way to the score", graph):
        found = activations.find_all(graph, question)
        chance = find_chance(graph, others)
        check_twins(chance.drawn)
        start_warning = check_start(graph, question, entry, others)
        preprocess, range_warning = find_preprocess(graph, question, options, entry, others)
        problem = Problem(
            fed=question.fed(graph),
            entry=entry,
            constants=others,
            repeated=repeated(graph, question, others),
            shape=question.output.shape if question.output.dtype.is_floating else None,
            at=options.at or question.at,
            everywhere=question.channel is not None,
            channel=question.channel,
            detections=question.detections,
            box=int(question.detections is not None) if options.box_of is None else options.box_of,
            one_detection=bool(options.box_of),
            competing=question.head is not None and "softmax" in question.head.name,
            part=question.head.part if question.head and not question.detections else None,
        )
    assumed = (
        *asked.opened.saved.warnings,
        chance.warning,
        lost_warning(graph, question),
        size_warning,
        start_warning,
        range_warning if entry.takes_pictures else None,  # of other planes it is said with the first file
        unfed_warning(zeros),
        reading_warning,
        score_warning,
    )
    return Prepared(
        options,
        graph,
        question,
        problem,
        found,
        preprocess,
        guessed=range_warning is not None,
        random=bool(chance.drawn),
        probability=score_warning is not None,
        warnings=tuple(warning for warning in (*assumed, _slow(options)) if warning),
        meta=asked.opened.meta,
        read=read,
        assumed=size_warning,
        unfed=unfed_warning(zeros),
    )


def _scored(
    graph: Graph, question: Question, options: ModelOptions, setting: Setting, check: Check | None
) -> tuple[Graph, Question, str | None]:
    """The graph with its score before the softmax or sigmoid that ends it, and a warning of one that has to stay."""
    labelled = question.detections and question.detections.labelled
    if options.score == "output" or question.channel is not None or labelled:
        return graph, question, None
    with doing("looking at the score", graph):
        question = replace(question, head=find_head(graph, question, setting))
    graph = run_steps(graph, question, SCORING_STEPS, check)
    with doing("looking at the score", graph):
        asked = options.output or question.detections
        warning = None if asked else hidden_probability(graph, question, setting)
    return graph, question, warning


def prepare(
    options: ModelOptions, check: Check | None = None, seen: Callable[[Opened], None] = lambda opened: None
) -> Prepared:
    """All that has to be done once for a model, whatever is asked of its gradients. `seen` is told of its files first. Raises
    as its parts do."""
    opened = open_folder(options)
    seen(opened)
    return load(ask(opened, options, check), check)


def build(
    prepared: Prepared,
    methods: Sequence[str],
    targets: int = 1,
    values: Mapping[str, np.ndarray | tf.Tensor] | None = None,
    check: Check | None = None,
    proof: Proof | None = None,
    begin: Begin | None = None,
) -> Differentiator:
    """The gradients of a prepared model.

    Parameters
    ----------
    methods, targets
        What they are built for ahead of the first image: modes or methods, and so many targets at once.
    values : mapping, optional
        Variable -> value in place of the one that was loaded, of the same shape.
    proof : Proof, optional
        What was found when the model was proved.
    begin : callable, optional
        Called with what runs the rewritten graph, before its gradients are built.

    Raises
    ------
    ModelUnusable
        No gradient reaches the image, or nothing obeys the rule.
    ValueError
        There is no such variable, or it has another shape.
    """
    check_patched(prepared.options.path, prepared.found, methods)
    if values:
        graph = run_steps(_with_values(prepared.graph, values), prepared.question, LOADING_STEPS, check)
        prepared = replace(prepared, graph=graph, found=activations.find_all(graph, prepared.question))
    problem = proved(prepared.problem, proof)
    try:
        return _differentiator(prepared, proof.without if proof else (), problem, check, methods, targets, begin)
    except ModelUnusable as error:
        for assumed in filter(None, (prepared.assumed, prepared.unfed)):  # then the model need not be at fault
            error.message = f"{error.message} ({assumed})"
        raise


def prove(
    prepared: Prepared,
    usual: Differentiator,
    ahead: Begun,
    methods: Sequence[str],
    targets: int = 1,
    check: Check | None = None,
    thorough: bool = False,
) -> tuple[Differentiator, Proof]:
    """Prove what `build` gave for these methods and targets: the gradients to take from now on, and what was found.

    Raises
    ------
    ProofFailed
        What gradviz computes of the model is not what TensorFlow computes.
    """

    def build_without(steps: Sequence[str], problem: Problem) -> Differentiator:
        return _differentiator(prepared, steps, problem, check, methods, targets)

    with doing("proving the model"):
        return proof_of(prepared, usual, ahead, build_without, thorough)


def _differentiator(
    prepared: Prepared,
    without: Sequence[str],
    problem: Problem,
    check: Check | None,
    methods: Sequence[str],
    targets: int,
    begin: Begin | None = None,
) -> Differentiator:
    """Of the rewritten graph, but for the steps that are left out, with its gradients built."""
    graph = _rewritten(prepared, without, check, prepared.found)
    with doing("building the gradient", graph):
        differentiator = Differentiator(graph, problem)
        if begin:
            begin(differentiator)
        differentiator.build(forms(methods, targets))
    return differentiator


def _rewritten(
    prepared: Prepared, without: Sequence[str], check: Check | None, found: activations.Found | None = None
) -> Graph:
    """The graph with its inner tensors, after all steps for the gradient but some."""
    usual = [step for step in BUILDING_STEPS if step.name not in without]
    steps = [replace(step, function=partial(mark, found=found)) if step.function is mark else step for step in usual]
    tensors = [name for taps in prepared.taps for name in taps.tensors]
    graph = prepared.graph.tapped(tensors) if tensors else prepared.graph
    return run_steps(graph, prepared.question, steps, check)


def build_redrawn(
    prepared: Prepared, methods: Sequence[str], targets: int = 1, check: Check | None = None, proof: Proof | None = None
) -> Redrawn:
    """The gradients of a prepared model whose kernels can be drawn anew; as `build`.

    Steps that put kernels into other weights are left out.
    """
    held = replace(prepared, graph=with_weights(prepared.graph, prepared.question))
    without = {*MOVING_WEIGHTS, *(proof.without if proof else ())}
    graph = _rewritten(held, tuple(without), check, prepared.found)
    with doing("looking for kernels", graph):
        found = kernels(graph, prepared.question)
    with doing("building the gradient", graph):
        changeable = [kernel.node for kernel in found]
        differentiator = Differentiator(graph, proved(prepared.problem, proof), changeable)
        differentiator.build(forms(methods, targets))
    return Redrawn(differentiator, found)


def tapped(prepared: Prepared, methods: Sequence[str], estimation: Estimation) -> Prepared:
    """The same with the inner tensors that these methods are made of.

    Raises
    ------
    UsageError, ModelUnusable
        The model has none that are fit.
    """
    with doing("looking for inner tensors", prepared.graph):
        looked = [_tapped(kind, prepared, methods, estimation) for kind in kinds_of(methods)]
        warnings = [one for taps, warning in looked for one in (warning, unpatched(prepared, taps, methods))]
    return replace(
        prepared, taps=tuple(taps for taps, _ in looked), warnings=(*prepared.warnings, *filter(None, warnings))
    )


def _tapped(kind: str, prepared: Prepared, methods: Sequence[str], estimation: Estimation) -> tuple[Taps, str | None]:
    """Inner tensors of one kind; who asks for several estimators hears which of them cannot be had."""
    try:
        return TAPS[kind](prepared, estimation)
    except ModelUnusable as error:
        asked = {name: ESTIMATORS[name].taps == kind for name in estimators_of(methods)}
        if not all(asked.values()):
            lacking = ", ".join(name for name, lacks in asked.items() if lacks)
            known = any(f"-e {name} " in error.remedy for name in asked)  # what would do is asked for already
            error.message = f"{lacking}: {error.message}"
            error.remedy = f"leave {lacking} out of --estimator" + ("" if known else f"; {error.remedy}")
        raise


def _measured(prepared: Prepared, differentiator: Differentiator) -> Prepared:
    """The same with the sizes of inner tensors that only running the model tells."""
    if all(min(taps.size) for taps in prepared.taps):
        return prepared
    with doing("measuring inner tensors"):
        ends = span(prepared.preprocess, prepared.options)
        values = differentiator.look(scenes(prepared.problem.entry, ends, 1, SEED)[0], [-1], (), (PLAIN,)).values
    taps, start = [], 0
    for one in prepared.taps:
        taps.append(
            one if min(one.size) else replace(one, size=tuple(values[start].shape[axis] for axis in one.axes[:2]))
        )
        start += len(one.tensors)
    return replace(prepared, taps=tuple(taps))


def _with_values(graph: Graph, values: Mapping[str, np.ndarray | tf.Tensor]) -> Graph:
    given = {name: tf.convert_to_tensor(value) for name, value in values.items()}
    for name, value in given.items():
        if name not in graph.values or graph.values[name].shape != value.shape:
            known = ", ".join(f"{one} {list(other.shape)}" for one, other in sorted(graph.values.items()))
            raise ValueError(f"no variable {name} of shape {list(value.shape)}; there are {known}")
    return replace(graph, values={**graph.values, **given})


def check_patched(path: str, found: activations.Found, methods: Sequence[str]) -> None:
    """deconv and guided need something to act on; the plain gradient under their name would be a lie."""
    strict = [mode for mode in modes_of(methods) if RULES[mode].changes_gradient]
    if not strict or found.patched:
        return
    left = found.left
    beside = {"gates": found.gates, "clips of the image": found.cleanings}
    others = ", ".join(f"{count} {name}" for name, count in {**left, **beside}.items() if count)
    curves = ", ".join(f"{count} {name}" for name, count in found.curves.items())
    seen = others or (f"{curves}, which no mode has a rule for" if curves else "no other activation")
    raise ModelUnusable(
        f"{path}: no ReLU lies between the image and the score ({seen}), "
        f"so {' and '.join(strict)} would be the plain gradient",
        _without_patches(methods) + (OBEYING if left else ""),
    )


def _without_patches(methods: Sequence[str]) -> str:
    """What asks for no patched gradient: another mode, unless an estimator takes such a gradient whatever its mode is."""
    fixed = [
        name for name in estimators_of(methods) if any(RULES[mode].changes_gradient for mode in ESTIMATORS[name].beside)
    ]
    return f"leave --estimator {', '.join(fixed)} out" if fixed else f"use --mode {PLAIN}"


def facts(prepared: Prepared, classes: int | None) -> Facts:
    """What the command has to know; `classes` is the Differentiator's."""
    question, graph, entry = prepared.question, prepared.graph, prepared.problem.entry
    return Facts(
        signature=question.signature,
        why=question.why,
        input=replace(question.image.facts, layout=entry.layout, encoding=entry.encoding),
        output=question.output.key,
        score=graph.score,
        bypassed=question.head.bypassed if question.head else None,
        bypassed_as=question.head.name if question.head else None,
        channel=question.channel,
        classes=classes,
        size=entry.size,
        channels=entry.channels,
        preprocess=prepared.preprocess,
        activations=prepared.found.counts,
        gates=prepared.found.gates,
        custom_gradients=graph.custom_gradients,
        passed_by=passed_by(graph, question, prepared.found),
        reading=question.reading,
        positions=question.positions,
        ranked_by=_ranked_by(prepared),
        warnings=prepared.warnings,
        alpha=entry.alpha,
        taps=prepared.taps,
        gpu=on_gpu(),
    )


def _ranked_by(prepared: Prepared) -> str | None:
    """What the sums over positions are ranked by: of logits, which may be below 0, more of them may sum to less."""
    problem = prepared.problem
    if not prepared.question.positions or problem.box or problem.everywhere:
        return None
    return "summed output" if problem.detections else "positions won"


class Model:
    """A loaded model, as the worker holds it. Built once; `explain` may be called any number of times.

    Parameters
    ----------
    methods, targets
        What its gradients are built for ahead of the first image: modes or methods, and so many targets at once. Only the
        inner tensors that these are made of are there for `explain`.
    verified : bool
        The graph is verified after each step.
    proof : Proof
        What was found when the model was proved before, if it was.
    estimation : Estimation
        Which inner tensors are meant.
    redrawn : bool
        Its kernels will be drawn anew.
    proving : bool
        It will be proved: what TensorFlow itself makes of it is computed from the start.
    together : int, optional
        Images that share a call on a GPU; as many as suit one unless given.
    """

    def __init__(
        self,
        options: ModelOptions,
        methods: Sequence[str] = (DEFAULT_MODE,),
        targets: int = 1,
        verified: bool = False,
        proof: Proof | None = None,
        estimation: Estimation = USUAL,
        redrawn: bool = False,
        proving: bool = False,
        together: int | None = None,
    ):
        check = verify if verified else None
        self._calls = Calls(options.precision)  # before TensorFlow computes anything
        prepared = _shared(tapped(prepare(options, check, self._warm_up), methods, estimation), together)
        self._asked = methods, targets, check
        self._raced = False  # kernels that add in any order may be used
        self._worked = False  # a gradient was computed, so that whatever fails from now on is an image's fault
        self._prepared: Prepared | None = prepared  # until the first image, or until it is proved
        self._proof, self._will_redraw = proof, redrawn
        self._redrawn: Redrawn | None = None
        self._path, self._found, self._problem = options.path, prepared.found, prepared.problem
        self._together, self._in_turn = prepared.problem.together, False
        self._ends = span(prepared.preprocess, options)
        self._rest: dict[str, np.ndarray] = {}
        self._guard = Lock()
        check_patched(options.path, prepared.found, methods)  # a model that is refused need not run
        self._ahead = begun(prepared) if proving else None
        self._differentiator = build(prepared, methods, targets, check=check, proof=proof, begin=self._measure_ahead)
        if on_gpu():
            prepared = self._with_its_bits(prepared)
        prepared = self._prepared = _measured(prepared, self._differentiator)
        self._taps = prepared.taps
        self.facts = facts(prepared, self._differentiator.classes)

    def _warm_up(self, opened: Opened) -> None:
        if opened.nodes > MANY_NODES:
            self._calls.warm_up()

    def _measure_ahead(self, differentiator: Differentiator) -> None:
        if self._ahead and self._prepared:
            self._ahead = measured_ahead(self._prepared, differentiator, self._ahead)

    def prove(self, thorough: bool = False) -> Proof:
        """Prove the model, before the first image. Raises ProofFailed, as `prove` above."""
        assert self._prepared is not None, "a model is proved once, before it explains"
        methods, targets, check = self._asked
        prepared = self._prepared
        with doing("proving the model"):
            ahead, self._ahead = self._ahead or begun(prepared), None
        self._differentiator, self._proof = prove(
            prepared, self._differentiator, ahead, methods, targets, check, thorough
        )
        if not self._will_redraw:
            self._prepared = None
        return self._proof

    def _allow_races(self, error: Exception) -> bool:
        """Whether it failed as a GPU has no kernel that gives the same bits each time. From then on others do."""
        refused = isinstance(error, tf.errors.UnimplementedError) and "determinis" in str(error).lower()
        if self._raced or not refused or not on_gpu():
            return False
        allow_races()
        self._raced = True
        return True

    def _with_its_bits(self, prepared: Prepared) -> Prepared:
        """The same, with a warning where a GPU cannot give it the same bits each time. Only computing tells: some kernels add in
        any order, and refuse to where that is not allowed."""
        try:
            self._compute_one(self._generated(), self._together)
        except tf.errors.OpError as error:
            self._allow_races(error)
        except GradvizError:  # it is said when it is asked for
            return prepared
        if not self._raced:
            return prepared
        self._ahead = begun(prepared) if self._ahead else None
        return replace(prepared, warnings=(*prepared.warnings, RACING))

    def _generated(self) -> np.ndarray:
        return scenes(self._problem.entry, self._ends, 1, SEED)

    def _compute_one(self, images: np.ndarray, together: int | None = None) -> None:
        """Whatever gradients the methods asked for are made of."""
        methods, targets, _ = self._asked
        ranks = [-1] * min(targets, AT_ONCE)
        if is_plain(methods):
            self._gradients(images, [ranks], methods, True, False, together)
            return
        look = self._differentiator.look(images[0], ranks, *looked_at(methods))
        for form in forms(methods, targets):
            if isinstance(form, Sampled):
                self._differentiator.sample(images, look.seeds, form.modes)

    def try_gradient(self) -> None:
        """Compute a gradient of a generated image, so that what the model lacks here is known before any other. Raises
        ProofFailed."""
        images = self._generated()
        try:
            self._compute_one(images)
            self._worked = True
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:  # as on some image, unless no image is to blame
            if fault := self._fault(error, images):
                raise ProofFailed(fault, OTHER_ENDS) from error

    def redraw(self, count: int) -> tuple[str, ...]:
        """Let the `count` kernels nearest to the score be random from now on, and the others learnt; the names of all.

        To be called before the first image.
        """
        if self._redrawn is None:
            assert self._prepared is not None and self._will_redraw, "a model says ahead that it will be redrawn"
            methods, targets, check = self._asked
            self._redrawn = build_redrawn(self._prepared, methods, targets, check, self._proof)
            self._differentiator = self._redrawn.differentiator
            self._prepared = None
        with doing("drawing kernels anew"):
            self._redrawn.draw(count)
        self._rest.clear()
        return self._redrawn.names

    def _lacking(self, error: tf.errors.OpError, images: np.ndarray) -> str | None:
        """What of the model cannot be computed; None where some gradient could, or that of a generated image."""
        fault = None if self._worked else self._fault(error, images)
        if fault:
            try:
                self.try_gradient()
            except ProofFailed as same:
                return same.message
        return None if self._worked else fault

    def _fault(self, error: tf.errors.OpError, images: np.ndarray) -> str | None:
        """What cannot be computed of these images, where that is not for their sake."""

        def forward() -> None:  # not side by side: a thread of those may be asking
            for image in np.split(images, len(images)):
                self._differentiator.explain(image, [-1], [])

        return lacking(error, self._differentiator.graph, forward)

    def explain(
        self,
        images: np.ndarray,
        targets: Sequence[int],
        methods: Sequence[str],
        scores: bool = True,
        estimation: Estimation = USUAL,
        baselines: np.ndarray | None = None,
        own: bool = False,
    ) -> Explained:
        """Maps [t, n, h, w, c] for images float32 [n, h, w, c], and for baselines beside them, in the range that the model
        expects. Methods are modes, or MODE.ESTIMATOR. With `own`, each image has one of the targets."""
        wanted = [[target] for target in targets] if own else [targets] * len(images)
        self._prepared = None
        check_patched(self._path, self._found, methods)
        try:
            if is_plain(methods):
                found = self._gradients(images, wanted, methods, scores, own)
            else:
                found = self._estimates(images, wanted, tuple(methods), estimation, baselines)
            self._worked = True
            return found
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(described(error)) from error
        except tf.errors.OpError as error:
            if self._allow_races(error):  # a method that was not asked for ahead
                return self.explain(images, targets, methods, scores, estimation, baselines, own)
            if fault := self._lacking(error, images):
                raise ModelUnusable(fault, OTHER_ENDS) from error
            raise

    def _gradients(
        self,
        images: np.ndarray,
        targets: Sequence[Sequence[int]],
        modes: Sequence[str],
        scores: bool,
        own: bool,
        together: int | None = None,
    ) -> Explained:
        """`targets` of each image, which are the same for all unless each has its `own`; with `together` images of a call."""

        def explained(part: tuple[np.ndarray, int]) -> Explained:
            fed, count = part  # whatever is computed has the same shape, and so every image the same bits
            return self._differentiator.explain(fed, targets[0], modes, scores).first(count)

        def alone(place: int) -> Explained:
            return self._differentiator.explain(images[place : place + 1], targets[place], modes, scores)

        if own:
            return joined(list(self._calls.each(alone, range(len(images)))))
        while True:
            each = map if self._in_turn else self._calls.each
            together = together or self._images_a_call()
            try:
                return joined(list(each(explained, calls(images, together))))
            except tf.errors.ResourceExhaustedError:
                if together == 1:
                    raise
                self._in_turn, self._together = True, self._together // (2 if self._in_turn else 1)
                together = self._together

    def _images_a_call(self) -> int:
        """Images share a call where a GPU computes, and it is proved that they change nothing of each other."""
        if self._together == 1 or self._proof is None or not self._proof.complete or self._differentiator.size:
            return 1
        return self._together

    def _estimates(
        self,
        images: np.ndarray,
        targets: Sequence[Sequence[int]],
        methods: tuple[str, ...],
        estimation: Estimation,
        baselines: np.ndarray | None,
    ) -> Explained:
        """Image by image: side by side, but where the points of one image are many those of it are."""
        subject = Subject(self._differentiator, self._calls, methods, estimation, self._taps, self._resting)

        def explained(place: int) -> Explained:
            return estimated(subject, images[place], None if baselines is None else baselines[place], targets[place])

        sampled = any(ESTIMATORS[name].sampled for name in estimators_of(methods))
        each = map if sampled else self._calls.each
        return joined(list(each(explained, range(len(images)))))

    def _resting(self, image: np.ndarray, tensor: str) -> np.ndarray:
        """The scores where an inner tensor is zero, the same for every image."""
        with self._guard:
            if tensor not in self._rest:
                self._rest[tensor] = self._differentiator.resting(image, tensor)
            return self._rest[tensor]


def _shared(prepared: Prepared, together: int | None) -> Prepared:
    """The same with so many images in a call, or as many as suit it, where a GPU computes."""
    if not on_gpu():
        return prepared
    problem = prepared.problem
    together = together or machine.gpu_batch(*problem.entry.size, problem.entry.channels)
    return replace(prepared, problem=replace(problem, together=together))


def _slow(options: ModelOptions) -> str | None:
    if options.precision == "float32" or is_quicker_in_bfloat16():
        return None
    return "this processor is slower in bfloat16; settle it with --precision float32"
