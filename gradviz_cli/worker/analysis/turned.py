"""Elementwise operations between a move and the one that undoes it: transpose(f(transpose(x))) is f(x), as converters write it
that lay an image out anew for each operation.

The same graph, for who reads what it computes: under the name of what undoes a move stands the last of these operations, of
what lies before the move. Those before it get names that no tensor of the graph has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.unrolled import MOVES
from gradviz_cli.worker.graph.graph import attribute, consumers, copied, data_inputs, in_order, split
from gradviz_cli.worker.graph.match import maker

Array = np.ndarray
Nodes = Mapping[str, NodeDef]

MOST = 12  # operations between two moves
APART = "@"  # in no name of a node


@dataclass
class Turned:
    """What is read in place of a graph.

    Attributes
    ----------
    path : set of str
        The nodes that carry values of the image.
    known : Known
        Of constants that were moved as well.
    between : dict
        What undoes a move -> the operations between, the last one first.
    hollow : set of str
        What nothing but these reads.
    """

    nodes: dict[str, NodeDef]
    path: set[str]
    known: Known
    between: dict[str, list[str]] = field(default_factory=dict)
    hollow: set[str] = field(default_factory=set)

    @property
    def ends(self) -> dict[str, str]:
        """The last operation between -> what undoes the move behind it."""
        return {between[0]: end for end, between in self.between.items() if between}

    def written(self, tensors: Iterable[str]) -> frozenset[str]:
        """The tensors of the graph itself that these stand for."""
        found: set[str] = set()
        for tensor in tensors:
            name = split(tensor)[0]
            found.add(f"{name.partition(APART)[0]}:0")
            found.update(f"{one}:0" for one in self.between.get(name, ())[:1])
        return frozenset(found)

    @property
    def inside(self) -> frozenset[str]:
        """The tensors of all operations between, as they are in the graph."""
        return frozenset(f"{name}:0" for between in self.between.values() for name in between)

    def is_apart(self, entry: str, exit_: str, tensors: Iterable[str]) -> bool:
        """It begins or ends where the graph has no tensor, or is found as well between the moves."""
        names = {split(tensor)[0] for tensor in tensors}
        if APART in entry or APART in exit_:
            return True
        inside = {one for name, between in self.between.items() if between for one in (name, *between)}
        anew = any(APART in name or self.between.get(name) for name in names)
        return anew and {name.partition(APART)[0] for name in names} <= inside


class _Known(Known):
    """What is known, and constants that were moved."""

    def __init__(self, known: Known):
        super().__init__({})
        self._before, self.moved = known, dict[str, tuple[str, Array]]()

    def __call__(self, tensor: str, depth: int = 0) -> Array | None:
        return self.moved[tensor][1] if tensor in self.moved else self._before(tensor, depth)

    def is_learnt(self, tensor: str) -> bool:
        return self._before.is_learnt(self.moved[tensor][0] if tensor in self.moved else tensor)


def turned(nodes: Nodes, path: set[str], known: Known) -> Turned:
    """The nodes, with an elementwise one in the place of each on the path that undoes a move."""
    moves = [name for name in in_order(nodes, path) if nodes[name].op in MOVES]
    found = Turned(dict(nodes), path, known)
    if len(moves) < 2:
        return found
    readers = consumers(nodes)
    found.known = _Known(known)
    for name in moves:
        island = _Island(found, name, readers)
        if island.source is not None:
            island.put()
    return found


class _Island:
    """The operations between the moves of one tensor and what undoes them; `source` is that tensor, None where it is none."""

    def __init__(self, found: Turned, end: str, readers: Mapping[str, list[str]]):
        self._found, self._end, self._readers = found, found.nodes[end], readers
        self._between: list[str] = []
        self._starts: set[str] = set()
        whole = self._walk() and self._is_closed()
        self.source = self._before() if whole else None

    def _walk(self) -> bool:
        """Back from the end, through elementwise operations to moves."""
        todo = [self._end.input[0]]
        while todo:
            name, index = split(todo.pop())
            if name in self._between or name in self._starts:
                continue
            node = self._found.nodes[name]
            if node.op in MOVES:
                self._starts.add(name)
                continue
            live = self._live(node)
            if index or node.op not in ELEMENTWISE or not live or len(self._between) >= MOST:
                return False
            self._between.append(name)
            todo.extend(live)
        return True

    def _live(self, node: NodeDef) -> list[str]:
        return [text for text in data_inputs(node) if split(text)[0] in self._found.path]

    def _is_closed(self) -> bool:
        """Nothing else reads what lies between."""
        inside = {*self._between, self._end.name}
        return all(
            reader in inside or reader not in self._found.path
            for name in self._between
            for reader in self._readers.get(name, ())
        )

    def _before(self) -> str | None:
        """The one tensor that was moved, if all of these moves are undone and the constants between can be moved too."""
        starts = [self._found.nodes[name] for name in self._starts]
        sources = {node.input[0] for node in starts}
        if len(sources) != 1 or not all(self._undoes(node) for node in starts):
            return None
        if not self._is_beside(split(next(iter(sources)))[0]):
            return None
        constants = [(node, text) for node in self._nodes() for text in data_inputs(node) if not self._is_live(text)]
        return sources.pop() if all(self._moved(*one) is not None for one in constants) else None

    def _is_beside(self, source: str) -> bool:
        """There is more to what lies between: an operation before the move, or another way past it."""
        readers = {one for one in self._readers.get(source, ()) if one in self._found.path}
        return self._found.nodes[source].op in ELEMENTWISE or not readers <= self._starts

    def _nodes(self) -> list[NodeDef]:
        return [self._found.nodes[name] for name in self._between]

    def _is_live(self, text: str) -> bool:
        return split(text)[0] in self._found.path

    def _undoes(self, start: NodeDef) -> bool:
        ops, known = (start.op, self._end.op), self._found.known
        if ops == ("Transpose", "Transpose"):
            there, back = (known(node.input[1]) for node in (start, self._end))
            if there is None or back is None or there.size != back.size:
                return False
            return bool((there[back.astype(int)] == np.arange(there.size)).all())
        if ops in (("ExpandDims", "Squeeze"), ("Squeeze", "ExpandDims")):
            wide, narrow = (start, self._end) if ops[0] == "ExpandDims" else (self._end, start)
            axis = known(wide.input[1])
            return axis is not None and list(attribute(narrow, "squeeze_dims").list.i) == [int(axis.flat[0])]
        if self._end.op != "Reshape" or start.op == "Transpose":
            return False
        shape = maker(self._found.nodes, self._end.input[1])
        return shape.op == "Shape" and shape.input[0] in self._as_large(start.input[0])

    def _as_large(self, tensor: str) -> list[str]:
        """A tensor, and those that it is made of by operations that leave the shape as it is."""
        found = [tensor]
        while len(found) < MOST:
            node = self._found.nodes[split(found[-1])[0]]
            live = self._live(node)
            others = [self._found.known(text) for text in data_inputs(node) if text not in live]
            if node.op not in ELEMENTWISE or len(live) != 1 or any(one is None or one.size != 1 for one in others):
                break
            found.append(live[0])
        return found

    def _moved(self, node: NodeDef, text: str) -> Array | None:
        """A constant as it lies before the move: one number, or numbers along axes that are only transposed."""
        value = self._found.known(text)
        if value is None or value.size == 1:
            return value
        axes = self._found.known(self._end.input[1]) if self._end.op == "Transpose" else None
        first = node.op == "BiasAdd" and attribute(node, "data_format").s == b"NCHW"
        value = value.reshape(-1, 1, 1) if first else value
        if axes is None or value.ndim > axes.size or first and axes.size != 4:
            return None
        return value.reshape((1,) * (axes.size - value.ndim) + value.shape).transpose(axes.astype(int))

    def put(self) -> None:
        """Write them anew, of what lies before the moves."""
        found, end = self._found, self._end.name
        if not self._between:
            found.nodes[end] = NodeDef(name=end, op="Identity", input=[self.source or ""])
            found.nodes[end].attr["T"].CopyFrom(attribute(self._end, "T"))
        for name in self._between:
            called = self._called(name)
            node = copied(
                found.nodes[name],
                called,
                [self._read(found.nodes[name], text) for text in data_inputs(found.nodes[name])],
            )
            node.op = "AddV2" if node.op == "BiasAdd" else node.op
            found.nodes[called] = node
            found.path = found.path | {called}
        found.between[end] = self._between
        self._hollow()

    def _called(self, name: str) -> str:
        return self._end.name if name == self._between[0] else f"{name}{APART}{self._end.name}"

    def _read(self, node: NodeDef, text: str) -> str:
        name = split(text)[0]
        if name in self._starts:
            return self.source or ""
        if name in self._between:
            return f"{self._called(name)}:0"
        value, known = self._moved(node, text), self._found.known
        if value is None or value.size == 1 or not isinstance(known, _Known):
            return text
        moved = f"{name}{APART}{node.name}{APART}{self._end.name}"
        known.moved[f"{moved}:0"] = text, value
        return f"{moved}:0"

    def _hollow(self) -> None:
        """What only these read, from the last one on."""
        for name in (*self._between, *sorted(self._starts)):
            readers = {one for one in self._readers.get(name, ()) if one in self._found.path}
            if readers <= {*self._found.hollow, self._end.name}:
                self._found.hollow.add(name)
