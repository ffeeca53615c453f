"""Loops and branches of TensorFlow 1 written as those of TensorFlow 2 (pure functions on protocol buffers).

Enter, Merge, Switch, NextIteration and Exit become one While, Switch and Merge one If, the arrays that a loop fills
(TensorArrayV3) lists (TensorList). Inside a function the gradient of the new forms is defined, that of the old is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.framework.types_pb2 import DT_BOOL, DT_INT32, DT_INT64, DT_VARIANT

from gradviz_cli.errors import ModelRefused
from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    Function,
    Graph,
    GraphError,
    ancestors,
    attribute,
    copied,
    data_inputs,
    node_of,
    source,
    split,
    unique_mark,
)
from gradviz_cli.worker.graph.match import through
from gradviz_cli.worker.graph.question import Question

# Nodes looked at while the extent of loops and branches is found; a detector needs some 100,000.
MAX_STEPS = 20_000_000
CARRIERS = frozenset({"Enter", "Merge", "Switch", "Identity", "NextIteration", "Exit"})


# An attribute's value: a function by name, a truth, a type, types, a tensor.
Value: TypeAlias = str | bool | int | list[int] | TensorProto


@dataclass
class _Work:
    """A graph being rewritten: its nodes, the new functions, and where tensors that are gone are found instead."""

    nodes: dict[str, NodeDef]
    functions: dict[str, Function] = field(default_factory=dict)
    steps: int = 0

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise ModelRefused("the loops and branches of this model are without end", "export the model again")

    def new(self, name: str, op: str, inputs: Iterable[str] = (), **attributes: Value) -> NodeDef:
        """A node with a fresh name, put into the graph."""
        candidate, number = name, 0
        while candidate in self.nodes:
            number += 1
            candidate = f"{name}_{number}"
        node = NodeDef(name=candidate, op=op, input=inputs)
        for key, value in attributes.items():
            _set(node, key, value)
        self.nodes[candidate] = node
        return node

    def constant(self, name: str, value: int | np.ndarray, dtype: int = DT_INT32) -> str:
        tensor = tf.make_tensor_proto(value, tf.dtypes.as_dtype(dtype))
        return self.new(name, "Const", dtype=dtype, value=tensor).name + ":0"

    def rename(self, moved: Mapping[str, str]) -> None:
        """Read every tensor of `moved` where it is now."""
        self.step(len(self.nodes))
        for name, node in self.nodes.items():
            if any(text in moved for text in node.input):
                self.nodes[name] = copied(node, inputs=(moved.get(text, text) for text in node.input))


def _set(node: NodeDef, key: str, value: Value) -> None:
    if isinstance(value, str):
        node.attr[key].func.name = value
    elif isinstance(value, bool):
        node.attr[key].b = value
    elif isinstance(value, int):
        node.attr[key].type = value
    elif isinstance(value, list):
        node.attr[key].list.SetInParent()
        node.attr[key].list.type.extend(value)
    else:
        node.attr[key].tensor.CopyFrom(value)


def functionalize(graph: Graph, question: Question | None = None) -> Graph:
    """The graph without the loops, branches and arrays of TensorFlow 1; the graph itself when it has none.

    What is of no form that TensorFlow 1 writes stays. Outputs may have other names.

    Raises
    ------
    ModelRefused
        More nesting than any real model has.
    """
    scopes = (graph.nodes, *(function.nodes for function in graph.functions.values()))
    if not any(map(_has_old_forms, scopes)):
        return graph
    nodes, outputs, functions = _functionalized(graph.nodes, graph.outputs)
    for name, function in graph.functions.items():
        inner, results, more = _functionalized(function.nodes, function.results)
        functions |= {**more, name: replace(function, nodes=inner, results=results)}
    return replace(graph, nodes=nodes, functions=functions).pruned(outputs)


def _has_old_forms(nodes: Mapping[str, NodeDef]) -> bool:
    return any(node.op in ("Merge", "TensorArrayV3") for node in nodes.values())


def _functionalized(
    nodes: Mapping[str, NodeDef], ends: Sequence[str]
) -> tuple[Mapping[str, NodeDef], tuple[str, ...], dict[str, Function]]:
    """(nodes, ends, new functions)."""
    if not _has_old_forms(nodes):
        return nodes, tuple(ends), {}
    work = _Work(dict(nodes))
    _lists(work)
    moved: dict[str, str] = {}
    left = {name for name, node in work.nodes.items() if node.op in ("Merge", "LoopCond")}
    while left:
        done = next((step for step in (_construct(work, name, left) for name in sorted(left)) if step), None)
        if done is None:
            break
        moved |= done
        work.rename(done)
        alive = ancestors(work.nodes, [_found(moved, end) for end in ends])
        arguments = {name for name, node in work.nodes.items() if node.op == ARGUMENT}
        work.nodes = {name: node for name, node in work.nodes.items() if name in alive | arguments}
        left &= set(work.nodes)
    return work.nodes, tuple(_found(moved, end) for end in ends), work.functions


def _found(moved: Mapping[str, str], tensor: str) -> str:
    while tensor in moved:
        tensor = moved[tensor]
    return tensor


def _construct(work: _Work, name: str, left: set[str]) -> dict[str, str] | None:
    """Replace one innermost loop or branch; None when this one holds another, or is of no known form."""
    node = work.nodes[name]
    if node.op == "LoopCond":
        return _loop(work, node, left)
    if any(node_of(work.nodes, text).op == "NextIteration" for text in node.input):
        return None  # belongs to a LoopCond
    return _branch(work, node, left)


# -- arrays ----------------------------------------------------------------------------------------------------------


def _lists(work: _Work) -> None:
    """TensorArrayV3 and what reads or fills it -> TensorList; the flow, a float that orders them, becomes the list."""
    arrays = {
        name: node for name, node in work.nodes.items() if node.op.startswith("TensorArray") and node.op.endswith("V3")
    }
    if not arrays:
        return
    for name in _flows(work, arrays):
        work.nodes[name] = _retyped(work.nodes[name])
    for name, node in arrays.items():
        rewrite = REWRITES.get(node.op)
        if rewrite:
            work.nodes[name] = rewrite(work, node)
    work.rename({f"{name}:1": f"{name}:0" for name, node in arrays.items() if node.op == "TensorArrayV3"})


def _flows(work: _Work, arrays: Mapping[str, NodeDef]) -> set[str]:
    """The nodes that hand a flow on."""
    readers: dict[str, list[str]] = {}
    for name, node in work.nodes.items():
        if node.op in CARRIERS:
            for text in node.input:
                readers.setdefault(text, []).append(name)
    starts = {"TensorArrayV3": 1, "TensorArrayWriteV3": 0, "TensorArrayScatterV3": 0, "TensorArraySplitV3": 0}
    todo = [f"{name}:{starts[node.op]}" for name, node in arrays.items() if node.op in starts]
    found: set[str] = set()
    while todo:
        for name in readers.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.extend([f"{name}:0", f"{name}:1"])
    return found


def _retyped(node: NodeDef) -> NodeDef:
    copy = copied(node)
    copy.attr["T"].type = DT_VARIANT
    return copy


def _element_shape(
    work: _Work, node: NodeDef, name: str | None = "element_shape", leading: tuple[int, ...] = ()
) -> str:
    """The shape of a list's elements, as the attribute of this name says it; open where there is none."""
    shape = attribute(node, name).shape if name else TensorShapeProto(unknown_rank=True)
    value = np.array(-1 if shape.unknown_rank else [*leading, *(dim.size for dim in shape.dim)], np.int32)
    return work.constant(f"{node.name}/element_shape", value)


def _listed(node: NodeDef, op: str, inputs: Sequence[str], dtype: str, **attributes: Value) -> NodeDef:
    new = NodeDef(name=node.name, op=op, input=inputs)
    new.attr["element_dtype"].type = attribute(node, dtype).type
    for key, value in attributes.items():
        _set(new, key, value)
    return new


def _inputs(node: NodeDef, count: int) -> list[str]:
    return [source(node, index) for index in range(count)]


def _reserve(work: _Work, node: NodeDef) -> NodeDef:
    inputs = [_element_shape(work, node), source(node, 0)]
    return _listed(node, "TensorListReserve", inputs, "dtype", shape_type=DT_INT32)


def _write(work: _Work, node: NodeDef) -> NodeDef:
    _, index, value, flow = _inputs(node, 4)
    return _listed(node, "TensorListSetItem", [flow, index, value], "T", resize_if_index_out_of_bounds=True)


def _read(work: _Work, node: NodeDef) -> NodeDef:
    _, index, flow = _inputs(node, 3)
    return _listed(node, "TensorListGetItem", [flow, index, _element_shape(work, node, None)], "dtype")


def _gather(work: _Work, node: NodeDef) -> NodeDef:
    _, indices, flow = _inputs(node, 3)
    return _listed(node, "TensorListGather", [flow, indices, _element_shape(work, node)], "dtype")


def _scatter(work: _Work, node: NodeDef) -> NodeDef:
    _, indices, value, flow = _inputs(node, 4)
    return _listed(node, "TensorListScatterIntoExistingList", [flow, value, indices], "T")


def _concat(work: _Work, node: NodeDef) -> NodeDef:
    _, flow = _inputs(node, 2)
    shape = _element_shape(work, node, "element_shape_except0", (-1,))
    leading = work.constant(f"{node.name}/leading_dims", np.zeros(0, np.int64), DT_INT64)
    return _listed(node, "TensorListConcatV2", [flow, shape, leading], "dtype", shape_type=DT_INT32)


def _split(work: _Work, node: NodeDef) -> NodeDef:
    _, value, lengths, _ = _inputs(node, 4)
    return _listed(
        node, "TensorListSplit", [value, _element_shape(work, node, None), lengths], "T", shape_type=DT_INT32
    )


def _size(work: _Work, node: NodeDef) -> NodeDef:
    return NodeDef(name=node.name, op="TensorListLength", input=[source(node, 1)])


REWRITES = {
    "TensorArrayV3": _reserve,
    "TensorArrayWriteV3": _write,
    "TensorArrayReadV3": _read,
    "TensorArrayGatherV3": _gather,
    "TensorArrayScatterV3": _scatter,
    "TensorArrayConcatV3": _concat,
    "TensorArraySplitV3": _split,
    "TensorArraySizeV3": _size,
}


# -- functions out of a graph's nodes --------------------------------------------------------------------------------


@dataclass
class _Slice:
    """What a tensor inside a loop or branch needs: the nodes inside, and the tensors that enter it."""

    inside: dict[str, None] = field(default_factory=dict)
    entering: dict[str, None] = field(default_factory=dict)


def _function(
    work: _Work,
    name: str,
    arguments: Mapping[str, str],
    types: Sequence[int],
    inside: Iterable[str],
    results: Iterable[str],
    result_types: Sequence[int],
) -> str:
    """A function of `arguments` (tensor inside -> argument) that gives `results`; returns its name."""
    signature = OpDef(name=re.sub(r"\W", "_", name) + unique_mark())
    nodes = {}
    for i, dtype in enumerate(types):
        signature.input_arg.add(name=f"argument{i}", type=dtype)
        nodes[f"argument{i}"] = NodeDef(name=f"argument{i}", op=ARGUMENT)
        nodes[f"argument{i}"].attr["T"].type = dtype
    for i, dtype in enumerate(result_types):
        signature.output_arg.add(name=f"result{i}", type=dtype)
    for inner in inside:
        # What waits for a branch waits for nothing in a function, which runs only when its branch is taken.
        inputs = [arguments.get(text, text) for text in data_inputs(work.nodes[inner])]
        nodes[inner] = copied(work.nodes[inner], inputs=inputs)
    results = tuple(arguments.get(text, text) for text in results)
    needed = ancestors(nodes, results)
    nodes = {inner: node for inner, node in nodes.items() if inner in needed or node.op == ARGUMENT}
    work.functions[signature.name] = Function(signature, nodes, results, {})
    return signature.name


def _is_outside(node: NodeDef) -> bool:
    """Weights, variables and arguments stand outside of every loop, whatever the graph says."""
    return node.op in ("Placeholder", ARGUMENT)


def _type(node: NodeDef) -> int:
    return int(attribute(node, "dtype" if node.op == "Placeholder" else "T").type)


def _behind(nodes: Mapping[str, NodeDef], tensor: str) -> str:
    """The tensor itself, seen through Identity."""
    return through(nodes, tensor, ("Identity",))


# -- loops -----------------------------------------------------------------------------------------------------------


def _loop(work: _Work, cond: NodeDef, left: set[str]) -> dict[str, str] | None:
    nodes = work.nodes
    work.step(len(nodes))
    switches = [name for name, node in nodes.items() if node.op == "Switch" and split(source(node, 1))[0] == cond.name]
    merges: dict[str, str] = {}  # Merge -> the tensor that it takes in the next iteration
    inside: dict[str, None] = {}
    entering: dict[str, None] = {}
    todo = [source(cond, 0), *(source(nodes[name], 0) for name in switches)]
    while todo:
        work.step()
        tensor = todo.pop()
        name = split(tensor)[0]
        node = nodes[name]
        if name in inside or name in merges:
            continue
        if node.op == "Merge":
            back = [text for text in node.input if node_of(nodes, text).op == "NextIteration"]
            if len(back) != 1 or len(node.input) != 2:
                return None
            merges[name] = source(node_of(nodes, back[0]), 0)
            todo.append(merges[name])
        elif name in switches:
            todo.append(source(node, 0))
        elif node.op == "Enter" or _is_outside(node):
            entering[tensor] = None
        elif name in left or node.op in ("Exit", "Switch"):
            return None  # another loop or branch inside: that one first
        else:
            inside[name] = None
            todo.extend(text for text in node.input if not text.startswith("^"))
    return _while(work, cond, switches, merges, inside, list(entering))


def _while(
    work: _Work,
    cond: NodeDef,
    switches: Sequence[str],
    merges: Mapping[str, str],
    inside: Iterable[str],
    entering: Sequence[str],
) -> dict[str, str]:
    """One While: a counter and a limit, as its gradient wants them, then the loop's variables, then what stays the same."""
    nodes = work.nodes
    starts = [_start(nodes, name) for name in merges]
    fixed = [source(node_of(nodes, text), 0) if node_of(nodes, text).op == "Enter" else text for text in entering]
    types = [
        DT_INT32,
        DT_INT32,
        *(_type(nodes[name]) for name in merges),
        *(_type(node_of(nodes, text)) for text in entering),
    ]
    places = {f"{name}:0": f"argument{i + 2}:0" for i, name in enumerate(merges)}
    places |= {f"{name}:1": places[f"{split(source(nodes[name], 0))[0]}:0"] for name in switches}
    places |= {text: f"argument{i + 2 + len(merges)}:0" for i, text in enumerate(entering)}
    base = cond.name.rpartition("/")[0] or cond.name
    counter = work.constant(f"{base}/gradviz_counter", 0)
    limit = work.constant(f"{base}/gradviz_limit", -1)
    one = work.constant(f"{base}/gradviz_one", 1)
    more = work.new(f"{base}/gradviz_next", "AddV2", ["argument0:0", one], T=DT_INT32)
    going = _function(work, f"{base}/cond", places, types, inside, [source(cond, 0)], [DT_BOOL])
    kept = [f"argument{i + 2 + len(merges)}:0" for i in range(len(entering))]
    results = [f"{more.name}:0", "argument1:0", *merges.values(), *kept]
    body = _function(work, f"{base}/body", places, types, [*inside, split(one)[0], more.name], results, types)
    del nodes[more.name], nodes[split(one)[0]]
    loop = work.new(f"{base}/While", "While", [counter, limit, *starts, *fixed], T=types, cond=going, body=body)
    _any_shapes(loop, len(types), scalars=2)
    found = {f"{name}:0": f"{loop.name}:{i + 2}" for i, name in enumerate(merges)}
    exits = {name: split(source(node, 0))[0] for name, node in nodes.items() if node.op == "Exit"}
    of_merge = {name: split(source(nodes[name], 0))[0] for name in switches}
    return {f"{name}:0": found[f"{of_merge[switch]}:0"] for name, switch in exits.items() if switch in of_merge}


def _start(nodes: Mapping[str, NodeDef], merge: str) -> str:
    """The tensor that a loop variable begins with."""
    enter = next(text for text in nodes[merge].input if node_of(nodes, text).op != "NextIteration")
    return source(node_of(nodes, enter), 0)


def _any_shapes(node: NodeDef, count: int, scalars: int = 0) -> None:
    for i in range(count):
        shape = node.attr["output_shapes"].list.shape.add()
        shape.unknown_rank = i >= scalars


# -- branches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sides:
    """What a Merge joins: the predicate; for each side what it needs, and the tensor that it gives."""

    predicate: str
    slices: Mapping[bool, _Slice]
    given: Mapping[bool, str]


def _branch(work: _Work, merge: NodeDef, left: set[str]) -> dict[str, str] | None:
    """One If for this Merge and its siblings, which a TensorFlow 1 cond puts into one scope."""
    first = _sides(work, merge, left)
    if first is None:
        return None
    scope = merge.name.rpartition("/")[0]
    group = {merge.name: first}
    for name in sorted(left):
        node = work.nodes[name]
        if name != merge.name and node.op == "Merge" and name.rpartition("/")[0] == scope:
            sides = _sides(work, node, left)
            if sides is not None and sides.predicate == first.predicate:
                group[name] = sides
    return _if(work, scope or merge.name, first.predicate, group)


def _sides(work: _Work, merge: NodeDef, left: set[str]) -> _Sides | None:
    """The two sides of a Merge, or None when it is not innermost."""
    if len(merge.input) != 2:
        return None
    found = [side for side in (_side(work, text, left) for text in merge.input) if side is not None]
    if len(found) != 2:
        return None
    predicates = {predicate for _, decisions in found for predicate, _ in decisions}
    sides = [{side for _, side in decisions} for _, decisions in found]
    sides = [side or {True, False} - other for side, other in zip(sides, sides[::-1], strict=True)]
    if len(predicates) != 1 or any(len(side) != 1 for side in sides) or sides[0] == sides[1]:
        return None
    which = [side.pop() for side in sides]
    slices = {side: part for side, (part, _) in zip(which, found, strict=True)}
    return _Sides(predicates.pop(), slices, dict(zip(which, merge.input, strict=True)))


def _side(work: _Work, tensor: str, left: set[str]) -> tuple[_Slice, set[tuple[str, bool]]] | None:
    """The nodes up to the Switches that let values in, and (predicate, side) of these Switches."""
    nodes, part = work.nodes, _Slice()
    decisions: set[tuple[str, bool]] = set()
    todo = [tensor]
    while todo:
        work.step()
        text = todo.pop()
        name, index = split(text.lstrip("^"))
        node = nodes[name]
        waiting = text.startswith("^")
        if node.op == "Switch":
            predicate = _behind(nodes, source(node, 1))
            if node_of(nodes, predicate).op != "LoopCond":
                decisions.add((predicate, bool(index)))
            if not waiting:
                part.entering[text] = None
        elif waiting:
            awaited = _behind(nodes, f"{name}:0")  # a constant waits for the side that it belongs to
            if node_of(nodes, awaited).op == "Switch":
                todo.append(f"^{awaited}")
        elif name in left or node.op in ("Enter", "Exit", "NextIteration"):
            return None
        elif _is_outside(node):
            part.entering[text] = None
        elif name not in part.inside:
            part.inside[name] = None
            todo.extend(node.input)
    return part, decisions


def _if(work: _Work, base: str, predicate: str, group: Mapping[str, _Sides]) -> dict[str, str]:
    nodes = work.nodes
    entering: dict[str, None] = {}
    for sides in group.values():
        for part in sides.slices.values():
            entering |= {_source(nodes, text): None for text in part.entering}
    places = {text: f"argument{i}:0" for i, text in enumerate(entering)}
    types = [_type_of(nodes, text, group) for text in entering]
    results = [_type(nodes[name]) for name in group]
    functions = {}
    for side in (True, False):
        slices = [sides.slices[side] for sides in group.values()]
        inside = {name: None for part in slices for name in part.inside}
        within = {text: places[_source(nodes, text)] for part in slices for text in part.entering}
        given = [sides.given[side] for sides in group.values()]
        functions[side] = _function(work, f"{base}/{'then' if side else 'else'}", within, types, inside, given, results)
    branch = work.new(
        f"{base}/If",
        "If",
        [predicate, *entering],
        Tcond=DT_BOOL,
        Tin=types,
        Tout=results,
        then_branch=functions[True],
        else_branch=functions[False],
    )
    _any_shapes(branch, len(results))
    return {f"{name}:0": f"{branch.name}:{i}" for i, name in enumerate(group)}


def _source(nodes: Mapping[str, NodeDef], tensor: str) -> str:
    """What a Switch lets in."""
    node = node_of(nodes, tensor)
    return source(node, 0) if node.op == "Switch" else tensor


def _type_of(nodes: Mapping[str, NodeDef], tensor: str, group: Mapping[str, _Sides]) -> int:
    """The type of a tensor that enters, as its Switch says it."""
    for sides in group.values():
        for part in sides.slices.values():
            for text in part.entering:
                if _source(nodes, text) == tensor:
                    return _type(node_of(nodes, text))
    raise GraphError(node_of(nodes, tensor), "enters a branch without a Switch")
