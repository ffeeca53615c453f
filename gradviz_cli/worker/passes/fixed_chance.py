"""Lets a model that draws random numbers draw the same ones for each image, each time: dropout or noise that was left on.

TensorFlow has twins of such operations that are told their seed and keep no state. Of an image that is alone in its call
they give the same numbers whatever came before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.chance import changes
from gradviz_cli.worker.graph.graph import Graph, constant_node, source
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.tf_private import op_def

# Operation -> its twin, the place of the seed among its inputs, and attributes that have another name there.
TWINS: dict[str, tuple[str, int, dict[str, str]]] = {
    "RandomUniform": ("StatelessRandomUniform", 1, {}),
    "RandomStandardNormal": ("StatelessRandomNormal", 1, {}),
    "TruncatedNormal": ("StatelessTruncatedNormal", 1, {}),
    "RandomUniformInt": ("StatelessRandomUniformInt", 1, {"dtype": "Tout"}),
    "RandomGamma": ("StatelessRandomGammaV2", 1, {"T": "S", "dtype": "T"}),
    "Multinomial": ("StatelessMultinomial", 2, {}),
    "SampleDistortedBoundingBoxV2": ("StatelessSampleDistortedBoundingBox", 3, {}),
}
# What keeps its choice where it is told so.
POOLS = frozenset({"FractionalAvgPool", "FractionalMaxPool"})
# Reads the state of a generator, of three numbers, and moves it on.
STATE = "RngReadAndSkip"

_SEEDED = frozenset({"seed", "seed2", "Tseed"})


def fixed_chance(graph: Graph, question: Question | None = None) -> Graph:
    """The graph without a state of chance, in loops and branches too; what has no such twin is left as it is."""
    functions = {
        name: replace(function, nodes=_fixed(function.nodes, f"{name}/")) for name, function in graph.functions.items()
    }
    return replace(graph, nodes=_fixed(graph.nodes), functions=functions)


def check_twins(drawn: Iterable[NodeDef]) -> None:
    """Refuse a score that hangs on what cannot be told what to draw."""
    for node in drawn:
        if changes(node) and node.op not in (*TWINS, *POOLS, STATE):
            raise ModelUnusable(
                f"the model is random: {node.op} in {node.name} draws other numbers each time, and cannot be told not to",
                "export it for inference, or explain a tensor before that with --output NAME",
            )


def _fixed(nodes: Mapping[str, NodeDef], where: str = "") -> dict[str, NodeDef]:
    found = dict(nodes)
    for name, node in nodes.items():
        if changes(node):
            found.update((one.name, one) for one in _steady(node, zlib.crc32(f"{where}{name}".encode())))
    return found


def _steady(node: NodeDef, seed: int) -> Iterator[NodeDef]:
    """The nodes in place of one that draws; each node has a seed of its own, as otherwise all would draw alike."""
    if node.op in TWINS:
        yield from _twin(node, seed)
    elif node.op in POOLS:
        pool = NodeDef()
        pool.CopyFrom(node)
        pool.attr["seed"].i, pool.attr["seed2"].i, pool.attr["deterministic"].b = 1, seed, True
        yield pool
    elif node.op == STATE:
        yield constant_node(node.name, np.array([seed, 1, 1], np.int64))
    else:
        yield node


def _twin(node: NodeDef, seed: int) -> Iterator[NodeDef]:
    op, place, renamed = TWINS[node.op]
    told = constant_node(f"{node.name}/gradviz_seed", np.array([1, seed], np.int64))
    inputs = [source(node, index) for index, text in enumerate(node.input) if not text.startswith("^")]
    twin = NodeDef(name=node.name, op=op, input=[*inputs[:place], f"{told.name}:0", *inputs[place:]])
    twin.attr["Tseed"].type = tf.int64.as_datatype_enum
    for name in _attributes(op):
        theirs = renamed.get(name, name)
        if name not in _SEEDED and theirs in node.attr:
            twin.attr[name].CopyFrom(node.attr[theirs])
    yield from (told, twin)


def _attributes(op: str) -> list[str]:
    definition = op_def(op)
    assert definition is not None, "the table only holds operations that TensorFlow has"
    return [attribute.name for attribute in definition.attr]
