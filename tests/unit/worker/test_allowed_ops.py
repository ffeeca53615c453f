"""Whatever keras.ops, tf.nn and tf.image make of an image may run, and has a gradient; or it is said why not."""

from __future__ import annotations

import pytest
import tensorflow as tf
from library import ARGUMENTS, LIBRARIES, NOT_TRACED, SHAPE, called, functions
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.types_pb2 import DT_DOUBLE, DT_FLOAT

from gradviz_cli.worker.analysis.policy import allowed_ops
from gradviz_cli.worker.graph.tf_private import native_gradient, op_def
from gradviz_cli.worker.passes import formulas
from gradviz_cli.worker.read.frames import CALLS

# What nothing that is explained depends on, and what is never left: calls are written out, variables are read.
GONE = {"Assert", "NoOp", *CALLS}
REFUSED = {
    "DecodeJxl": "JPEG XL, which is not fed to a model",
    "Empty": "memory that nobody has written to, which a loss fills later",
    "GenerateBoundingBoxProposals": "has a kernel on GPUs alone",
}
# What the oldest TensorFlow that gradviz takes has not.
LATER = {"decode_jxl", "decode_webp"}
# What ends in "no gradient is defined", with its name.
WITHOUT_GRADIENT = {
    **dict.fromkeys(("CombinedNonMaxSuppression", "NonMaxSuppressionV5"), "chooses boxes"),
    **dict.fromkeys(("DenseBincount", "Unique"), "counts"),
    **dict.fromkeys(("CTCBeamSearchDecoder", "CTCGreedyDecoder"), "decides"),
    **dict.fromkeys(("SampleDistortedBoundingBoxV2", "StatelessSampleDistortedBoundingBox"), "draws a box"),
    "ApproxTopK": "see its gradient",
    "Bitcast": "reads bytes",
    "DrawBoundingBoxesV2": "draws on a picture",
    "ExtractGlimpseV2": "fills with noise",
    "Lu": "TensorFlow has none",
}


def emitted(library: str) -> dict[str, str]:
    """Op -> a function that needs it."""
    found: dict[str, str] = {}
    for name in functions(library):
        with tf.Graph().as_default() as made:
            called(library, name, tf.compat.v1.placeholder(tf.float32, SHAPE))
        built = made.as_graph_def()
        nodes = [*built.node, *(node for function in built.library.function for node in function.node_def)]
        found.update({node.op: name for node in nodes if op_def(node.op) is not None})
    return {op: name for op, name in found.items() if op not in GONE}


@pytest.fixture(scope="module")
def ops() -> dict[str, str]:
    return {op: f"{library}.{name}" for library in LIBRARIES for op, name in emitted(library).items()}


def test_what_libraries_emit_may_run(ops):
    assert {op: name for op, name in ops.items() if op not in allowed_ops() and op not in REFUSED} == {}
    assert not allowed_ops() & REFUSED.keys()


def has_gradient(op: str) -> bool:
    try:
        native_gradient(op)
    except LookupError:
        return False
    return True


def takes_numbers(arguments, definition: OpDef) -> bool:
    """Whether one of these inputs or outputs may be a float."""
    for argument in arguments:
        names = (argument.type_attr, argument.type_list_attr)
        kinds = [set(one.allowed_values.list.type) for one in definition.attr if one.name in names]
        if argument.type in (DT_FLOAT, DT_DOUBLE) or any(not kind or kind & {DT_FLOAT, DT_DOUBLE} for kind in kinds):
            return True
    return False


def test_what_may_run_has_a_gradient(ops):
    """A registered one, one of the formula that is written for it; or it gives no numbers that one could be of."""
    lacking = {}
    for op in ops.keys() & allowed_ops():
        definition = op_def(op)
        passes = takes_numbers(definition.input_arg, definition) and takes_numbers(definition.output_arg, definition)
        if passes and not has_gradient(op) and op not in formulas.FORMS and op not in WITHOUT_GRADIENT:
            lacking[op] = ops[op]
    assert lacking == {}


def test_the_tables_name_functions_that_exist():
    missing = {
        name
        for library, module in LIBRARIES.items()
        for name in (*ARGUMENTS[library], *NOT_TRACED[library])
        if not hasattr(module, name)
    }
    assert missing <= LATER
