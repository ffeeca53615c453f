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
from gradviz_cli.worker.analysis.along import steps_along
from gradviz_cli.worker.analysis.axes import find_axes
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.preprocess import DEPTHS, recognised_range
from gradviz_cli.worker.graph.graph import Graph, attribute, consumers, placeholder, split
from gradviz_cli.worker.graph.question import Question, Tensor, describe, names, static_tensors
from gradviz_cli.worker.graph.words import described

# A row of these is more likely one of words than of pixels.
IDS = frozenset({"int32", "int64"})
# Numbers of these are levels or truths of pixels: measurements are no bytes.
LEVELS = frozenset({"uint8", "bool"})
RGBA = "rgba"  # of --channel-order: the fourth channel is alpha
# These read a PNG, whatever their name says; the other decoders read one format alone.
DECODERS = frozenset({"DecodeJpeg", "DecodePng", "DecodeImage"})
OTHER_DECODERS = frozenset({"DecodeBmp", "DecodeGif", "DecodeWebP", "DecodeAndCropJpeg"})
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
        seen = find_axes(graph, question.fed(graph), (-1,) * 4 if image.shape is None else image.shape)
        if seen is not None and seen.width_first and not options.layout:
            seen = replace(seen, along=steps_along(graph, seen.windows))
        kind = image.dtype.name
        place, warning = entries.find(
            image.key, image.shape, options.layout, options.input_size, seen, kind in IDS, kind in LEVELS
        )
        place = replace(
            place,
            whole=image.dtype.is_integer or image.dtype == tf.bool,
            alpha=_has_alpha(image, place.channels, options.channel_order),
        )
        if warning or options.input_size or options.layout:
            _check_open(graph, question, place, options)
        return place, warning
    ops = set(graph.pruned([graph.wrt]).ops())
    _check_images(image.key, ops)
    (decoded,) = static_tensors(graph, graph.wrt)
    height, width, channels = _last_three(decoded.shape)
    size, warning = options.input_size or (height, width), None
    if min(size) < 1:
        size = entries.USUAL_SIZE
        warning = f"the model decodes images of any size, {size[0]}x{size[1]} is taken; settle it with --input-size HxW"
    encoding = "base64" if "DecodeBase64" in ops else "bytes"
    channels = channels if channels in entries.CHANNELS else 3
    alpha = _has_alpha(image, channels, "rgba" if channels == 4 else options.channel_order)
    if image.shape == ():
        return Entry("HWC", size, channels, 1, encoding, alpha=alpha), warning
    batch = image.shape[0] if image.shape and image.shape[0] > 0 else None
    given = tuple(abs(length) for length in image.shape[1:]) if image.shape else ()
    if given.count(1) < len(given):
        raise ModelUnusable(
            f"the input {image.key} takes {describe(image)}, several encoded images at once",
            "name the tensor of one image behind it with --input NAME",
        )
    return Entry("NHWC", size, channels, batch, encoding, alpha=alpha, given=given), warning


def _has_alpha(image: Tensor, channels: int, order: str | None) -> bool:
    """Whether the fourth channel is that of RGBA: its name says so, or --channel-order does; never its number alone."""
    named = "rgba" in f"{image.key} {image.name}".lower()
    if order == RGBA and channels != 4:
        raise UsageError(f"--channel-order {RGBA}: the input {image.key} has {channels} channel(s)", "leave it out")
    return channels == 4 and (order == RGBA or named)


def _check_open(graph: Graph, question: Question, entry: Entry, options: ModelOptions) -> None:
    """Axes that the signature leaves open may still be settled inside: the options are wrong then, and not the model."""
    fed = split(question.fed(graph))[0]
    dtype = tf.dtypes.as_dtype(attribute(graph.nodes[fed], "dtype").type)
    sized = placeholder(fed, dtype.as_datatype_enum, entry.spec(dtype).shape.as_proto())
    try:
        static_tensors(replace(graph, nodes={**graph.nodes, fed: sized}), graph.score)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        size = f"{entry.size[0]}x{entry.size[1]}"
        layout = [f"--layout {options.layout}"] if options.layout else []
        given = " and ".join([f"--input-size {size}"] * bool(options.input_size) + layout)
        raise UsageError(
            f"{given}{': ' if given else ''}the input {question.image.key} leaves its axes open, and the model does not take {size} with "
            f"{entry.channels} channel(s), {entry.layout} ({described(error)})",
            "say what it takes with --input-size HxW and --layout NHWC or NCHW",
        ) from error


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
    if not ops & DECODERS and (others := sorted(ops & OTHER_DECODERS)):
        raise ModelUnusable(f"the string input {key} is decoded by {others[0]}, and gradviz feeds PNGs", remedy)
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
    if image.dtype == tf.uint16 and recognised_range(graph, question, entry, constants, DEPTHS) == "16":
        return "raw", (
            f"the first steps of the model are for levels of 0..65535 in its uint16 input {image.key}, and pictures give 0..255; "
            "give files of numbers (.npy) that hold such levels, and settle it with --preprocess raw"
        )
    if whole or image.dtype == tf.bool:
        return "raw" if whole else "unit", None
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
            keys = ", ".join(tensor.key for tensor in others)
            if not keys:
                raise UsageError(f"--feed {name}: the score needs no input but the image", "leave out --feed")
            raise UsageError(f"--feed {name}: the other inputs are {keys}", "give one of these")
    for tensor in others:
        several = [name for name in given if name in names(tensor)]
        if len(several) > 1:
            raise UsageError(f"--feed {several[1]}: {tensor.key} is given twice", "give it once")
    values = {graph.feeds[tensor.name]: _value(graph, question, tensor, given) for tensor in others}
    for tensor in question.others:
        if tensor.shape == (-1,) and any(name in given for name in names(tensor)):
            _check_alone(graph, tensor, values[graph.feeds[tensor.name]])
    return values


def _check_alone(graph: Graph, tensor: Tensor, value: np.ndarray) -> None:
    """Of what stands beside each image one is given, not as many as the score would have rows then."""
    name = graph.feeds[tensor.name]
    kind = attribute(graph.nodes[name], "dtype").type
    sized = placeholder(name, kind, tf.TensorShape(value.shape).as_proto())
    if len(value) < 2 or graph.nodes[name].op != "Placeholder":
        return
    try:
        (score,) = static_tensors(replace(graph, nodes={**graph.nodes, name: sized}), graph.score)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        given = (
            f"--feed {tensor.key}: the model does not take a value of shape {list(value.shape)} ({described(error)})"
        )
        raise UsageError(given, "give one that fits") from error
    if score.shape.rank and score.shape[0] == len(value):
        raise UsageError(
            f"--feed {tensor.key}: {len(value)} values are given, and one stands beside each image", "give one of them"
        )


def _value(graph: Graph, question: Question, tensor: Tensor, given: Mapping[str, str]) -> np.ndarray:
    text = next((given[name] for name in names(tensor) if name in given), None)
    if text is None and tensor in question.unfed and tensor.dtype != tf.bool:
        raise UsageError(
            f"the score needs {tensor.key} ({describe(tensor)}), which the signature does not take",
            f"give it with --feed {tensor.key}=VALUE",
        )
    shape = [1 if size < 0 else size for size in tensor.shape or ()]
    if text is not None:
        value = _fed(tensor, np.array(json.loads(text)))
    elif tensor.dtype == tf.string:
        value = np.full(shape, b"", object)
    else:
        value = np.zeros(shape)
    dtype = tf.dtypes.as_dtype(attribute(graph.nodes[graph.feeds[tensor.name]], "dtype").type)
    return value if dtype == tf.string else value.astype(dtype.as_numpy_dtype)


def _fed(tensor: Tensor, value: np.ndarray) -> np.ndarray:
    """What --feed gives, in the shape of the input: one number fills it, and a batch of one need not be written down.

    Raises
    ------
    UsageError
        Its kind or shape is another.
    """
    option, takes = f"--feed {tensor.key}", f"the input takes {describe(tensor)}"
    if not _holds(tensor.dtype, value):
        raise UsageError(f"{option}: {takes}, which does not hold the value that is given", "give one that fits")
    if tensor.shape is None:
        return value
    if value.ndim == 0:
        return np.broadcast_to(value, [1 if size < 0 else size for size in tensor.shape])
    for shaped in (value, value[None]):
        sizes = zip(tensor.shape, shaped.shape, strict=False)
        if len(tensor.shape) == shaped.ndim and all(wanted in (-1, size) for wanted, size in sizes):
            return shaped
    raise UsageError(f"{option}: {takes}, and a value of shape {list(value.shape)} is given", "give one that fits")


def _holds(dtype: tf.DType, value: np.ndarray) -> bool:
    """Whether a type holds these numbers, truths or texts as they are."""
    if dtype == tf.string or value.dtype.kind not in "biuf":
        return bool(dtype == tf.string) and value.dtype.kind in "US"
    if dtype == tf.bool:
        return bool(np.isin(value, (0, 1)).all())
    if not (dtype.is_integer or dtype.is_floating):
        return False
    whole = not dtype.is_integer or bool(np.all(np.rint(value) == value))
    return whole and bool(np.all((value >= dtype.min) & (value <= dtype.max)))


def repeated(graph: Graph, question: Question, constants: Mapping[str, np.ndarray]) -> frozenset[str]:
    """The other inputs that come in batches too: one value stands beside every image."""
    batched = (graph.feeds[tensor.name] for tensor in question.others if tensor.shape and tensor.shape[0] < 0)
    return frozenset(name for name in batched if constants[name].shape[:1] == (1,))
