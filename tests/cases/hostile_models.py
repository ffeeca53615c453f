"""SavedModels that try to do harm, written by the tests: graphs through tf.compat.v1, functions and files by hand.

One catalogue, as long as there are ways to do harm. A `Case` writes one model into a folder and says what must become
of it. The harm they try is harmless itself: files in the test's own folder (canaries), connections to a port of the
test's own.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

v1 = tf.compat.v1
SIDE = 8
CLASSES = 4
FLOAT, INT32, BOOL = tf.float32.as_datatype_enum, tf.int32.as_datatype_enum, tf.bool.as_datatype_enum


@dataclass(frozen=True)
class World:
    """What the models of one test run may try to reach."""

    models: Path
    canaries: Path
    secret: Path
    listener: socket.socket
    free_port: int  # nobody listens there

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def canary(self, name: str) -> str:
        """A file (or folder) that must not come to be."""
        return str(self.canaries / name)

    def connected(self) -> bool:
        """Whether anyone has connected to the listener."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A folder with an empty canary cage, a secret file and a listener on 127.0.0.1."""
    for name in ("models", "canaries"):
        (folder / name).mkdir()
    (folder / "secret").write_text("31337")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield World(folder / "models", folder / "canaries", folder / "secret", listener, port)


@dataclass(frozen=True, eq=False)
class Case:
    """One hostile model.

    Attributes
    ----------
    outcome : str
        `runs` (what is hostile in it is never reached), `refused` (exit 6), `unusable` (5), or `fails` (each image
        fails, 4); several where the kind of defence is TensorFlow's to choose.
    says : str
        What the message must hold.
    options : dict
        For `RemoteModel`: fields of ModelOptions, and `timeout`.
    """

    name: str
    write: Callable[[Path, World], None]
    outcome: tuple[str, ...]
    says: str = ""
    options: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


CASES: list[Case] = []
# Folders that are no models at all but would block, loop or lead elsewhere.
ODD_FOLDERS: list[Case] = []


def case(*outcome: str, says: str = "", into: list[Case] | None = None, **options) -> Callable:
    """Register a function `(folder, world)` that writes a model."""

    def register(write: Callable[[Path, World], None]) -> Callable:
        name = write.__name__.removeprefix("_")
        (CASES if into is None else into).append(Case(name, write, outcome, says, options))
        return write

    return register


def hostile(*outcome: str, says: str = "", **options) -> Callable:
    """Register a function `(image, world) -> image` that puts something into the explained graph of a small network."""

    def register(add: Callable) -> Callable:
        def write(folder: Path, w: World) -> None:
            save(folder, network(lambda image: add(image, w)))

        CASES.append(Case(add.__name__.removeprefix("_"), write, outcome, says, options))
        return add

    return register


# --- small networks ----------------------------------------------------------------------------------------------------


def scores(x: tf.Tensor) -> tf.Tensor:
    """Convolution, ReLU, mean, dense, softmax; all weights in the graph."""
    draw = np.random.default_rng(4)
    x = tf.nn.relu(tf.nn.conv2d(x, draw.normal(0, 0.3, (3, 3, 3, 8)).astype("f"), 1, "SAME", name="conv") + 0.1)
    x = tf.reduce_mean(x, axis=(1, 2)) @ draw.normal(0, 1, (8, CLASSES)).astype("f")
    return tf.nn.softmax(x)


def network(add: Callable[[tf.Tensor], tf.Tensor | None] = lambda image: None) -> GraphDef:
    """The network, with something between image and convolution; `add` may also only leave nodes beside it."""
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, SIDE, SIDE, 3], name="image")
        found = add(image)
        tf.identity(scores(image if found is None else found), name="scores")
    return graph.as_graph_def()


def beside(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """The image, made to need a value without being changed by it."""
    return image + 0 * tf.reduce_sum(tf.cast(value, tf.float32))


def save(
    folder: Path, graph: GraphDef, *, side: int = SIDE, text: bool = False, image: str = "image:0"
) -> MetaGraphDef:
    """Write a SavedModel around a graph by hand; returns its meta graph, for `resave` after changes."""
    meta = MetaGraphDef()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(graph)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.inputs["image"].name, signature.inputs["image"].dtype = image, FLOAT
    signature.inputs["image"].tensor_shape.CopyFrom(shape(-1, side, side, 3))
    signature.outputs["scores"].name, signature.outputs["scores"].dtype = "scores:0", FLOAT
    signature.outputs["scores"].tensor_shape.CopyFrom(shape(-1, CLASSES))
    resave(folder, meta, text=text)
    return meta


def resave(folder: Path, meta: MetaGraphDef, *, text: bool = False) -> None:
    model = SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    folder.mkdir(exist_ok=True)
    if text:
        (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(model))
    else:
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())


def shape(*sizes: int) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


def node(op: str, name: str, *inputs: str, **attributes) -> NodeDef:
    """A node; attributes are ints (types), texts, AttrValues, or `f="function"`."""
    made = NodeDef(op=op, name=name, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, AttrValue):
            made.attr[key].CopyFrom(value)
        elif isinstance(value, str):
            made.attr[key].func.name = value
        elif isinstance(value, list):
            made.attr[key].list.type.extend(value)
        else:
            made.attr[key].type = value
    return made


def call(name: str, function: str, *inputs: str) -> NodeDef:
    return node("PartitionedCall", name, *inputs, f=function, Tin=[FLOAT] * len(inputs), Tout=[FLOAT])


def function(name: str, *nodes: NodeDef, result: str) -> FunctionDef:
    """A function float x -> float y."""
    made = FunctionDef(node_def=nodes)
    made.signature.name = name
    made.signature.input_arg.add(name="x", type=FLOAT)
    made.signature.output_arg.add(name="y", type=FLOAT)
    made.ret["y"] = result
    return made


def through(*functions: FunctionDef, first: str) -> GraphDef:
    """The network with a call to the function `first` between image and convolution."""
    graph = network(lambda image: tf.identity(image, name="entrance"))
    graph.library.function.extend(functions)
    entrance = next(one for one in graph.node if one.name == "entrance")
    entrance.CopyFrom(call("entrance", first, "image:0"))
    return graph


# --- writers that a loader would run -------------------------------------------------------------------------------------


def _writer(path: str) -> tf.Operation:
    return tf.raw_ops.WriteFile(filename=path, contents="written")


@case("runs")
def writer_in_main_op(folder: Path, w: World) -> None:
    graph = network(lambda image: _keep(_writer(w.canary("main_op")), "init"))
    meta = save(folder, graph)
    meta.collection_def["saved_model_main_op"].node_list.value.append("init")
    resave(folder, meta)


@case("runs")
def writer_in_legacy_init_op(folder: Path, w: World) -> None:
    graph = network(lambda image: _keep(_writer(w.canary("legacy_init_op")), "init"))
    meta = save(folder, graph)
    meta.collection_def["legacy_init_op"].node_list.value.append("init")
    resave(folder, meta)


@case("runs")
def writer_in_init_signature(folder: Path, w: World) -> None:
    """As TensorFlow 2 names it."""
    graph = network(lambda image: _keep(_writer(w.canary("init_signature")), "init"))
    meta = save(folder, graph)
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"
    resave(folder, meta)


def _keep(operation: tf.Operation | None, name: str) -> None:
    with tf.control_dependencies([operation]):
        tf.no_op(name=name)


class Network(tf.Module):
    """The network as TensorFlow 2 saves it."""

    def __init__(self, around: Callable = lambda x: x):
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(5).normal(0, 0.4, (3, 3, 3, CLASSES)).astype("f"))
        self.around = around

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], name="image")])
    def serve(self, image):
        x = tf.nn.relu(tf.nn.conv2d(self.around(image), self.kernel, 1, "SAME"))
        return {"scores": tf.nn.softmax(tf.reduce_mean(x, axis=(1, 2)))}


def save_module(folder: Path, module: tf.Module, **options) -> None:
    tf.saved_model.save(module, str(folder), {"serving_default": module.serve}, tf.saved_model.SaveOptions(**options))


@case("runs")
def writer_in_initializer(folder: Path, w: World) -> None:
    """A table whose initialisation writes: it runs whenever the model is loaded."""

    class Initializer(tf.lookup.KeyValueTensorInitializer):
        def initialize(self, table):
            if not tf.executing_eagerly():
                _writer(w.canary("initializer"))
            return super().initialize(table)

    module = Network()
    module.table = tf.lookup.StaticHashTable(Initializer(["a"], [1]), 0)
    save_module(folder, module)


@case("runs")
def writer_in_restore_function(folder: Path, w: World) -> None:
    """An object that says itself how it is saved and restored."""

    class Remembering(tf.__internal__.tracking.AutoTrackable):
        def _serialize_to_tensors(self):
            return {"state": tf.constant(1.0)}

        def _restore_from_tensors(self, tensors):
            _writer(w.canary("restore_function"))
            return tf.constant(1.0)

    module = Network()
    module.remembering = Remembering()
    save_module(folder, module)


@case("runs")
def writer_in_v1_restore(folder: Path, w: World) -> None:
    """The saver's restore operation of a TensorFlow 1 model."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, SIDE, SIDE, 3], name="image")
        weight = v1.get_variable("weight", [3], initializer=v1.ones_initializer(), use_resource=True)
        tf.identity(scores(image * weight), name="scores")
        session.run(v1.global_variables_initializer())
        with graph.control_dependencies([_writer(w.canary("v1_restore"))]):
            saver = v1.train.Saver([weight])
        (folder / "variables").mkdir(parents=True)
        saver.save(session, str(folder / "variables" / "variables"), write_meta_graph=False, write_state=False)
        meta = save(folder, graph.as_graph_def())
        meta.saver_def.CopyFrom(saver.as_saver_def())
        resave(folder, meta)


@case("runs")
def writer_in_custom_gradient(folder: Path, w: World) -> None:
    """A gradient of the model's own, which the file brings along and registers."""

    @tf.custom_gradient
    def own(x):
        def backward(upstream):
            with tf.control_dependencies([_writer(w.canary("custom_gradient"))]):
                return tf.identity(upstream)

        return tf.identity(x), backward

    save_module(folder, Network(own), experimental_custom_gradients=True)


# --- writers in the explained graph: without an output they hang on control inputs, which are dropped ------------------------


@hostile("runs")
def writer_behind_a_control_input(image, w):
    with tf.control_dependencies([_writer(w.canary("control"))]):
        return tf.identity(image)


@hostile("runs")
def checkpoint_behind_a_control_input(image, w):
    with tf.control_dependencies(
        [
            tf.raw_ops.SaveV2(
                prefix=w.canary("savev2"),
                tensor_names=["a"],
                shape_and_slices=[""],
                tensors=[tf.constant(1.0)],
            )
        ]
    ):
        return tf.identity(image)


@hostile("runs")
def printer_to_a_file_behind_a_control_input(image, w):
    with tf.control_dependencies([tf.raw_ops.PrintV2(input="written", output_stream=f"file://{w.canary('printv2')}")]):
        return tf.identity(image)


@hostile("runs")
def summary_behind_a_control_input(image, w):
    writer = tf.raw_ops.SummaryWriter()
    made = tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=w.canary("summary"), max_queue=0, flush_millis=1, filename_suffix="x"
    )
    with tf.control_dependencies([made]):
        scalar = tf.raw_ops.WriteScalarSummary(writer=writer, step=tf.constant(1, tf.int64), tag="a", value=1.0)
    with tf.control_dependencies([scalar]):
        flushed = tf.raw_ops.FlushSummaryWriter(writer=writer)
    with tf.control_dependencies([flushed]):
        return tf.identity(image)


@hostile("runs")
def reader_behind_an_assert(image, w):
    check = tf.raw_ops.Assert(
        condition=tf.equal(tf.io.read_file(str(w.secret)), ""), data=[tf.constant(1)], summarize=3
    )
    with tf.control_dependencies([check]):
        return tf.identity(image)


@hostile("runs")
def abort_behind_a_control_input(image, w):
    with tf.control_dependencies([tf.raw_ops.Abort(error_msg="aborted", exit_without_error=False)]):
        return tf.identity(image)


@hostile("runs")
def variable_set_behind_a_control_input(image, w):
    variable = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="v")
    with tf.control_dependencies([tf.raw_ops.AssignVariableOp(resource=variable, value=tf.constant(1.0))]):
        return tf.identity(image)


# --- writers on the way of the data ------------------------------------------------------------------------------------------


@hostile("refused", says="DebugIdentity")
def writer_on_the_path(image, w):
    return _debug(image, w, "debug")


def _debug(x: tf.Tensor, w: World, name: str) -> tf.Tensor:
    """An identity that needs a copy of it to be written to a file."""
    copy = tf.raw_ops.DebugIdentity(
        input=x,
        device_name="",
        tensor_name="x:0",
        debug_urls=[f"file://{w.canary(name)}"],
        gated_grpc=False,
    )
    return x + 0 * tf.stop_gradient(copy)


@hostile("refused", says="DebugIdentityV2")
def writer_of_debug_events(image, w):
    return tf.raw_ops.DebugIdentityV2(
        input=image,
        tfdbg_context_id="a",
        op_name="x",
        output_slot=0,
        tensor_debug_mode=8,
        debug_urls=[f"file://{w.canary('debugv2')}"],
        tfdbg_run_id="r",
        circular_buffer_size=-1,
    )


@hostile("refused", says="CacheDataset")
def writer_as_a_dataset_cache(image, w):
    return beside(image, _cached(w))


def _cached(w: World) -> tf.Tensor:
    numbers = tf.data.Dataset.from_tensors(tf.constant(1.0)).repeat(2)._variant_tensor
    kinds = {"output_types": [tf.float32]}
    cached = tf.raw_ops.CacheDataset(input_dataset=numbers, filename=w.canary("cache"), output_shapes=[[]], **kinds)
    both = tf.raw_ops.BatchDatasetV2(
        input_dataset=cached,
        batch_size=tf.constant(2, tf.int64),
        drop_remainder=False,
        output_shapes=[[None]],
        **kinds,
    )
    return tf.raw_ops.DatasetToSingleElement(dataset=both, output_shapes=[[None]], **kinds)[0]


@hostile("refused", says="DebugIdentity")
def writer_in_a_branch(image, w):
    spec = tf.TensorSpec([None, SIDE, SIDE, 3])
    write = tf.function(lambda x: _debug(x, w, "branch")).get_concrete_function(spec)
    stay = tf.function(lambda x: x * 2).get_concrete_function(spec)
    return tf.raw_ops.If(
        cond=tf.reduce_sum(image) > -1e9,
        input=[image],
        Tout=[tf.float32],
        then_branch=write,
        else_branch=stay,
    )[0]


@hostile("refused", says="DebugIdentity")
def writer_in_a_case(image, w):
    spec = tf.TensorSpec([None, SIDE, SIDE, 3])
    branches = [tf.function(f).get_concrete_function(spec) for f in (lambda x: x * 2, lambda x: _debug(x, w, "case"))]
    index = tf.cast(tf.reduce_sum(image) > -1e9, tf.int32)
    return tf.raw_ops.Case(branch_index=index, input=[image], Tout=[tf.float32], branches=branches)[0]


@hostile("refused", says="DebugIdentity")
def writer_in_a_loop(image, w):
    count = tf.cast(tf.reduce_max(image) * 0, tf.int32) + 2
    return tf.while_loop(lambda i, x: i < count, lambda i, x: (i + 1, _debug(x, w, "loop")), (0, image))[1]


@hostile("refused", says="DebugIdentity")
def writer_in_nested_functions(image, w):
    inner = tf.function(lambda x: _debug(x, w, "nested"))
    middle = tf.function(lambda x: inner(x) + 1)
    outer = tf.function(lambda x: middle(x) * 2)
    return outer(image)


@hostile("refused", says="DebugIdentity")
def writer_in_a_branch_of_a_loop(image, w):
    count = tf.cast(tf.reduce_max(image) * 0, tf.int32) + 2

    def body(i, x):
        return i + 1, tf.cond(tf.reduce_sum(x) > -1e9, lambda: _debug(x, w, "deep"), lambda: x)

    return tf.while_loop(lambda i, x: i < count, body, (0, image))[1]


def _file_reader(name: str, w: World) -> FunctionDef:
    """A function that adds the length of the secret."""
    return function(
        name,
        _text("path", str(w.secret)),
        node("ReadFile", "read", "path:output:0"),
        node("StringLength", "length", "read:contents:0"),
        node("Cast", "cast", "length:output:0", SrcT=INT32, DstT=FLOAT),
        node("AddV2", "add", "x", "cast:y:0", T=FLOAT),
        result="add:z:0",
    )


@case("refused", says="ReadFile")
def function_named_relu(folder: Path, w: World) -> None:
    """It reads a file under the name of an operation that may run."""
    graph = network(lambda image: tf.identity(image, name="entrance"))
    graph.library.function.append(_file_reader("Relu", w))
    save(folder, graph)


@case("refused", says="ReadFile")
def function_named_identity_called_by_name(folder: Path, w: World) -> None:
    graph = network(lambda image: tf.identity(image, name="entrance"))
    graph.library.function.append(_file_reader("Identity", w))
    save(folder, graph)


@case("refused", says="ReadFile")
def function_used_as_an_operation(folder: Path, w: World) -> None:
    graph = network(lambda image: tf.identity(image, name="entrance"))
    graph.library.function.append(_file_reader("own", w))
    entrance = next(one for one in graph.node if one.name == "entrance")
    entrance.CopyFrom(node("own", "entrance", "image:0"))
    save(folder, graph)


@case("refused", says="ReadFile")
def branch_named_relu(folder: Path, w: World) -> None:
    """The body of a branch that only data decide takes the name of an operation."""
    branching = function("f", *_branch("a", "Relu"), result="a:output:0")
    save(folder, through(branching, _file_reader("Relu", w), first="f"))


@case("runs")
def gradient_function_in_the_library(folder: Path, w: World) -> None:
    """A GradientDef names the function to be called for the gradient of another."""
    graph = through(function("f", node("Mul", "m", "x", "x", T=FLOAT), result="m:z:0"), _file_reader("g", w), first="f")
    graph.library.gradient.add(function_name="f", gradient_func="g")
    save(folder, graph)


# --- readers ------------------------------------------------------------------------------------------------------------------


@hostile("refused", says="ReadFile")
def reader_of_passwd(image, w):
    return beside(image, tf.strings.length(tf.io.read_file("/etc/passwd")))


@hostile("refused", says="ReadFile")
def reader_in_a_shape(image, w):
    """Inferring shapes runs ReadFile on a constant, so the graph must be judged before TensorFlow gets it."""
    count = tf.strings.to_number(tf.io.read_file(str(w.secret)), tf.int32)
    return beside(image, tf.zeros(tf.stack([count % 7])))


@case("refused", says="ReadFile")
def reader_beside_the_model(folder: Path, w: World) -> None:
    save(
        folder,
        network(lambda image: beside(image, tf.strings.length(tf.io.read_file(str(folder / "saved_model.pb"))))),
    )


@hostile("refused", says="MatchingFiles")
def list_of_files(image, w):
    return beside(image, tf.size(tf.io.matching_files("/home/*")))


@hostile("refused", says="TextLineReader")
def reader_of_lines(image, w):
    queue = v1.FIFOQueue(1, tf.string)
    _, line = v1.TextLineReader().read(queue)
    return beside(image, tf.strings.length(line))


@hostile("refused", says="Dataset")
def dataset_of_lines(image, w):
    lines = tf.data.TextLineDataset(str(w.secret))._variant_tensor
    return beside(
        image,
        tf.strings.length(
            tf.raw_ops.DatasetToSingleElement(dataset=lines, output_types=[tf.string], output_shapes=[[]])[0]
        ),
    )


@hostile("refused", says="Iterator")
def iterator(image, w):
    lines = v1.data.make_one_shot_iterator(tf.data.TextLineDataset(str(w.secret)))
    return beside(image, tf.strings.length(lines.get_next()))


@hostile("refused", says="ImmutableConst")
def constant_mapped_from_a_file(image, w):
    return beside(image, tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[1], memory_region_name=str(w.secret)))


@hostile("refused", says="RestoreV2")
def reader_of_another_checkpoint(image, w):
    return beside(
        image,
        tf.raw_ops.RestoreV2(prefix=str(w.secret), tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])[0],
    )


@hostile("unusable", says="the table")
def table_filled_from_a_file(image, w):
    """What would fill the table never runs, so a score that is looked up in it cannot be had."""
    table = tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)
    filled = tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=str(w.secret), key_index=-1, value_index=-2
    )
    v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, filled)
    found = tf.raw_ops.LookupTableFindV2(
        table_handle=table, keys=tf.constant([1], tf.int64), default_value=tf.constant(0, tf.int64)
    )
    return beside(image, found)


@hostile("runs")
def printer_on_the_path(image, w):
    """A leftover of finding errors, which is passed over."""
    return v1.Print(image, [image])


@hostile("refused", says="op StringToNumber (node StringToNumber)")
def unlisted_operation(image, w):
    """Does no harm, but is not on the list."""
    return beside(image, tf.strings.to_number(tf.constant("1")))


# --- the network, foreign code -----------------------------------------------------------------------------------------------


@case("refused", says="Rpc")
def client_of_a_server(folder: Path, w: World) -> None:
    graph = network(lambda image: tf.identity(image, name="entrance"))
    empty, short = AttrValue(s=b""), AttrValue(i=100)
    graph.node.append(_text("address", f"127.0.0.1:{w.port}"))
    graph.node.append(_text("method", "a"))
    flags = {"shared_name": empty, "list_registered_methods": AttrValue(b=True), "timeout_in_ms": short}
    graph.node.append(node("RpcClient", "client", "address", **flags))
    graph.node.append(node("RpcCall", "call", "client", "method", "image", Tin=[FLOAT], timeout_in_ms=short))
    graph.node.append(node("RpcGetValue", "value", "call", Tout=[FLOAT]))
    next(one for one in graph.node if one.name == "entrance").input[0] = "value"
    graph.node.append(node("AddV2", "both", "entrance", "image", T=FLOAT))
    next(one for one in graph.node if one.name == "conv").input[0] = "both"
    save(folder, graph)


@case("runs")
def server_behind_a_control_input(folder: Path, w: World) -> None:
    graph = network(lambda image: tf.identity(image, name="entrance"))
    graph.node.append(_text("address", f"127.0.0.1:{w.free_port}"))
    graph.node.append(node("RpcServer", "server", "address"))
    graph.node.append(node("RpcServerStart", "started", "server"))
    next(one for one in graph.node if one.name == "entrance").input.append("^started")
    save(folder, graph)


def _text(name: str, text: str) -> NodeDef:
    value = AttrValue()
    value.tensor.CopyFrom(tf.make_tensor_proto(text))
    return node("Const", name, dtype=tf.string.as_datatype_enum, value=value)


@hostile("refused", says="DataService")
def data_from_a_service(image, w):
    data = tf.raw_ops.DataServiceDatasetV4(
        dataset_id="1",
        processing_mode="parallel_epochs",
        address=f"127.0.0.1:{w.port}",
        protocol="grpc",
        job_name="",
        consumer_index=tf.constant(-1, tf.int64),
        num_consumers=tf.constant(-1, tf.int64),
        max_outstanding_requests=tf.constant(1, tf.int64),
        iteration_counter=tf.raw_ops.DummyIterationCounter(),
        output_types=[tf.float32],
        output_shapes=[[]],
        uncompress_fn=tf.function(lambda x: x).get_concrete_function(tf.TensorSpec([], tf.variant)),
    )
    return beside(
        image,
        tf.raw_ops.DatasetToSingleElement(dataset=data, output_types=[tf.float32], output_shapes=[[]])[0],
    )


@hostile("refused", says="Collective")
def collective_that_waits_for_others(image, w):
    return tf.raw_ops.CollectiveReduce(
        input=image,
        group_size=2,
        group_key=1,
        instance_key=1,
        merge_op="Add",
        final_op="Id",
        subdiv_offsets=[0],
    )


@hostile("refused", says="PyFunc")
def python_function(image, w):
    return v1.py_func(lambda x: x, [image], tf.float32)


@hostile("refused", says="EagerPyFunc")
def eager_python_function(image, w):
    return tf.py_function(lambda x: x, [image], tf.float32)


@hostile("refused", says="PyFuncStateless")
def numpy_function(image, w):
    return tf.numpy_function(lambda x: x, [image], tf.float32, stateful=False)


@hostile("refused", says="SymbolicGradient")
def gradient_of_a_reader(image, w):
    reading = tf.function(lambda x: x + tf.cast(tf.strings.length(tf.io.read_file(str(w.secret))), tf.float32))
    concrete = reading.get_concrete_function(tf.TensorSpec([None, SIDE, SIDE, 3]))
    return tf.raw_ops.SymbolicGradient(input=[image, image], Tout=[tf.float32], f=concrete)[0]


@case("refused", says="XlaCallModule")
def compiled_module(folder: Path, w: World) -> None:
    graph = network(lambda image: tf.identity(image, name="entrance"))
    entrance = next(one for one in graph.node if one.name == "entrance")
    entrance.CopyFrom(node("XlaCallModule", "entrance", "image", Tin=[FLOAT], Tout=[FLOAT], version=AttrValue(i=5)))
    entrance.attr["module"].s = b"x"
    entrance.attr["Sout"].list.shape.append(shape(-1, SIDE, SIDE, 3))
    save(folder, graph)


# --- abort, traps -------------------------------------------------------------------------------------------------------------


@hostile("runs", "fails", "unusable")
def smallest_number_by_minus_one(image, w):
    """In C this division is undefined, and a trap of the processor."""
    zero = tf.cast(tf.reduce_sum(image) * 0, tf.int32)
    return beside(image, tf.raw_ops.TruncateDiv(x=zero + tf.int32.min, y=zero - 1))


@hostile("fails", "unusable", says="")
def division_by_zero(image, w):
    zero = tf.cast(tf.reduce_sum(image) * 0, tf.int32)
    return beside(image, tf.raw_ops.FloorMod(x=zero + 1, y=zero))


@hostile("fails", "unusable")
def division_by_zero_of_constants(image, w):
    return beside(image, tf.zeros(tf.raw_ops.FloorDiv(x=tf.constant([1]), y=tf.constant([0]))))


# --- bombs --------------------------------------------------------------------------------------------------------------------


@case("refused", says="call each other")
def functions_that_double(folder: Path, w: World) -> None:
    """40 functions, each calls the next twice: 2^40 operations."""
    functions = [
        function(f"f{i}", call("a", f"f{i + 1}", "x"), call("b", f"f{i + 1}", "a:output:0"), result="b:output:0")
        for i in range(40)
    ]
    functions.append(function("f40", node("Neg", "n", "x", T=FLOAT), result="n:y:0"))
    save(folder, through(*functions, first="f0"))


@case("refused", says="deep")
def calls_3000_deep(folder: Path, w: World) -> None:
    functions = [function(f"f{i}", call("a", f"f{i + 1}", "x"), result="a:output:0") for i in range(3000)]
    functions.append(function("f3000", node("Neg", "n", "x", T=FLOAT), result="n:y:0"))
    save(folder, through(*functions, first="f0"))


@case("refused", says="deep")
def function_that_calls_itself(folder: Path, w: World) -> None:
    save(folder, through(function("f", call("a", "f", "x"), result="a:output:0"), first="f"))


@case("refused", says="deep")
def function_that_is_its_own_operation(folder: Path, w: World) -> None:
    save(folder, through(function("f", node("f", "a", "x"), result="a:y:0"), first="f"))


def _branch(name: str, target: str, source: str = "x") -> tuple[NodeDef, ...]:
    """Nodes of a branch on the data whose both sides call one function."""
    axes = AttrValue()
    axes.tensor.CopyFrom(tf.make_tensor_proto([0, 1, 2, 3], tf.int32))
    return (
        node("Const", f"{name}axes", dtype=INT32, value=axes),
        node("Sum", f"{name}sum", source, f"{name}axes:output:0", T=FLOAT, Tidx=INT32),
        node("Cast", f"{name}yes", f"{name}sum:output:0", SrcT=FLOAT, DstT=BOOL),
        node(
            "If",
            name,
            f"{name}yes:y:0",
            source,
            Tcond=BOOL,
            Tin=[FLOAT],
            Tout=[FLOAT],
            then_branch=target,
            else_branch=target,
        ),
    )


@case("refused", says="calls itself")
def branches_that_call_each_other(folder: Path, w: World) -> None:
    functions = [
        function("f", *_branch("a", "g"), result="a:output:0"),
        function("g", *_branch("a", "f"), result="a:output:0"),
    ]
    save(folder, through(*functions, first="f"))


@case("refused", says="operations")
def branches_that_double(folder: Path, w: World) -> None:
    functions = [function(f"f{i}", *_branch("a", f"f{i + 1}"), result="a:output:0") for i in range(40)]
    functions.append(function("f40", node("Neg", "n", "x", T=FLOAT), result="n:y:0"))
    save(folder, through(*functions, first="f0"))


@case("refused", says="call each other")
def restore_functions_that_double(folder: Path, w: World) -> None:
    """Only data is read off the restore function, but reading has an end too."""
    writer_in_v1_restore(folder, w)
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    meta = saved.meta_graphs[0]
    for i in range(40):
        meta.graph_def.library.function.append(
            function(
                f"f{i}",
                call("a", f"f{i + 1}", "x"),
                call("b", f"f{i + 1}", "a:output:0"),
                result="b:output:0",
            )
        )
    meta.graph_def.library.function.append(function("f40", node("Neg", "n", "x", T=FLOAT), result="n:y:0"))
    meta.graph_def.node.append(call("bomb", "f0", "image:0"))
    meta.saver_def.restore_op_name = "bomb"
    resave(folder, meta)


@case("refused", says="2000000 nodes")
def millions_of_nodes(folder: Path, w: World) -> None:
    graph = network()
    graph.MergeFromString(b"\x0a\x00" * 2_000_001)  # empty nodes, two bytes each
    save(folder, graph)


# --- sizes --------------------------------------------------------------------------------------------------------------------


@case("refused", says="fills memory")
def constant_of_ten_billion_numbers(folder: Path, w: World) -> None:
    graph = network(lambda image: beside(image, tf.constant(1.0, shape=[1, 1], name="huge")))
    huge = next(one for one in graph.node if one.name == "huge")
    huge.attr["value"].tensor.tensor_shape.CopyFrom(shape(100_000, 100_000))
    huge.attr["value"].tensor.float_val[:] = [1.0]
    save(folder, graph)


@hostile("fails", says="memory: ")
def filled_tensor(image, w):
    side = tf.cast(tf.reduce_sum(image) * 0, tf.int32) + 1_000_000
    return beside(image, tf.fill([side, side], 1.0))


@hostile("refused", says="op Fill (node Fill) gives a tensor of")
def filled_tensor_of_constants(image, w):
    return beside(image, tf.fill([1_000_000, 1_000_000], 1.0))


@hostile("refused", says="op Range")
def endless_range(image, w):
    return beside(image, tf.range(tf.constant(10**12, tf.int64)))


@hostile("refused", says="op Tile")
def tiled_image(image, w):
    return beside(image, tf.tile(image, [1, 1000, 1000, 1000]))


@hostile("refused", says="op ResizeBilinear")
def enlarged_image(image, w):
    return beside(image, tf.raw_ops.ResizeBilinear(images=image, size=[100_000, 100_000]))


@hostile("fails", timeout=10.0)
def memory_in_many_pieces(image, w):
    """No single tensor is too large, all together are; time may run out before."""
    start = tf.reduce_sum(image) * 0
    return beside(image, tf.add_n([tf.fill([2**28], start + i) for i in range(6)]))


@case("refused", says="100000x100000")
def input_of_ten_billion_pixels(folder: Path, w: World) -> None:
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, 100_000, 100_000, 3], name="image")
        tf.identity(scores(image), name="scores")
    save(folder, graph.as_graph_def(), side=100_000)


def _variable(folder: Path, declared: list[int], name: str = "weight") -> MetaGraphDef:
    """A model of one variable of shape [3], which says that it has another."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, SIDE, SIDE, 3], name="image")
        weight = v1.get_variable(name, [3], initializer=v1.ones_initializer(), use_resource=True)
        tf.identity(scores(image * weight), name="scores")
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver([weight])
        (folder / "variables").mkdir(parents=True)
        saver.save(session, str(folder / "variables" / "variables"), write_meta_graph=False, write_state=False)
        meta = save(folder, graph.as_graph_def())
    meta.saver_def.CopyFrom(saver.as_saver_def())
    for one in meta.graph_def.node:
        if one.op == "VarHandleOp":
            one.attr["shape"].shape.CopyFrom(shape(*declared))
    resave(folder, meta)
    return meta


@case("unusable", "fails", "runs")
def variable_of_another_shape(folder: Path, w: World) -> None:
    """The file's own values count, whatever the graph declares."""
    _variable(folder, [100_000, 100_000])


@case("unusable", says="the variables need")
def index_that_promises_too_much(folder: Path, w: World) -> None:
    _variable(folder, [3])
    write_index(folder, {"weight": BundleEntryProto(dtype=FLOAT, shape=shape(100_000, 100_000), size=4 * 10**10)})


@case("unusable", says="no numbers")
def index_of_variants(folder: Path, w: World) -> None:
    """A variant is decoded by whatever is registered for it."""
    _variable(folder, [3])
    write_index(folder, {"weight": BundleEntryProto(dtype=tf.variant.as_datatype_enum, shape=shape(3), size=12)})


@case("unusable", says="variables.*")
def index_with_a_wild_offset(folder: Path, w: World) -> None:
    _variable(folder, [3])
    write_index(folder, {"weight": BundleEntryProto(dtype=FLOAT, shape=shape(3), size=12, offset=2**62)})


def write_index(folder: Path, entries: dict[str, BundleEntryProto]) -> None:
    """A checkpoint's index by hand: a table of one block in LevelDB's format, checksums included."""
    header = BundleHeaderProto(num_shards=1)
    header.version.producer = 1
    records = [("", header), *sorted(entries.items())]
    data = _block([(key.encode(), value.SerializeToString()) for key, value in records])
    meta_at = len(data)
    data += _block([])
    index_at = len(data)
    data += _block([(b"\xff", _varint(0) + _varint(meta_at - 5))])
    handles = _varint(meta_at) + _varint(index_at - meta_at - 5) + _varint(index_at) + _varint(len(data) - index_at - 5)
    footer = handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / "variables" / "variables.index").write_bytes(data + footer)


def _block(records: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(b"\0" + _varint(len(key)) + _varint(len(value)) + key + value for key, value in records)
    body += struct.pack("<II", 0, 1) + b"\0"  # one restart point, its count, not compressed
    return body + struct.pack("<I", _masked_crc(body))


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _masked_crc(data: bytes) -> int:
    """CRC-32C (polynomial 0x1EDC6F41, reflected), rotated and shifted as LevelDB does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# --- loops --------------------------------------------------------------------------------------------------------------------


@hostile("fails", says="timeout: the worker gave no answer", timeout=3.0)
def loop_without_end(image, w):
    return beside(image, tf.while_loop(lambda i: i > -1e9, lambda i: (i * 0,), (tf.reduce_sum(image),))[0])


@hostile("fails", "unusable", timeout=3.0)
def old_loop_without_end(image, w):
    """Enter, Merge, Switch, NextIteration, as TensorFlow 1 wrote loops."""
    v1.disable_control_flow_v2()
    try:
        start = tf.stop_gradient(tf.reduce_sum(image))
        return beside(image, v1.while_loop(lambda i: i > -1e9, lambda i: (i * 0,), (start,)))
    finally:
        v1.enable_control_flow_v2()


@hostile("fails", timeout=3.0)
def loop_without_end_of_constants(image, w):
    """In the place of a shape, where TensorFlow likes to know the value early."""
    spec = tf.TensorSpec([], tf.int32)
    cond = tf.function(lambda i: tf.constant(True)).get_concrete_function(spec)
    body = tf.function(lambda i: (i + 0,)).get_concrete_function(spec)
    count = tf.raw_ops.StatelessWhile(input=[tf.constant(3)], cond=cond, body=body)[0]
    return beside(image, tf.zeros([count]))


# --- assets -------------------------------------------------------------------------------------------------------------------


def _asset(folder: Path, name: str) -> MetaGraphDef:
    meta = save(folder, network())
    meta.asset_file_def.add(filename=name).tensor_info.name = "image:0"
    resave(folder, meta)
    return meta


@case("refused", says="outside the model")
def asset_above_the_model(folder: Path, w: World) -> None:
    _asset(folder, "../../../../../../etc/passwd")


@case("refused", says="outside the model")
def asset_from_the_root(folder: Path, w: World) -> None:
    _asset(folder, "/etc/passwd")


@case("refused", says="outside the model")
def asset_that_dips_out(folder: Path, w: World) -> None:
    _asset(folder, "words/../../../secret")


@case("refused", says="outside the model")
def asset_of_tensorflow_1(folder: Path, w: World) -> None:
    meta = save(folder, network())
    asset = AssetFileDef(filename="../../secret")
    meta.collection_def["saved_model_assets"].any_list.value.add().Pack(asset)
    resave(folder, meta)


# --- graphs that contradict themselves ------------------------------------------------------------------------------------------


def _changed(change: Callable[[GraphDef, NodeDef], None]) -> Callable[[Path, World], None]:
    """The network with something done to the node `entrance` between image and convolution."""

    def write(folder: Path, w: World) -> None:
        graph = network(lambda image: tf.identity(image, name="entrance"))
        change(graph, next(one for one in graph.node if one.name == "entrance"))
        save(folder, graph)

    return write


def contradiction(*outcome: str, says: str = "") -> Callable:
    def register(change: Callable[[GraphDef, NodeDef], None]) -> Callable:
        CASES.append(Case(change.__name__.removeprefix("_"), _changed(change), outcome, says))
        return change

    return register


@contradiction("refused", says="not known to this TensorFlow")
def unknown_operation(graph, entrance):
    entrance.op = "OwnedByNobody"


@contradiction("refused", says="not known")
def unknown_operation_without_a_name(graph, entrance):
    entrance.op = ""


@contradiction("refused", says="\\x1b[31m")
def terminal_codes_in_names(graph, entrance):
    """What is printed must not colour, clear or retitle a terminal, nor begin a new line."""
    entrance.op, entrance.name = "ReadFile", "a\x1b[31m\ngradviz all is well\u202e"
    for one in graph.node:
        one.input[:] = [entrance.name if text == "entrance" else text for text in one.input]


@contradiction("unusable", says="int64")
def attribute_of_another_type(graph, entrance):
    entrance.attr["T"].type = tf.int64.as_datatype_enum


@contradiction("unusable")
def attribute_missing(graph, entrance):
    del entrance.attr["T"]


@contradiction("unusable")
def attribute_of_another_kind(graph, entrance):
    entrance.attr["T"].s = b"float"


@contradiction("unusable")
def attribute_left_open(graph, entrance):
    entrance.attr["T"].placeholder = "T"


@contradiction("unusable")
def input_missing(graph, entrance):
    del entrance.input[:]


@contradiction("unusable")
def too_many_inputs(graph, entrance):
    entrance.input.extend(["image", "image"])


@contradiction("unusable")
def negative_output(graph, entrance):
    entrance.input[0] = "image:-1"


@contradiction("unusable")
def huge_output(graph, entrance):
    entrance.input[0] = "image:99999999999999999999"


@contradiction("unusable")
def output_number_in_another_script(graph, entrance):
    entrance.input[0] = "image:\u00b2"


@contradiction("unusable", says="nobody")
def tensor_of_nobody(graph, entrance):
    entrance.input[0] = "nobody"


@contradiction("refused", says="name")
def name_of_ten_megabytes(graph, entrance):
    entrance.name = "n" * 10_000_000
    for one in graph.node:
        one.input[:] = [entrance.name if text == "entrance" else text for text in one.input]


@contradiction("unusable", "refused")
def cycle_without_a_loop(graph, entrance):
    graph.node.append(node("AddV2", "one", "image", "two", T=FLOAT))
    graph.node.append(node("AddV2", "two", "one", "image", T=FLOAT))
    entrance.input[0] = "two"


@contradiction("unusable", "refused")
def identities_in_a_circle(graph, entrance):
    entrance.input[0] = "entrance"


@contradiction("unusable", "refused")
def calls_in_a_circle(graph, entrance):
    graph.library.function.append(function("f", node("Neg", "n", "x", T=FLOAT), result="x"))
    entrance.CopyFrom(call("entrance", "f", "entrance"))


@contradiction("runs", "unusable")
def two_nodes_of_one_name(graph, entrance):
    """Only one of them is judged, and that one is the one that would run."""
    twin = graph.node.add()
    twin.CopyFrom(entrance)


@contradiction("unusable", says="lacks")
def call_of_a_missing_function(graph, entrance):
    entrance.CopyFrom(call("entrance", "nowhere", "image"))


@contradiction("unusable")
def call_with_too_few_arguments(graph, entrance):
    graph.library.function.append(function("f", node("Neg", "n", "x", T=FLOAT), result="n:y:0"))
    entrance.CopyFrom(call("entrance", "f"))


@case("unusable", says="damaged")
def name_that_is_not_utf8(folder: Path, w: World) -> None:
    save(folder, network(lambda image: tf.identity(image, name="entrance_of_the_image")))
    file = folder / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"entrance_of_the_image", b"entrance_of\xff\xfe\xfdhe_image"))


@case("unusable", says="damaged")
def text_that_is_none(folder: Path, w: World) -> None:
    folder.mkdir()
    (folder / "saved_model.pbtxt").write_text("meta_graphs { " * 100_000)


@case("unusable", says="no graph")
def empty_file(folder: Path, w: World) -> None:
    folder.mkdir()
    (folder / "saved_model.pb").touch()


# --- folders that block, loop or lead elsewhere ---------------------------------------------------------------------------------

odd = {"into": ODD_FOLDERS}


@case("unusable", says="not a regular file", **odd)
def fifo(folder: Path, w: World) -> None:
    folder.mkdir()
    os.mkfifo(folder / "saved_model.pb")


@case("unusable", says="not a regular file", **odd)
def fifo_as_text(folder: Path, w: World) -> None:
    folder.mkdir()
    os.mkfifo(folder / "saved_model.pbtxt")


@case("unusable", says="not a regular file", **odd)
def folder_for_a_file(folder: Path, w: World) -> None:
    (folder / "saved_model.pb").mkdir(parents=True)


@case("unusable", says="saved_model.pb", **odd)
def links_in_a_circle(folder: Path, w: World) -> None:
    folder.mkdir()
    (folder / "saved_model.pb").symlink_to("saved_model.pb")


@case("unusable", says="saved_model.pb", **odd)
def unix_socket(folder: Path, w: World) -> None:
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "saved_model.pb"))


@case("unusable", says="not a regular file", **odd)
def endless_device(folder: Path, w: World) -> None:
    folder.mkdir()
    (folder / "saved_model.pb").symlink_to("/dev/zero")


@case("unusable", says="longer than its size says", **odd)
def file_of_the_kernel(folder: Path, w: World) -> None:
    """It says that it has no bytes, and never ends."""
    _variable(folder, [3])
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    (folder / "variables" / "variables.data-00000-of-00001").symlink_to("/proc/self/pagemap")


@case("unusable", says="not a regular file", **odd)
def fifo_of_weights(folder: Path, w: World) -> None:
    _variable(folder, [3])
    (folder / "variables" / "variables.index").unlink()
    os.mkfifo(folder / "variables" / "variables.index")


@case("unusable", says="variables.index", **odd)
def weights_in_another_folder(folder: Path, w: World) -> None:
    """A folder that holds no checkpoint: nothing in it may be read."""
    _variable(folder, [3])
    (folder / "variables").rename(folder.with_name("moved_weights"))
    (folder / "variables").symlink_to(w.secret.parent)


@case("unusable", says="variables", **odd)
def weights_that_are_a_secret(folder: Path, w: World) -> None:
    _variable(folder, [3])
    shard = folder / "variables" / "variables.data-00000-of-00001"
    shard.unlink()
    shard.symlink_to(w.secret)


@case("refused", says="outside the model", **odd)
def assets_of_the_whole_disk(folder: Path, w: World) -> None:
    save(folder, network())
    (folder / "assets").symlink_to("/")


@case("refused", says="GiB", **odd)
def file_of_holes(folder: Path, w: World) -> None:
    """A terabyte that takes no room."""
    _variable(folder, [3])
    os.truncate(folder / "variables" / "variables.data-00000-of-00001", 2**40)
