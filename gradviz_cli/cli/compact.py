"""`gradviz compact`: a manifest without the lines of runs that are history."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from gradviz_cli.batch import compact as compacting
from gradviz_cli.batch import shards
from gradviz_cli.batch.lock import held
from gradviz_cli.batch.manifest import MANIFEST, check_there
from gradviz_cli.batch.merge import merge
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.types import Location, Seconds
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.files import objects
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.files.text import printable
from gradviz_cli.plan.outputs import WHOLE


@click.command("compact")
@click.argument("out", metavar="OUT", type=Location())
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would stay; a run may be at work.")
@click.option("--lock-wait", type=Seconds(), default=0.0, help="Seconds to wait for a run in OUT.")
def command(out: Place, dry_run: bool, lock_wait: float) -> int:
    """Leave out of OUT's manifest the lines that later ones have replaced.

    A manifest gets a line for each image and run. Of each image and each output the last line stays, and so does what the
    next run, gallery and prune ask for; the history of earlier runs is gone. Pictures are not touched.
    """
    if isinstance(out, Remote):
        return _in_store(out, dry_run, lock_wait)
    check_there(out)
    if dry_run:
        _tell(out)
        return 0
    with held(out, lock_wait) as lock:
        lock.sweep()
        lock.begin()
        merge(out)
        compacting.compact(out)
        shards.clear(out)
        lock.finish()
    return 0


def _in_store(out: Remote, dry_run: bool, lock_wait: float) -> int:
    from gradviz_cli.batch import bucket  # most folders are here

    try:
        objects.check_out(out)
    except ValueError as error:
        raise UsageError(f"OUT: {error}") from None
    with stopping(), bucket.standing_for(out) as found, ExitStack() as hold:
        if not dry_run:
            hold.enter_context(found.entered(lock_wait, WHOLE))
        segments = found.lines()
        if not (found.folder / MANIFEST).stat().st_size:
            raise UsageError(
                f"{printable(out)} holds no manifest of gradviz", "give a folder that `gradviz explain` wrote"
            )
        if dry_run:
            _tell(found.folder)
            return 0
        compacting.compact(found.folder)
        found.replace_manifest(segments)
    return 0


def _tell(out: Path) -> None:
    try:
        before, after = compacting.counted(out)
    except OSError as error:
        said = f"{printable(out / MANIFEST)}: cannot be read: {error.strerror}"
        raise OutputError(said, "check what it is, and its permissions") from error
    click.echo(f"{after.lines} of {before.lines} lines would stay ({_megabytes(after)} of {_megabytes(before)} MB)")


def _megabytes(amount: compacting.Amount) -> str:
    return f"{amount.size / 1e6:.1f}"
