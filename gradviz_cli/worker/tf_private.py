"""The one file that names TensorFlow's private modules, each with the reason and what is lost without it."""

from __future__ import annotations

from tensorflow.core.framework.op_def_pb2 import OpDef

# The registry of operations has no public Python door. Needed to translate "node:output_name:i", the way function
# bodies name tensors, into the "node:i" of a flat graph: without it no function could be inlined.
from tensorflow.python.framework import op_def_registry


def op_def(op: str) -> OpDef | None:
    """The definition of a registered operation, None when this TensorFlow knows none of that name."""
    return op_def_registry.get(op)
