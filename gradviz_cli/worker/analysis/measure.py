"""What a graph makes of a picture: the first steps of a model, run on pictures of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.graph.graph import Graph, attribute
from gradviz_cli.worker.graph.tf_private import import_nodes

Array = np.ndarray

v1 = tf.compat.v1


class _Variable:
    """A variable of a session, for what reads one by its handle, such as a lookup of rows."""

    def __init__(self, value: tf.Tensor):
        self.value = value
        self.handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape)
        self.given = v1.placeholder(value.dtype, value.shape)
        self.assigned = tf.raw_ops.AssignVariableOp(resource=self.handle, value=self.given)


def measure(
    graph: Graph, fed: str, tensors: Sequence[str], entry: Entry, constants: Mapping[str, Array]
) -> Callable[[Array], tuple[Array, list[Array]]]:
    """A function of one picture, float32 [h, w, c]: what is fed for it, and what the tensors hold then.

    The policy must have judged the graph. A fixed batch is filled with the same picture, a batch as long as wanted is 1.

    Parameters
    ----------
    constants : mapping
        Placeholder -> value of the other inputs.
    """
    return measured(graph, fed, tensors, entry, constants)(tensors)


Run = Callable[..., tuple[Array, list[Array]]]
"""(picture, *values of what is held)"""


def measured(
    graph: Graph, fed: str, tensors: Sequence[str], entry: Entry, constants: Mapping[str, Array]
) -> Callable[..., Run]:
    """A function of some of these tensors, and of others that are held at given values: the function as that of `measure`,
    which is given these values too. Parameters as there."""
    part = graph.pruned(tensors)
    dtype = tf.dtypes.as_dtype(attribute(graph.node(fed), "dtype").type)
    beside = {f"{name}:0": constants[name] for name in part.nodes if name in constants}
    beside.update({f"{name}:0": part.values[variable].numpy() for name, variable in part.weights.items()})
    with tf.Graph().as_default() as built:
        variables = {f"{name}:0": _Variable(part.values[variable]) for name, variable in part.handles.items()}
        mapped = {name: variable.handle for name, variable in variables.items()}
        import_nodes(part.graph_def(), mapped)
    quick = v1.ConfigProto()  # a few runs on small pictures: to optimise the graph would take longer
    quick.graph_options.rewrite_options.disable_meta_optimizer = True
    session = v1.Session(graph=built, config=quick)
    for variable in variables.values():
        session.run(variable.assigned, {variable.given: variable.value.numpy()})

    def of_tensors(wanted: Sequence[str], held: Sequence[str] = ()) -> Run:
        run = session.make_callable(list(wanted), [fed, *beside, *held])

        def of_picture(picture: Array, *values: Array) -> tuple[Array, list[Array]]:
            images = np.repeat(picture[None].astype(np.float32, copy=False), entry.batch or 1, axis=0)
            given = entry.to_model(images, dtype).numpy()
            return given, run(given, *beside.values(), *values)

        return of_picture

    return of_tensors
