"""A model as it stands between reading and differentiating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.estimators import Taps
from gradviz_cli.process.protocol import LAYOUTS, ModelOptions
from gradviz_cli.worker.analysis.activations import Found
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.run.targets import Problem

# Activations that are not continuous, or whose values have no name.
JUMPING = frozenset({"Threshold", "HardShrink", "Composite"})


@dataclass(frozen=True)
class Prepared:
    """A graph with its weights, and all that is known of its input; may be built any number of times.

    Attributes
    ----------
    found : Found
        What lies between the image and the score.
    preprocess : str
        The pixel range that the model expects; `guessed` where nobody says so.
    random : bool
        It draws random numbers.
    probability : bool
        The score is a probability that no logit stands for.
    warnings : tuple of str
        Everything that had to be assumed.
    meta, read
        What was read: the meta graph, and variable -> value as the checkpoint has it.
    assumed : str or None
        Which of the warnings is of the axes and sizes of the input, as they may be what a graph cannot be built with.
    unfed : str or None
        Which of them is of inputs that are fed with 0.
    taps : tuple of Taps
        The inner tensors that are asked for.
    """

    options: ModelOptions
    graph: Graph
    question: Question
    problem: Problem
    found: Found
    preprocess: str
    guessed: bool
    random: bool
    probability: bool
    warnings: tuple[str, ...]
    meta: MetaGraphDef
    read: Mapping[str, tf.Tensor]
    assumed: str | None = None
    unfed: str | None = None
    taps: tuple[Taps, ...] = ()

    @property
    def batched(self) -> bool:
        """The model takes several images at once, or at least has an axis for them."""
        return "N" in LAYOUTS[self.problem.entry.layout]

    @property
    def dtype(self) -> tf.DType:
        """In which its graph takes images."""
        return tf.dtypes.as_dtype(self.graph.node(self.problem.fed).attr["dtype"].type)

    @property
    def jumps(self) -> bool:
        """Some activation is not continuous, or may not be: a step across a jump has no slope."""
        return bool(JUMPING.intersection(self.found.counts))
