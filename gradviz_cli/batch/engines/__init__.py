"""Where the images of a run are explained: here, or on many machines. Each engine is a function `Work -> results`.

`local` is `batch.pipeline`. The others share `driver.py`, and what they put behind it is a `driver.Crew`: nodes that are
hired, asked, and ended.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from gradviz_cli.batch.flow import PATIENCE
from gradviz_cli.errors import UsageError
from gradviz_cli.plan.plan import Plan

if TYPE_CHECKING:  # the names of engines are options, and stand before anything else is imported (`batch.run`)
    from gradviz_cli.batch.engines.work import Work
    from gradviz_cli.plan.results import Result

Engine = Callable[["Work"], Generator["Result", None, None]]


def local(work: Work) -> Generator[Result, None, None]:
    """On this machine."""
    from gradviz_cli.batch import pipeline

    told, of_model = work.observer, (work.seal, work.observer.loading, work.ahead)
    return pipeline.results(
        work.plan, work.jobs, work.digests, told.loaded, work.manifest, work.known, work.end, *of_model
    )


def on_ray(work: Work) -> Generator[Result, None, None]:
    """On the nodes of a cluster of Ray."""
    from gradviz_cli.batch.engines import ray  # whoever does not ask for it has nothing of it

    return ray.results(work)


LOCAL, RAY = "local", "ray"
GRACE = PATIENCE + 0.5  # seconds, when time is up, for nodes to say what they have done
ENGINES: dict[str, Engine] = {LOCAL: local, RAY: on_ray}


def check_chosen(engine: str, address: str | None) -> None:
    """Refuse an address that nobody asks, and an engine that is not installed."""
    if address is not None and engine != RAY:
        raise UsageError(f"--ray-address {address}: --engine {engine} has no use for it", f"add --engine {RAY}")
    _check_installed(engine)


def _check_installed(engine: str) -> None:
    if engine == RAY and importlib.util.find_spec(RAY) is None:
        raise UsageError(f"--engine {engine}: Ray is not installed", "pip install 'gradviz-cli[ray]'")


def check(plan: Plan, stdin: bool) -> None:
    """Refuse an engine that is not installed, and what other machines cannot do: it lies in a private folder of this one."""
    if plan.engine == LOCAL:
        return
    named = f"--engine {plan.engine}"
    _check_installed(plan.engine)
    if plan.file:
        raise UsageError(f"{named}: --out {plan.file} is one picture", f"use --engine {LOCAL}, or give a folder")
    if stdin:
        raise UsageError(f"{named}: an image on stdin is on this machine alone", f"use --engine {LOCAL}")
