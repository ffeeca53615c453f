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


def save(folder: Path, function, module: tf.Module | None = None, **signatures) -> None:
    """A TensorFlow 2 SavedModel with `function` as serving_default (None: only those named)."""
    module = module or tf.Module()
    module.functions = [function, *signatures.values()]  # keeps what they capture alive
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
    with old_graph() as session:
        image = old_image()
        partitioner = v1.fixed_size_partitioner(3)
        a, p, *rest = weights()
        kernel = v1.get_variable(
            "kernel", a.shape, initializer=v1.constant_initializer(a), partitioner=partitioner, use_resource=False
        )
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
    save(folder, serving(lambda image: {"scores": tf.nn.softmax(small(image, held))}))


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
    assert not list((folder / "variables").glob("*.data*")) or (folder / "saved_model.pb").stat().st_size > 77_000
    score = lambda mode: lambda x: best(logits(x, [*values, wide, narrow], rules(mode).relu))  # noqa: E731
    return plain(score=score, activations={"Relu": (3, 3)})


def broken(folder: Path, part: str, damage: Callable[[Path], None]) -> Refusal:
    """A model whose file `variables/variables` + part is damaged."""
    small_model(folder)
    damage(folder / "variables" / f"variables{part}")
    return Refusal(ModelUnusable, (str(folder / "variables"), part))


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
    shutil.rmtree(folder / "variables")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=kept,
        shape_and_slices=[""] * len(kept),
        tensors=[tf.constant(reader.get_tensor(key)) for key in kept],
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
