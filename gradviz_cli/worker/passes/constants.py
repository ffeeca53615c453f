"""Computes once at load what a graph would compute again for every image: what depends on weights alone."""

from __future__ import annotations

from dataclasses import replace

import tensorflow as tf

from gradviz_cli.worker.graph.graph import LOOPS, Graph, descendants, placeholder, split
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.tf_private import op_def

MAX_FOLDED = 2**24  # numbers; what is larger is cheaper to compute than to keep


def constants(graph: Graph, question: Question) -> Graph:
    """The graph whose float tensors that are computed from weights alone are weights themselves."""
    changing = descendants(graph.nodes, [split(question.fed(graph))[0], *_stateful(graph)])
    inputs = {split(text)[0] for name in changing for text in graph.nodes[name].input if not text.startswith("^")}
    several = {split(text)[0] for node in graph.nodes.values() for text in node.input if split(text)[1] > 0}
    candidates = inputs - changing - several  # a placeholder has one output
    borders = sorted(name for name in candidates if graph.nodes[name].op not in ("Const", "Placeholder"))
    if not borders:
        return graph
    small = {
        name: tensor
        for name, tensor in _compute(graph, borders).items()
        if tensor.dtype.is_floating and tensor.shape.num_elements() <= MAX_FOLDED
    }
    nodes = dict(graph.nodes)
    for name, tensor in small.items():
        nodes[name] = placeholder(name, tensor.dtype.as_datatype_enum, tensor.shape.as_proto())
    weights = {**graph.weights, **{name: f"folded/{name}" for name in small}}
    values = {**graph.values, **{f"folded/{name}": tensor for name, tensor in small.items()}}
    return replace(graph, nodes=nodes, weights=weights, values=values).pruned(graph.outputs)


def _stateful(graph: Graph) -> list[str]:
    """Nodes whose value is not a function of their inputs: random numbers, other inputs, resources, loops."""
    stateful = []
    for name, node in graph.nodes.items():
        definition = op_def(node.op)
        free = node.op == "Placeholder" and name not in graph.weights
        if free or definition is None or definition.is_stateful or node.op in LOOPS:
            stateful.append(name)
    return stateful


def _compute(graph: Graph, names: list[str]) -> dict[str, tf.Tensor]:
    """The first output of each node."""
    part = graph.pruned(f"{name}:0" for name in names)
    built = part.graph_def()

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        fed = {f"{name}:0": tf.identity(part.values[variable]) for name, variable in part.weights.items()}
        return tf.graph_util.import_graph_def(built, fed, return_elements=list(part.outputs), name="constant")

    return dict(zip(names, run(), strict=True))
