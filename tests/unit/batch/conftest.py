"""A run without child processes: files are a few bytes, and what they say decides how their image goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.batch import engines, pipeline
from gradviz_cli.batch.engines import driver, node
from gradviz_cli.batch.engines.inprocess import inprocess
from gradviz_cli.errors import GradvizError, ImageError, ModelUnusable
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.fit import Geometry
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.model.fingerprint import Seal
from gradviz_cli.plan.plan import Drawing, Plan
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.process.protocol import Explain, Facts, InputFacts, Loaded, ModelOptions
from gradviz_cli.process.sandbox.enter import Sandbox

SIDE = 4


class FakeExplainer:
    """Stands for `Explainer`. A file holds a word and a number: `good 7`; its attribution is that number everywhere.

    Words: `good`; `bad` cannot be decoded; `no` cannot be explained; `last` is the last that the worker explains;
    `zero` has a map of zeros; `slow` is decoded after the others.

    Attributes
    ----------
    batches : list
        The numbers of the images of each call.
    """

    proof = None

    unloadable = False
    seconds = 0.0  # that one gradient call takes

    def __init__(
        self,
        options: ModelOptions,
        methods: tuple[str, ...],
        *,
        labels: tuple[str, ...] = (),
        ahead: FakeModel | None = None,
        **_: object,
    ):
        self.methods, self.labels = methods, labels
        self.seal: Seal | None = None
        self.ahead = ahead
        self.batches: list[list[int]] = []
        self.decoded: list[int] = []
        self.loads = self.closed = 0
        self.threads: set[str] = set()
        self.words: dict[int, str] = {}

    geometry = Geometry(SIDE, SIDE, 3, "stretch")
    computes_on_gpu = False
    facts = Facts(
        "serving_default",
        "the only one",
        InputFacts("x", (None, SIDE, SIDE, 3), "float32"),
        "y:0",
        "z:0",
        None,
        None,
        5,
        (SIDE, SIDE),
        3,
        "raw",
        {"Relu": (1, 1)},
        0,
        0,
        (),
    )

    def load(self, proof=None) -> Loaded:
        self.loads += 1
        self.threads.add(threading.current_thread().name)
        if self.unloadable:
            raise ModelUnusable("the model is broken", "mend it")
        return self.loaded

    @property
    def loaded(self) -> Loaded:
        return Loaded(self.facts, 0.1, 0.2, Sandbox("full", 6, True, ()))

    def warnings(self, methods: tuple[str, ...]) -> tuple[str, ...]:
        return ("be warned",)

    def decode(self, data: bytes, geometry: Geometry, pixels: bool = False, fast: bool = False, page=None) -> Pixels:
        word, number = data.decode().split()
        self.decoded.append(int(number))
        self.words[int(number)] = word
        if word == "slow":
            time.sleep(0.05)
        if word == "bad":
            raise ImageError("damaged", "it is bad")
        shape = (geometry.height, geometry.width, geometry.channels)
        notes = ("it is odd", f"so is {number}") if word == "odd" else ()
        return Pixels((SIDE, SIDE), np.full(shape, int(number), np.uint8), None, notes=notes)

    def explain(
        self, fitted: list[np.ndarray], request: Explain, held: Sequence[str] = ()
    ) -> Iterator[Attribution | ImageError]:
        self.threads.add(threading.current_thread().name)
        numbers = [int(image[0, 0, 0]) for image in fitted]
        self.batches.append(numbers)
        time.sleep(self.seconds)
        for number, image in zip(numbers, fitted, strict=True):
            if self.words[number] == "no":
                yield ImageError("model", "it says no")
            else:
                yield self.attribution(0 if self.words[number] == "zero" else number, image, request)
            if self.words[number] == "last":
                raise GradvizError("nothing goes any more", "give up")

    def check_numbers(self, held: str, fitted: np.ndarray) -> None:
        """Every file holds a picture."""

    def assumed(self, held: str, size: tuple[int, int], fitted: np.ndarray) -> tuple[str, ...]:
        return ()

    def preprocess_of(self, held: str) -> str:
        return self.facts.preprocess

    def attribution(self, number: int, image: np.ndarray, request: Explain) -> Attribution:
        indices = [2 if code < 0 else code for code in request.targets]
        labels = dict(enumerate(self.labels))
        targets = tuple(TargetResult(index, labels.get(index, "two"), 0, 0.5, 0.25) for index in indices)
        maps = np.full((len(targets), *image.shape), number, np.float32)
        return Attribution(targets, dict.fromkeys(request.methods, maps))

    def expect(self, seal: Seal) -> None:
        self.seal = seal

    def close(self) -> None:
        self.closed += 1


class FakeModel:
    """Stands for a `RemoteModel` whose worker can be started ahead of all else."""

    def __init__(self, plan: Plan):
        self.started = self.closed = 0

    def start(self) -> None:
        self.started += 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def explainers(monkeypatch: pytest.MonkeyPatch) -> list[FakeExplainer]:
    """Those that the pipelines of a test make, in order."""
    made: list[FakeExplainer] = []

    def make(*given: object, **named: object) -> FakeExplainer:
        made.append(FakeExplainer(*given, **named))
        return made[-1]

    monkeypatch.setattr(pipeline, "Explainer", make)
    monkeypatch.setattr("gradviz_cli.batch.run.of_plan", FakeModel)
    return made


@pytest.fixture
def fake() -> type[FakeExplainer]:
    """The class, for a test that changes how it goes; see `monkeypatch`."""
    return FakeExplainer


@pytest.fixture
def nodes(explainers, fake, monkeypatch: pytest.MonkeyPatch) -> list:
    """The engine `inprocess`, and the explainers that its nodes make."""
    made = []

    class Kept(fake):
        misfit = ""

        def __init__(self, decoded, *given, **named):
            super().__init__(*given, **named)
            made.append(self)

        @property
        def is_loaded(self) -> bool:
            return self.loads > 0

    monkeypatch.setattr(node, "Kept", Kept)
    monkeypatch.setitem(engines.ENGINES, "inprocess", inprocess)
    monkeypatch.setattr(driver, "LOOK", 0.01)
    return made


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Words -> a folder of images `0.png`, `1.png`, ... of these words."""

    def make(*words: str) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        for number, word in enumerate(words, 1):
            (folder / f"{number:03}.png").write_text(f"{word} {number}")
        return folder

    return make


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """A plan into `out` with a model that nobody reads; `drawing` as keywords of Drawing."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"a graph")

    def make(drawing: dict | None = None, **more) -> Plan:
        options = {"jobs": 2, "batch_size": 2, **more}
        return Plan(ModelOptions(str(model)), tmp_path / "out", Drawing(**(drawing or {})), **options)

    return make
