"""Whose fault it was that a worker was lost: batches of small numbers stand for images, a script for the worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gradviz_cli.errors import ImageError, ModelUnusable
from gradviz_cli.model.recovery import STRIKES, Recovery


class Script:
    """Answers each image with ten times itself; `fault(batch)` names what goes wrong, or None."""

    def __init__(self, fault: Callable[[list[int]], str | None]):
        self.fault, self.asked = fault, []

    def __call__(self, batch: list[int]) -> list[int] | ImageError:
        self.asked.append(list(batch))
        kind = self.fault(batch)
        return ImageError(kind, f"{kind}!") if kind else [10 * image for image in batch]


def recovered(fault: Callable[[list[int]], str | None]) -> tuple[Recovery, Script]:
    script = Script(fault)
    return Recovery(script, "birds"), script


def kinds(outcomes) -> list:
    return [one.kind if isinstance(one, ImageError) else one for one in outcomes]


def test_nothing_goes_wrong() -> None:
    recovery, script = recovered(lambda batch: None)
    assert kinds(recovery.outcomes([1, 2, 3])) == [10, 20, 30]
    assert script.asked == [[1, 2, 3]] and recovery.largest is None


def test_an_empty_batch() -> None:
    recovery, script = recovered(lambda batch: "crash")
    assert kinds(recovery.outcomes([])) == [] and script.asked == []


@pytest.mark.parametrize("kind", ["crash", "timeout"])
def test_what_costs_a_worker_is_looked_for_one_by_one(kind: str) -> None:
    recovery, script = recovered(lambda batch: kind if 3 in batch else None)
    assert kinds(recovery.outcomes([1, 2, 3, 4])) == [10, 20, kind, 40]
    assert script.asked == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert recovery.largest is None  # the image was at fault, not the size


@pytest.mark.parametrize("kind", ["memory", "model"])
def test_what_was_too_much_is_halved(kind: str) -> None:
    recovery, script = recovered(lambda batch: kind if 5 in batch else None)
    assert kinds(recovery.outcomes([1, 2, 3, 4, 5, 6])) == [10, 20, 30, 40, kind, 60]
    assert script.asked == [[1, 2, 3, 4, 5, 6], [1, 2, 3], [4, 5, 6], [4, 5], [4], [5], [6]]


def test_a_size_that_fits_is_remembered() -> None:
    recovery, script = recovered(lambda batch: "memory" if len(batch) > 2 else None)
    assert kinds(recovery.outcomes([1, 2, 3, 4])) == [10, 20, 30, 40]
    assert script.asked == [[1, 2, 3, 4], [1, 2], [3, 4]] and recovery.largest == 2
    script.asked.clear()
    assert kinds(recovery.outcomes([1, 2, 3, 4, 5])) == [10, 20, 30, 40, 50]
    assert script.asked == [[1, 2], [3, 4], [5]]


def test_within_a_batch_no_part_is_larger_than_what_fitted() -> None:
    """Eight at once are too many, four as well; having learnt that, the second four are not tried."""
    recovery, script = recovered(lambda batch: "memory" if len(batch) > 2 else None)
    list(recovery.outcomes([1, 2, 3, 4, 5, 6, 7, 8]))
    assert script.asked == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [1, 2], [3, 4], [5, 6], [7, 8]]


def test_a_single_crash_may_have_been_an_accident_two_are_the_size() -> None:
    crashes = iter(["crash"])
    recovery, _ = recovered(lambda batch: next(crashes, None) if len(batch) == 4 else None)
    assert kinds(recovery.outcomes([1, 2, 3, 4])) == [10, 20, 30, 40]
    assert recovery.largest is None
    recovery, _ = recovered(lambda batch: "crash" if len(batch) == 4 else None)
    list(recovery.outcomes([1, 2, 3, 4]))
    assert recovery.largest is None
    list(recovery.outcomes([1, 2, 3, 4]))
    assert recovery.largest == 2


def test_so_many_images_alone_in_a_row_are_the_model() -> None:
    recovery, _ = recovered(lambda batch: "crash")
    outcomes, found = recovery.outcomes([1, 2, 3, 4, 5]), []
    with pytest.raises(ModelUnusable, match=rf"birds: crash!, on {STRIKES} different images"):
        found.extend(outcomes)  # what was found before stands
    assert kinds(found) == ["crash"] * STRIKES == ["crash"] * 3


def test_strikes_count_over_batches_and_a_success_forgives() -> None:
    bad = {1, 2, 4, 5}
    recovery, _ = recovered(lambda batch: "timeout" if bad & set(batch) else None)
    for image in (1, 2, 3, 4, 5, 3):
        list(recovery.outcomes([image]))
    list(recovery.outcomes([1]))
    list(recovery.outcomes([2]))
    with pytest.raises(ModelUnusable):
        list(recovery.outcomes([4]))


def test_an_image_that_the_model_refuses_is_no_strike() -> None:
    recovery, _ = recovered(lambda batch: "model")
    assert kinds(recovery.outcomes([1, 2, 3, 4, 5, 6])) == ["model"] * 6
