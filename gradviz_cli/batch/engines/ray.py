"""Nodes on a cluster of Ray: one for each machine, or for each GPU. `python -m` runs it, behind `apart`.

A machine is taken whole. What Ray counts as its processors is given to the node as processors; two nodes of one machine
get different ones.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from gradviz_cli.batch.engines import apart
from gradviz_cli.batch.engines.driver import AT_ONCE, Lost, drive
from gradviz_cli.batch.engines.messages import Spec, from_text
from gradviz_cli.batch.engines.work import Work
from gradviz_cli.files.scratch import Scratch
from gradviz_cli.files.whole import discard_all
from gradviz_cli.model import shipped
from gradviz_cli.plan.results import Result
from gradviz_cli.plan.serialize import from_json
from gradviz_cli.process import machine

HERE = "127.0.0.1"
STORE = 100_000_000  # bytes of Ray's memory for what processes of one machine share; chunks and results are small
LONGEST_PATH = 40  # characters of the folder of a cluster: its sockets lie deeper
CONNECTING = 10.0  # seconds
SHUN = 30.0  # seconds that a place is left alone where a node did not come
GOODBYE = 3.0  # seconds for nodes to tidy up
# It sends nobody figures of its use, leaves variables alone that say which GPUs there are, and makes nodes no nicer to other
# programs than a run without it is.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}


def results(work: Work) -> Generator[Result, None, None]:
    return drive(work, partial(_started, work.plan.ray_address))


def _started(address: str | None) -> apart.Apart:
    folder, more = Scratch(LONGEST_PATH), dict(ENVIRONMENT)
    if not address:  # nobody else of this machine may use the cluster
        more |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    config = {"address": address, "folder": folder.path}
    named = f"--ray-address {address}" if address else "--engine ray"
    return apart.Apart(__name__, config, more, folder, named)


class Place(NamedTuple):
    """Where a node may be: on which of Ray's nodes, with how many processors beginning with which, and with how many GPUs."""

    ray_node: str
    number: int
    first: int
    cores: int
    gpus: int


class OnRay:
    """A `driver.Crew`. Of a cluster that was not started for it nothing is ended but its own nodes."""

    def __init__(self, config: dict[str, Any]):
        ray = self._ray = import_module("ray")
        logging.getLogger("ray").setLevel(logging.ERROR)
        _connect(ray, config["address"], config["folder"])
        self._is_ours = not config["address"]
        self._actor = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=AT_ONCE + 1)(Actor)
        self._nodes: dict[int, tuple[Any, Place]] = {}
        self._shunned: dict[Place, float] = {}
        self._model: Any = None

    @property
    def room(self) -> int:
        return len(self._places())

    def hire(self, node: int, spec: str) -> Future[str]:
        taken = {place for _, place in self._nodes.values()}
        place = next((one for one in self._places() if one not in taken), None)
        if place is None:
            raise Lost("there is no place for one more")
        affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        there = affinity(place.ray_node, soft=False)
        share = self._actor.options(num_cpus=place.cores, num_gpus=place.gpus, scheduling_strategy=there)
        actor = share.remote(spec, (place.first, place.cores), self._shipped(spec))
        self._nodes[node] = actor, place
        future = self._future(actor.hired.remote())
        future.add_done_callback(
            lambda done: self._shunned.update({place: time.monotonic()} if done.exception() else {})
        )
        return future

    def _shipped(self, spec: str) -> list[Any]:
        """The model, once for all nodes; on this machine they see it."""
        if self._is_ours:
            return []
        if self._model is None:
            self._model = self._ray.put(shipped.packed(Path(from_json(from_text(spec, Spec).plan).model.path)))
        return [self._model]

    def explain(self, node: int, chunk: str) -> Future[str]:
        return self._future(self._nodes[node][0].explain.remote(chunk))

    def dismiss(self, node: int) -> None:
        if node in self._nodes:
            with suppress(Exception):  # it is gone anyway
                self._ray.kill(self._nodes.pop(node)[0])

    def close(self, patience: float | None = None) -> None:
        closing = [actor.close.remote() for actor, _ in self._nodes.values()]
        if closing:
            with suppress(Exception):
                self._ray.wait(closing, num_returns=len(closing), timeout=GOODBYE)
        for node in list(self._nodes):
            self.dismiss(node)
        self._ray.shutdown()

    def _places(self) -> list[Place]:
        """Those of machines that are alive, but where a node has just been lost."""
        found: list[Place] = []
        first: dict[str, int] = {}  # processor of each machine that is free yet
        for node in sorted(self._ray.nodes(), key=lambda one: one["NodeID"]):
            cpus, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
            if not node["Alive"] or not cpus:
                continue
            host, count = node["NodeManagerHostname"], max(1, gpus)
            for number in range(count):
                cores = max(1, cpus // count)
                found.append(Place(node["NodeID"], number, first.get(host, 0), cores, min(1, gpus)))
                first[host] = first.get(host, 0) + cores
        now = time.monotonic()
        return [place for place in found if now - self._shunned.get(place, -SHUN) >= SHUN]

    def _future(self, answer: Any) -> Future[str]:
        """What Ray calls its errors, in the driver's words."""
        found: Future[str] = Future()
        unavailable = self._ray.exceptions.ActorUnavailableError

        def done(of_ray: Any) -> None:
            error = of_ray.exception()
            if error is None:
                found.set_result(of_ray.result())
            else:
                found.set_exception(Lost(_line(error), not isinstance(error, unavailable)))

        answer.future().add_done_callback(done)
        return found


class Actor:
    """A node, on a machine that has gradviz too."""

    def __init__(self, spec: str, cores: tuple[int, int], model: list[Any]):
        from gradviz_cli.batch.engines.node import Node

        self._node = Node(spec, partial(_fetched, model[0]) if model else None, cores)

    def hired(self) -> str:
        return self._node.hired()

    def explain(self, chunk: str) -> str:
        return self._node.explain(chunk)

    def close(self) -> None:
        self._node.close()
        discard_all()


def _fetched(model: Any) -> bytes:
    return import_module("ray").get(model)


def _connect(ray: Any, address: str | None, folder: str) -> None:
    """To a cluster that runs; without an address to a new one, of this machine alone, which nobody else reaches."""
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if not address or address.startswith((f"{HERE}:", "localhost:")):
        services: Any = import_module("ray._private.services")  # it takes another address of this machine for 127.0.0.1
        services.resolve_ip_for_localhost = lambda host: host
        services.get_node_ip_address = lambda *given, **named: HERE
        quiet["_node_ip_address"] = HERE
    if address:
        _check_answers(address)
        ray.init(address, **quiet)
    else:
        beneath = os.path.join(folder, "r")  # which Ray opens to everybody: the one around it stays closed
        room = {"num_cpus": machine.cores(), "object_store_memory": STORE, "_temp_dir": beneath}
        ray.init("local", include_dashboard=False, **room, **quiet)


def _check_answers(address: str) -> None:
    """Ray itself tries for a long time; raises OSError."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), CONNECTING).close()


def _line(error: BaseException) -> str:
    """The line of Ray's many that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if "Error" in lines[-1] else lines[0] if lines else type(error).__name__


def _why(error: Exception) -> tuple[str, str]:
    if isinstance(error, OSError):
        return error.strerror or _line(
            error
        ), "start it, or name another one; the command runs on a machine of the cluster"
    return f"Ray does not start: {_line(error)}", "see whether `ray start --head` does, or use --engine local"


if __name__ == "__main__":
    apart.serve(OnRay, _why)
