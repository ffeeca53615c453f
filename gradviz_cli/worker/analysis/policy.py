"""Which operations of a stranger's graph may run. Fails closed: what is not on the list is refused.

`allowed_ops.json` holds what networks for images compute with. No operation on it reads or writes a file, opens a
connection, runs code from outside the graph, or changes what another part of the graph sees. Left out on purpose:

* operations without an output, such as Assert, AssignVariableOp or a table's initialisation: nothing that is explained
  depends on one, since control inputs are dropped;
* calls (PartitionedCall) and variables (VarHandleOp, VariableV2): `expand` replaces all of them, so one that is left
  would be a mistake of ours;
* tables made in the graph (MutableHashTableV2): they would be empty and give wrong numbers in silence.

What stays are operations that may take all memory (Fill, Tile) or never end (While); the worker's limits meet these.
The judgement comes before the graph is given to TensorFlow at all: inferring shapes runs operations on constants,
ReadFile among them.
"""

from __future__ import annotations

import json
import math
import resource
from collections import Counter
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import resources

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelRefused
from gradviz_cli.worker.graph.graph import MAX_NODES, Flat
from gradviz_cli.worker.graph.tf_private import op_def

# Names are made of layers' names; one of megabytes is made to fill terminals and logs.
MAX_NAME = 10_000
# Operations whose output can be larger than all that the file holds, as large as a number in it says.
EXPANDING = {
    *("Fill", "Range", "LinSpace", "OneHot", "ScatterNd", "Tile", "BroadcastTo", "Pad", "PadV2", "MirrorPad"),
    *(
        "SpaceToBatch",
        "SpaceToBatchND",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "ResizeBicubic",
        "ResizeArea",
    ),
}


@cache
def allowed_ops() -> frozenset[str]:
    """The operations that image models need; none of them reads or writes files or talks to anyone."""
    groups = json.loads(resources.files(__package__).joinpath("allowed_ops.json").read_text("utf-8"))
    return frozenset(op for ops in groups.values() for op in ops)


def refused_ops(flat: Flat, allow: Iterable[str] = ()) -> dict[str, str]:
    """Op -> a node that has it, for every operation outside the allowed set."""
    allowed = allowed_ops() | frozenset(allow)
    return {op: node for op, node in sorted(flat.ops().items()) if op not in allowed}


def judge(flat: Flat, allow: Iterable[str] = (), trust: bool = False) -> None:
    """Raise ModelRefused when the explained part of the model holds an operation outside the allowed set.

    Sizes that no real model has are refused too, whoever is trusted.
    """
    _insist_on_size(flat)
    refused = refused_ops(flat, allow)
    unknown = next(((op, node) for op, node in refused.items() if op_def(op) is None), None)
    if unknown:
        op, node = unknown
        raise ModelRefused(f"op {op} (node {node}) is not known to this TensorFlow", "export the model without it")
    if refused and not trust:
        op, node = next(iter(refused.items()))
        others = f" and {len(refused) - 1} more kinds ({', '.join(list(refused)[1:6])})" if len(refused) > 1 else ""
        raise ModelRefused(
            f"the model needs op {op} (node {node}){others}, which gradviz does not let run",
            f"if you trust the model's source: --allow-op {op}, or --trust-model for all",
        )
    if EXPANDING & set(flat.ops()):
        _insist_on_room(flat)


def _insist_on_size(flat: Flat) -> None:
    remedy = "this looks built to exhaust a reader; export the model again from its source"
    names = (name for nodes in (flat.nodes, *(body.nodes for body in flat.bodies.values())) for name in nodes)
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME:
        raise ModelRefused(f"a name in the graph has {longest} characters", remedy)
    try:
        count = _written_out(flat)
    except CycleError as error:
        raise ModelRefused(
            f"the function {error.args[1][0]} calls itself", "export the model without recursion"
        ) from error
    if count > MAX_NODES:
        raise ModelRefused(f"the loops and branches of this model hold more than {MAX_NODES} operations", remedy)


def _insist_on_room(flat: Flat) -> None:
    """Refuse a tensor that alone is larger than this process's memory, where its shape says so before anything runs.

    TensorFlow would try for ten seconds, and once more at every stage.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        return
    with tf.Graph().as_default() as graph:
        try:
            tf.graph_util.import_graph_def(flat.graph_def(), name="")
        except (ValueError, TypeError, tf.errors.OpError):  # said better by whoever builds the gradient
            return
    for op in graph.get_operations():
        for tensor in op.outputs:
            size = (
                tensor.dtype.size * math.prod(1 if n is None else n for n in tensor.shape.as_list())
                if tensor.shape.rank
                else 0
            )
            if size > limit:
                raise ModelRefused(
                    f"op {op.type} (node {op.name}) gives a tensor of {size / 2**30:.0f} GiB, more than this machine has",
                    "no network for images does; export the model again from its source",
                )


def _written_out(flat: Flat) -> int:
    """Operations when each call of a loop or branch body is written out, as TensorFlow does before it runs them."""
    calls = {name: Counter(_called(body.nodes.values())) for name, body in flat.bodies.items()}
    sizes: dict[str, int] = {}
    for name in TopologicalSorter(calls).static_order():  # what is called comes first
        if name in calls:
            sizes[name] = len(flat.bodies[name].nodes) + _total(calls[name], sizes)
    return len(flat.nodes) + _total(Counter(_called(flat.nodes.values())), sizes)


def _total(calls: Counter[str], sizes: dict[str, int]) -> int:
    return sum(count * sizes.get(name, 0) for name, count in calls.items())


def _called(nodes: Iterable[NodeDef]) -> Iterable[str]:
    for node in nodes:
        for value in node.attr.values():
            if value.HasField("func"):
                yield value.func.name
            yield from (function.name for function in value.list.func)
