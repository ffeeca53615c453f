"""The one file that names TensorFlow's private modules, each with the reason and what is lost without it."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.framework.op_def_pb2 import OpDef

# The registry of operations has no public Python door. Needed to translate "node:output_name:i", the way function
# bodies name tensors, into the "node:i" of a flat graph: without it no function could be inlined.
# The registry of gradients has no public reader either. Needed to name the op that cuts a gradient off.
from tensorflow.python.framework import op_def_registry, ops


def op_def(op: str) -> OpDef | None:
    """The definition of a registered operation, None when this TensorFlow knows none of that name."""
    return op_def_registry.get(op)


def passes_gradient(op: tf.Operation) -> bool:
    """Whether a gradient of this operation's output can reach its inputs."""
    if not any(output.dtype.is_floating or output.dtype.is_complex for output in op.outputs):
        return any(output.dtype in (tf.variant, tf.resource) for output in op.outputs)
    try:
        return ops.get_gradient_function(op) is not None
    except LookupError:
        return False
