"""Graphs of a few nodes for tests of the worker: made by hand or by TensorFlow, and computed by TensorFlow alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef

from gradviz_cli.worker.graph.graph import Function, Graph
from gradviz_cli.worker.graph.question import Question, Tensor

SHAPE = (2, 6, 6, 3)
# A GPU fails at other things, and draws nothing without a seed once gradviz has asked for the same bits each time.
of_processors = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="of processors")


def node(name: str, op: str, *inputs: str, **attributes: Any) -> NodeDef:
    """A node written down: types, numbers, texts, arrays, shapes, functions (as `Calls`) and lists of the first two."""
    made = NodeDef(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        _set(made.attr[key], value)
    return made


class Calls(str):
    """The name of a function, as the value of an attribute."""


def _set(attribute: Any, value: Any) -> None:
    if isinstance(value, Calls):
        attribute.func.name = value
    elif isinstance(value, tf.DType):
        attribute.type = value.as_datatype_enum
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif isinstance(value, float):
        attribute.f = value
    elif isinstance(value, str):
        attribute.s = value.encode()
    elif isinstance(value, tf.TensorShape):
        attribute.shape.CopyFrom(value.as_proto())
    elif isinstance(value, np.ndarray):
        attribute.tensor.CopyFrom(tf.make_tensor_proto(value))
    else:
        attribute.list.SetInParent()
        for one in value:
            if isinstance(one, tf.DType):
                attribute.list.type.append(one.as_datatype_enum)
            else:
                attribute.list.i.append(one)


def const(name: str, value: Any, dtype: Any = np.float32) -> NodeDef:
    array = np.asarray(value, dtype)
    return node(name, "Const", dtype=tf.as_dtype(array.dtype), value=array)


def fed(name: str = "image", dtype: tf.DType = tf.float32, shape: Iterable[int | None] = SHAPE) -> NodeDef:
    return node(name, "Placeholder", dtype=dtype, shape=tf.TensorShape(shape))


def written(*nodes: NodeDef, outputs: Iterable[str] = (), **more: Any) -> Graph:
    """A graph of these nodes; the outputs default to the last one."""
    by_name = {one.name: one for one in nodes}
    return Graph(by_name, outputs=tuple(outputs) or (f"{nodes[-1].name}:0",), **more)


def traced(
    build: Callable[..., Any],
    weights: Mapping[str, Any] | None = None,
    dtype: tf.DType = tf.float32,
    shape: Iterable[int | None] = SHAPE,
) -> Graph:
    """What `build(image, **weights)` adds to a graph; its result is score and output, the image what is differentiated."""
    with tf.Graph().as_default() as made:
        image = tf.compat.v1.placeholder(dtype, shape, name="image")
        given = {
            name: tf.compat.v1.placeholder(tf.as_dtype(np.asarray(value).dtype), np.shape(value), name)
            for name, value in (weights or {}).items()
        }
        score = build(image, **given)
    assert not made.as_graph_def().library.function, "functions are written down by hand"
    return Graph(
        {one.name: normal(one) for one in made.as_graph_def().node},
        {},
        {name: f"variable/{name}" for name in weights or {}},
        outputs=(score.name, score.name, "image:0"),
        feeds={"image:0": "image"},
        values={f"variable/{name}": tf.constant(value) for name, value in (weights or {}).items()},
    )


def normal(one: NodeDef) -> NodeDef:
    """Every input as `name:index`."""
    copy = NodeDef()
    copy.CopyFrom(one)
    copy.input[:] = [text if ":" in text or text.startswith("^") else f"{text}:0" for text in one.input]
    return copy


def question(dtype: tf.DType = tf.float32, shape: tuple[int, ...] | None = SHAPE, **more: Any) -> Question:
    """About the placeholder `image`."""
    image = Tensor("image", "image:0", dtype, shape)
    return Question("serve", "a test's", image, Tensor("scores", "score:0", tf.float32, None), **more)


def function(name: str, *nodes: NodeDef, results: Iterable[str], types: Mapping[str, tf.DType]) -> Function:
    """A function whose arguments are `types`, by name, and whose results are float32."""
    signature, results = OpDef(name=name), tuple(results)
    arguments = []
    for argument, dtype in types.items():
        signature.input_arg.add(name=argument, type=dtype.as_datatype_enum)
        arguments.append(node(argument, "_Arg", T=dtype))
    for place, _ in enumerate(results):
        signature.output_arg.add(name=f"result{place}", type=tf.float32.as_datatype_enum)
    return Function(signature, {one.name: one for one in (*arguments, *nodes)}, results)


def computed(graph: Graph, image: np.ndarray, **others: Any) -> list[np.ndarray]:
    """The outputs of a graph, as TensorFlow computes them."""
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(graph.graph_def(), name="")
    values = {f"{name}:0": np.asarray(graph.values[variable]) for name, variable in graph.weights.items()}
    given = {f"{name}:0": value for name, value in others.items()}
    with tf.compat.v1.Session(graph=made) as session:
        return session.run(list(graph.outputs), {**values, **given, f"{graph.feeds['image:0']}:0": image})


def pixels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ops(graph: Graph) -> list[str]:
    return sorted(one.op for one in graph.nodes.values())
