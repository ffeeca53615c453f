"""Whether the model is at fault, and not the image, when TensorFlow cannot compute a gradient."""

from __future__ import annotations

import re
from collections.abc import Callable

import tensorflow as tf

from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.words import first_line
from gradviz_cli.worker.run.targets import SCOPE

NO_KERNEL = "No OpKernel was registered"
_NODE = re.compile(r"\{\{node ([^{}\s]+)\}\}")
# Where the gradient of a node is computed: `gradients/NODE_grad/...`, below that of a loop in its turn.
_GRADIENT = re.compile(r"^(?:.*\b)?gradients(?:_\d+)?/(.*?)_grad(?:_\d+)?/[^/]+$")


def lacking(error: tf.errors.OpError, graph: Graph, forward: Callable[[], object]) -> str | None:
    """What of a model this machine cannot compute, in words; None where the error may be the image's.

    It is not where the same images have scores (`forward` computes these) and only their gradient fails.
    """
    text = str(error)
    # What no image changes: an operation is not there, or not for these types and sizes.
    missing = isinstance(error, tf.errors.UnimplementedError | tf.errors.NotFoundError)
    if not (missing or NO_KERNEL in text) and not _works(forward):
        return None
    found = _NODE.findall(text)
    gradient = _GRADIENT.match(found[-1]) if found else None
    name = (gradient.group(1) if gradient else found[-1] if found else "").removeprefix(f"{SCOPE}/")
    name = name.partition("/gradviz_")[0]
    op = next((nodes[name].op for nodes in _scopes(graph) if name in nodes), None)
    place = f"node {name[:200]}{f' (op {op})' if op else ''}" if name else "an operation"
    part = "the gradient of " if gradient else ""
    return f"TensorFlow cannot compute {part}{place} on this machine: {first_line(error)}"


def _works(forward: Callable[[], object]) -> bool:
    try:
        forward()
    except tf.errors.OpError:
        return False
    return True


def _scopes(graph: Graph) -> list:
    return [graph.nodes, *(function.nodes for function in graph.functions.values())]
