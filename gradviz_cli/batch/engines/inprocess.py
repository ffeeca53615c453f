"""Nodes in this process: the smallest engine there is, for tests of what all engines have in common."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

from gradviz_cli.batch.engines.driver import AT_ONCE, drive
from gradviz_cli.batch.engines.node import Node
from gradviz_cli.batch.engines.work import Work
from gradviz_cli.files.whole import discard_all
from gradviz_cli.plan.results import Result


class InProcess:
    """So many nodes, each with a worker of its own."""

    def __init__(self, room: int = 1):
        self.room = room
        self._nodes: dict[int, Node] = {}
        self._pool = ThreadPoolExecutor(room * AT_ONCE, "node")

    def hire(self, node: int, spec: str) -> Future[str]:
        self._nodes[node] = Node(spec)
        return self._pool.submit(self._nodes[node].hired)

    def explain(self, node: int, chunk: str) -> Future[str]:
        return self._pool.submit(self._nodes[node].explain, chunk)

    def dismiss(self, node: int) -> None:
        self._nodes.pop(node).close()

    def close(self, patience: float | None = None) -> None:
        for node in list(self._nodes):
            self.dismiss(node)
        self._pool.shutdown(wait=patience is None)
        discard_all()


def inprocess(work: Work) -> Generator[Result, None, None]:
    return drive(work, InProcess)
