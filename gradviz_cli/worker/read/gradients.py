"""The gradient functions that a file brings along for `tf.custom_gradient`.

Where TensorFlow writes them (`saved_model/save.py`, `_trace_gradient_functions`): the library of functions lists for each
`_gradient_op_type` of a wrapper the function (`registered_gradients`); the object graph says what that one captured
(`concrete_functions[...].bound_inputs`: variables, constants, and tensors named `node:index` of the function that holds the
wrapper, or of one around it), and what it gives (`output_signature`: a list with an entry for each input of the wrapper,
nothing where that has no gradient). Its arguments are a gradient for each output of the wrapper, then what it captured.
`saved_model/function_deserialization.py` reads them back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedConcreteFunction, SavedObjectGraph

from gradviz_cli.worker.read.objects import bound_sources

TOP = ""  # the function that the top level is
Capture = tuple[str, str]  # a tensor `node:index`, behind the name of the function that holds it


@dataclass(frozen=True)
class OwnGradient:
    """One gradient function: its name, what it captured, the inputs of its wrapper that its results belong to, and how
    many the wrapper has without what was captured.
    """

    function: str
    captures: tuple[Capture, ...]
    places: tuple[int, ...]
    shapes: tuple[TensorShapeProto, ...]
    width: int


def own_gradients(meta: MetaGraphDef) -> dict[str, OwnGradient]:
    """`_gradient_op_type` -> gradient function, for all that the file holds in full."""
    registered = {one.registered_op_type: one.gradient_func for one in meta.graph_def.library.registered_gradients}
    if not registered:
        return {}
    library = {function.signature.name: function for function in meta.graph_def.library.function}
    objects, sources = meta.object_graph_def, bound_sources(meta)
    found = {}
    for kind, name in registered.items():
        if name in library and name in objects.concrete_functions:
            gradient = _gradient(library[name], objects, objects.concrete_functions[name], sources)
            if gradient is not None:
                found[kind] = gradient
    return found


def _gradient(
    function: FunctionDef,
    objects: SavedObjectGraph,
    saved: SavedConcreteFunction,
    sources: Callable[[int], str | None],
) -> OwnGradient | None:
    captures = [_capture(objects, one, sources) for one in saved.bound_inputs]
    known = [one for one in captures if one is not None]
    results = _results(saved)
    if len(known) < len(captures) or results is None or len(results) != len(function.signature.output_arg):
        return None
    width = len(function.signature.input_arg) - len(captures)
    return OwnGradient(function.signature.name, tuple(known), tuple(results), tuple(results.values()), width)


def _capture(objects: SavedObjectGraph, node_id: int, sources: Callable[[int], str | None]) -> Capture | None:
    if node_id < len(objects.nodes) and objects.nodes[node_id].WhichOneof("kind") == "captured_tensor":
        captured = objects.nodes[node_id].captured_tensor
        return captured.concrete_function, captured.name
    source = sources(node_id)
    return (TOP, source) if source else None


def _results(saved: SavedConcreteFunction) -> dict[int, TensorShapeProto] | None:
    """For each result the input of the wrapper whose gradient it is, and its shape; None where that is not said."""
    kind = saved.output_signature.WhichOneof("kind")
    if kind not in ("list_value", "tuple_value"):
        return None
    values = getattr(saved.output_signature, kind).values
    if {value.WhichOneof("kind") for value in values} - {"none_value", "tensor_spec_value"}:
        return None
    given = {place: value for place, value in enumerate(values) if value.WhichOneof("kind") == "tensor_spec_value"}
    return {place: value.tensor_spec_value.shape for place, value in given.items()}
