"""`--out cat.png`: one picture of one image, under the name that was typed.

    the folder that it is to lie in -> a private folder, drawn in as in any OUT -> the picture under its own name

It lies among somebody's own files, so nothing is left beside it: neither manifest nor lock. Without a manifest nobody knows
whether it still is what was written, so it is drawn anew each time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ImageError, OutputError, UsageError
from gradviz_cli.files.remote import Remote
from gradviz_cli.files.scratch import Scratch
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import write_alone, writing
from gradviz_cli.images.formats import has_image_name
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan.outputs import WHOLE, outputs
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, Status

ENDING = ".png"
FOLDER = "give a folder: --out heatmaps"

Deliver = Callable[[Result], Result]


def folder_and_file(out: Path, option: str = "--out ", folder: str = FOLDER) -> tuple[Path, str]:
    """OUT as a folder; where it is the name of a picture, and no folder, the folder that it is to lie in, and its name.

    Parameters
    ----------
    option, folder : str
        How whoever asked gives it, and may give a folder.

    Raises
    ------
    UsageError
        It is the name of a picture of another format.
    """
    if out.suffix.lower() in (".pdf", ".svg") and not out.is_dir():
        sheet = f"gradviz figure draws one from a folder that was made with --raw: gradviz figure FOLDER --out {printable(out)}"
        raise UsageError(f"{option}{printable(out)}: pictures are written as PNG", sheet)
    if out.is_dir() or not has_image_name(out.name):
        return out, ""
    if out.suffix.lower() != ENDING:
        named = printable(out.with_suffix(ENDING))
        raise UsageError(f"{option}{printable(out)}: pictures are written as PNG", f"name it {named}, or {folder}")
    return out.parent, out.name


def check_url(out: Remote) -> Remote:
    """OUT in a store is a folder; raises UsageError for the name of one picture."""
    if has_image_name(out.name) or out.name.lower().endswith((".pdf", ".svg")):
        raise UsageError(
            f"--out {printable(out)}: one picture under a name of its own is written to a folder of this machine",
            f"give a folder: --out {printable(out.parent)}",
        )
    return out


@contextmanager
def placed(plan: Plan, inputs: Inputs) -> Iterator[tuple[Plan, Inputs, Deliver]]:
    """The plan and the images to run with, and what is to be done with each result before it is told. Of a folder all is as
    it was.

    Raises
    ------
    UsageError
        The run would give several pictures.
    OutputError
        What has the name of the picture is no picture of gradviz.
    """
    if not plan.file:
        yield plan, inputs, lambda result: result
        return
    target = plan.out / plan.file
    images = replace(inputs, out=target, walk=plan.walk)  # images may lie beside it
    _check_one(plan, images, target)
    _check_free(target)
    scratch = Scratch()
    try:
        aside = Path(scratch.folder())
        yield replace(plan, out=aside, file=""), images, _Delivery(aside, target).deliver
    finally:
        scratch.close()


def _check_one(plan: Plan, inputs: Inputs, target: Path) -> None:
    said = f"--out {printable(target)} is one picture"
    if plan.drawing.raw:
        raise UsageError(f"{said}, and --raw adds an array", f"leave --raw out, or {FOLDER}")
    jobs = list(islice(replace(inputs, shard=WHOLE).jobs(), 2))  # the pictures of all shards would have that name
    if len(jobs) > 1:
        raise _several(said, *jobs)
    for job in jobs:
        with suppress(ImageError):  # it will fail as it does in any run
            asked = len(outputs(plan, job, SHEETS))
            if asked > 1:
                raise UsageError(f"{said}, and the options ask for {asked}", f"one mode, target and style, or {FOLDER}")
        with suppress(OSError):
            if isinstance(job.path, Path) and os.path.samefile(job.path, target):
                raise UsageError(f"--out {printable(target)} is the image itself", "give another name")


def _several(said: str, first: Job, second: Job) -> UsageError:
    if first.path == second.path:
        return UsageError(
            f"{said}, and {printable(first.path)} has several pages", f"leave out --pages all, or {FOLDER}"
        )
    return UsageError(f"{said}, and several images are given", FOLDER)


def _check_free(target: Path) -> None:
    """Only a picture of gradviz is written over: any other file is somebody's."""
    try:
        mode = os.lstat(target).st_mode
    except OSError:  # it is not there; or nobody can tell, and writing will say why
        return
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "no regular file"
    elif not _is_ours(target):
        what = "no picture of gradviz"
    else:
        return
    raise OutputError(f"{printable(target)}: is there and is {what}", "move it away, or give another name to --out")


def _is_ours(picture: Path) -> bool:
    from gradviz_cli.draw.record import Record  # most runs write into a folder

    return Record.read(picture) is not None


@dataclass
class _Delivery:
    """Brings the picture from the folder that it is drawn in to its own name, once."""

    aside: Path
    target: Path
    image: str | None = None  # whose picture that name is for

    def deliver(self, result: Result) -> Result:
        """The result with the picture under its own name.

        Raises
        ------
        UsageError
            Another image has come since the images were counted.
        OutputError
            It cannot be written.
        """
        if not result.outputs:
            return result
        if self.image is not None:
            said = f"--out {printable(self.target)} is one picture, and was drawn of {printable(self.image)}"
            raise UsageError(f"{said}: {printable(result.image)} has come since", FOLDER)
        self.image = result.image
        if result.status is Status.WRITTEN:
            with writing(self.target.parent):
                self.target.parent.mkdir(parents=True, exist_ok=True)
            write_alone(self.target, (self.aside / result.outputs[0]).read_bytes())
        foreseen = result.status is Status.PENDING and self.target.exists()
        why = "drawn anew each time" if foreseen else result.why
        return replace(result, outputs=(self.target.name,), hashes={}, stamps={}, why=why)
