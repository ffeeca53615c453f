"""A gradient of the model's own (`tf.custom_gradient`), as a graph holds it: an IdentityN, the wrapper.

Its inputs are the results of the wrapped function, then the arguments, then the variables that it read; readers take the
first outputs. The gradient of the others is the function's: it gets a gradient for each output, then what it captured.
In our graphs the captured tensors are further inputs of the wrapper, so that they live as long as it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    Function,
    attribute,
    copied,
    data_inputs,
    functions_called,
    graph_def,
    placeholder,
)
from gradviz_cli.worker.graph.tf_private import import_nodes

FUNCTION = "_gradviz_own"  # the gradient function; missing where there is none to be used
PLACES = "_gradviz_places"  # for each result of that function the input whose gradient it is
SHAPES = "_gradviz_shapes"  # and the shape of that gradient
WIDTH = "_gradviz_wrapped"  # how many inputs are not captured
REPLACED = "_gradviz_replaced"  # on a node whose own gradient was left for the derivative, which may differ


def is_wrapper(node: NodeDef) -> bool:
    """Whether the node wraps a function that has a gradient of its own."""
    return WIDTH in node.attr


def function_of(node: NodeDef) -> str | None:
    """The name of the gradient function of a wrapper, None where there is none to be used."""
    return node.attr[FUNCTION].func.name if FUNCTION in node.attr else None


def places_of(node: NodeDef) -> list[int]:
    """The inputs of a wrapper with a function that have a gradient."""
    return list(node.attr[PLACES].list.i)


def as_gradients_pass(nodes: Mapping[str, NodeDef]) -> Mapping[str, NodeDef]:
    """The nodes, each wrapper with a function reading only what its gradient reaches: not what it wraps."""
    own = {name: node for name, node in nodes.items() if function_of(node)}
    if not own:
        return nodes
    return {**nodes, **{name: copied(node, inputs=reached(node)) for name, node in own.items()}}


def reached(node: NodeDef) -> list[str]:
    """The tensors that the gradient of a wrapper with a function reaches."""
    inputs = data_inputs(node)
    return [inputs[place] for place in places_of(node)]


def called(functions: Mapping[str, Function], name: str, given: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The results of a function for these arguments, written into the graph that is being built."""
    function = functions[name]
    nodes = [
        placeholder(node.name, attribute(node, "T").type) if node.op == ARGUMENT else node
        for node in function.nodes.values()
    ]
    inner = functions_called(function.nodes.values(), functions)
    built = graph_def(nodes, (functions[one] for one in sorted(inner)))
    names = [argument.name for argument in function.signature.input_arg]
    # An Identity takes a tensor of another graph (a loop's body) along into this one.
    mapped = {f"{one}:0": tf.identity(tensor) for one, tensor in zip(names, given, strict=True)}
    return import_nodes(built, mapped, list(function.results), "own_gradient")


def own_gradients(
    functions: Mapping[str, Function],
    node: NodeDef,
    inputs: Sequence[tf.Tensor],
    upstreams: Sequence[tf.Tensor | None],
) -> list[tf.Tensor | None]:
    """The gradients of all inputs of a wrapper, by its own function; None for those that have none."""
    width = node.attr[WIDTH].i
    arriving = [_no_less(one, tensor) for one, tensor in zip(upstreams[:width], inputs[:width], strict=True)]
    found = called(functions, node.attr[FUNCTION].func.name, [*arriving, *inputs[width:]])
    gradients: list[tf.Tensor | None] = [None] * len(inputs)
    for place, gradient in zip(places_of(node), found, strict=True):
        gradients[place] = gradient
    return gradients


def _no_less(upstream: tf.Tensor | None, tensor: tf.Tensor) -> tf.Tensor:
    """A gradient, zero where none arrives; the tensor itself where it is of a type that has no zero (and no gradient)."""
    if upstream is not None:
        return tf.convert_to_tensor(upstream)
    return tensor if tensor.dtype in (tf.resource, tf.variant, tf.string) else tf.zeros_like(tensor)
