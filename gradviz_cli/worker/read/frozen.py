"""A graph in a file of its own, as TensorFlow 1 froze them: made the SavedModel that it is all but a signature of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf import message, text_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.graph.graph import attribute, data_inputs, descendants, maker_name, types_of
from gradviz_cli.worker.read.savedmodel import MAX_GRAPH_BYTES, MAX_TEXT_BYTES, Saved, check_size, read_regular

SIGNATURE, TAG = "serving_default", "serve"
# Before this version of graphs an unknown shape was written like that of a scalar.
SCALARS_SINCE = 24
_TEXT = (b"node", b"#", b" ", b"\t", b"\r\n")


def read(file: Path) -> Saved:
    """Parse a GraphDef, binary or text; what is fed to it and what nothing reads are its inputs and outputs.

    Raises
    ------
    ModelUnusable
        The file is damaged or something else.
    ModelRefused
        It has sizes that no model has.
    """
    saved = as_saved_model(_parsed(file))
    check_size(file, saved)
    return Saved(file, tuple(saved.meta_graphs))


def as_saved_model(graph: GraphDef) -> SavedModel:
    """The same graph with a signature of all that it may be given, and all that it may give."""
    nodes = {node.name: node for node in graph.node}
    fed = [node for node in graph.node if node.op == "Placeholder"]
    fed = fed or [node for node in graph.node if node.op == "PlaceholderWithDefault"]
    inputs = {node.name: _input(node, graph.versions.producer) for node in fed}
    outputs = {
        tensor.removesuffix(":0"): TensorInfo(name=tensor, dtype=dtype, tensor_shape=_open())
        for tensor, dtype in _ends(nodes, fed)
    }
    return signed(graph, inputs, outputs)


def signed(graph: GraphDef, inputs: Mapping[str, TensorInfo], outputs: Mapping[str, TensorInfo]) -> SavedModel:
    """A SavedModel of one graph and one signature; of none, where nothing goes in or comes out."""
    saved = SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append(TAG)
    meta.graph_def.CopyFrom(graph)
    if inputs and outputs:
        signature = meta.signature_def[SIGNATURE]
        for side, infos in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for key, info in infos.items():
                side[key].CopyFrom(info)
    return saved


def _parsed(file: Path) -> GraphDef:
    data = read_regular(file, MAX_GRAPH_BYTES)
    try:
        if data.startswith(_TEXT) and len(data) <= MAX_TEXT_BYTES:
            return text_format.Parse(data.decode("utf-8"), GraphDef(), allow_unknown_field=True)
        return GraphDef.FromString(data)
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        message_ = f"{file} is damaged or not a graph of TensorFlow ({error})"
        raise ModelUnusable(message_, "copy it again, or export a SavedModel") from error


def _ends(nodes: Mapping[str, NodeDef], fed: Sequence[NodeDef]) -> Iterator[tuple[str, int]]:
    """The tensors that depend on what is fed and that no operation reads, with their types, in the order of the graph."""
    given = {node.name for node in fed}
    reached = descendants(nodes, given)
    read = {maker_name(text) for node in nodes.values() for text in data_inputs(node)}
    for name, node in nodes.items():
        if name in reached and name not in given and name not in read:
            yield from ((f"{name}:{index}", dtype) for index, dtype in enumerate(types_of(node)))


def _input(node: NodeDef, producer: int) -> TensorInfo:
    shape = attribute(node, "shape").shape
    if not shape.dim and producer < SCALARS_SINCE:
        shape = _open()
    return TensorInfo(
        name=f"{node.name}:0", dtype=attribute(node, "dtype").type or types_pb2.DT_FLOAT, tensor_shape=shape
    )


def _open() -> TensorShapeProto:
    return TensorShapeProto(unknown_rank=True)
