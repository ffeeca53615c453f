"""What runs on a node: chunks of jobs -> pictures in OUT, and results for the driver.

A node keeps one worker over its chunks, behind the same walls as on one machine. Two chunks at once are two pipelines
(`batch.pipeline`) that share it: while the images of the one are differentiated, those of the other are read.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.batch import bucket, pipeline
from gradviz_cli.batch.engines.messages import Answer, Chunk, Hired, Sketch, Spec, from_text, job_of, sent, to_text
from gradviz_cli.batch.files import HERE, Files
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.batch.proofs import Proofs
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import GradvizError, ImageError, ModelUnusable, OutputError, UsageError
from gradviz_cli.files import whole
from gradviz_cli.files.text import printable
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.model import fingerprint, shipped
from gradviz_cli.model.explainer import Attribution, Explainer
from gradviz_cli.model.proofs import PACKAGES, version
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result
from gradviz_cli.plan.serialize import from_json, to_json
from gradviz_cli.plan.targets import Target
from gradviz_cli.process import machine, shortage, supervisor
from gradviz_cli.process.protocol import Explain, Failure, Loaded, Proof
from gradviz_cli.version import __version__

Fetch = Callable[[], bytes]


def spec_of(plan: Plan, digests: Digests, probe: str = "") -> Spec:
    """What nodes are told of a run, with paths that mean the same on each of them."""
    model = replace(plan.model, path=os.path.abspath(plan.model.path))
    told = replace(plan, model=model, out=Path(os.path.abspath(plan.out)), engine="local", ray_address=None)
    digest = sample(told, digests.fingerprint)
    return Spec(to_json(told), digests.fingerprint, digest, versions(), whole.OWNER, probe)


def sample(plan: Plan, model: str) -> str:
    """The digest that an image would have which is nowhere, of the best class."""
    plan = replace(plan, drawing=replace(plan.drawing, targets=(Target(rank=0),)))
    digests = Digests(plan, model)
    found = outputs(plan, Job(Path("/sample.png"), "sample.png"), SHEETS)
    return joint_digest([digests.of(one, hashlib.sha256().hexdigest(), 0) for one in found])


def versions() -> tuple[tuple[str, str], ...]:
    """Of what decides how a picture comes out; of packages that are not there nothing."""
    found = {"gradviz-cli": __version__, **{name: version(name) for name in (*PACKAGES, "pillow")}}
    return tuple((name, each) for name, each in found.items() if each is not None)


class Kept(Explainer):
    """An explainer that several pipelines share: the worker is asked one question at a time, and no more images are decoded
    than one pipeline would at once, each of which may start a decoder."""

    def __init__(self, decoded: int, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self._asking, self._decoding = threading.Lock(), threading.Semaphore(decoded)

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def load(self, proof: Proof | None = None) -> Loaded:
        with self._asking:
            return self._loaded or super().load(proof)

    def decode(self, *given: Any, **named: Any) -> Pixels:
        with self._decoding:
            return super().decode(*given, **named)

    def explain(
        self,
        fitted: Sequence[np.ndarray],
        request: Explain,
        preprocess: str | None = None,
        held: Sequence[str] = (),
    ) -> Iterator[Attribution | ImageError]:
        with self._asking:
            yield from super().explain(fitted, request, preprocess, held)


class Collected(Manifest):
    """Stands for OUT's manifest, which the driver writes."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.behind = False

    def add(self, *results: Result) -> None:
        self.results += results


class Given(Proofs):
    """The proof that the driver knows, if there is one."""

    def __init__(self, plan: Plan, model: str, before: Proof | None):
        super().__init__(plan, model, Collected())
        self._before = before

    def before(self) -> Proof | None:
        return self._before

    def keep(self, proof: Proof | None) -> None:
        """The answer has it."""


class Node:
    """One place where chunks are done. Any of its methods may be called while others run.

    Parameters
    ----------
    spec : str
        As `Spec` is sent.
    fetch : callable, optional
        Gives the model (`model.shipped.packed`) where its path leads to no such model here.
    cores : (first, count), optional
        Of the processors, those that the node is given.
    """

    def __init__(self, spec: str, fetch: Fetch | None = None, cores: tuple[int, int] = (0, 0)):
        machine.keep_to(*cores)
        supervisor.keep_children()  # of pipelines that end with their chunk
        self._spec: Spec = from_text(spec, Spec)
        self._fetch = fetch
        self._explainer: Kept | None = None
        self._files: Files = HERE
        self._open = ExitStack()

    def hired(self) -> str:
        """See that it can do what it is hired for, and say so."""
        host = os.uname().nodename
        try:
            self._begin()
        except GradvizError as error:
            return to_text(Hired(host, "", _failure(error)))
        return to_text(Hired(host, Given(self._plan, self._spec.fingerprint, None).key))

    def _begin(self) -> None:
        spec = self._spec
        self._check_versions()
        plan = from_json(spec.plan)
        if plan.url:
            plan, self._files = self._open.enter_context(bucket.opened(plan))
        elif not os.path.lexists(spec.probe):
            raise OutputError(
                f"{printable(plan.out)}: is another folder there",
                "give an --out that all nodes see under the same path",
            )
        whole.OWNER = spec.owner
        self._typed = plan.model.path
        plan = replace(plan, model=replace(plan.model, path=str(self._model(Path(plan.model.path)))))
        if sample(plan, spec.fingerprint) != spec.digest:
            raise UsageError("the options mean something else there", "install the same version of gradviz everywhere")
        self._plan, self._digests = plan, Digests(plan, spec.fingerprint)
        self._seal = fingerprint.seal(Path(plan.model.path))
        self._explainer = pipeline.explainer_of(plan, partial(Kept, pipeline.threads_of(plan)))
        self._explainer.expect(self._seal)

    def _check_versions(self) -> None:
        here, there = dict(versions()), dict(self._spec.versions)
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                said = f"it has {name} {here.get(name, 'not at all')}, and the command {there.get(name, 'not at all')}"
                raise UsageError(said, "install the same versions everywhere, or the pictures would differ")

    def _model(self, path: Path) -> Path:
        with suppress(GradvizError):
            if fingerprint.of_model(path) == self._spec.fingerprint:
                return path
        if self._fetch is None:
            raise ModelUnusable(f"{printable(path)} is another model there", "wait until it is copied, and run again")
        return shipped.unpacked(self._fetch(), self._spec.fingerprint)

    def explain(self, text: str) -> str:
        """The answer to a chunk; what it could not do it says."""
        chunk: Chunk = from_text(text, Chunk)
        assert self._explainer is not None, "hire it first"
        end = None if chunk.left is None else time.monotonic() + chunk.left
        lines, proofs = Collected(), Given(self._plan, self._spec.fingerprint, chunk.proof)
        jobs, kept = map(job_of, chunk.jobs), (self._explainer, proofs)
        failure = None
        stages = pipeline.pipeline(
            self._plan, self._digests, lambda model: None, lines, Sketch(chunk.jobs, self._files), self._seal, kept=kept
        )
        try:
            with pipeline.at_work(stages):
                for _ in stages.results(jobs, end):
                    pass
        except Exception as error:
            failure = _failure(shortage.as_error(error) or error)
        return to_text(self._answer(lines.results, failure))

    def _answer(self, results: Sequence[Result], failure: Failure | None) -> Answer:
        explainer = self._explainer
        assert explainer is not None
        if failure is not None and self._typed != self._plan.model.path:
            given = [text.replace(self._plan.model.path, self._typed) for text in (failure.message, failure.remedy)]
            failure = replace(failure, message=given[0], remedy=given[1])
        told = tuple(map(sent, results))
        if not explainer.is_loaded:
            return Answer(told, failure)
        return Answer(told, failure, explainer.loaded, explainer.proof, explainer.misfit)

    def close(self) -> None:
        """End the worker. What was not published stays: another node may be in this process."""
        if self._explainer is not None:
            self._explainer.close()
        self._open.close()


def _failure(error: BaseException) -> Failure:
    if isinstance(error, GradvizError):
        return Failure(type(error).__name__, error.message, error.remedy, tuple(error.traceback.splitlines()))
    lines = traceback.format_exception(error)
    return Failure("Bug", "".join(lines)[-10_000:])
