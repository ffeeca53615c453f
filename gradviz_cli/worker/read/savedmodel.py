"""A SavedModel folder read as data: protocol buffers and checkpoint keys. Nothing of the model runs here."""

from __future__ import annotations

import math
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import message, text_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.errors import ModelRefused, ModelUnusable

# One protocol buffer holds at most 2 GiB; a larger file cannot be a model.
MAX_GRAPH_BYTES = 2**31 - 1
MAX_TEXT_BYTES = 2**28
# Training graphs of TensorFlow 1 with their towers have some 200,000.
MAX_NODES = 2_000_000
# Bytes of a number, for the types whose numbers are written one after the other.
_SIZES = {
    **dict.fromkeys((types_pb2.DT_INT8, types_pb2.DT_UINT8, types_pb2.DT_BOOL), 1),
    **dict.fromkeys((types_pb2.DT_HALF, types_pb2.DT_BFLOAT16, types_pb2.DT_INT16, types_pb2.DT_UINT16), 2),
    **dict.fromkeys((types_pb2.DT_FLOAT, types_pb2.DT_INT32, types_pb2.DT_UINT32), 4),
    **dict.fromkeys((types_pb2.DT_DOUBLE, types_pb2.DT_INT64, types_pb2.DT_UINT64), 8),
}
# A constant of one repeated number takes a few bytes in the file, and in memory whatever its shape says.
MAX_REPEATED = 2**28


@dataclass(frozen=True)
class Saved:
    """The meta graphs of one folder, in the order of the file, and what was odd about reading them."""

    path: Path
    meta_graphs: tuple[MetaGraphDef, ...]
    warnings: tuple[str, ...] = ()


def read(path: Path) -> Saved:
    """Parse `saved_model.pb`, or `saved_model.pbtxt` where there is no other.

    Raises
    ------
    ModelUnusable
        No such file, a special file, a torn or foreign one, or no meta graph in it.
    ModelRefused
        It names assets outside its folder, or has sizes that no model has.
    """
    binary, text = path / "saved_model.pb", path / "saved_model.pbtxt"
    warnings: tuple[str, ...] = ()
    if binary.exists() and text.exists():
        warnings = (f"{path} holds saved_model.pb and saved_model.pbtxt; the .pb is read, remove the one that is old",)
    if binary.exists() or binary.is_symlink():
        saved = _parse_binary(binary)
    elif text.exists() or text.is_symlink():
        saved = _parse_text(text)
    else:
        raise ModelUnusable(
            f"{path} holds no saved_model.pb",
            "give the folder that `model.export(...)` or `tf.saved_model.save` wrote",
        )
    file = binary if binary.exists() else text
    if not saved.meta_graphs:
        raise ModelUnusable(f"{file} holds no graph", "export the model again")
    for meta in saved.meta_graphs:
        _check_assets_inside(file, meta)
    check_size(file, saved)
    return Saved(path, tuple(saved.meta_graphs), warnings)


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; never blocks on a pipe or a device."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelUnusable(
            f"{path} cannot be opened: {error.strerror}", "check the path and its permissions"
        ) from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ModelUnusable(f"{path} is not a regular file", "give a SavedModel folder of plain files")
        if status.st_size > limit:
            raise ModelUnusable(
                f"{path} has {status.st_size} bytes, more than a graph can have", "export the model again"
            )
        return file.read(status.st_size)  # a buffer of the limit's size would be more than a small machine has


def _parse_binary(file: Path) -> SavedModel:
    saved = SavedModel()
    try:
        saved.ParseFromString(read_regular(file, MAX_GRAPH_BYTES))
    except message.DecodeError as error:
        raise ModelUnusable(f"{file} is damaged or not a SavedModel ({error})", "copy or export it again") from error
    return saved


def _parse_text(file: Path) -> SavedModel:
    try:
        return text_format.Parse(
            read_regular(file, MAX_TEXT_BYTES).decode("utf-8"), SavedModel(), allow_unknown_field=True
        )
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnusable(f"{file} is damaged or not a SavedModel ({error})", "copy or export it again") from error


def _check_assets_inside(file: Path, meta: MetaGraphDef) -> None:
    """Assets are never read here; a model that names /etc/passwd as one is not what it says it is."""
    for asset in _assets(meta):
        inside = posixpath.normpath(posixpath.join("assets", asset.filename))
        if not inside.startswith("assets/") and inside != "assets":
            raise ModelRefused(
                f"{file} names {asset.filename!r} as an asset, which lies outside the model's folder",
                "do not trust its source; export the model again",
            )


def _assets(meta: MetaGraphDef) -> Iterator[AssetFileDef]:
    yield from meta.asset_file_def
    if "saved_model_assets" in meta.collection_def:
        for packed in meta.collection_def["saved_model_assets"].any_list.value:
            asset = AssetFileDef()
            try:
                packed.Unpack(asset)
            except message.DecodeError:
                continue
            yield asset


def check_size(file: Path, saved: SavedModel) -> None:
    """Raise ModelRefused for more nodes, or larger constants, than a model has."""
    parts = [part for meta in saved.meta_graphs for part in _node_lists(meta)]
    if sum(map(len, parts)) > MAX_NODES:
        raise ModelRefused(f"{file} holds more than {MAX_NODES} nodes", "no model of images does; export it again")
    repeated = 0
    for nodes in parts:
        for node in nodes:
            if node.op == "Const":
                _check_content(file, node)
                repeated += _repeated(node)
                if repeated > MAX_REPEATED:
                    raise ModelRefused(
                        f"{file}: the constant {node.name[:200]} fills memory far beyond the file's size",
                        "export the model again",
                    )


def _node_lists(meta: MetaGraphDef) -> Iterator[Sequence[NodeDef]]:
    yield meta.graph_def.node
    yield from (function.node_def for function in meta.graph_def.library.function)


def _check_content(file: Path, node: NodeDef) -> None:
    """A constant's bytes are as many as its shape needs."""
    tensor = node.attr["value"].tensor if "value" in node.attr else None
    if tensor is None or not tensor.tensor_content or tensor.dtype not in _SIZES:
        return
    need = math.prod(dim.size for dim in tensor.tensor_shape.dim) * _SIZES[tensor.dtype]
    if need != len(tensor.tensor_content):
        raise ModelUnusable(
            f"{file} is damaged: the constant {node.name[:200]} holds {len(tensor.tensor_content)} bytes, its shape needs {need}",
            "copy or export it again",
        )


def _repeated(node: NodeDef) -> int:
    """Numbers of a constant that the file does not hold one by one."""
    if "value" not in node.attr:
        return 0
    tensor = node.attr["value"].tensor
    count = math.prod(max(0, dim.size) for dim in tensor.tensor_shape.dim)
    return count if count > 1024 and count > tensor.ByteSize() else 0
