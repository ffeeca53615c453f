"""What is worked out ahead is what gradients need, and takes nothing that a model could have."""

from __future__ import annotations

import pytest
import tensorflow as tf

from gradviz_cli.worker.graph.tf_private import call, forget, make_known
from gradviz_cli.worker.run import warm_up
from gradviz_cli.worker.run.warm_up import OPERATIONS, every_operation


def test_every_operation_is_looked_at_and_none_is_run() -> None:
    function = every_operation()
    looked = {f"{op}_{dtype}": op for dtype, operations in OPERATIONS.items() for op in operations}
    found = {node.name: node for node in function.node_def if node.name in looked}
    assert {name: node.op for name, node in found.items()} == looked
    assert all(text.endswith("_switch:output_true:0") for node in found.values() for text in node.input)
    assert all(node.input for node in found.values()), "what reads nothing would be run"
    make_known(function)
    try:
        assert call(function.signature.name, [tf.constant(2.5), tf.constant(2), tf.constant(False)]).numpy() == 4.5
    finally:
        forget(function.signature.name)


def test_it_works_and_leaves_no_function(monkeypatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        warm_up, "make_known", lambda function: (made.append(function.signature.name), make_known(function))
    )
    warm_up.warm_up()
    with pytest.raises(tf.errors.NotFoundError):
        call(made[0], [tf.constant(0.0), tf.constant(0), tf.constant(False)])
