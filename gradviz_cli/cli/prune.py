"""`gradviz prune`: remove outputs whose image is gone, and nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import click

from gradviz_cli import images, manifest
from gradviz_cli.cli.signals import stopping
from gradviz_cli.errors import ImageError, OutputError, UsageError


@click.command("prune")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--max-delete", type=click.IntRange(min=0), metavar="N", help="Remove nothing when it would be more than N files.")
@click.option("--even-all", is_flag=True, help="Go on when every image is gone, not only some.")
@click.option("--lock-wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for a run in OUT.")
def command(out: Path, dry_run: bool, max_delete: int | None, even_all: bool, lock_wait: float) -> int:
    """Remove the outputs in OUT whose image no longer exists.

    Only files that the manifest lists are touched, and only while they are byte for byte what gradviz wrote.
    """
    if not (out / manifest.MANIFEST).is_file():
        raise UsageError(f"{out} holds no {manifest.MANIFEST}", "give a folder that `gradviz explain` wrote")
    with stopping(), manifest.held(out, lock_wait):
        orphans, kept = _orphans(out)
        if orphans and not kept and not even_all:
            raise UsageError(
                f"{out}: every image that the manifest names is gone; is a disk missing?", "--even-all removes their outputs all the same"
            )
        if max_delete is not None and len(orphans) > max_delete:
            raise UsageError(f"{len(orphans)} files would be removed, more than --max-delete {max_delete}", "raise it, or look with --dry-run")
        for name in orphans:
            if dry_run:
                click.echo(images.printable(out / name))
            else:
                _remove(out, name)
    return 0


def _orphans(out: Path) -> tuple[list[str], int]:
    """Names of the files to remove, and how many images still exist."""
    listed: dict[str, str] = {}
    kept: set[int] = set()
    for record in manifest.read(out):
        source, hashes, outputs = record.get("source"), record.get("sha256"), record.get("outputs")
        if not (isinstance(source, str) and isinstance(hashes, dict) and isinstance(outputs, list)):
            continue
        if os.path.lexists(source):
            kept.add(hash(source))
            for name in outputs:
                listed.pop(name, None)
        else:
            listed.update((name, sha256) for name, sha256 in hashes.items() if name in outputs)
    return [name for name, sha256 in sorted(listed.items()) if _is_ours(out, name, sha256)], len(kept)


def _is_ours(out: Path, name: str, sha256: str) -> bool:
    """A plain file inside OUT, unchanged; the manifest is only a text, so its names are not trusted."""
    path = out / name
    if os.path.isabs(name) or ".." in Path(name).parts or path.suffix not in (".png", ".npy"):
        return False
    if path.is_symlink() or not path.parent.resolve().is_relative_to(out.resolve()):
        return False
    try:
        data = images.read_bytes(path, images.Limits(max_file_size=2**34))
    except ImageError:
        return False
    return hashlib.sha256(data).hexdigest() == sha256


def _remove(out: Path, name: str) -> None:
    """Remove the file, and the folders that are empty then."""
    path = out / name
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed: {error.strerror}", "check its folder's permissions") from error
    for folder in path.parents:
        if folder == out:
            return
        try:
            folder.rmdir()
        except OSError:
            return
