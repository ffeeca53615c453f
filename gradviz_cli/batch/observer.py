"""Who is told how a run goes while it goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gradviz_cli.errors import GradvizError
from gradviz_cli.plan.plan import Job
from gradviz_cli.plan.results import Report, Result

if TYPE_CHECKING:
    from gradviz_cli.model.explainer import Explainer, ModelTold


class Observer:
    """Does nothing with what it is told: override what you want to know.

    It comes in this order, each once unless it says otherwise; `loading` and `loaded` come in a thread of their own:

        detail?  started?  (loading? loaded? | result)*  (warning | detail)*  failure?  ended
    """

    def started(self, jobs: Iterable[Job]) -> None:
        """OUT is locked, and the images come next: never in a dry run. `jobs` may be walked through, to count them."""

    def loading(self) -> None:
        """TensorFlow is started, and reads the model; never when every output is current."""

    def loaded(self, model: Explainer | ModelTold) -> None:
        """The model has been loaded; never when every output is current. It is there to be asked for facts and warnings; where
        another machine has it, for these alone."""

    def result(self, result: Result, report: Report) -> None:
        """One image has its result, which `report` counts; in the order of images."""

    def warning(self, message: str) -> None:
        """What should be known of the run as a whole, or of the first image that it holds for."""

    def detail(self, message: str) -> None:
        """What only those who look on want to know of it."""

    def failure(self, error: GradvizError) -> None:
        """What ended the run, also before it started."""

    def ended(self, report: Report, seconds: float) -> None:
        """It is over, and OUT is free again."""
