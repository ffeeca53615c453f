"""Processes that decode, with children of our own in their place: one each, used again, replaced when it is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gradviz_cli.errors import ImageError, ModelUnusable
from gradviz_cli.files.reading import Limits
from gradviz_cli.images import decoders
from gradviz_cli.images.decoders import Decoders
from gradviz_cli.images.fit import Geometry
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import NUMBERS, PICTURE, PIXELS, Decode, Decoded, Failure
from gradviz_cli.process.supervisor import ChildLost

GEOMETRY = Geometry(4, 6, 3, "crop")
FITTED = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
WHOLE = np.zeros((10, 20, 3), np.uint8)
Answer = tuple[Decoded | Failure, tuple]


class Fake:
    """A decoder that gives the answers of `plan` one by one; where one is an exception it dies of it."""

    plan: list[Answer | BaseException]
    made: list[Fake]
    asked: list[SimpleNamespace]

    def __init__(self, module: str, config: dict, environment: dict, folder: str, watch: Callable[[], str | None]):
        self.alive, self.module, self.folder, self.watch = True, module, folder, watch
        self.limit, self.environment = config["memory_limit"], environment
        self.made.append(self)

    def request(self, wanted: Decode, kind: type, arrays: tuple, timeout: float, most: int) -> Answer:
        self.asked.append(SimpleNamespace(wanted=wanted, data=arrays[0].tobytes(), timeout=timeout, most=most, by=self))
        answer = self.plan.pop(0)
        if isinstance(answer, BaseException):
            self.kill()
            raise answer
        return answer

    @property
    def ready(self) -> bool:
        return self.alive

    def nonsense(self, what: str) -> ChildLost:
        self.kill()
        return ChildLost("crash", f"the worker answered nonsense ({what})")

    def kill(self) -> None:
        self.alive = False

    close = kill


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., type[Fake]]:
    def planned(*answers: Answer | BaseException) -> type[Fake]:
        Fake.plan, Fake.made, Fake.asked = list(answers), [], []
        monkeypatch.setattr(decoders, "Child", Fake)
        return Fake

    return planned


@pytest.fixture
def pool():
    pool = Decoders(Limits(1000, 5000), 7.0)
    yield pool
    pool.close()


def fits(*more: np.ndarray) -> Answer:
    return Decoded(10, 20), (FITTED, *more)


def test_what_is_asked_and_what_comes_back(fake, pool: Decoders) -> None:
    child = fake(fits())
    size, fitted, pixels, held, _ = pool.decode(b"bytes", GEOMETRY, False, fast=True)
    assert size == (10, 20) and np.array_equal(fitted, FITTED) and pixels is None and held == PICTURE
    (asked,) = child.asked
    assert asked.wanted == Decode(1000, 5000, 4, 6, 3, "crop", pixels=False, fast=True)
    assert (asked.data, asked.timeout, asked.most) == (b"bytes", 7.0, 4 * 72)
    assert asked.by.module == "gradviz_cli.images.reader"


def test_the_upright_image_comes_where_it_is_asked_for(fake, pool: Decoders) -> None:
    child = fake(fits(WHOLE))
    assert np.array_equal(pool.decode(b"", GEOMETRY, True).pixels, WHOLE)
    assert child.asked[0].most == 4 * 72 + 3 * 1000


def test_numbers_come_as_they_are(fake, pool: Decoders) -> None:
    fake((Decoded(10, 20, NUMBERS), (FITTED / np.float32(7),)))
    found = pool.decode(b"", GEOMETRY, False)
    assert found.held == NUMBERS and np.array_equal(found.fitted, FITTED / np.float32(7))


def test_what_is_to_be_said_comes_too_but_no_more_than_is_read(fake, pool: Decoders) -> None:
    fake((Decoded(10, 20, notes=("it is odd",)), (FITTED,)), (Decoded(10, 20, notes=("x" * 9000,) * 99), (FITTED,)))
    assert pool.decode(b"", GEOMETRY, False).notes == ("it is odd",)
    notes = pool.decode(b"", GEOMETRY, False).notes
    assert len(notes) <= 10 and max(map(len, notes)) <= 300


def test_a_decoder_is_used_again_also_after_a_bad_image(fake, pool: Decoders) -> None:
    child = fake(fits(), (Failure("damaged", "no end"), ()), fits())
    pool.decode(b"1", GEOMETRY, False)
    with pytest.raises(ImageError, match="no end"):
        pool.decode(b"2", GEOMETRY, False)
    pool.decode(b"3", GEOMETRY, False)
    assert len(child.made) == 1


def test_a_decoder_that_ctrl_c_ended_leaves_nothing_behind(fake, pool: Decoders) -> None:
    child = fake(KeyboardInterrupt(), fits())
    with pytest.raises(KeyboardInterrupt):
        pool.decode(b"1", GEOMETRY, False)
    assert not os.path.exists(child.made[0].folder)
    pool.decode(b"2", GEOMETRY, False)
    assert len(child.made) == 2


@pytest.mark.parametrize("kind", ["format", "truncated", "damaged", "too-large", "memory"])
def test_kinds_of_failures_are_passed_on(fake, pool: Decoders, kind: str) -> None:
    fake((Failure(kind, "words"), ()))
    with pytest.raises(ImageError, match="words") as caught:
        pool.decode(b"", GEOMETRY, False)
    assert caught.value.kind == kind


def test_another_word_of_a_decoder_is_not_repeated(fake, pool: Decoders) -> None:
    fake((Failure("output", "x" * 9000), ()))
    with pytest.raises(ImageError) as caught:
        pool.decode(b"", GEOMETRY, False)
    assert caught.value.kind == "damaged" and len(caught.value.message) <= 1000


@pytest.mark.parametrize("kind", ["crash", "timeout", "memory"])
def test_one_that_is_lost_costs_its_image_and_is_replaced(fake, pool: Decoders, kind: str) -> None:
    child = fake(ChildLost(kind, "the worker crashed"), fits())
    with pytest.raises(ImageError, match="decoding it failed: the decoder crashed") as caught:
        pool.decode(b"1", GEOMETRY, False)
    assert caught.value.kind == kind
    pool.decode(b"2", GEOMETRY, False)
    assert [one.alive for one in child.made] == [False, True]


def test_what_a_used_one_makes_nonsense_of_is_asked_once_more(fake, pool: Decoders) -> None:
    """The image before may have taken it over."""
    child = fake(fits(), (Decoded(10, 20), ()), fits())
    pool.decode(b"1", GEOMETRY, False)
    pool.decode(b"2", GEOMETRY, False)
    assert [one.alive for one in child.made] == [False, True]
    assert [asked.data for asked in child.asked] == [b"1", b"2", b"2"]


def test_an_image_that_a_new_one_dies_of_too_has_failed(fake, pool: Decoders) -> None:
    child = fake(fits(), ChildLost("crash", "it crashed"), ChildLost("crash", "it crashed again"))
    pool.decode(b"1", GEOMETRY, False)
    with pytest.raises(ImageError, match="again"):
        pool.decode(b"2", GEOMETRY, False)
    assert not child.plan


def test_one_that_hangs_is_not_waited_for_twice(fake, pool: Decoders) -> None:
    child = fake(fits(), ChildLost("timeout", "no answer"))
    pool.decode(b"1", GEOMETRY, False)
    with pytest.raises(ImageError, match="no answer"):
        pool.decode(b"2", GEOMETRY, False)
    assert not child.plan


def test_one_that_died_while_idle_is_replaced(fake, pool: Decoders) -> None:
    child = fake(fits(), fits())
    pool.decode(b"1", GEOMETRY, False)
    child.made[0].alive = False
    pool.decode(b"2", GEOMETRY, False)
    assert len(child.made) == 2


@pytest.mark.parametrize(
    ("answer", "pixels"),
    [
        ((Decoded(10, 20), ()), False),
        ((Decoded(10, 20), (FITTED[1:],)), False),
        ((Decoded(10, 20), (FITTED.astype(np.float32),)), False),
        ((Decoded(10, 20), (FITTED, WHOLE)), False),
        ((Decoded(10, 20), (FITTED,)), True),
        ((Decoded(20, 10), (FITTED, WHOLE)), True),
        ((Decoded(0, 20), (FITTED,)), False),
        ((Decoded(-10, -20), (FITTED,)), False),
        ((Decoded(100, 20), (FITTED,)), False),  # more pixels than the limit
        ((Decoded(10, 20, "a film"), (FITTED,)), False),
        ((Decoded(10, 20, NUMBERS), (FITTED,)), False),
        ((Decoded(10, 20, PIXELS), (FITTED.astype(np.float32),)), False),
        ((Decoded(10, 20, NUMBERS), (np.full((4, 6, 3), np.nan, np.float32),)), False),
    ],
)
def test_pixels_that_cannot_be_cost_the_image_and_the_decoder(fake, pool: Decoders, answer: Answer, pixels) -> None:
    child = fake(answer, fits())
    with pytest.raises(ImageError, match="nonsense") as caught:
        pool.decode(b"", GEOMETRY, pixels)
    assert caught.value.kind == "crash" and not child.made[0].alive
    pool.decode(b"", GEOMETRY, False)


def test_each_has_a_folder_of_its_own_which_is_bounded_and_goes_with_it(fake, pool: Decoders) -> None:
    child = fake(ChildLost("crash", "taken over"), fits())
    with pytest.raises(ImageError):
        pool.decode(b"1", GEOMETRY, False)
    pool.decode(b"2", GEOMETRY, False)
    first, second = child.made
    assert first.folder != second.folder and os.path.dirname(first.folder) == os.path.dirname(second.folder)
    assert not os.path.exists(first.folder) and second.watch() is None
    os.truncate(os.open(os.path.join(second.folder, "hole"), os.O_CREAT | os.O_RDWR), 2**40)  # which takes nothing
    assert second.watch() is None
    Path(second.folder, "big").write_bytes(bytes(decoders.MAX_SCRATCH + 1))
    assert "temporary files" in second.watch()


def test_memory_is_a_part_of_what_is_free(fake, pool: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    child = fake(fits(), ChildLost("crash", ""), fits())
    monkeypatch.setattr(machine, "free_memory", lambda: 2**40)
    pool.decode(b"", GEOMETRY, False)
    monkeypatch.setattr(machine, "free_memory", lambda: 2**31)
    pool.decode(b"", GEOMETRY, False)
    assert [one.limit for one in child.made] == [decoders.MOST_MEMORY, machine.LEAST_MEMORY]


def test_the_memory_of_a_large_photo_is_kept_for_the_next(fake, pool: Decoders) -> None:
    child = fake(fits())
    pool.decode(b"a photo", GEOMETRY, pixels=False)
    blocks = int(child.made[0].environment["PILLOW_BLOCKS_MAX"])  # of 16 MiB; Pillow takes four bytes for a pixel
    assert 48_000_000 <= blocks * 2**24 <= 100_000_000


def test_where_none_can_be_started_the_run_ends(pool: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments, **more) -> None:
        raise ChildLost("crash", "no process can be started: Too many open files")

    monkeypatch.setattr(decoders, "Child", none)
    with pytest.raises(ModelUnusable, match="no image can be decoded: no process can be started") as caught:
        pool.decode(b"", GEOMETRY, False)
    assert "ulimit" in caught.value.remedy


def test_after_the_end_nothing_is_started(fake, pool: Decoders) -> None:
    child = fake(fits(), fits())
    pool.decode(b"1", GEOMETRY, False)
    pool.close()
    assert not child.made[0].alive
    with pytest.raises(ImageError, match="the run is over"):
        pool.decode(b"2", GEOMETRY, False)
    assert len(child.made) == 1
