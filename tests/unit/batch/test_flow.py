"""Futures in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from gradviz_cli.batch.flow import Pool, Settled, Stage, drained, in_order
from gradviz_cli.errors import ModelUnusable, TimeUp, Unanswered


def broken(error: Exception) -> Future:
    future: Future = Future()
    future.set_exception(error)
    return future


def test_results_come_in_order_whatever_is_done_first() -> None:
    pool = Pool("test", 4)
    waits = [0.02, 0.0, 0.01, 0.0, 0.0]

    def work(place: int) -> int:
        time.sleep(waits[place])
        return place

    futures = (pool.submit(work, place) for place in range(5))
    assert list(in_order(futures, lambda: 4, None)) == [0, 1, 2, 3, 4]
    pool.shutdown()


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_only_so_many_are_under_way(ahead: int) -> None:
    begun: list[int] = []

    def futures():
        for place in range(8):
            begun.append(place)
            yield Settled(place)

    for place in in_order(futures(), lambda: ahead, None):
        assert len(begun) <= place + 1 + ahead


def test_it_is_told_who_is_waited_for() -> None:
    called: list[int] = []
    assert list(in_order(map(Settled, "abc"), lambda: 1, None, called.append)) == ["a", "b", "c"]
    assert called == [0, 1, 2]


def test_an_error_comes_in_its_turn() -> None:
    found = in_order(iter([Settled(1), broken(ModelUnusable("x")), Settled(2)]), lambda: 5, None)
    assert next(found) == 1
    with pytest.raises(ModelUnusable):
        next(found)


def test_the_time_is_up() -> None:
    with pytest.raises(TimeUp, match="--max-duration"):
        next(in_order([Future()], lambda: 0, time.monotonic() + 0.01))
    with pytest.raises(TimeUp):  # also when there would be a result
        next(in_order([Settled(1)], lambda: 0, time.monotonic() - 1))
    assert list(in_order([Settled(1)], lambda: 0, time.monotonic() + 60)) == [1]


def test_a_timeout_of_the_work_itself_is_not_the_end_of_the_run() -> None:
    with pytest.raises(FutureTimeout):
        next(in_order([broken(FutureTimeout())], lambda: 0, time.monotonic() + 60))


def test_what_is_under_way_still_comes_when_the_source_ends() -> None:
    def source():
        yield Settled(1)
        yield Settled(2)
        yield Settled(3)
        raise ModelUnusable("the source")

    found = []
    with pytest.raises(ModelUnusable, match="the source"):
        for one in drained(source()):
            found.append(one)
    assert found == [1, 2, 3]


def test_one_is_always_under_way_while_the_last_is_taken() -> None:
    begun = []

    def source():
        for place in range(4):
            begun.append(place)
            yield Settled(place)

    found = drained(source())
    assert next(found) == 0 and begun == [0, 1]
    assert list(found) == [1, 2, 3]


def test_a_pool_knows_what_it_has_not_finished() -> None:
    pool, go = Pool("test", 1), threading.Event()
    first, second = pool.submit(go.wait, 5), pool.submit(int)
    assert pool.unfinished == {first, second}
    go.set()
    assert second.result(5) == 0
    pool.shutdown()
    assert not pool.unfinished


def test_a_stage_that_is_closed_drops_what_waits_and_waits_for_nothing() -> None:
    stage, go, begun = Stage("test", 1), threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        go.wait(5)
        return 1

    running, waiting = stage._pool.submit(work), stage._pool.submit(work)
    assert begun.wait(5)
    stage.close()
    stage.close()
    assert stage.closed and waiting.cancelled() and stage.unfinished == [running]
    go.set()
    assert running.result(5) == 1


def test_nobody_waits_for_what_may_never_come() -> None:
    def futures() -> Iterator[Future[int]]:
        yield Settled(1)
        yield Future()
        raise Unanswered("the store does not answer")

    found = drained(futures())
    assert next(found) == 1
    with pytest.raises(Unanswered):
        next(found)


def test_what_is_under_way_when_time_is_up_has_a_little_longer() -> None:
    stuck, late = Future(), Future()
    threading.Timer(0.1, late.set_result, (2,)).start()
    begin, found = time.monotonic(), drained([Settled(1), late, stuck], begin_after(0.05), 0.4)
    assert next(found) == 1 and next(found) == 2
    with pytest.raises(TimeUp, match="--max-duration"):
        next(found)
    assert time.monotonic() - begin < 5
    assert list(drained([Settled(1), Settled(2)], begin_after(60), 0.4)) == [1, 2]


def begin_after(seconds: float) -> float:
    return time.monotonic() + seconds
