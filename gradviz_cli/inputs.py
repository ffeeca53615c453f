"""From the IMAGES of the command line to jobs: files, folders in name order, each with the name of its outputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gradviz_cli.errors import UsageError
from gradviz_cli.plan import Job


def jobs(images: Iterable[Path], out: Path) -> Iterator[Job]:
    """Every image that the arguments mean, one at a time, so that a million names need no list.

    A folder is searched recursively in name order; hidden files and folders, and what lies under OUT, are left out. A
    file that is named stands for itself, whatever its name.
    """
    out_folder = os.path.realpath(out)
    for image in images:
        if image.is_dir():
            yield from _below(image, image, out_folder)
        else:
            yield Job(image, image.name)


def check(images: Iterable[Path], out: Path) -> None:
    """Raise UsageError when an argument does not exist, or when two images would share their outputs' names.

    Names below one folder differ by themselves, so only several arguments are walked through.
    """
    images = list(images)
    for image in images:
        if not os.path.lexists(image):
            raise UsageError(f"no such file or folder: {image}", "check the path")
    if len(images) == 1:
        return
    seen: dict[int, None] = {}
    for job in jobs(images, out):
        key = hash(job.rel)
        if key in seen:
            _insist_on_clash(images, out, job)
        seen[key] = None


def _insist_on_clash(images: list[Path], out: Path, second: Job) -> None:
    """Hashes can collide; names decide."""
    same = [job.path for job in jobs(images, out) if job.rel == second.rel]
    if len(same) > 1:
        raise UsageError(
            f"{same[0]} and {same[1]} would both be written as {second.rel}.*", "run them into two folders with --out"
        )


def _below(root: Path, folder: Path, out_folder: str) -> Iterator[Job]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Job(folder, os.path.relpath(folder, root))  # fails as an image, with its name
        del error
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if os.path.realpath(entry.path) != out_folder:
                yield from _below(root, Path(entry.path), out_folder)
        elif not entry.is_symlink() or not os.path.isdir(entry.path):
            yield Job(Path(entry.path), os.path.relpath(entry.path, root))
