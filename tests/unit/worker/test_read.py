"""The files of a model: what may be read, which tags, signatures, inputs and outputs are meant, where weights are."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from graphs import Calls, const, fed, function, node, question, written
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.variable_pb2 import VariableDef
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.errors import ModelRefused, ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.graph.question import Tensor
from gradviz_cli.worker.read import entries, objects, savedmodel, signatures, weights
from gradviz_cli.worker.read.ends import ends
from gradviz_cli.worker.read.inline import inline
from gradviz_cli.worker.read.question import check_loops, settle
from gradviz_cli.worker.read.traces import Trace, preferred

F = tf.float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("read") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def proto(*nodes) -> SavedModel:
    saved = SavedModel()
    saved.meta_graphs.add().graph_def.node.extend(nodes)
    return saved


def put(saved: SavedModel, folder: Path) -> Path:
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_model_is_read(folder: Path):
    saved = savedmodel.read(folder)
    assert len(saved.meta_graphs) == 1 and not saved.warnings


def test_a_model_as_text_is_read(tmp_path: Path):
    (tmp_path / "saved_model.pbtxt").write_text('meta_graphs { meta_info_def { tags: "serve" } }')
    assert list(savedmodel.read(tmp_path).meta_graphs[0].meta_info_def.tags) == ["serve"]


def test_two_graphs_are_warned_of(copy: Path):
    (copy / "saved_model.pbtxt").write_text("")
    assert "remove the one that is old" in savedmodel.read(copy).warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("saved_model.pb", b"\xff\xff", "damaged or not a SavedModel"),
        ("saved_model.pb", b"", "holds no graph"),
        ("saved_model.pbtxt", b"meta_graphs { oh", "damaged or not a SavedModel"),
        ("saved_model.pbtxt", b"\xff", "damaged or not a SavedModel"),
        ("other", b"", "holds no saved_model.pb"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelUnusable, match=words):
        savedmodel.read(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "saved_model.pb")
    with pytest.raises(ModelUnusable, match="is not a regular file"):
        savedmodel.read(tmp_path)


def test_a_file_larger_than_its_limit(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    assert savedmodel.read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ModelUnusable, match="has 5 bytes"):
        savedmodel.read_regular(tmp_path / "a", 4)


def test_a_small_graph_takes_little_memory(tmp_path: Path):
    """A machine with less than two gigabytes free can read it too."""
    (tmp_path / "a").write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert savedmodel.read_regular(tmp_path / "a", savedmodel.MAX_GRAPH_BYTES) == b"12345"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_constant_whose_bytes_do_not_fit_its_shape(tmp_path: Path):
    torn = const("c", [1, 2, 3])
    torn.attr["value"].tensor.tensor_content = b"1234"
    with pytest.raises(ModelUnusable, match="the constant c holds 4 bytes, its shape needs 12"):
        savedmodel.read(put(proto(torn), tmp_path))


def test_a_constant_that_would_fill_memory(tmp_path: Path):
    huge = node("c", "Const", dtype=F)
    tensor = TensorProto(dtype=1, float_val=[1])
    tensor.tensor_shape.dim.add(size=2**30)
    huge.attr["value"].tensor.CopyFrom(tensor)
    with pytest.raises(ModelRefused, match="the constant c fills memory"):
        savedmodel.read(put(proto(huge), tmp_path))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_assets_outside_are_refused(tmp_path: Path, name: str):
    saved = proto()
    saved.meta_graphs[0].asset_file_def.append(AssetFileDef(filename=name))
    with pytest.raises(ModelRefused):
        savedmodel.read(put(saved, tmp_path))


# --- signatures -------------------------------------------------------------------------------------------------------


def metas(*tags: tuple[str, ...]) -> savedmodel.Saved:
    made = []
    for one in tags:
        made.append(MetaGraphDef())
        made[-1].meta_info_def.tags.extend(one)
    return savedmodel.Saved(Path(), tuple(made))


def test_the_meta_graph_to_serve_is_taken():
    saved = metas(("train",), ("serve", "gpu"), ("serve",))
    assert signatures.choose_meta(saved, None) is saved.meta_graphs[2]
    assert signatures.choose_meta(saved, "train") is saved.meta_graphs[0]
    assert signatures.choose_meta(metas(("train",), ("eval",)), None).meta_info_def.tags == ["eval"]
    assert signatures.choose_meta(metas(("train",), ()), None).meta_info_def.tags == []
    assert signatures.choose_meta(metas(("a",), ("b",)), None).meta_info_def.tags == ["a"]
    with pytest.raises(UsageError, match="the model has train; serve, gpu; serve"):
        signatures.choose_meta(saved, "tpu")


def signed(**images: bool) -> MetaGraphDef:
    """Signatures by name; whether each takes pixels or texts."""
    made = MetaGraphDef()
    for name, pixels in images.items():
        one = made.signature_def[name]
        one.inputs["x"].name, one.inputs["x"].dtype = "x:0", (F if pixels else tf.string).as_datatype_enum
        for size in (-1, 8, 8, 3) if pixels else (-1,):
            one.inputs["x"].tensor_shape.dim.add(size=size)
        one.outputs["y"].name = "y:0"
    return made


@pytest.mark.parametrize(
    ("images", "want"),
    [
        ({"a": True}, "a"),
        ({"a": True, "serving_default": True}, "serving_default"),
        ({"a": True, "serving_default": False}, "a"),
        ({"a": True, "predict": True, "serve": True}, "serve"),
        ({"a": False, "serving_default": False}, "serving_default"),
        ({"a": True, "b": True, "serving_default": False}, "serving_default"),
    ],
)
def test_the_signature_that_is_meant(images, want):
    assert signatures.choose_signature(signed(**images), None)[0] == want


def test_a_signature_that_is_not_clear_has_to_be_named():
    several = signed(a=True, b=True)
    with pytest.raises(UsageError, match="several signatures: a, b"):
        signatures.choose_signature(several, None)
    assert signatures.choose_signature(several, "b")[::2] == ("b", "asked for")
    with pytest.raises(UsageError, match="the model has a, b"):
        signatures.choose_signature(several, "c")
    with pytest.raises(ModelUnusable, match="has no signature"):
        settle(MetaGraphDef(), ModelOptions("model"), lambda graph: graph)


IMAGE, MASK = Tensor("image", "i:0", F, (-1, 8, 8, 3)), Tensor("mask", "m:0", F, (-1, 8))
TEXT = Tensor("text", "t:0", tf.string, (-1,))
SCORES, BOXES = Tensor("scores", "s:0", F, (-1, 5)), Tensor("boxes", "b:0", F, (-1, 5, 4))
CLASSES = Tensor("classes", "c:0", tf.int64, (-1,))


@pytest.mark.parametrize(
    ("inputs", "wanted", "want"),
    [
        ([TEXT], None, TEXT),
        ([IMAGE, MASK], None, IMAGE),
        ([MASK, TEXT], None, MASK),
        ([IMAGE, MASK], "mask", MASK),
        ([IMAGE, MASK], "m:0", MASK),
        ([IMAGE], "inner/tensor", None),
    ],
)
def test_the_input_that_is_meant(inputs, wanted, want):
    assert signatures.choose_input(inputs, wanted) == want


@pytest.mark.parametrize(
    ("outputs", "wanted", "want"),
    [
        ([SCORES], None, SCORES),
        ([CLASSES], None, CLASSES),
        ([BOXES, CLASSES], None, BOXES),
        ([BOXES, SCORES], None, SCORES),
        ([BOXES, Tensor("other", "o:0", F, (-1, 5))], None, Tensor("other", "o:0", F, (-1, 5))),
        ([BOXES, SCORES], "boxes", BOXES),
        ([SCORES], "inner", None),
    ],
)
def test_the_output_that_is_meant(outputs, wanted, want):
    assert signatures.choose_output(outputs, wanted) == want


@pytest.mark.parametrize("logits", ["s:0", "o:0"])
def test_of_logits_and_their_softmax_the_softmax_is_meant(logits):
    first, second = (Tensor(key, "o:0", F, (-1, 5)) for key in ("a", "b"))
    told = {"a": signatures.End("MatMul", "s:0"), "b": signatures.End("Softmax", logits)}
    if logits == "s:0":
        assert signatures.choose_output([first, second], None, lambda: told) == second
    else:
        with pytest.raises(UsageError, match=r"a float32 \[\?, 5\], b float32 \[\?, 5\] \(ends in a softmax"):
            signatures.choose_output([first, second], None, lambda: told)


def test_what_is_not_clear_is_listed():
    with pytest.raises(UsageError, match=r"image float32 \[\?, 8, 8, 3\], image float32"):
        signatures.choose_input([IMAGE, IMAGE], None)
    with pytest.raises(UsageError, match="several outputs: boxes"):
        signatures.choose_output([BOXES, Tensor("more", "x:0", F, (-1, 5, 4))], None)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a/Relu:0[..., 12]", ("a/Relu:0", 12, ())),
        ("a[3]", ("a", 3, ())),
        ("a/Relu:0", ("a/Relu:0", None, ())),
        ("a:0[0, 3, 14, ...]", ("a:0", None, (3, 14))),
        ("a[:,7,:]", ("a", None, (7,))),
    ],
)
def test_a_channel_or_a_position_behind_a_name(text, want):
    assert signatures.parse_name(text) == want


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a[0, y, x, ...]", "y and x stand for numbers; write them out, as in --output 'a[0, 10, 20, ...]'"),
        ("a:0[0, 4, x, ...]", "x stands for a number; write them out, as in --output 'a:0[0, 4, 20, ...]'"),
        ("a[..., C]", "C stands for a number; write them out, as in --output 'a[..., 10]'"),
        ("a[0, 10, 20, 1]", "and --target says the class; give --output 'a[0, 10, 20, ...]' -t 1"),
        ("a[0, 10, 20,]", "neither a channel nor a position; give --output 'a[..., C]' or"),
        ("a[]", "neither a channel nor a position"),
    ],
)
def test_other_brackets_are_refused(text, said):
    with pytest.raises(UsageError) as caught:
        signatures.parse_name(text)
    assert str(caught.value).startswith(f"--output '{text}': ") and said in str(caught.value)


def test_of_several_outputs_those_that_end_as_scores_do_are_told(tmp_path: Path):
    module = tf.Module()
    kernel = np.ones((12, 5), np.float32)

    def serve(image):
        logits = tf.reshape(image, [-1, 12]) @ kernel
        return {"a": tf.nn.softmax(logits), "b": tf.math.l2_normalize(logits, 1), "c": tf.sigmoid(logits)}

    spec = tf.TensorSpec([None, 2, 2, 3], name="image")
    tf.saved_model.save(
        module, str(tmp_path), signatures=tf.function(serve, autograph=False).get_concrete_function(spec)
    )
    said = (
        r"a float32 \[\?, 5\] \(ends in a softmax, .*\), b float32 \[\?, 5\], c float32 \[\?, 5\] \(ends in a sigmoid"
    )
    with pytest.raises(UsageError, match=said):
        asked(tmp_path)
    assert asked(tmp_path, output="b")[1].output.key == "b"


# --- functions without signatures -------------------------------------------------------------------------------------


def traced_only() -> MetaGraphDef:
    """An object with one traced function of two arguments, the second a constant that it has captured."""
    made = MetaGraphDef()
    added = function("net", node("sum", "AddV2", "x:0", "c:0", T=F), results=["sum:0"], types={"x": F, "c": F})
    made.graph_def.library.function.append(added.function_def())
    made.graph_def.node.append(const("kept", 1.0))
    objects_ = made.object_graph_def
    root, serve, kept = objects_.nodes.add(), objects_.nodes.add(), objects_.nodes.add()
    root.children.add(node_id=1, local_name="serve")
    serve.function.concrete_functions.append("net")
    kept.constant.operation = "kept"
    objects_.concrete_functions["net"].bound_inputs.append(2)
    return made


def test_a_traced_function_is_called_as_a_signature_would():
    found = objects.with_signatures(traced_only())
    assert set(found.signature_def) == {"serve"} and set(found.signature_def["serve"].inputs) == {"x"}
    graph = inline(found, [found.signature_def["serve"].outputs["result0"].name])
    assert sorted(one.op for one in graph.nodes.values()) == ["AddV2", "Const", "Placeholder"]


def test_a_function_that_captures_what_is_not_there_is_left_out():
    made = traced_only()
    made.object_graph_def.concrete_functions["net"].bound_inputs[0] = 99
    assert not objects.with_signatures(made).signature_def


def test_signatures_that_are_there_are_kept(folder: Path):
    meta = savedmodel.read(folder).meta_graphs[0]
    assert objects.with_signatures(meta) is meta


def test_a_dictionary_of_results_keeps_its_keys():
    made = traced_only()
    structure = made.object_graph_def.concrete_functions["net"].output_signature.dict_value
    structure.fields["logits"].tensor_spec_value.name = "logits"
    assert list(objects.with_signatures(made).signature_def["serve"].outputs) == ["logits"]


def test_a_model_that_is_a_function_itself():
    made = traced_only()
    made.object_graph_def.nodes[0].bare_concrete_function.concrete_function_name = "net"
    del made.object_graph_def.nodes[0].children[:]
    assert list(objects.with_signatures(made).signature_def) == ["function"]


def test_a_name_that_is_no_name_of_a_node_is_still_one_of_a_signature():
    made = traced_only()
    made.object_graph_def.nodes[0].children[0].local_name = "my net"
    found = objects.with_signatures(made)
    assert list(found.signature_def) == ["my net"]
    assert all(" " not in one.name for one in found.graph_def.node)


def traced(number: int, shape: tuple[int, ...] | None, **values: str) -> Trace:
    return Trace(f"net{number}", number, ((1, shape),), tuple(values.items()))


OPEN, ONE = (-1, 8, 8, 3), (1, 8, 8, 3)


@pytest.mark.parametrize(
    ("traces", "want"),
    [
        ([traced(0, ONE)], 0),
        ([traced(0, ONE), traced(1, OPEN)], 1),
        ([traced(0, OPEN), traced(1, None)], 1),
        ([traced(0, ONE), traced(1, (2, 8, 8, 3))], None),
        ([traced(0, OPEN), traced(1, (-1, 64))], None),
        ([traced(0, OPEN, training="True"), traced(1, OPEN, training="False")], 1),
        ([traced(0, OPEN, training="True"), traced(1, OPEN)], 1),
        ([traced(0, OPEN, training="True")], 0),
        ([traced(0, OPEN, scale="1"), traced(1, OPEN, scale="2")], None),
    ],
)
def test_the_trace_that_stands_for_a_function(traces, want):
    found = preferred(traces)
    assert (found and found.number) == want


def functions(*names: str) -> dict[str, SignatureDef]:
    made = {name: SignatureDef() for name in names}
    for name, one in made.items():
        one.inputs["x"].name = f"{objects.OURS}{name}/x:0"
    return made


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (("net/call", "__call__"), ["__call__"]),
        (("infer", "infer/trace_1", "net/call"), ["infer"]),
        (("infer/trace_0", "infer/trace_1", "net/call"), ["infer/trace_0", "infer/trace_1"]),
        (("net/a", "net/b/c"), ["net/a"]),
    ],
)
def test_the_functions_that_lie_closest_to_the_model(names, want):
    assert list(objects.outermost(functions(*names))) == want


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (("infer", "__call__"), "__call__"),
        (("net/__call__", "net/losses"), "net/__call__"),
        (("net/__call__", "net/losses", "other/x/call"), "net/__call__"),
        (("infer/trace_0", "net/__call__"), "infer/trace_0"),
    ],
)
def test_the_function_that_is_meant(names, want):
    made = signed(**dict.fromkeys(names, True))
    for name, one in made.signature_def.items():
        one.inputs["x"].name = f"{objects.OURS}{name}/x:0"
    assert signatures.choose_signature(made, None)[0] == want


@pytest.mark.parametrize("names", [("infer", "score"), ("net/infer", "pre/__call__"), ("f/trace_0", "f/trace_1")])
def test_functions_that_are_not_clear_are_named_with_what_they_take(names):
    made = signed(**dict.fromkeys(names, True))
    for name, one in made.signature_def.items():
        one.inputs["x"].name, one.method_name = f"{objects.OURS}{name}/x:0", "scale=2"
    words = rf"functions and no signature: {names[0]} \(float32 \[\?, 8, 8, 3\], scale=2\), {names[1]}"
    with pytest.raises(UsageError, match=words):
        signatures.choose_signature(made, None)


def test_signatures_that_are_no_functions_lie_nowhere():
    several = dict(signed(**{"a/b": True, "c": True}).signature_def)
    assert objects.outermost(several) == several


# --- ends of a graph without a signature ------------------------------------------------------------------------------


def test_the_ends_that_a_graph_may_have():
    made = GraphDef()
    image, rate, word = fed("image", F, (None, 8, 8, 3)), fed("rate", F, ()), fed("word", tf.string, (None,))
    head = node("probs", "Softmax", "image", T=F)
    read = node("loss", "Log", "probs", T=F)
    made.node.extend([image, rate, word, head, read, node("away", "NoOp", "^image"), node("side", "Relu", "rate", T=F)])
    assert ends(made) == (["image:0"], ["probs:0", "loss:0"])
    assert ends(GraphDef()) == ([], [])


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_found_by_the_restore_operation(folder: Path):
    found = entries.restored(savedmodel.read(folder).meta_graphs[0])
    values = weights.load(folder, found, found)
    stored = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    kernels = [name for name, value in values.items() if value.shape.rank == 4]
    assert len(kernels) == 1
    np.testing.assert_array_equal(values[kernels[0]], stored.get_tensor(found[kernels[0]].key))


def two_handles() -> MetaGraphDef:
    """A variable whose one handle is restored, and whose other one a call captures."""
    made = MetaGraphDef()
    added = function(
        "net", node("sum", "AddV2", "x:0", "x:0", T=F), results=["sum:0"], types={"x": F, "v": tf.resource}
    )
    made.graph_def.library.function.append(added.function_def())
    handle = {"dtype": F, "shape": tf.TensorShape([2, 3])}
    made.graph_def.node.extend(
        [
            node("restored", "VarHandleOp", **handle),
            node("captured", "VarHandleOp", **handle),
            texts("names", "a..b/.Sc/.ATTRIBUTES/VARIABLE_VALUE"),
            texts("slices", ""),
            node("restore", "RestoreV2", "prefix", "names", "slices", dtypes=[F]),
            node("assign", "AssignVariableOp", "restored", "restore", dtype=F),
            node("call", "StatefulPartitionedCall", "image", "captured", f=Calls("net")),
        ]
    )
    graph = made.object_graph_def
    root, inner, variable = graph.nodes.add(), graph.nodes.add(), graph.nodes.add()
    root.children.add(node_id=1, local_name="a.b")
    inner.children.add(node_id=2, local_name="/c")
    variable.variable.dtype = F.as_datatype_enum
    graph.concrete_functions["net"].bound_inputs.append(2)
    return made


def texts(name: str, *values: str):
    return const(name, np.array(values, object), object)


def test_two_handles_of_a_variable_have_one_entry():
    found = entries.entries(two_handles())
    want = entries.Entry("a..b/.Sc/.ATTRIBUTES/VARIABLE_VALUE", "", F.as_datatype_enum, (2, 3))
    assert found == {"restored": want, "captured": want}


def test_what_a_gradient_captures_is_the_handle_that_the_call_captured():
    assert objects.bound_sources(two_handles())(2) == "captured:0"


def test_without_a_restore_operation_the_path_is_the_key():
    made = two_handles()
    del made.graph_def.node[2:6]
    assert {name: one.key for name, one in entries.entries(made).items()} == {
        "captured": "a..b/.Sc/.ATTRIBUTES/VARIABLE_VALUE"
    }


def test_a_key_that_leads_nowhere_joins_nothing():
    made = two_handles()
    del made.object_graph_def.nodes[1].children[:]
    assert set(entries.entries(made)) == {"restored"}


def test_without_a_saver_a_variable_is_saved_under_its_own_name():
    made = MetaGraphDef()
    made.graph_def.node.extend(
        node(name, "VariableV2", dtype=F, shape=tf.TensorShape([2, 3])) for name in ("v", "w/part_1")
    )
    part = VariableDef(variable_name="w/part_1:0")
    part.save_slice_info_def.full_name = "w"
    part.save_slice_info_def.full_shape.extend([4, 3])
    part.save_slice_info_def.var_offset.extend([2, 0])
    part.save_slice_info_def.var_shape.extend([2, 3])
    made.collection_def["variables"].bytes_list.value.extend([part.SerializeToString(), b"\xff"])
    found = entries.entries(made)
    assert {name: (one.key, one.part) for name, one in found.items()} == {
        "v": ("v", ""),
        "w/part_1": ("w", "4 3 2,2:0,3"),
    }
    made.saver_def.restore_op_name = "gone"
    assert entries.entries(made) == {}


@pytest.mark.parametrize("changes", [{"shape": (9,)}, {"dtype": tf.float64.as_datatype_enum}])
def test_an_entry_of_another_model(folder: Path, changes):
    found = entries.entries(savedmodel.read(folder).meta_graphs[0])
    assert len(weights.load(folder, found, found)) == len(found)
    name = min(found)
    with pytest.raises(ModelUnusable, match=f"variables.index: the entry {found[name].key} holds float32"):
        weights.load(folder, [name], {name: replace(found[name], **changes)})


def test_no_weights_need_no_files(tmp_path: Path):
    assert weights.load(tmp_path, [], {}) == {}


def test_a_variable_that_nothing_restores(folder: Path):
    with pytest.raises(ModelUnusable, match="the variable kernel .* is never restored"):
        weights.load(folder, ["kernel"], {})


def test_an_entry_that_the_index_lacks(folder: Path):
    with pytest.raises(ModelUnusable, match="has no entry nothing for the variable kernel"):
        weights.load(folder, ["kernel"], {"kernel": entries.Entry("nothing", "")})


def test_files_of_weights_that_are_missing_or_torn(copy: Path):
    found = entries.restored(savedmodel.read(copy).meta_graphs[0])
    (shard,) = (copy / "variables").glob("*.data-*")
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelUnusable, match="hold .* bytes, the variables need"):
        weights.load(copy, found, found)
    shard.unlink()
    with pytest.raises(ModelUnusable, match="data-00000-of-.* is missing"):
        weights.load(copy, found, found)
    (copy / "variables" / "variables.index").write_bytes(b"torn")
    with pytest.raises(ModelUnusable, match="index cannot be read"):
        weights.load(copy, found, found)
    (copy / "variables" / "variables.index").unlink()
    with pytest.raises(ModelUnusable, match="index is missing"):
        weights.load(copy, found, found)


# --- the question -----------------------------------------------------------------------------------------------------


def asked(folder: Path, **options):
    return settle(savedmodel.read(folder).meta_graphs[0], ModelOptions(str(folder), **options), lambda graph: graph)


def test_the_question_of_a_model(folder: Path):
    graph, settled = asked(folder)
    assert (settled.image.key, settled.output.key, settled.head) == ("image", "scores", None)
    assert graph.outputs == (graph.score, graph.score, settled.fed(graph))
    assert {split.split("/")[-1] for split in settled.path(graph)} >= {"Relu", "Conv2D"}


def test_a_tensor_inside_can_be_the_output_and_another_the_input(folder: Path):
    graph, settled = asked(folder, output="Relu:0[..., 2]")
    assert settled.channel == 2 and graph.nodes[graph.score.split(":")[0]].op == "Relu"
    inner, started = asked(folder, input="Relu")
    assert started.image.shape == (-1, 8, 8, 8) and "Conv2D" not in inner.ops()


@pytest.mark.parametrize("options", [{"output": "nothing"}, {"input": "nothing"}, {"signature": "nothing"}])
def test_names_of_nothing_are_refused(folder: Path, options):
    with pytest.raises(UsageError):
        asked(folder, **options)


def test_an_output_before_the_input_does_not_depend_on_it(folder: Path):
    with pytest.raises(UsageError, match="^--input Mean, --output Relu: the score Relu:0 does not depend on the input"):
        asked(folder, output="Relu", input="Mean")


def test_a_loop_that_is_no_function_has_no_gradient():
    graph = written(
        fed(),
        node("exit", "Exit", "image:0", T=F),
        outputs=["exit:0", "exit:0", "image:0"],
        feeds={"image:0": "image"},
    )
    with pytest.raises(ModelUnusable, match="the loop around exit"):
        check_loops(graph, question())


def test_four_shares_are_classes_whatever_they_are_called(tmp_path: Path):
    def save(name: str, last) -> Path:
        head = lambda image: {"location": last(tf.reduce_mean(image, [1, 2])[:, :4])}  # noqa: E731
        traced = tf.function(head).get_concrete_function(tf.TensorSpec([None, 8, 8, 5], F, "image"))
        tf.saved_model.save(tf.Module(), str(tmp_path / name), signatures=traced)
        return tmp_path / name

    assert asked(save("shares", tf.nn.softmax))[1].output.key == "location"
    with pytest.raises(ModelUnusable, match="location holds the places of boxes"):
        asked(save("places", tf.nn.relu))
