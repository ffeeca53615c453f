"""A SavedModel folder read as data: protocol buffers and checkpoint keys. Nothing of the model runs here."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import message, text_format
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.errors import ModelUnusable

# One protocol buffer holds at most 2 GiB; a larger file cannot be a model.
MAX_GRAPH_BYTES = 2**31 - 1
MAX_TEXT_BYTES = 2**28


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
    """
    binary, text = path / "saved_model.pb", path / "saved_model.pbtxt"
    warnings = ()
    if binary.exists() and text.exists():
        warnings = (f"{path} holds saved_model.pb and saved_model.pbtxt; the .pb is read, remove the one that is old",)
    if binary.exists() or binary.is_symlink():
        saved = _parse_binary(binary)
    elif text.exists() or text.is_symlink():
        saved = _parse_text(text)
    else:
        raise ModelUnusable(
            f"{path} holds no saved_model.pb", "give the folder that `model.export(...)` or `tf.saved_model.save` wrote"
        )
    if not saved.meta_graphs:
        raise ModelUnusable(f"{binary if binary.exists() else text} holds no graph", "export the model again")
    return Saved(path, tuple(saved.meta_graphs), warnings)


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; never blocks on a pipe or a device."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be opened: {error.strerror}", "check the path and its permissions") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ModelUnusable(f"{path} is not a regular file", "give a SavedModel folder of plain files")
        if status.st_size > limit:
            raise ModelUnusable(f"{path} has {status.st_size} bytes, more than a graph can have", "export the model again")
        return file.read(limit)


def _parse_binary(file: Path) -> SavedModel:
    saved = SavedModel()
    try:
        saved.ParseFromString(read_regular(file, MAX_GRAPH_BYTES))
    except message.DecodeError as error:
        raise ModelUnusable(f"{file} is damaged or not a SavedModel ({error})", "copy or export it again") from error
    return saved


def _parse_text(file: Path) -> SavedModel:
    try:
        return text_format.Parse(read_regular(file, MAX_TEXT_BYTES).decode("utf-8"), SavedModel(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnusable(f"{file} is damaged or not a SavedModel ({error})", "copy or export it again") from error


