"""Retry after a lost worker: whose fault a batch was is found out by asking again, in parts.

Pure: it knows neither processes nor arrays, only `ask(batch) -> rows, or why there are none`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from gradviz_cli.errors import ImageError, ModelUnusable


class Sliceable(Protocol):
    """A list, or an array whose first axis counts images."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


Batch = TypeVar("Batch", bound=Sliceable)
Row = TypeVar("Row")

# So many different images in a row, each alone with a fresh worker, are no accident of the images.
STRIKES = 3
# A crash or a hang costs a new worker each time, so the guilty image is looked for one by one; what was too much is halved.
ONE_BY_ONE = frozenset({"crash", "timeout"})


class Recovery(Generic[Batch, Row]):
    """Takes batches apart that fail as a whole, and remembers over a run what it learnt.

    Parameters
    ----------
    ask : callable
        A batch -> its rows, in order; or an ImageError of kind crash, timeout or memory (the worker is a fresh one now),
        or model (it said no), for the batch as a whole.
    model : str
        What messages call the model.

    Attributes
    ----------
    largest : int or None
        The batch that fits into memory and time, once one did not.
    """

    def __init__(self, ask: Callable[[Batch], list[Row] | ImageError], model: str):
        self._ask, self._model = ask, model
        self._strikes = 0
        self._accidents = 0
        self.largest: int | None = None

    def outcomes(self, batch: Batch) -> Iterator[Row | ImageError]:
        """One outcome for each image, in order.

        Raises
        ------
        ModelUnusable
            After the outcomes that were found: the model, not the images, is at fault.
        """
        start = 0
        while start < len(batch):
            end = start + (self.largest or len(batch))
            yield from self._part(batch[start:end])
            start = end

    def _part(self, batch: Batch) -> Iterator[Row | ImageError]:
        outcome = self._ask(batch)
        if not isinstance(outcome, ImageError):
            self._strikes = 0
            yield from outcome
        elif len(batch) == 1:
            yield outcome
            self._strike(outcome)
        else:
            yield from self._taken_apart(batch, outcome)

    def _taken_apart(self, batch: Batch, why: ImageError) -> Iterator[Row | ImageError]:
        half = -(-len(batch) // 2)
        step, start, innocent = (1 if why.kind in ONE_BY_ONE else half), 0, True
        while start < len(batch):
            # TensorFlow waits ten seconds for memory before it gives up: no larger part than is known to fit.
            end = start + min(step, self.largest or step)
            for found in self._part(batch[start:end]):
                innocent &= not isinstance(found, ImageError)
                yield found
            start = end
        if innocent:  # each fits by itself; a single crash may have been an accident
            self._accidents += 1
            if why.kind != "crash" or self._accidents > 1:
                self.largest = min(half, self.largest or half)

    def _strike(self, outcome: ImageError) -> None:
        """Count an image that brought the worker down alone."""
        if outcome.kind != "model":
            self._strikes += 1
        if self._strikes >= STRIKES:
            raise ModelUnusable(
                f"{self._model}: {outcome.message}, on {STRIKES} different images in a row",
                "it is the model and not the images, or move these images away; see -v",
            )
