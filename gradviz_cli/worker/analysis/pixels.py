"""Which tensors still are the image: moved about, resized, rescaled, blurred, in other colours. A clip of these cleans the image,
and is no activation; but a ReLU behind what mixes pixels may be that of a first layer, however simple.

In a frozen graph weights are constants too. A matrix of constants leaves an image an image where grays stay gray (each of its
columns sums to 1, or of a change of colours to 1 or 0), where it has few colours and no negative number, as sepia has, or where
it has few and the weights are variables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.moves import MIXERS, MOVERS
from gradviz_cli.worker.graph.graph import (
    BRANCHES,
    FIRST_ARGUMENT,
    Function,
    attribute,
    called_by,
    data_inputs,
    in_order,
    split,
)

Array = np.ndarray
# How much of the image a tensor still is. Of the image itself, moved, resized or scaled, what is cut off below 0 was none of
# it; of a shifted one it may be; and what mixes pixels, colours or other numbers may be the first layer as well. What is taken
# off whole numbers, before they are made fractions, is a black that is not 0.
MIXED, SHIFTED, DARKENED, ITSELF, WHOLE = range(5)
FRACTIONS = {WHOLE: ITSELF, DARKENED: SHIFTED}  # what whole numbers are when they are no longer whole
Still = dict[str, int]
"""Tensor that is the image -> how much of it, as one of these says."""
Body = tuple[set[str], Known]
"""Of a function: the nodes in it that carry values of the image, and what is known there."""

REDUCTIONS = frozenset({"Sum", "Mean", "Max", "Min", "Prod", "EuclideanNorm", "SegmentSum", "L2Loss"})
# Who writes one of these means an activation: what lies behind is no cleaning.
WRITTEN = frozenset({"Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Softplus"})
ARITHMETIC = ELEMENTWISE - WRITTEN
SHIFTS = frozenset({"Add", "AddV2", "BiasAdd", "Sub"})
SCALED = frozenset({"Mul", "RealDiv", "Div", "Maximum", "Minimum", "ClipByValue", "Cast", "Identity", *SHIFTS})
RANGES = frozenset({1.0, 255.0, 65535.0})  # where the numbers of an image end
# What makes a picture of its first input alone: the same pixels, or others.
SAME_PIXELS = frozenset(
    {
        *(*MIXERS, "ExtractImagePatches", "ImageProjectiveTransformV2", "ImageProjectiveTransformV3"),
        *("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars"),
        *("TensorListFromTensor", "TensorListGetItem", "TensorListStack", "TensorListGather", "TensorListConcatV2"),
    }
)
OTHER_PIXELS = frozenset(
    {
        *(*REDUCTIONS, "AvgPool", "MaxPool", "MaxPoolV2", "TopKV2"),
        *("RGBToHSV", "HSVToRGB", "AdjustHue", "AdjustSaturation", "AdjustContrast", "AdjustContrastv2"),
    }
)
# Of loops that take an image from a list and put one into another: the inputs that hold numbers.
LISTS = {
    "TensorListSetItem": (0, 2),
    "TensorListPushBack": (0, 1),
    "TensorArrayScatterV3": (2, 3),
    "TensorArrayWriteV3": (2, 3),
    "TensorArrayReadV3": (2,),
    "TensorArrayGatherV3": (2,),
}
PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
# A number for each channel, and not one for each pixel.
MAX_CHANNELS = 16
# Colours and alpha.
FEW = 4
# What grays become where the range is changed too: 0..255, -1..1, and the 219 steps of video.
SCALES = tuple(factor for one in (1.0, 255.0, 127.5, 219.0, 219 / 255) for factor in (one, 1 / one)) + (2.0,)
NEAR = 5e-3


@dataclass(frozen=True)
class Images:
    """Finds the image in a graph and the functions of its loops and branches.

    Attributes
    ----------
    functions, bodies : dict
        The functions, and of those on the path what is known.
    weighed : bool
        Weights are variables, so that a constant is none.
    """

    functions: Mapping[str, Function]
    bodies: Mapping[str, Body]
    weighed: bool

    def find(self, nodes: Mapping[str, NodeDef], body: Body, image: Still) -> tuple[Still, dict[str, Still]]:
        """What is the image in these nodes, where it enters as `image`, and in the functions that they call."""
        inside: dict[str, Still] = {}
        return self._walked(nodes, body, image, inside), inside

    def _walked(self, nodes: Mapping[str, NodeDef], body: Body, image: Still, inside: dict[str, Still]) -> Still:
        path, known = body
        found = dict(image)
        for name in in_order(nodes, path):
            node = nodes[name]
            if node.op in FIRST_ARGUMENT:
                found.update(self._called(node, path, found, inside))
                continue
            level = self._made(node, path, known, found)
            if level is not None:
                found.update(dict.fromkeys((f"{name}:{place}" for place in range(_outputs(node))), level))
        return found

    def _made(self, node: NodeDef, path: set[str], known: Known, found: Still) -> int | None:
        """How much of the image a node makes of images; None where it makes none."""
        inputs = data_inputs(node)
        numbers = _numbers(node) if node.op not in ARITHMETIC else inputs
        if numbers is None:
            return self._weighted(node, path, known, found)
        live = [text for text in numbers if split(text)[0] in path]
        if not live or not all(text in found for text in live):
            return None
        least = min(found[text] for text in live)
        if node.op in ARITHMETIC:
            return self._rescaled(node, path, known, least) if len(live) == 1 else MIXED
        return MIXED if node.op in OTHER_PIXELS else least

    # -- arithmetic with one image

    def _rescaled(self, node: NodeDef, path: set[str], known: Known, level: int) -> int:
        """What is left of it: numbers that were not learnt, one or one a channel, rescale it."""
        others = [text for text in data_inputs(node) if split(text)[0] not in path]
        values = [value for text in others if (value := known(text)) is not None and value.size <= MAX_CHANNELS]
        if node.op not in SCALED and others or len(values) < len(others) or any(map(known.is_learnt, others)):
            return MIXED
        if node.op in SHIFTS:
            return self._shifted(np.asarray(values[0]), node.op == "Sub", split(node.input[0])[0] in path, level)
        if node.op == "Neg" or any((value < 0).any() for value in values):
            return min(level, SHIFTED)
        fractions = node.op in ("RealDiv", "Div") or node.op == "Mul" and not all(map(_is_whole, values))
        return FRACTIONS.get(level, level) if fractions else level

    def _shifted(self, value: Array, taken: bool, first: bool, level: int) -> int:
        """What is left of it where a number is added or `taken` off, or it is taken off the number, unless it comes `first`.
        What is added darkens nothing, but may be learnt in a frozen graph where it is one a channel; an image that is taken
        off its range is a negative."""
        step = -value if taken else value
        whole = level in FRACTIONS and _is_whole(value)
        if taken and not first:
            lighter = bool(np.isin(value, list(RANGES)).all())
        else:
            lighter = not step.any() or bool((step > 0).all()) and (self.weighed or not value.ndim)
        if lighter:
            return level if whole else FRACTIONS.get(level, level)
        return DARKENED if whole and len(np.unique(value)) == 1 else min(level, SHIFTED)

    # -- matrices and kernels

    def _weighted(self, node: NodeDef, path: set[str], known: Known, found: Still) -> int | None:
        inputs = data_inputs(node)
        live = [place for place, text in enumerate(inputs[:2]) if split(text)[0] in path]
        if len(live) != 1 or inputs[live[0]] not in found or len(inputs) != 2:
            return None
        other = inputs[1 - live[0]]
        value = known(other)
        if known.is_learnt(other):
            return None
        if value is None:  # of each channel there is no kernel that is computed, but of a filter
            return MIXED if self.weighed and _is_depthwise(node) else None
        matrix = _matrix(node, value, live[0])
        if matrix is None:
            return None
        few = max(value.shape[-2:]) <= FEW if _is_depthwise(node) else max(matrix.shape) <= FEW
        return MIXED if _keeps_grays(matrix) or few and (self.weighed or (matrix >= 0).all()) else None

    # -- loops and branches

    def _called(self, node: NodeDef, path: set[str], found: Still, inside: dict[str, Still]) -> Still:
        """Which outputs of a loop or branch are the image."""
        given = data_inputs(node)[FIRST_ARGUMENT[node.op] :]
        start = [found.get(text) for text in given]
        free = [split(text)[0] not in path for text in given]
        names = [name for name in called_by(node) if name in self.bodies]
        if node.op in BRANCHES:
            results = [self._results(name, start, free, inside) for name in names]
        else:
            results = [self._turned(name, start, free, inside) for name in names]
        results = [one for one in results if one]
        outputs = {f"{node.name}:{place}": _joined(column) for place, column in enumerate(zip(*results, strict=False))}
        return {tensor: level for tensor, level in outputs.items() if level is not None}

    def _turned(
        self, name: str, start: Sequence[int | None], free: Sequence[bool], inside: dict[str, Still]
    ) -> list[int | None]:
        """The same of a loop: an argument is the image where what the body makes of it still is; what is empty at first, such
        as the list of what it gives, may become so."""
        function = self.functions[name]
        if len(function.results) != len(start):  # its condition
            self._results(name, start, free, inside)
            return []
        held = [WHOLE if one is None and empty else one for one, empty in zip(start, free, strict=True)]
        for _ in range(len(start) + 1):
            results = self._results(name, held, [False] * len(held), {})
            after = [_joined(pair) for pair in zip(held, results, strict=True)]
            if after == held:
                break
            held = after
        return self._results(name, held, [False] * len(held), inside)

    def _results(
        self, name: str, start: Sequence[int | None], free: Sequence[bool], inside: dict[str, Still]
    ) -> list[int | None]:
        """Which results of a function are the image, where these arguments are; what does not depend on it is free."""
        function, body = self.functions[name], self.bodies[name]
        arguments = [f"{argument.name}:0" for argument in function.signature.input_arg]
        image = {text: level for text, level in zip(arguments, start, strict=False) if level is not None}
        found = self._walked(function.nodes, body, image, inside)
        before = inside.get(name, found)  # it may be called twice
        inside[name] = {text: min(level, before[text]) for text, level in found.items() if text in before}
        return [found.get(text, None if split(text)[0] in body[0] else WHOLE) for text in function.results]


def _joined(several: Sequence[int | None]) -> int | None:
    """What is the image in all of these, as much as it is in each."""
    levels = [one for one in several if one is not None]
    return min(levels) if len(levels) == len(several) else None


def _is_whole(value: Array) -> bool:
    return bool((value == np.round(value)).all())


def _numbers(node: NodeDef) -> list[str] | None:
    """The inputs that hold what a picture is made of; None where an operation makes none of them, or weighs them."""
    inputs = data_inputs(node)
    if node.op in MOVERS:
        return MOVERS[node.op].numbers(node)
    if node.op in LISTS:
        return [inputs[place] for place in LISTS[node.op]]
    return inputs[:1] if node.op in SAME_PIXELS | OTHER_PIXELS or node.op == "Einsum" and len(inputs) == 1 else None


def _outputs(node: NodeDef) -> int:
    """How many tensors a mover gives."""
    for name in ("num_split", "num"):
        if name in node.attr:
            return int(node.attr[name].i)
    return 1


def _is_depthwise(node: NodeDef) -> bool:
    return node.op == "DepthwiseConv2dNative"


def _matrix(node: NodeDef, value: Array, place: int) -> Array | None:
    """What a product makes [from, to] of the channels, neighbours and places of an image, which is its input `place`."""
    if node.op == "Conv2D" and place == 0 and value.ndim == 4:
        return value.reshape(-1, value.shape[-1])
    if _is_depthwise(node) and place == 0 and value.ndim == 4:
        return value.reshape(-1, value.shape[-2] * value.shape[-1])
    if node.op in PRODUCTS and value.ndim == 2:
        name = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
        turned = attribute(node, name[1 - place]).b
        return value.T if turned == (place == 0) else value
    return _of_equation(node, value, place) if node.op == "Einsum" else None


def _of_equation(node: NodeDef, value: Array, place: int) -> Array | None:
    """The same of `nhwc,cd->nhwd`, where the image is one of the two."""
    sides, _, result = attribute(node, "equation").s.decode().partition("->")
    names = sides.split(",")
    mine, image = names[1 - place], names[place]
    if "..." in mine or len(mine) != value.ndim or len(set(mine)) < len(mine):
        return None
    summed = [axis for axis, name in enumerate(mine) if name in image and name not in result]
    kept = [axis for axis in range(value.ndim) if axis not in summed]
    turned = value.transpose(summed + kept)
    return turned.reshape(math.prod(value.shape[axis] for axis in summed), -1)


def _keeps_grays(matrix: Array) -> bool:
    """What is alike in all of an image comes out alike: it moves, blurs or resizes, or changes colours, or changes them back."""
    if any(_sums_up(matrix.sum(0) / scale, max(matrix.shape) <= FEW) for scale in SCALES):
        return True
    rows, columns = matrix.shape
    if rows != columns or rows > FEW or abs(np.linalg.det(matrix)) < 1e-9:
        return False
    back = np.linalg.inv(matrix).sum(0)
    return any(_sums_up(back / scale, True) for scale in SCALES)


def _sums_up(sums: Array, colours: bool) -> bool:
    """All are 1; of colours some may be 0: a difference of two, which a gray has none of."""
    ones, zeros = np.abs(sums - 1) < NEAR, np.abs(sums) < NEAR
    return bool((ones | zeros).all() and ones.any()) if colours else bool(ones.all())
