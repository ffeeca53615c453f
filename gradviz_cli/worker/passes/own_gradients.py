"""Which gradients of the model's own are used, and which wrappers are dropped.

An own gradient that is the derivative of what it wraps (SiLU written to save memory, `tf.recompute_grad`) is left for that
derivative, which the rule can act on: activations inside obey. Any other is the model's word and is used: straight-through
estimators, gradients that are reversed, scaled or clipped. Where the file holds no function for it, or one with operations
that may not run, the derivative stands in, and the node says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.framework.types_pb2 import DT_RESOURCE

from gradviz_cli.worker.analysis import policy, regions
from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    FIRST_ARGUMENT,
    Function,
    Graph,
    attribute,
    copied,
    data_inputs,
    descendants,
    functions_called,
    graph_def,
    maker_name,
    node_of,
    split,
    topological,
)
from gradviz_cli.worker.graph.match import origin
from gradviz_cli.worker.graph.tf_private import import_nodes, op_def
from gradviz_cli.worker.graph.wrappers import (
    REPLACED,
    SHAPES,
    WIDTH,
    function_of,
    is_wrapper,
    places_of,
    reached,
)
from gradviz_cli.worker.graph.wrappers import (
    own_gradients as gradients_of,
)
from gradviz_cli.worker.passes.products import rewritten, rewritten_functions

MAX_PART = 2_000  # nodes; nothing larger is wrapped by hand
MAX_NUMBERS = 1 << 24
FEWEST_SAMPLES = 256


def own_gradients(graph: Graph, allow: Iterable[str] = (), trust: bool = False) -> Graph:
    """The graph whose wrappers are those with a gradient function that is used; the others are gone.

    `allow` and `trust` are what the policy is told of operations outside its list.
    """
    scopes: dict[str | None, Mapping[str, NodeDef]] = {None: graph.nodes}
    scopes |= {name: function.nodes for name, function in graph.functions.items()}
    if not any(is_wrapper(node) for nodes in scopes.values() for node in nodes.values()):
        return graph
    judge = _Judge(graph, frozenset(allow), trust)
    kept = 0
    functions, outputs = dict(graph.functions), graph.outputs
    for scope, nodes in scopes.items():
        if not any(map(is_wrapper, nodes.values())):
            continue
        settled, moved = _settled(nodes, judge, top=scope is None)
        kept += sum(map(is_wrapper, settled.values()))
        if scope is None:
            outputs = tuple(_found(moved, tensor) for tensor in outputs)
            graph = replace(graph, nodes=_in_order(settled, outputs))
        else:
            results = tuple(_found(moved, tensor) for tensor in functions[scope].results)
            functions[scope] = replace(functions[scope], nodes=settled, results=results)
    count = max(0, graph.custom_gradients - kept)
    return replace(graph, functions=functions, custom_gradients=count).pruned(outputs)


def _settled(nodes: Mapping[str, NodeDef], judge: _Judge, top: bool) -> tuple[dict[str, NodeDef], dict[str, str]]:
    """The nodes of one scope, and tensor of a dropped wrapper -> the tensor that it hands on."""
    settled, moved = dict(nodes), dict[str, str]()
    sources = {name: [maker_name(text) for text in node.input] for name, node in nodes.items()}
    sources = {name: [] if nodes[name].op == "NextIteration" else before for name, before in sources.items()}
    for name in topological(sources):
        node = settled[name]
        if any(text in moved for text in node.input):
            node = settled[name] = copied(node, inputs=[_found(moved, text) for text in node.input])
        if not is_wrapper(node):
            continue
        verdict = judge.verdict(settled, node, top)
        if verdict == USED:
            continue
        width = node.attr[WIDTH].i
        moved |= {f"{name}:{place}": text for place, text in enumerate(data_inputs(node)[:width])}
        del settled[name]
        if verdict == LOST:
            settled[name] = _stand_in(node, judge.refused(node))
            moved[f"{name}:0"] = f"{name}:0"
    for name, node in settled.items():  # control inputs on what is gone, and readers in a loop of TensorFlow 1
        if any(text in moved or (text.startswith("^") and text[1:] not in settled) for text in node.input):
            texts = [_found(moved, text) for text in node.input if not text.startswith("^") or text[1:] in settled]
            settled[name] = copied(node, inputs=texts)
    return settled, moved


def _in_order(nodes: Mapping[str, NodeDef], outputs: Iterable[str]) -> dict[str, NodeDef]:
    """The nodes in the order in which `inline` writes them where there are no wrappers.

    TensorFlow adds gradients up in the order of nodes, and so another order is another last bit.
    """
    ordered: dict[str, NodeDef] = {}
    for output in outputs:
        todo = [maker_name(output)]
        while todo:
            name = todo.pop()
            if name not in ordered:
                ordered[name] = nodes[name]
                todo.extend(maker_name(text) for text in nodes[name].input if maker_name(text) not in ordered)
    return {**ordered, **nodes}


def _found(moved: Mapping[str, str], tensor: str) -> str:
    while moved.get(tensor, tensor) != tensor:
        tensor = moved[tensor]
    return tensor


def _stand_in(node: NodeDef, refused: str) -> NodeDef:
    """An Identity in place of a wrapper, which says that a gradient of the model's own is lost here, and the op at fault."""
    identity = NodeDef(name=node.name, op="Identity", input=data_inputs(node)[:1])
    identity.attr["T"].type = attribute(node, "T").list.type[0]
    identity.attr[REPLACED].s = refused.encode()
    return identity


# -- the verdict ---------------------------------------------------------------------------------------------------------

USED, SAME, LOST = "used", "same", "lost"


@dataclass
class _Judge:
    """Says of wrappers what becomes of them. Those that compute alike are compared once."""

    graph: Graph
    allow: frozenset[str]
    trust: bool
    compared: dict[bytes, bool] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)

    def verdict(self, nodes: Mapping[str, NodeDef], node: NodeDef, top: bool) -> str:
        function = function_of(node)
        if function is None or self.refused(node) or any(map(_kills, self._nodes(function))):
            return SAME if _is_activation(nodes, node) else LOST
        part = _part(nodes, node, {**self.graph.weights, **self.graph.handles} if top else {})
        same = self._is_derivative(node, part) if part is not None else None
        if same is None:
            same = _is_activation(nodes, node)
        return SAME if same else USED

    def refused(self, node: NodeDef) -> str:
        """An operation of the gradient function that may not run; empty where there is none."""
        name = function_of(node)
        if name is None or self.trust:
            return ""
        if name not in self.refusals:
            alone = Graph({str(place): one for place, one in enumerate(self._nodes(name)) if one.op != ARGUMENT})
            self.refusals[name] = next(iter(policy.refused_ops(alone, self.allow)), "")
        return self.refusals[name]

    def _nodes(self, name: str) -> list[NodeDef]:
        """Those of a function and of all that it calls."""
        functions = self.graph.functions
        called = [name, *functions_called(functions[name].nodes.values(), functions)]
        return [node for one in called for node in functions[one].nodes.values()]

    def _is_derivative(self, node: NodeDef, part: _Part) -> bool | None:
        """Whether the own gradient is the derivative of what is wrapped, for random numbers; None where neither is known.

        Nothing of the model's is given to TensorFlow that the policy has not judged.
        """
        functions = self.graph.functions
        if any(
            _hinders(one) for one in self._nodes(function_of(node) or "") if one.op not in (ARGUMENT, "ReadVariableOp")
        ):
            return None  # loops too: whether they end is not known before they do
        with suppress(Exception):  # whatever a strange part throws
            key = part.text(functions[function_of(node) or ""]) if part.is_elementwise() else None
            if key is None or key not in self.compared:
                policy.judge(Graph(part.nodes, functions).pruned(part.ends), self.allow, self.trust)
                same = _agree(part, functions)
                if key is None:
                    return same
                self.compared[key] = same
            return self.compared[key]
        return None


def _kills(node: NodeDef) -> bool:
    """Might be the kernel of oneDNN that corrupts the heap (`passes.onednn`), written down where no pass reaches it."""
    return node.op == "Conv2DBackpropInput" and max(attribute(node, "strides").list.i, default=1) > 1


def _is_activation(nodes: Mapping[str, NodeDef], node: NodeDef) -> bool:
    """Whether what is wrapped is an activation that is known by its values."""
    width = node.attr[WIDTH].i
    result, *others = data_inputs(node)[:width]
    types = attribute(node, "T").list.type[1:]
    floats = [text for text, kind in zip(others, types, strict=False) if tf.dtypes.as_dtype(kind).is_floating]
    for argument in floats:
        path = descendants(nodes, [split(argument)[0]]) & {
            split(one)[0] for one in _behind(nodes, [result], [argument])
        }
        for region in regions.find(nodes, path | {split(argument)[0]}, Known(nodes)):
            ends = origin(nodes, region.entry), origin(nodes, region.exit)
            if region.role in ("", "gate") and ends == (origin(nodes, argument), origin(nodes, result)):
                return True
    return False


# -- what is wrapped -----------------------------------------------------------------------------------------------------


def _behind(nodes: Mapping[str, NodeDef], ends: Iterable[str], stops: Iterable[str]) -> set[str]:
    """Tensors that `ends` are computed from, themselves included, no further than `stops`."""
    todo, seen = list(ends), set(stops)
    found: set[str] = set()
    while todo:
        text = todo.pop()
        if text not in seen:
            seen.add(text)
            found.add(text)
            todo.extend(data_inputs(node_of(nodes, text)))
    return found


@dataclass(frozen=True)
class _Part:
    """What a wrapper wraps: the nodes from its arguments to its results and to what its gradient function captured."""

    wrapper: NodeDef
    nodes: Mapping[str, NodeDef]
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    captured: tuple[str, ...]
    variables: Mapping[str, str]  # placeholder -> variable, that of its handle too

    @property
    def ends(self) -> list[str]:
        """The tensors that have to be computed."""
        return list(dict.fromkeys(text for text in data_inputs(self.wrapper) if text not in self.arguments))

    def is_elementwise(self) -> bool:
        """One number becomes one number everywhere, so that the shape of the arguments is no part of the question."""
        inner = self.nodes.values()
        small = (node.op != "Const" or not attribute(node, "value").tensor.tensor_shape.dim for node in inner)
        return all(node.op in ELEMENTWISE | {"Const"} for node in inner) and all(small)

    def shapes(self) -> dict[str, list[int]]:
        """Shapes for the arguments that the gradient function fits."""
        told = dict(zip(reached(self.wrapper), self.wrapper.attr[SHAPES].list.shape, strict=True))
        return {text: _filled(told[text], self.is_elementwise()) for text in self.arguments}

    def text(self, function: Function) -> bytes:
        """Two parts with one text compute alike, and so do their gradient functions."""
        ends = [*self.results, *self.captured]
        inner = [one.name for one in function.signature.input_arg]
        return b"|".join(
            (
                _text(self.nodes, ends, {text: f"argument {place}" for place, text in enumerate(self.arguments)}),
                _text(
                    function.nodes, function.results, {f"{one}:0": f"given {place}" for place, one in enumerate(inner)}
                ),
                str((places_of(self.wrapper), list(self.shapes().values()))).encode(),
            )
        )


def _text(nodes: Mapping[str, NodeDef], ends: Sequence[str], names: Mapping[str, str]) -> bytes:
    numbers: dict[str, str] = dict(names)
    rows: list[bytes] = []

    def number(text: str) -> str:
        if text not in numbers:
            node = node_of(nodes, text)
            inputs = [number(one) for one in data_inputs(node)]
            bare = copied(node, name="", inputs=inputs)
            rows.append(bare.SerializeToString(deterministic=True))
            numbers[text] = f"{len(rows)}:{split(text)[1]}"
        return numbers[text]

    last = [number(end) for end in ends]
    return b";".join((*rows, ",".join(last).encode()))


def _part(nodes: Mapping[str, NodeDef], node: NodeDef, variables: Mapping[str, str]) -> _Part | None:
    """None where it is nothing that could be compared."""
    inputs = data_inputs(node)
    # No gradient of the image passes constants and weights.
    fixed = {split(text)[0] for text in inputs if nodes[split(text)[0]].op == "Const"} | variables.keys()
    places = [place for place in places_of(node) if split(inputs[place])[0] not in fixed]
    width = node.attr[WIDTH].i
    if not places:
        return None
    arguments = tuple(dict.fromkeys(inputs[place] for place in places))
    results, captured = tuple(inputs[: places[0]]), tuple(inputs[width:])
    # An argument to which the own gradient gives nothing is not cut off: behind it comes the image, and that hinders.
    behind = _behind(nodes, inputs, arguments)
    part = {name: nodes[name] for name in {split(text)[0] for text in behind}}
    free = [one for name, one in part.items() if name not in variables]
    if len(part) > MAX_PART or len(arguments) < len(places) or any(map(_hinders, free)):
        return None
    return _Part(node, part, arguments, results, captured, variables)


def _hinders(node: NodeDef) -> bool:
    """Has another value each time, or none that is known here; or has a gradient of its own."""
    definition = op_def(node.op)
    free = node.op in (ARGUMENT, "Placeholder")
    return free or definition is None or definition.is_stateful or node.op in FIRST_ARGUMENT or is_wrapper(node)


# -- compared ------------------------------------------------------------------------------------------------------------


def _agree(part: _Part, functions: Mapping[str, Function]) -> bool:
    """Whether the function gives what TensorFlow derives, for numbers of many sizes."""
    part, functions = replace(part, nodes=rewritten(part.nodes)), rewritten_functions(functions)
    random = np.random.default_rng(0)
    types = dict(zip(data_inputs(part.wrapper), attribute(part.wrapper, "T").list.type, strict=True))
    given = {text: _numbers(random, shape, types[text]) for text, shape in part.shapes().items()}
    weights = _weights(part, random)
    own, derived = tf.function(lambda: _both(part, functions, given, weights, random), autograph=False)()
    return all(_close(one.numpy(), other.numpy()) for one, other in zip(own, derived, strict=True))


def _weights(part: _Part, random: np.random.Generator) -> dict[str, tf.Variable]:
    """Placeholder -> a variable of any numbers: whether two functions are one does not depend on the weights."""
    read = {
        part.variables[name]: node
        for name, node in part.nodes.items()
        if node.op == "Placeholder" and "shape" in node.attr
    }
    if sum(math.prod(dim.size for dim in node.attr["shape"].shape.dim) for node in read.values()) > MAX_NUMBERS:
        raise ValueError("so many numbers are not made up")
    made = {
        variable: tf.Variable(
            _numbers(
                random, [dim.size for dim in node.attr["shape"].shape.dim], attribute(node, "dtype").type, spread=0.3
            )
        )
        for variable, node in read.items()
    }
    return {name: made[part.variables[name]] for name, node in part.nodes.items() if node.op == "Placeholder"}


def _both(
    part: _Part,
    functions: Mapping[str, Function],
    given: Mapping[str, np.ndarray],
    weights: Mapping[str, tf.Variable],
    random: np.random.Generator,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The own gradients of the arguments, and the derivatives."""
    tensors = {text: tf.constant(value) for text, value in given.items()}
    capture = tf.compat.v1.get_default_graph().capture
    for name, variable in weights.items():
        is_handle = attribute(part.nodes[name], "dtype").type == DT_RESOURCE
        tensors[f"{name}:0"] = capture(variable.handle) if is_handle else tf.identity(variable)
    read = {text for node in part.nodes.values() for text in node.input}
    built = graph_def(node for node in part.nodes.values() if node.name not in weights)
    mapped = {text: tensor for text, tensor in tensors.items() if text in read}
    ends = [text for text in part.ends if text not in tensors]
    tensors |= zip(ends, import_nodes(built, mapped, ends, "wrapped"), strict=True)
    results, arguments = ([tensors[text] for text in texts] for texts in (part.results, part.arguments))
    upstreams = [tf.constant(_numbers(random, one.shape.as_list(), one.dtype.as_datatype_enum)) for one in results]
    derived = tf.gradients(results, arguments, upstreams, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    inputs = [tensors[text] for text in data_inputs(part.wrapper)]
    missing = part.wrapper.attr[WIDTH].i - len(upstreams)
    own = gradients_of(functions, part.wrapper, inputs, [*upstreams, *[None] * missing])
    return [own[data_inputs(part.wrapper).index(text)] for text in part.arguments], derived


def _filled(shape: TensorShapeProto, flat: bool) -> list[int]:
    """A shape with numbers where it is open; ValueError where its rank is. Many samples along one axis, if `flat`."""
    sizes = tf.TensorShape(shape).as_list()
    if flat:
        return [FEWEST_SAMPLES, *[1] * len(sizes)][: len(sizes)]
    known = int(np.prod([size for size in sizes if size is not None], dtype=float))
    if known > MAX_NUMBERS:
        raise ValueError("too large to be tried out")
    few = 2 if known >= FEWEST_SAMPLES else 16
    return [few if size is None else size for size in sizes]


def _numbers(random: np.random.Generator, shape: Sequence[int], dtype: int, spread: float = 1.5) -> np.ndarray:
    """Of either sign and of sizes around 1, over so many powers of ten."""
    numbers = random.normal(size=shape) * 10 ** random.uniform(-spread, spread, shape)
    return np.asarray(numbers, tf.dtypes.as_dtype(dtype).as_numpy_dtype)


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    scale = np.abs(other).max(initial=0)
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-5 * scale, equal_nan=True))
