"""Small transformers of 24 x 32 pixels in 3 x 4 patches, in the ways in which models spell attention, and eagerly in float64.

One definition serves both: `scores(weights, images, form)` gives the scores and the attention of each layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

HEIGHT, WIDTH, PATCH, GRID = 24, 32, 8, (3, 4)
DEPTH, HEADS, LAYERS, CLASSES = 12, 3, 3, 4


@dataclass(frozen=True)
class Form:
    """How a transformer is spelled.

    Attributes
    ----------
    beside : int
        Tokens that are no patches; the score reads the mean of those, or with 0 the mean of the patches.
    last : bool
        They stand behind the patches.
    attention : str
        `matmul` (heads as an axis), `einsum` (as keras.layers.MultiHeadAttention), `merged` (heads in the batch),
        `spelled` (the softmax written out), `heads last` (what is attended to is the second axis), `upright` (each column
        holds weights), `apart` (a tensor for each head), `shared` (heads share keys and values), `places` (height and width
        as axes of their own), `points` (convolutions of one dimension make queries, keys and values), `windows` (each row of
        patches by itself, as in Swin), `channels` (of channels to each other, as XCiT), `sigmoid`.
    cut : str
        `conv`, `first` (a convolution of channels first, turned), `reshape`, `extract` or `depth` (space to depth).
    columns : bool
        Tokens run down the columns.
    between : str
        What mixes tokens behind the first layer besides: `dense` (as MLP-Mixer), `order` (they change their places) or none.
    norm : str
        `token`, or `all`: over tokens and channels together.
    odd : int
        The one layer that has its attention spelled like this, the others as `matmul`; -1 for all.
    window : int
        A convolution of so many patches behind the first layer.
    read : str
        `beside`, `all` or `patches`: the tokens whose mean is the score's.
    """

    beside: int = 1
    last: bool = False
    attention: str = "matmul"
    cut: str = "conv"
    columns: bool = False
    window: int = 0
    read: str = "beside"
    between: str = ""
    norm: str = "token"
    odd: int = -1


FORMS = {
    "class token": Form(),
    "mean of patches": Form(beside=0, read="all"),
    "class and teacher": Form(beside=2),
    "class token that is not read": Form(read="patches"),
    "class token at the end": Form(last=True),
    "registers": Form(beside=5),
    "einsum": Form(attention="einsum", cut="extract"),
    "heads in the batch": Form(attention="merged", cut="reshape"),
    "convolution of points": Form(beside=0, read="all", window=1),
    "softmax written out": Form(attention="spelled", beside=0, read="all"),
    "heads last": Form(attention="heads last"),
    "heads last in one layer": Form(attention="heads last", odd=1),
    "columns of weights": Form(attention="upright", cut="depth"),
    "a tensor for each head": Form(attention="apart"),
    "keys of all heads": Form(attention="shared", beside=2),
    "places as axes": Form(attention="places", beside=0, read="all"),
    "points along a row": Form(attention="points", beside=0, read="all"),
    "norm over all": Form(norm="all", beside=0, read="all"),
}


def weights(form: Form, seed: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def draw(*shape: int, size: float = 1.0) -> np.ndarray:
        return (random.normal(size=shape) * size / np.sqrt(shape[0])).astype(np.float32)

    patches = GRID[0] * GRID[1]
    found = {"cut": draw(PATCH * PATCH * 3, DEPTH, size=2), "head": draw(DEPTH, CLASSES)}
    found["place"] = (random.normal(size=(1, patches + form.beside, DEPTH)) * 0.3).astype(np.float32)
    found["beside"] = random.normal(size=(1, form.beside, DEPTH)).astype(np.float32)
    for layer in range(LAYERS):
        for name in "qkvo":
            found[f"{name}{layer}"] = draw(DEPTH, DEPTH, size=2 if name in "qk" else 1)
        found[f"u{layer}"], found[f"w{layer}"] = draw(DEPTH, 2 * DEPTH), draw(2 * DEPTH, DEPTH)
    return found


def scores(held: dict, images: tf.Tensor, form: Form) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """[n, k], and [n, heads, t, t] of each layer (as it is multiplied: of merged heads [n heads, t, t])."""
    count = tf.shape(images)[0]
    tokens = _cut(held["cut"], images, form, count)
    if form.beside:
        more = tf.repeat(held["beside"], count, axis=0)
        tokens = tf.concat([tokens, more] if form.last else [more, tokens], 1)
    tokens += held["place"]
    found = []
    for layer in range(LAYERS):
        one = {name: held[f"{name}{layer}"] for name in "qkvouw"}
        spelled = form if form.odd in (-1, layer) else Form()
        mixed, attention = _attended(_normal(tokens, form), one, spelled, count)
        tokens += mixed
        tokens += tf.nn.gelu(_normal(tokens, form) @ one["u"]) @ one["w"]
        found.append(attention)
        if form.between and not layer:
            tokens = _mixed(tokens, form.between)
        if form.window and not layer:
            kernel = np.random.default_rng(6).normal(0, 0.3, (form.window, form.window, DEPTH, DEPTH))
            kernel = kernel.astype(np.float32).astype(tokens.dtype.as_numpy_dtype)
            tokens = tf.nn.conv2d(tf.reshape(tokens, [count, *GRID, DEPTH]), kernel, 1, "SAME")
            tokens = tf.reshape(tokens, [count, GRID[0] * GRID[1], DEPTH])
    tokens = _normal(tokens, form)
    start = GRID[0] * GRID[1] if form.last else 0
    read = {
        "beside": tokens[:, start : start + min(form.beside, 2)],
        "all": tokens,
        "patches": tokens[:, form.beside :],
    }[form.read]
    return tf.reduce_mean(read, 1) @ held["head"], found


def _cut(kernel, images, form: Form, count):
    height, width = GRID
    if form.cut == "reshape":
        parts = tf.reshape(images, [count, height, PATCH, width, PATCH, 3])
        parts = tf.reshape(tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [count, height, width, -1])
    elif form.cut == "extract":
        sizes = [1, PATCH, PATCH, 1]
        parts = tf.image.extract_patches(images, sizes, sizes, [1] * 4, "VALID")
    elif form.cut == "depth":
        parts = tf.nn.space_to_depth(images, PATCH)
    else:
        kernel = tf.reshape(kernel, [PATCH, PATCH, 3, -1])
        parts = tf.nn.conv2d(images, kernel, PATCH, "VALID")
    if form.columns:
        parts = tf.transpose(parts, [0, 2, 1, 3])
    tokens = tf.reshape(parts, [count, height * width, -1])
    return tokens if form.cut == "conv" else tokens @ kernel


def _normal(tokens, form: Form):
    mean, variance = tf.nn.moments(tokens, [1, 2] if form.norm == "all" else -1, keepdims=True)
    return (tokens - mean) * tf.math.rsqrt(variance + 1e-6)


def _mixed(tokens, between: str):
    order = np.random.default_rng(9).permutation(tokens.shape[1])
    if between == "order":
        return tf.gather(tokens, order, axis=1)
    kernel = np.random.default_rng(9).normal(0, 0.3, (tokens.shape[1],) * 2).astype(tokens.dtype.as_numpy_dtype)
    return tokens + tf.einsum("btc,ts->bsc", tokens, kernel)


def _attended(tokens, one: dict, form: Form, count):
    size, length = DEPTH // HEADS, tokens.shape[1]
    scale = tf.cast(size**-0.5, tokens.dtype)
    if form.attention == "windows":
        rows = tf.reshape(tokens, [-1, GRID[1], DEPTH])
        mixed, attention = _attended(rows, one, Form(), tf.shape(rows)[0])
        return tf.reshape(mixed, [count, length, DEPTH]), attention
    if form.attention == "einsum":
        q, k, v = (tf.einsum("btc,chd->bthd", tokens, tf.reshape(one[name], [DEPTH, HEADS, size])) for name in "qkv")
        attention = tf.nn.softmax(tf.einsum("bthd,bshd->bhts", q * scale, k))
        mixed = tf.einsum("bhts,bshd->bthd", attention, v)
        return tf.einsum("bthd,hdc->btc", mixed, tf.reshape(one["o"], [HEADS, size, DEPTH])), attention

    if form.attention in SPELLED:
        return SPELLED[form.attention](tokens, one, scale, count)

    def heads(name: str):
        return tf.transpose(tf.reshape(tokens @ one[name], [count, -1, HEADS, size]), [0, 2, 1, 3])

    q, k, v = map(heads, "qkv")
    if form.attention == "merged":
        q, k, v = (tf.reshape(each, [-1, length, size]) for each in (q, k, v))
    raw = tf.matmul(q * scale, k, transpose_b=True)
    if form.attention == "spelled":
        powers = tf.exp(raw - tf.reduce_max(raw, -1, keepdims=True))
        attention = powers / tf.reduce_sum(powers, -1, keepdims=True)
    else:
        attention = tf.nn.softmax(raw)
    mixed = tf.reshape(tf.matmul(attention, v), [count, HEADS, -1, size])
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [count, -1, DEPTH]) @ one["o"], attention


def _in_heads(tokens, one: dict, shape=(HEADS, DEPTH // HEADS), names="qkv"):
    return [tf.reshape(tokens @ one[name], [-1, tokens.shape[1], *shape]) for name in names]


def _given(mixed, one: dict, count):
    return tf.reshape(mixed, [count, -1, DEPTH]) @ one["o"]


def _heads_last(tokens, one: dict, scale, count):
    q, k, v = _in_heads(tokens, one)
    attention = tf.nn.softmax(tf.einsum("bqhd,bkhd->bkqh", q * scale, k), axis=1)
    return _given(tf.einsum("bkqh,bkhd->bqhd", attention, v), one, count), attention


def _upright(tokens, one: dict, scale, count):
    q, k, v = (tf.transpose(each, [0, 2, 1, 3]) for each in _in_heads(tokens, one))
    attention = tf.nn.softmax(tf.matmul(k, q * scale, transpose_b=True), axis=-2)
    return _given(tf.transpose(tf.matmul(attention, v, transpose_a=True), [0, 2, 1, 3]), one, count), attention


def _apart(tokens, one: dict, scale, count):
    several = [tf.unstack(each, axis=2) for each in _in_heads(tokens, one)]
    found = [(tf.nn.softmax(tf.matmul(q * scale, k, transpose_b=True)), v) for q, k, v in zip(*several, strict=True)]
    return _given(tf.concat([each @ v for each, v in found], -1), one, count), [each for each, _ in found]


def _shared(tokens, one: dict, scale, count):
    (q,), size = _in_heads(tokens, one, names="q"), DEPTH // HEADS
    k, v = (tokens @ one[name][:, :size] for name in "kv")
    attention = tf.nn.softmax(tf.einsum("bqhd,bkd->bhqk", q * scale, k))
    return _given(tf.einsum("bhqk,bkd->bqhd", attention, v), one, count), attention


def _places(tokens, one: dict, scale, count):
    q, k, v = (tf.reshape(each, [-1, *GRID, HEADS, DEPTH // HEADS]) for each in _in_heads(tokens, one))
    raw = tf.einsum("bijhd,bklhd->bhijkl", q * scale, k)
    powers = tf.exp(raw - tf.reduce_max(raw, [-2, -1], keepdims=True))
    attention = powers / tf.reduce_sum(powers, [-2, -1], keepdims=True)
    return _given(tf.einsum("bhijkl,bklhd->bijhd", attention, v), one, count), attention


def _points(tokens, one: dict, scale, count):
    row = tokens[:, None]
    made = {name: tf.nn.conv2d(row, one[name][None, None], 1, "SAME") for name in "qkv"}
    q, k, v = (tf.reshape(each, [-1, tokens.shape[1], HEADS, DEPTH // HEADS]) for each in made.values())
    attention = tf.nn.softmax(tf.einsum("bqhd,bkhd->bhqk", q * scale, k))
    return _given(tf.einsum("bhqk,bkhd->bqhd", attention, v), one, count), attention


def _channels(tokens, one: dict, scale, count):
    q, k, v = (tf.transpose(each, [0, 2, 1]) for each in _in_heads(tokens, one, (DEPTH,)))
    attention = tf.nn.softmax(tf.matmul(q * scale, k, transpose_b=True))
    return _given(tf.transpose(attention @ v, [0, 2, 1]), one, count), attention


def _sigmoid(tokens, one: dict, scale, count):
    q, k, v = _in_heads(tokens, one)
    attention = tf.sigmoid(tf.einsum("bqhd,bkhd->bhqk", q * scale, k))
    return _given(tf.einsum("bhqk,bkhd->bqhd", attention, v), one, count), attention


SPELLED = {
    "heads last": _heads_last,
    "upright": _upright,
    "apart": _apart,
    "shared": _shared,
    "places": _places,
    "points": _points,
    "channels": _channels,
    "sigmoid": _sigmoid,
}
# The axes of heads, of what attends and of what is attended to, where they are not the last ones in this order.
TURNS = {"heads last": (0, 3, 2, 1), "upright": (0, 1, 3, 2)}


def write(folder: Path, form: Form) -> Path:
    """As a SavedModel that takes 0..1."""
    module = tf.Module()
    module.held = held = {name: tf.Variable(value) for name, value in weights(form).items()}

    @tf.function(input_signature=[tf.TensorSpec([None, HEIGHT, WIDTH, 3], name="image")])
    def serve(image):
        return {"probabilities": tf.nn.softmax(scores(held, image, form)[0])}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def exact(image: np.ndarray, target: int, form: Form) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Attention and gradient [heads, t, t] of each layer, of one image, by an eager tape in float64."""
    held = {name: tf.constant(value, tf.float64) for name, value in weights(form).items()}
    with tf.GradientTape() as tape:
        given = tf.constant(image[None], tf.float64)
        tape.watch(given)
        found, attention = scores(held, given, form)
        score = found[0, target]
    gradients = tape.gradient(score, attention)
    return tuple([_laid(each, form, at) for at, each in enumerate(several)] for several in (attention, gradients))


def _laid(found, form: Form, layer: int) -> np.ndarray:
    """[heads, t, t]"""
    size = GRID[0] * GRID[1] + form.beside
    value = np.concatenate([each.numpy() for each in found]) if isinstance(found, list) else found.numpy()
    turn = TURNS.get(form.attention) if form.odd in (-1, layer) else None
    return (np.transpose(value, turn) if turn else value).reshape(-1, size, size)
