"""Meta graph -> the question in it: which image, which score; and the graph between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef

from gradviz_cli.errors import GradvizError, ModelUnusable, UsageError
from gradviz_cli.files.near import did_you_mean
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis import detections, policy
from gradviz_cli.worker.analysis.scores import Decision, decided_from, decision_of, ranked_from
from gradviz_cli.worker.graph.graph import (
    Graph,
    attribute,
    find_tensor,
    placeholder,
    source,
    split,
    tensors_near,
    types_of,
)
from gradviz_cli.worker.graph.match import SHAPE_OPS, through
from gradviz_cli.worker.graph.question import Detections, Question, Tensor, static_tensors
from gradviz_cli.worker.read import signatures
from gradviz_cli.worker.read.ends import ends
from gradviz_cli.worker.read.inline import inline
from gradviz_cli.worker.read.objects import untraced

NO_SIGNATURE = "(none)"
TABLES = frozenset({"HashTable", "HashTableV2"})
# What is done to every graph before anything is looked for in it.
Forms = Callable[[Graph], Graph]


def settle(meta: MetaGraphDef, options: ModelOptions, forms: Forms) -> tuple[Graph, Question]:
    """The question that the options ask, and the graph that it is asked of: `outputs` are the score, the model's own
    output (the same so far), and the placeholder of the image.

    Raises
    ------
    ModelUnusable, UsageError
        The choice is not clear; the score does not depend on the image.
    """
    signature, definition, why = _signature(meta, options)
    inputs, outputs = signatures.tensors(definition.inputs), signatures.tensors(definition.outputs)
    name, channel, at = signatures.parse_name(options.output) if options.output else (None, None, ())
    feeds = {tensor.name: tensor.dtype.as_datatype_enum for tensor in inputs}
    chosen = signatures.choose_output(outputs, name, lambda: _ends(meta, outputs, feeds, forms))
    lists = detections.listed(outputs, chosen) if chosen and channel is None else None
    beside = [tensor.name for tensor in lists[1]] if lists else []
    graph = forms(inline(meta, [chosen.name, *beside] if chosen else [tensor.name for tensor in outputs], feeds))
    keys = [one.key for one in outputs]
    graph, output = (graph, chosen) if chosen else _any_tensor(meta, graph, name or "", feeds, forms, keys)
    if chosen and channel is None and not _are_shares(graph):
        detections.check_no_boxes(chosen, outputs, classes=options.box_of == 0)
    graph, image = _image(graph, inputs, options)
    if image.name not in graph.feeds:
        raise _at_fault(
            options,
            f"the output {output.key} does not depend on the input {image.key}",
            "choose others with --input, --output",
        )
    score = graph.outputs[0] if lists else _score(graph, output)
    found = _found(graph, lists[0], score) if lists else None
    decision = Decision() if lists else decision_of(graph, graph.outputs[0])
    ranked = output.dtype.is_floating and not _decides(decision) and score != graph.outputs[0]
    if score != graph.outputs[0]:
        output = replace(output, shape=None)  # the signature says nothing of the scores
    graph = graph.pruned([score, *graph.outputs[1 : 1 + len(beside)]])
    if image.name not in graph.feeds:
        message = f"the score {score} does not depend on the input {image.key}"
        raise _at_fault(options, message, "choose another with --output")
    unfed = _unfed_placeholders(graph)
    question = Question(
        signature,
        why,
        image,
        output,
        channel,
        others=tuple(tensor for tensor in inputs if tensor.name in graph.feeds and tensor.name != image.name),
        unfed=unfed,
        ranked=ranked,
        coded=bool(decision.scores) and (_decides(decision) if output.dtype.is_floating else decision.coded),
        outputs=tuple(outputs),
        at=at,
        detections=found,
        activations=options.activations,
    )
    outputs_now = (score, score, question.fed(graph), *graph.outputs[1:])
    listed = {**graph.feeds, **{tensor.name: tensor.key for tensor in unfed}}
    return replace(graph, outputs=outputs_now, feeds=listed), question


def _at_fault(options: ModelOptions, message: str, remedy: str) -> GradvizError:
    """What is wrong with what an option chose is not the model's fault."""
    given = {"--input": options.input, "--output": options.output}
    named = ", ".join(f"{option} {name}" for option, name in given.items() if name)
    return UsageError(f"{named}: {message}", remedy) if named else ModelUnusable(message, remedy)


def _ends(
    meta: MetaGraphDef, outputs: list[Tensor], feeds: Mapping[str, int], forms: Forms
) -> Mapping[str, signatures.End]:
    """What each output ends in, by its key; nothing where the graph cannot be read."""
    try:
        graph = forms(inline(meta, [tensor.name for tensor in outputs], feeds))
    except GradvizError:  # said once one is chosen
        return {}
    return {tensor.key: _end(graph, one) for tensor, one in zip(outputs, graph.outputs, strict=True)}


def _end(graph: Graph, output: str) -> signatures.End:
    last = through(graph.nodes, output, SHAPE_OPS)
    node = graph.node(last)
    if node.op in signatures.PROBABILITIES:
        last = through(graph.nodes, source(node, 0), SHAPE_OPS)
    return signatures.End(node.op, last)


def _signature(meta: MetaGraphDef, options: ModelOptions) -> tuple[str, SignatureDef, str]:
    """The signature that is meant; an empty one where there is none, and both its ends are named as tensors."""
    if options.signature is not None or signatures.signatures(meta):
        return signatures.choose_signature(meta, options.signature)
    if options.input and options.output:
        return NO_SIGNATURE, SignatureDef(), "the model has no signature"
    inputs, outputs = ends(meta.graph_def)
    if inputs and outputs:
        raise UsageError(
            f"the model has no signature; its graph takes {', '.join(inputs)} and ends in {', '.join(outputs)}",
            f"name both: --input {inputs[0]} --output {outputs[0]}",
        )
    functions = untraced(meta)
    called = f", and its function {functions[0]} was never called before it was saved" if functions else ""
    raise ModelUnusable(f"the model has no signature{called}", "export it with `model.export` or with signatures=...")


def _are_shares(graph: Graph) -> bool:
    """The output ends in a softmax: scores of classes, whatever it is called."""
    return graph.node(through(graph.nodes, graph.outputs[0], SHAPE_OPS)).op == "Softmax"


def _found(graph: Graph, lists: Detections, score: str) -> Detections:
    """The same by the names of the flat graph."""
    return replace(lists, scores=score, labelled=graph.outputs[1] if lists.labelled else None)


def check_loops(graph: Graph, question: Question) -> None:
    """Refuse a score behind a loop that `functionalize` has left as it was: it has no gradient."""
    stuck = [name for name in question.path(graph) if graph.nodes[name].op in ("Exit", "NextIteration")]
    if stuck:
        raise ModelUnusable(
            f"no gradient passes the loop around {min(stuck)}, which has no form that TensorFlow 1 writes",
            "explain a tensor before it with --output NAME, or start behind it with --input NAME",
        )


def check_tables(graph: Graph) -> None:
    """Refuse a score that is looked up: tables are filled by functions of the model's own, and none of them is run."""
    tables = sorted(name for name, node in graph.nodes.items() if node.op in TABLES)
    if tables:
        raise ModelUnusable(
            f"the score needs the table {tables[0]}, which is filled when a model is opened; nothing of that is run",
            "explain a tensor before it with --output NAME",
        )


def _unfed_placeholders(graph: Graph) -> tuple[Tensor, ...]:
    """Placeholders that the score needs and no signature names (TensorFlow 1: a dropout rate, a learning phase)."""
    known = {*graph.feeds.values(), *graph.weights, *graph.handles}
    unfed = []
    for name, node in sorted(graph.nodes.items()):
        if node.op == "Placeholder" and name not in known:
            shape = node.attr["shape"].shape if "shape" in node.attr else None
            sizes = None if shape is None or shape.unknown_rank else tuple(dim.size for dim in shape.dim)
            unfed.append(Tensor(name, f"{name}:0", tf.dtypes.as_dtype(attribute(node, "dtype").type), sizes))
    return tuple(unfed)


def _any_tensor(
    meta: MetaGraphDef, graph: Graph, wanted: str, feeds: Mapping[str, int], forms: Forms, keys: Sequence[str]
) -> tuple[Graph, Tensor]:
    """A tensor of the graph that is no output of the signature."""
    tensor = _tensor(graph.nodes, wanted, "--output")
    if tensor is None:
        top = _tensor([node.name for node in meta.graph_def.node], wanted, "--output")
        if top is None:
            near = did_you_mean(tensors_near(graph.nodes, wanted, keys))
            raise UsageError(
                f"--output {wanted}: neither an output of the signature nor a tensor of the graph",
                near or "see `gradviz inspect`; the folder of the pictures is --out",
            )
        graph = forms(inline(meta, [top], feeds))
        tensor = graph.outputs[0]
    name, index = split(tensor)
    types = types_of(graph.nodes[name])
    dtype = tf.dtypes.as_dtype(types[index]) if index < len(types) else tf.float32
    return replace(graph, outputs=(tensor,)), Tensor(wanted, tensor, dtype, None)


def _image(graph: Graph, inputs: list[Tensor], options: ModelOptions) -> tuple[Graph, Tensor]:
    """The input of the signature that is the image, or a tensor inside the graph to start at."""
    reached = [tensor for tensor in inputs if tensor.name in graph.feeds]
    image = signatures.choose_input(reached or inputs, options.input)
    return (graph, image) if image is not None else _any_input(graph, options, [one.key for one in inputs])


def _tensor(nodes: Iterable[str], wanted: str, option: str) -> str | None:
    try:
        return find_tensor(nodes, wanted)
    except UsageError as error:
        error.message = f"{option} {error.message}"
        raise


def _any_input(graph: Graph, options: ModelOptions, keys: Sequence[str]) -> tuple[Graph, Tensor]:
    """Start at a tensor inside the graph: its node becomes a placeholder."""
    wanted = options.input or ""
    tensor = _tensor(graph.nodes, wanted, "--input")
    if tensor is None:
        near = did_you_mean(tensors_near(graph.nodes, wanted, keys))
        raise UsageError(
            f"--input {wanted}: neither an input of the signature nor a tensor of the graph",
            near or "see `gradviz inspect`; images are named after MODEL",
        )
    # Inferring shapes runs operations on constants, also those before this tensor that are cut away later.
    policy.judge(graph.pruned([tensor]), options.allow_ops, options.trust_model)
    (static,) = static_tensors(graph.pruned([tensor]), tensor)
    name = split(tensor)[0]
    nodes = {**graph.nodes, name: placeholder(name, static.dtype.as_datatype_enum, static.shape.as_proto())}
    shape = None if static.shape.rank is None else tuple(-1 if size is None else size for size in static.shape)
    return replace(graph, nodes=nodes, feeds={**graph.feeds, tensor: name}), Tensor(wanted, tensor, static.dtype, shape)


def _decides(decision: Decision) -> bool:
    return bool(decision.scores) and decision.only


def _score(graph: Graph, output: Tensor) -> str:
    """The output, or the scores that a ranking, or an output which is no number, was decided from."""
    if output.dtype.is_floating and not _decides(decision_of(graph, graph.outputs[0])):
        return ranked_from(graph, graph.outputs[0]) or graph.outputs[0]
    decided = decided_from(graph, graph.outputs[0])
    if decided is None:
        raise ModelUnusable(
            f"the output {output.key} is {output.dtype.name} and nothing that decides between classes lies behind it",
            "choose another with --output NAME",
        )
    return decided
