"""Operations that an optimiser has made one, as those that they were: else the ReLU within would be none, and of most of them
TensorFlow has no gradient.

Grappler's `remapper` writes those whose names begin with `_Fused`, `optimize_for_inference` those of a padding and a convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, copied, data_inputs

# What follows a product, by its name in the list of a fused operation -> the operation; it takes no other input.
ACTIVATIONS = {name: name for name in ("Relu", "Relu6", "Elu", "LeakyRelu", "Tanh", "Sigmoid")}
ACTIVATION = "activation_mode"  # of a batch norm
CONVOLUTIONS = {"_FusedConv2D": "Conv2D", "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
OF_CONVOLUTIONS = ("strides", "padding", "explicit_paddings", "data_format", "dilations")
OF_PRODUCTS = ("transpose_a", "transpose_b")
PADDED = frozenset({"FusedPadConv2D", "FusedResizeAndPadConv2D"})


def unfused(graph: Graph, question: None = None) -> Graph:
    """The graph with each of these written out, as far as all of its parts are known."""
    functions = {name: replace(one, nodes=_all(one.nodes)) for name, one in graph.functions.items()}
    return replace(graph, nodes=_all(graph.nodes), functions=functions)


def _all(nodes: Mapping[str, NodeDef]) -> Mapping[str, NodeDef]:
    parts = {name: WRITTEN[node.op](node) for name, node in nodes.items() if node.op in WRITTEN}
    made = {one.name: one for written in parts.values() for one in written}
    return {**nodes, **made} if made else nodes


@dataclass
class _Chain:
    """Operations one behind the other, in place of one node."""

    fused: NodeDef
    nodes: list[NodeDef] = field(default_factory=list)

    def then(self, op: str, inputs: Iterable[str], same: Iterable[str] = (), **renamed: str) -> str:
        """Write one; `same` of the attributes are the fused node's, `renamed` too, under another name. Its output."""
        node = NodeDef(name=f"{self.fused.name}/unfused_{len(self.nodes)}", op=op, input=inputs)
        node.attr["T"].CopyFrom(attribute(self.fused, "T"))
        for name, known in {**{name: name for name in same}, **renamed}.items():
            if known in self.fused.attr:
                node.attr[name].CopyFrom(self.fused.attr[known])
        self.nodes.append(node)
        return f"{node.name}:0"

    def written(self) -> list[NodeDef]:
        """All of them, the last under the name of the node that they stand for; each waits for what that waited for."""
        waits = [text for text in self.fused.input if text.startswith("^")]
        self.nodes[-1] = copied(self.nodes[-1], self.fused.name)
        for node in self.nodes:
            node.input.extend(waits)
        return self.nodes


def _product(node: NodeDef) -> list[NodeDef]:
    """A convolution or a product of matrices, and what follows it."""
    chain, inputs = _Chain(node), data_inputs(node)
    op = CONVOLUTIONS.get(node.op)
    last = chain.then(op or "MatMul", inputs[:2], OF_CONVOLUTIONS if op else OF_PRODUCTS)
    rest = inputs[2 : 2 + attribute(node, "num_args").i]
    format_ = ("data_format",) if op else ()
    for name in (one.decode() for one in attribute(node, "fused_ops").list.s):
        if name == "BiasAdd" and rest:
            last = chain.then("BiasAdd", [last, rest.pop(0)], format_)
        elif name == "FusedBatchNorm" and len(rest) >= 4:
            last = _normed(chain, [last, *rest[:4]])
            del rest[:4]
        elif name == "Add" and rest:
            last = chain.then("AddV2", [last, rest.pop(0)])
        elif name in ACTIVATIONS:
            slope = {"alpha": "leakyrelu_alpha"} if name == "LeakyRelu" else {}
            last = chain.then(ACTIVATIONS[name], [last], **slope)
        else:
            return []
    return [] if rest else chain.written()


def _normed(chain: _Chain, inputs: list[str]) -> str:
    """A batch norm of fixed statistics."""
    last = chain.then("FusedBatchNormV3", inputs, ("epsilon", "data_format"))
    chain.nodes[-1].attr["U"].CopyFrom(attribute(chain.fused, "U" if "U" in chain.fused.attr else "T"))
    chain.nodes[-1].attr["is_training"].b = False
    return last


def _norm(node: NodeDef) -> list[NodeDef]:
    """A batch norm, what is added to it, and its activation. In training its other outputs count, which no other has."""
    chain, inputs = _Chain(node), data_inputs(node)
    activation = attribute(node, ACTIVATION).s.decode()
    if attribute(node, "is_training").b or activation not in ("Identity", "Relu"):
        return []
    last = _normed(chain, inputs[:5])
    for beside in inputs[5 : 5 + attribute(node, "num_side_inputs").i]:
        last = chain.then("AddV2", [last, beside])
    if activation == "Relu":
        chain.then("Relu", [last])
    return chain.written()


def _padded(node: NodeDef) -> list[NodeDef]:
    """Pixels resized, mirrored at the border, and convolved."""
    chain, inputs = _Chain(node), data_inputs(node)
    image, *sizes, pads, kernel = inputs
    if sizes:
        image = chain.then("ResizeBilinear", [image, *sizes], align_corners="resize_align_corners")
    image = chain.then("MirrorPad", [image, pads], ("mode",))
    chain.then("Conv2D", [image, kernel], ("strides", "padding"))
    return chain.written()


WRITTEN: dict[str, Callable[[NodeDef], list[NodeDef]]] = {
    **dict.fromkeys((*CONVOLUTIONS, "_FusedMatMul"), _product),
    "_FusedBatchNormEx": _norm,
    **dict.fromkeys(PADDED, _padded),
}
