"""What happens to a gradient at a marked activation, and at a StopGradient."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.rules import Rule
from gradviz_cli.worker.graph.graph import Function
from gradviz_cli.worker.graph.tf_private import native_gradient
from gradviz_cli.worker.graph.wrappers import own_gradients
from gradviz_cli.worker.passes.mark import ATTRIBUTE, GRADIENT

_rule: ContextVar[Rule] = ContextVar("rule")
_stops_open: ContextVar[bool] = ContextVar("stops_open", default=False)
_unmarked: ContextVar[bool] = ContextVar("unmarked", default=False)
_functions: ContextVar[Mapping[str, Function]] = ContextVar("functions")


@contextmanager
def obeying(rule: Rule, stops_open: bool = False) -> Iterator[None]:
    """Gradients built inside follow `rule` at every marked activation, and pass a StopGradient only if told."""
    _register()
    tokens = _rule.set(rule), _stops_open.set(stops_open)
    try:
        yield
    finally:
        _rule.reset(tokens[0])
        _stops_open.reset(tokens[1])


@contextmanager
def unmarked() -> Iterator[None]:
    """Gradients built inside are TensorFlow's own, as if no activation were marked; stops stay what they are."""
    _register()
    token = _unmarked.set(True)
    try:
        yield
    finally:
        _unmarked.reset(token)


@contextmanager
def calling(functions: Mapping[str, Function]) -> Iterator[None]:
    """Gradients built inside find the gradient functions of the model's own here."""
    token = _functions.set(functions)
    try:
        yield
    finally:
        _functions.reset(token)


@cache
def _register() -> None:
    """A name can be registered once in a process, so the rule is looked up when a gradient is built. That also lets several
    modes share one forward pass."""
    tf.RegisterGradient(GRADIENT)(_backward)


def _backward(op: tf.Operation, *upstreams: tf.Tensor) -> list[tf.Tensor | None]:
    mark, upstream = json.loads(op.get_attr(ATTRIBUTE)), upstreams[0]
    if mark["kind"] == "stop":
        return [upstream if _stops_open.get() else None]
    if mark["kind"] == "own":
        return own_gradients(_functions.get(), op.node_def, op.inputs, upstreams)
    if _unmarked.get():
        return [upstream, None] if op.type == "IdentityN" else native_gradient(op.type)(op, *upstreams)
    if mark["kind"] in _OPERATIONS:
        grad = getattr(tf.raw_ops, _OPERATIONS[mark["kind"]])
        return [_rule.get().backward(upstream, lambda g: grad(gradients=g, features=op.outputs[0]), tf.nn.relu)]
    # IdentityN(exit, entry): what takes the first way passes the operations between, what takes the second none of them
    if mark["kind"] == "smooth":
        through, by = _rule.get().around_gate(upstream, tf.nn.relu)  # the gate is f'(x), which is on the first way
        return [through, None if by is None else _shaped_like(by, op.inputs[1])]
    turned = mark.get("turned", False)
    entry = -op.inputs[1] if turned else op.inputs[1]
    downstream = _shaped_like(_rule.get().backward(upstream, lambda g: _gated(g, entry, mark), tf.nn.relu), entry)
    return [None, -downstream if turned else downstream]


def is_replaced(node: NodeDef) -> bool:
    """Whether a node's mark puts a gradient of ours in the place of TensorFlow's own, even where no rule acts."""
    if ATTRIBUTE not in node.attr:
        return False
    kind = json.loads(node.attr[ATTRIBUTE].s)["kind"]
    return kind == "gate" or kind in _OPERATIONS and kind != node.op.lower()


def is_substitute(node: NodeDef) -> bool:
    """Whether a node passes a gradient on that is not the derivative of what it computes."""
    return ATTRIBUTE in node.attr and json.loads(node.attr[ATTRIBUTE].s)["kind"] not in ("gate", "smooth", *_OPERATIONS)


def corners(node: NodeDef) -> tuple[float, ...]:
    """Values of its entry at which a marked activation has no single gradient."""
    mark = json.loads(node.attr[ATTRIBUTE].s)
    return tuple(mark[end] for end in ("low", "high") if isinstance(mark.get(end), int | float))


_OPERATIONS = {"relu": "ReluGrad", "relu6": "Relu6Grad"}


def _gated(upstream: tf.Tensor, entry: tf.Tensor, mark: Mapping) -> tf.Tensor:
    """The gradient where a ReLU was open: strictly between 0, or where it opens, and its cap, if it has one."""
    is_open = entry > tf.constant(mark["low"], entry.dtype)
    if mark["high"] is not None:
        is_open &= entry < tf.constant(mark["high"], entry.dtype)
    return tf.where(is_open, upstream, tf.zeros_like(upstream))


def _shaped_like(gradient: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """A gradient summed over the axes along which its tensor was broadcast."""
    ranks = gradient.shape.rank, tensor.shape.rank
    if None not in ranks and gradient.shape.as_list() == tensor.shape.as_list():
        return gradient
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(tensor), s1=tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(tensor))
