"""Does once at load what a graph would do again for every image: constants, and batch norm folded into convolutions.

A batch norm in inference is y = x s + t with one s and t a channel. Behind a convolution, s belongs into the kernel
(Jacob et al. 2017, arXiv:1712.05877, section 3.2) and t into the bias: the same sums, rounded at other places.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from gradviz_cli.worker.graph.graph import PRODUCER, Flat, descendants, placeholder, split
from gradviz_cli.worker.graph.tf_private import op_def
from gradviz_cli.worker.passes.batch_norm import Values, _scales_into_kernels

# Whether they end is not known before they do; an image has a deadline that fits, loading has none so short.
LOOPS = frozenset({"Enter", "NextIteration", "Switch", "Merge", "While", "StatelessWhile"})
MAX_FOLDED = 2**24  # numbers; what is larger is cheaper to compute than to keep


def folded(flat: Flat, values: Values, image: str, kept: Collection[str]) -> tuple[Flat, Values]:
    """The graph with less to do for each image, and the values of its weights.

    Parameters
    ----------
    image : str
        The placeholder of the image; what does not depend on it is constant.
    kept : collection of str
        Nodes whose output somebody reads by name; they stay.
    """
    flat, values = _constants_once(flat, values, image)
    return _scales_into_kernels(flat, values, frozenset(kept))


# -- constants ---------------------------------------------------------------------------------------------------------


def _constants_once(flat: Flat, values: Values, image: str) -> tuple[Flat, Values]:
    """Float tensors that are computed from weights alone become weights."""
    changing = descendants(flat.nodes, [image, *_stateful(flat)])
    inputs = {split(text)[0] for name in changing for text in flat.nodes[name].input if not text.startswith("^")}
    several = {split(text)[0] for node in flat.nodes.values() for text in node.input if split(text)[1] > 0}
    candidates = inputs - changing - several  # a placeholder has one output
    borders = sorted(name for name in candidates if flat.nodes[name].op not in ("Const", "Placeholder"))
    if not borders:
        return flat, values
    computed = _compute(flat, values, borders)
    small = {
        name: tensor
        for name, tensor in computed.items()
        if tensor.dtype.is_floating and tensor.shape.num_elements() <= MAX_FOLDED
    }
    nodes = dict(flat.nodes)
    for name, tensor in small.items():
        nodes[name] = placeholder(name, tensor.dtype.as_datatype_enum, tensor.shape.as_proto())
    weights = {**flat.weights, **{name: f"folded/{name}" for name in small}}
    known = {**values, **{f"folded/{name}": tensor for name, tensor in small.items()}}
    return replace(flat, nodes=nodes, weights=weights).pruned(flat.outputs), known


def _stateful(flat: Flat) -> list[str]:
    """Nodes whose value is not a function of their inputs: random numbers, other inputs, resources, loops."""
    found = []
    for name, node in flat.nodes.items():
        definition = op_def(node.op)
        free = node.op == "Placeholder" and name not in flat.weights
        if free or definition is None or definition.is_stateful or node.op in LOOPS:
            found.append(name)
    return found


def _compute(flat: Flat, values: Values, names: list[str]) -> dict[str, tf.Tensor]:
    """The first output of each node."""
    part = flat.pruned(f"{name}:0" for name in names)
    graph = GraphDef(node=part.nodes.values())
    graph.library.function.extend(body.function_def() for body in part.bodies.values())
    graph.versions.producer = PRODUCER

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        fed = {f"{name}:0": tf.identity(values[variable]) for name, variable in part.weights.items()}
        return tf.graph_util.import_graph_def(graph, fed, return_elements=list(part.outputs), name="constant")

    return dict(zip(names, run(), strict=True))
