"""What TensorFlow works out once, worked out while the model is read.

The first function that a thread hands to TensorFlow takes a tenth of a second longer: for each kind of operation in it all
kernels there are are gone through for one of oneDNN's (`mkl_op_registry::IsMklOp` keeps what it finds for the thread), and
oneDNN writes the machine code of products.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_BOOL, DT_FLOAT, DT_INT32

from gradviz_cli.worker.graph.graph import unique_mark
from gradviz_cli.worker.graph.tf_private import call, forget, make_known, op_def

# What nearly every gradient is made of.
_IMAGES = """AvgPool AvgPoolGrad BiasAdd Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 DepthToSpace
    DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput MatMul MaxPool MaxPoolGrad Relu Relu6 Relu6Grad ReluGrad Sigmoid
    SigmoidGrad Softmax SpaceToDepth"""
_NUMBERS = "AddN AddV2 Maximum Mean Mul Neg RealDiv Square Sub Sum TopKV2"
_PLACES = """BroadcastTo ConcatV2 EnsureShape ExpandDims Fill Identity OneHot Pack Pad Reshape SelectV2 Shape Slice Squeeze
    StridedSlice Transpose"""
_COUNTS = "ConcatV2 Fill Identity Less Maximum Neg Pack Reshape SelectV2 Slice StridedSlice Sub TopKV2"
OPERATIONS = {DT_FLOAT: (*_IMAGES.split(), *_NUMBERS.split(), *_PLACES.split()), DT_INT32: tuple(_COUNTS.split())}
SPATIAL = frozenset({"Conv3D", "Conv3DBackpropInputV2"})  # strides of five axes
ARGUMENTS = {"number": DT_FLOAT, "count": DT_INT32, "never": DT_BOOL}


def warm_up() -> None:
    """For functions that this thread is the first to call."""
    function = every_operation()
    make_known(function)
    try:
        call(function.signature.name, [tf.constant(0.0), tf.constant(0), tf.constant(False)])
    finally:
        forget(function.signature.name)
    square = tf.zeros([8, 8])
    for transposed in (False, True):
        tf.matmul(square, square, transpose_b=transposed)
    tf.nn.conv2d(tf.zeros([1, 8, 8, 8]), tf.zeros([3, 3, 8, 8]), 1, "SAME")


def every_operation() -> FunctionDef:
    """A function with all of them, on a branch that is never taken: TensorFlow looks at each and computes none."""
    built = FunctionDef()
    built.signature.name = f"gradviz_warm_up{unique_mark()}"
    ways: dict[str, dict[int, str]] = {"true": {}, "false": {}}
    for name, dtype in ARGUMENTS.items():
        built.signature.input_arg.add(name=name, type=dtype)
        _add(built, "Switch", f"{name}_switch", dtype, [name, "never"])
        for way, taken in ways.items():
            taken[dtype] = f"{name}_switch:output_{way}:0"
    ends: dict[int, list[str]] = {dtype: [tensor] for dtype, tensor in ways["false"].items()}
    for dtype, operations in OPERATIONS.items():
        for op in operations:
            end, kind = _never_run(built, op, dtype, ways["true"])
            ends[kind].append(end)
    for dtype in OPERATIONS:
        _add(built, "Merge", f"merged_{dtype}", dtype, ends[dtype]).attr["N"].i = len(ends[dtype])
    counted = built.node_def.add(name="counted", op="Cast", input=[f"merged_{DT_INT32}:output:0"])
    counted.attr["SrcT"].type, counted.attr["DstT"].type = DT_INT32, DT_FLOAT
    _add(built, "AddV2", "end", DT_FLOAT, [f"merged_{DT_FLOAT}:output:0", "counted:y:0"])
    built.signature.output_arg.add(name="end", type=DT_FLOAT)
    built.ret["end"] = "end:z:0"
    return built


def _add(built: FunctionDef, op: str, name: str, dtype: int, inputs: list[str]) -> NodeDef:
    node = built.node_def.add(name=name, op=op, input=inputs)
    node.attr["T"].type = dtype
    return node


def _never_run(built: FunctionDef, op: str, dtype: int, tensors: dict[int, str]) -> tuple[str, int]:
    """Add an operation that reads these; its first result, and the type of that."""
    definition = op_def(op)
    assert definition is not None, "all releases have these"
    node = _add(built, op, f"{op}_{dtype}", dtype, [])
    for declared in definition.attr:
        value = node.attr[declared.name]
        if declared.name in ("strides", "ksize"):
            value.list.i.extend([1] * (5 if op in SPATIAL else 4))
        elif declared.name in ("N", "block_size"):
            value.i = 2
        elif declared.name == "padding":
            value.s = b"VALID"
        elif declared.name == "shape":
            value.shape.unknown_rank = True
        elif declared.type != "type":
            value.CopyFrom(declared.default_value)
        elif declared.name != "T":
            value.type = DT_INT32
    for argument in definition.input_arg:
        read = tensors[argument.type or node.attr[argument.type_attr].type]
        node.input.extend([read] * (node.attr[argument.number_attr].i if argument.number_attr else 1))
    output = definition.output_arg[0]
    return f"{node.name}:{output.name}:0", output.type or node.attr[output.type_attr].type
