"""The lease of an OUT in a store: one holder, takeover of what is silent, nothing left behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from stores import memory, s3

from gradviz_cli.batch import lease
from gradviz_cli.batch.claim import CLAIM, this_process
from gradviz_cli.batch.lease import Lease, held
from gradviz_cli.errors import Locked, OutputError
from gradviz_cli.files import objects
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.remote import Remote


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    with memory() if request.param == "memory" else s3(monkeypatch) as top:
        yield top / "out"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "GRACE", 0.05)


def left(out: Remote) -> list[str]:
    return [one.place.below(out) or "" for one in objects.everything(out)]


def written(out: Remote, **said: object) -> None:
    objects.put(out / CLAIM, json.dumps({**this_process(), **said}).encode())


def test_it_is_there_while_it_is_held(out: Remote) -> None:
    with held(out, 0) as one:
        assert left(out) == [CLAIM]
        one.check()
        with pytest.raises(Locked, match=r"another run is writing there \(process \d+ on .* since"), held(out, 0):
            pass
    assert left(out) == []


def test_of_many_that_come_at_once_one_has_it(out: Remote) -> None:
    start, taken = threading.Barrier(6), []

    def take() -> None:
        one = Lease(out)
        start.wait()
        if one.take():
            taken.append(one)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    taken[0].release()
    assert left(out) == []


@pytest.mark.parametrize(
    "said, silent, free",
    [
        ({"start": "1"}, 0, True),  # of this machine, and not there any more
        ({}, 9999, False),  # this very process
        ({"host": "far", "machine": ["a", "b"]}, lease.SILENCE + 1, True),
        ({"host": "far", "machine": ["a", "b"]}, lease.SILENCE - 1, False),
        ({"machine": None}, lease.SILENCE - 1, False),
    ],
)
def test_takeover(out: Remote, monkeypatch, said: dict, silent: float, free: bool) -> None:
    written(out, **said)
    monkeypatch.setattr(Lease, "_silence", lambda *given: silent)
    one = Lease(out)
    assert one.take() is free
    one.release()
    assert left(out) == ([] if free else [CLAIM])


def test_racing_takers_of_a_stale_one(out: Remote, monkeypatch) -> None:
    written(out, start="1")
    gone, start = Lease._is_gone, threading.Barrier(4)
    monkeypatch.setattr(Lease, "_is_gone", lambda *given: (gone(*given), start.wait())[0])
    leases = [Lease(out) for _ in range(4)]
    found: list[bool] = []
    threads = [threading.Thread(target=lambda one=one: found.append(one._took())) for one in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False, False, False, True]


def test_silence_is_told_by_the_clock_of_the_store(out: Remote) -> None:
    written(out)
    found = objects.look(out / CLAIM)
    assert found.stamp is not None
    old = found._replace(stamp=(found.stamp[0], found.stamp[1] - 500 * 10**9, 0))
    assert Lease(out)._silence(found) < 100 and 400 < Lease(out)._silence(old) < 600
    assert left(out) == [CLAIM]


def test_one_that_was_taken_over_publishes_nothing(out: Remote, monkeypatch) -> None:
    with pytest.raises(Locked, match="another run has taken it over"), held(out, 0) as one:
        written(out, host="another")
        one.check()  # nobody asks before there is a reason to doubt
        monkeypatch.setattr(lease, "DOUBT", -1)
        one.check()
    assert json.loads(objects.read(out / CLAIM, 1000))["host"] == "another"  # and leaves the other's alone


def test_it_is_renewed(out: Remote, monkeypatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    with held(out, 0) as one:
        first, heard = one._tag, one._heard
        while one._tag == first:
            pass
        assert one._heard > heard


def test_shards_and_whole_runs(out: Remote) -> None:
    with held(out, 0, (1, 2)), held(out, 0, (2, 2)):
        for shard in ((1, 1), (1, 2), (1, 3)):
            with pytest.raises(Locked), held(out, 0, shard):
                pass
    with held(out, 0), pytest.raises(Locked), held(out, 0, (1, 2)):
        pass
    assert left(out) == []


def test_an_answer_that_was_lost(out: Remote, monkeypatch) -> None:
    """The object is written, and a second attempt of the library meets it."""
    create = objects.create
    lost = [True]

    def asked(place: Remote, data: bytes) -> str:
        tag = create(place, data)
        if lost.pop() if lost else False:
            raise StoreError("taken", "something is there already", "")
        return tag

    monkeypatch.setattr(objects, "create", asked)
    with held(out, 0) as one:
        assert one._tag == objects.look(one.place).tag


def test_a_store_without_conditional_writes_is_refused(monkeypatch) -> None:
    with memory() as top:
        monkeypatch.setattr(objects, "create", lambda place, data: objects.put(place, data) or "tag")
        with pytest.raises(OutputError, match="the store knows no conditional writes"), held(top, 0):
            pass
        assert left(top) == []


def test_who_only_brings_lines_together_is_waited_for(out: Remote, monkeypatch) -> None:
    with held(out, 0, doing="merging") as first:
        other = Lease(out, (1, 2))
        assert not other.take() and other.merging
        monkeypatch.setattr(lease, "PAUSE", 0.02)
        timer = threading.Timer(0.1, first.release)
        timer.start()
        with held(out, 0, (1, 2)):
            timer.join()
