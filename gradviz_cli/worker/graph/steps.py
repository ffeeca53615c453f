"""Runs passes one after the other; what fails says in which step and at which node."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import tensorflow as tf

from gradviz_cli.errors import GradvizError, ModelUnusable
from gradviz_cli.worker.graph.graph import Graph, GraphError
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.graph.words import described

# `Question`, or None for steps that run before it is settled.
Asked = TypeVar("Asked", Question, None)
Check = Callable[[Graph, Question | None], None]


@dataclass(frozen=True)
class Step(Generic[Asked]):
    """One pass, and why it is there in one line."""

    name: str
    function: Callable[[Graph, Asked], Graph]
    why: str


def run_steps(graph: Graph, question: Asked, steps: Sequence[Step[Asked]], check: Check | None = None) -> Graph:
    """The graph after all steps; `check` (`verify`) is asked after each.

    Raises
    ------
    GradvizError
        As a step says; or ModelUnusable that names the step, and the node where that is known, for whatever else it
        raises.
    """
    for step in steps:
        with doing(f"running {step.name}", graph):
            graph = step.function(graph, question)
            if check is not None:
                check(graph, question)
    return graph


@contextmanager
def doing(what: str, graph: Graph | None = None) -> Iterator[None]:
    """Whatever fails inside is said to have failed while `what`, and at the node of `graph` that is to blame.

    Raises
    ------
    ModelUnusable
        In place of any exception but those that say more: our own, memory that ran out, and a mistake in our code that
        no graph can cause.
    """
    try:
        yield
    except (GradvizError, MemoryError, NameError):
        raise
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(described(error)) from error
    except Exception as error:  # whatever Python and TensorFlow throw at a strange graph
        raise _unusable(what, error, graph) from error


def _unusable(what: str, error: Exception, graph: Graph | None) -> ModelUnusable:
    fault = error if isinstance(error, GraphError) else _fault(graph)
    if fault is not None:
        message = f"the graph contradicts itself at {fault.place} while {what}: it {fault.what}"
    else:
        message = f"the graph cannot be built; {what} failed ({described(error)})"
    raised = ModelUnusable(message, "copy or export the model again; -v shows where it failed")
    raised.traceback = traceback.format_exc()
    return raised


def _fault(graph: Graph | None) -> GraphError | None:
    """What is wrong with the graph that a step was given."""
    with suppress(RecursionError):
        try:
            if graph is not None:
                verify(graph)
        except GraphError as error:
            return error
    return None
