"""SavedModels as they are found in the wild, one builder a property, each with its own truth.

A builder writes one folder and says what must come of it: a `Map` (the attribution, from an eager tape over the same
mathematics with the reference's ReLUs) or a `Refusal` (the exception, and the words that its message must hold). The
graphs differ in how they were written; nearly all of them compute `small`, so the truth is the same few lines.
"""

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
from reference import Relus, rebuild, rules
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.errors import GradvizError, ModelUnusable, UsageError

v1 = tf.compat.v1
SIDE = 10
CLASSES = 5
SHAPE = (SIDE, SIDE, 3)
IMAGE = tf.TensorSpec([None, *SHAPE], name="image")

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

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


ROWS: list[Row] = []


def row(group: str, name: str):
    """Registers a builder as a line of the table."""

    def register(build):
        ROWS.append(Row(group, name, build))
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


def old_save(folder: Path, session, image, output, tags=("serve",), key: str = "serving_default", builder=None) -> None:
    """As `SavedModelBuilder` does."""
    builder = builder or v1.saved_model.Builder(str(folder))
    signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": output})
    builder.add_meta_graph_and_variables(session, list(tags), {key: signature})
    builder.save()


def old_image(dtype=tf.float32):
    return v1.placeholder(dtype, [None, *SHAPE], "image")


# --- read: TensorFlow 1 -----------------------------------------------------------------------------------------------


@row("read", "TF1 builder, VariableV2 reference variables")
def tf1_reference_variables(folder):
    with old_graph() as session:
        image = old_image()
        output = tf.nn.softmax(small(image, old_variables()))
        session.run(v1.global_variables_initializer())
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
        session.run(v1.global_variables_initializer())
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
        session.run(v1.global_variables_initializer())
        old_save(folder, session, image, output)
    return plain()


def branching(relu: Callable, chosen) -> Callable:
    """relu(x + 0.2) when the mean of the batch is above a tenth, -relu(0.3 - x) otherwise."""
    return lambda x: chosen(
        tf.reduce_mean(x) > -0.1, lambda: relu(x + 0.2), lambda: -relu(0.3 - x)
    )


@row("read", "TF1 cond (Switch/Merge) on data, a ReLU in each branch")
def tf1_cond_on_data(folder):
    with old_graph() as session:
        image = old_image()
        output = small(branching(tf.nn.relu, v1.cond)(image), old_variables())
        session.run(v1.global_variables_initializer())
        old_save(folder, session, image, output)
    return plain(score=branched, activations={"Relu": (4, 4)})


def branched(mode: str) -> Score:
    relu = rules(mode).relu
    return lambda x: best(small(branching(relu, tf.cond)(x), weights(), relu))


@row("read", "TF1 while loop (Enter/Exit) with a ReLU in its body")
def tf1_while_loop(folder):
    with old_graph() as session:
        image = old_image()
        x = v1.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.nn.relu(x * 1.2 - 0.1)), [0, image])[1]
        output = small(x, old_variables())
        session.run(v1.global_variables_initializer())
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
        session.run(v1.global_variables_initializer())
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
        update = averages.apply(values)
        shadows = [averages.average(value) for value in values]
        output = small(normalised(image, v1.nn.fused_batch_norm), shadows)
        session.run(v1.global_variables_initializer())
        session.run([value.assign(value * 0) for value in values])  # the averages still hold the weights
        del update
        old_save(folder, session, image, output)
    by_hand = lambda x: (x - mean) / tf.sqrt(variance + 1e-3) * scale + offset  # noqa: E731
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
    first = lambda mode: lambda x: best(small(rules(mode).relu(x), weights(), rules(mode).relu))  # noqa: E731
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
    score = lambda mode: lambda x: best(logits(x, [*values, wide, narrow], rules(mode).relu))  # noqa: E731
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
    text = tf.function(lambda words: {"length": tf.strings.length(words)}, input_signature=[tf.TensorSpec([None], tf.string)])
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
    score = lambda mode: lambda x: best(small(rules(mode).relu(x), weights(), rules(mode).relu))  # noqa: E731
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
    return Refusal(ModelUnusable, ("examples", "not decoded as an image", "--input"), allowed)


@row("read", "only tf.Example strings, --input names the tensor behind the parser")
def tf_example_inside(folder):
    held = holding()
    save(folder, examples(held), held)
    return plain(options={**RAW, "input": "parsed:0"})


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
    save(folder, serving(lambda image: {"scores": small(branching(tf.nn.relu, tf.cond)(image), held)}), held)
    return plain(score=branched, activations={"Relu": (4, 4)})


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
    return tf.switch_case(tf.cast(tf.reduce_mean(x) > -9, tf.int32) * 2, cases)


@row("read", "tf.switch_case (Case) on data, a ReLU in each branch")
def functional_case(folder):
    held = holding()
    save(folder, serving(lambda image: {"scores": small(switching(tf.nn.relu, image), held)}), held)

    def score(mode):
        return lambda x: best(small(switching(rules(mode).relu, x), weights(), rules(mode).relu))

    return plain(score=score, activations={"Relu": (5, 5)})


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
        noisy = image + 0.0 * tf.random.normal(tf.shape(image))
        return {"scores": small(noisy, held)}

    save(folder, serving(compute), held)
    return plain()


# --- read: number formats ---------------------------------------------------------------------------------------------


@row("read", "float16 weights, cast where they are used")
def stored_half(folder):
    values = [value.astype(np.float16) for value in weights()]
    held = holding(values)
    compute = lambda image: {"scores": small(image, [tf.cast(v, tf.float32) for v in held])}  # noqa: E731
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
        compute = lambda image: {"scores": tf.cast(small(tf.cast(image, dtype), held), tf.float32)}  # noqa: E731
        save(folder, serving(compute), held)
        return plain(score=truth(rounded(weights(), dtype)))

    return build


row("read", "computed in float16")(low_precision(tf.float16))
row("read", "computed in bfloat16")(low_precision(tf.bfloat16))
row("read", "computed in float64")(low_precision(tf.float64))


@row("read", "float16 input, a gradient of 1e-7 that float16 would lose")
def half_input(folder):
    held = [tf.Variable(tf.cast(value, tf.float16)) for value in weights()]
    compute = lambda image: {"scores": small(image * np.float16(1e-3), held) * np.float16(1e-4)}  # noqa: E731
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
        compute = lambda image: {"scores": gray_net(image, held)}  # noqa: E731
        save(folder, serving(compute, tf.TensorSpec(spec, name="image")), held)
        score = lambda mode: lambda x: best(gray_net(x, weights(1), rules(mode).relu))  # noqa: E731
        return plain(score=score, pixels=pixels((28, 28, 1)))

    return build


row("input", "[N, 28, 28] without a channel axis")(gray([None, 28, 28]))
row("input", "flat [N, 784]")(gray([None, 784]))


@row("input", "flat [N, 3072]")
def flat_colour(folder):
    over(tf.TensorSpec([None, 3072], name="image"), lambda x: tf.reshape(x, [-1, 32, 32, 3]))(folder)
    return plain(pixels=pixels((32, 32, 3)))


@row("input", "flat [N, 360], a rectangle that --input-size names")
def flat_rectangle(folder):
    over(tf.TensorSpec([None, 360], name="image"), lambda x: tf.reshape(x, [-1, 10, 12, 3]))(folder)
    return plain(pixels=pixels((10, 12, 3)), options={**RAW, "input_size": (10, 12)})


@row("input", "flat [N, 100] that is no square of three channels")
def flat_strange(folder):
    over(tf.TensorSpec([None, 101], name="image"), lambda x: tf.reshape(tf.tile(x[:, :75], (1, 4)), [-1, 10, 10, 3]))(folder)
    return Refusal(ModelUnusable, ("101 numbers", "--input-size"), RAW)


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
    before = lambda x: tf.image.convert_image_dtype(x, tf.float32) * 4 - 2  # noqa: E731
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), before)(folder)
    return plain(score=truth(before=lambda x: x / 255 * 4 - 2), pixels=whole_pixels(), options=WHOLE)


@row("input", "uint8 resized in the graph before anything else")
def uint8_resized(folder):
    resize = lambda x: tf.image.resize(x, (SIDE, SIDE))  # noqa: E731
    over(tf.TensorSpec([None, 14, 14, 3], tf.uint8, "image"), lambda x: resize(x) / 64 - 2)(folder)
    score = truth(before=lambda x: resize(x) / 64 - 2)
    return plain(score=score, pixels=whole_pixels((14, 14, 3)), options=WHOLE)


@row("input", "uint8 cast twice, for two branches")
def uint8_two_casts(folder):
    twice = lambda x: centred(x) + tf.cast(x, tf.float32) / 255  # noqa: E731
    over(tf.TensorSpec([None, *SHAPE], tf.uint8, "image"), twice)(folder)
    return plain(score=truth(before=twice), pixels=whole_pixels(), options=WHOLE)


@row("input", "int32")
def int32_input(folder):
    over(tf.TensorSpec([None, *SHAPE], tf.int32, "image"), centred)(folder)
    return plain(score=truth(before=centred), pixels=whole_pixels(), options=WHOLE)


def decoding(decode: Callable, spec=tf.TensorSpec([None], tf.string, "image_bytes")) -> Callable[[Path], None]:
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
        decode = lambda text: as_float(tf.io.decode_jpeg(text, channels=3))  # noqa: E731
        image = tf.reshape(tf.map_fn(decode, text, dtype=tf.float32), [-1, *SHAPE])
        output = small(image / 64 - 2, old_variables())
        session.run(v1.global_variables_initializer())
        old_save(folder, session, text, output)
    return encoded()


@row("input", "TF1 uint8, each image resized by tf.map_fn (Enter/Exit, TensorArray)")
def tf1_map_fn(folder):
    resize = lambda x: tf.image.resize(x[None], (SIDE, SIDE))[0]  # noqa: E731
    with old_graph() as session:
        image = v1.placeholder(tf.uint8, [None, 14, 14, 3], "image")
        resized = tf.map_fn(resize, tf.cast(image, tf.float32))
        output = small(tf.reshape(resized, [-1, *SHAPE]) / 64 - 2, old_variables())
        session.run(v1.global_variables_initializer())
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
        size = lambda x: tf.sqrt(tf.reduce_sum(x * x, axis=(1, 2, 3), keepdims=True))  # noqa: E731
        return lambda x: best(small(relu(x / size(x) * 17), weights(), relu))

    return plain(score=score, activations={"Relu": (3, 3)})


def siamese(folder: Path) -> None:
    held = holding()
    spec = [tf.TensorSpec([None, *SHAPE], name=name) for name in ("left", "right")]
    save(folder, serving(lambda left, right: {"scores": small(left, held) * (1 + small(right, held) ** 2)}, *spec), held)


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


@row("input", "two images, the other given with --feed")
def siamese_fed(folder):
    siamese(folder)
    return plain(score=siamese_score(0.5), options={**RAW, "input": "left", "feeds": (("right", "0.5"),)})


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
        session.run(v1.global_variables_initializer())
        old_save(folder, session, image, output)


@row("input", "TF1 placeholder outside the signature")
def stray_placeholder(folder):
    keep_prob(folder)
    return Refusal(ModelUnusable, ("keep_prob", "--feed keep_prob="), RAW)


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
    save(folder, serving(lambda image: {"scores": small(image[None], held)[0]}, tf.TensorSpec(SHAPE, name="image")), held)
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
