"""How much at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from gradviz_cli.batch.budget import Budget, default_batch, images_at_once
from gradviz_cli.process import machine


@pytest.mark.parametrize(
    ("height", "width", "cores", "expected"),
    [
        (224, 224, 1, 4),
        (224, 224, 2, 8),  # four for each
        (224, 224, 16, 64),
        (112, 112, 1, 16),
        (112, 448, 1, 4),  # pixels count, not sides
        (16, 16, 1, 64),  # never more than 64 together
        (16, 16, 3, 63),  # and each processor has as many
        (16, 16, 64, 64),
        (448, 448, 2, 2),  # large: one for each
        (448, 448, 64, 64),
        (2048, 2048, 8, 4),  # 2 ** 24 pixels together
        (4096, 4096, 8, 1),
        (8192, 8192, 8, 1),  # one goes in any case
        (224, 224, 128, 128),  # fewer than one of the 64 for each: one for each all the same
    ],
)
def test_images_of_a_batch(height: int, width: int, cores: int, expected: int) -> None:
    assert default_batch(height, width, cores) == expected


def test_a_gpu_is_given_two_calls_at_once(monkeypatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)
    assert [images_at_once(224, 224, 3, gpu) for gpu in (False, True)] == [8, 64]
    assert images_at_once(4096, 4096, 3, True) == 2


def enters(budget: Budget, place: int) -> threading.Event:
    """Lets a thread enter; the event is set when it is in."""
    inside = threading.Event()

    def enter() -> None:
        budget.enter(place)
        inside.set()

    threading.Thread(target=enter, daemon=True).start()
    return inside


def is_in(inside: threading.Event) -> bool:
    return inside.wait(5)


def stays_out(inside: threading.Event) -> bool:
    return not inside.wait(0.03)


def test_there_is_room_up_to_the_limit() -> None:
    budget = Budget(10)
    budget.hold(9)
    assert is_in(enters(budget, 5))
    budget.hold(1)
    assert stays_out(enters(budget, 6))
    assert budget.held == 10


def test_who_is_waited_for_is_always_let_in() -> None:
    budget = Budget(10)
    budget.hold(1000)
    first, third = enters(budget, 0), enters(budget, 2)
    assert is_in(first)  # nobody has called yet: the first is the one
    assert stays_out(third)
    budget.call(1)
    assert stays_out(third)
    budget.call(2)
    assert is_in(third)


def test_room_that_is_left_lets_the_next_in() -> None:
    budget = Budget(10)
    budget.hold(6)
    budget.hold(6)
    waiting = enters(budget, 9)
    assert stays_out(waiting)
    budget.leave(6)
    assert is_in(waiting)
    budget.leave(6)
    assert budget.held == 0


def test_close_lets_everybody_in_for_good() -> None:
    budget = Budget(1)
    budget.hold(5)
    waiting = [enters(budget, place) for place in range(3, 8)]
    assert all(map(stays_out, waiting[:2]))
    budget.close()
    assert all(map(is_in, waiting))
    assert is_in(enters(budget, 99))


def test_never_more_than_the_limit_and_one_image() -> None:
    """One reader: what it holds beyond the limit is the one image whose size nobody knew."""
    budget, most = Budget(100), 0
    sizes = [30, 45, 60, 10, 99, 100, 1, 70] * 5
    drawn: list[int] = []
    done = threading.Event()

    def draw() -> None:
        for place in range(len(sizes)):
            budget.call(place)
            while len(drawn) <= place:
                time.sleep(0.0001)
            budget.leave(drawn[place])
        done.set()

    threading.Thread(target=draw, daemon=True).start()
    for place, size in enumerate(sizes):
        budget.enter(place)
        budget.hold(size)
        most = max(most, budget.held)
        drawn.append(size)
    assert done.wait(5)
    assert most < 100 + 100 and budget.held == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_never_stand_still(threads: int) -> None:
    """Every image is larger than the limit, and they are drawn strictly in order."""
    budget, count = Budget(10), 40
    ready = [threading.Event() for _ in range(count)]
    places = iter(range(count))
    guard, most = threading.Lock(), [0]

    def read() -> None:
        while True:
            with guard:
                place = next(places, None)
            if place is None:
                return
            budget.enter(place)
            budget.hold(25)
            most[0] = max(most[0], budget.held)
            ready[place].set()

    readers: list[threading.Thread] = [threading.Thread(target=read, daemon=True) for _ in range(threads)]
    for reader in readers:
        reader.start()
    in_time: Callable[[threading.Event], bool] = is_in
    for place in range(count):
        budget.call(place)
        assert in_time(ready[place])
        budget.leave(25)
    assert budget.held == 0
    assert most[0] <= 25 * (threads + 1)  # one for each thread that had entered, and the one that is waited for
