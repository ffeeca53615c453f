"""Jobs -> results where others do the work: what is the same for every engine.

    listing -> minus what is untouched -> chunks -> nodes -> answers -> lines in OUT's manifest -> results, in order

The driver is the command: it has the plan, the listing, OUT's lock and its manifest. A node draws the pictures of a chunk,
and writes them into the OUT that all of them see; when they are on its disk it says so, and the driver adds the lines. So
a chunk may be done more than once, by whoever is there, and counts once: its pictures have the same bytes, and appear whole.

* Nothing is listed ahead of what nodes can take, and nothing waits at a node that has not answered.
* A chunk is a few seconds of a node's work, by the rate that it had of late; a node has two, so that it never waits.
* What a lost node had goes to another one. A chunk that has lost two is halved, down to one image, which has failed then. To
  see whose fault it is, such a chunk is the only one of its node.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gradviz_cli import errors
from gradviz_cli.batch.current import failed, sift
from gradviz_cli.batch.engines import GRACE
from gradviz_cli.batch.engines.messages import (
    Answer,
    Asked,
    Chunk,
    Hired,
    asked,
    from_text,
    results_of,
    to_text,
)
from gradviz_cli.batch.engines.node import spec_of
from gradviz_cli.batch.engines.work import Work
from gradviz_cli.batch.flow import Pool, in_order, time_up
from gradviz_cli.batch.pipeline import LONGEST_WAIT, MOST_IMAGES, MOST_JOBS, Parts, at_work
from gradviz_cli.batch.proofs import Proofs
from gradviz_cli.batch.untouched import names_of
from gradviz_cli.errors import GradvizError, ImageError, ModelUnusable, OutputError, TimeUp, UsageError
from gradviz_cli.files import whole
from gradviz_cli.model.explainer import ModelTold
from gradviz_cli.plan.outputs import LOCK
from gradviz_cli.plan.plan import Job
from gradviz_cli.plan.results import Result
from gradviz_cli.process.protocol import Failure, NotUnderstood, Proof

FIRST, LARGEST = 16, 2000  # images of a chunk: as long as nothing says how fast a node is, and at most
WORTH = 3.0  # seconds of a node's work in a chunk
AT_ONCE = 2  # chunks of a node
MOST_WAITING = 50_000  # results that wait for those of an image before them
LOSSES = 2  # nodes that a chunk may cost
# Nodes that are lost, or never come, one after the other without a chunk that is done, beside one for each that there may be.
IN_A_ROW = 8
REST = 5.0  # seconds that a node is left alone that could not be reached
LOOK = 0.25  # seconds between two looks whether there is room for one more
PATIENT = 60.0  # seconds until it is said that no node has come


class Lost(Exception):
    """A node has no answer, and what it was given is to be done by another.

    Attributes
    ----------
    gone : bool
        It is dead; else it could not be reached, which happens under load and is no death.
    """

    def __init__(self, why: str, gone: bool = True):
        super().__init__(why)
        self.gone = gone


class Crew(Protocol):
    """What an engine is to the driver: nodes by numbers, which the driver gives them. Futures have texts, or raise Lost."""

    @property
    def room(self) -> int:
        """Nodes that may be at work at once, as far as is known now."""
        ...

    def hire(self, node: int, spec: str) -> Future[str]:
        """A `Hired`, when the node is there."""
        ...

    def explain(self, node: int, chunk: str) -> Future[str]:
        """An `Answer`."""
        ...

    def dismiss(self, node: int) -> None:
        """Nothing more is wanted of it."""
        ...

    def close(self, patience: float | None = None) -> None:
        """End all nodes; without patience, give them time to tidy up."""
        ...


class Item(NamedTuple):
    """An image of the run, by its place in the listing: its result, or what a node is asked for."""

    place: int
    job: Job
    names: tuple[str, ...]
    result: Result | None
    asked: Asked | None = None


@dataclass(eq=False)
class Part:
    """A chunk, as the driver has it.

    Attributes
    ----------
    lost, missed : int
        Nodes that died with it, and that could not be reached.
    suspect : bool
        It, or the chunk that it is a half of, was with a node that died.
    """

    items: list[Item]
    lost: int = 0
    missed: int = 0
    suspect: bool = False

    @property
    def pending(self) -> list[Item]:
        return [item for item in self.items if item.asked is not None]


@dataclass(eq=False)
class Hand:
    """A node that was hired; `host` once it has answered."""

    number: int
    host: str = ""
    key: str = ""
    flying: list[Part] = field(default_factory=list)
    last: float | None = None  # when its last answer came
    rate: float = 0.0  # images a second
    rests_until: float = 0.0

    @property
    def size(self) -> int:
        """Images of its next chunk."""
        return min(LARGEST, max(FIRST, int(self.rate * WORTH)))

    def has_room(self, suspect: bool) -> bool:
        alone = suspect or any(part.suspect for part in self.flying)
        room = 1 if alone else AT_ONCE
        return bool(self.host) and len(self.flying) < room and time.monotonic() >= self.rests_until

    def answered(self, images: int) -> None:
        """Take the rate, but not of the first chunk, which waits for the model."""
        now = time.monotonic()
        if self.last is not None and images:
            found = images / max(now - self.last, 1e-3)
            self.rate = found if not self.rate else (self.rate + found) / 2
        self.last = now


class Driver:
    """One run on a crew.

    Attributes
    ----------
    redone : int
        Images that were given to a node once more.
    """

    def __init__(self, work: Work, start: Callable[[], Crew]):
        self._work, self._start = work, start
        self._crew: Crew | None = None
        self._warn_at: float | None = None  # unless a node has come
        self._pool = Pool("look", work.plan.jobs or MOST_JOBS)
        self._items: Iterator[Item] = self._looked_at(work.jobs)
        self._listed = False  # all there is
        self._todo: deque[Part] = deque()
        self._hands: dict[int, Hand] = {}
        self._calls: dict[Future[str], tuple[Hand, Part | None]] = {}
        self._done: dict[int, Result] = {}  # by place
        self._held: list[tuple[int, Result]] = []
        self._next = self._hired = self._in_a_row = 0
        self._error: GradvizError | None = None
        self._swept = True
        self._why_lost = "none is there"
        self._more = False  # to be listed, though nobody waits for it
        self._over = False  # nothing more is begun
        self._proofs: dict[str, Proof] = {}
        self._told: set[str] = set()
        self._probe: whole.Staged | None = None
        self._spec = ""
        self.redone = 0

    # -- the loop

    def results(self) -> Generator[Result, None, None]:
        """One for each job, in order; raises what ends the run, as `Pipeline.results`."""
        try:
            while not self._finished:
                self._more = False
                self._feed()
                yield from self._ready()
                self._await()
                yield from self._ready()
        except TimeUp:
            self._last_words()
            self._write_down()
            yield from self._left()
            raise
        self._write_down()
        self._work.manifest.behind = False
        yield from self._left()
        if self._error is not None:
            raise self._error

    @property
    def _finished(self) -> bool:
        return not self._calls and (self._over or self._listed and not self._todo)

    def _ready(self) -> Iterator[Result]:
        while (found := self._done.pop(self._next, None)) is not None:
            self._next += 1
            yield found

    def _left(self) -> Iterator[Result]:
        """Also what waits for an image that has none."""
        yield from (self._done.pop(place) for place in sorted(self._done))

    # -- the listing

    def _looked_at(self, jobs: Iterable[Job]) -> Iterator[Item]:
        parts = Parts(jobs)
        looked = in_order((self._pool.submit(self._look, part) for part in parts), parts.ahead, self._work.end)
        found = (one for part in looked for one in part)
        return (Item(place, *one) for place, one in enumerate(found))

    def _look(self, jobs: Sequence[Job]) -> list[tuple[Job, tuple[str, ...], Result | None, Asked | None]]:
        """What nobody has touched needs no node."""
        work, plan = self._work, self._work.plan
        found = []
        for job, wanted, result in sift(plan, jobs, work.digests, plan.limits, work.known):
            names = tuple(names_of(plan, wanted))
            found.append((job, names, result, None if result else asked(job, names, work.known)))
        return found

    def _take(self, size: int) -> Part | None:
        """The next chunk with something to do; results that stand without a node are recorded on the way. None where there is
        none, or it is time to let others have their turn."""
        items: list[Item] = []
        pending, since = 0, time.monotonic()
        while not self._listed and not self._over and pending < size and len(items) < MOST_IMAGES + size:
            if items and time.monotonic() - since > LONGEST_WAIT:
                break
            try:
                item = next(self._items, None)
            except TimeUp:
                raise
            except GradvizError as error:  # it stands behind the images before it
                self._error, item = error, None
            self._listed = item is None
            if item is not None:
                items.append(item)
                pending += item.asked is not None
                self._listed = self._work.plan.fail_fast and item.result is not None and item.result.failed
        if pending:
            return Part(items)
        self._more = bool(items)
        self._record([(item.place, item.result) for item in items if item.result])
        return None

    # -- what nodes are given

    def _feed(self) -> None:
        """Give every node what it has room for, and hire for what is left."""
        for hand in list(self._hands.values()):
            while (part := self._for(hand)) is not None:
                self._submit(hand, part)
        self._fill()
        if self._todo and not self._over:
            self._hire()

    def _for(self, hand: Hand) -> Part | None:
        suspects = [part for part in self._todo if part.suspect]
        if suspects:  # nodes that are at work finish that, and take one of these
            if hand.flying or not hand.has_room(True):
                return None
            self._todo.remove(suspects[0])
            return suspects[0]
        if self._over or not hand.has_room(False):
            return None
        if self._todo:
            return self._todo.popleft()
        return self._take(hand.size) if len(self._done) < MOST_WAITING else None

    @property
    def _coming(self) -> int:
        return sum(not hand.host for hand in self._hands.values())

    def _fill(self) -> None:
        """As much as the nodes will take that are being hired, and what is enough to hire one more."""
        room = 1 if self._crew is None else self._crew.room
        while not self._listed and not self._over and len(self._todo) <= AT_ONCE * self._coming:
            if len(self._hands) >= room and not self._coming:
                return
            part = self._take(FIRST)
            if part is None:
                return
            self._todo.append(part)

    def _probed(self) -> str:
        """A file of OUT that nodes are to see; none of a store, which is the same wherever it is asked."""
        plan = self._work.plan
        if plan.url:
            return ""
        self._probe = whole.stage(plan.out / LOCK, b"")  # never under that name
        return os.path.abspath(os.fsdecode(self._probe.temporary))

    def _hire(self) -> None:
        if self._crew is None:
            self._work.observer.loading()
            self._crew = self._start()
            self._warn_at = time.monotonic() + PATIENT
        self._check_losses()
        while len(self._hands) < self._crew.room and len(self._todo) > AT_ONCE * self._coming:
            if not self._spec:
                self._spec = to_text(spec_of(self._work.plan, self._work.digests, self._probed()))
            self._hired += 1
            hand = self._hands[self._hired] = Hand(self._hired)
            self._calls[self._crew.hire(hand.number, self._spec)] = hand, None

    def _submit(self, hand: Hand, part: Part) -> None:
        assert self._crew is not None
        work = self._work
        left = None if work.end is None else max(0.0, work.end - time.monotonic())
        jobs = tuple(item.asked for item in part.items if item.asked is not None)
        work.manifest.behind = True
        hand.flying.append(part)
        text = to_text(Chunk(jobs, left, self._proof(hand.key)))
        self._calls[self._crew.explain(hand.number, text)] = hand, part

    def _proof(self, key: str) -> Proof | None:
        """What is known of machines like this one."""
        if key not in self._proofs:
            found = Proofs(self._work.plan, self._work.digests.fingerprint, self._work.manifest, key).before()
            if found is None:
                return None
            self._proofs[key] = found
        return self._proofs[key]

    # -- what comes back

    def _await(self) -> None:
        if not self._calls:
            return
        if self._warn_at is not None and time.monotonic() > self._warn_at:
            self._warn_at = None
            named = f"--engine {self._work.plan.engine}"
            self._work.observer.warning(f"{named}: no node has come within {PATIENT:.0f} s; others may use them")
        end, until = self._work.end, LOOK if self._coming or self._todo else REST
        if end is not None:
            until = min(until, max(0.0, end - time.monotonic()))
        done, _ = wait(self._calls, 0 if self._more else until, FIRST_COMPLETED)
        self._work.manifest.check()  # nodes do not know whose OUT is
        for call in done:
            self._take_in(call)
        if not done and end is not None and time.monotonic() >= end:
            raise time_up()

    def _take_in(self, call: Future[str]) -> None:
        if call not in self._calls:  # of a node that is lost by now
            return
        hand, part = self._calls.pop(call)
        try:
            text = call.result()
            if part is None:
                self._came(hand, from_text(text, Hired))
            else:
                self._answered(hand, part, from_text(text, Answer))
        except NotUnderstood as error:
            self._lose(hand, part, Lost(f"it answered nonsense ({error})"))
        except Lost as lost:
            self._lose(hand, part, lost)

    def _came(self, hand: Hand, said: Hired) -> None:
        if said.failure is not None:
            self._fail(said.failure, f"node {said.host}: ")
            return
        hand.host, hand.key = said.host, said.key
        self._warn_at = None

    def _answered(self, hand: Hand, part: Part, answer: Answer) -> None:
        waiting = part.pending
        jobs, names = [item.job for item in waiting], [item.names for item in waiting]
        found = results_of(jobs, names, answer.results)
        stopped = self._work.plan.fail_fast and any(one.failed for one in found)  # the node stops there
        if len(found) < len(waiting) and answer.failure is None and not stopped:
            raise NotUnderstood(f"{len(found)} results of {len(waiting)} images")
        hand.flying.remove(part)
        hand.answered(len(found))
        self._in_a_row = 0
        self._tell(hand, answer)
        done = {item.place: result for item, result in zip(waiting, found, strict=False)}
        last = max(done, default=-1) if len(found) < len(waiting) else part.items[-1].place
        done |= {item.place: item.result for item in part.items if item.result and item.place <= last}
        self._record(sorted(done.items()))
        if answer.failure is not None:
            # What a store refuses a node it may give the command, which has other credentials.
            at_store = self._work.plan.url and answer.failure.kind == OutputError.__name__
            self._fail(answer.failure, f"node {hand.host}: " if at_store else "")

    def _tell(self, hand: Hand, answer: Answer) -> None:
        """Warnings once a run, whichever node they come from; the rest of the first one alone."""
        if answer.loaded is None:
            return
        work = self._work
        if answer.proof is not None and answer.proof.complete and hand.key not in self._proofs:
            self._proofs[hand.key] = answer.proof
            Proofs(work.plan, work.digests.fingerprint, work.manifest, hand.key).keep(answer.proof)
        told = ModelTold(work.plan.model.path, answer.loaded, answer.proof, answer.misfit)
        warnings = told.warnings(work.plan.drawing.methods)
        if not self._told:
            work.observer.loaded(told)
            self._told.add("")
        else:
            for one in warnings:
                if one not in self._told:
                    work.observer.warning(one)
        self._told.update(warnings)

    def _record(self, found: list[tuple[int, Result]]) -> None:
        """As they come; but what is said of the run stands in the line of its first image, which the others wait for."""
        self._held += found
        if self._next or any(place == 0 for place, _ in found):
            self._write_down()
        if self._work.plan.fail_fast and any(result.failed for _, result in found):
            self._over = True
            self._todo.clear()

    def _write_down(self) -> None:
        found, self._held = sorted(self._held, key=lambda one: one[0]), []
        self._work.manifest.add(*(result for _, result in found))
        self._done.update(found)

    def _fail(self, failure: Failure, where: str = "") -> None:
        """What ends the run: once for all, behind what is under way."""
        self._over = True
        self._todo.clear()
        if failure.kind == TimeUp.__name__:
            self._error = self._error or time_up()
        elif failure.kind == "Bug":
            raise RuntimeError(f"on a node: {failure.message}")
        else:
            error = _KINDS.get(failure.kind, ModelUnusable)(where + failure.message, failure.remedy)
            error.traceback = "\n".join(failure.traceback)
            self._error = self._error or error

    # -- lost nodes

    def _lose(self, hand: Hand, part: Part | None, lost: Lost) -> None:
        """A chunk, or with the node all that it had, is for others."""
        self._swept = False
        if not lost.gone and part is not None and not part.missed:
            part.missed += 1
            hand.flying.remove(part)
            hand.rests_until = time.monotonic() + REST
            self._again(part)
            return
        self._in_a_row += 1
        self._hands.pop(hand.number, None)
        self._calls = {call: of for call, of in self._calls.items() if of[0] is not hand}
        if self._crew is not None:
            self._crew.dismiss(hand.number)
        self._work.observer.detail(f"node {hand.host or hand.number} was lost: {lost}")
        for each in hand.flying:
            each.lost, each.suspect = each.lost + 1, True
            self._again(each)
        self._why_lost = str(lost)

    def _again(self, part: Part) -> None:
        """Behind other suspects, so that of two halves the good one is done before the other has cost many nodes."""
        if self._over:
            return
        waiting = part.pending
        if part.lost < LOSSES:
            self.redone += len(waiting)
            self._todo.append(part)
        elif len(waiting) > 1:
            self.redone += len(waiting)
            middle = part.items.index(waiting[len(waiting) // 2])
            for half in (part.items[:middle], part.items[middle:]):
                self._todo.append(Part(half, suspect=True))
        else:
            self._record([(item.place, item.result or _crashed(item.job)) for item in part.items])

    def _check_losses(self) -> None:
        """An engine that gives no node, or loses each, is no engine."""
        assert self._crew is not None
        if self._in_a_row > IN_A_ROW + self._crew.room or not (self._crew.room or self._hands):
            raise UsageError(
                f"--engine {self._work.plan.engine}: nodes are lost one after the other ({self._why_lost})",
                "look into the logs of the cluster, or run with --engine local",
            )

    # -- the end

    def _last_words(self) -> None:
        """Time is up, and nodes know it: what they did by then is theirs to say."""
        self._over = True
        end = time.monotonic() + GRACE
        while self._calls and time.monotonic() < end:
            done, _ = wait(self._calls, end - time.monotonic(), FIRST_COMPLETED)
            for call in done:
                self._take_in(call)
        self._work.manifest.behind = bool(self._calls)

    def close(self, patience: float | None = None) -> None:
        """End the nodes, and remove what those left that were lost."""
        self._over = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._crew is not None:
            self._crew.close(patience)
        if self._probe is not None:
            whole.discard(self._probe)
        if self._swept:
            return
        if patience is None:
            whole.sweep(self._work.plan.out, below=True, owner=whole.OWNER)
            self._swept = True
        else:  # the next run will
            self._work.manifest.behind = True


_KINDS = {
    each.__name__: each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GradvizError)
}


def _crashed(job: Job) -> Result:
    said = f"{LOSSES} nodes were lost over it, one after the other; the others go on without it"
    return failed(job, ImageError("crash", said))


def drive(work: Work, start: Callable[[], Crew]) -> Generator[Result, None, None]:
    """The results of a run on the crew that `start` gives: it is started with the first image that needs it."""
    driver = Driver(work, start)
    with at_work(driver):
        yield from driver.results()
    if driver.redone:
        work.observer.detail(f"{driver.redone} images were given to a node once more")
