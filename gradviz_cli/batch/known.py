"""What OUT's manifest knows of the files there: their hashes, how they looked when they were written, whose they are.

The manifest is read line by line, and of each line that tells something only three numbers are kept for each output; the
line itself is read again when somebody asks for it. Of a large manifest OUT keeps these numbers (`batch.index`), so that the
next run reads only the lines that came since, and holds few of either in memory.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from gradviz_cli.batch import shards
from gradviz_cli.batch.files import HERE, Files
from gradviz_cli.batch.index import MOST, Builder, Head, Table, load, number, save
from gradviz_cli.batch.manifest import LONGEST, LOOKED_AT
from gradviz_cli.files.reading import Stamp
from gradviz_cli.plan.outputs import INDEX, MANIFEST, WHOLE, Shard
from gradviz_cli.plan.results import HASHES, IMAGE_HASH, IMAGE_STAMP, STAMPS

MODEL = "model"  # the field of the first line of a run that says which model it was
PROVED = "proved"  # the field of a line that remembers a proof
_SOURCED, _HASHED, _OF_MODEL = (
    f'"{word}'.encode() for word in (f'{IMAGE_HASH}": ', f'{HASHES}": {{"', f'{MODEL}": {{')
)
WORTH = 1 << 26  # bytes of new lines for which an index is written anew
HELD = 1024  # lines, parsed: more than all threads look at together
MOST_OPEN = 64  # descriptors of shards' manifests
_OF_FILE = 48  # bits of a place that are of a file's bytes; above them is the number of the file
_IMAGE = "\0"  # begins the key of an image, which no name of a file has


class Model(NamedTuple):
    """Which model a run had: its full path, as it was typed and where that led, and its fingerprint."""

    typed: str
    path: str
    fingerprint: str


class Written(NamedTuple):
    """A file as it was written, or found to be what was written; no stamp where none was to be had."""

    sha256: str
    stamp: Stamp | None


class Known:
    """The last that OUT's manifest says, output by output and image by image. For several threads at once.

    Attributes
    ----------
    model : Model or None
        Of the last run.
    files : Files
        How the files look that it knows of.
    """

    files: Files = HERE

    def __init__(self, paths: Sequence[Path] = (), index: Path | None = None, keep: bool = False, shard: Shard = WHOLE):
        self.model: Model | None = None
        self._paths = list(paths)
        self._handle: int | None = None
        self._others: dict[int, int] = {}  # place in `paths` -> descriptor: its lines may be moved meanwhile
        self._tables: list[Table] = []  # the latest first
        self._record = lru_cache(maxsize=HELD)(self._read_record)
        with suppress(OSError):
            self._handle = opened(self._paths[0]) if paths else None
        self._learn_all(index, keep, shard)

    @classmethod
    def of(cls, out: Path, shard: Shard = WHOLE, keep: bool = False) -> Known:
        """From OUT's manifest, and from those of shards that are not part of it yet. Nothing is known where there is none that
        can be read: whoever writes to it will say why.

        Parameters
        ----------
        shard : (i, n)
            Who wants to know: other shards of the same n have other images, so that their first lines, which say of what
            model they are, are enough.
        keep : bool
            Leave an index in OUT if its manifest is large. Only while its lock is held.
        """
        return cls([out / MANIFEST, *shards.manifests(out)], out / INDEX, keep, shard)

    def __enter__(self) -> Known:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        handle, self._handle, self._paths = self._handle, None, []
        for one in (*([] if handle is None else [handle]), *self._others.values()):
            os.close(one)
        self._others = {}
        for table in self._tables:
            table.close()
        self._tables = []

    def __bool__(self) -> bool:
        return any(map(len, self._tables))

    def written(self, name: str) -> Written | None:
        """Of an output, by its name under OUT."""
        record = self.line(name)
        sha256 = _of_name(record, HASHES, name)
        return Written(sha256, stamp(_of_name(record, STAMPS, name))) if _is_hash(sha256) else None

    def line(self, name: str) -> dict[str, Any]:
        """The last line that tells of an output and its hash; empty where there is none."""
        record = self._last(name)
        return record if _is_hash(_of_name(record, HASHES, name)) else {}

    def is_from(self, rel: str, source: str) -> bool | None:
        """Whether the image of this name under OUT is from this file; None where there is no such image."""
        found = self._find(_IMAGE + rel)
        return None if found is None else found[1] == number(source)

    def image(self, rel: str) -> dict[str, Any]:
        """The last line with outputs of the image of this name; empty where there is none."""
        record = self._last(_IMAGE + rel)
        return record if outputs_of(record) and _rel(record) == rel else {}

    def images(self) -> Iterator[dict[str, Any]]:
        """Lines of images, the latest first as far as they are in memory together."""
        for table in self._tables:
            for begin in range(0, len(table), MOST):
                places = np.unique(table.rows[begin : begin + MOST]["place"])[::-1]
                yield from map(self._record, places.tolist())

    def _find(self, key: str) -> tuple[int, int] | None:
        named = number(key)
        return next((found for table in self._tables if (found := table.find(named))), None)

    def _last(self, key: str) -> dict[str, Any]:
        found = self._find(key)
        return {} if found is None else self._record(found[0])

    def _learn_all(self, index: Path | None, keep: bool, shard: Shard) -> None:
        """OUT's manifest from where its index ends, and the others from their beginning."""
        builder, covered, end = Builder(), 0, 0
        if self._handle is not None:
            if index and (found := load(index, self._handle)):
                covered = self._begin_with(*found)
            end = self._learn(self._handle, 0, covered, builder)
            if index and keep and end - covered > WORTH and (found := self._kept(index, end, builder)):
                self._begin_with(*found)
                builder = Builder()
        moved = False
        for place, path in enumerate(self._paths[1:], 1):
            try:
                handle = opened(path)
            except OSError:
                moved = True
                continue
            most = LOOKED_AT if shards.is_beside(path, shard) else None
            self._learn(handle, place << _OF_FILE, 0, builder, most)
            if len(self._others) < MOST_OPEN:
                self._others[place] = handle
            else:
                os.close(handle)
        if moved and self._handle is not None:
            self._learn(self._handle, 0, end, builder)
        self._tables.insert(0, builder.table())

    def _begin_with(self, head: Head, table: Table) -> int:
        for before in self._tables:
            before.close()
        self._tables = [table]
        self.model = _model({MODEL: head.more})
        return head.covered

    def _kept(self, index: Path, end: int, builder: Builder) -> tuple[Head, Table] | None:
        """All that is known by now, as OUT's index."""
        assert self._handle is not None
        found = builder.table()
        more = self.model._asdict() if self.model else None
        kept = save(index, self._handle, end, [*self._tables, found], more)
        if kept is None:
            self._tables.insert(0, found)
        return kept

    def _learn(self, handle: int, file: int, start: int, builder: Builder, most: int | None = None) -> int:
        """Read lines, of `most` bytes or of all; where the last whole one ends."""
        place = end = start
        for line, length in lines_at(handle, start):
            if _HASHED in line or _SOURCED not in line or _OF_MODEL in line:
                told = _told_plainly(line) or self._told(line)
                for key in told.keys if told else ():
                    builder.add(number(key), file + place, number(told.source if told else ""))
            place += length
            end = place if line.endswith(b"\n") or not line else end
            if most is not None and place >= most:
                break
        return end

    def _told(self, line: bytes) -> _Told | None:
        record = parsed(line)
        self.model = _model(record) or self.model
        return _told_of(record)

    def _read_record(self, place: int) -> dict[str, Any]:
        """The line that begins there; empty where the file was closed or cut meanwhile."""
        file, place = place >> _OF_FILE, place & ((1 << _OF_FILE) - 1)
        handle = self._handle if file == 0 else self._others.get(file)
        if handle is not None or file == 0:
            return {} if handle is None else _record_at(handle, place)
        with suppress(OSError, IndexError):
            handle = opened(self._paths[file])
            try:
                return _record_at(handle, place)
            finally:
                os.close(handle)
        return {}


def opened(path: Path) -> int:
    """A descriptor of a regular file; raises OSError."""
    handle = shards.opened(path, os.O_RDONLY)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _record_at(handle: int, place: int) -> dict[str, Any]:
    line, size = b"", 1 << 12
    while b"\n" not in line and len(line) <= LONGEST:
        more = os.pread(handle, size, place + len(line))
        if not more:
            break
        line, size = line + more, size * 4
    return parsed(line.partition(b"\n")[0])


class _Told(NamedTuple):
    """What a line says: its image's name under OUT, the file that it is from, and its outputs that have a hash."""

    rel: str
    source: str
    hashed: list[str]

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.hashed, _IMAGE + self.rel)


def _told_of(record: dict[str, Any]) -> _Told | None:
    names = outputs_of(record)
    hashed = [name for name in names if _is_hash(_of_name(record, HASHES, name))]
    return _Told(_rel(record), record["source"], hashed) if names else None


def keys_of(record: dict[str, Any]) -> list[str]:
    """Everything that a line tells of: as `Known` asks for it, and what others read a manifest for."""
    told, image, source, page = _told_of(record), *(record.get(name) for name in ("image", "source", "page"))
    found = list(told.keys) if told else []
    if isinstance(image, str):  # the last that happened to an image
        found.append(f"{_IMAGE}{_IMAGE}{source if isinstance(source, str) else os.path.abspath(image)}#{page}")
    found += [f"{_IMAGE}name {name}" for name in outputs_of(record)]
    if model := _model(record):
        found.append(f"{_IMAGE}model {model.fingerprint}")
    if PROVED in record:
        found.append(f"{_IMAGE}{PROVED} {_of_name(record, PROVED, 'key')}")
    return found


def _told_plainly(line: bytes) -> _Told | None:
    """The same at a fifth of the cost, of a line as runs write most of them; None of others. It is only what the index is made
    of: a line that is asked for is read as JSON."""
    found = None if _OF_MODEL in line else _PLAIN.fullmatch(line)
    if found is None:
        return None
    image, output, source, hashes = (part.decode("ascii", "replace") for part in found.groups())
    return _Told(_name_under_out(output, image), source, _HASHED_NAME.findall(hashes))


_TEXT = rb'"([^"\\]*)"'
_PLAIN = re.compile(
    rb'\{"image": %s, "status": "[a-z]+", "outputs": \[%s.*, "source": %s, "%s": \{((?:%s: "[0-9a-f]{64}"[,}] ?)+).*\n'
    % (_TEXT, _TEXT, _TEXT, HASHES.encode(), rb'"[^"\\]*"')
)
_HASHED_NAME = re.compile('"([^"]+)": "[0-9a-f]{64}"')


def outputs_of(record: dict[str, Any]) -> list[str]:
    """The names of a line's outputs that lie in OUT, if it is a line of an image."""
    found = record.get("outputs")
    if not (isinstance(record.get("image"), str) and isinstance(record.get("source"), str) and isinstance(found, list)):
        return []
    return [name for name in found if isinstance(name, str) and _is_inside(name)]


def stamp(said: object) -> Stamp | None:
    """A stamp, if this is one."""
    whole = isinstance(said, list) and len(said) == 3 and all(type(one) is int for one in said)
    return tuple(said) if whole else None  # type: ignore[arg-type,return-value]


def image_stamp(record: dict[str, Any]) -> tuple[str | None, Stamp | None]:
    """The hash of the image file that a line is of, and its stamp when it was read."""
    sha256 = record.get(IMAGE_HASH)
    return (sha256, stamp(record.get(IMAGE_STAMP))) if _is_hash(sha256) else (None, None)


def _rel(record: dict[str, Any]) -> str:
    """The name of a line's image under OUT."""
    return _name_under_out(outputs_of(record)[0], record["image"])


def _name_under_out(output: str, image: str) -> str:
    return f"{output.rpartition('/')[0]}/{image.rpartition('/')[2]}".lstrip("/")


def _is_inside(name: str) -> bool:
    return name != "" and "\0" not in name and not name.startswith("/") and ".." not in name.split("/")


def _of_name(record: dict[str, Any], field: str, name: str) -> Any:
    found = record.get(field)
    return found.get(name) if isinstance(found, dict) else None


def _is_hash(said: object) -> bool:
    return isinstance(said, str) and len(said) == 64


def _model(record: dict[str, Any]) -> Model | None:
    found = record.get(MODEL)
    said = [found.get(name) for name in Model._fields] if isinstance(found, dict) else []
    parts = [part for part in said if isinstance(part, str)]
    return Model(*parts) if len(parts) == len(Model._fields) else None


def parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def lines_at(handle: int, start: int) -> Iterator[tuple[bytes, int]]:
    """Each line of a file and the bytes that it takes; of one that is too long nothing."""
    with os.fdopen(os.dup(handle), "rb", 1 << 20) as file:
        file.seek(start)
        while line := file.readline(LONGEST):
            length, end = len(line), line
            while not end.endswith(b"\n") and (end := file.readline(LONGEST)):
                length += len(end)
            yield line if length == len(line) else b"", length
