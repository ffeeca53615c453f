"""`gradviz prune`: remove outputs whose image is gone, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from gradviz_cli.batch import manifest
from gradviz_cli.batch.files import MAX_OUTPUT
from gradviz_cli.batch.lock import held
from gradviz_cli.cli.stdout import print_paths
from gradviz_cli.cli.types import NamedPath, Seconds
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.files.beneath import folder_below, parts_below
from gradviz_cli.files.reading import hash_open
from gradviz_cli.files.text import printable

Identity = tuple[int, int, int, int, int]


@click.command("prune")
@click.argument("out", metavar="OUT", type=NamedPath())
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--max-delete", type=click.IntRange(min=0), metavar="N", help="Remove nothing when it would be more than N files."
)
@click.option("--even-all", is_flag=True, help="Go on also where images are gone from an empty or unreadable place.")
@click.option("--lock-wait", type=Seconds(), default=0.0, help="Seconds to wait for a run in OUT.")
def command(out: Path, dry_run: bool, max_delete: int | None, even_all: bool, lock_wait: float) -> int:
    """Remove the outputs in OUT whose image no longer exists.

    Only files that the manifest lists are touched, and only while they are byte for byte what gradviz wrote. Where all
    images are gone, or where they were is empty now or cannot be read, a disk may be missing: nothing is removed then.
    """
    manifest.check_there(out)
    with held(out, lock_wait):
        gone, kept = _listed(out)
        if not even_all:
            _check_sources({source for name, (source, _) in gone.items() if os.path.lexists(out / name)}, kept)
        found = ((name, _found(out, name, sha256)) for name, (_, sha256) in sorted(gone.items()))
        orphans = {name: identity for name, identity in found if identity}
        if max_delete is not None and len(orphans) > max_delete:
            raise UsageError(
                f"{len(orphans)} file{'s' * (len(orphans) != 1)} would be removed, more than --max-delete {max_delete}",
                "raise it, or look with --dry-run",
            )
        if dry_run:
            print_paths(out / name for name in orphans)
            return 0
        for name, identity in orphans.items():
            _remove(out, name, identity)
    return 0


def _listed(out: Path) -> tuple[dict[str, tuple[str, str]], bool]:
    """Output -> (image, SHA-256) of the images that are gone; whether there are others."""
    gone: dict[str, tuple[str, str]] = {}
    kept = False
    for source, names, hashes in _entries(out):
        if _is_gone(source):
            gone.update((name, (source, hashes[name])) for name in names if name in hashes)
        else:
            kept = True
            for name in names:
                gone.pop(name, None)
    return gone, kept


def _entries(out: Path) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Image, names of its outputs and their hashes, line by line. The manifest is only a text: what else it holds is left out."""
    for record in _records(out):
        source, names, hashes = record.get("source"), record.get("outputs"), record.get("sha256")
        if isinstance(source, str) and os.path.isabs(source) and isinstance(names, list) and isinstance(hashes, dict):
            yield source, [name for name in names if isinstance(name, str)], hashes


def _records(out: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from manifest.read(out)
    except OSError as error:
        said = f"{printable(out / manifest.MANIFEST)}: cannot be read: {error.strerror}"
        raise OutputError(said, "check what it is, and its permissions") from error


def _is_gone(source: str) -> bool:
    """Whether an image certainly is not there; one that cannot be looked for may be."""
    try:
        os.lstat(source)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _check_sources(gone: set[str], kept: bool) -> None:
    """A disk that is not mounted leaves an empty folder behind, and looks as if its images had been removed: those that still
    have outputs.

    Raises
    ------
    UsageError
        No image is left, or one was in a folder that is empty now.
    """
    remedy = "is a disk missing? --even-all removes the outputs all the same"
    if gone and not kept:
        raise UsageError("every image that the manifest names is gone", remedy)
    checked: set[str] = set()
    for source in sorted(gone):
        folder = os.path.dirname(source)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        if folder not in checked and _is_empty(folder):
            raise UsageError(f"{printable(source)} is gone, and {printable(folder)} is empty", remedy)
        checked.add(folder)


def _is_empty(folder: str) -> bool:
    """Also one that cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _found(out: Path, name: str, sha256: object) -> Identity | None:
    """A plain file inside OUT, reached through no link, unchanged."""
    if os.path.isabs(name) or "\0" in name or not name.endswith((".png", ".npy")):
        return None
    try:
        with folder_below(out, parts_below(out, (out / name).parent)) as folder, _opened(name, folder) as file:
            status = os.fstat(file)
            plain = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_OUTPUT
            return _identity(status) if plain and hash_open(file, status.st_size)[0] == sha256 else None
    except (OSError, ValueError):  # ValueError: it leads out of OUT, or no file can have this name
        return None


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    handle = os.open(os.path.basename(name), flags, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _identity(status: os.stat_result) -> Identity:
    """Of a file and its bytes."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _remove(out: Path, name: str, identity: Identity) -> None:
    """Remove the file that was found, and the folders that are empty then. What came to that name meanwhile stays, and what
    came to the name of a folder on the way there."""
    *parts, last = (*parts_below(out, (out / name).parent), os.path.basename(name))
    try:
        with folder_below(out, parts) as folder:
            if _identity(os.stat(last, dir_fd=folder, follow_symlinks=False)) != identity:
                return
            os.unlink(last, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        remedy = "give write permission on its folder"
        raise OutputError(f"{printable(out / name)}: cannot be removed: {error.strerror}", remedy) from error
    with suppress(OSError):  # not empty
        while parts:
            last = parts.pop()
            with folder_below(out, parts) as folder:
                os.rmdir(last, dir_fd=folder)
