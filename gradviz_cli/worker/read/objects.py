"""Functions of a model that was saved without signatures: found in its object graph, called as a signature would."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph

from gradviz_cli.worker.graph.graph import placeholder
from gradviz_cli.worker.read.weights import restored

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def with_signatures(meta: MetaGraphDef) -> MetaGraphDef:
    """The meta graph itself when it has signatures; else a copy with one for each traced function that binds."""
    if any(signature.inputs for signature in meta.signature_def.values()):
        return meta
    copy = MetaGraphDef()
    copy.CopyFrom(meta)
    paths = _paths(meta.object_graph_def)
    handles = {entry.key: name for name, entry in restored(meta).items()}
    library = {function.signature.name: function for function in meta.graph_def.library.function}
    for node_id, path in paths.items():
        node = meta.object_graph_def.nodes[node_id]
        if node.WhichOneof("kind") != "function":
            continue
        for number, name in enumerate(node.function.concrete_functions):
            bound = meta.object_graph_def.concrete_functions[name].bound_inputs
            captured = [_source(meta.object_graph_def, one, paths, handles) for one in bound]
            sources = [one for one in captured if one is not None]
            if name in library and len(sources) == len(captured):
                _add_signature(copy, f"{path or 'function'}{number or ''}", library[name], sources)
    return copy


def bound_sources(meta: MetaGraphDef) -> Callable[[int], str | None]:
    """For a node of the object graph: the top-level tensor that a captured variable or constant is, None for others."""
    objects = meta.object_graph_def
    known: list[tuple[dict[int, str], dict[str, str]]] = []  # looked up only where something is captured

    def source(node_id: int) -> str | None:
        if not known:
            known.append((_paths(objects), {entry.key: name for name, entry in restored(meta).items()}))
        return _source(objects, node_id, *known[0])

    return source


def _paths(objects: SavedObjectGraph) -> dict[int, str]:
    """Node -> its shortest path of attribute names from the root; the checkpoint's keys are made of these."""
    if not objects.nodes:
        return {}
    paths, todo = {0: ""}, deque([0])
    while todo:
        parent = todo.popleft()
        for child in objects.nodes[parent].children:
            if child.node_id not in paths and child.node_id < len(objects.nodes):
                prefix = paths[parent] + "/" if paths[parent] else ""
                paths[child.node_id] = prefix + child.local_name.replace(".", "..").replace("/", ".S")
                todo.append(child.node_id)
    return paths


def _source(objects: SavedObjectGraph, node_id: int, paths: dict[int, str], handles: dict[str, str]) -> str | None:
    """The top-level tensor that a captured variable or constant is."""
    if node_id >= len(objects.nodes):
        return None
    node = objects.nodes[node_id]
    kind = node.WhichOneof("kind")
    if kind == "constant":
        return f"{node.constant.operation}:0"
    if kind == "variable":
        handle = handles.get(paths.get(node_id, "") + VALUE)
        return f"{handle}:0" if handle else None
    return None


def _add_signature(meta: MetaGraphDef, name: str, function: FunctionDef, sources: list[str]) -> None:
    """Placeholders, a call and a signature named after the function's path."""
    arguments = function.signature.input_arg
    free = len(arguments) - len(sources)
    call = NodeDef(name=f"gradviz/{name}/PartitionedCall", op="PartitionedCall")
    call.attr["f"].func.name = function.signature.name
    call.attr["Tin"].list.type.extend(argument.type for argument in arguments)
    call.attr["Tout"].list.type.extend(result.type for result in function.signature.output_arg)
    signature = meta.signature_def[name]
    for i in range(free):
        shapes = function.arg_attr[i].attr["_output_shapes"].list.shape if i in function.arg_attr else ()
        shape = shapes[0] if shapes else TensorShapeProto(unknown_rank=True)
        fed = placeholder(f"gradviz/{name}/{arguments[i].name}", arguments[i].type, shape)
        meta.graph_def.node.append(fed)
        call.input.append(f"{fed.name}:0")
        info = TensorInfo(name=f"{fed.name}:0", dtype=arguments[i].type, tensor_shape=shape)
        signature.inputs[arguments[i].name].CopyFrom(info)
    call.input.extend(sources)
    meta.graph_def.node.append(call)
    for i, result in enumerate(function.signature.output_arg):
        info = TensorInfo(name=f"{call.name}:{i}", dtype=result.type, tensor_shape=TensorShapeProto(unknown_rank=True))
        signature.outputs[result.name].CopyFrom(info)
