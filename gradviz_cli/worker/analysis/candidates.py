"""Tensors that may be named with --input and --output: what the graph itself offers beside the keys of its signature."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import tensorflow as tf

from gradviz_cli.process.protocol import CamLayer, Candidate
from gradviz_cli.worker.analysis.axes import PICTURE_CHANNELS
from gradviz_cli.worker.graph.graph import Graph, consumers, data_inputs, split
from gradviz_cli.worker.graph.match import RENAMING_OPS
from gradviz_cli.worker.graph.question import Question, Tensor, static_tensors

LAYERS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2"})
MOST_STEPS = 24  # from an end of the graph


def inputs(graph: Graph, question: Question) -> tuple[Candidate, ...]:
    """The image, other inputs that pictures have the shape of, and the tensors right behind the image, up to the first layer:
    what the model makes of its range and size. Every way to the score passes each of these."""
    keys = [_of_key(one, "input") for one in (question.image, *question.others) if _is_picture(one)]
    behind = list(_behind(graph, question))
    tensors = zip(behind, static_tensors(graph, *[f"{name}:0" for name in behind]), strict=True) if behind else ()
    found = []
    for name, tensor in tensors:
        shape = tensor.shape
        if shape.rank != 4 or shape[3] not in PICTURE_CHANNELS:
            break
        if tensor.dtype.is_floating and graph.nodes[name].op not in RENAMING_OPS:
            found.append(Candidate(f"{name}:0", f"behind {graph.nodes[name].op}", tuple(shape.as_list())))
    return (*keys, *found)


def _behind(graph: Graph, question: Question) -> Iterator[str]:
    """The nodes that follow the image one by one, as long as there is one way."""
    path, readers = question.path(graph), consumers(graph.nodes)
    name = split(question.fed(graph))[0]
    for _ in range(MOST_STEPS):
        following = sorted({one for one in readers.get(name, ()) if one in path})
        if len(following) != 1 or graph.nodes[following[0]].op in LAYERS:
            return
        name = following[0]
        yield name


def outputs(graph: Graph, question: Question, score: str | None, layers: Collection[CamLayer]) -> tuple[Candidate, ...]:
    """The outputs of the signature, the `score` before its softmax if there is one, what feeds the last layer, and a channel of the last feature
    map. `graph` has the names that the user may type."""
    offered = question.outputs or (question.output,)
    found = [_of_key(one, "output") for one in offered if one.dtype.is_floating and one.shape != ()]
    known = {one.name for one in offered}
    features = _feeding(graph, question)
    for tensor, what in ((score, "the score before its softmax or sigmoid"), (features, "what feeds the last layer")):
        if tensor and tensor not in known and split(tensor)[0] in graph.nodes:
            (static,) = static_tensors(graph, tensor)
            if static.shape.rank is not None and static.shape.rank >= 2:
                found.append(Candidate(tensor, what, tuple(static.shape.as_list())))
                known.add(tensor)
    last = list(layers)[-1:]
    found += [Candidate(f"{one.tensor}[..., 0]", "a channel of the last feature map", one.shape) for one in last]
    return tuple(found)


def _feeding(graph: Graph, question: Question) -> str | None:
    """What the last layer before the score takes."""
    path, tensor = question.path(graph), graph.score
    for _ in range(MOST_STEPS):
        node = graph.nodes[split(tensor)[0]]
        before = [one for one in data_inputs(node) if split(one)[0] in path]
        if len(before) != 1:
            return None
        tensor = before[0]
        if node.op in LAYERS:
            return tensor if ":" in tensor else f"{tensor}:0"
    return None


def _of_key(tensor: Tensor, what: str) -> Candidate:
    shape = None if tensor.shape is None else tuple(None if size < 0 else size for size in tensor.shape)
    return Candidate(tensor.key, f"{what} of the signature", shape)


def _is_picture(tensor: Tensor) -> bool:
    return tensor.dtype == tf.string or tensor.shape is None or len(tensor.shape) in (2, 3, 4)
