"""SavedModels as they are found in the wild, one builder a property, each with its own truth.

A builder writes one folder and says what must come of it: a `Map` (the attribution, from an eager tape over the same
mathematics with the reference's ReLUs) or a `Refusal` (the exception, and the words that its message must hold). The
graphs differ in how they were written; nearly all of them compute `small`, so the truth is the same few lines. The file
is one catalogue, and as long as there are ways to write a model.
"""

# ruff: noqa: E731 - a formula is clearer as one line, with a name, than as a function of two

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from google.protobuf import text_format
from models import randomise, scenes
from reference import rebuild, rules
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.errors import GradvizError, ModelRefused, ModelUnusable, UsageError

v1 = tf.compat.v1
SIDE = 10
CLASSES = 5
SHAPE = (SIDE, SIDE, 3)
IMAGE = tf.TensorSpec([None, *SHAPE], name="image")

SUMMED = ("summed over the positions",)  # the warning of a map or sequence

# The scalar [N] that is explained, as a function of the images [N, H, W, C], built with the ReLUs of a mode.
Score = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True, eq=False)
class Map:
    """An attribution is expected, equal to the gradient of `score(mode)`.

    Attributes
    ----------
    score : callable
        mode -> function of the images [N, H, W, C], as `pixels` has them, to what is explained [N].
    pixels : array
        float32 [N, H, W, C], handed to gradviz.
    options, modes, target
        As `gradviz_cli.load` and `explain` take them; target is a class index or -1 - rank.
    wrt : callable
        What of the pixels the gradient is taken of, where that is not they themselves (a tensor behind a decoder).
    activations, gates, facts
        What the report must say: type -> (reachable, patched).
    warnings : tuple of str
        One fragment for each warning that is due; no other may come.
    index : callable or None
        Pixels, as `score` takes them -> the classes [N] that must be explained.
    """

    score: Callable[[str], Score]
    pixels: np.ndarray
    options: Mapping[str, object] = field(default_factory=dict)
    modes: tuple[str, ...] = ("backprop", "deconv", "guided")
    target: int = -1
    wrt: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    activations: Mapping[str, tuple[int, int]] | None = None
    gates: int = 0
    facts: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    index: Callable[[tf.Tensor], tf.Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Refusal:
    """An error of this class is expected, whose text holds all the words."""

    error: type[GradvizError]
    words: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    modes: tuple[str, ...] = ("backprop",)


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table."""

    group: str
    name: str
    build: Callable[[Path], Map | Refusal]
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


ROWS: list[Row] = []


def row(group: str, name: str, slow: bool = False):
    """Registers a builder as a line of the table."""

    def register(build):
        ROWS.append(Row(group, name, build, slow))
        return build

    return register


# --- the network that most rows hold ----------------------------------------------------------------------------------


def weights(channels: int = 3, seed: int = 3, classes: int = CLASSES) -> list[np.ndarray]:
    """Two convolutions and a dense layer, float32: kernel, bias, kernel, bias, matrix, bias."""
    draw = np.random.default_rng(seed)
    shapes = [(3, 3, channels, 6), (6,), (3, 3, 6, 8), (8,), (8, classes), (classes,)]
    scales = [np.sqrt(2 / 9 / channels), 0.3, np.sqrt(2 / 54), 0.3, 1.0, 0.3]
    return [draw.normal(0, scale, shape).astype(np.float32) for shape, scale in zip(shapes, scales, strict=True)]


def small(x, values, relu: Callable = tf.nn.relu):
    """Logits [N, 5] of images [N, H, W, C]."""
    a, p, b, q, top, r = values
    x = relu(tf.nn.bias_add(tf.nn.conv2d(x, a, 1, "VALID"), p))
    x = relu(tf.nn.conv2d(x, b, 2, "VALID") + q)
    return tf.matmul(tf.reduce_mean(x, axis=(1, 2)), top) + r


def best(logits: tf.Tensor) -> tf.Tensor:
    """The logit of the best class; its gradient is that class's."""
    return tf.reduce_max(logits, axis=-1)


def truth(values=None, then: Callable = best, before: Callable = tf.identity) -> Callable[[str], Score]:
    """mode -> the score of `small` under that mode, `before` put before it and `then` behind."""
    values = weights() if values is None else values
    return lambda mode: lambda x: then(small(before(x), values, rules(mode).relu))


def pixels(shape=SHAPE, count: int = 2, seed: int = 7) -> np.ndarray:
    return scenes(shape, count, seed)


def whole_pixels(shape=SHAPE, count: int = 2) -> np.ndarray:
    """Integers 0..255, as float32."""
    return np.clip(np.rint(scenes(shape, count, 7) * 60 + 128), 0, 255).astype(np.float32)


def centred(x):
    """0..255 -> about -2..2."""
    return tf.cast(x, tf.float32) / 64 - 2


RAW = {"preprocess": "raw"}
TWO = {"Relu": (2, 2)}


def plain(**changes) -> Map:
    """What is due when the model is `small` over float images with nothing odd to its question."""
    return Map(**{"score": truth(), "pixels": pixels(), "options": RAW, "activations": TWO, **changes})


# --- writers ----------------------------------------------------------------------------------------------------------


def save(folder: Path, function, held=(), **signatures) -> None:
    """A TensorFlow 2 SavedModel with `function` as serving_default (None: only those named), `held` its variables."""
    module = tf.Module()
    module.held = list(held)
    named = {"serving_default": function} if function is not None else {}
    tf.saved_model.save(module, str(folder), signatures={**named, **signatures})


def serving(compute: Callable, *specs: tf.TensorSpec, **marks) -> tf.types.experimental.PolymorphicFunction:
    return tf.function(compute, input_signature=specs or (IMAGE,), **marks)


def holding(values=None) -> list[tf.Variable]:
    return [tf.Variable(value) for value in (weights() if values is None else values)]


def edited(folder: Path, change: Callable[[SavedModel], None]) -> None:
    """Change saved_model.pb in place."""
    file = folder / "saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    change(saved)
    file.write_bytes(saved.SerializeToString())


def all_nodes(saved: SavedModel) -> Iterator:
    for meta in saved.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def


@contextlib.contextmanager
def old_graph(control_flow_v1: bool = True, **session):
    """A TensorFlow 1 graph and session, loops and branches written with Switch and Merge."""
    if control_flow_v1:
        v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default(), v1.Session(**session) as open_session:
            yield open_session
    finally:
        v1.enable_control_flow_v2()


def old_variables(values=None, resource: bool = False, **arguments) -> list:
    return [
        v1.get_variable(f"v{i}", initializer=value, use_resource=resource, **arguments)
        for i, value in enumerate(weights() if values is None else values)
    ]


def old_save(folder: Path, session, image, output) -> None:
    """As `SavedModelBuilder` does."""
    if session.run(v1.report_uninitialized_variables()).size:
        session.run(v1.global_variables_initializer())
    builder = v1.saved_model.Builder(str(folder))
    signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": output})
    builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
    builder.save()


def old_image(dtype=tf.float32):
    return v1.placeholder(dtype, [None, *SHAPE], "image")


# --- read: TensorFlow 1 -----------------------------------------------------------------------------------------------


@row("read", "TF1 builder, VariableV2 reference variables")
def tf1_reference_variables(folder):
    with old_graph() as session:
        image = old_image()
        output = tf.nn.softmax(small(image, old_variables()))
        old_save(folder, session, image, output)
    return plain()


@row("read", "TF1 simple_save, resource variables")
def tf1_simple_save(folder):
    with old_graph() as session:
        image = old_image()
        output = tf.nn.softmax(small(image, old_variables(resource=True)))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder), {"image": image}, {"scores": output})
    return plain()


@row("read", "TF1 training tower, its gradients and optimizer slots in the same graph")
def tf1_training_tower(folder):
    with old_graph() as session:
        image, label = old_image(), v1.placeholder(tf.int32, [None], "label")
        variables = old_variables()
        tower = small(v1.nn.dropout(image, rate=0.3), variables)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, tower))
        v1.train.AdamOptimizer(1e-9).minimize(loss)
        output = tf.nn.softmax(small(image, variables))
        old_save(folder, session, image, output)
    return plain()


@row("read", "TF1 cond (Switch/Merge) on a learning phase that defaults to False")
def tf1_learning_phase(folder):
    with old_graph() as session:
        image = old_image()
        training = v1.placeholder_with_default(False, [], "keras_learning_phase")
        values = old_variables()
        x = v1.cond(training, lambda: v1.nn.dropout(tf.nn.relu(image), rate=0.9), lambda: tf.identity(image))
        logits = small(x, values)
        output = v1.cond(tf.logical_not(training), lambda: tf.nn.softmax(logits), lambda: logits * 0)
        old_save(folder, session, image, output)
    return plain()


def branching(relu: Callable, chosen) -> Callable:
    """relu(x + 0.2) for a bright image, -relu(0.3 - x) for a dark one; a batch of one."""
    return lambda x: chosen(tf.reduce_mean(x) > 0.1, lambda: relu(x + 0.2), lambda: -relu(0.3 - x))


def one_by_one(score: Score) -> Score:
    """What depends on all pixels of a batch, asked for each image alone."""
    return lambda x: tf.concat([score(x[i : i + 1]) for i in range(len(x))], axis=0)


ALONE = tf.TensorSpec([1, 10, 10, 3], name="image")


def bright_and_dark() -> np.ndarray:
    return pixels() + np.float32([0.5, -0.5])[:, None, None, None]


@row("read", "TF1 cond (Switch/Merge) on data, a ReLU in each branch")
def tf1_cond_on_data(folder):
    with old_graph() as session:
        image = v1.placeholder(tf.float32, [1, *SHAPE], "image")
        output = small(branching(tf.nn.relu, v1.cond)(image), old_variables())
        old_save(folder, session, image, output)
    return plain(score=branched, pixels=bright_and_dark(), activations={"Relu": (4, 4)})


def branched(mode: str) -> Score:
    relu = rules(mode).relu
    return one_by_one(lambda x: best(small(branching(relu, tf.cond)(x), weights(), relu)))


@row("read", "TF1 while loop (Enter/Exit) with a ReLU in its body")
def tf1_while_loop(folder):
    with old_graph() as session:
        image = old_image()
        x = v1.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.nn.relu(x * 1.2 - 0.1)), [0, image])[1]
        output = small(x, old_variables())
        old_save(folder, session, image, output)
    return plain(score=looped, activations={"Relu": (3, 3)})


def looped(mode: str) -> Score:
    relu = rules(mode).relu

    def score(x):
        for _ in range(3):
            x = relu(x * 1.2 - 0.1)
        return best(small(x, weights(), relu))

    return score


@row("read", "TF1 partitioned variables")
def tf1_partitioned(folder):
    a, p, *rest = weights()

    def part(shape, dtype=None, partition_info=None):
        where = tuple(slice(at, at + size) for at, size in zip(partition_info.var_offset, shape, strict=True))
        return tf.constant(a[where], dtype)

    with old_graph() as session:
        image = old_image()
        three = v1.fixed_size_partitioner(3)
        kernel = v1.get_variable("kernel", a.shape, initializer=part, partitioner=three, use_resource=False)
        values = [tf.convert_to_tensor(kernel), *old_variables([p, *rest])]
        output = tf.nn.softmax(small(image, values))
        old_save(folder, session, image, output)
    return plain()


@row("read", "TF1 batch norm as tf.compat.v1.nn.fused_batch_norm, moving averages as shadow variables")
def tf1_moving_averages(folder):
    scale, offset, mean, variance = np.random.default_rng(1).uniform(0.5, 1.5, (4, 3)).astype(np.float32)

    def normalised(x, run):
        return run(x, scale, offset, mean=mean, variance=variance, epsilon=1e-3, is_training=False)[0]

    with old_graph() as session:
        image = old_image()
        values = old_variables()
        averages = tf.train.ExponentialMovingAverage(0.9)
        averages.apply(values)
        shadows = [averages.average(value) for value in values]
        output = small(normalised(image, v1.nn.fused_batch_norm), shadows)
        session.run(v1.global_variables_initializer())
        session.run([value.assign(value * 0) for value in values])  # the averages still hold the weights
        old_save(folder, session, image, output)
    by_hand = lambda x: (x - mean) / tf.sqrt(variance + 1e-3) * scale + offset
    return plain(score=truth(before=by_hand))


# --- read: files ------------------------------------------------------------------------------------------------------


def small_model(folder: Path, values=None) -> None:
    """`small` under a softmax, as TensorFlow 2 writes it."""
    held = holding(values)
    save(folder, serving(lambda image: {"scores": tf.nn.softmax(small(image, held))}), held)


def as_text(folder: Path) -> None:
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))


@row("read", "saved_model.pbtxt alone")
def text_alone(folder):
    small_model(folder)
    as_text(folder)
    (folder / "saved_model.pb").unlink()
    return plain()


@row("read", "saved_model.pb and saved_model.pbtxt")
def text_and_binary(folder):
    small_model(folder)
    as_text(folder)
    return plain(warnings=("saved_model.pbtxt",))


def two_metas(folder: Path) -> None:
    """A training graph of other weights, then a serving one; each with its own signature key."""
    builder = v1.saved_model.Builder(str(folder))
    for tags, method in ((["train"], builder.add_meta_graph_and_variables), (["serve"], builder.add_meta_graph)):
        with old_graph() as session:
            image = old_image()
            values = old_variables()
            output = small(image, values) if tags == ["serve"] else small(tf.nn.relu(image), values)
            session.run(v1.global_variables_initializer())
            signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": output})
            arguments = ([session] if tags == ["train"] else []) + [tags, {"serving_default": signature}]
            method(*arguments)
    builder.save()


@row("read", "meta graphs train and serve: serve is taken")
def metas_serve(folder):
    two_metas(folder)
    return plain()


@row("read", "meta graphs train and serve: --tag train")
def metas_train(folder):
    two_metas(folder)
    first = lambda mode: lambda x: best(small(rules(mode).relu(x), weights(), rules(mode).relu))
    return plain(score=first, options={**RAW, "tag": "train"}, activations={"Relu": (3, 3)})


@row("read", "meta graphs train and serve: --tag absent")
def metas_absent(folder):
    two_metas(folder)
    return Refusal(UsageError, ("--tag absent", "train", "serve"), {"tag": "absent"})


@row("read", "two metas tagged serve, one of them for another device")
def metas_gpu(folder):
    builder = v1.saved_model.Builder(str(folder))
    for tags in (["serve", "tpu"], ["serve"]):
        with old_graph() as session:
            image = old_image()
            output = small(image if tags == ["serve"] else tf.nn.relu(image), old_variables())
            session.run(v1.global_variables_initializer())
            signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": output})
            if tags == ["serve", "tpu"]:
                builder.add_meta_graph_and_variables(session, tags, {"serving_default": signature})
            else:
                builder.add_meta_graph(tags, {"serving_default": signature})
    builder.save()
    return plain()


@row("read", "checkpoint in two shards")
def two_shards(folder):
    small_model(folder)
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    keys = sorted(reader.get_variable_to_dtype_map())
    parts = []
    for number, half in enumerate((keys[::2], keys[1::2])):
        parts.append(str(folder / f"part{number}"))
        tensors = [tf.constant(reader.get_tensor(key)) for key in half]
        tf.raw_ops.SaveV2(prefix=parts[-1], tensor_names=half, shape_and_slices=[""] * len(half), tensors=tensors)
    shutil.rmtree(folder / "variables")
    (folder / "variables").mkdir()
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix)
    assert len(list((folder / "variables").glob("*.data-*-of-00002"))) == 2
    return plain()


@row("read", "frozen: constants in place of variables, one above 64 KB")
def frozen(folder):
    values = weights()
    draw = np.random.default_rng(4)
    wide = draw.normal(0, 0.05, (SIDE * SIDE * 3, 64)).astype(np.float32)  # 77 KB
    narrow = draw.normal(0, 0.3, (64, CLASSES)).astype(np.float32)
    held = holding([*values, wide, narrow])

    def logits(x, values, relu=tf.nn.relu):
        *ours, wide, narrow = values
        return small(x, ours, relu) + relu(tf.reshape(x, [-1, SIDE * SIDE * 3]) @ wide) @ narrow

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = serving(lambda image: {"scores": tf.nn.softmax(logits(image, held))}).get_concrete_function()
    constant = convert_variables_to_constants_v2(function)
    save(folder, serving(lambda image: {"scores": constant(image)[0]}))
    assert (folder / "saved_model.pb").stat().st_size > wide.nbytes
    score = lambda mode: lambda x: best(logits(x, [*values, wide, narrow], rules(mode).relu))
    return plain(score=score, activations={"Relu": (3, 3)})


def broken(folder: Path, part: str, damage: Callable[[Path], None]) -> Refusal:
    """A model whose file `variables/variables` + part is damaged."""
    small_model(folder)
    damage(folder / "variables" / f"variables{part}")
    return Refusal(ModelUnusable, (str(folder / "variables" / "variables"),))


@row("files", "variables.index missing")
def no_index(folder):
    return broken(folder, ".index", Path.unlink)


@row("files", "variables folder missing")
def no_variables(folder):
    small_model(folder)
    shutil.rmtree(folder / "variables")
    return Refusal(ModelUnusable, (str(folder / "variables"),))


DATA = ".data-00000-of-00001"


@row("files", "a shard missing")
def no_shard(folder):
    return broken(folder, DATA, Path.unlink)


@row("files", "a shard truncated")
def short_shard(folder):
    return broken(folder, DATA, lambda file: file.write_bytes(file.read_bytes()[:500]))


@row("files", "one byte of a shard flipped")
def flipped_shard(folder):
    def flip(file):
        data = bytearray(file.read_bytes())
        data[40] ^= 0x10
        file.write_bytes(data)

    return broken(folder, DATA, flip)


@row("files", "variables.index truncated")
def short_index(folder):
    return broken(folder, ".index", lambda file: file.write_bytes(file.read_bytes()[:60]))


@row("files", "a variable that the index lacks")
def lacking_variable(folder):
    small_model(folder)
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    keys = sorted(key for key in reader.get_variable_to_dtype_map())
    gone = next(key for key in keys if key.endswith("VARIABLE_VALUE"))
    kept = [key for key in keys if key != gone]
    tensors = [tf.constant(reader.get_tensor(key)) for key in kept]
    shutil.rmtree(folder / "variables")
    (folder / "variables").mkdir()
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=kept,
        shape_and_slices=[""] * len(kept),
        tensors=tensors,
    )
    return Refusal(ModelUnusable, ("variables.index", gone))


@row("files", "saved_model.pb empty")
def empty_graph(folder):
    small_model(folder)
    (folder / "saved_model.pb").write_bytes(b"")
    return Refusal(ModelUnusable, ("saved_model.pb", "no graph"))


@row("files", "saved_model.pb truncated")
def short_graph(folder):
    small_model(folder)
    file = folder / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])
    return Refusal(ModelUnusable, ("saved_model.pb", "damaged"))


@row("files", "no saved_model.pb")
def no_graph(folder):
    folder.mkdir()
    return Refusal(ModelUnusable, (str(folder), "no saved_model.pb"))


# --- read: signatures -------------------------------------------------------------------------------------------------


@row("read", "the only signature is not called serving_default")
def other_signature(folder):
    held = holding()
    save(folder, None, held, classify_image=serving(lambda image: {"scores": small(image, held)}))
    return plain(facts={"signature": "classify_image"})


@row("read", "several signatures, one of them takes pixels")
def one_takes_pixels(folder):
    held = holding()
    text = tf.function(
        lambda words: {"length": tf.strings.length(words)}, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    save(folder, None, held, words=text, vision=serving(lambda image: {"scores": small(image, held)}))
    return plain(facts={"signature": "vision"})


@row("read", "several signatures that take pixels, none the usual one")
def several_signatures(folder):
    held = holding()
    functions = {name: serving(lambda image: {"scores": small(image, held)}) for name in ("left", "right")}
    save(folder, None, held, **functions)
    return Refusal(UsageError, ("several signatures", "left, right", "--signature"))


@row("read", "--signature names one of several")
def named_signature(folder):
    held = holding()
    twice = serving(lambda image: {"scores": small(tf.nn.relu(image), held)})
    save(folder, serving(lambda image: {"scores": small(image, held)}), held, other=twice)
    score = lambda mode: lambda x: best(small(rules(mode).relu(x), weights(), rules(mode).relu))
    return plain(score=score, options={**RAW, "signature": "other"}, activations={"Relu": (3, 3)})


@row("read", "no signature: the traced functions of a tf.Module")
def without_signature(folder):
    module = tf.Module()
    module.held = holding()
    module.predict = serving(lambda image: tf.nn.softmax(small(image, module.held)))
    tf.saved_model.save(module, str(folder))
    return plain()


@row("read", "no signature and no function")
def without_function(folder):
    module = tf.Module()
    module.held = holding()
    tf.saved_model.save(module, str(folder))
    return Refusal(ModelUnusable, ("no signature", "model.export"))


@row("read", "serving_default takes tf.Example, `predict` takes pixels")
def tf_example_and_predict(folder):
    held = holding()
    save(folder, examples(held), held, predict=serving(lambda image: {"scores": small(image, held)}))
    return plain(facts={"signature": "predict"})


def examples(held):
    features = {"pixels": tf.io.FixedLenFeature(SHAPE, tf.float32)}

    def compute(text):
        image = tf.identity(tf.io.parse_example(text, features)["pixels"], name="parsed")
        return {"scores": small(image, held)}

    return serving(compute, tf.TensorSpec([None], tf.string, "examples"))


@row("read", "only tf.Example strings")
def tf_example_alone(folder):
    held = holding()
    save(folder, examples(held), held)
    allowed = {"allow_ops": ("ParseExampleV2",)}
    return Refusal(ModelUnusable, ("examples", "tf.Example records", "--input"), allowed)


@row("read", "strings that are no image")
def text_input(folder):
    held = holding()

    def compute(text):
        image = tf.reshape(tf.io.decode_raw(text, tf.uint8), [-1, *SHAPE])
        return {"scores": small(tf.cast(image, tf.float32), held)}

    save(folder, serving(compute, tf.TensorSpec([None], tf.string, "text")), held)
    return Refusal(ModelUnusable, ("text", "not decoded as an image", "--input"))


@row("read", "only tf.Example strings, --input names the tensor behind the parser")
def tf_example_inside(folder):
    held = holding()
    save(folder, examples(held), held)
    return plain(options={**RAW, "input": "parsed:0", "allow_ops": ("ParseExampleV2",)})


# --- read: Keras 3 saved by TensorFlow --------------------------------------------------------------------------------


def keras_score(model) -> Callable[[str], Score]:
    return lambda mode: lambda x: best(rebuild(model, mode)(x))


def shared_and_nested():
    """A functional model with a layer used twice, a model as a layer, and dropout with its seed."""
    layers = keras.layers
    image, inner = keras.Input(SHAPE), keras.Input((8, 8, 6))
    block = keras.Model(inner, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(inner))))
    twice = layers.Conv2D(6, 3, padding="same", activation="relu")
    x = layers.Conv2D(6, 3, activation="relu")(image)
    x = layers.Add()([block(twice(twice(x))), x])
    x = layers.Dropout(0.4, seed=1)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


@row("read", "Keras 3 by tf.saved_model.save: Sequential, trained, with its optimizer")
def keras_3_saved(folder):
    model = stack(keras)
    randomise(model)
    model.compile("adam", "mse")
    model.fit(pixels(), np.zeros((2, CLASSES), np.float32), verbose=0)
    tf.saved_model.save(model, str(folder))
    return plain(score=keras_score(model))


@row("read", "Keras 3 by tf.saved_model.save: functional, a layer used twice, a nested model, dropout")
def keras_3_saved_functional(folder):
    model = shared_and_nested()
    randomise(model)
    tf.saved_model.save(model, str(folder))
    return plain(score=keras_score(model), activations=None)


class Subclassed(keras.Model):
    """`small`, its layers in a list and a dictionary."""

    def __init__(self, relu=tf.nn.relu):
        super().__init__()
        self.convs = [keras.layers.Conv2D(6, 3), keras.layers.Conv2D(8, 3, strides=2)]
        self.heads = {"top": keras.layers.Dense(CLASSES)}
        self.relu = relu

    def call(self, x):
        for conv in self.convs:
            x = self.relu(conv(x))
        return self.heads["top"](tf.reduce_mean(x, axis=(1, 2)))

    def given(self, values):
        self(np.zeros((1, *SHAPE), np.float32))
        self.set_weights(values)
        return self


@row("read", "Keras 3 by tf.saved_model.save: subclassed")
def keras_3_saved_subclassed(folder):
    tf.saved_model.save(Subclassed().given(weights()), str(folder))
    return plain()


@row("read", "Keras 3 inside a tf.Module, several signatures")
def keras_3_in_a_module(folder):
    module = tf.Module()
    module.nets = {"small": Subclassed().given(weights()), "other": Subclassed().given(weights(seed=4))}
    named = {
        name: serving(lambda image, net=net: {"scores": tf.nn.softmax(net(image))}) for name, net in module.nets.items()
    }
    tf.saved_model.save(module, str(folder), signatures=named)
    return plain(score=truth(weights(seed=4)), options={**RAW, "signature": "other"})


@row("read", "Keras 3 inside a tf.Module without signatures")
def keras_3_without_signature(folder):
    module = tf.Module()
    module.net = stack(keras)
    randomise(module.net)
    tf.saved_model.save(module, str(folder))
    return plain(score=keras_score(module.net), facts={"signature": "net/_default_save_signature"})


@row("read", "Keras 3 ExportArchive with two endpoints")
def keras_3_archive(folder):
    model = Subclassed().given(weights())
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("scores", model.call, [tf.TensorSpec([None, *SHAPE])])
    archive.add_endpoint("features", lambda x: model.convs[0](x), [tf.TensorSpec([None, *SHAPE])])
    archive.write_out(str(folder), verbose=False)
    return plain(facts={"signature": "serving_default"})


# --- read: no signature -----------------------------------------------------------------------------------------------


def constant_net(count=None):
    """A concrete function that has captured the weights as constants, as converters write it."""
    held = [tf.constant(value) for value in weights()]
    spec = tf.TensorSpec([count, *SHAPE], name="image")
    return tf.function(lambda image: tf.nn.softmax(small(image, held))).get_concrete_function(spec)


@row("read", "no signature: the model is a concrete function")
def root_is_a_function(folder):
    tf.saved_model.save(constant_net(), str(folder))
    return plain(facts={"signature": "function"})


@row("read", "no signature: a concrete function, opened and saved once more")
def root_saved_twice(folder):
    tf.saved_model.save(constant_net(), str(folder / "first"))
    tf.saved_model.save(tf.saved_model.load(str(folder / "first")), str(folder))
    return plain()


class Called(tf.Module):
    """A model to be called, whose parts are functions too."""

    def __init__(self, values=None):
        super().__init__()
        self.held = holding(values)
        self.part = tf.Module()
        self.part.scale = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec([None, None, None, 3])])

    @tf.function
    def __call__(self, image, training=False):
        logits = small(image, self.held)
        return {"logits": logits * (3 if training else 1), "boxes": tf.nn.relu(logits)}


@row("read", "no signature: `__call__` traced with and without training, for several shapes")
def called_in_training(folder):
    module = Called()
    for training in (True, False):
        module.__call__.get_concrete_function(tf.TensorSpec([1, *SHAPE]), training=training)
        module.__call__.get_concrete_function(tf.TensorSpec([None, *SHAPE]), training=training)
    tf.saved_model.save(module, str(folder))
    return plain(facts={"signature": "__call__", "output": "logits"})


@row("read", "no signature: a reusable model, opened and saved once more")
def called_saved_twice(folder):
    module = Called()
    for training in (True, False):
        module.__call__.get_concrete_function(tf.TensorSpec([None, *SHAPE]), training=training)
    tf.saved_model.save(module, str(folder / "first"))
    tf.saved_model.save(tf.saved_model.load(str(folder / "first")), str(folder))
    return plain(facts={"signature": "__call__"})


@row("read", "no signature: Keras 2 inside a tf.Module")
def keras_2_in_a_module(folder):
    module = tf.Module()
    module.nets = [stack(tf_keras)]
    randomise(module.nets[0])
    tf.saved_model.save(module, str(folder))
    return plain(score=keras_score(module.nets[0]), facts={"signature": "nets/0/__call__"})


@row("read", "TF-Hub module of TensorFlow 1: a graph to train, then one without tags")
def hub_two_graphs(folder):
    builder = v1.saved_model.Builder(str(folder))
    for tags in (["train"], []):
        with old_graph() as session:
            image = old_image()
            output = small(image, old_variables())
            signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": -output if tags else output})
            session.run(v1.global_variables_initializer())
            if tags:
                builder.add_meta_graph_and_variables(session, tags, {"default": signature})
            else:
                builder.add_meta_graph(tags, {"default": signature})
    builder.save()
    without_saver(folder)
    return plain()


@row("read", "no signature: one function traced for two scales")
def traced_for_two_scales(folder):
    module = tf.Module()
    module.held = holding()
    module.score = tf.function(lambda image, scale: small(image, module.held) * scale)
    for scale in (1, 2):
        module.score.get_concrete_function(tf.TensorSpec([None, *SHAPE]), scale)
    tf.saved_model.save(module, str(folder))
    return Refusal(UsageError, ("several", "score/trace_0", "scale=1", "score/trace_1", "scale=2", "--signature"))


@row("read", "no signature: one of the traces is named")
def named_trace(folder):
    traced_for_two_scales(folder)
    twice = truth(then=lambda logits: best(2 * logits))
    return plain(score=twice, options={**RAW, "signature": "score/trace_1"})


@row("read", "no signature: several functions")
def several_functions(folder):
    module = tf.Module()
    module.held = holding()
    module.left = serving(lambda image: small(image, module.held))
    module.right = serving(lambda image: small(image, module.held))
    tf.saved_model.save(module, str(folder))
    return Refusal(
        UsageError, ("several", "functions and no signature: left (float32 [?, 10, 10, 3]), right", "--signature")
    )


@row("read", "no signature: a function that nobody has called")
def never_called(folder):
    module = tf.Module()
    module.held = holding()
    module.infer = tf.function(lambda image: small(image, module.held))
    tf.saved_model.save(module, str(folder))
    return Refusal(ModelUnusable, ("no signature", "infer", "never called"))


@row("read", "no signature: class names looked up in a table beside the scores")
def table_beside(folder):
    module = tf.Module()
    module.held = holding()
    keys, names = tf.range(CLASSES, dtype=tf.int64), tf.constant([f"class {i}" for i in range(CLASSES)])
    module.names = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, names), "?")

    def compute(image):
        logits = small(image, module.held)
        return {"scores": tf.nn.softmax(logits), "class": module.names.lookup(tf.argmax(logits, axis=1))}

    module.infer = serving(compute)
    tf.saved_model.save(module, str(folder))
    return plain(facts={"output": "scores"})


@row("read", "a score that is looked up in a table")
def table_on_the_way(folder):
    module = tf.Module()
    module.held = holding()
    keys, gains = tf.range(2, dtype=tf.int64), tf.constant([2.0, 3.0])
    module.gains = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, gains), 0.0)
    module.infer = serving(lambda image: small(image, module.held) * module.gains.lookup(tf.constant(1, tf.int64)))
    tf.saved_model.save(module, str(folder))
    return Refusal(ModelUnusable, ("the table", "hash_table", "--output"))


@row("read", "no signature: layers nested in lists and modules, one variable shared")
def nested_modules(folder):
    held = holding()
    module, inner = tf.Module(), tf.Module()
    module.parts, inner.parts = [inner, {"last": held[-1]}], (held[0], [held[1], held[2]])
    inner.more, module.again, module.rest = held[3], held[0], held[4]
    last = tf.function(lambda image: small(image, held))
    module.infer = serving(lambda image: last(tf.identity(image)))
    tf.saved_model.save(module, str(folder))
    return plain()


def unsigned(folder: Path) -> None:
    """A TensorFlow 1 graph that nobody gave a signature."""
    with old_graph() as session:
        image = v1.placeholder(tf.float32, [None, *SHAPE], "pixels")
        v1.placeholder_with_default(1.0, [], "rate")
        tf.nn.softmax(small(image, old_variables()), name="probs")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["tag"])
        builder.save()


ENDS = {"input": "pixels:0", "output": "probs:0"}


@row("read", "TF1 graph without any signature, --input and --output name tensors")
def unsigned_named(folder):
    unsigned(folder)
    return plain(options={**RAW, **ENDS})


@row("read", "TF1 graph without any signature, --output names the decision")
def unsigned_decision(folder):
    with old_graph() as session:
        image = v1.placeholder(tf.float32, [None, *SHAPE], "pixels")
        tf.argmax(tf.nn.softmax(small(image, old_variables())), axis=1, name="class")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    return plain(options={**RAW, "input": "pixels", "output": "class"})


@row("read", "TF1 graph without any signature")
def unsigned_unnamed(folder):
    unsigned(folder)
    return Refusal(UsageError, ("no signature", "pixels:0", "probs:0", "--input pixels:0 --output probs:0"))


@row("read", "TF1 graph without any signature, --input alone")
def unsigned_half_named(folder):
    unsigned(folder)
    return Refusal(UsageError, ("no signature", "--output probs:0"), {"input": "pixels"})


@row("read", "TF1 graph without any signature, --output names nothing")
def unsigned_misnamed(folder):
    unsigned(folder)
    return Refusal(UsageError, ("--output prob", "tensor of the graph"), {**ENDS, "output": "prob"})


@row("read", "serving_default and others, all of encoded images")
def default_among_strings(folder):
    held = holding()

    def over_png(sign):
        def compute(image_bytes):
            images = tf.map_fn(
                lambda text: as_float(tf.io.decode_png(text, 3)), image_bytes, fn_output_signature=tf.float32
            )
            return {"scores": small(sign * (tf.reshape(images, [-1, *SHAPE]) / 64 - 2), held)}

        return serving(compute, STRINGS)

    save(folder, over_png(1), held, classify=over_png(-1), predict=over_png(-2))
    return encoded(facts={"signature": "serving_default"})


# --- read: no saver ---------------------------------------------------------------------------------------------------


def without_saver(folder: Path) -> None:
    """As TensorFlow 1 writes the modules of TensorFlow Hub."""

    def change(saved):
        for meta in saved.meta_graphs:
            meta.ClearField("saver_def")
            kept = [node for node in meta.graph_def.node if not node.name.startswith("save")]
            del meta.graph_def.node[:]
            meta.graph_def.node.extend(kept)

    edited(folder, change)


def hub_module(folder: Path, resource: bool) -> None:
    with old_graph() as session, v1.variable_scope("module"):
        image = old_image()
        old_save(folder, session, image, tf.nn.softmax(small(image, old_variables(resource=resource))))
    without_saver(folder)


@row("read", "TF1 without a saver, VariableV2")
def no_saver(folder):
    hub_module(folder, resource=False)
    return plain()


@row("read", "TF1 without a saver, resource variables")
def no_saver_resource(folder):
    hub_module(folder, resource=True)
    return plain()


@row("read", "TF1 without a saver, partitioned variables")
def no_saver_partitioned(folder):
    tf1_partitioned(folder)
    without_saver(folder)
    return plain()


@row("read", "TF1 without a saver, opened by TensorFlow 2 and saved once more")
def no_saver_saved_twice(folder):
    hub_module(folder / "first", resource=True)
    loaded = tf.saved_model.load(str(folder / "first"))
    module = tf.Module()
    module.loaded = loaded
    module.infer = serving(lambda image: loaded.signatures["serving_default"](image)["scores"])
    tf.saved_model.save(module, str(folder))
    return plain()


@row("read", "TensorFlow 2 without a saver: the object graph leads to the weights")
def no_saver_at_all(folder):
    small_model(folder)
    without_saver(folder)
    edited(folder, drop_restoring)
    return plain()


def drop_restoring(saved):
    nodes = saved.meta_graphs[0].graph_def.node
    kept = [node for node in nodes if "traced_" not in node.attr["f"].func.name]
    del nodes[:]
    nodes.extend(kept)


@row("read", "TF1 Saver(reshape=True)")
def saver_that_reshapes(folder):
    with old_graph() as session:
        image = old_image()
        output = tf.nn.softmax(small(image, old_variables()))
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": output})
        saver = v1.train.Saver(reshape=True)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, saver=saver)
        builder.save()
    return plain()


# --- files: weights of another model ----------------------------------------------------------------------------------


def foreign_weights(folder: Path, values) -> None:
    small_model(folder)
    small_model(folder.with_name("other"), values)
    shutil.rmtree(folder / "variables")
    shutil.move(folder.with_name("other") / "variables", folder / "variables")


@row("files", "weights of another model: other shapes under the same names")
def other_shapes(folder):
    foreign_weights(folder, weights(classes=9))
    return Refusal(ModelUnusable, ("variables.index", "[9]", "[5]", "two exports"))


@row("files", "weights of another model: other types under the same names")
def other_types(folder):
    small_model(folder)
    small_model(folder.with_name("other"))
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    keys = sorted(key for key in reader.get_variable_to_dtype_map() if key.endswith("VARIABLE_VALUE"))
    tensors = [tf.cast(reader.get_tensor(key), tf.float64) for key in keys]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=tensors)
    return Refusal(ModelUnusable, ("variables.index", "float64", "float32", "two exports"))


@row("files", "weights of another model: other names")
def other_names(folder):
    small_model(folder)
    keras_3_saved(folder.with_name("other"))
    shutil.rmtree(folder / "variables")
    shutil.move(folder.with_name("other") / "variables", folder / "variables")
    return Refusal(ModelUnusable, ("variables.index", "no entry", "of 6 are not there"))


# --- read: functions --------------------------------------------------------------------------------------------------


@row("read", "functions nested 30 deep")
def nested_functions(folder):
    held = holding()

    def deeper(depth: int):
        if not depth:
            return tf.function(lambda image: small(image, held))
        inner = deeper(depth - 1)
        return tf.function(lambda image: inner(image + 1.0) if depth % 2 else inner(image - 1.0))

    outer = deeper(30)
    save(folder, serving(lambda image: {"scores": outer(image)}), held)
    return plain()


@row("read", "tf.cond (If) on data, a ReLU in each branch")
def functional_if(folder):
    held = holding()
    compute = lambda image: {"scores": small(branching(tf.nn.relu, tf.cond)(image), held)}
    save(folder, serving(compute, ALONE), held)
    return plain(score=branched, pixels=bright_and_dark(), activations={"Relu": (4, 4)})


@row("read", "tf.while_loop (While) with a ReLU in its body")
def functional_while(folder):
    held = holding()

    def compute(image):
        x = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.nn.relu(x * 1.2 - 0.1)), [0, image])[1]
        return {"scores": small(x, held)}

    save(folder, serving(compute), held)
    return plain(score=looped, activations={"Relu": (3, 3)})


def switching(relu: Callable, x):
    cases = [lambda: relu(x), lambda: -relu(-x), lambda: relu(x) * 2]
    return tf.switch_case(tf.cast(tf.reduce_mean(x) > 0.1, tf.int32) * 2, cases)


@row("read", "tf.switch_case (Case) on data, a ReLU in each branch")
def functional_case(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": small(switching(tf.nn.relu, image), held)}, ALONE), held)

    def score(mode):
        relu = rules(mode).relu
        return one_by_one(lambda x: best(small(switching(relu, x), weights(), relu)))

    return plain(score=score, pixels=bright_and_dark(), activations={"Relu": (5, 5)})


@row("read", "a variable read inside the body of a While")
def variable_in_while(folder):
    held = holding()
    factor = tf.Variable(np.linspace(0.8, 1.2, 3, dtype=np.float32))

    def compute(image):
        x = tf.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, tf.nn.relu(x * factor)), [0, image])[1]
        return {"scores": small(x, held)}

    save(folder, serving(compute), [*held, factor])

    def score(mode):
        relu = rules(mode).relu
        return lambda x: best(small(relu(relu(x * factor) * factor), weights(), relu))

    return plain(score=score, activations={"Relu": (3, 3)})


@row("read", "an embedding table: tf.gather on a variable (ResourceGather)")
def resource_gather(folder):
    held = holding()
    table = tf.Variable(np.random.default_rng(5).normal(1, 0.3, (9, 3)).astype(np.float32))
    order = np.arange(SIDE) % 9
    save(folder, serving(lambda image: {"scores": small(image * tf.gather(table, order), held)}), [*held, table])
    return plain(score=truth(before=lambda x: x * table.numpy()[order]))


def silu(x):
    return x * tf.sigmoid(x)


@tf.custom_gradient
def frugal_silu(x):
    def downstream(upstream):
        s = tf.sigmoid(x)
        return upstream * s * (1 + x * (1 - s))

    return x * tf.sigmoid(x), downstream


@row("read", "tf.custom_gradient around SiLU")
def custom_gradient(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": small(frugal_silu(image), held)}), held)
    return plain(
        score=truth(before=silu),
        activations={**TWO, "Silu": (1, 0)},
        facts={"custom_gradients": 1},
    )


@row("read", "functions marked jit_compile and noinline")
def marked_functions(folder):
    held = holding()
    compiled = tf.function(lambda x: small(x, held), jit_compile=True)
    kept = tf.function(lambda x: compiled(x), experimental_attributes={"_noinline": True})
    save(folder, serving(lambda image: {"scores": kept(image)}), held)
    nodes = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def.library.function
    marks = {mark for function in nodes for mark in function.attr}
    assert {"_XlaMustCompile", "_noinline"} <= marks, marks
    return plain()


@row("read", "pinned to devices that this machine lacks")
def pinned(folder):
    small_model(folder)

    def pin(saved):
        for number, node in enumerate(all_nodes(saved)):
            node.device = ("/job:worker/replica:0/task:3/device:GPU:7", "/device:TPU:0")[number % 2]

    edited(folder, pin)
    return plain()


@row("read", "_gradient_op_type left on calls and on ReLUs")
def left_over_gradients(folder):
    held = holding()
    inner = tf.function(lambda x: small(x, held))
    save(folder, serving(lambda image: {"scores": inner(image)}), held)

    def leave(saved):
        marked = 0
        for node in all_nodes(saved):
            if node.op in ("PartitionedCall", "StatefulPartitionedCall", "Relu"):
                node.attr["_gradient_op_type"].s = f"{node.op}-77".encode()
                marked += 1
        assert marked > 3

    edited(folder, leave)
    return plain()


@row("read", "_output_shapes that contradict the graph")
def contradicting_shapes(folder):
    small_model(folder)

    def contradict(saved):
        for node in all_nodes(saved):
            if node.op == "Relu":
                del node.attr["_output_shapes"].list.shape[:]
                node.attr["_output_shapes"].list.shape.add().dim.add().size = 77

    edited(folder, contradict)
    return plain()


@row("read", "random augmentation left in the serving graph")
def augmentation(folder):
    held = holding()

    def compute(image):
        noisy = image + 1e-12 * tf.random.normal(tf.shape(image))  # which no float32 shows
        return {"scores": small(noisy, held)}

    save(folder, serving(compute), held)
    return plain(warnings=("the model is random",))


# --- read: number formats ---------------------------------------------------------------------------------------------


@row("read", "float16 weights, cast where they are used")
def stored_half(folder):
    values = [value.astype(np.float16) for value in weights()]
    held = holding(values)
    compute = lambda image: {"scores": small(image, [tf.cast(v, tf.float32) for v in held])}
    save(folder, serving(compute), held)
    return plain(score=truth([value.astype(np.float32) for value in values]))


def rounded(values, dtype) -> list[np.ndarray]:
    """What is left of float32 weights when they are stored in less."""
    return [tf.cast(tf.cast(value, dtype), tf.float32).numpy() for value in values]


def low_precision(dtype) -> Callable:
    """Two correct programs that round every step to half precision differ by a hundredth, so the truth is that of the
    stored weights in float32."""

    def build(folder):
        held = [tf.Variable(tf.cast(value, dtype)) for value in weights()]
        compute = lambda image: {"scores": tf.cast(small(tf.cast(image, dtype), held), tf.float32)}
        save(folder, serving(compute), held)
        return plain(score=truth(rounded(weights(), dtype)))

    return build


row("read", "computed in float16")(low_precision(tf.float16))
row("read", "computed in bfloat16")(low_precision(tf.bfloat16))
row("read", "computed in float64")(low_precision(tf.float64))


@row("read", "float16 input, a gradient of 1e-7 that float16 would lose")
def half_input(folder):
    held = [tf.Variable(tf.cast(value, tf.float16)) for value in weights()]
    compute = lambda image: {"scores": small(image * np.float16(1e-3), held) * np.float16(1e-4)}
    save(folder, serving(compute, tf.TensorSpec([None, *SHAPE], tf.float16)), held)
    first, last = (float(np.float16(value)) for value in (1e-3, 1e-4))
    score = truth(rounded(weights(), tf.float16), lambda logits: best(logits * last), lambda x: x * first)
    return plain(score=score, pixels=pixels() * 1000)


def mixed(policy: str) -> Callable:
    """Keras keeps the weights in float32 and rounds them before each product."""

    def build(folder):
        keras.config.set_dtype_policy(policy)
        try:
            model = stack(keras)
        finally:
            keras.config.set_dtype_policy("float32")
        randomise(model)
        model.export(str(folder), verbose=False)
        return plain(score=lambda mode: lambda x: best(rebuild(model, mode, dtype="float32")(x)))

    return build


row("read", "Keras mixed_float16")(mixed("mixed_float16"))
row("read", "Keras mixed_bfloat16")(mixed("mixed_bfloat16"))


def quantised(x, values, relu):
    a, p, b, q, top, r = values
    low, high = np.float32([-0.9] * 6), np.float32(np.linspace(0.7, 1.2, 6))
    a = tf.quantization.fake_quant_with_min_max_vars_per_channel(a, low, high, num_bits=8, narrow_range=True)
    x = tf.quantization.fake_quant_with_min_max_args(x, -2.5, 2.5)
    x = relu(tf.nn.conv2d(x, a, 1, "VALID") + p)
    x = tf.quantization.fake_quant_with_min_max_vars(x, 0.0, 3.0)
    x = relu(tf.nn.conv2d(x, b, 2, "VALID") + q)
    return tf.reduce_mean(x, axis=(1, 2)) @ top + r


@row("read", "fake-quantised weights and activations")
def fake_quantised(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": quantised(image, held, tf.nn.relu)}), held)
    return plain(score=lambda mode: lambda x: best(quantised(x, weights(), rules(mode).relu)))


# --- read: writers ----------------------------------------------------------------------------------------------------


def stack(k):
    return k.Sequential(
        [
            k.layers.Input(SHAPE),
            k.layers.Conv2D(6, 3, activation="relu"),
            k.layers.BatchNormalization(),
            k.layers.Conv2D(8, 3, strides=2),
            k.layers.ReLU(),
            k.layers.Flatten(),
            k.layers.Dense(CLASSES, activation="softmax"),
        ]
    )


@row("read", "Keras 2 with its optimizer, in the SavedModel format of Keras")
def keras_2(folder):
    model = stack(tf_keras)
    randomise(model)
    optimizer = tf_keras.optimizers.legacy.Adam()
    model.compile(optimizer, "mse")
    optimizer._create_all_weights(model.trainable_variables)
    model.save(str(folder), save_format="tf")
    return plain(score=lambda mode: lambda x: best(rebuild(model, mode)(x)))


@row("read", "Keras 3 export")
def keras_3(folder):
    model = stack(keras)
    randomise(model)
    model.export(str(folder), verbose=False)
    return plain(score=lambda mode: lambda x: best(rebuild(model, mode)(x)))


# --- read: architectures ----------------------------------------------------------------------------------------------


@row("read", "StopGradient between backbone and head: the value counts")
def stopped_gradient(folder):
    ending(lambda x: tf.nn.softmax(tf.stop_gradient(x) * 2))(folder)
    return plain(score=truth(then=lambda x: best(x * 2)))


@row("read", "straight-through rounding: x + StopGradient(round(x) - x)")
def straight_through(folder):
    rounded_off = lambda x: x + tf.stop_gradient(tf.round(x * 4) / 4 - x)
    over(IMAGE, rounded_off)(folder)

    def score(mode):
        relu = rules(mode).relu
        return lambda x: best(small(rounded_off(x), weights(), relu))

    return plain(score=score)


@row("read", "TF1 Print on the way")
def tf1_print(folder):
    with old_graph() as session:
        image = old_image()
        output = small(v1.Print(image, [tf.shape(image)], "shape"), old_variables())
        old_save(folder, session, image, output)
    return plain()


@tf.custom_gradient
def reversed_gradient(x):
    return tf.identity(x), lambda upstream: -upstream


@row("read", "a custom gradient that is no derivative (gradient reversal): it counts")
def gradient_reversal(folder):
    ending(lambda x: tf.nn.softmax(reversed_gradient(x)))(folder)
    return plain(score=truth(then=lambda x: best(reversed_gradient(x))), facts={"custom_gradients": 0})


@row("read", "a TF1 graph with a cond, wrapped into a TF2 model")
def wrapped_graph(folder):
    values = holding()
    with old_graph() as session:
        image = v1.placeholder(tf.float32, [1, *SHAPE], "image")
        tf.identity(branching(tf.nn.relu, v1.cond)(image), name="chosen")
        old = session.graph.as_graph_def()
    assert any(node.op == "Merge" for node in old.node)

    def imported(image):
        return tf.graph_util.import_graph_def(old, {"image:0": image}, ["chosen:0"])[0]

    wrapped = v1.wrap_function(imported, [tf.TensorSpec([1, *SHAPE])])
    save(folder, serving(lambda image: {"scores": small(wrapped(image), values)}, ALONE), values)
    return plain(score=branched, pixels=bright_and_dark(), activations={"Relu": (4, 4)})


def loop_with_branch(x, relu, loop, chosen):
    """Twice: relu(x - 0.1) for the bright, relu(0.2 - x) for the dark."""
    body = lambda i, x: (i + 1, chosen(tf.reduce_mean(x) > 0.1, lambda: relu(x - 0.1), lambda: relu(0.2 - x)))
    return loop(lambda i, x: i < 2, body, [0, x])[1]


@row("read", "TF1 while loop with a cond in its body")
def tf1_cond_in_loop(folder):
    with old_graph() as session:
        image = v1.placeholder(tf.float32, [1, *SHAPE], "image")
        x = loop_with_branch(image, tf.nn.relu, v1.while_loop, v1.cond)
        output = small(tf.reshape(x, [1, *SHAPE]), old_variables())
        old_save(folder, session, image, output)

    def score(mode):
        relu = rules(mode).relu
        looped = lambda x: loop_with_branch(x, relu, tf.while_loop, tf.cond)
        return one_by_one(lambda x: best(small(looped(x), weights(), relu)))

    return plain(score=score, pixels=bright_and_dark(), activations={"Relu": (4, 4)})


@row("read", "TF1 while loop inside a while loop")
def tf1_nested_loops(folder):
    def inner(x):
        return v1.while_loop(lambda j, x: j < 2, lambda j, x: (j + 1, tf.nn.relu(x * 1.1 - 0.05)), [0, x])[1]

    with old_graph() as session:
        image = old_image()
        x = v1.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, inner(x) + 0.1), [0, image])[1]
        output = small(x, old_variables())
        old_save(folder, session, image, output)

    def score(mode):
        relu = rules(mode).relu

        def run(x):
            for _ in range(2):
                x = relu(relu(x * 1.1 - 0.05) * 1.1 - 0.05) + 0.1
            return best(small(x, weights(), relu))

        return run

    return plain(score=score, activations={"Relu": (3, 3)})


@row("read", "TF1 loop in one branch of a cond")
def tf1_loop_in_cond(folder):
    def loop(x):
        return v1.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, tf.nn.relu(x * 1.1 - 0.05)), [0, x])[1]

    with old_graph() as session:
        image = v1.placeholder(tf.float32, [1, *SHAPE], "image")
        x = v1.cond(tf.reduce_mean(image) > 0.1, lambda: loop(image), lambda: tf.nn.relu(image))
        output = small(tf.reshape(x, [1, *SHAPE]), old_variables())
        old_save(folder, session, image, output)

    def score(mode):
        relu = rules(mode).relu
        bright = lambda x: relu(relu(x * 1.1 - 0.05) * 1.1 - 0.05)
        chosen = lambda x: bright(x) if tf.reduce_mean(x) > 0.1 else relu(x)
        return one_by_one(lambda x: best(small(chosen(x), weights(), relu)))

    return plain(score=score, pixels=bright_and_dark(), activations={"Relu": (4, 4)})


BOXES = np.random.default_rng(6).uniform(0, 0.5, (64, 4)).astype(np.float32) + np.float32([0, 0, 0.3, 0.3])


def detections(scores, chosen):
    """Scores [10] of the boxes that non-maximum suppression leaves, padded with zeros; of [8, 8, 5]."""
    flat = tf.reshape(scores, [64, CLASSES])
    single = tf.reduce_max(flat, axis=1)
    kept = tf.gather(single, tf.image.non_max_suppression(BOXES, single, 10, 0.3))
    count = tf.shape(kept)[0]
    return chosen(count < 10, lambda: tf.pad(kept, [[0, 10 - count]]), lambda: kept[:10])


@row("read", "TF1 detector: images resized in one map_fn, boxes suppressed in another, uint8")
def tf1_detector(folder):
    resize = lambda x: tf.image.resize(x[None], (SIDE, SIDE))[0]
    with old_graph() as session:
        image = v1.placeholder(tf.uint8, [None, None, None, 3], "image_tensor")
        resized = tf.map_fn(resize, tf.cast(image, tf.float32))
        resized = tf.reshape(resized, [-1, *SHAPE])
        scores = tf.sigmoid(pixelwise(resized / 64 - 2, old_variables()) / 4)
        found = tf.map_fn(lambda one: detections(one, v1.cond), scores)
        found.set_shape([None, 10])
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def(
            {"inputs": image}, {"detection_scores": found, "num_detections": tf.reduce_sum(tf.sign(found), 1)}
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()

    def score(mode):
        def run(x):
            scores = tf.sigmoid(pixelwise(tf.image.resize(x, (SIDE, SIDE)) / 64 - 2, weights(), rules(mode).relu) / 4)
            return best(tf.stack([detections(one, tf.cond) for one in scores]))

        return run

    options = {"input_size": (14, 14), "output": "detection_scores"}
    return plain(score=score, pixels=whole_pixels((14, 14, 3)), options=options)


@row("read", "a detector's grids: two outputs, none named")
def grids(folder):
    compute = lambda image, held: pixelwise(image, held)
    held = holding()
    save(folder, serving(lambda image: {"large": compute(image, held), "small": compute(image, held)[:, ::2]}), held)
    return Refusal(UsageError, ("large", "small", "--output"), RAW)


def recurrent(k, layer: Callable) -> Callable:
    """Rows of the image as steps, after a convolution with a ReLU."""

    def build(folder):
        image = k.Input(SHAPE)
        x = k.layers.Conv2D(4, 3, activation="relu")(image)
        x = k.layers.Reshape((8, 32))(x)
        model = k.Model(image, k.layers.Dense(CLASSES, activation="softmax")(layer(k)(x)))
        draw = np.random.default_rng(8)
        model.set_weights([draw.normal(0, 0.3, weight.shape) for weight in model.weights])
        if k is keras:
            model.export(str(folder), verbose=False)
        else:
            model.save(str(folder), save_format="tf")
        return plain(score=lambda mode: lambda x: best(rebuild(model, mode)(x)), activations={"Relu": (1, 1)})

    return build


row("read", "Keras 3 LSTM")(recurrent(keras, lambda k: k.layers.LSTM(6)))
row("read", "Keras 2 LSTM")(recurrent(tf_keras, lambda k: k.layers.LSTM(6)))
row("read", "Keras 2 bidirectional GRU", slow=True)(
    recurrent(tf_keras, lambda k: k.layers.Bidirectional(k.layers.GRU(6)))
)


def decoder(x, values, relu):
    """An encoder, a transposed convolution, a dilated one, an upsampling, a skip; [N, 10, 10, 3] -> [N, 10, 10, 2]."""
    a, p, b, q, up, last = values
    one = relu(tf.nn.conv2d(x, a, 1, "SAME") + p)
    two = relu(tf.nn.conv2d(one, b, 2, "SAME") + q)
    raised = relu(tf.nn.conv2d_transpose(two, up, tf.shape(one), 2, "SAME"))
    coarse = tf.image.resize(tf.nn.max_pool2d(one, 2, 2, "SAME"), tf.shape(one)[1:3])
    return tf.nn.conv2d(tf.concat([one, raised, coarse], 3), last, 1, "SAME", dilations=2)


def decoder_values() -> list[np.ndarray]:
    draw = np.random.default_rng(9)
    shapes = [(3, 3, 3, 6), (6,), (3, 3, 6, 8), (8,), (3, 3, 6, 8), (3, 3, 18, 2)]
    return [draw.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]


@row("read", "U-Net: transposed and dilated convolutions, upsampling, skips")
def unet(folder):
    held = holding(decoder_values())
    save(folder, serving(lambda image: {"mask": tf.nn.softmax(decoder(image, held, tf.nn.relu))}), held)
    score = lambda mode: lambda x: over_winners(decoder(x, decoder_values(), rules(mode).relu))
    return plain(score=score, activations={"Relu": (3, 3)}, warnings=SUMMED)


def renamed_op(folder: Path, new: str, output: str) -> None:
    """Every ReLU replaced by another op, whose output has another name."""

    def change(saved):
        for node in all_nodes(saved):
            node.op = new if node.op == "Relu" else node.op
            node.input[:] = [text.replace(":activations:", f":{output}:") for text in node.input]

    small_model(folder)
    edited(folder, change)


@row("read", "an op outside the allowed set")
def op_outside(folder):
    renamed_op(folder, "ReadFile", "contents")
    return Refusal(ModelRefused, ("ReadFile", "--allow-op ReadFile", "--trust-model"))


@row("read", "an op that this TensorFlow does not know")
def op_unknown(folder):
    renamed_op(folder, "SentencepieceTokenizeOp", "output")
    return Refusal(ModelRefused, ("SentencepieceTokenizeOp", "not known"))


# --- input ------------------------------------------------------------------------------------------------------------


def over(spec: tf.TensorSpec, before: Callable) -> Callable[[Path], None]:
    """A writer of `small` over `before(input)`."""

    def write(folder):
        held = holding()
        save(folder, serving(lambda image: {"scores": small(before(image), held)}, spec), held)

    return write


def from_nchw(x):
    return tf.transpose(x, (0, 2, 3, 1))


@row("input", "NCHW, transposed in the graph")
def nchw(folder):
    over(tf.TensorSpec([None, 3, SIDE, SIDE], name="image"), from_nchw)(folder)
    return plain()


def otherwise(name: str, network: Callable, by_hand: Callable, **changes) -> None:
    """A model that holds an operation without a gradient, or without a kernel for it; its truth has another."""

    @row("kernel", name)
    def build(folder):
        held = holding()
        save(folder, serving(lambda image: {"scores": network(image, held, tf.nn.relu)}), held)
        return plain(score=lambda mode: lambda x: best(by_hand(x, weights(), rules(mode).relu)), **changes)


def between(middle: Callable) -> Callable:
    """`small` with something between its convolutions."""

    def network(x, values, relu):
        a, p, b, q, top, r = values
        x = middle(relu(tf.nn.conv2d(x, a, 1, "VALID") + p))
        x = relu(tf.nn.conv2d(x, b, 2, "VALID") + q)
        return tf.reduce_mean(x, axis=(1, 2)) @ top + r

    return network


def before(first: Callable) -> Callable:
    """`small` of something made of the image."""
    return lambda x, values, relu: small(first(x), values, relu)


CORNER = np.zeros((1, SIDE - 2, SIDE - 2, 1), np.float32)
CORNER[:, 1:4, 2:5] = 1
EACH = np.random.default_rng(4).normal(size=(3, 3, 6, 1)).astype(np.float32)
BLOCK = np.zeros((3, 3, 6, 6), np.float32)  # two groups of three channels
BLOCK[:, :, :3, :3], BLOCK[:, :, 3:, 3:] = np.random.default_rng(5).normal(size=(2, 3, 3, 3, 3))


def padded_from_sparse(x):
    """Paddings as onnx-tf writes them."""
    ends = tf.raw_ops.SparseToDense(sparse_indices=[2, 3], output_shape=[8], sparse_values=[1, 1], default_value=0)
    wide = tf.pad(tf.transpose(x, (0, 3, 1, 2)), tf.transpose(tf.reshape(ends, [2, 4])))
    return tf.transpose(wide, (0, 2, 3, 1))


def stretched(x):
    mean = tf.reduce_mean(x, [1, 2], keepdims=True)
    return (x - mean) * 1.5 + mean


otherwise(
    "keras.ops.slice_update, as in Swin",
    between(lambda x: keras.ops.slice_update(x, (0, 1, 2, 0), 2 * x[:, :3, :3])),
    between(lambda x: x * (1 - CORNER) + CORNER * tf.pad(2 * x[:, :3, :3], [[0, 0], [1, 4], [2, 3], [0, 0]])),
)
otherwise(
    "a dilated convolution of each channel, whose gradient is wrong in oneDNN",
    between(
        lambda x: tf.raw_ops.DepthwiseConv2dNative(
            input=x, filter=EACH, strides=[1] * 4, padding="SAME", dilations=[1, 2, 2, 1]
        )
    ),
    between(lambda x: tf.nn.conv2d(x, tf.linalg.diag(EACH[..., 0]), 1, "SAME", dilations=2)),
)
otherwise(
    "a convolution in groups",
    between(lambda x: tf.nn.conv2d(x, np.concatenate([BLOCK[:, :, :3, :3], BLOCK[:, :, 3:, 3:]], -1), 1, "SAME")),
    between(lambda x: tf.nn.conv2d(x, BLOCK, 1, "SAME")),
)
otherwise(
    "channels first, with paddings that are given (PyTorch)",
    between(
        lambda x: from_nchw(
            tf.nn.conv2d(tf.transpose(x, (0, 3, 1, 2)), BLOCK, 1, [[0, 0], [0, 0], [1, 2], [2, 0]], data_format="NCHW")
        )
    ),
    between(lambda x: tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 2], [2, 0], [0, 0]]), BLOCK, 1, "VALID")),
)
otherwise(
    "paddings from a sparse constant (onnx-tf)",
    before(padded_from_sparse),
    before(lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])),
)
otherwise("contrast", before(lambda x: tf.image.adjust_contrast(x, 1.5)), before(stretched))


def clipped_one_by_one(x):
    """A loop over the images, with a branch in it."""

    def cleaned(image):
        bright = tf.cond(tf.reduce_mean(image) > 0.0, lambda: image * 0.9, lambda: image)
        return tf.clip_by_value(tf.image.adjust_contrast(bright, 1.5), 0.0, 1.0)

    return tf.map_fn(cleaned, x)


def clipped_at_once(x):
    """The same by hand."""
    bright = tf.where(tf.reduce_mean(x, [1, 2, 3], keepdims=True) > 0.0, x * 0.9, x)
    return tf.clip_by_value(stretched(bright), 0.0, 1.0)


otherwise("each image clipped in a loop", before(clipped_one_by_one), before(clipped_at_once))
otherwise(
    "patches clipped, many pixels to black",
    before(lambda x: tf.nn.depth_to_space(tf.clip_by_value(tf.nn.space_to_depth(x, 2), 0, 1), 2)),
    before(lambda x: tf.clip_by_value(x, 0, 1)),
    pixels=np.maximum(pixels(), 0),
)
otherwise(
    "grays clipped",
    before(lambda x: tf.tile(tf.clip_by_value(tf.image.rgb_to_grayscale(x), 0, 1), [1, 1, 1, 3])),
    before(lambda x: tf.clip_by_value(x @ [[0.2989] * 3, [0.587] * 3, [0.114] * 3], 0, 1)),
    pixels=np.maximum(pixels(), 0),
)
otherwise(
    "half the size, by area",
    before(lambda x: tf.compat.v1.image.resize_area(x, (SIDE // 2, SIDE // 2))),
    before(lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID")),
)


def channels_first(x, values, relu):
    """`small` with max pooling and batch norm, channels first all the way; [N, C, H, W] -> logits."""
    a, p, b, q, top, r = values
    x = relu(tf.nn.bias_add(tf.nn.conv2d(x, a, 1, "VALID", "NCHW"), p, "NCHW"))
    x = tf.nn.max_pool2d(x, 2, 1, "SAME", "NCHW")
    scale, offset, mean, variance = norm()
    x = v1.nn.fused_batch_norm(x, scale, offset, mean, variance, 1e-3, "NCHW", is_training=False)[0]
    x = relu(tf.nn.conv2d(x, b, 2, "VALID", "NCHW") + tf.reshape(q, [1, -1, 1, 1]))
    x = tf.nn.avg_pool2d(x, 3, 3, "VALID", "NCHW")
    return tf.reshape(x, [-1, 8]) @ top + r


def channels_last(x, values, relu):
    """The same, [N, H, W, C]."""
    a, p, b, q, top, r = values
    x = tf.nn.max_pool2d(relu(tf.nn.conv2d(x, a, 1, "VALID") + p), 2, 1, "SAME")
    scale, offset, mean, variance = norm()
    x = (x - mean) / tf.sqrt(variance + 1e-3) * scale + offset
    x = tf.nn.avg_pool2d(relu(tf.nn.conv2d(x, b, 2, "VALID") + q), 3, 3, "VALID")
    return tf.reshape(x, [-1, 8]) @ top + r


def norm():
    return np.random.default_rng(2).uniform(0.5, 1.5, (4, 6)).astype(np.float32)


@row("input", "NCHW, convolutions, pooling and batch norm channels first")
def nchw_all_the_way(folder):
    held = holding()
    spec = tf.TensorSpec([None, 3, SIDE, SIDE], name="image")
    save(folder, serving(lambda image: {"scores": channels_first(image, held, tf.nn.relu)}, spec), held)
    return plain(score=lambda mode: lambda x: best(channels_last(x, weights(), rules(mode).relu)))


@row("input", "width-major [N, W, H, C] with --layout NWHC")
def width_major(folder):
    over(tf.TensorSpec([None, 12, SIDE, 3], name="image"), lambda x: tf.transpose(x, (0, 2, 1, 3)))(folder)
    return plain(pixels=pixels((SIDE, 12, 3)), options={**RAW, "layout": "NWHC"})


def gray_net(x, values, relu=tf.nn.relu):
    return small(tf.reshape(x, [-1, 28, 28, 1]), values, relu)


def gray(spec: list) -> Callable:
    def build(folder):
        held = holding(weights(1))
        compute = lambda image: {"scores": gray_net(image, held)}
        save(folder, serving(compute, tf.TensorSpec(spec, name="image")), held)
        score = lambda mode: lambda x: best(gray_net(x, weights(1), rules(mode).relu))
        return plain(score=score, pixels=pixels((28, 28, 1)))

    return build


row("input", "[N, 28, 28] without a channel axis")(gray([None, 28, 28]))
row("input", "flat [N, 784]")(gray([None, 784]))


@row("input", "flat [N, 3072]")
def flat_colour(folder):
    over(tf.TensorSpec([None, 3072], name="image"), lambda x: tf.reshape(x, [-1, 32, 32, 3]))(folder)
    return plain(pixels=pixels((32, 32, 3)))


@row("input", "flat, width before height")
def flat_width_major(folder):
    before = lambda x: tf.transpose(tf.reshape(x, [-1, 12, 10, 3]), (0, 2, 1, 3))
    over(tf.TensorSpec([None, 360], name="image"), before)(folder)
    return plain(pixels=pixels((10, 12, 3)))


@row("input", "[N, 120, 3], pixels that the graph lays out")
def pixels_in_a_row(folder):
    over(tf.TensorSpec([None, 120, 3], name="image"), lambda x: tf.reshape(x, [-1, 10, 12, 3]))(folder)
    return plain(pixels=pixels((10, 12, 3)))


@row("input", "flat [N, 360], a rectangle that --input-size names")
def flat_rectangle(folder):
    over(tf.TensorSpec([None, 360], name="image"), lambda x: tf.reshape(x, [-1, 10, 12, 3]))(folder)
    return plain(pixels=pixels((10, 12, 3)), options={**RAW, "input_size": (10, 12)})


@row("input", "flat [N, 100] that is no square of three channels")
def flat_strange(folder):
    over(tf.TensorSpec([None, 101], name="image"), lambda x: tf.reshape(tf.tile(x[:, :75], (1, 4)), [-1, 10, 10, 3]))(
        folder
    )
    return Refusal(ModelUnusable, ("101 numbers", "--input-size"), RAW)


@row("input", "flat [N, 100], a code and no picture")
def flat_code(folder):
    over(tf.TensorSpec([None, 100], name="code"), lambda x: tf.tile(x[:, None, None], (1, SIDE, SIDE, 1))[..., :3])(
        folder
    )
    return Refusal(ModelUnusable, ("100 numbers", "nothing says that they are a picture", "--input-size"), RAW)


def planes(channels: int, spec: list, before: Callable = tf.identity, **options) -> Callable:
    """A model of so many channels; its images are no pictures."""

    def build(folder):
        held = holding(weights(channels))
        compute = lambda frames: {"scores": small(before(frames), held)}
        save(folder, serving(compute, tf.TensorSpec(spec, name="frames")), held)
        images = np.random.default_rng(9).normal(size=(2, SIDE, SIDE + 2, channels)).astype(np.float32)
        return plain(score=truth(weights(channels)), pixels=images, options={**RAW, **options})

    return build


row("input", "four planes that are not RGBA")(planes(4, [None, SIDE, SIDE + 2, 4]))
row("input", "119 planes, channels first")(planes(119, [None, 119, SIDE, SIDE + 2], from_nchw))
row("input", "12 planes of 10x12, told from height by the convolution")(planes(12, [None, SIDE, SIDE + 2, 12]))
row("input", "all axes open, gray, told by the convolution")(planes(1, [None] * 4, input_size=(SIDE, SIDE + 2)))
row("input", "all axes open, channels first, told by the transpose")(
    planes(3, [None] * 4, from_nchw, input_size=(SIDE, SIDE + 2))
)


@row("input", "frames of a video")
def video(folder):
    over(tf.TensorSpec([None, 4, *SHAPE], name="frames"), lambda x: tf.reduce_mean(x, 1))(folder)
    return Refusal(ModelUnusable, ("[?, 4, 10, 10, 3]", "video", "--input"), RAW)


@row("input", "batch fixed at 1, three images")
def batch_of_one(folder):
    over(tf.TensorSpec([1, *SHAPE], name="image"), tf.identity)(folder)
    return plain(pixels=pixels(count=3))


@row("input", "batch fixed at 4, six images")
def batch_of_four(folder):
    over(tf.TensorSpec([4, *SHAPE], name="image"), lambda x: tf.reshape(x, [4, *SHAPE]))(folder)
    return plain(pixels=pixels(count=6))


OPEN = tf.TensorSpec([None, None, None, 3], name="image")


@row("input", "height and width open, --input-size")
def open_size(folder):
    over(OPEN, tf.identity)(folder)
    return plain(pixels=pixels((13, 11, 3)), options={**RAW, "input_size": (13, 11)}, facts={"size": (13, 11)})


@row("input", "height and width open: 224x224 is taken, with a warning")
def open_size_guessed(folder):
    over(OPEN, lambda x: tf.nn.avg_pool2d(x, 8, 8, "VALID"))(folder)
    score = truth(before=lambda x: tf.nn.avg_pool2d(x, 8, 8, "VALID"))
    return plain(score=score, pixels=pixels((224, 224, 3)) * 4, warnings=("--input-size",))


@row("input", "rank open")
def open_rank(folder):
    over(tf.TensorSpec(None, name="image"), lambda x: tf.reshape(x, [-1, *SHAPE]))(folder)
    return plain(options={**RAW, "input_size": (SIDE, SIDE)})


WHOLE = {"preprocess": "auto"}


@row("input", "uint8, the gradient behind the Cast")
def uint8_cast(folder):
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), centred)(folder)
    return plain(score=truth(before=centred), pixels=whole_pixels(), options=WHOLE, facts={"preprocess": "raw"})


@row("input", "uint8 through tf.image.convert_image_dtype")
def uint8_convert(folder):
    before = lambda x: tf.image.convert_image_dtype(x, tf.float32) * 4 - 2
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), before)(folder)
    return plain(score=truth(before=lambda x: x / 255 * 4 - 2), pixels=whole_pixels(), options=WHOLE)


@row("input", "uint8 resized in the graph before anything else")
def uint8_resized(folder):
    resize = lambda x: tf.image.resize(x, (SIDE, SIDE))
    over(tf.TensorSpec([None, 14, 14, 3], tf.uint8, "image"), lambda x: resize(x) / 64 - 2)(folder)
    score = truth(before=lambda x: resize(x) / 64 - 2)
    return plain(score=score, pixels=whole_pixels((14, 14, 3)), options=WHOLE)


@row("input", "uint8 cast twice, for two branches")
def uint8_two_casts(folder):
    twice = lambda x: centred(x) + tf.cast(x, tf.float32) / 255
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), twice)(folder)
    return plain(score=truth(before=twice), pixels=whole_pixels(), options=WHOLE)


@row("input", "int32")
def int32_input(folder):
    over(tf.TensorSpec([None, *SHAPE], tf.int32, "image"), centred)(folder)
    return plain(score=truth(before=centred), pixels=whole_pixels(), options=WHOLE)


def whole_row(name: str, before: Callable, floats: Callable, shape=SHAPE, dtype=tf.uint8) -> None:
    """A row whose graph computes with whole numbers before it makes floats of them; `floats` says the same of floats."""

    def build(folder):
        scaled = lambda x: centred(before(x))
        over(tf.TensorSpec([None, *shape], dtype, "image"), scaled)(folder)
        score = truth(before=lambda x: centred(floats(x)))
        return plain(score=score, pixels=whole_pixels(shape), options=WHOLE)

    row("input", name)(build)


EDGES = [[0, 0], [1, 1], [1, 1], [0, 0]]
whole_row(
    "uint8 clipped and flipped",
    lambda x: tf.image.flip_left_right(tf.clip_by_value(x, 16, 235)),
    lambda x: tf.clip_by_value(x, 16.0, 235.0)[:, :, ::-1],
)
whole_row(
    "uint8 padded with 255, BGR",
    lambda x: tf.pad(tf.gather(x, [2, 1, 0], axis=-1), EDGES, constant_values=255),
    lambda x: tf.pad(x[..., ::-1], EDGES, constant_values=255.0),
    (SIDE - 2, SIDE - 2, 3),
)
whole_row(
    "int32 less 128, above 0, cropped",
    lambda x: tf.maximum(x - 128, 0)[:, 1:-1, 2:-2],
    lambda x: tf.maximum(x - 128, 0)[:, 1:-1, 2:-2],
    (SIDE + 2, SIDE + 4, 3),
    tf.int32,
)


@row("input", "uint8 halved: the gradient of the halves")
def uint8_halved(folder):
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), lambda x: centred(x // 2))(folder)
    return plain(score=truth(before=centred), pixels=whole_pixels(), options=WHOLE, wrt=lambda x: x // 2)


@row("input", "uint8 halved and turned upside down")
def uint8_turned(folder):
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), lambda x: centred(tf.reverse(x // 2, [1])))(folder)
    return Refusal(ModelUnusable, ("uint8 input image", "are not its pixels", "--input Cast"), WHOLE)


STRINGS = tf.TensorSpec([None], tf.string, "image_bytes")


def decoding(decode: Callable, spec: tf.TensorSpec = STRINGS) -> Callable[[Path], None]:
    def write(folder):
        held = holding()

        def compute(image_bytes):
            if spec.shape.rank == 0:
                return {"scores": small(decode(image_bytes)[None] / 64 - 2, held)}
            images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
            return {"scores": small(tf.reshape(images, [-1, *SHAPE]) / 64 - 2, held)}

        save(folder, serving(compute, spec), held)

    return write


def encoded(**changes) -> Map:
    options = {"input_size": (SIDE, SIDE)}
    score = truth(before=lambda x: x / 64 - 2)
    return plain(**{"score": score, "pixels": whole_pixels(), "options": options, **changes})


def as_float(x):
    return tf.cast(x, tf.float32)


@row("input", "strings: JPEG decoded by tf.map_fn")
def strings_jpeg(folder):
    decoding(lambda text: as_float(tf.io.decode_jpeg(text, channels=3)))(folder)
    return encoded()


@row("input", "strings: PNG decoded by tf.map_fn")
def strings_png(folder):
    decoding(lambda text: as_float(tf.io.decode_png(text, channels=3)))(folder)
    return encoded()


@row("input", "strings: decode_image, resized in the graph by tf.map_fn")
def strings_resized(folder):
    def decode(text):
        image = tf.io.decode_image(text, channels=3, expand_animations=False)
        return tf.image.resize(image, (SIDE, SIDE))

    decoding(decode)(folder)
    return encoded()


@row("input", "strings: flipped before they are floats, warned of")
def strings_flipped(folder):
    decoding(lambda text: as_float(tf.reverse(tf.io.decode_jpeg(text, channels=3), [1])))(folder)
    return encoded(wrt=lambda x: x[:, :, ::-1], warnings=("does not lie upon the image",))


@row("input", "strings: web-safe base64 of a JPEG")
def strings_base64(folder):
    decoding(lambda text: as_float(tf.io.decode_jpeg(tf.io.decode_base64(text), channels=3)))(folder)
    return encoded()


@row("input", "one string without a batch axis")
def one_string(folder):
    spec = tf.TensorSpec([], tf.string, "image_bytes")
    decoding(lambda text: as_float(tf.io.decode_jpeg(text, channels=3)), spec)(folder)
    return encoded()


@row("input", "TF1 strings decoded by tf.map_fn (Enter/Exit)")
def tf1_strings(folder):
    with old_graph() as session:
        text = v1.placeholder(tf.string, [None], "text")
        decode = lambda text: as_float(tf.io.decode_jpeg(text, channels=3))
        image = tf.reshape(tf.map_fn(decode, text, dtype=tf.float32), [-1, *SHAPE])
        output = small(image / 64 - 2, old_variables())
        old_save(folder, session, text, output)
    return encoded()


@row("input", "TF1 uint8, each image resized by tf.map_fn (Enter/Exit, TensorArray)")
def tf1_map_fn(folder):
    resize = lambda x: tf.image.resize(x[None], (SIDE, SIDE))[0]
    with old_graph() as session:
        image = v1.placeholder(tf.uint8, [None, 14, 14, 3], "image")
        resized = tf.map_fn(resize, tf.cast(image, tf.float32))
        output = small(tf.reshape(resized, [-1, *SHAPE]) / 64 - 2, old_variables())
        old_save(folder, session, image, output)
    score = truth(before=lambda x: tf.image.resize(x, (SIDE, SIDE)) / 64 - 2)
    return plain(score=score, pixels=whole_pixels((14, 14, 3)), options=WHOLE)


@row("input", "tf.map_fn over images (While, TensorList)")
def map_over_images(folder):
    held = holding()

    def compute(image):
        scaled = tf.map_fn(lambda x: tf.nn.relu(x / tf.norm(x) * 17), image)
        return {"scores": small(tf.reshape(scaled, [-1, *SHAPE]), held)}

    save(folder, serving(compute), held)

    def score(mode):
        relu = rules(mode).relu
        size = lambda x: tf.sqrt(tf.reduce_sum(x * x, axis=(1, 2, 3), keepdims=True))
        return lambda x: best(small(relu(x / size(x) * 17), weights(), relu))

    return plain(score=score, activations={"Relu": (3, 3)})


def siamese(folder: Path) -> None:
    held = holding()
    spec = [tf.TensorSpec([None, *SHAPE], name=name) for name in ("left", "right")]
    save(
        folder, serving(lambda left, right: {"scores": small(left, held) * (1 + small(right, held) ** 2)}, *spec), held
    )


def siamese_score(other: float) -> Callable:
    def score(mode):
        relu = rules(mode).relu
        right = np.full([1, *SHAPE], other, np.float32)
        return lambda x: best(small(x, weights(), relu) * (1 + small(right, weights()) ** 2))

    return score


@row("input", "two images, --input names one, the other is zero (warned)")
def siamese_zero(folder):
    siamese(folder)
    return plain(score=siamese_score(0), options={**RAW, "input": "left"}, warnings=("--feed",))


def shifted(folder):
    """A number for each image is added to its scores."""
    held = holding()
    compute = lambda image, shift: {"scores": small(image, held) + shift[:, None]}
    save(folder, serving(compute, IMAGE, tf.TensorSpec([None], name="shift")), held)


@row("input", "several values of what stands beside each image")
def several_values(folder):
    shifted(folder)
    return Refusal(UsageError, ("--feed shift: 2 values", "give one"), {**RAW, "feeds": (("shift", "[1, 2]"),)})


@row("input", "one value of what stands beside each image")
def one_value(folder):
    shifted(folder)
    return plain(options={**RAW, "feeds": (("shift", "[0]"),)})


@row("input", "two images, the other given with --feed")
def siamese_fed(folder):
    siamese(folder)
    return plain(score=siamese_score(0.5), options={**RAW, "input": "left", "feeds": (("right", "0.5"),)})


@row("input", "two images joined along channels: the other is repeated for each")
def siamese_joined(folder):
    held = holding(weights(6))
    spec = [tf.TensorSpec([None, *SHAPE], name=name) for name in ("left", "right")]
    save(folder, serving(lambda left, right: {"scores": small(tf.concat([left, right], 3), held)}, *spec), held)
    beside = lambda x: tf.concat([x, tf.ones_like(x) * 0.5], 3)
    score = truth(weights(6), before=beside)
    return plain(score=score, options={**RAW, "input": "left", "feeds": (("right", "0.5"),)})


@row("input", "two images, none named")
def siamese_open(folder):
    siamese(folder)
    return Refusal(UsageError, ("left", "right", "--input"))


@row("input", "an image beside a dropout rate and a training flag")
def image_and_flags(folder):
    held = holding()
    specs = [IMAGE, tf.TensorSpec([], tf.float32, "keep"), tf.TensorSpec([], tf.bool, "training")]

    def compute(image, keep, training):
        x = tf.cond(training, lambda: image * 0, lambda: image)
        return {"scores": small(x / keep, held)}

    save(folder, serving(compute, *specs), held)
    return plain(score=truth(before=lambda x: x / 2), options={**RAW, "feeds": (("keep", "2"),)})


def keep_prob(folder: Path) -> None:
    with old_graph() as session:
        image, keep = old_image(), v1.placeholder(tf.float32, [], "keep_prob")
        output = small(image / keep, old_variables())
        old_save(folder, session, image, output)


@row("input", "TF1 placeholder outside the signature")
def stray_placeholder(folder):
    keep_prob(folder)
    return Refusal(UsageError, ("keep_prob", "--feed keep_prob="), RAW)


@row("input", "TF1 placeholder outside the signature, given with --feed")
def stray_placeholder_fed(folder):
    keep_prob(folder)
    return plain(score=truth(before=lambda x: x / 2), options={**RAW, "feeds": (("keep_prob", "2"),)})


@row("input", "one image [H, W, 3] without a batch axis")
def unbatched(folder):
    over(tf.TensorSpec(SHAPE, name="image"), lambda x: x[None])(folder)
    return plain(pixels=pixels(count=3))


@row("input", "one image [H, W, 3], scores [K]")
def unbatched_scores(folder):
    held = holding()
    save(
        folder, serving(lambda image: {"scores": small(image[None], held)[0]}, tf.TensorSpec(SHAPE, name="image")), held
    )
    return plain(pixels=pixels(count=3))


@row("input", "a tensor inside the graph")
def inner_tensor(folder):
    over(IMAGE, lambda x: tf.identity(tf.round(x), name="rounded") * 1.5)(folder)
    return plain(score=truth(before=lambda x: x * 1.5), options={**RAW, "input": "rounded:0"})


@row("input", "cut off by Round")
def cut_off(folder):
    over(IMAGE, tf.round)(folder)
    return Refusal(ModelUnusable, ("no gradient reaches the image", "Round"), RAW)


@row("input", "the score does not depend on the image")
def independent(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": small(tf.ones([1, *SHAPE]), held)}), held)
    return Refusal(ModelUnusable, ("does not depend on the input image",), RAW)


@row("input", "a table, not an image")
def table(folder):
    held = [tf.Variable(np.ones((7, 3), np.float32))]
    save(folder, serving(lambda row: {"scores": row @ held[0]}, tf.TensorSpec([None, 7], name="row")), held)
    return Refusal(ModelUnusable, ("row", "7 numbers"), RAW)


# --- score ------------------------------------------------------------------------------------------------------------


def ending(finish: Callable, values=None) -> Callable[[Path], None]:
    """A writer of `finish(logits)` on top of `small`; a dict gives several outputs."""

    def write(folder):
        held = holding(values)

        def compute(image):
            answer = finish(small(image, held))
            return answer if isinstance(answer, dict) else {"scores": answer}

        save(folder, serving(compute), held)

    return write


def ends(name: str, finish: Callable, then: Callable = best, values=None, **changes) -> None:
    """A row whose logits are below `finish`."""

    def build(folder):
        ending(finish, values)(folder)
        return plain(score=truth(values, then), **changes)

    row("score", name)(build)


def spelled_softmax(x):
    e = tf.exp(x - tf.reduce_max(x, axis=-1, keepdims=True))
    return e / tf.reduce_sum(e, axis=-1, keepdims=True)


def bare_softmax(x):
    return tf.exp(x) / tf.reduce_sum(tf.exp(x), axis=-1, keepdims=True)


def spelled_log_softmax(x):
    shifted = x - tf.reduce_max(x, axis=-1, keepdims=True)
    return shifted - tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=-1, keepdims=True))


def through_reshape(x):
    deep = tf.reshape(tf.nn.softmax(tf.reshape(x, [-1, 1, 1, CLASSES])), [-1, 1, CLASSES])
    return tf.identity(tf.squeeze(deep, axis=1))


def both_sides(x):
    p = tf.sigmoid(x)
    return tf.concat([1 - p, p], axis=1)


def clipped(x):
    return tf.clip_by_value(tf.nn.softmax(x), 1e-7, 1 - 1e-7)


def two_heads(x):
    return tf.reduce_mean(tf.stack([tf.nn.softmax(x), tf.nn.softmax(0.5 * x[:, ::-1])]), axis=0)


ends("softmax", tf.nn.softmax)
ends("softmax spelled out: Max, Sub, Exp, Sum, RealDiv", spelled_softmax)
ends("softmax spelled out without Max, two Exp", bare_softmax)
ends("softmax through Reshape, Squeeze, Identity", through_reshape)
ends("softmax, then Cast to float64", lambda x: tf.cast(tf.nn.softmax(x), tf.float64))
ends("log_softmax", tf.nn.log_softmax)
ends("log_softmax spelled out", spelled_log_softmax)
ends("log(softmax)", lambda x: tf.math.log(tf.nn.softmax(x)))
ends("sigmoid, several labels", tf.sigmoid)
ends("sigmoid spelled out: Neg, Exp, Add, RealDiv", lambda x: 1 / (1 + tf.exp(-x)))
ends("sigmoid spelled out: Reciprocal", lambda x: tf.math.reciprocal(tf.exp(tf.negative(x)) + 1))
ends("softmax with a temperature: the logits are those after it", lambda x: tf.nn.softmax(x / 2), lambda x: best(x / 2))
ends("softmax of a saturated network", lambda x: tf.nn.softmax(x * 1e4), lambda x: best(x * 1e4))
ends(
    "--score output: the probability itself",
    tf.nn.softmax,
    lambda x: best(tf.nn.softmax(x)),
    options={**RAW, "score": "output"},
)
ends("the class asked for, not the best", tf.nn.softmax, lambda x: x[:, 3], target=3)
ends("the third best class", tf.nn.softmax, lambda x: tf.sort(x, axis=1)[:, -3], target=-3)

ONE = weights(classes=1)
ends("single sigmoid [N, 1]", tf.sigmoid, lambda x: x[:, 0], ONE)
ends("single sigmoid [N]", lambda x: tf.sigmoid(x)[:, 0], lambda x: x[:, 0], ONE)
ends("regression [N, 1]", tf.identity, lambda x: x[:, 0], ONE)
ends("softmax in percent", lambda x: 100 * tf.nn.softmax(x))
ends("softmax as exp(x - logsumexp)", lambda x: tf.exp(x - tf.reduce_logsumexp(x, axis=1, keepdims=True)))
ends("sigmoid as a tanh", lambda x: 0.5 * (1 + tf.tanh(x / 2)))
ends("[1 - p, p] of a sigmoid", both_sides, lambda x: best(tf.concat([-x, x], 1)), ONE)
ends("a softmax that is clipped", clipped, lambda x: best(clipped(x)), warnings=("softmax or sigmoid is clipped",))
ends(
    "a softmax that is clipped, --score output", clipped, lambda x: best(clipped(x)), options={**RAW, "score": "output"}
)
ends("a mean of two softmaxes", two_heads, lambda x: best(two_heads(x)), warnings=("softmax or sigmoid is averaged",))
ends("x - exp(x)", lambda x: x - tf.exp(x), lambda x: best(x - tf.exp(x)), activations=None)
ends("classes [N, K, 1]", lambda x: tf.nn.softmax(x)[:, :, None])
ends(
    "top_k: scores and classes",
    lambda x: dict(zip(("scores", "classes"), tf.math.top_k(tf.nn.softmax(x), 2), strict=True)),
)
ends("the best score alone", lambda x: tf.reduce_max(tf.nn.softmax(x), axis=-1))


@row("score", "a softmax in the branch that another input chooses")
def softmax_in_a_branch(folder):
    held = holding()

    def compute(image, raw):
        x = small(image, held)
        return {"scores": tf.cond(raw, lambda: x, lambda: tf.nn.softmax(x))}

    save(folder, serving(compute, IMAGE, tf.TensorSpec([], tf.bool, "raw")), held)
    return plain()


@row("score", "a batch of one, squeezed: classes [K]")
def squeezed(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": tf.squeeze(tf.nn.softmax(small(image, held)))}, ALONE), held)
    return plain()


ends("any number of images, squeezed: one image gives [K]", lambda x: tf.squeeze(tf.nn.softmax(x[:, None, None])))
ends("ArgMax alone (int64)", lambda x: tf.argmax(tf.nn.softmax(x), axis=1))
ends("top_k: indices alone", lambda x: tf.math.top_k(x, 2).indices)
ends(
    "several outputs, one of them probabilities",
    lambda x: {"classes": tf.argmax(x, 1), "probabilities": tf.nn.softmax(x)},
)
ends(
    "several outputs, a softmax and its logits, by names of their own",
    lambda x: {"Logits": x, "Predictions": tf.reshape(tf.nn.softmax(tf.reshape(x, [-1, CLASSES])), tf.shape(x))},
)
ends(
    "several outputs, one of two axes",
    lambda x: {"grid": tf.reshape(x, [-1, 1, 1, 5]), "answer": tf.nn.softmax(x), "big": x[:, None]},
)
ends(
    "several outputs, --output names one",
    lambda x: {"one": tf.nn.softmax(x), "two": tf.nn.softmax(-x)},
    lambda x: best(-x),
    options={**RAW, "output": "two"},
)
ends(
    "an output below the others by its tensor name",
    lambda x: tf.nn.softmax(tf.identity(x * 2, name="doubled")),
    lambda x: best(x * 2),
    options={**RAW, "output": "doubled:0"},
)


@row("score", "several outputs, none named")
def outputs_open(folder):
    ending(lambda x: {"one": tf.nn.softmax(x), "two": tf.nn.softmax(-x)})(folder)
    return Refusal(UsageError, ("one", "two", "--output"), RAW)


@row("score", "an output that does not exist")
def output_absent(folder):
    ending(tf.nn.softmax)(folder)
    return Refusal(UsageError, ("--output missing", "neither"), {**RAW, "output": "missing"})


@row("score", "labels only: a string table behind ArgMax")
def label_output(folder):
    held = holding()
    names = tf.constant([f"class {i}" for i in range(CLASSES)])
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.range(CLASSES, dtype=tf.int64), names), "unknown"
    )

    def compute(image):
        return {"label": table.lookup(tf.argmax(tf.nn.softmax(small(image, held)), axis=1))}

    save(folder, serving(compute), [*held, table])
    return plain()


@row("score", "labels only: a string constant gathered at ArgMax")
def gathered_label(folder):
    names = tf.constant([f"class {i}" for i in range(CLASSES)])
    ending(lambda x: {"label": tf.gather(names, tf.argmax(x, axis=1))})(folder)
    return plain()


@row("score", "a decision alone: sigmoid above a threshold, as a label")
def threshold_label(folder):
    held = holding(ONE)
    compute = lambda image: {"label": tf.where(tf.sigmoid(small(image, held)) > 0.4, "cat", "dog")}
    save(folder, serving(compute), held)
    return plain(score=truth(ONE, lambda x: x[:, 0]))


def decided(name: str, finish: Callable) -> None:
    @row("score", f"a decision alone: {name}")
    def build(folder):
        ending(lambda x: {"action": finish(tf.argmax(x, axis=1))})(folder)
        return plain()


decided(
    "clipped to its bounds (tf-agents)", lambda a: tf.clip_by_value(tf.broadcast_to(a, tf.shape(a)), 0, CLASSES - 1)
)
decided("an action counted from elsewhere", lambda a: tf.constant(2, tf.int64) + a)
decided(
    "an action of numbers, from a table", lambda a: tf.gather(tf.constant(np.linspace(-1, 1, CLASSES), tf.float32), a)
)
decided("a row of zeros and a one", lambda a: tf.one_hot(a, CLASSES))


@row("score", "strings that nothing was decided from")
def string_output(folder):
    ending(lambda x: {"text": tf.strings.as_string(tf.cast(x, tf.int32))})(folder)
    return Refusal(ModelUnusable, ("text", "string", "nothing that decides", "--output"), RAW)


def pixelwise(x, values, relu=tf.nn.relu):
    """Scores [N, 8, 8, 5] of images [N, 10, 10, 3]."""
    a, p, b, q, top, r = values
    x = relu(tf.nn.conv2d(x, a, 1, "VALID") + p)
    x = relu(tf.nn.conv2d(x, b, 1, "SAME") + q)
    return tf.nn.conv2d(x, top[None, None], 1, "VALID") + r


def over_winners(scores):
    """[N, Y, X, K] -> the score of the class that wins most positions, summed over these."""
    flat = tf.reshape(scores, [len(scores), -1, scores.shape[-1]])
    winner = tf.one_hot(tf.argmax(flat, axis=2), flat.shape[2])
    most = tf.argmax(tf.reduce_sum(winner, axis=1), axis=1)
    return tf.gather(tf.reduce_sum(flat * winner, axis=1), most, axis=1, batch_dims=1)


def at_best(scores, judged):
    """[N, ..., K] twice -> the score where what it is judged by is the largest of all."""
    flat, by = (tf.reshape(each, [len(each), -1]) for each in (scores, judged))
    return tf.gather(flat, tf.argmax(by, axis=1), axis=1, batch_dims=1)


def over_positive(scores):
    return tf.reduce_sum(tf.where(scores > 0, scores, 0), axis=tf.range(1, tf.rank(scores)))


def over_foreground(scores):
    """The same of all classes but the first, which wins positions too."""
    flat = tf.reshape(scores, [len(scores), -1, scores.shape[-1]])
    winner = tf.one_hot(tf.argmax(flat, axis=2), flat.shape[2])[:, :, 1:]
    most = tf.argmax(tf.reduce_sum(winner, axis=1), axis=1)
    return tf.gather(tf.reduce_sum(flat[:, :, 1:] * winner, axis=1), most, axis=1, batch_dims=1)


def over_likely(scores):
    """Of the second class alone, where it is more likely than all others together."""
    return tf.reduce_sum(tf.where(tf.nn.softmax(scores)[..., 1] > 0.5, scores[..., 1], 0), axis=[1, 2])


def segmented(name: str, finish: Callable, then: Callable, values=None, network=pixelwise, **changes) -> None:
    def build(folder):
        held = holding(values)
        save(folder, serving(lambda image: {"scores": finish(network(image, held))}), held)
        ours = weights() if values is None else values
        score = lambda mode: lambda x: then(network(x, ours, rules(mode).relu))
        return plain(**{"score": score, **changes})

    row("score", name)(build)


segmented(
    "segmentation [N, H, W, K]: summed over the positions that the class wins",
    tf.nn.softmax,
    over_winners,
    warnings=SUMMED,
)
segmented(
    "segmentation [N, H, W, 1], sigmoid: summed over the positive positions",
    tf.sigmoid,
    over_positive,
    ONE,
    warnings=SUMMED,
)
segmented(
    "segmentation, --box-of all: without a word",
    tf.nn.softmax,
    over_winners,
    options={**RAW, "box_of": 0},
)
segmented(
    "segmentation, --at 2,5",
    tf.nn.softmax,
    lambda x: best(x[:, 2, 5]),
    options={**RAW, "at": (2, 5)},
)
segmented(
    "segmentation, --output 'scores[0, 2, 5, ...]'",
    tf.nn.softmax,
    lambda x: best(x[:, 2, 5]),
    options={**RAW, "output": "scores[0, 2, 5, ...]"},
)
segmented(
    "segmentation, --box-of 1: where a class is most probable",
    tf.nn.softmax,
    lambda x: at_best(x, tf.nn.softmax(x)),
    options={**RAW, "box_of": 1},
)
segmented(
    "segmentation, the background left out",
    lambda x: tf.nn.softmax(x)[..., 1:],
    over_foreground,
    warnings=SUMMED,
)
segmented(
    "segmentation, the background left out of the logarithms",
    lambda x: tf.nn.log_softmax(x)[..., 1:] * 2 + 1,
    over_foreground,
    warnings=SUMMED,
)
segmented(
    "segmentation, one class of a softmax alone",
    lambda x: tf.nn.softmax(x)[..., 1:2],
    over_likely,
    warnings=SUMMED,
)
segmented("segmentation, classes by ArgMax alone", lambda x: tf.argmax(x, axis=-1), over_winners, warnings=SUMMED)


@row("score", "segmentation [N, K, H, W]: classes first")
def segmentation_nchw(folder):
    held = holding()
    spec = tf.TensorSpec([None, 3, SIDE, SIDE], name="image")
    compute = lambda image: {"scores": tf.nn.softmax(tf.transpose(pixelwise(from_nchw(image), held), (0, 3, 1, 2)), 1)}
    save(folder, serving(compute, spec), held)
    score = lambda mode: lambda x: over_winners(pixelwise(x, weights(), rules(mode).relu))
    return plain(score=score, warnings=SUMMED)


@row("score", "classes [N, K, 1, 1], channels first")
def classes_first(folder):
    ending(lambda x: tf.reshape(tf.nn.softmax(x), [-1, CLASSES, 1, 1]))(folder)
    return plain()


def sequence(x, values, relu=tf.nn.relu):
    """Scores [N, 8, 5], one a row of the picture."""
    return tf.reduce_mean(pixelwise(x, values, relu), axis=2)


segmented(
    "sequence [N, T, K]: summed over the steps that the class wins",
    tf.nn.softmax,
    over_winners,
    network=sequence,
    warnings=SUMMED,
)
segmented(
    "sequence, --at 3",
    tf.nn.softmax,
    lambda x: best(x[:, 3]),
    network=sequence,
    options={**RAW, "at": (3,)},
)


@row("score", "--at with too many numbers")
def at_too_many(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": sequence(image, held)}), held)
    return Refusal(UsageError, ("--at 1,2", "1 position"), {**RAW, "at": (1, 2)})


@row("score", "--at outside")
def at_outside(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": sequence(image, held)}), held)
    return Refusal(UsageError, ("--at 9", "position inside"), {**RAW, "at": (9,)})


@row("score", "a position outside, by its output")
def position_outside(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": sequence(image, held)}), held)
    return Refusal(UsageError, ("--output NAME[0, 9, ...]", "position inside"), {**RAW, "output": "scores[0, 9, ...]"})


@row("input", "all axes open, with the wrong --layout")
def wrong_layout(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": small(image, held)}, tf.TensorSpec([None] * 4, name="image")), held)
    options = {**RAW, "input_size": (16, 16), "layout": "NCHW"}
    return Refusal(UsageError, ("--input-size 16x16 and --layout NCHW: ",), options)


def deep(x, values, relu=tf.nn.relu):
    """What the second ReLU of `small` gives, by name."""
    a, p, b, q, *_ = values
    x = relu(tf.nn.conv2d(x, a, 1, "VALID") + p)
    return tf.identity(relu(tf.nn.conv2d(x, b, 2, "VALID") + q), name="deep")


def hidden(name: str, output: str, then: Callable, **changes) -> None:
    def build(folder):
        held = holding()
        compute = lambda image: {"scores": tf.reduce_mean(deep(image, held), (1, 2)) @ held[4] + held[5]}
        save(folder, serving(compute), held)
        score = lambda mode: lambda x: then(deep(x, weights(), rules(mode).relu))
        return plain(**{"score": score, "options": {**RAW, "output": output}, **changes})

    row("score", name)(build)


hidden(
    "a channel of a hidden tensor: deep:0[..., 4]",
    "deep:0[..., 4]",
    lambda x: tf.reduce_sum(x[..., 4], (1, 2)),
    target=4,
)
# What a ReLU ends in are channels, as `reading` says.
hidden("a hidden tensor: its channels as classes", "deep:0", over_winners, warnings=("is a map [3, 3]",))


@row("score", "a rank that only another input settles")
def open_rank_score(folder):
    held = holding()
    spec = tf.TensorSpec(None, tf.int32, "shape")
    compute = lambda image, shape: {"scores": tf.reshape(small(image, held), shape)}
    save(folder, serving(compute, IMAGE, spec), held)
    return plain(options={**RAW, "input": "image", "feeds": (("shape", "[-1, 5]"),)})


# --- detectors and embeddings -----------------------------------------------------------------------------------------

BEST_ONE = ("a class is explained by its best one",)


def detector(name: str, classes: int, finish: Callable, then: Callable, shape=ALONE, index=None, **changes) -> None:
    """`finish` makes outputs of numbers [N, 64, classes], one row for each cell of the picture; `then` makes the score of
    them, and `index` the class."""
    values = weights(classes=classes)
    flat = lambda x: tf.reshape(x, [-1, 64, classes]) / 8  # so that not all of them are sure

    def build(folder):
        held = holding(values)

        def compute(image):
            found = finish(flat(pixelwise(image, held)))
            return found if isinstance(found, dict) else {"output_0": found}

        save(folder, serving(compute, shape), held)
        score = lambda mode: lambda x: then(flat(pixelwise(x, values, rules(mode).relu)))
        found = None if index is None else lambda x: index(flat(pixelwise(x, values)))
        return plain(**{"score": score, "warnings": BEST_ONE, "index": found, **changes})

    row("detector", name)(build)


def boxes_of(x):
    return tf.concat([x[..., :2] * 8 + 20, tf.exp(x[..., 2:4]) * 10], -1)


def yolo8(x):
    return tf.concat([boxes_of(x), tf.sigmoid(x[..., 4:])], -1)


def yolo8_classes(x):
    return tf.reduce_max(x[..., 4:], (1, 2))


def yolo5(x):
    y = tf.sigmoid(x)
    return tf.concat([(y[..., :2] * 2 - 0.5) * 8, (y[..., 2:4] * 2) ** 2 * 10, y[..., 4:]], -1)


def yolo5_classes(x):
    y = tf.sigmoid(x)
    return tf.reduce_max(y[..., 4:5] * y[..., 5:], (1, 2))


def nth_best(number: int, scores: Callable) -> Callable:
    """The class of the N-th best detection, at it."""
    return lambda x: tf.sort(tf.reduce_max(scores(x), 2), direction="DESCENDING")[:, number - 1]


def class_of(scores: Callable, first: int = 0) -> Callable:
    """The class of the best detection."""
    return lambda x: tf.argmax(tf.reduce_max(scores(x), 1), 1) + first


turned = lambda function: lambda x: tf.transpose(function(x), [0, 2, 1])
detector("YOLOv8: [1, 4 + K, A]", 9, turned(yolo8), yolo8_classes, index=class_of(lambda x: x[..., 4:]))
detector("YOLOv8, transposed: [N, A, 4 + K]", 9, yolo8, yolo8_classes, IMAGE)
detector(
    "YOLOv8, the third best box", 9, turned(yolo8), nth_best(3, lambda x: x[..., 4:]),
    options={**RAW, "box_of": 3}, warnings=(),
)  # fmt: skip
detector("YOLOv8, a class by its index", 9, turned(yolo8), lambda x: tf.reduce_max(x[..., 6], 1), target=2)
detector(
    "YOLOv8, its second box of a class", 9, turned(yolo8), nth_best(2, lambda x: x[..., 6:7]),
    target=2, options={**RAW, "box_of": 2}, warnings=(),
)  # fmt: skip
detector(
    "YOLOv8, --score output", 9, turned(yolo8), lambda x: tf.sigmoid(yolo8_classes(x)),
    options={**RAW, "score": "output"},
)  # fmt: skip
detector(
    "YOLOv8, --at 5: one detection", 9, turned(yolo8), lambda x: tf.reduce_max(x[:, 5, 4:], 1),
    options={**RAW, "at": (5,)}, warnings=(),
)  # fmt: skip
detector(
    "YOLOv5: [1, A, 5 + K], objectness times class",
    10,
    yolo5,
    yolo5_classes,
    index=class_of(lambda x: tf.sigmoid(x[..., 4:5]) * tf.sigmoid(x[..., 5:])),
)
detector(
    "YOLOX: box, objectness and classes joined",
    10,
    lambda x: tf.concat([boxes_of(x), tf.sigmoid(x[..., 4:5]), tf.sigmoid(x[..., 5:])], -1),
    yolo5_classes,
    IMAGE,
)
detector(
    "RetinaNet: classes [N, A, K], boxes [N, A, 4]",
    9,
    lambda x: {"classification": tf.sigmoid(x[..., 4:]), "regression": x[..., :4]},
    yolo8_classes,
    IMAGE,
)
detector(
    "RetinaNet, the scores named",
    9,
    lambda x: {"classification": tf.sigmoid(x[..., 4:]), "regression": x[..., :4]},
    yolo8_classes,
    IMAGE,
    options={**RAW, "output": "classification"},
)
detector(
    "raw heads [N, H, W, A K] and [N, H, W, A 4]",
    16,
    lambda x: {"cls": tf.reshape(x[..., 8:], [-1, 8, 8, 8]), "box": tf.reshape(x[..., :8], [-1, 8, 8, 8])},
    lambda x: tf.reduce_max(x[..., 8:], (1, 2)),
    IMAGE,
    options={**RAW, "output": "cls"},
)
detector(
    "SSD: softmax over classes and background",
    10,
    lambda x: {"scores": ssd(x), "boxes": x[..., :4]},
    lambda x: at_best((x[..., 4:] + NOTHING)[..., 1:], ssd(x)[..., 1:]),
    IMAGE,
    warnings=("class 0 is nearly everywhere and taken for the background",),
)
NOTHING = np.float32([5, 0, 0, 0, 0, 0])
ssd = lambda x: tf.nn.softmax(x[..., 4:] + NOTHING)


def kept(x, count: int = 6):
    """Boxes, scores, classes from 1, as TensorFlow's detectors keep them of a batch of one."""
    scores = tf.sigmoid(x[0, :, 4:])
    best = tf.reduce_max(scores, 1)
    corners = tf.tile(tf.range(64.0)[:, None], [1, 4]) + tf.constant([0, 0, 0.5, 0.5])
    places = tf.image.non_max_suppression(corners, best, count, 0.5)
    classes = tf.cast(tf.argmax(scores, 1) + 1, tf.float32)
    return {
        "detection_boxes": tf.gather(corners, places)[None],
        "detection_scores": tf.gather(best, places)[None],
        "detection_classes": tf.gather(classes, places)[None],
        "num_detections": tf.cast(tf.shape(places)[:1], tf.float32),
    }


detector(
    "TF-OD with raw scores", 9, lambda x: {**kept(x), "raw_detection_scores": tf.sigmoid(x[..., 4:])}, yolo8_classes
)
detector(
    "TF-OD with raw scores: classes are those of the kept ones",
    9,
    lambda x: {**kept(x), "raw_detection_scores": tf.sigmoid(x[..., 4:])},
    lambda x: tf.reduce_max(x[..., 5], 1),
    target=2,
)
detector(
    "TF-OD without raw scores: gathered ones",
    9,
    kept,
    lambda x: tf.sigmoid(yolo8_classes(x)),
    index=class_of(lambda x: x[..., 4:], 1),
)
detector(
    "TF-OD without raw scores: the third best",
    9,
    kept,
    nth_best(3, lambda x: tf.sigmoid(x[..., 4:])),
    options={**RAW, "box_of": 3},
    warnings=(),
)
detector(
    "kept detections [1, M, 6]: box, score, class",
    9,
    lambda x: (
        lambda k: tf.concat(
            [k["detection_boxes"], k["detection_scores"][..., None], k["detection_classes"][..., None]], -1
        )
    )(kept(x, 20)),
    lambda x: tf.sigmoid(yolo8_classes(x)),
)


def no_detector(name: str, finish: Callable, error, words: tuple[str, ...], options=RAW) -> None:
    def build(folder):
        held = holding(weights(classes=9))
        save(folder, serving(lambda image: finish(tf.reshape(pixelwise(image, held), [-1, 64, 9])), ALONE), held)
        return Refusal(error, words, options)

    row("detector", name)(build)


no_detector(
    "boxes are no classes",
    lambda x: {"boxes": x[..., :4], "scores": x[..., 4:]},
    ModelUnusable,
    ("boxes", "no classes", "scores", "--output"),
    {**RAW, "output": "boxes"},
)
no_detector("boxes alone", lambda x: {"bbox": x[:, 0, :4]}, ModelUnusable, ("bbox", "no classes", "--output"))
no_detector(
    "scores behind what has no gradient",
    lambda x: dict(
        zip(
            ("detection_boxes", "detection_scores", "detection_classes"),
            tf.image.combined_non_max_suppression(x[:, :, None, :4], tf.sigmoid(x[..., 4:]), 5, 9)[:3],
            strict=True,
        )
    ),
    ModelUnusable,
    ("CombinedNonMaxSuppression", "Sigmoid:0", "--output"),
)


def embedding(name: str, network: Callable, warnings: tuple[str, ...], then=best, **changes) -> None:
    def build(folder):
        held = holding(weights(classes=32))
        found = lambda image: network(image, held, tf.nn.relu)
        save(
            folder,
            serving(lambda image: found(image) if isinstance(found(image), dict) else {"output_0": found(image)}),
            held,
        )

        def score(mode):
            def run(x):
                values = network(x, weights(classes=32), rules(mode).relu)
                return then(next(iter(values.values())) if isinstance(values, dict) else values)

            return run

        return plain(**{"score": score, "warnings": warnings, **changes})

    row("embedding", name)(build)


def layer_norm(x):
    middle, spread = tf.nn.moments(x, [-1], keepdims=True)
    return (x - middle) * tf.math.rsqrt(spread + 1e-6) * 1.5 + 0.1


embedding(
    "CLIP: of length 1", lambda *a: tf.math.l2_normalize(small(*a), -1), ("length 1): 32 channels and no classes",)
)
embedding("DINO: behind a normalisation", lambda *a: layer_norm(small(*a)), ("behind its normalisation): 32 channels",))
embedding("by its name", lambda *a: {"image_embeds": small(*a)}, ("by its name): 32 channels",))
embedding(
    "DINO's patches: a sequence",
    lambda *a: tf.reshape(layer_norm(pixelwise(*a)), [-1, 64, 32]),
    ("each summed over",),
    over_winners,
)
embedding("linear logits are none", small, ())
embedding(
    "--output takes it as it is", lambda *a: {"image_embeds": small(*a)}, (), options={**RAW, "output": "image_embeds"}
)


# --- patch ------------------------------------------------------------------------------------------------------------


def strong() -> list[np.ndarray]:
    """Weights under which features reach every cap."""
    a, p, b, q, top, r = weights()
    return [a * 4, p * 4, b * 2, q * 4, top, r]


def spelling(name: str, activation: Callable, cap: float | None = None, found=None, **changes) -> None:
    """A row whose ReLU (capped) is spelled as `activation`."""

    def build(folder):
        held = holding(strong())
        save(folder, serving(lambda image: {"scores": small(image, held, activation)}), held)
        relu = lambda mode: rules(mode).relu if cap is None else lambda x: rules(mode).capped(x, cap)
        score = lambda mode: lambda x: best(small(x, strong(), relu(mode)))
        return plain(**{"score": score, "activations": {found or "CappedRelu": (2, 2)}, **changes})

    row("patch", name)(build)


spelling("Relu", tf.nn.relu, found="Relu")
spelling("Relu6", tf.nn.relu6, 6.0, "Relu6")
spelling("Maximum(x, 0)", lambda x: tf.maximum(x, 0.0), found="Maximum")
spelling("Maximum(0, x)", lambda x: tf.maximum(0.0, x), found="Maximum")
spelling("Maximum(x, zeros of x's shape)", lambda x: tf.maximum(x, tf.zeros(x.shape[-1])), found="Maximum")
spelling("Maximum(x, zeros_like(x))", lambda x: tf.maximum(x, tf.zeros_like(x)), found="Maximum")
spelling("where(x > 0, x, 0)", lambda x: tf.where(x > 0, x, tf.zeros_like(x)), found="Select")
spelling("Minimum(Relu(x), 5)", lambda x: tf.minimum(tf.nn.relu(x), 5.0), 5.0)
spelling("Minimum(6, Relu(x))", lambda x: tf.minimum(6.0, tf.nn.relu(x)), 6.0)
spelling("Relu(Minimum(x, 5))", lambda x: tf.nn.relu(tf.minimum(x, 5.0)), 5.0)
spelling("Minimum(Maximum(x, 0), 5)", lambda x: tf.minimum(tf.maximum(x, 0.0), 5.0), 5.0)
spelling("Maximum(Minimum(x, 5), 0)", lambda x: tf.maximum(tf.minimum(x, 5.0), 0.0), 5.0)
spelling("clip_by_value(x, 0, 5)", lambda x: tf.clip_by_value(x, 0.0, 5.0), 5.0)
spelling("ClipByValue op", lambda x: tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=5.0), 5.0)
spelling("Minimum(Relu6(x), 5)", lambda x: tf.minimum(tf.nn.relu6(x), 5.0), 5.0)
spelling(
    "Minimum(Relu(x), 5), the cap channels first",
    lambda x: from_nchw(tf.minimum(tf.transpose(tf.nn.relu(x), [0, 3, 1, 2]), 5.0)),
    5.0,
)
spelling(
    "x * mask, the mask channels first",
    lambda x: x * from_nchw(tf.cast(tf.transpose(x, [0, 3, 1, 2]) > 0, tf.float32)),
    found="Relu",
)
spelling(
    "clip_by_value, its ends cut out of one constant",
    lambda x: tf.clip_by_value(x, *tf.unstack(tf.constant([0.0, 5]))),
    5.0,
)
spelling("Keras 3 ReLU(max_value=5)", keras.layers.ReLU(max_value=5.0), 5.0)
spelling("Keras 2 ReLU(max_value=5)", tf_keras.layers.ReLU(max_value=5.0), 5.0)


def left_alone(name: str, other: Callable, **changes) -> None:
    """A row with one true ReLU, and one operation beside it that is none and keeps its plain gradient."""

    def network(x, values, relu):
        a, p, b, q, top, r = values
        x = relu(tf.nn.conv2d(x, a, 1, "VALID") + p)
        x = other(tf.nn.conv2d(x, b, 2, "VALID") + q)
        return tf.reduce_mean(x, axis=(1, 2)) @ top + r

    def build(folder):
        held = holding()
        save(folder, serving(lambda image: {"scores": network(image, held, tf.nn.relu)}), held)
        score = lambda mode: lambda x: best(network(x, weights(), rules(mode).relu))
        return plain(**{"score": score, "activations": {"Relu": (1, 1)}, **changes})

    row("patch", name)(build)


left_alone("Maximum(x, 0.01) is a clamp, no ReLU", lambda x: tf.maximum(x, 0.01))
left_alone("Maximum of two tensors (maxout) is no ReLU", lambda x: tf.maximum(x, x[..., ::-1]))
left_alone("clip_by_value(x, -1, 1) is no ReLU", lambda x: tf.clip_by_value(x, -1.0, 1.0))
left_alone("hard-swish: its Relu6 is a gate", lambda x: x * tf.nn.relu6(x + 3) / 6, gates=1)
left_alone("hard-sigmoid of Keras 2: its clip is a gate", lambda x: x * tf_keras.activations.hard_sigmoid(x), gates=1)
left_alone("hard-sigmoid of Keras 3: its Relu6 is a gate", lambda x: x * keras.activations.hard_sigmoid(x), gates=1)
left_alone(
    "hard-sigmoid spelled with Minimum, Maximum", lambda x: x * tf.maximum(0.0, tf.minimum(1.0, 0.2 * x + 0.5)), gates=1
)
left_alone("LeakyRelu under --activations relu", tf.nn.leaky_relu, activations={"Relu": (1, 1), "LeakyRelu": (1, 0)})
PRELU = {"Relu": (1, 1), "PRelu": (1, 0)}
LEARNT = np.float32([[5, 6, 7, 8, 9, 1, 2, 3], [0.1, 0.3, 0.2, 0.6, 0.5, 0.4, 0.8, 0.7]])


def rows_of(mean, image):
    """The rows of features [N, 3, 3, 8] from where their mean says, between two of them; kept inside."""
    places = tf.clip_by_value(tf.cast(tf.range(3.0), image.dtype) + mean, 0.0, 2.0)
    above = tf.cast(tf.floor(places), tf.int32)
    share = (places - tf.cast(above, image.dtype))[..., None, None]
    above, below = (tf.gather(image, clipped, batch_dims=1) for clipped in (above, tf.clip_by_value(above + 1, 0, 2)))
    return above * (1 - share) + below * share


left_alone(
    "PReLU whose slopes are a row of a matrix",
    lambda x: tf.nn.relu(x) - tf.constant(LEARNT)[1] * tf.nn.relu(-x),
    activations=PRELU,
)
left_alone(
    "PReLU, one half of it channels first",
    lambda x: (
        tf.nn.relu(x) - from_nchw(tf.constant(LEARNT)[1][:, None, None] * tf.nn.relu(tf.transpose(-x, [0, 3, 1, 2])))
    ),
    activations=PRELU,
)
left_alone(
    "a hard sigmoid of means, scaled where it has the shape of what it multiplies",
    lambda x: x * (tf.nn.relu6(8 * tf.reduce_mean(x, [1, 2]) + 3.0)[:, None, None] / 6.0),
    gates=1,
)
left_alone("a warp: its places are kept inside", lambda x: rows_of(tf.reduce_mean(x, [1, 2, 3])[:, None], x))


# f and f' by hand, x and upstream as arrays or tensors
def normal_cdf(x):
    return 0.5 * (1 + tf.math.erf(x / np.sqrt(2)))


def normal_density(x):
    return tf.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


ROOT = np.float32(np.sqrt(2 / np.pi))
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def tanh_gelu(x):
    return 0.5 * x * (1 + tf.tanh(ROOT * (x + 0.044715 * x**3)))


def tanh_gelu_slope(x):
    t = tf.tanh(ROOT * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 3 * 0.044715 * x * x)


def silu_slope(x, beta=1.0):
    s = 1 / (1 + tf.exp(-beta * x))
    return s + beta * x * s * (1 - s)


def mish_slope(x):
    t = tf.tanh(tf.math.log(1 + tf.exp(x)))
    return t + x * (1 - t * t) / (1 + tf.exp(-x))


def obeying(mode: str, function: Callable, slope: Callable) -> Callable:
    """deconv: max(g, 0); guided: max(g, 0) f'(x); backprop: g f'(x)."""

    @tf.custom_gradient
    def activation(x):
        def downstream(upstream):
            positive = tf.where(upstream > 0, upstream, 0)
            return {"backprop": upstream * slope(x), "deconv": positive, "guided": positive * slope(x)}[mode]

        return function(x), downstream

    return activation


def smooth(
    name: str, found: str, function: Callable, slope: Callable, count: int = 2, written: Callable | None = None
) -> None:
    """A row whose activations obey the rule under --activations all."""

    def build(folder):
        held = holding()
        activation = written or function
        save(folder, serving(lambda image: {"scores": small(image, held, activation)}), held)
        score = lambda mode: lambda x: best(small(x, weights(), obeying(mode, function, slope)))
        return plain(score=score, options={**RAW, "activations": "all"}, activations={found: (count, count)})

    row("patch, --activations all", name)(build)


def leaky(x):
    return tf.where(x > 0, x, 0.2 * x)


def leaky_slope(x):
    return tf.where(x > 0, 1.0, 0.2)


smooth("LeakyRelu op", "LeakyRelu", leaky, leaky_slope, written=lambda x: tf.nn.leaky_relu(x, 0.2))
smooth("Maximum(x, 0.2 x)", "LeakyRelu", leaky, leaky_slope, written=lambda x: tf.maximum(x, 0.2 * x))
smooth("Maximum(0.2 x, x)", "LeakyRelu", leaky, leaky_slope, written=lambda x: tf.maximum(x * 0.2, x))
smooth("where(x > 0, x, 0.2 x)", "LeakyRelu", leaky, leaky_slope)
smooth(
    "where(x > 0, x, exp(x) - 1)",
    "Elu",
    tf.nn.elu,
    lambda x: tf.where(x > 0, 1.0, tf.exp(x)),
    written=lambda x: tf.where(x > 0, x, tf.exp(x) - 1),
)
smooth("Relu(x) - 0.2 Relu(-x)", "PRelu", leaky, leaky_slope, written=lambda x: tf.nn.relu(x) - 0.2 * tf.nn.relu(-x))
smooth(
    "Relu(x) + 0.2 (x - |x|) / 2, as ONNX's PRelu is written",
    "PRelu",
    leaky,
    leaky_slope,
    written=lambda x: tf.nn.relu(x) + 0.2 * (x - tf.abs(x)) * 0.5,
)
smooth("Elu", "Elu", tf.nn.elu, lambda x: tf.where(x > 0, 1.0, tf.exp(x)))
smooth(
    "Selu",
    "Selu",
    tf.nn.selu,
    lambda x: SELU_SCALE * tf.where(x > 0, 1.0, SELU_ALPHA * tf.exp(x)),
)
smooth("Softplus", "Softplus", tf.nn.softplus, lambda x: 1 / (1 + tf.exp(-x)))
smooth("SiLU: x sigmoid(x)", "Silu", silu, silu_slope)
smooth("SiLU: tf.nn.silu (custom gradient)", "Silu", silu, silu_slope, written=tf.nn.silu)
smooth("swish: x sigmoid(1.7 x)", "Silu", lambda x: x * tf.sigmoid(1.7 * x), lambda x: silu_slope(x, 1.7))
smooth("SiLU spelled out: x / (1 + exp(-x))", "Silu", silu, silu_slope, written=lambda x: x / (1 + tf.exp(-x)))
smooth(
    "GELU with erf",
    "Gelu",
    lambda x: x * normal_cdf(x),
    lambda x: normal_cdf(x) + x * normal_density(x),
    written=tf.nn.gelu,
)
smooth(
    "GELU with erfc (Keras 3)",
    "Gelu",
    lambda x: x * normal_cdf(x),
    lambda x: normal_cdf(x) + x * normal_density(x),
    written=lambda x: keras.activations.gelu(x, approximate=False),
)
smooth("GELU with tanh", "Gelu", tanh_gelu, tanh_gelu_slope, written=lambda x: tf.nn.gelu(x, approximate=True))
smooth("Mish: x tanh(softplus(x))", "Mish", lambda x: x * tf.tanh(tf.nn.softplus(x)), mish_slope)


@row("patch, --activations all", "PReLU of Keras 3")
def prelu(folder):
    return prelu_of(keras, folder)


@row("patch, --activations all", "PReLU of Keras 2")
def prelu_keras_2(folder):
    return prelu_of(tf_keras, folder)


def prelu_of(k, folder) -> Map:
    layers = [k.layers.PReLU(shared_axes=[1, 2]) for _ in range(2)]
    alphas = np.linspace(-0.3, 0.6, 14, dtype=np.float32)
    alphas = [alphas[:6].reshape(1, 1, 6), alphas[6:].reshape(1, 1, 8)]
    for layer, alpha, side in zip(layers, alphas, (8, 3), strict=True):
        layer.build((None, side, side, alpha.size))
        layer.set_weights([alpha])
    held = holding()
    turns = {6: layers[0], 8: layers[1]}
    compute = lambda image: {"scores": small(image, held, lambda x: turns[x.shape[-1]](x))}
    save(folder, serving(compute), [*held, *(w if k is tf_keras else w.value for l in layers for w in l.weights)])  # noqa: E741

    def score(mode):
        def act(x):
            alpha = alphas[0] if x.shape[-1] == 6 else alphas[1]
            function = lambda x: tf.where(x > 0, x, alpha * x)
            return obeying(mode, function, lambda x: tf.where(x > 0, 1.0, alpha * tf.ones_like(x)))(x)

        return lambda x: best(small(x, weights(), act))

    return plain(score=score, options={**RAW, "activations": "all"}, activations={"PRelu": (2, 2)})


@row("patch, --activations all", "ReLUs and smooth ones together")
def mixed_activations(folder):
    values = weights()

    def network(x, values, relu, other):
        a, p, b, q, top, r = values
        x = relu(tf.nn.conv2d(x, a, 1, "VALID") + p)
        x = other(tf.nn.conv2d(x, b, 2, "VALID") + q)
        return tf.reduce_mean(x, axis=(1, 2)) @ top + r

    held = holding()
    save(folder, serving(lambda image: {"scores": network(image, held, tf.nn.relu, tf.nn.elu)}), held)
    slope = lambda x: tf.where(x > 0, 1.0, tf.exp(x))
    score = lambda mode: lambda x: best(network(x, values, rules(mode).relu, obeying(mode, tf.nn.elu, slope)))
    found = {"Relu": (1, 1), "Elu": (1, 1)}
    return plain(score=score, options={**RAW, "activations": "all"}, activations=found)


def smooth_twice() -> Map:
    """What comes of a loop that goes through one SiLU two times."""

    def score(mode):
        act = obeying(mode, silu, silu_slope)
        return lambda x: best(small(act(act(x * 1.2) * 1.2), weights(), rules(mode).relu))

    found = {"Silu": (1, 1), "Relu": (2, 2)}
    return plain(score=score, options={**RAW, "activations": "all"}, activations=found)


@row("patch, --activations all", "SiLU in the body of a While")
def smooth_in_while(folder):
    held = holding()

    def compute(image):
        x = tf.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, silu(x * 1.2)), [0, image])[1]
        return {"scores": small(x, held)}

    save(folder, serving(compute), held)

    return smooth_twice()


@row("patch, --activations all", "SiLU at the end of the body of a TF1 loop")
def smooth_in_old_loop(folder):
    with old_graph() as session:
        image = old_image()
        x = v1.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, silu(x * 1.2)), [0, image])[1]
        old_save(folder, session, image, small(x, old_variables()))

    return smooth_twice()


@row("patch, --activations all", "an activation straight behind another, and as the score")
def chained_activations(folder):
    def network(x, values, silu, elu):
        x = elu(silu(tf.nn.conv2d(x, values[0], 1, "VALID") + values[1]))
        return elu(tf.nn.conv2d(x, values[2], 2, "VALID") - 0.5)

    held = holding()
    compute = lambda image: {"scores": tf.reduce_sum(network(image, held, silu, tf.nn.elu), (1, 2))}
    save(folder, serving(compute), held)

    def score(mode):
        elu = obeying(mode, tf.nn.elu, lambda x: tf.where(x > 0, 1.0, tf.exp(x)))
        return lambda x: tf.reduce_sum(network(x, weights(), obeying(mode, silu, silu_slope), elu)[..., 2], (1, 2))

    options = {**RAW, "activations": "all", "output": "Elu_1:0[..., 2]"}
    return plain(score=score, options=options, target=2, activations={"Silu": (1, 1), "Elu": (2, 2)})


def only_silu(folder: Path) -> None:
    held = holding()
    save(folder, serving(lambda image: {"scores": small(image, held, silu)}), held)


@row("patch", "only SiLU, guided under --activations relu")
def silu_refused(folder):
    only_silu(folder)
    words = ("2 Silu", "guided", "--activations all", "--mode backprop")
    return Refusal(ModelUnusable, words, RAW, modes=("guided",))


@row("patch", "no activation at all, deconv")
def nothing_to_patch(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": small(image, held, tf.tanh)}), held)
    return Refusal(ModelUnusable, ("no ReLU", "deconv", "--mode backprop"), RAW, modes=("deconv",))


@row("patch", "only SiLU, backprop")
def silu_backprop(folder):
    only_silu(folder)
    score = lambda mode: lambda x: best(small(x, weights(), silu))
    return plain(score=score, modes=("backprop",), activations={"Silu": (2, 0)})


# --- preprocess -------------------------------------------------------------------------------------------------------


def ranged(name: str, before: Callable, expected: str, images: Callable = whole_pixels, warnings=()) -> None:
    """A row whose graph brings pixels into range itself, as `before` does."""

    def build(folder):
        over(IMAGE, before)(folder)
        options = {"preprocess": "auto"}
        facts = {"preprocess": expected}
        return plain(score=truth(before=before), pixels=images(), options=options, facts=facts, warnings=warnings)

    row("preprocess auto", name)(build)


def unit_pixels():
    return whole_pixels() / 255


def signed_pixels():
    return whole_pixels() / 127.5 - 1


def of_signed(x):
    return ((x + 1) / 2 - MEAN / 255) / (DEVIATION / 255)


MEAN, DEVIATION = np.float32([123.68, 116.78, 103.94]), np.float32([58.4, 57.1, 57.4])
ranged("x / 255", lambda x: x / 255, "raw")
ranged("x * (1/255)", lambda x: x * np.float32(1 / 255), "raw")
ranged("x / 127.5 - 1", lambda x: x / 127.5 - 1, "raw")
ranged("(x - 127.5) / 127.5", lambda x: (x - 127.5) / 127.5, "raw")
ranged("(x - mean) / deviation of 0..255", lambda x: (x - MEAN) / DEVIATION, "raw")
ranged("(x - mean) / deviation of 0..1", lambda x: (x - MEAN / 255) / (DEVIATION / 255), "unit", unit_pixels)
ranged("2 x - 1 of 0..1", lambda x: x * 2 - 1, "unit", unit_pixels)
ranged("mean subtracted from reversed channels (caffe)", lambda x: x[..., ::-1] - MEAN[::-1], "raw")
ranged(
    "mean subtracted from split channels (caffe)",
    lambda x: tf.concat([x[..., 2:] - MEAN[2], x[..., 1:2] - MEAN[1], x[..., :1] - MEAN[0]], -1),
    "raw",
)
ranged("(x + 1) / 2, then (x - mean) / deviation: -1..1", of_signed, "signed", signed_pixels)
ranged("x / 3: a rescaling that says nothing", lambda x: x / 3, "unit", unit_pixels, ("--preprocess",))
ranged("x / 255 of split channels", lambda x: tf.stack([x[..., i] / 255 for i in range(3)], -1), "raw")
ranged("nothing: 0..1 and one warning", tf.identity, "unit", unit_pixels, ("--preprocess",))
ranged("nothing but a resize", lambda x: tf.image.resize(x, (SIDE, SIDE)), "unit", unit_pixels, ("--preprocess",))


def layered(name: str, layers: Callable, by_hand: Callable) -> None:
    """A row whose Keras layers bring 0..255 into range."""

    def build(folder):
        first, rest = layers(), stack(keras)
        randomise(rest)
        keras.Sequential([keras.layers.Input(SHAPE), *first, *rest.layers]).export(str(folder), verbose=False)
        score = lambda mode: lambda x: best(rebuild(rest, mode)(by_hand(x)))
        facts = {"preprocess": "raw"}
        return plain(score=score, pixels=whole_pixels(), options={"preprocess": "auto"}, facts=facts)

    row("preprocess auto", name)(build)


layered("Keras Rescaling(1/255)", lambda: [keras.layers.Rescaling(1 / 255)], lambda x: x / 255)
layered("Keras Rescaling(1/127.5, -1)", lambda: [keras.layers.Rescaling(1 / 127.5, -1)], lambda x: x / 127.5 - 1)
layered(
    "Keras Normalization",
    lambda: [keras.layers.Normalization(mean=MEAN, variance=DEVIATION**2)],
    lambda x: (x - MEAN) / DEVIATION,
)
layered(
    "Keras Rescaling, then Normalization",
    lambda: [
        keras.layers.Rescaling(1 / 255),
        keras.layers.Normalization(mean=MEAN / 255, variance=(DEVIATION / 255) ** 2),
    ],
    lambda x: (x - MEAN) / DEVIATION,
)


# --- oneDNN -----------------------------------------------------------------------------------------------------------

# (side, input channels, output channels, stride down, stride across) of 1x1 convolutions that bring the process down
# when oneDNN computes the gradient of their input.
POINTS = [
    (112, 12, 24, 2, 2),
    (64, 15, 128, 2, 2),
    (56, 8, 16, 2, 2),
    (64, 9, 32, 1, 2),
    (28, 4, 64, 2, 1),
    *[(17 + 5 * i, 1 + i % 15, 8 + 7 * i, 2 + i % 2, 2 + i % 3) for i in range(15)],
]


def strided_points(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """A model with one signature for each of POINTS; writes their images beside it, returns name -> mode -> gradient.

    The gradients are in NumPy and float64: a sum over channels at every s-th pixel.
    """
    draw = np.random.default_rng(11)
    functions, truths, held = {}, {}, []
    for number, (side, channels, out, down, across) in enumerate(POINTS):
        name = f"points{number}"
        first = draw.normal(size=(1, 1, 3, channels)).astype(np.float32)
        kernel = draw.normal(0, 1 / np.sqrt(channels), (1, 1, channels, out)).astype(np.float32)
        top = draw.normal(size=(out, CLASSES)).astype(np.float32)
        held += [tf.Variable(first), tf.Variable(kernel), tf.Variable(top)]
        functions[name] = strided_network(*held[-3:], side, down, across)
        images = pixels((side, side, 3), seed=number)
        truths[name] = {
            mode: strided_gradient(images, first, kernel, top, down, across, mode) for mode in ("backprop", "guided")
        }
        (folder).mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", images)
    save(folder, None, held, **functions)
    return truths


def strided_network(first, kernel, top, side: int, down: int, across: int):
    def compute(image):
        x = tf.nn.relu(tf.nn.conv2d(tf.nn.conv2d(image, first, 1, "SAME"), kernel, (down, across), "SAME"))
        return {"scores": tf.reduce_mean(x, (1, 2)) @ top}

    return serving(compute, tf.TensorSpec([None, side, side, 3], name="image"))


def strided_gradient(images, first, kernel, top, down: int, across: int, mode: str) -> np.ndarray:
    images, first, kernel, top = (np.asarray(part, np.float64) for part in (images, first[0, 0], kernel[0, 0], top))
    before = images[:, ::down, ::across] @ first @ kernel
    positions = before.shape[1] * before.shape[2]
    scores = np.maximum(before, 0).mean((1, 2)) @ top
    upstream = top[:, scores.argmax(1)].T[:, None, None, :] / positions
    if mode == "guided":
        upstream = np.maximum(upstream, 0)
    gradients = np.zeros_like(images)
    gradients[:, ::down, ::across] = ((before > 0) * upstream) @ kernel.T @ first.T
    return gradients
