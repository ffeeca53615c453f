"""Which scores an output stands for: what an ArgMax or a top-k read, and which of their axes holds the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.graph.graph import Graph, ancestors, data_inputs, source, split
from gradviz_cli.worker.graph.match import OF_SHAPES, SHAPE_OPS, constant, through

# What chooses between scores: the best class, or one that is drawn; and what says yes or no to a single one.
DECIDING = frozenset({"ArgMax", "ArgMin", "TopK", "TopKV2", "Multinomial", "StatelessMultinomial", "Round", "Rint"})
COMPARING = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual"})
# What may stand behind a decision, and which inputs may hold it. These hand it on as it is ...
HANDING_ON = {
    **dict.fromkeys(("BroadcastTo", "Tile", "StridedSlice", "Slice", "EnsureShape", *SHAPE_OPS), slice(1)),
    **dict.fromkeys(("Cast", "Transpose"), slice(1)),
}
# ... and these say it in other words: an action, a label, a bound, a count from 1.
CODING = {
    **dict.fromkeys(("LookupTableFind", "LookupTableFindV2"), slice(1, 2)),
    **dict.fromkeys(("Gather", "GatherV2", "GatherNd", "ResourceGather"), slice(2)),
    **dict.fromkeys(("AsString", "OneHot", "Neg"), slice(1)),
    **dict.fromkeys(("Select", "SelectV2", "ClipByValue"), slice(3)),
    **dict.fromkeys(("Maximum", "Minimum", "Add", "AddV2", "Sub", "Mul", "RealDiv", "FloorDiv", "FloorMod"), slice(2)),
    **dict.fromkeys(("Pack", "AddN"), slice(None)),
    "ConcatV2": slice(-1),
}
MOST = 200  # operations behind a decision


@dataclass(frozen=True)
class Decision:
    """What an output decides between.

    Attributes
    ----------
    scores : frozenset of str
        The tensors of scores; none where nothing is decided.
    coded : bool
        It says the class in other words than its index.
    only : bool
        Nothing but decisions and constants lies behind it, so that no gradient passes.
    smallest : bool
        It decides for the smallest score.
    """

    scores: frozenset[str] = frozenset()
    coded: bool = False
    only: bool = True
    smallest: bool = False


# What a ranking of scores is seen through: a larger score stays the larger one.
RISING = SHAPE_OPS | {"Softmax", "LogSoftmax", "Sigmoid", "Log", "Exp", "Cast", "StridedSlice", "Slice"}


def decided_from(graph: Graph, output: str) -> str | None:
    """The scores that an output decides between, if it does.

    Raises
    ------
    ModelUnusable
        It decides several times; or for the smallest.
    """
    found = decision_of(graph, output)
    if len(found.scores) > 1:
        raise ModelUnusable(
            f"the output decides several times, between {' and '.join(sorted(found.scores))}",
            f"choose the scores with --output, as in --output {min(found.scores)}",
        )
    scores = next(iter(found.scores), None)
    if found.smallest:
        raise ModelUnusable(
            f"the output is a decision for the smallest of {scores}",
            f"explain one of its classes with --output {scores} -t CLASS",
        )
    return scores


def decision_of(graph: Graph, output: str) -> Decision:
    """What an output decides between."""
    return _decision(graph, output, {})


def _decision(graph: Graph, tensor: str, seen: dict[str, Decision]) -> Decision:
    if tensor in seen or len(seen) > MOST:
        return seen.get(tensor, Decision(only=False))
    seen[tensor] = Decision(only=False)  # a circle decides nothing
    node = graph.node(tensor)
    if node.op in DECIDING:
        number = node.op in ("TopK", "TopKV2") and split(tensor)[1] == 0
        found = Decision(frozenset({source(node, 0)}), only=not number, smallest=node.op == "ArgMin")
    elif node.op in COMPARING:
        scores = next((one for one in data_inputs(node)[:2] if _changes(graph, one)), source(node, 0))
        found = Decision(frozenset({scores}))
    elif node.op in HANDING_ON or node.op in CODING:
        found = _handed_on(node, [_decision(graph, one, seen) for one in _holding(node)])
    else:
        found = Decision(only=node.op in OF_SHAPES or not _changes(graph, tensor))
    seen[tensor] = found
    return found


def _holding(node: NodeDef) -> list[str]:
    """The inputs that may hold a decision."""
    return data_inputs(node)[HANDING_ON.get(node.op) or CODING[node.op]]


def _handed_on(node: NodeDef, behind: list[Decision]) -> Decision:
    if node.op in ("Select", "SelectV2") and any(one.scores for one in behind[1:]):
        behind = [replace(behind[0], scores=frozenset()), *behind[1:]]  # what is chosen says more than by what
    return Decision(
        frozenset().union(*(one.scores for one in behind)),
        node.op in CODING or any(one.coded for one in behind),
        all(one.only for one in behind),
        any(one.smallest for one in behind),
    )


def _changes(graph: Graph, tensor: str) -> bool:
    """Whether a tensor depends on anything that is fed."""
    fixed = {*graph.weights, *graph.handles}
    names = ancestors(graph.nodes, [tensor]) - fixed
    return any(graph.nodes[name].op == "Placeholder" for name in names)


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
