"""How the image enters a graph, and what stands beside it: the first float tensor, the pixel range, the other inputs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis import entry
from gradviz_cli.worker.analysis import preprocess as ranges
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.graph import question
from gradviz_cli.worker.graph.graph import consumers, split
from gradviz_cli.worker.graph.question import Reading, describe, static_tensor


def first_numbers(found: Reading) -> tuple[str, str | None]:
    """(tensor, op): the first float tensor that the image becomes, and the op that makes it where it enters as another type.

    Raises
    ------
    ModelUnusable
        The image splits into several before it is a float: no single tensor stands for it.
    """
    fed = found.flat.nodes[split(found.fed)[0]]
    if tf.dtypes.as_dtype(fed.attr["dtype"].type).is_floating:
        return found.fed, None
    path = found.path
    readers = consumers(found.flat.nodes)
    candidates = {name: static for name in path for static in [found.flat.nodes[name]] if name != split(found.fed)[0]}
    shapes = static_tensor(found.flat, *[f"{name}:0" for name in candidates]) if candidates else []
    shapes = dict(zip(candidates, shapes if isinstance(shapes, list) else [shapes], strict=True))
    todo, seen, first = list(readers.get(split(found.fed)[0], ())), set(), []
    while todo:
        name = todo.pop()
        if name in seen or name not in path:
            continue
        seen.add(name)
        tensor = shapes[name]
        picture = tensor.shape.rank is None or tensor.shape.rank >= 3 or found.image.dtype != tf.string
        if tensor.dtype.is_floating and picture:
            first.append(name)
        else:
            todo.extend(readers.get(name, ()))
    if len(first) != 1:
        raise ModelUnusable(
            f"the {found.image.dtype.name} input {found.image.key} becomes {len(first) or 'no'} float tensors"
            f"{': ' + ', '.join(sorted(first)[:4]) if first else ''}",
            "name one of them with --input NAME" if first else "explain another input with --input NAME",
        )
    return f"{first[0]}:0", found.flat.nodes[first[0]].op


def _entry(found: Reading, wrt: str, options: ModelOptions) -> tuple[Entry, str | None]:
    """How pictures enter, and a warning where something was assumed."""
    if found.image.dtype != tf.string:
        place, warning = entry.find(found.image.key, found.image.shape, options.layout, options.input_size)
        return replace(place, whole=found.image.dtype.is_integer), warning
    ops = set(found.flat.pruned([wrt]).ops())
    _insist_on_images(found.image.key, ops)
    shape = static_tensor(found.flat, wrt).shape
    sizes = [None, None, None] if shape.rank is None else shape.as_list()[-3:]
    known = tuple(-1 if size is None else size for size in (sizes if len(sizes) == 3 else [None] * 3))
    size, warning = (known[:2], None) if options.input_size is None else (options.input_size, None)
    if min(size) < 1:
        size = entry.USUAL_SIZE
        warning = f"the model decodes images of any size, {size[0]}x{size[1]} is taken; settle it with --input-size HxW"
    encoding = "base64" if "DecodeBase64" in ops else "bytes"
    batch_shape = found.image.shape
    layout = "HWC" if batch_shape == () else "NHWC"
    batch = batch_shape[0] if batch_shape and batch_shape[0] > 0 else None
    channels = known[2] if known[2] in (1, 3) else 3
    return Entry(layout, tuple(size), channels, 1 if layout == "HWC" else batch, encoding), warning


# These read a PNG, whatever their name says; the other decoders read one format alone.
DECODERS = frozenset({"DecodeJpeg", "DecodePng", "DecodeImage"})
RECORDS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})


def _insist_on_images(key: str, ops: set[str]) -> None:
    """A string input must be an encoded image, not a record or a text that the graph takes apart."""
    remedy = "choose another --signature, or name the image behind it with --input NAME"
    if ops & RECORDS:
        raise ModelUnusable(f"the string input {key} takes tf.Example records", remedy)
    if not ops & DECODERS:
        raise ModelUnusable(f"the string input {key} is not decoded as an image in the graph", remedy)


def _preprocess(found: Reading, values: dict, wrt: str, options: ModelOptions) -> tuple[str, str | None]:
    whole = found.image.dtype.is_integer or found.image.dtype == tf.string
    if options.preprocess != "auto":
        if whole and options.preprocess != "raw":
            raise UsageError(
                f"--preprocess {options.preprocess}: the input {found.image.key} takes {found.image.dtype.name}",
                "leave the option out, or give raw",
            )
        return options.preprocess, None
    if whole:
        return "raw", None
    small = {
        name: values[variable].numpy()
        for name, variable in found.flat.weights.items()
        if values[variable].dtype.is_floating and values[variable].shape.num_elements() <= 16
    }
    recognised = ranges.found_preprocess(found.flat, found.fed, found.path, small)
    if recognised:
        return recognised, None
    return "unit", (
        "the model does not say which pixel range it expects, 0..1 is taken; settle it with --preprocess "
        "(`gradviz inspect MODEL --image FILE` shows what the model says under each choice)"
    )


def _constants(found: Reading, options: ModelOptions) -> dict[str, np.ndarray]:
    """Placeholder -> value for every input but the image: what --feed says, else zero."""
    given = dict(options.feeds)
    others = (*found.others, *found.unfed)
    known = {name for tensor in others for name in question.names(tensor)}
    for name in given:
        if name not in known:
            keys = ", ".join(tensor.key for tensor in others) or "none"
            raise UsageError(f"--feed {name}: the other inputs are {keys}", "give one of these")
    constants = {}
    for tensor in others:
        text = next((given[name] for name in question.names(tensor) if name in given), None)
        shape = [1 if size < 0 else size for size in tensor.shape or ()]
        placeholder = found.flat.feeds[tensor.name]
        if text is None and tensor in found.unfed and tensor.dtype != tf.bool:
            raise UsageError(
                f"the score needs {tensor.key} ({describe(tensor)}), which the signature does not take",
                f"give it with --feed {tensor.key}=VALUE",
            )
        if text is not None:
            value = np.array(json.loads(text))
            value = np.broadcast_to(value, shape) if value.ndim == 0 else value
        elif tensor.dtype == tf.string:
            value = np.full(shape, b"", object)
        else:
            value = np.zeros(shape)
        dtype = tf.dtypes.as_dtype(found.flat.nodes[placeholder].attr["dtype"].type)
        constants[placeholder] = value if dtype == tf.string else value.astype(dtype.as_numpy_dtype)
    return constants


def _repeated(found: Reading, constants: dict[str, np.ndarray]) -> frozenset[str]:
    """The other inputs that come in batches too: one value stands beside every image."""
    open_batch = (found.flat.feeds[tensor.name] for tensor in found.others if tensor.shape and tensor.shape[0] < 0)
    return frozenset(name for name in open_batch if constants[name].shape[:1] == (1,))


def _unfed(found: Reading, options: ModelOptions) -> str | None:
    given = dict(options.feeds)
    missing = [tensor.key for tensor in found.others if not any(name in given for name in question.names(tensor))]
    floats = [tensor.key for tensor in found.others if tensor.key in missing and tensor.dtype.is_floating]
    return f"the inputs {', '.join(floats)} are fed with 0; settle it with --feed NAME=VALUE" if floats else None
