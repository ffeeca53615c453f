"""A manifest without the lines that nobody asks for any more: of each image, output, model and proof the last one stays.

Two passes, so that neither lines nor names are held: which line is the last to tell of what, and then which lines that are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.batch import manifest, shards
from gradviz_cli.batch.index import Builder, Table, number
from gradviz_cli.batch.known import keys_of, lines_at, opened, parsed
from gradviz_cli.files.whole import whole_file, writing
from gradviz_cli.plan.outputs import INDEX, MANIFEST


class Amount(NamedTuple):
    """Lines and bytes."""

    lines: int = 0
    size: int = 0

    def plus(self, line: bytes) -> Amount:
        return Amount(self.lines + 1, self.size + len(line))


def counted(out: Path) -> tuple[Amount, Amount]:
    """What is there, and what would stay of it; what is written or moved meanwhile is not looked at. Raises OSError."""
    before, after = Amount(), Amount()
    with _opened(out) as parts:
        last = _last(parts)
        for place, line in _placed(parts):
            before = before.plus(line)
            after = after.plus(line) if _stays(line, place, last) else after
        last.close()
    return before, after


def compact(out: Path) -> None:
    """Write OUT's manifest anew. It is the old one or the new one, whenever this is killed.

    Only while nobody else writes there, and after what shards wrote was merged.

    Raises
    ------
    OutputError
        It cannot be written; then it is what it was.
    """
    path = out / MANIFEST
    with writing(path), _opened(out) as parts:
        os.close(manifest.opened(path))
        last = _last(parts)
        if all(_stays(line, place, last) for place, line in _placed(parts)):
            return
        with whole_file(path) as file:
            with suppress(OSError):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))
            for place, line in _placed(parts):
                if _stays(line, place, last):
                    file.write(line)
            (out / INDEX).unlink(missing_ok=True)
        last.close()


def _last(parts: Sequence[Part]) -> Table:
    """Where the last line is that tells of something."""
    found = Builder()
    for place, line in _placed(parts):
        for key in keys_of(parsed(line)):
            found.add(number(key), place)
    return found.table()


def _stays(line: bytes, place: int, last: Table) -> bool:
    """A line that is torn, or no line of a run, tells of nothing."""
    found = (last.find(number(key)) for key in keys_of(parsed(line)))
    return any(one is not None and one[0] == place for one in found)


class Part(NamedTuple):
    """A file of lines, and how many bytes of it count."""

    handle: int
    size: int


@contextmanager
def _opened(out: Path) -> Iterator[list[Part]]:
    """As they are now, whatever becomes of their names."""
    with ExitStack() as open_:
        parts = []
        for path in (out / MANIFEST, *shards.manifests(out)):
            with suppress(FileNotFoundError):  # it has just been merged
                handle = opened(path)
                open_.callback(os.close, handle)
                parts.append(Part(handle, os.fstat(handle).st_size))
        yield parts


def _placed(parts: Sequence[Part]) -> Iterator[tuple[int, bytes]]:
    """Every line, and where it begins among all."""
    begin = 0
    for part in parts:
        place = 0
        for line, length in lines_at(part.handle, 0):
            if place >= part.size:
                break
            yield begin + place, line[: part.size - place]
            place += length
        begin += part.size
