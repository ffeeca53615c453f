"""SavedModel folder -> the question in it: which image, which score, and the flat graph between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.graph import graph as graph_
from gradviz_cli.worker.graph.graph import Flat, find_tensor, split
from gradviz_cli.worker.graph.question import Reading, Tensor, static_tensor
from gradviz_cli.worker.passes import float32, functional, logits
from gradviz_cli.worker.read import inline, objects, savedmodel, signatures


def read(options: ModelOptions) -> Reading:
    """Find the question in the folder.

    Raises
    ------
    ModelUnusable, UsageError
        The files are damaged; the choice is not clear; the score does not depend on the image.
    """
    saved = savedmodel.read(Path(options.path))
    meta = objects.with_signatures(signatures.choose_meta(saved, options.tag))
    signature, definition, why = signatures.choose_signature(meta, options.signature)
    inputs, outputs = signatures.tensors(definition.inputs), signatures.tensors(definition.outputs)
    name, channel = signatures.parse_name(options.output) if options.output else (None, None)
    output = signatures.choose_output(outputs, name)
    feeds = {tensor.name: tensor.dtype.as_datatype_enum for tensor in inputs}
    flat = _expanded(meta, [output.name] if output else [tensor.name for tensor in outputs], feeds)
    if output is None:
        flat, output = _any_tensor(meta, flat, name, feeds)
    end = flat.outputs[0]
    image = signatures.choose_input([tensor for tensor in inputs if tensor.name in flat.feeds] or inputs, options.input)
    if image is None:
        flat, image = _any_input(flat, options)
    if image.name not in flat.feeds:
        raise ModelUnusable(
            f"the output {output.key} does not depend on the input {image.key}", "choose others with --input, --output"
        )
    flat, end, top, bypassed = _score(flat, end, output, options, channel)
    flat = flat.pruned([top, end])
    others = tuple(tensor for tensor in inputs if tensor.name in flat.feeds and tensor.name != image.name)
    fed = f"{flat.feeds[image.name]}:0" if image.name in flat.feeds else ""
    if not fed:
        raise ModelUnusable(f"the score {top} does not depend on the input {image.key}", "choose another with --output")
    if image.dtype.is_integer:
        flat = float32.float_image(flat, fed)
    unfed = _unfed_placeholders(flat)
    flat = replace(flat, feeds={**flat.feeds, **{tensor.name: tensor.key for tensor in unfed}})
    found = Reading(
        meta, signature, why, image, output, flat, fed, end, top, bypassed, channel, others, unfed, saved.warnings
    )
    _insist_on_known_loops(found)
    return found


def _unfed_placeholders(flat: Flat) -> tuple[Tensor, ...]:
    """Placeholders that the score needs and no signature names (TensorFlow 1: a dropout rate, a learning phase)."""
    known = {*flat.feeds.values(), *flat.weights, *flat.handles}
    found = []
    for name, node in sorted(flat.nodes.items()):
        if node.op == "Placeholder" and name not in known:
            shape = node.attr["shape"].shape if "shape" in node.attr else None
            sizes = None if shape is None or shape.unknown_rank else tuple(dim.size for dim in shape.dim)
            found.append(Tensor(name, f"{name}:0", tf.dtypes.as_dtype(node.attr["dtype"].type), sizes))
    return tuple(found)


def _insist_on_known_loops(found: Reading) -> None:
    stuck = [name for name in found.path if found.flat.nodes[name].op in ("Exit", "NextIteration")]
    if stuck:
        raise ModelUnusable(
            f"no gradient passes the loop around {min(stuck)}, which has no form that TensorFlow 1 writes",
            "explain a tensor before it with --output NAME, or start behind it with --input NAME",
        )


def _expanded(meta: MetaGraphDef, tensors: Sequence[str], feeds: dict) -> Flat:
    """What these tensors need, in the forms whose gradients TensorFlow knows."""
    return float32.halves(functional.functional(inline.expand(meta, tensors, feeds)))


def _any_tensor(meta: MetaGraphDef, flat: Flat, wanted: str, feeds: dict) -> tuple[Flat, Tensor]:
    """A tensor of the graph that is no output of the signature."""
    found = find_tensor(flat.nodes, wanted)
    if found is None:
        top = find_tensor([node.name for node in meta.graph_def.node], wanted)
        if top is None:
            raise UsageError(
                f"--output {wanted}: neither an output of the signature nor a tensor of the graph",
                "see `gradviz inspect`",
            )
        flat = _expanded(meta, [top], feeds)
        found = flat.outputs[0]
    return replace(flat, outputs=(found,)), Tensor(wanted, found, tf.float32, None)


def _any_input(flat: Flat, options: ModelOptions) -> tuple[Flat, Tensor]:
    """Start at a tensor inside the graph: its node becomes a placeholder."""
    wanted = options.input
    found = find_tensor(flat.nodes, wanted)
    if found is None:
        raise UsageError(
            f"--input {wanted}: neither an input of the signature nor a tensor of the graph", "see `gradviz inspect`"
        )
    # Inferring shapes runs operations on constants, also those before this tensor that are cut away later.
    policy.judge(flat.pruned([found]), options.allow_ops, options.trust_model)
    static = static_tensor(flat.pruned([found]), found)
    name = split(found)[0]
    nodes = dict(flat.nodes)
    nodes[name] = graph_.placeholder(name, static.dtype.as_datatype_enum, static.shape.as_proto())
    shape = None if static.shape.rank is None else tuple(-1 if size is None else size for size in static.shape)
    return replace(flat, nodes=nodes, feeds={**flat.feeds, found: name}), Tensor(wanted, found, static.dtype, shape)


def _score(flat: Flat, end: str, output: Tensor, options: ModelOptions, channel: int | None):
    """(graph, the model's own output, the score, what was bypassed)."""
    if not output.dtype.is_floating:
        decided = logits.decided_from(flat, end)
        if decided is None:
            raise ModelUnusable(
                f"the output {output.key} is {output.dtype.name} and nothing that decides between classes lies behind it",
                "choose another with --output NAME",
            )
        end = decided
    if options.score == "output" or channel is not None:
        return flat, end, end, None
    flat, top, bypassed = logits.bypass(flat, end)
    return flat, end, top, bypassed
