"""What was asked, which files it means, and how it went. Plain values; nothing here reads an image or a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.estimators import GRADIENT, Estimation, Method
from gradviz_cli.files.reading import Limits, Stamp
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.rules import DEFAULT_MODE

DEFAULT_STYLE = "heatmap"  # the one that has no part in the name of a file


@dataclass(frozen=True)
class Drawing:
    """Everything that decides which pictures are drawn of an attribution, and how.

    Attributes
    ----------
    modes, estimators : tuple of str
        Each mode with each estimator, unless `only` some of these are meant, by their names.
    box : bool
        Put a box around where a class activation map is strong.
    """

    modes: tuple[str, ...] = (DEFAULT_MODE,)
    targets: tuple[Target, ...] = (Target(rank=0),)
    styles: tuple[str, ...] = (DEFAULT_STYLE,)
    colormap: str = "inferno"
    clip: float = 99.0
    alpha: float = 0.5
    scale: str = "each"
    size: str = "image"
    fit: str = "stretch"
    fast_decode: bool = False
    scores: bool = True
    raw: bool = False
    allow_empty_map: bool = False
    estimators: tuple[str, ...] = (GRADIENT,)
    only: tuple[str, ...] = ()
    estimation: Estimation = Estimation()
    box: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of all kinds of maps that are drawn."""
        return self.only or tuple(Method(mode, name).name for name in self.estimators for mode in self.modes)


@dataclass(frozen=True)
class Walk:
    """Which files of IMAGES are images, and what their outputs are named by.

    Attributes
    ----------
    include, exclude : tuple of str
        Patterns as in `images.globs`. With `include` only those files of a folder that match; others than those that are
        named as images where a pattern spells their ending, or they have none. `exclude` leaves out what matches.
    follow_links : bool
        Search folders that a link leads to.
    root : str, optional
        The folder that names of outputs are relative to.
    pages : str
        Of a TIFF with several pages, or a GIF with several frames: the `first`, or `all`, each with outputs of its own.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    root: str | None = None
    pages: str = "first"


@dataclass(frozen=True)
class Plan:
    """One run of `gradviz explain`; `batch.planning.plan_from` makes one of options.

    Attributes
    ----------
    file : str
        Where one picture is asked for under a name of its own: that name, and `out` is the folder that it is to lie in.
    url : str
        Where OUT is in a store: its URL, and `out` is a folder of this machine that stands for it while the run draws.
    labels_asked : str
        The option that asks for them: where they do not fit the model, the run ends. Else they are the model's own, and are
        left out with a warning.
    batch_size, jobs : int or None
        None: as many as the model input, and the machine, suggest.
    timeout, max_duration, lock_wait : float
        Seconds: for one image, for the whole run, for another run in OUT to end.
    allow_empty : bool
        No image at all is success.
    typed : str
        MODEL as it was given, which `model.path` was found by: a folder of several versions, say.
    adopt : bool
        Take OUT over from another model or other images.
    verify : bool
        Verify the graph after each step of the compiler.
    proof : str
        Whether the model is proved before its first picture: `auto` (unless it was before), `always`, `never`.
    engine : str
        Where the images are explained, a key of `batch.engines.ENGINES`; `ray_address` is that of a cluster of Ray that runs.
    """

    model: ModelOptions
    out: Path
    drawing: Drawing = Drawing()
    labels: tuple[str, ...] = ()
    batch_size: int | None = None
    jobs: int | None = None
    force: bool = False
    dry_run: bool = False
    fail_fast: bool = False
    timeout: float = 60.0
    max_duration: float | None = None
    max_pixels: int = 52_000_000
    max_file_size: int = 100_000_000
    require_sandbox: bool = False
    lock_wait: float = 0.0
    allow_empty: bool = False
    verify: bool = False
    proof: str = "auto"
    labels_asked: str = ""
    typed: str = ""
    adopt: bool = False
    walk: Walk = Walk()
    file: str = ""
    url: str = ""
    engine: str = "local"
    ray_address: str | None = None

    @property
    def place(self) -> Place:
        """OUT itself, for people and for IMAGES, which may lie around it."""
        found = Remote.of(self.url) if self.url else None
        return self.out if found is None else found

    @property
    def limits(self) -> Limits:
        """What is refused unread."""
        return Limits(self.max_pixels, self.max_file_size)


class Page(NamedTuple):
    """One of several in a file: its number, from 1, and its place there, from 0, where small copies count too."""

    number: int
    place: int


@dataclass(frozen=True)
class Job:
    """One image: where it is, and the name that its outputs have under OUT; `trouble` when it cannot even be looked for.

    `copy` is where its bytes lie, of one that can be read only once; `stamp` is that of an object, as its folder was listed.
    """

    path: Place
    rel: str
    trouble: str | None = None
    page: Page | None = None
    copy: Path | None = None
    stamp: Stamp | None = None

    @property
    def file(self) -> Place:
        """What is to be read."""
        return self.copy or self.path

    @property
    def number(self) -> int | None:
        return self.page.number if self.page else None

    @property
    def name(self) -> str:
        """For people and the manifest: `scan.tif`, or `scan.tif#2` for one of its pages."""
        return f"{self.path}#{self.page.number}" if self.page else str(self.path)
