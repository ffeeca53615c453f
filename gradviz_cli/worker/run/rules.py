"""What happens to a gradient at a marked activation, and at a StopGradient."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

from gradviz_cli.rules import Rule
from gradviz_cli.worker.passes.mark import ATTRIBUTE, GRADIENT

_rule: ContextVar[Rule] = ContextVar("rule")
_stops_open: ContextVar[bool] = ContextVar("stops_open", default=False)


@contextmanager
def obeying(rule: Rule, stops_open: bool = False) -> Iterator[None]:
    """Gradients built inside follow `rule` at every marked activation, and pass a StopGradient only if told."""
    tokens = _rule.set(rule), _stops_open.set(stops_open)
    try:
        yield
    finally:
        _rule.reset(tokens[0])
        _stops_open.reset(tokens[1])


# A name can be registered once in a process, so the rule is looked up when a gradient is built. That also lets
# several modes share one forward pass.
@tf.RegisterGradient(GRADIENT)
def _backward(op: tf.Operation, *upstreams: tf.Tensor) -> list[tf.Tensor | None]:
    mark = json.loads(op.get_attr(ATTRIBUTE))
    if mark["kind"] == "stop":
        return [upstreams[0] if _stops_open.get() else None]
    if mark["kind"] == "smooth":
        # IdentityN(f(x), x): what takes the first way is still multiplied by f'(x), a smooth activation's gate
        return list(_rule.get().around_gate(upstreams[0], tf.nn.relu))
    downstream = _rule.get().backward(upstreams[0], _gate(op, mark), tf.nn.relu)
    return [downstream if i == mark["source"] else None for i in range(len(op.inputs))]


def _gate(op: tf.Operation, mark: Mapping) -> Callable[[tf.Tensor], tf.Tensor]:
    """g -> g where the activation was open, by the activation's kind."""
    output, kind = op.outputs[0], mark["kind"]
    if kind == "relu":
        return lambda upstream: tf.raw_ops.ReluGrad(gradients=upstream, features=output)
    if kind == "relu6":
        return lambda upstream: tf.raw_ops.Relu6Grad(gradients=upstream, features=output)
    if kind == "floor":
        is_open = output > 0
    elif kind == "cap":
        is_open = op.inputs[mark["source"]] < tf.cast(mark["high"], output.dtype)
    else:
        is_open = (output > 0) & (output < tf.cast(mark["high"], output.dtype))
    return lambda upstream: tf.where(is_open, upstream, tf.zeros_like(upstream))
