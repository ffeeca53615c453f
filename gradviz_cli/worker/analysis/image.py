"""How the image enters a graph, and what stands beside it: the first float tensor, the pixel range, the other inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import GIVEN, ModelOptions
from gradviz_cli.worker.analysis import entry as entries
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.preprocess import recognised_range
from gradviz_cli.worker.graph.graph import Graph, attribute, consumers, split
from gradviz_cli.worker.graph.question import Question, Tensor, describe, names, static_tensors

# These read a PNG, whatever their name says; the other decoders read one format alone.
DECODERS = frozenset({"DecodeJpeg", "DecodePng", "DecodeImage"})
RECORDS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})


def first_numbers(graph: Graph, question: Question) -> str:
    """The first float tensor that the image becomes.

    Raises
    ------
    ModelUnusable
        The image splits into several before it is a float: no single tensor stands for it.
    """
    fed = question.fed(graph)
    image = split(fed)[0]
    if tf.dtypes.as_dtype(attribute(graph.nodes[image], "dtype").type).is_floating:
        return fed
    path = question.path(graph)
    readers = consumers(graph.nodes)
    behind = sorted(path - {image})
    statics = dict(zip(behind, static_tensors(graph, *[f"{name}:0" for name in behind]), strict=True))
    todo = list(readers.get(image, ()))
    seen: set[str] = set()
    first: list[str] = []
    while todo:
        name = todo.pop()
        if name in seen or name not in path:
            continue
        seen.add(name)
        tensor = statics[name]
        picture = tensor.shape.rank is None or tensor.shape.rank >= 3 or question.image.dtype != tf.string
        if tensor.dtype.is_floating and picture:
            first.append(name)
        else:
            todo.extend(readers.get(name, ()))
    if len(first) != 1:
        raise ModelUnusable(
            f"the {question.image.dtype.name} input {question.image.key} becomes {len(first) or 'no'} float tensors"
            f"{': ' + ', '.join(sorted(first)[:4]) if first else ''}",
            "name one of them with --input NAME" if first else "explain another input with --input NAME",
        )
    return f"{first[0]}:0"


def find_entry(graph: Graph, question: Question, options: ModelOptions) -> tuple[Entry, str | None]:
    """How pictures enter, and a warning where something was assumed."""
    image = question.image
    if image.dtype.is_integer and image.dtype.max < 255:
        raise ModelUnusable(
            f"the input {image.key} takes {image.dtype.name}, which does not hold the pixels 0..255",
            "name the float tensor behind it with --input NAME",
        )
    if image.dtype != tf.string:
        place, warning = entries.find(image.key, image.shape, options.layout, options.input_size)
        return replace(place, whole=image.dtype.is_integer), warning
    ops = set(graph.pruned([graph.wrt]).ops())
    _check_images(image.key, ops)
    (decoded,) = static_tensors(graph, graph.wrt)
    height, width, channels = _last_three(decoded.shape)
    size, warning = options.input_size or (height, width), None
    if min(size) < 1:
        size = entries.USUAL_SIZE
        warning = f"the model decodes images of any size, {size[0]}x{size[1]} is taken; settle it with --input-size HxW"
    encoding = "base64" if "DecodeBase64" in ops else "bytes"
    channels = channels if channels in (1, 3) else 3
    if image.shape == ():
        return Entry("HWC", size, channels, 1, encoding), warning
    batch = image.shape[0] if image.shape and image.shape[0] > 0 else None
    return Entry("NHWC", size, channels, batch, encoding), warning


def _last_three(shape: tf.TensorShape) -> tuple[int, int, int]:
    """Height, width and channels of a picture, -1 where open."""
    sizes = [] if shape.rank is None else shape.as_list()[-3:]
    if len(sizes) != 3:
        return -1, -1, -1
    height, width, channels = (-1 if size is None else int(size) for size in sizes)
    return height, width, channels


def _check_images(key: str, ops: set[str]) -> None:
    """A string input must be an encoded image, not a record or a text that the graph takes apart."""
    remedy = "choose another --signature, or name the image behind it with --input NAME"
    if ops & RECORDS:
        raise ModelUnusable(f"the string input {key} takes tf.Example records", remedy)
    if not ops & DECODERS:
        raise ModelUnusable(f"the string input {key} is not decoded as an image in the graph", remedy)


def find_preprocess(
    graph: Graph,
    question: Question,
    options: ModelOptions,
    entry: Entry,
    constants: Mapping[str, np.ndarray] | None = None,
) -> tuple[str, str | None]:
    """The pixel range that the model expects, and a warning where it had to be assumed."""
    image = question.image
    whole = image.dtype.is_integer or image.dtype == tf.string
    if options.pixel_range:
        if whole and (options.pixel_range != (0, 255) or options.mean or options.std):
            raise UsageError(
                f"--pixel-range, --mean, --std: the input {image.key} takes {image.dtype.name}",
                "leave them out: it gets 0..255",
            )
        return GIVEN, None
    if options.preprocess != "auto":
        if whole and options.preprocess != "raw":
            raise UsageError(
                f"--preprocess {options.preprocess}: the input {image.key} takes {image.dtype.name}",
                "leave the option out, or give raw",
            )
        return options.preprocess, None
    if whole:
        return "raw", None
    recognised = recognised_range(graph, question, entry, constants)
    if recognised:
        return recognised, None
    option = "--pixel-range LOW,HIGH" if options.channel_order else "--preprocess"
    return "unit", (
        f"the model does not say which pixel range it expects, 0..1 is taken; settle it with {option} "
        "(`gradviz inspect MODEL --image FILE` shows what the model says under each choice)"
    )


def other_inputs(graph: Graph, question: Question, options: ModelOptions) -> dict[str, np.ndarray]:
    """Placeholder -> value for every input but the image: what --feed says, else zero."""
    given = dict(options.feeds)
    others = (*question.others, *question.unfed)
    known = {name for tensor in others for name in names(tensor)}
    for name in given:
        if name not in known:
            keys = ", ".join(tensor.key for tensor in others) or "none"
            raise UsageError(f"--feed {name}: the other inputs are {keys}", "give one of these")
    return {graph.feeds[tensor.name]: _value(graph, question, tensor, given) for tensor in others}


def _value(graph: Graph, question: Question, tensor: Tensor, given: Mapping[str, str]) -> np.ndarray:
    text = next((given[name] for name in names(tensor) if name in given), None)
    if text is None and tensor in question.unfed and tensor.dtype != tf.bool:
        raise UsageError(
            f"the score needs {tensor.key} ({describe(tensor)}), which the signature does not take",
            f"give it with --feed {tensor.key}=VALUE",
        )
    shape = [1 if size < 0 else size for size in tensor.shape or ()]
    if text is not None:
        value = np.array(json.loads(text))
        value = np.broadcast_to(value, shape) if value.ndim == 0 else value
    elif tensor.dtype == tf.string:
        value = np.full(shape, b"", object)
    else:
        value = np.zeros(shape)
    dtype = tf.dtypes.as_dtype(attribute(graph.nodes[graph.feeds[tensor.name]], "dtype").type)
    return value if dtype == tf.string else value.astype(dtype.as_numpy_dtype)


def repeated(graph: Graph, question: Question, constants: Mapping[str, np.ndarray]) -> frozenset[str]:
    """The other inputs that come in batches too: one value stands beside every image."""
    batched = (graph.feeds[tensor.name] for tensor in question.others if tensor.shape and tensor.shape[0] < 0)
    return frozenset(name for name in batched if constants[name].shape[:1] == (1,))


def unfed_warning(question: Question, options: ModelOptions) -> str | None:
    """The inputs that nobody gave a value; a single truth says whether the model is trained, which it is not."""
    given = dict(options.feeds)
    missing = [tensor for tensor in question.others if not any(name in given for name in names(tensor))]
    keys = [tensor.key for tensor in missing if tensor.dtype != tf.bool or tensor.shape != ()]
    return f"the inputs {', '.join(keys)} are fed with 0; settle it with --feed NAME=VALUE" if keys else None
