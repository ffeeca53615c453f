"""Functions of a model that was saved without signatures: found in its object graph, called as a signature would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph

from gradviz_cli.worker.graph.graph import placeholder
from gradviz_cli.worker.read.entries import captures, keyed, paths, restored
from gradviz_cli.worker.read.traces import Trace, preferred, result_names, traces_of

# What the tensors of such a signature begin with.
OURS = "gradviz/"
# A model that is a function itself has no attribute to be called by.
ROOT = "function"
CALL = "__call__"
# Beside its traces a function that has no first among them is one more way down.
TRACE = "/trace_"
_NODE_NAME = re.compile(r"[A-Za-z0-9_.\-/]+")


def with_signatures(meta: MetaGraphDef) -> MetaGraphDef:
    """The meta graph itself when it has signatures; else a copy with one for each traced function that binds."""
    if any(signature.inputs for signature in meta.signature_def.values()):
        return meta
    copy = MetaGraphDef()
    copy.CopyFrom(meta)
    source = bound_sources(meta)
    library = {function.signature.name: function for function in meta.graph_def.library.function}
    for name, trace in _named(meta):
        bound = meta.object_graph_def.concrete_functions[trace.function].bound_inputs
        sources = [one for one in map(source, bound) if one is not None]
        if trace.function in library and len(sources) == len(bound):
            results = result_names(meta.object_graph_def, trace.function)
            _add_signature(copy, name, library[trace.function], sources, results, trace.described)
    return copy


def _named(meta: MetaGraphDef) -> Iterator[tuple[str, Trace]]:
    """Every traced function under its path of attributes; where it has several traces, the others below it."""
    objects, seen = meta.object_graph_def, set()
    for node_id, path in paths(objects).items():
        traces = [one for one in traces_of(meta, objects.nodes[node_id]) if one.function not in seen]
        first = preferred(traces)
        for trace in traces:
            seen.add(trace.function)
            yield (path or ROOT) + ("" if trace is first else f"{TRACE}{trace.number}"), trace


def is_function(signature: SignatureDef) -> bool:
    """Whether `with_signatures` made it."""
    return any(info.name.startswith(OURS) for info in signature.inputs.values())


def outermost(found: dict[str, SignatureDef]) -> dict[str, SignatureDef]:
    """Of signatures that are functions, those that lie closest to the model itself: its parts are not what it computes."""
    if not all(map(is_function, found.values())):
        return found
    # A trace is as deep as its function only where none of them is the first.
    depth = {name: name.count("/") - (TRACE in name and name.split(TRACE)[0] not in found) for name in found}
    return {name: one for name, one in found.items() if depth[name] == min(depth.values())}


def untraced(meta: MetaGraphDef) -> list[str]:
    """Names of the model's own functions that hold no trace, as nobody called them before it was saved."""
    objects = meta.object_graph_def
    functions = ((path, objects.nodes[one]) for one, path in paths(objects).items())
    return [
        path or ROOT
        for path, node in functions
        if "/" not in path
        and not (path.startswith("_") and path != CALL)
        and node.WhichOneof("kind") == "function"
        and not node.function.concrete_functions
    ]


def bound_sources(meta: MetaGraphDef) -> Callable[[int], str | None]:
    """For a node of the object graph: the top-level tensor that it is where a function captures it, None for others."""
    objects = meta.object_graph_def
    known: list[dict[int, str]] = []  # looked up only where something is captured

    def source(node_id: int) -> str | None:
        if not known:
            found = restored(meta)
            places = {entry.key: name for name, entry in found.items()}
            handles = {one: places[entry.key] for one, entry in keyed(objects, found).items() if entry.key in places}
            known.append({**handles, **captures(meta)})
        return _source(objects, node_id, known[0])

    return source


def _source(objects: SavedObjectGraph, node_id: int, known: dict[int, str]) -> str | None:
    if node_id < len(objects.nodes) and objects.nodes[node_id].WhichOneof("kind") == "constant":
        return f"{objects.nodes[node_id].constant.operation}:0"
    return f"{known[node_id]}:0" if node_id in known else None


def _add_signature(
    meta: MetaGraphDef,
    name: str,
    function: FunctionDef,
    sources: list[str],
    results: list[str] | None,
    described: str,
) -> None:
    """Placeholders, a call and a signature named after the function's path."""
    arguments = function.signature.input_arg
    free = len(arguments) - len(sources)
    place = OURS + (name if _NODE_NAME.fullmatch(name) else f"{ROOT}_{len(meta.signature_def)}")
    call = NodeDef(name=f"{place}/PartitionedCall", op="PartitionedCall")
    call.attr["f"].func.name = function.signature.name
    call.attr["Tin"].list.type.extend(argument.type for argument in arguments)
    call.attr["Tout"].list.type.extend(result.type for result in function.signature.output_arg)
    signature = meta.signature_def[name]
    signature.method_name = described
    for i in range(free):
        shapes = function.arg_attr[i].attr["_output_shapes"].list.shape if i in function.arg_attr else ()
        shape = shapes[0] if shapes else TensorShapeProto(unknown_rank=True)
        fed = placeholder(f"{place}/{arguments[i].name}", arguments[i].type, shape)
        meta.graph_def.node.append(fed)
        call.input.append(f"{fed.name}:0")
        info = TensorInfo(name=f"{fed.name}:0", dtype=arguments[i].type, tensor_shape=shape)
        signature.inputs[arguments[i].name].CopyFrom(info)
    call.input.extend(sources)
    meta.graph_def.node.append(call)
    given = function.signature.output_arg
    keys = results if results and len(results) == len(given) else [result.name for result in given]
    for i, (key, result) in enumerate(zip(keys, given, strict=True)):
        info = TensorInfo(name=f"{call.name}:{i}", dtype=result.type, tensor_shape=TensorShapeProto(unknown_rank=True))
        signature.outputs[key].CopyFrom(info)
