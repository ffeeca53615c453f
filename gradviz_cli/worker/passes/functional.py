"""Loops and branches of TensorFlow 1 written as those of TensorFlow 2 (pure functions on protocol buffers).

Enter, Merge, Switch, NextIteration and Exit become one While, Switch and Merge one If, the arrays that a loop fills
(TensorArrayV3) lists (TensorList). Inside a function the gradient of the new forms is defined, that of the old is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.types_pb2 import DT_BOOL, DT_INT32, DT_INT64, DT_VARIANT

from gradviz_cli.errors import ModelRefused
from gradviz_cli.worker.graph.graph import ARGUMENT, Body, Flat, ancestors, split, unique_mark
from gradviz_cli.worker.graph.match import MAX_LINKS

# Nodes looked at while the extent of loops and branches is found; a detector needs some 100,000.
MAX_STEPS = 20_000_000
CARRIERS = frozenset({"Enter", "Merge", "Switch", "Identity", "NextIteration", "Exit"})


@dataclass
class _Work:
    """A graph being rewritten: its nodes, the new functions, and where tensors that are gone are found instead."""

    nodes: dict[str, NodeDef]
    bodies: dict[str, Body] = field(default_factory=dict)
    steps: int = 0

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise ModelRefused("the loops and branches of this model are without end", "export the model again")

    def new(self, name: str, op: str, inputs: Iterable[str] = (), **attributes) -> NodeDef:
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

    def constant(self, name: str, value, dtype: int = DT_INT32) -> str:
        tensor = tf.make_tensor_proto(value, tf.dtypes.as_dtype(dtype))
        return self.new(name, "Const", dtype=dtype, value=tensor).name + ":0"

    def rename(self, moved: Mapping[str, str]) -> None:
        """Read every tensor of `moved` where it is now."""
        self.step(len(self.nodes))
        for name, node in self.nodes.items():
            if any(text in moved for text in node.input):
                copy = NodeDef()
                copy.CopyFrom(node)
                copy.input[:] = [moved.get(text, text) for text in node.input]
                self.nodes[name] = copy


def _set(node: NodeDef, key: str, value) -> None:
    attribute = node.attr[key]
    if isinstance(value, str):
        attribute.func.name = value
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.type = value
    elif isinstance(value, list):
        attribute.list.SetInParent()
        attribute.list.type.extend(value)
    else:
        attribute.tensor.CopyFrom(value)


def functional(flat: Flat) -> Flat:
    """The graph without the loops, branches and arrays of TensorFlow 1; the graph itself when it has none.

    Raises
    ------
    ModelRefused
        More nesting than any real model has.
    """
    nodes, outputs, bodies = _functional(flat.nodes, flat.outputs)
    for name, body in flat.bodies.items():
        inner, results, more = _functional(body.nodes, body.results)
        bodies |= {**more, name: replace(body, nodes=inner, results=results)}
    if nodes is flat.nodes and bodies == flat.bodies:
        return flat
    return replace(flat, nodes=nodes, bodies=bodies).pruned(outputs)


def _functional(nodes: Mapping[str, NodeDef], ends: Sequence[str]):
    """(nodes, ends, new functions)."""
    if not any(node.op in ("Merge", "TensorArrayV3") for node in nodes.values()):
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
    return work.nodes, tuple(_found(moved, end) for end in ends), work.bodies


def _found(moved: Mapping[str, str], tensor: str) -> str:
    while tensor in moved:
        tensor = moved[tensor]
    return tensor


def _construct(work: _Work, name: str, left: set[str]) -> dict[str, str] | None:
    """Replace one innermost loop or branch; None when this one holds another, or is of no known form."""
    node = work.nodes[name]
    if node.op == "LoopCond":
        return _loop(work, node, left)
    if any(work.nodes[split(text)[0]].op == "NextIteration" for text in node.input):
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
    copy = NodeDef()
    copy.CopyFrom(node)
    copy.attr["T"].type = DT_VARIANT
    return copy


def _element_shape(work: _Work, node: NodeDef, attribute: str = "element_shape", leading: tuple = ()) -> str:
    known = attribute in node.attr and not node.attr[attribute].shape.unknown_rank
    value = [*leading, *(dim.size for dim in node.attr[attribute].shape.dim)] if known else -1
    return work.constant(f"{node.name}/element_shape", np.int32(value))


def _listed(node: NodeDef, op: str, inputs: Sequence[str], dtype: str, **attributes) -> NodeDef:
    new = NodeDef(name=node.name, op=op, input=inputs)
    new.attr["element_dtype"].type = node.attr[dtype].type
    for key, value in attributes.items():
        _set(new, key, value)
    return new


def _reserve(work: _Work, node: NodeDef) -> NodeDef:
    inputs = [_element_shape(work, node), node.input[0]]
    return _listed(node, "TensorListReserve", inputs, "dtype", shape_type=DT_INT32)


def _write(work: _Work, node: NodeDef) -> NodeDef:
    _, index, value, flow = node.input[:4]
    return _listed(node, "TensorListSetItem", [flow, index, value], "T", resize_if_index_out_of_bounds=True)


def _read(work: _Work, node: NodeDef) -> NodeDef:
    _, index, flow = node.input[:3]
    return _listed(node, "TensorListGetItem", [flow, index, _element_shape(work, node)], "dtype")


def _gather(work: _Work, node: NodeDef) -> NodeDef:
    _, indices, flow = node.input[:3]
    return _listed(node, "TensorListGather", [flow, indices, _element_shape(work, node)], "dtype")


def _scatter(work: _Work, node: NodeDef) -> NodeDef:
    _, indices, value, flow = node.input[:4]
    return _listed(node, "TensorListScatterIntoExistingList", [flow, value, indices], "T")


def _concat(work: _Work, node: NodeDef) -> NodeDef:
    _, flow = node.input[:2]
    shape = _element_shape(work, node, "element_shape_except0", (-1,))
    leading = work.constant(f"{node.name}/leading_dims", np.zeros(0, np.int64), DT_INT64)
    return _listed(node, "TensorListConcatV2", [flow, shape, leading], "dtype", shape_type=DT_INT32)


def _split(work: _Work, node: NodeDef) -> NodeDef:
    _, value, lengths, _ = node.input[:4]
    return _listed(node, "TensorListSplit", [value, _element_shape(work, node), lengths], "T", shape_type=DT_INT32)


def _size(work: _Work, node: NodeDef) -> NodeDef:
    return NodeDef(name=node.name, op="TensorListLength", input=[node.input[1]])


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
    results,
    result_types,
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
        copy = NodeDef()
        copy.CopyFrom(work.nodes[inner])
        # What waits for a branch waits for nothing in a function, which runs only when its branch is taken.
        copy.input[:] = [arguments.get(text, text) for text in copy.input if not text.startswith("^")]
        nodes[inner] = copy
    results = tuple(arguments.get(text, text) for text in results)
    needed = ancestors(nodes, results)
    nodes = {inner: node for inner, node in nodes.items() if inner in needed or node.op == ARGUMENT}
    work.bodies[signature.name] = Body(signature, nodes, results, {})
    return signature.name


def _is_outside(node: NodeDef) -> bool:
    """Weights, variables and arguments stand outside of every loop, whatever the graph says."""
    return node.op in ("Placeholder", ARGUMENT)


def _type(node: NodeDef) -> int:
    return node.attr["dtype" if node.op == "Placeholder" else "T"].type


def _maker(nodes: Mapping[str, NodeDef], tensor: str) -> str:
    """The tensor itself, seen through Identity."""
    for _ in range(MAX_LINKS):
        if nodes[split(tensor)[0]].op != "Identity":
            break
        tensor = nodes[split(tensor)[0]].input[0]
    return tensor


# -- loops -----------------------------------------------------------------------------------------------------------


def _loop(work: _Work, cond: NodeDef, left: set[str]) -> dict[str, str] | None:
    nodes = work.nodes
    work.step(len(nodes))
    switches = [name for name, node in nodes.items() if node.op == "Switch" and split(node.input[1])[0] == cond.name]
    merges: dict[str, str] = {}  # Merge -> the tensor that it takes in the next iteration
    inside, entering = {}, {}
    todo = [cond.input[0], *(nodes[name].input[0] for name in switches)]
    while todo:
        work.step()
        tensor = todo.pop()
        name = split(tensor)[0]
        node = nodes[name]
        if name in inside or name in merges:
            continue
        if node.op == "Merge":
            back = [text for text in node.input if nodes[split(text)[0]].op == "NextIteration"]
            if len(back) != 1 or len(node.input) != 2:
                return None
            merges[name] = nodes[split(back[0])[0]].input[0]
            todo.append(merges[name])
        elif name in switches:
            todo.append(node.input[0])
        elif node.op == "Enter" or _is_outside(node):
            entering[tensor] = None
        elif name in left or node.op in ("Exit", "Switch"):
            return None  # another loop or branch inside: that one first
        else:
            inside[name] = None
            todo.extend(text for text in node.input if not text.startswith("^"))
    return _while(work, cond, switches, merges, inside, list(entering))


def _while(
    work: _Work, cond: NodeDef, switches, merges: Mapping[str, str], inside, entering: list[str]
) -> dict[str, str]:
    """One While: a counter and a limit, as its gradient wants them, then the loop's variables, then what stays the same."""
    nodes = work.nodes
    starts = [_start(nodes, name) for name in merges]
    fixed = [nodes[split(text)[0]].input[0] if nodes[split(text)[0]].op == "Enter" else text for text in entering]
    types = [
        DT_INT32,
        DT_INT32,
        *(_type(nodes[name]) for name in merges),
        *(_type(nodes[split(text)[0]]) for text in entering),
    ]
    places = {f"{name}:0": f"argument{i + 2}:0" for i, name in enumerate(merges)}
    places |= {f"{name}:1": places[f"{split(nodes[name].input[0])[0]}:0"] for name in switches}
    places |= {text: f"argument{i + 2 + len(merges)}:0" for i, text in enumerate(entering)}
    base = cond.name.rpartition("/")[0] or cond.name
    counter = work.constant(f"{base}/gradviz_counter", 0)
    limit = work.constant(f"{base}/gradviz_limit", -1)
    one = work.constant(f"{base}/gradviz_one", 1)
    more = work.new(f"{base}/gradviz_next", "AddV2", ["argument0:0", one], T=DT_INT32)
    going = _function(work, f"{base}/cond", places, types, inside, [cond.input[0]], [DT_BOOL])
    kept = [f"argument{i + 2 + len(merges)}:0" for i in range(len(entering))]
    results = [f"{more.name}:0", "argument1:0", *merges.values(), *kept]
    body = _function(work, f"{base}/body", places, types, [*inside, split(one)[0], more.name], results, types)
    del nodes[more.name], nodes[split(one)[0]]
    loop = work.new(f"{base}/While", "While", [counter, limit, *starts, *fixed], T=types, cond=going, body=body)
    _any_shapes(loop, len(types), scalars=2)
    found = {f"{name}:0": f"{loop.name}:{i + 2}" for i, name in enumerate(merges)}
    exits = [(name, split(node.input[0])) for name, node in nodes.items() if node.op == "Exit"]
    of_merge = {name: split(nodes[name].input[0])[0] for name in switches}
    return {f"{name}:0": found[f"{of_merge[source]}:0"] for name, (source, _) in exits if source in of_merge}


def _start(nodes: Mapping[str, NodeDef], merge: str) -> str:
    """The tensor that a loop variable begins with."""
    enter = next(text for text in nodes[merge].input if nodes[split(text)[0]].op != "NextIteration")
    return nodes[split(enter)[0]].input[0]


def _any_shapes(node: NodeDef, count: int, scalars: int = 0) -> None:
    for i in range(count):
        shape = node.attr["output_shapes"].list.shape.add()
        shape.unknown_rank = i >= scalars


# -- branches --------------------------------------------------------------------------------------------------------


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
            if sides is not None and sides[0] == first[0]:
                group[name] = sides
    return _if(work, scope or merge.name, first[0], group)


def _sides(work: _Work, merge: NodeDef, left: set[str]) -> tuple[str, dict[bool, _Slice], dict[bool, str]] | None:
    """(predicate, what each side needs, the tensor each side gives) of a Merge, or None when it is not innermost."""
    if len(merge.input) != 2:
        return None
    found = [_side(work, text, left) for text in merge.input]
    if None in found:
        return None
    predicates = {predicate for _, decisions in found for predicate, _ in decisions}
    sides = [{side for _, side in decisions} for _, decisions in found]
    sides = [side or {True, False} - other for side, other in zip(sides, sides[::-1], strict=True)]
    if len(predicates) != 1 or any(len(side) != 1 for side in sides) or sides[0] == sides[1]:
        return None
    which = [side.pop() for side in sides]
    slices = {side: part for side, (part, _) in zip(which, found, strict=True)}
    return predicates.pop(), slices, dict(zip(which, merge.input, strict=True))


def _side(work: _Work, tensor: str, left: set[str]) -> tuple[_Slice, set[tuple[str, bool]]] | None:
    """The nodes up to the Switches that let values in, and (predicate, side) of these Switches."""
    nodes, part, decisions = work.nodes, _Slice(), set()
    todo = [tensor]
    while todo:
        work.step()
        text = todo.pop()
        name, index = split(text.lstrip("^"))
        node = nodes[name]
        waiting = text.startswith("^")
        if node.op == "Switch":
            predicate = _maker(nodes, node.input[1])
            if nodes[split(predicate)[0]].op != "LoopCond":
                decisions.add((predicate, bool(index)))
            if not waiting:
                part.entering[text] = None
        elif waiting:
            source = _maker(nodes, f"{name}:0")  # a constant waits for the side that it belongs to
            if nodes[split(source)[0]].op == "Switch":
                todo.append(f"^{source}")
        elif name in left or node.op in ("Enter", "Exit", "NextIteration"):
            return None
        elif _is_outside(node):
            part.entering[text] = None
        elif name not in part.inside:
            part.inside[name] = None
            todo.extend(node.input)
    return part, decisions


def _if(work: _Work, base: str, predicate: str, group: Mapping[str, tuple]) -> dict[str, str]:
    nodes = work.nodes
    entering: dict[str, None] = {}
    for _, slices, _ in group.values():
        for part in slices.values():
            entering |= {_source(nodes, text): None for text in part.entering}
    places = {text: f"argument{i}:0" for i, text in enumerate(entering)}
    types = [_type_of(nodes, text, group) for text in entering]
    results = [nodes[name].attr["T"].type for name in group]
    functions = {}
    for side in (True, False):
        inside = {name: None for _, slices, _ in group.values() for name in slices[side].inside}
        within = {
            text: places[_source(nodes, text)] for _, slices, _ in group.values() for text in slices[side].entering
        }
        given = [outputs[side] for _, _, outputs in group.values()]
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
    node = nodes[split(tensor)[0]]
    return node.input[0] if node.op == "Switch" else tensor


def _type_of(nodes: Mapping[str, NodeDef], source: str, group: Mapping[str, tuple]) -> int:
    """The type of a tensor that enters, as its Switch says it."""
    for _, slices, _ in group.values():
        for part in slices.values():
            for text in part.entering:
                if _source(nodes, text) == source:
                    return _type(nodes[split(text)[0]])
    raise KeyError(source)
