"""Which entry of the checkpoint holds a variable's value, as TensorFlow's own loaders find it. Nothing is run.

Three ways lead from a variable's node to its entry. The graph's own restore operation assigns what it reads to the
variables: TensorFlow 1 and 2. A signature that captured another handle of the same variable (Keras 3 saved by
`tf.saved_model.save`) leads there through the object graph: what a call captures is listed beside the function, and the
checkpoint's keys are paths in that graph. A graph of TensorFlow 1 without a saver (a module of TensorFlow Hub) names its
variables as the checkpoint does (`Saver()` of TensorFlow 1, which its loader makes for such a graph).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_INVALID
from tensorflow.core.framework.variable_pb2 import SaveSliceInfoDef, VariableDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker.graph.graph import attribute, data_inputs, source, split
from gradviz_cli.worker.read.frames import CALLS, HANDLE, VARIABLES, Frame, Frames, Source

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# Where a graph of TensorFlow 1 lists its variables.
COLLECTIONS = ("variables", "trainable_variables", "model_variables")


@dataclass(frozen=True)
class Entry:
    """One entry of the checkpoint, and what the graph says of the value.

    Attributes
    ----------
    part : str
        TensorFlow's shape-and-slice text of a partitioned variable, or empty.
    dtype : int
        Enum of its type; 0 where the graph does not say.
    shape : tuple of int or None
        -1 where a size is open, None where the rank is too.
    reshaped : bool
        Whether a value of another shape is brought to this one, as `Saver(reshape=True)` of TensorFlow 1 does.
    """

    key: str
    part: str
    dtype: int = DT_INVALID
    shape: tuple[int, ...] | None = None
    reshaped: bool = False

    def fits(self, shape: tf.TensorShape) -> bool:
        """Whether a value of this shape is one for the variable."""
        wanted = None if self.shape is None else [None if size < 0 else size for size in self.shape]
        return shape.is_compatible_with(tf.TensorShape(wanted))

    @property
    def described(self) -> str:
        """`float32 [3, 3, 3, 8]`."""
        return f"{tf.dtypes.as_dtype(self.dtype).name} {'of any rank' if self.shape is None else list(self.shape)}"


def entries(meta: MetaGraphDef) -> dict[str, Entry]:
    """Variable node -> checkpoint entry, for all that lead to one."""
    found = restored(meta)
    if meta.object_graph_def.nodes:
        objects = keyed(meta.object_graph_def, found)
        captured = {name: objects[one] for one, name in captures(meta).items() if one in objects}
        found = {**captured, **found}
    elif not meta.saver_def.restore_op_name:
        found = _named(meta)
    nodes = {node.name: node for node in meta.graph_def.node if node.name in found}
    return {name: _described(entry, nodes[name]) if name in nodes else entry for name, entry in found.items()}


def _described(entry: Entry, node: NodeDef) -> Entry:
    if node.op != HANDLE and node.op not in VARIABLES:
        return entry
    shape = attribute(node, "shape").shape
    # The oldest kind of variable writes down a scalar's shape where it knows none.
    known = "shape" in node.attr and not shape.unknown_rank and not (node.op == "Variable" and not shape.dim)
    sizes = tuple(dim.size for dim in shape.dim) if known else None
    return replace(entry, dtype=attribute(node, "dtype").type, shape=sizes)


# -- by the restore operation ------------------------------------------------------------------------------------------


def restored(meta: MetaGraphDef) -> dict[str, Entry]:
    """Variable node -> checkpoint entry, read off the graph's own restore operation (not run).

    TensorFlow 1 and 2 both save a graph that assigns the outputs of RestoreV2, whose names are constants, to the
    variables; following the assignments backwards needs no object graph.
    """
    frames = Frames({function.signature.name: function for function in meta.graph_def.library.function})
    top = frames.top({node.name: node for node in meta.graph_def.node})
    restore = meta.saver_def.restore_op_name.split(":")[0]
    if restore in top.nodes:
        frames.call(top, top.nodes[restore])
    found: dict[str, Entry] = {}
    lists: dict[int, list[str]] = {}
    for frame in frames.alive:  # grows while nested restore functions are entered
        for node in list(frame.nodes.values()):
            if frame.parent is not None:
                frames.call(frame, node)
            if node.op in ("Assign", "AssignVariableOp"):
                _note_entry(frames, frame, node, found, lists)
    return found


def _note_entry(
    frames: Frames, frame: Frame, assign: NodeDef, found: dict[str, Entry], lists: dict[int, list[str]]
) -> None:
    variable, value = _behind(frames, frame, source(assign, 0)), _behind(frames, frame, source(assign, 1))
    reshaped = value is not None and value[1].op == "Reshape"
    if value is not None and reshaped:
        value = _behind(frames, value[0], source(value[1], 0))
    if variable is None or value is None or value[1].op != "RestoreV2":
        return
    frame, node, index = value
    names = _strings(_behind(frames, frame, source(node, 1)), lists)
    parts = _strings(_behind(frames, frame, source(node, 2)), lists)
    if index < len(names):
        part = parts[index] if index < len(parts) else ""
        found[variable[1].name] = Entry(names[index], part, reshaped=reshaped)


def _behind(frames: Frames, frame: Frame, text: str) -> Source | None:
    try:
        return frames.behind_identities(frames.resolve(frame, text))
    except (ModelUnusable, ModelRefused):  # an odd save function is not what is explained
        return None


def _strings(constant: Source | None, lists: dict[int, list[str]]) -> list[str]:
    """The texts of a constant, kept in `lists`: every variable is restored from the same ones."""
    if constant is None or constant[1].op != "Const":
        return []
    node = constant[1]
    if id(node) not in lists:
        lists[id(node)] = [text.decode("utf-8", "replace") for text in attribute(node, "value").tensor.string_val]
    return lists[id(node)]


# -- by the object graph -----------------------------------------------------------------------------------------------


def captures(meta: MetaGraphDef) -> dict[int, str]:
    """Object -> the node of the top level that stands for it, where a call of the top level captures it."""
    concrete = meta.object_graph_def.concrete_functions
    found: dict[int, str] = {}
    for node in meta.graph_def.node:
        name = node.attr["f"].func.name if node.op in CALLS and "f" in node.attr else ""
        if name in concrete:
            bound, given = concrete[name].bound_inputs, data_inputs(node)
            for one, text in zip(bound, given[len(given) - len(bound) :], strict=False):
                found.setdefault(one, split(text)[0])
    return found


def keyed(objects: SavedObjectGraph, found: Mapping[str, Entry]) -> dict[int, Entry]:
    """Variable of the object graph -> checkpoint entry, as the keys that are restored are paths in that graph.

    A variable that has several paths is saved under one of them; without any key that is restored, under the shortest.
    """
    if not found:
        listed = enumerate(objects.nodes)
        named = paths(objects)
        variables = [one for one, node in listed if node.WhichOneof("kind") == "variable" and one in named]
        return {one: Entry(named[one] + VALUE, "") for one in variables}
    children = [{_escaped(child.local_name): child.node_id for child in node.children} for node in objects.nodes]
    reached = ((_reached(children, entry.key), entry) for entry in found.values() if entry.key.endswith(VALUE))
    return {one: entry for one, entry in reached if one is not None}


def _reached(children: list[dict[str, int]], key: str) -> int | None:
    """The object that a key is a path to."""
    place = 0
    for part in key.removesuffix(VALUE).split("/"):
        if place >= len(children) or part not in children[place]:
            return None
        place = children[place][part]
    return place


def paths(objects: SavedObjectGraph) -> dict[int, str]:
    """Node -> its shortest path of attribute names from the root, as the checkpoint's keys spell it."""
    if not objects.nodes:
        return {}
    found, todo = {0: ""}, deque([0])
    while todo:
        parent = todo.popleft()
        for child in objects.nodes[parent].children:
            if child.node_id not in found and child.node_id < len(objects.nodes):
                prefix = found[parent] + "/" if found[parent] else ""
                found[child.node_id] = prefix + _escaped(child.local_name)
                todo.append(child.node_id)
    return found


def _escaped(name: str) -> str:
    """An attribute's name as it stands in a path."""
    return name.replace(".", "..").replace("/", ".S")


# -- by the variables' own names ---------------------------------------------------------------------------------------


def _named(meta: MetaGraphDef) -> dict[str, Entry]:
    """Every variable under its own name; a part of a partitioned one under the name of the whole."""
    found = {node.name: Entry(node.name, "") for node in meta.graph_def.node if node.op in (HANDLE, *VARIABLES)}
    for variable in _listed(meta):
        name = split(variable.variable_name)[0]
        if name in found and variable.save_slice_info_def.full_name:
            found[name] = Entry(variable.save_slice_info_def.full_name, _slice(variable.save_slice_info_def))
    return found


def _listed(meta: MetaGraphDef) -> Iterator[VariableDef]:
    for name in COLLECTIONS:
        packed = meta.collection_def[name].bytes_list.value if name in meta.collection_def else ()
        for one in packed:
            try:
                yield VariableDef.FromString(one)
            except message.DecodeError:
                continue


def _slice(part: SaveSliceInfoDef) -> str:
    """As `RestoreV2` takes it: the shape of the whole, then `offset,length` of each axis."""
    spans = ":".join(f"{start},{size}" for start, size in zip(part.var_offset, part.var_shape, strict=False))
    return " ".join([*map(str, part.full_shape), spans])
