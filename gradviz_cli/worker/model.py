"""One SavedModel, ready to differentiate: folder -> data -> policy -> patch -> gradient."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.rules import RULES
from gradviz_cli.worker import (
    entry,
    expand,
    fold,
    graph,
    loops,
    objects,
    onednn,
    patch,
    policy,
    ranges,
    savedmodel,
    score,
    weights,
    widen,
)
from gradviz_cli.worker.entry import Entry
from gradviz_cli.worker.expand import Flat
from gradviz_cli.worker.gradient import Differentiator, Explained, Problem, joined
from gradviz_cli.worker.graph import Tensor
from gradviz_cli.worker.parallel import Calls, has_bfloat16

REMEDY = {
    "relu": "use --mode backprop, or --activations all to let these obey the rule too",
    "none": "use --mode backprop",
}


@dataclass(frozen=True)
class Options:
    """What the command asks of a model, as the options of `gradviz explain` say it."""

    path: str
    modes: tuple[str, ...] = ("guided",)
    targets: int = 1  # how many will be asked for at once
    signature: str | None = None
    tag: str | None = None
    input: str | None = None
    output: str | None = None
    score: str = "logit"
    activations: str = "relu"
    preprocess: str = "auto"
    input_size: tuple[int, int] | None = None
    layout: str | None = None
    at: tuple[int, ...] = ()
    feeds: tuple[tuple[str, str], ...] = ()
    precision: str = "float32"
    allow_ops: tuple[str, ...] = ()
    trust_model: bool = False


@dataclass(frozen=True)
class Facts:
    """What the command has to know about the model before it prepares images; all of it plain data."""

    signature: str
    why: str
    input: dict
    output: str
    score: str
    bypassed: str | None
    channel: int | None
    classes: int | None
    size: tuple[int, int]
    channels: int
    preprocess: str
    activations: dict[str, tuple[int, int]]
    gates: int
    custom_gradients: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """A SavedModel narrowed down to one question: this image, that score. Data only; no weight is read yet."""

    meta: MetaGraphDef
    signature: str
    why: str
    image: Tensor
    output: Tensor
    flat: Flat
    fed: str
    end: str
    score: str
    bypassed: str | None
    channel: int | None
    others: tuple[Tensor, ...]
    unfed: tuple[Tensor, ...]
    warnings: tuple[str, ...]

    @property
    def path(self) -> set[str]:
        """The nodes between the image and the score."""
        below = expand.descendants(self.flat.nodes, [expand.split(self.fed)[0]])
        return below & expand.ancestors(self.flat.nodes, [self.score])


def read(options: Options) -> Reading:
    """Find the question in the folder.

    Raises
    ------
    ModelUnusable, UsageError
        The files are damaged; the choice is not clear; the score does not depend on the image.
    """
    saved = savedmodel.read(Path(options.path))
    meta = objects.with_signatures(graph.choose_meta(saved, options.tag))
    signature, definition, why = graph.choose_signature(meta, options.signature)
    inputs, outputs = graph.tensors(definition.inputs), graph.tensors(definition.outputs)
    name, channel = graph.parse_name(options.output) if options.output else (None, None)
    output = graph.choose_output(outputs, name)
    feeds = {tensor.name: tensor.dtype.as_datatype_enum for tensor in inputs}
    flat = _expanded(meta, [output.name] if output else [tensor.name for tensor in outputs], feeds)
    if output is None:
        flat, output = _any_tensor(meta, flat, name, feeds)
    end = flat.outputs[0]
    image = graph.choose_input([tensor for tensor in inputs if tensor.name in flat.feeds] or inputs, options.input)
    if image is None:
        flat, image = _any_input(flat, options)
    if image.name not in flat.feeds:
        raise ModelUnusable(
            f"the output {output.key} does not depend on the input {image.key}", "choose others with --input, --output"
        )
    flat, end, top, bypassed = _score(flat, end, output, options, channel)
    flat = flat.pruned([top, end])
    others = tuple(tensor for tensor in inputs if tensor.name in flat.feeds and tensor.name != image.name)
    fed = f"{flat.feeds[image.name]}:0" if image.name in flat.feeds else ""
    if not fed:
        raise ModelUnusable(f"the score {top} does not depend on the input {image.key}", "choose another with --output")
    if image.dtype.is_integer:
        flat = widen.float_image(flat, fed)
    unfed = _unfed_placeholders(flat)
    flat = replace(flat, feeds={**flat.feeds, **{tensor.name: tensor.key for tensor in unfed}})
    found = Reading(
        meta, signature, why, image, output, flat, fed, end, top, bypassed, channel, others, unfed, saved.warnings
    )
    _insist_on_known_loops(found)
    return found


def _unfed_placeholders(flat: Flat) -> tuple[Tensor, ...]:
    """Placeholders that the score needs and no signature names (TensorFlow 1: a dropout rate, a learning phase)."""
    known = {*flat.feeds.values(), *flat.weights, *flat.handles}
    found = []
    for name, node in sorted(flat.nodes.items()):
        if node.op == "Placeholder" and name not in known:
            shape = node.attr["shape"].shape if "shape" in node.attr else None
            sizes = None if shape is None or shape.unknown_rank else tuple(dim.size for dim in shape.dim)
            found.append(Tensor(name, f"{name}:0", tf.dtypes.as_dtype(node.attr["dtype"].type), sizes))
    return tuple(found)


def _insist_on_known_loops(found: Reading) -> None:
    stuck = [name for name in found.path if found.flat.nodes[name].op in ("Exit", "NextIteration")]
    if stuck:
        raise ModelUnusable(
            f"no gradient passes the loop around {min(stuck)}, which has no form that TensorFlow 1 writes",
            "explain a tensor before it with --output NAME, or start behind it with --input NAME",
        )


def _expanded(meta: MetaGraphDef, tensors: Sequence[str], feeds: dict) -> Flat:
    """What these tensors need, in the forms whose gradients TensorFlow knows."""
    return widen.halves(loops.functional(expand.expand(meta, tensors, feeds)))


def _any_tensor(meta: MetaGraphDef, flat: Flat, wanted: str, feeds: dict) -> tuple[Flat, Tensor]:
    """A tensor of the graph that is no output of the signature."""
    found = expand.find_tensor(flat.nodes, wanted)
    if found is None:
        top = expand.find_tensor([node.name for node in meta.graph_def.node], wanted)
        if top is None:
            raise UsageError(f"--output {wanted}: neither an output of the signature nor a tensor of the graph", "see `gradviz inspect`")
        flat = _expanded(meta, [top], feeds)
        found = flat.outputs[0]
    return replace(flat, outputs=(found,)), Tensor(wanted, found, tf.float32, None)


def _any_input(flat: Flat, options: Options) -> tuple[Flat, Tensor]:
    """Start at a tensor inside the graph: its node becomes a placeholder."""
    wanted = options.input
    found = expand.find_tensor(flat.nodes, wanted)
    if found is None:
        raise UsageError(f"--input {wanted}: neither an input of the signature nor a tensor of the graph", "see `gradviz inspect`")
    # Inferring shapes runs operations on constants, also those before this tensor that are cut away later.
    policy.judge(flat.pruned([found]), options.allow_ops, options.trust_model)
    static = static_tensor(flat.pruned([found]), found)
    name = expand.split(found)[0]
    nodes = dict(flat.nodes)
    nodes[name] = expand.placeholder(name, static.dtype.as_datatype_enum, static.shape.as_proto())
    shape = None if static.shape.rank is None else tuple(-1 if size is None else size for size in static.shape)
    return replace(flat, nodes=nodes, feeds={**flat.feeds, found: name}), Tensor(wanted, found, static.dtype, shape)


def static_tensor(flat: Flat, *names: str) -> tf.Tensor:
    """A symbolic tensor with the dtype and shape that TensorFlow infers; nothing is computed."""
    with tf.Graph().as_default():
        found = tf.graph_util.import_graph_def(flat.graph_def(), return_elements=list(names), name="")
    return found[0] if len(names) == 1 else found


def _score(flat: Flat, end: str, output: Tensor, options: Options, channel: int | None):
    """(graph, the model's own output, the score, what was bypassed)."""
    if not output.dtype.is_floating:
        decided = score.decided_from(flat, end)
        if decided is None:
            raise ModelUnusable(
                f"the output {output.key} is {output.dtype.name} and nothing that decides between classes lies behind it", "choose another with --output NAME"
            )
        end = decided
    if options.score == "output" or channel is not None:
        return flat, end, end, None
    flat, top, bypassed = score.bypass(flat, end)
    return flat, end, top, bypassed


class Model:
    """A loaded model. Built once a worker; `explain` may be called any number of times."""

    def __init__(self, options: Options):
        self._calls = Calls(options.precision)
        found = read(options)
        policy.judge(found.flat, options.allow_ops, options.trust_model)
        variables = [*found.flat.weights.values(), *found.flat.handles.values()]
        values = weights.load(Path(options.path), variables, expand.restored(found.meta))
        values = widen.values(found.flat, values)
        wrt, gate = first_numbers(found)
        place, warning = _entry(found, wrt, options)
        flat, report = patch.patch(found.flat, found.path, options.activations)
        flat = onednn.without_strided_points(flat, {variable: value.shape for variable, value in values.items()})
        named = {expand.split(tensor)[0] for tensor in (found.fed, wrt, found.score, found.end)}
        flat, values = fold.folded(flat, values, expand.split(found.fed)[0], named)
        self._options, self._report = options, report
        self._insist_on_patches(options.modes)
        preprocess, unsure = _preprocess(found, values, wrt, options)
        constants = _constants(found, options)
        problem = Problem(
            fed=found.fed,
            wrt=wrt,
            score=found.score,
            output=found.end,
            entry=place,
            constants=constants,
            repeated=_repeated(found, constants),
            shape=found.output.shape if found.output.dtype.is_floating else None,
            at=options.at,
            everywhere=found.channel is not None,
        )
        self._differentiator = Differentiator(flat, values, problem)
        self._differentiator.prepare(options.modes, options.targets)
        self._step = place.batch or 1
        unfed = _unfed(found, options)
        slow = _slow(options)
        self.facts = Facts(
            signature=found.signature,
            why=found.why,
            input={
                "name": found.image.key,
                "shape": found.image.shape,
                "dtype": found.image.dtype.name,
                "layout": place.layout,
                "encoding": place.encoding,
            },
            output=found.output.key,
            score=found.score,
            bypassed=found.bypassed,
            channel=found.channel,
            classes=self._differentiator.classes,
            size=place.size,
            channels=place.channels,
            preprocess=preprocess,
            activations=dict(report.activations),
            gates=report.gates,
            custom_gradients=flat.custom_gradients,
            warnings=tuple(filter(None, (*found.warnings, warning, unsure, unfed, slow, _left_alone(report, options)))),
        )

    def explain(self, images: np.ndarray, targets: list[int], modes: list[str], scores: bool = True) -> Explained:
        """Attributions [t, n, h, w, c] for images float32 [n, h, w, c] in the range that the model expects."""
        self._insist_on_patches(modes)
        parts = self._calls.over(
            images, lambda part: self._differentiator.explain(part, targets, modes, scores), self._step
        )
        return joined(parts)

    def _insist_on_patches(self, modes: Sequence[str]) -> None:
        """deconv and guided need something to act on; the plain gradient under their name would be a lie."""
        strict = [mode for mode in modes if RULES[mode].changes_gradient]
        if not strict or self._report.patched:
            return
        left, gates = self._report.left, self._report.gates
        seen = ", ".join(f"{count} {name}" for name, count in left.items()) or "no other activation"
        raise ModelUnusable(
            f"{self._options.path}: no ReLU lies between the image and the score ({seen}"
            f"{f', {gates} gates' if gates else ''}), so {' and '.join(strict)} would be the plain gradient",
            REMEDY["relu" if left else "none"],
        )


def _slow(options: Options) -> str | None:
    if options.precision == "float32" or has_bfloat16():
        return None
    return "this processor has no bfloat16 instructions and is slower in it; settle it with --precision float32"


def _left_alone(report: patch.Report, options: Options) -> str | None:
    if not report.left or not any(RULES[mode].changes_gradient for mode in options.modes):
        return None
    named = ", ".join(f"{count} {name}" for name, count in report.left.items())
    return f"not patched: {named}; they pass the plain gradient (--activations all lets them obey the rule too)"


# -- the image -----------------------------------------------------------------------------------------------------


def first_numbers(found: Reading) -> tuple[str, str | None]:
    """(tensor, op): the first float tensor that the image becomes, and the op that makes it where it enters as another type.

    Raises
    ------
    ModelUnusable
        The image splits into several before it is a float: no single tensor stands for it.
    """
    fed = found.flat.nodes[expand.split(found.fed)[0]]
    if tf.dtypes.as_dtype(fed.attr["dtype"].type).is_floating:
        return found.fed, None
    path = found.path
    readers = expand.consumers(found.flat.nodes)
    candidates = {
        name: static
        for name in path
        for static in [found.flat.nodes[name]]
        if name != expand.split(found.fed)[0]
    }
    shapes = static_tensor(found.flat, *[f"{name}:0" for name in candidates]) if candidates else []
    shapes = dict(zip(candidates, shapes if isinstance(shapes, list) else [shapes], strict=True))
    todo, seen, first = list(readers.get(expand.split(found.fed)[0], ())), set(), []
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


def _entry(found: Reading, wrt: str, options: Options) -> tuple[Entry, str | None]:
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
        warning = (
            f"the model decodes images of any size, {size[0]}x{size[1]} is taken; settle it with --input-size HxW"
        )
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


def _preprocess(found: Reading, values: dict, wrt: str, options: Options) -> tuple[str, str | None]:
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


# -- the other inputs ------------------------------------------------------------------------------------------------


def _constants(found: Reading, options: Options) -> dict[str, np.ndarray]:
    """Placeholder -> value for every input but the image: what --feed says, else zero."""
    given = dict(options.feeds)
    others = (*found.others, *found.unfed)
    known = {name for tensor in others for name in graph.names(tensor)}
    for name in given:
        if name not in known:
            keys = ", ".join(tensor.key for tensor in others) or "none"
            raise UsageError(f"--feed {name}: the other inputs are {keys}", "give one of these")
    constants = {}
    for tensor in others:
        text = next((given[name] for name in graph.names(tensor) if name in given), None)
        shape = [1 if size < 0 else size for size in tensor.shape or ()]
        placeholder = found.flat.feeds[tensor.name]
        if text is None and tensor in found.unfed and tensor.dtype != tf.bool:
            raise UsageError(
                f"the score needs {tensor.key} ({graph.describe(tensor)}), which the signature does not take",
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


def _unfed(found: Reading, options: Options) -> str | None:
    given = dict(options.feeds)
    missing = [tensor.key for tensor in found.others if not any(name in given for name in graph.names(tensor))]
    floats = [tensor.key for tensor in found.others if tensor.key in missing and tensor.dtype.is_floating]
    return f"the inputs {', '.join(floats)} are fed with 0; settle it with --feed NAME=VALUE" if floats else None
