"""A file of Keras -> the graph of a SavedModel with its weights in it.

Keras builds the model as the file says, which may be code of the file's own: only ever behind full walls (`serve.py`). The
result is data like any other model's, and judged like it. Keras is imported here and nowhere else; the weights become
constants, as what `model.export` writes is renamed from folder to folder, which the walls forbid.
"""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.process.protocol import Convert
from gradviz_cli.worker.graph.tf_private import frozen
from gradviz_cli.worker.graph.words import first_line
from gradviz_cli.worker.read.frozen import signed

# Keras 3 reads most files of Keras 2; what it does not, Keras 2 may, where it is installed.
READERS = ("keras", "tf_keras")
_OWN_CODE = re.compile(r"safe_mode|Lambda. layer|arbitrary code")
# What Keras says in the middle of a long text; the first of these that is there.
_REASONS = (
    r"Could not locate (?:class|function) '[^']*'",
    r"Unknown \w+(?: \w+)?: '?[\w>.]+'?",
    r"Unrecognized keyword arguments[^\n]{0,100}",
    r"\[Errno \d+\] [^\n]{0,200}",
    r"\w+Error: [^\n]{0,200}",
)
_WEIGHTS_ONLY = "No model config found"


def convert(request: Convert) -> bytes:
    """The bytes of saved_model.pb.

    Raises
    ------
    ModelUnusable
        Keras cannot build the model; its inputs are not known; it is too large for one graph.
    ModelRefused
        It brings code along, which was not trusted.
    """
    model = _loaded(request)
    inputs = _specs(request.path, model)
    try:
        traced = tf.function(_called(model, len(inputs))).get_concrete_function(*inputs)
        graph = frozen(traced)
        saved = signed(
            graph.graph.as_graph_def(),
            _infos([spec.name for spec in inputs], graph.inputs),
            _infos(_output_names(model, len(graph.outputs)), graph.outputs),
        )
        data: bytes = saved.SerializeToString()
        return data
    except MemoryError:
        raise
    except Exception as error:  # code of the file's, and of every layer there is
        raise _unusable(request.path, f"Keras cannot make a graph of it ({_reason(error)})", error) from error


def _loaded(request: Convert) -> Any:
    first: Exception | None = None
    for name in READERS:
        try:
            keras = importlib.import_module(name)
        except ImportError as error:
            first = first or error
            continue
        try:
            return keras.models.load_model(request.path, compile=False, safe_mode=not request.trust)
        except Exception as error:  # Keras raises of all kinds, and so may code of the file's
            first = first or error
    assert first is not None
    raise _not_loaded(request, first) from first


def _not_loaded(request: Convert, error: Exception) -> ModelUnusable | ModelRefused:
    text = str(error)
    if _OWN_CODE.search(text) and not request.trust:
        return ModelRefused(
            f"{request.path} brings Python code along (a Lambda layer), which would run when it is built",
            "if you trust its source, --trust-model lets it run inside the sandbox",
        )
    if _WEIGHTS_ONLY in text:
        return ModelUnusable(
            f"{request.path} holds no model, but weights alone or other data",
            "build the model in its own code, load_weights(...), and model.export('folder')",
        )
    return _unusable(request.path, f"Keras cannot build it ({_reason(error)})", error)


def _reason(error: Exception) -> str:
    said = (re.search(pattern, str(error)) for pattern in _REASONS)
    return next((found[0] for found in said if found), first_line(error))


def _unusable(path: str, what: str, error: Exception | None = None) -> ModelUnusable:
    loaded = f"keras.models.load_model('{path}', custom_objects={{...}})"
    raised = ModelUnusable(f"{path}: {what}", f"in Python, where its own classes are: {loaded}.export('folder')")
    if error is not None:
        raised.traceback = "".join(traceback.format_exception(error))
    return raised


def _specs(path: str, model: Any) -> list[tf.TensorSpec]:
    """What the model is to be called with."""
    try:
        given = tf.nest.flatten(model.inputs)
    except (AttributeError, ValueError):
        given = []
    if given:
        names = _distinct([str(one.name).split(":")[0] for one in given])
        return [tf.TensorSpec(one.shape, one.dtype, name) for one, name in zip(given, names, strict=True)]
    built: dict[str, Any] = getattr(model, "get_build_config", dict)() or {}
    shape = built.get("input_shape")
    if isinstance(shape, list | tuple) and all(size is None or isinstance(size, int) for size in shape):
        return [tf.TensorSpec([None, *shape[1:]], tf.float32, "input")]
    raise _unusable(path, "it does not say what its inputs are")


def _called(model: Any, count: int) -> Any:
    """The model at inference, as a function of plain tensors."""

    def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
        return tf.nest.flatten(model(tensors[0] if count == 1 else list(tensors), training=False))

    return call


def _output_names(model: Any, count: int) -> list[str]:
    """As Keras calls them, where it says so for each."""
    names = [str(name) for name in getattr(model, "output_names", None) or ()]
    return _distinct(names) if len(names) == count else [f"output_{index}" for index in range(count)]


def _distinct(names: Sequence[str]) -> list[str]:
    return list(names) if len(set(names)) == len(names) else [f"{name}_{i}" for i, name in enumerate(names)]


def _infos(names: Sequence[str], tensors: Sequence[tf.Tensor]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto())
        for name, tensor in zip(names, tensors, strict=True)
    }
