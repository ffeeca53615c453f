"""Which operations of a stranger's graph may run. Fails closed: what is not on the list is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources

from gradviz_cli.errors import ModelRefused
from gradviz_cli.worker.expand import Flat


@cache
def allowed_ops() -> frozenset[str]:
    """The operations that image models need; none of them reads or writes files or talks to anyone."""
    groups = json.loads(resources.files(__package__).joinpath("allowed_ops.json").read_text("utf-8"))
    return frozenset(op for ops in groups.values() for op in ops)


def refused_ops(flat: Flat, allow: Iterable[str] = ()) -> dict[str, str]:
    """Op -> a node that has it, for every operation outside the allowed set."""
    allowed = allowed_ops() | frozenset(allow)
    return {op: node for op, node in sorted(flat.ops().items()) if op not in allowed}


def judge(flat: Flat, allow: Iterable[str] = (), trust: bool = False) -> None:
    """Raise ModelRefused when the explained part of the model holds an operation outside the allowed set."""
    refused = {} if trust else refused_ops(flat, allow)
    if refused:
        op, node = next(iter(refused.items()))
        others = f" and {len(refused) - 1} more kinds ({', '.join(list(refused)[1:6])})" if len(refused) > 1 else ""
        raise ModelRefused(
            f"the model needs op {op} (node {node}){others}, which gradviz does not let run",
            f"if you trust the model's source: --allow-op {op}, or --trust-model for all",
        )
