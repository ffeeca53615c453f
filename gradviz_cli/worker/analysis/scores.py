"""Which scores an output stands for: what an ArgMax or a top-k read, and which of their axes holds the classes."""

from __future__ import annotations

from collections.abc import Sequence

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.graph.graph import Graph, source, split, walk
from gradviz_cli.worker.graph.match import SHAPE_OPS, constant, through

# What turns scores into a decision, and which input holds the scores (or the decision so far).
DECISIONS = {
    "ArgMax": 0,
    "TopK": 0,
    "TopKV2": 0,
    "LookupTableFind": 1,
    "LookupTableFindV2": 1,
    "Gather": 1,
    "GatherV2": 1,
    "AsString": 0,
    "Select": 0,
    "SelectV2": 0,
    "Greater": 0,
    "GreaterEqual": 0,
    "Cast": 0,
    **dict.fromkeys(("ClipByValue", "Maximum", "Minimum", "Add", "AddV2", "Sub", "Mul"), 0),
    **dict.fromkeys(("BroadcastTo", "Tile", "StridedSlice", "Slice", "EnsureShape", *SHAPE_OPS), 0),
}
# Those among them that read the scores themselves: the best classes, or a single one above a threshold.
DECIDING = frozenset({"ArgMax", "TopK", "TopKV2", "Greater", "GreaterEqual"})
# What a ranking of scores is seen through: a larger score stays the larger one.
RISING = SHAPE_OPS | {"Softmax", "LogSoftmax", "Sigmoid", "Log", "Exp", "Cast", "StridedSlice", "Slice"}


def decided_from(graph: Graph, output: str) -> str | None:
    """The scores that an integer or string output was decided from; None where nothing that decides lies behind it."""

    def onward(tensor: str) -> str | None:
        node = graph.node(tensor)
        return source(node, DECISIONS[node.op]) if node.op in DECISIONS and node.op not in DECIDING else None

    *_, last = walk(output, onward, 50)
    node = graph.node(last)
    return source(node, DECISIONS[node.op]) if node.op in DECIDING else None


def ranked_from(graph: Graph, output: str) -> str | None:
    """The scores whose best an output lists: the values of a top-k or a sort, a gather by their places, the largest of
    all. Their order says nothing of classes. None for an output that lists all classes in their own order.

    Raises
    ------
    ModelUnusable
        The worst come first: which score is meant is not clear.
    """
    last = through(graph.nodes, output, RISING)
    node = graph.node(last)
    if node.op == "Neg":
        _check_unsorted(graph, output, source(node, 0))
    if node.op in ("TopK", "TopKV2") and split(last)[1] == 0:
        return source(node, 0)
    if node.op in ("Gather", "GatherV2", "GatherNd"):
        scores = decided_from(graph, source(node, 1))
        alike = scores is not None and through(graph.nodes, source(node, 0), RISING) == through(
            graph.nodes, scores, RISING
        )
        return scores if alike else None
    if node.op == "Max" and _of_a_vector(graph, source(node, 0)):
        axis = constant(graph.nodes, source(node, 1))
        return source(node, 0) if axis is not None and axis.ravel().tolist() in ([-1], [1]) else None
    return None


def _check_unsorted(graph: Graph, output: str, negative: str) -> None:
    node = graph.node(through(graph.nodes, negative, RISING))
    if node.op in ("TopK", "TopKV2"):
        scores = through(graph.nodes, source(node, 0), ("Neg",))
        raise ModelUnusable(
            f"the output {output} is sorted: its places are ranks and no classes",
            f"explain what it is sorted from with --output {scores}",
        )


def _of_a_vector(graph: Graph, tensor: str) -> bool:
    """[N, K] for certain: behind a dense layer."""
    node = graph.node(through(graph.nodes, tensor, RISING - SHAPE_OPS | {"Identity"}))
    if node.op in ("BiasAdd", "Add", "AddV2"):
        node = graph.node(source(node, 0))
    return node.op == "MatMul"


def class_axis(shape: Sequence[int | None], image: tuple[int, int]) -> int:
    """The axis of scores [N, ...] that holds the classes: the only one that is longer than 1; else the last, or the
    second where scores lie as exports from PyTorch have them."""
    inner = shape[1:]
    longer = [axis for axis, size in enumerate(inner, 1) if size != 1]
    if len(longer) == 1 and inner[longer[0] - 1] is not None:
        return longer[0]
    return 1 if len(inner) == 3 and classes_first(inner, image) else len(shape) - 1


def classes_first(shape: Sequence[int | None], image: tuple[int, int]) -> bool:
    """Whether scores of this shape (without the batch) are [K, H, W], as exports from PyTorch have them.

    They are when the last two axes have the proportions of the image and the first two have not.
    """
    known = [size for size in shape if size is not None]
    if len(known) < len(shape):
        return False
    first, middle, last = known
    like_image = [abs(h * image[1] - w * image[0]) <= max(image) for h, w in ((first, middle), (middle, last))]
    return like_image == [False, True]
