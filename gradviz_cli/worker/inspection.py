"""What a SavedModel offers and what would be patched, as plain data; no image is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from gradviz_cli.errors import GradvizError, ModelUnusable
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import (
    Chosen,
    Count,
    FoundActivation,
    GradientFacts,
    Inspection,
    ModelOptions,
    RefusedOp,
    SignatureInfo,
    TensorInfo,
    Verdict,
)
from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES
from gradviz_cli.worker import model
from gradviz_cli.worker.analysis import activations, candidates, policy
from gradviz_cli.worker.analysis.activations import Activation, Found
from gradviz_cli.worker.analysis.cam import cam_layers
from gradviz_cli.worker.analysis.regions import SHOWN
from gradviz_cli.worker.graph import device
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.steps import doing
from gradviz_cli.worker.model import Asked
from gradviz_cli.worker.read import signatures
from gradviz_cli.worker.run.parallel import Calls
from gradviz_cli.worker.run.prepared import Prepared


def inspect(options: ModelOptions) -> Inspection:
    """The contract's `inspect --json`, but for the fingerprint.

    Raises
    ------
    ModelUnusable
        The folder cannot be read at all; whatever else is wrong is part of the answer.
    """
    opened = model.open_folder(options)
    told = Inspection(
        tags=tuple(tuple(sorted(one.meta_info_def.tags)) for one in opened.saved.meta_graphs),
        tensorflow_version=opened.meta.meta_info_def.tensorflow_version,
        signatures={name: _signature(one) for name, one in signatures.signatures(opened.meta).items()},
        warnings=opened.saved.warnings,
    )
    try:
        asked = model.ask(opened, options)
        graph, question = asked.graph, asked.question
        with doing("looking for activations", graph):
            found = activations.find_all(graph, question)
            told = _narrowed(told, graph, question, found)
        refused = policy.refused_ops(graph, options.allow_ops)
        told = replace(told, refused_ops=tuple(RefusedOp(op, node) for op, node in refused.items()))
        return _differentiated(told, asked, found)
    except _Stopped as stopped:
        return _with_problem(stopped.told, stopped.error)
    except GradvizError as error:
        return _with_problem(told, error)


LARGEST = 1e18  # of a value that is shown


class _Stopped(Exception):
    """It cannot be explained; what is known all the same."""

    def __init__(self, told: Inspection, error: GradvizError):
        super().__init__(str(error))
        self.told, self.error = told, error


def _with_problem(told: Inspection, error: GradvizError) -> Inspection:
    """What is known of a model that no mode can explain. Only a gradient that was looked for and cut is said to be."""
    cut_at = error.cut_at if isinstance(error, ModelUnusable) else None
    gradient = GradientFacts(False, cut_at) if cut_at else told.gradient
    modes = {mode: Verdict(False, error.message) for mode in RULES}
    return replace(told, gradient=gradient, modes=modes, problem=str(error), problem_kind=type(error).__name__)


def _signature(definition: SignatureDef) -> SignatureInfo:
    return SignatureInfo(_tensors(definition.inputs), _tensors(definition.outputs))


def _tensors(infos: Mapping) -> dict[str, TensorInfo]:
    found = signatures.tensors(infos)
    return {tensor.key: TensorInfo(tensor.name, tensor.dtype.name, tensor.open_shape) for tensor in found}


def _narrowed(told: Inspection, graph: Graph, question: Question, found: activations.Found) -> Inspection:
    """What is explained, and what lies between it and the image."""
    head = question.head
    chosen = Chosen(
        question.signature,
        question.why,
        question.image.facts,
        question.output.key,
        graph.score,
        head.bypassed if head else None,
        bypassed_as=head.name if head else None,
        reading=question.reading,
    )
    return replace(told, chosen=chosen, **_activations(found))


def _activations(found: Found) -> dict[str, Any]:
    """What was found between image and score: counted, and one by one."""
    inside = [(name, one) for name, several in sorted(found.inside.items()) for one in several]
    places: list[tuple[str | None, Activation]] = [*((None, one) for one in found.top), *inside]
    listed = (
        FoundActivation(
            one.name,
            one.entry,
            one.exit,
            function,
            found.obeys(one),
            tuple(map(float, SHOWN)) if one.values else (),
            tuple(min(max(value, -LARGEST), LARGEST) for value in one.values),
        )
        for function, one in places
    )
    return {
        "activations": {name: Count(*counts) for name, counts in sorted(found.counts.items())},
        "gates_left": found.gates,
        "clips_left": found.cleanings,
        "without_rule": dict(sorted(found.curves.items())),
        "found": tuple(listed),
    }


def _differentiated(told: Inspection, asked: Asked, found: Found) -> Inspection:
    """What only building the gradient tells."""
    options, graph, question = asked.options, asked.graph, asked.question
    try:
        with doing("judging the graph", graph):
            policy.judge(graph, options.allow_ops, options.trust_model)  # before TensorFlow sees the graph
    except GradvizError as error:
        raise _Stopped(told, error) from error
    with doing("looking for feature maps", graph):
        told = replace(told, cam_layers=tuple(cam_layers(graph, question, found)))
    try:
        Calls(options.precision)  # as for a run: before TensorFlow computes anything
        prepared = model.load(asked)
        told = _narrowed(told, prepared.graph, prepared.question, prepared.found)
        with doing("looking for what can be named", graph):
            before = prepared.graph.score if prepared.question.head else None
            offered = {
                "input": candidates.inputs(graph, question),
                "output": candidates.outputs(graph, question, before, told.cam_layers),
            }
        told = replace(told, candidates=offered)
        facts = model.facts(prepared, model.build(prepared, (PLAIN,)).classes)
    except GradvizError as error:
        raise _Stopped(told, error) from error
    assert told.chosen is not None  # `_narrowed` has set it
    chosen = replace(
        told.chosen,
        input=facts.input,
        size=facts.size,
        channels=facts.channels,
        preprocess=facts.preprocess,
        classes=facts.classes,
        reading=facts.reading,
        guessed=_guessed(prepared),
    )
    modes = {mode: _verdict(options.path, prepared.found, mode) for mode in RULES}
    warnings = (*facts.warnings_for((DEFAULT_MODE,)), *_idle_gpu())
    told = replace(told, chosen=chosen, gradient=GradientFacts(True), modes=modes, warnings=warnings)
    return replace(told, device=device.name())


def _idle_gpu() -> list[str]:
    """That a GPU is there for nothing: TensorFlow says so in messages that nobody sees. It changes no picture, so runs do not
    say it."""
    if device.on_gpu() or not machine.has_gpu():
        return []
    known = "install its libraries (pip install 'tensorflow[and-cuda]'), or settle it with CUDA_VISIBLE_DEVICES=-1"
    return [f"a GPU is there, but TensorFlow does not see it, and the processors compute; {known}"]


def _guessed(prepared: Prepared) -> tuple[str, ...]:
    """Options for which something was taken that the model does not say."""
    several = len([one for one in prepared.question.outputs if one.dtype.is_floating]) > 1
    taken = {
        "preprocess": prepared.guessed and prepared.problem.entry.takes_pictures,
        "input_size": prepared.assumed is not None,
        "output": several and prepared.options.output is None,
    }
    return tuple(name for name, is_guess in taken.items() if is_guess)


def _verdict(path: str, found: Found, mode: str) -> Verdict:
    """Whether a model whose gradient reaches the image has something that obeys the rule, and what does not."""
    left = " and ".join(f"0 of {count} {name}" for name, count in found.left.items())
    obey = f"{left} obey, add --activations all" if left else "there is no ReLU, use --mode backprop"
    try:
        model.check_patched(path, found, (mode,))
    except ModelUnusable:
        return Verdict(False, obey)
    return Verdict(True, obey if left and RULES[mode].changes_gradient else "")
