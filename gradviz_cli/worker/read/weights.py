"""Values of the variables: read from the checkpoint files, nothing of the model is run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker.graph.graph import attribute, source
from gradviz_cli.worker.graph.words import first_line
from gradviz_cli.worker.read.frames import Frame, Frames, Source

INCOMPLETE = "the copy is not complete: copy the whole variables folder again"
MAX_SHARDS = 10_000


def load(model: Path, variables: Iterable[str], entries: Mapping[str, Entry]) -> dict[str, tf.Tensor]:
    """Variable name -> its value, read once and straight into TensorFlow's memory.

    Raises
    ------
    ModelUnusable
        A variable that the graph needs is in no checkpoint, or the files are missing, torn or fail their checksum.
    """
    wanted = sorted(set(variables))
    if not wanted:
        return {}
    if model.is_file():
        what = f"{model} is a graph that is not frozen: it has no value for the variable {wanted[0]}"
        raise ModelUnusable(what, "freeze it (convert_variables_to_constants), or export a SavedModel")
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise ModelUnusable(
            f"the variable {missing[0]} ({len(missing)} of {len(wanted)}) is never restored from {model / 'variables'}",
            "export the model again, after training",
        )
    prefix = str(model / "variables" / "variables")
    dtypes, shapes = _index(prefix)
    keys = {entries[name].key for name in wanted}
    absent = sorted(keys - set(dtypes))
    if absent:
        raise ModelUnusable(f"{prefix}.index has no entry {absent[0]}", "copy the whole variables folder again")
    _check_content(prefix, keys, dtypes, shapes)
    try:
        values = tf.raw_ops.RestoreV2(
            prefix=prefix,
            tensor_names=[entries[name].key for name in wanted],
            shape_and_slices=[entries[name].part for name in wanted],
            dtypes=[dtypes[entries[name].key] for name in wanted],
        )
    except tf.errors.OpError as error:
        raise ModelUnusable(f"{prefix}.* cannot be read ({first_line(error)})", "copy the model again") from error
    return dict(zip(wanted, values, strict=True))


def _index(prefix: str) -> tuple[dict[str, tf.DType], dict[str, list[int]]]:
    """Type and shape of every entry."""
    if not Path(prefix + ".index").is_file():
        raise ModelUnusable(f"{prefix}.index is missing", "copy the whole variables folder, not the .pb alone")
    try:
        reader = tf.train.load_checkpoint(prefix)
        return reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError, TypeError, LookupError) as error:
        raise ModelUnusable(f"{prefix}.index cannot be read ({first_line(error)})", "copy the model again") from error


def _check_content(prefix: str, keys: Iterable[str], dtypes: Mapping, shapes: Mapping) -> None:
    """The index may promise anything: only numbers are read, and no more of them than the files beside it can hold."""
    need = 0
    for key in sorted(keys):
        dtype = dtypes[key]
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex or dtype.is_quantized):
            raise ModelUnusable(
                f"{prefix}.index: the entry {key} holds {dtype.name}, no numbers", "export the model again"
            )
        need += math.prod(map(int, shapes[key])) * dtype.size
    have = sum(map(_size, _shards(prefix)))
    if need > have:
        raise ModelUnusable(f"{prefix}.data-* hold {have} bytes, the variables need {need}", INCOMPLETE)


def _shards(prefix: str) -> list[str]:
    """The files of values. Their names are tried, not listed: the sandbox lets files be read and no folder."""
    for count in range(1, MAX_SHARDS):
        if os.path.lexists(f"{prefix}.data-00000-of-{count:05d}"):
            return [f"{prefix}.data-{number:05d}-of-{count:05d}" for number in range(count)]
    raise ModelUnusable(f"{prefix}.data-00000-of-* is missing", INCOMPLETE)


def _size(shard: str) -> int:
    try:
        return os.stat(shard).st_size
    except OSError as error:
        raise ModelUnusable(f"{shard} is missing ({error.strerror})", INCOMPLETE) from error


@dataclass(frozen=True)
class Entry:
    """One entry of the checkpoint; `part` is TensorFlow's shape-and-slice text of a partitioned variable, or empty."""

    key: str
    part: str


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
    entries: dict[str, Entry] = {}
    lists: dict[int, list[str]] = {}
    for frame in frames.alive:  # grows while nested restore functions are entered
        for node in list(frame.nodes.values()):
            if frame.parent is not None:
                frames.call(frame, node)
            if node.op in ("Assign", "AssignVariableOp"):
                _note_entry(frames, frame, node, entries, lists)
    return entries


def _note_entry(
    frames: Frames, frame: Frame, assign: NodeDef, entries: dict[str, Entry], lists: dict[int, list[str]]
) -> None:
    variable, value = _behind(frames, frame, source(assign, 0)), _behind(frames, frame, source(assign, 1))
    if variable is None or value is None or value[1].op != "RestoreV2":
        return
    frame, node, index = value
    names = _strings(_behind(frames, frame, source(node, 1)), lists)
    parts = _strings(_behind(frames, frame, source(node, 2)), lists)
    if index < len(names):
        entries[variable[1].name] = Entry(names[index], parts[index] if index < len(parts) else "")


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
