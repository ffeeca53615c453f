"""Which operations of a stranger's graph may run. Fails closed: what is not on the list is refused.

`allowed_ops.json` holds what networks for images compute with. No operation on it reads or writes a file, opens a
connection, runs code from outside the graph, or changes what another part of the graph sees. Left out on purpose:

* operations without an output, such as Assert, AssignVariableOp or a table's initialisation: nothing that is explained
  depends on one, since control inputs are dropped;
* calls (PartitionedCall) and variables (VarHandleOp, VariableV2): `inline` replaces all of them, so one that is left
  would be a mistake of ours;
* tables made in the graph (MutableHashTableV2): they would be empty and give wrong numbers in silence;
* memory that nobody has written to (Empty), and programs in one attribute (XlaCallModule).

What stays are operations that may take all memory (Fill, Tile) or never end (While); the worker's limits meet these.
The judgement comes before the graph is given to TensorFlow at all: inferring shapes runs operations on constants,
ReadFile among them.
"""

from __future__ import annotations

import json
import math
import resource
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import resources

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelRefused, UsageError
from gradviz_cli.files.near import did_you_mean, nearest
from gradviz_cli.worker.graph.graph import MAX_NODES, Circle, Graph, called_by, topological
from gradviz_cli.worker.graph.tf_private import import_nodes, op_def

# Names are made of layers' names; one of megabytes is made to fill terminals and logs.
MAX_NAME = 10_000
# Operations whose output can be larger than all that the file holds, as large as a number in it says.
EXPANDING = {
    *("Fill", "Range", "LinSpace", "OneHot", "ScatterNd", "Tile", "BroadcastTo", "Pad", "PadV2", "MirrorPad"),
    *("SparseToDense", "XlaPad"),
    *(
        "SpaceToBatch",
        "SpaceToBatchND",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "ResizeBicubic",
        "ResizeArea",
    ),
}
# Groups of operations that take sizes, places or whole files out of data: where kernels had faults of memory. The list is
# the only wall where the process is not confined, so it is a narrower one there.
WALLED = frozenset({"bytes_in", "quant", "random_stateful", "rnn", "xla"})


class Walls:
    """Whether this process is confined; settled once, by whoever has entered the sandbox."""

    full = True


@cache
def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = json.loads(
        resources.files(__package__).joinpath("allowed_ops.json").read_text("utf-8")
    )
    return groups


def allowed_ops() -> frozenset[str]:
    """The operations that image models need; none of them reads or writes files or talks to anyone."""
    return _allowed(Walls.full)


@cache
def _allowed(full: bool) -> frozenset[str]:
    return frozenset(op for name, ops in _groups().items() if full or name not in WALLED for op in ops)


def refused_ops(graph: Graph, allow: Iterable[str] = ()) -> dict[str, str]:
    """Op -> a node that has it, for every operation outside the allowed set."""
    allowed = allowed_ops() | frozenset(allow)
    return {op: node for op, node in sorted(graph.ops().items()) if op not in allowed}


def judge(graph: Graph, allow: Iterable[str] = (), trust: bool = False) -> None:
    """Raise ModelRefused when the explained part of the model holds an operation outside the allowed set.

    Sizes that no real model has are refused too, whoever is trusted; UsageError where what is allowed is no operation.
    """
    judge_operations(graph, allow, trust)
    check_room(graph)


def judge_operations(graph: Graph, allow: Iterable[str] = (), trust: bool = False) -> None:
    """The same but for what `check_room` finds, which takes longer: TensorFlow does not see the graph."""
    _check_size(graph)
    _check_named(graph, allow)
    refused = refused_ops(graph, allow)
    unknown = next(((op, node) for op, node in refused_ops(graph).items() if op_def(op) is None), None)
    if unknown:
        op, node = unknown
        raise ModelRefused(f"op {op} (node {node}) is not known to this TensorFlow", "export the model without it")
    if refused and not trust:
        op, node = next(iter(refused.items()))
        others = f" and {len(refused) - 1} more kinds ({', '.join(list(refused)[1:6])})" if len(refused) > 1 else ""
        walled = "" if op not in _allowed(True) else " without a full sandbox"
        raise ModelRefused(
            f"the model needs op {op} (node {node}){others}, which gradviz does not let run{walled}",
            f"if you trust the model's source: --allow-op {op}, or --trust-model for all",
        )


def _check_named(graph: Graph, allow: Iterable[str]) -> None:
    """A name that is misspelled would allow nothing, unsaid. One that this model has no need of may be another's."""
    for op in allow:
        if op_def(op) is None and op not in graph.ops():
            raise UsageError(
                f"--allow-op {op}: TensorFlow has no operation of that name",
                did_you_mean(nearest(op, refused_ops(graph))) or "`gradviz inspect` lists those that are refused",
            )


def _check_size(graph: Graph) -> None:
    remedy = "this looks built to exhaust a reader; export the model again from its source"
    names = (
        name for nodes in (graph.nodes, *(function.nodes for function in graph.functions.values())) for name in nodes
    )
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME:
        raise ModelRefused(f"a name in the graph has {longest} characters", remedy)
    try:
        count = written_out(graph.nodes.values(), {name: one.nodes.values() for name, one in graph.functions.items()})
    except Circle as error:
        raise ModelRefused(f"the function {error.name} calls itself", "export the model without recursion") from error
    if count > MAX_NODES:
        raise ModelRefused(f"the loops and branches of this model hold more than {MAX_NODES} operations", remedy)


def check_room(graph: Graph) -> None:
    """Refuse a tensor that alone is larger than this process's memory, where its shape says so before anything runs.

    TensorFlow would try for ten seconds, and once more at every stage.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY or not EXPANDING & set(graph.ops()):
        return
    with tf.Graph().as_default() as built:
        try:
            import_nodes(graph.graph_def())
        except (ValueError, TypeError, tf.errors.OpError):  # said better by whoever builds the gradient
            return
    for op in built.get_operations():
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


def written_out(nodes: Collection[NodeDef], functions: Mapping[str, Collection[NodeDef]]) -> int:
    """Operations when each call of a function is written out, as TensorFlow does before it runs them."""
    calls = {name: _calls(inner) for name, inner in functions.items()}
    sizes: dict[str, int] = {}
    for name in topological({name: list(called) for name, called in calls.items()}):  # what is called comes first
        sizes[name] = len(functions[name]) + _total(calls[name], sizes)
    return len(nodes) + _total(_calls(nodes), sizes)


def _calls(nodes: Iterable[NodeDef]) -> Counter[str]:
    """Function -> how often these nodes call it."""
    return Counter(name for node in nodes for name in called_by(node))


def _total(calls: Counter[str], sizes: dict[str, int]) -> int:
    return sum(count * sizes.get(name, 0) for name, count in calls.items())
