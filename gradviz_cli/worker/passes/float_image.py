"""Whole pixels (uint8, int32) become floats.

A Cast cuts the gradient. The same numbers as floats, moved about and computed with by the same operations, let it reach
the image itself, whatever lies before the Cast. That is done only where floats give the same numbers: each tensor has a
span, the lowest and the highest value that an image of 0..255 gives it, and a span that the integer type does not hold
would wrap around. What divides, shifts or looks up whole numbers is no function of floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_BOOL, DT_FLOAT

from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.moves import MIXERS, MOVERS, SIZES
from gradviz_cli.worker.graph.graph import (
    Graph,
    attribute,
    constant_node,
    copied,
    data_inputs,
    descendants,
    in_place_of,
    sources_in_order,
    split,
    topological,
)
from gradviz_cli.worker.graph.match import STOPS
from gradviz_cli.worker.graph.question import Question

Span = tuple[float, float]

PIXELS: Span = (0.0, 255.0)
# Whole numbers up to this are exact in float32.
EXACT = 2.0**24
COMPARISONS = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"})
GIVES = {**dict.fromkeys(COMPARISONS, DT_BOOL), **dict.fromkeys(MIXERS, DT_FLOAT)}


def _corners(function: Callable[[float, float], float]) -> Callable[[Span, Span], Span]:
    """The span of a function of two numbers that is monotone in each."""

    def span(one: Span, other: Span) -> Span:
        values = [function(a, b) for a in one for b in other]
        return min(values), max(values)

    return span


def _abs(span: Span) -> Span:
    low, high = sorted(map(abs, span))
    return (0.0 if span[0] <= 0 <= span[1] else low), high


def _square(span: Span) -> Span:
    low, high = _abs(span)
    return low * low, high * high


_LESS = _corners(lambda a, b: a - b)
# Arithmetic on whole numbers that floats do too -> the span of the result.
ARITHMETIC: dict[str, Callable[..., Span]] = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd"), _corners(lambda a, b: a + b)),
    "AddN": lambda *spans: (sum(low for low, _ in spans), sum(high for _, high in spans)),
    "Sub": _LESS,
    "Mul": _corners(lambda a, b: a * b),
    "Maximum": _corners(max),
    "Minimum": _corners(min),
    "ClipByValue": lambda x, low, high: _corners(min)(_corners(max)(x, low), high),
    "ZerosLike": lambda _: (0.0, 0.0),
    "OnesLike": lambda _: (1.0, 1.0),
    "Neg": lambda span: (-span[1], -span[0]),
    "Abs": _abs,
    "Square": _square,
    "SquaredDifference": lambda one, other: _square(_LESS(one, other)),
}


@dataclass
class _Floats:
    """What has become float so far.

    Attributes
    ----------
    nodes : dict
        The changed nodes, and the Casts of what stands beside the pixels.
    spans : dict
        Node that holds pixels -> their span.
    reached : bool
        A float tensor of the model reads them.
    """

    graph: Graph
    known: Known
    nodes: dict[str, NodeDef] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    reached: bool = False

    def span(self, tensor: str) -> Span | None:
        """Of pixels, or of a value that is written in the graph."""
        name, _ = split(tensor)
        if name in self.spans:
            return self.spans[name]
        value = self.known(tensor)
        return None if value is None or not value.size else (float(np.min(value)), float(np.max(value)))


def float_image(graph: Graph, question: Question) -> Graph:
    """The graph fed with the same pixels as floats; the graph itself where that would change what it computes."""
    if not question.image.dtype.is_integer:
        return graph
    image = split(question.fed(graph))[0]
    floats = _Floats(graph, Known(graph.nodes), {image: _typed(graph.nodes[image], "dtype")}, {image: PIXELS})
    for node in _behind(graph, image):
        if any(split(text)[0] in floats.spans for text in data_inputs(node)) and not _change(floats, node):
            return graph
    return replace(graph, nodes={**graph.nodes, **floats.nodes}) if floats.reached else graph


def _behind(graph: Graph, image: str) -> Iterable[NodeDef]:
    """The nodes that depend on the image, each after those that it reads."""
    below = descendants(graph.nodes, [image]) - {image}
    nodes = {name: graph.nodes[name] for name in below}
    return [nodes[name] for name in topological(sources_in_order(nodes))]


def _change(floats: _Floats, node: NodeDef) -> bool:
    """Change a node that reads pixels; False where floats would not give what it computes."""
    if node.op in SIZES:
        floats.nodes[node.name] = _typed(node, "T")
        return node.op != "ShapeN"
    if node.op == "Cast":
        return _change_cast(floats, node)
    if node.op == "Bitcast":
        return _keep_bits(floats, node)
    if node.op == "Invert" and _type(node, "T").is_unsigned:
        return _keep_inverted(floats, node)
    if node.op in MOVERS:
        mover = MOVERS[node.op]
        kept = in_place_of(node, "Identity", node.input) if node.op in STOPS else node
        return _keep(floats, kept, mover.numbers(node), _type(node, mover.type), mover.type, mover.zeros)
    if node.op in ARITHMETIC:
        return _keep(floats, node, data_inputs(node), _type(node, "T"))
    if node.op in GIVES:
        return _give(floats, node)
    return False


def _change_cast(floats: _Floats, node: NodeDef) -> bool:
    """A Cast to floats is reached; one to whole numbers stays if these have room. Between float32 there is no Cast."""
    to = _type(node, "DstT")
    same = NodeDef(name=node.name, op="Identity", input=node.input)
    same.attr["T"].type = DT_FLOAT
    if to.is_integer:
        return _keep(floats, same, [node.input[0]], to, None)
    floats.nodes[node.name] = same if to == tf.float32 else _typed(node, "SrcT")
    floats.reached |= to.is_floating
    return True


def _give(floats: _Floats, node: NodeDef) -> bool:
    """An operation that makes of pixels what are pixels no longer: floats by resizing, truths by comparing."""
    numbers = data_inputs(node) if node.op in COMPARISONS else data_inputs(node)[:1]
    if not _pixels_only_in(floats, node, numbers) or any(floats.span(text) is None for text in numbers):
        return False
    floats.nodes[node.name] = _reading(floats, _typed(node, "T"), numbers, _type(node, "T"))
    floats.reached |= GIVES[node.op] == DT_FLOAT
    return True


def _keep(
    floats: _Floats,
    node: NodeDef,
    numbers: list[str],
    dtype: tf.DType,
    kind: str | None = "T",
    zeros: bool = False,
) -> bool:
    """Make a node read and give floats; False where its numbers are not known, or not held by their integer type."""
    found = [floats.span(text) for text in numbers]
    spans = [span for span in found if span is not None]
    if len(spans) < len(found) or not _pixels_only_in(floats, node, numbers):
        return False
    spans = [*spans, (0.0, 0.0)] if zeros else spans
    low, high = ARITHMETIC[node.op](*spans) if node.op in ARITHMETIC else _hull(spans)
    if low < max(dtype.min, -EXACT) or high > min(dtype.max, EXACT):
        return False
    floats.nodes[node.name] = _reading(floats, _typed(node, kind) if kind else node, numbers, dtype)
    floats.spans[node.name] = (low, high)
    return True


def _keep_bits(floats: _Floats, node: NodeDef) -> bool:
    """The same bits read as another type of whole numbers: the same numbers, where both types hold them."""
    to = _type(node, "type")
    same = to.is_integer and to.size == _type(node, "T").size
    return same and _keep(floats, in_place_of(node, "Identity", node.input[:1]), [node.input[0]], to)


def _keep_inverted(floats: _Floats, node: NodeDef) -> bool:
    """All bits of an unsigned number the other way round: the highest one less it."""
    dtype = _type(node, "T")
    span = floats.span(node.input[0])
    if span is None or dtype.max > EXACT:
        return False
    highest = constant_node(f"{node.name}/gradviz_highest", np.float32(dtype.max))
    floats.nodes[highest.name] = highest
    floats.nodes[node.name] = _typed(in_place_of(node, "Sub", [f"{highest.name}:0", node.input[0]]), "T")
    floats.spans[node.name] = (dtype.max - span[1], dtype.max - span[0])
    return True


def _pixels_only_in(floats: _Floats, node: NodeDef, numbers: list[str]) -> bool:
    """The pixels are what is moved or computed with, not an index, a size or a condition."""
    others = list(data_inputs(node))
    for text in numbers:
        others.remove(text)
    return not any(split(text)[0] in floats.spans for text in others)


def _reading(floats: _Floats, node: NodeDef, numbers: list[str], dtype: tf.DType) -> NodeDef:
    """The node with a Cast before each of its numbers that are no pixels."""
    read = list(node.input)
    for place, text in enumerate(node.input):
        if text in numbers and split(text)[0] not in floats.spans:
            cast = NodeDef(name=f"{node.name}/gradviz_float{place}", op="Cast", input=[text])
            cast.attr["SrcT"].type = dtype.as_datatype_enum
            cast.attr["DstT"].type = DT_FLOAT
            floats.nodes[cast.name] = cast
            read[place] = f"{cast.name}:0"
    return copied(node, inputs=read)


def _hull(spans: Iterable[Span]) -> Span:
    lows, highs = zip(*spans, strict=True)
    return min(lows), max(highs)


def _type(node: NodeDef, key: str) -> tf.DType:
    return tf.dtypes.as_dtype(attribute(node, key).type)


def _typed(node: NodeDef, kind: str) -> NodeDef:
    copy = copied(node)
    copy.attr[kind].type = DT_FLOAT
    return copy
