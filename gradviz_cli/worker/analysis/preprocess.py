"""Which pixel range a graph expects, where what its first steps compute says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE, distinct
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.measure import measure
from gradviz_cli.worker.analysis.moves import MIXERS, MOVERS, SIZES
from gradviz_cli.worker.graph.graph import (
    BRANCHES,
    LOOPS,
    Graph,
    ancestors,
    attribute,
    consumers,
    data_inputs,
    functions_called,
    placeholder,
    source,
    split,
)
from gradviz_cli.worker.graph.match import BATCH_NORMS, RENAMING_OPS, constant
from gradviz_cli.worker.graph.question import Question

Array = np.ndarray

# Many more steps than this from the image to the first layer are no preprocessing.
MAX_STEPS = 60
# The side of the pictures that are measured, where the first steps take any size.
SIDE = 32
# Gray pictures: a map that is affine on these is so on all.
GRAYS = (0.0, 1.0, 64.0, 255.0)
# Places of a tensor that are looked at; every channel is among them.
SAMPLE = 200
# Of a gray picture a mean is the gray itself, turned or not; and so is a sum of its channels by their weights.
OF_GRAYS = frozenset({"Mean", "Sum", "ImageProjectiveTransformV2", "ImageProjectiveTransformV3"})
LIGHT = frozenset({*ELEMENTWISE, *MOVERS, *MIXERS, *OF_GRAYS, *BATCH_NORMS, *BRANCHES})

IMAGENET_MEAN, IMAGENET_DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CAFFE_MEAN = np.array([103.939, 116.779, 123.68])
# Choice of --preprocess -> what a gray of 0..255 is then, in each channel or in all: (factor, summand).
RANGES: dict[str, tuple[Array, Array]] = {
    "raw": (np.ones(1), np.zeros(1)),
    "unit": (np.ones(1) / 255, np.zeros(1)),
    "signed": (np.ones(1) / 127.5, -np.ones(1)),
    "caffe": (np.ones(3), -CAFFE_MEAN),
    "torch": (1 / (255 * IMAGENET_DEVIATION), -IMAGENET_MEAN / IMAGENET_DEVIATION),
}
# Levels of 8 and of 16 bits, as a model of whole numbers may take them.
DEPTHS = {"8": RANGES["raw"], "16": (np.full(1, 257.0), np.zeros(1))}
# Black and white where the mean of photographs was subtracted, whose channels lie around 115.
CENTRE, AROUND = 115.0, 20.0
# Where black lies if white is 1.
STARTS = {"unit": 0.0, "signed": -1.0}


def recognised_range(
    graph: Graph,
    question: Question,
    entry: Entry,
    constants: Mapping[str, Array] | None = None,
    choices: Mapping[str, tuple[Array, Array]] = RANGES,
) -> str | None:
    """The choice (of --preprocess) that the graph's own first steps were written for, or None.

    Gray pictures in the range of each preset go through these steps. A preset is meant where it alone is changed, by an
    affine map, into what networks are trained on (`normal_form`). That the steps are affine says nothing yet: (x + 1) / 2 is
    written for -1..1, and x / 2 for nobody knows what.
    """
    fed = question.fed(graph)
    steps = _first_steps(graph, question)
    if not steps or graph.pruned(steps).ops().keys() & LOOPS:
        return None
    for sized, place in _places(graph, question, entry):
        try:
            run = measure(sized, fed, steps, place, constants or {})
            ranges = {name: one for name, one in choices.items() if len(one[0]) in (1, place.channels)}
            seen = {name: _through(run, one, place) for name, one in ranges.items()}
        except (tf.errors.OpError, ValueError, TypeError, KeyError):  # of that size, or at all
            continue
        meant = {step: _meant(seen, number) for number, step in enumerate(steps)}
        return _only(_last(graph, {step: name for step, name in meant.items() if name}))
    return None


def _first_steps(graph: Graph, question: Question) -> list[str]:
    """The float tensors that the image becomes, one after the other, before anything sums, mixes or loops."""
    image = split(question.fed(graph))[0]
    readers, beside = consumers(graph.nodes), _Beside(graph, image)
    reached, todo = {image: None}, [image]
    while todo and len(reached) < MAX_STEPS:
        for name in readers.get(todo.pop(0), ()):
            node = graph.nodes[name]
            inputs = [split(text)[0] for text in data_inputs(node)]
            if name not in reached and _is_light(graph, node) and all(one in reached or beside(one) for one in inputs):
                reached[name] = None
                todo.append(name)
    return [f"{name}:0" for name in reached if graph.nodes[name].op not in ("Placeholder", *RENAMING_OPS)]


def _is_light(graph: Graph, node: NodeDef) -> bool:
    """It gives for each pixel what it makes of that one, or of its neighbours where all are alike."""
    if node.op == "MatMul":
        return _is_average(constant(graph.nodes, source(node, 1)))
    if node.op not in LIGHT or node.op in BATCH_NORMS and attribute(node, "is_training").b:
        return False
    called = functions_called([node], graph.functions)
    return not any(inner.op in LOOPS for name in called for inner in graph.functions[name].nodes.values())


def _is_average(weights: Array | None) -> bool:
    """They make one gray of the channels, as `tf.image.rgb_to_grayscale` does, and no features of a layer."""
    return weights is not None and 1 < weights.size <= 4 and bool(weights.min() >= 0 and abs(weights.sum() - 1) < 0.01)


class _Beside:
    """Whether a node depends on nothing that the image shows: on weights and constants, or on its size."""

    def __init__(self, graph: Graph, image: str):
        self._nodes, self._image = graph.nodes, image
        self._free: set[str] = set()

    def __call__(self, name: str) -> bool:
        todo, seen = [name], set[str]()
        while todo:
            one = todo.pop()
            if one == self._image:
                return False
            if one not in seen and one not in self._free and self._nodes[one].op not in SIZES:
                seen.add(one)
                todo.extend(split(text)[0] for text in data_inputs(self._nodes[one]))
        self._free |= seen
        return True


def _places(graph: Graph, question: Question, entry: Entry) -> Iterable[tuple[Graph, Entry]]:
    """Small pictures, which are cheap, and those that the model will be given where it takes no others."""
    if max(entry.size) > SIDE and not entry.layout.startswith("flat"):
        image = split(question.fed(graph))[0]
        dtype = attribute(graph.nodes[image], "dtype").type
        nodes = {**graph.nodes, image: placeholder(image, dtype)}
        yield replace(graph, nodes=nodes), replace(entry, size=(min(SIDE, entry.size[0]), min(SIDE, entry.size[1])))
    yield graph, entry


def _through(run: Callable, into: tuple[Array, Array], entry: Entry) -> tuple[Array, list[Array]]:
    """Grays brought into a range [grays, places], and what each step makes of them."""
    factor, summand = into
    black = np.zeros((*entry.size, entry.channels), np.float32)
    found = [run(black + np.float32(gray * factor + summand)) for gray in GRAYS]
    given = np.stack([_sample(fed) for fed, _ in found])
    steps = zip(*(values for _, values in found), strict=True)
    return given, [np.stack([_sample(one) for one in column]) for column in steps]


def _sample(values: Array) -> Array:
    flat = values.reshape(-1)
    if not flat.size:
        raise ValueError("a small picture is cut off altogether")
    if flat.size > SAMPLE:
        flat = flat[np.random.default_rng(0).integers(0, flat.size, SAMPLE)]
    return flat.astype(np.float64)


def _meant(seen: Mapping[str, tuple[Array, list[Array]]], step: int) -> str | None:
    """The one preset that a step brings into a normal form; None where that are several, as for the image itself."""
    return _only(name for name, (given, found) in seen.items() if _brought(given, found[step]))


def _last(graph: Graph, meant: Mapping[str, str]) -> Iterable[str]:
    """What the steps say that no other one which says something reads: half of (x - mean) / deviation says nothing."""
    before = {step: ancestors(graph.nodes, [step]) for step in meant}
    read = {step for step in meant for other in meant if other != step and split(step)[0] in before[other]}
    return [name for step, name in meant.items() if step not in read]


def _brought(given: Array, values: Array) -> bool:
    """Into a normal form, and not only left in the one that it had."""
    form = _form(values)
    return form is not None and form != _form(given)


def _form(values: Array) -> str | None:
    """The normal form of grays [grays, places], None where there is none or the grays do not become what lies between."""
    ends = _affine(values)
    return None if ends is None else normal_form(*ends)


def _affine(values: Array) -> tuple[Array, Array] | None:
    """What black and white become, once for each different place, where grays become what lies between.

    Places that stay the same are a border that was added; a step that has only these has no range.
    """
    grays = np.array(GRAYS)[:, None] / 255
    low, high = values[0], values[-1]
    live = np.abs(high - low) > 1e-6 * (1 + np.abs(low))
    between = low + grays * (high - low)
    off = np.abs(values - between) > 1e-3 * np.abs(high - low)
    if not np.any(live) or np.any(off[:, live]) or not np.all(np.isfinite(values)):
        return None
    ends = distinct(np.round(np.stack([low[live], high[live]], axis=1), 5), axis=0)
    return ends[:, 0], ends[:, 1]


def normal_form(low: Array, high: Array) -> str | None:
    """What networks are trained on and black and white may be: 0..1, -1..1, less the mean, ImageNet's deviations."""
    if np.all(np.abs(high - low - 255) < 3):
        return "centred" if np.all(np.abs(low + CENTRE) < AROUND) else None
    if np.all(np.abs(high - 1) < 0.02):
        return next((name for name, start in STARTS.items() if np.all(np.abs(low - start) < 0.02)), None)
    deviation = 1 / (high - low)
    channels = _near(-low * deviation, IMAGENET_MEAN) & _near(deviation, IMAGENET_DEVIATION)
    return "imagenet" if np.all(channels.any(axis=1)) and np.all(channels.any(axis=0)) else None


def _near(values: Array, wanted: Array) -> Array:
    """[values, wanted]: within a tenth."""
    near: Array = np.abs(values[:, None] - wanted) < 0.1 * wanted
    return near


def _only(names: Iterable[str]) -> str | None:
    """The one name, however often it comes."""
    different = set(names)
    return different.pop() if len(different) == 1 else None
