"""From the IMAGES of the command line to jobs: files, folders in name order, each with the name of its outputs."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, NamedTuple

from gradviz_cli.errors import TimeUp, UsageError
from gradviz_cli.files.names import Fold, as_it_is
from gradviz_cli.files.near import near_path
from gradviz_cli.files.text import printable, shortened
from gradviz_cli.images.aside import Kind, LeftOut, is_hidden, is_output, is_system, is_written, lies_in_output
from gradviz_cli.images.formats import has_image_name
from gradviz_cli.images.frames import pages
from gradviz_cli.images.globs import Globs, full_path
from gradviz_cli.images.repeats import repeated
from gradviz_cli.plan import values
from gradviz_cli.plan.outputs import WHOLE
from gradviz_cli.plan.plan import Job, Page, Walk

Identity = tuple[int, int]  # device and inode
Names = Callable[[str], Iterable[str]]
LONGEST = 4096  # bytes of a path that a system takes
# An image that comes through stdin: its path, which is there on every system, so that its outputs are no orphans.
STDIN = Path("/dev/stdin")


@dataclass(frozen=True)
class Inputs:
    """The images of a run; walked through as often as needed, one at a time, so that a million names need no list.

    A folder is searched recursively in name order, for files that are named as images or that --include asks for. A
    file that is named stands for itself, whatever its name. An image that is given more than once is one.

    Attributes
    ----------
    paths : tuple of Path
        Files and folders of the command line.
    listed : callable, optional
        Gives the names of --files-from anew at each call.
    shard : (i, n)
        Only the i-th (from 1) of n parts; an image's part follows from its output name, on every machine the same.
    fold : callable
        Makes names equal that the file system of OUT takes for one.
    stdin : Path, optional
        A copy of what came through stdin, which STDIN among the paths means.
    repeated : frozenset of int
        Hashes of names that come more than once; `checked` finds them.
    """

    paths: tuple[Path, ...]
    out: Path
    listed: Callable[[], Iterator[Path]] | None = None
    shard: tuple[int, int] = (1, 1)
    walk: Walk = Walk()
    fold: Fold = as_it_is
    repeated: frozenset[int] = frozenset()
    stdin: Path | None = None

    def jobs(self, left: LeftOut | None = None) -> Iterator[Job]:
        """Every image of this shard; what is left out is counted in `left`."""
        return (job for job in self._once(LeftOut() if left is None else left) if _in_shard(job.rel, *self.shard))

    def checked(self, names: Names | None = None, end: float | None = None) -> Inputs:
        """These, to be walked through after it is known that no two images share a name of an output.

        Parameters
        ----------
        names : callable, optional
            Gives the names that the outputs of an image begin with, where they may equal those of another image in the
            same folder. Else names below one folder differ by themselves (unless they are folded), and only several
            arguments are walked through.
        end : float, optional
            Monotonic time at which TimeUp is raised.

        Raises
        ------
        UsageError
            An argument does not exist or lies outside --root, or two images would share their outputs' names.
        """
        for path in self.paths:
            if self.stdin and path == STDIN:
                continue
            if not os.path.lexists(path):
                unread = "*" in str(path) or "?" in str(path)  # a shell leaves a pattern as it is that no file matches
                remedy = "no file matches; give the folder, and --include 'PATTERN'" if unread else "check the path"
                raise UsageError(f"no such file or folder: {printable(path)}", near_path(path) or remedy)
            _named(path, self.walk.root)
        one = len(self.paths) == 1 and self.listed is None
        if names is None and one and self.fold is as_it_is and self.walk.pages == "first":
            return self
        names = names or (lambda rel: (rel,))
        found = (name for job in _until(end, self._all(LeftOut())) for name in self._folded(names, job))
        twice = repeated(map(hash, found))
        if twice:
            self._check_difference(twice, names)
        return replace(self, repeated=twice)

    def any_elsewhere(self) -> bool:
        """Whether other shards have images."""
        return self.shard != WHOLE and any(True for _ in self._all(LeftOut()))

    def why_none(self) -> str:
        """Why there may be no image."""
        out = _identity(self.out)
        inside = next((path for path in self.paths if os.path.isdir(path) and _inside(path, out)), None)
        if inside is not None:
            where = f"it is --out {printable(self.out)} or lies in it"
            return f"no image was found: {printable(inside)} is not searched, as {where}"
        left = LeftOut()
        for _ in self._all(left):
            pass
        why = "; ".join(filter(None, (str(left), left.remedy, self._meant_include())))
        places = ", ".join(map(printable, self.paths[:3]))
        return f"no image was found: {why}" if why else f"no image was found{' in ' + places if places else ''}"

    def _meant_include(self) -> str:
        """What was meant by an ending alone, which is the whole name of no file."""
        endings = [one.removeprefix(".") for one in self.walk.include]
        meant = [f"--include '*.{one}'" for one in endings if one.isalnum() and has_image_name(f"x.{one}")]
        return f"did you mean {' '.join(meant)}?" if meant else ""

    def _check_difference(self, twice: frozenset[int], names: Names) -> None:
        """Hashes can collide; names decide. The same image once more is no clash."""
        first: dict[str, Job] = {}
        for job in self._all(LeftOut()):
            for name in self._folded(names, job):
                if hash(name) not in twice:
                    continue
                other = first.setdefault(name, job)
                if self.fold(other.rel) != self.fold(job.rel) or not _is_same(other, job):
                    raise _clash(other, job, name)

    def _folded(self, names: Names, job: Job) -> set[str]:
        return {self.fold(name) for name in names(job.rel)}

    def _once(self, left: LeftOut) -> Iterator[Job]:
        """Each image the first time that it is named."""
        seen: set[str] = set()
        for job in self._all(left):
            name = self.fold(job.rel) if self.repeated else ""
            if self.repeated and hash(name) in self.repeated:
                if name in seen:
                    continue
                seen.add(name)
            yield job

    def _all(self, left: LeftOut) -> Iterator[Job]:
        search = _Search(self.walk, _identity(self.out), left, self.stdin)
        for path in self.paths:
            yield from search.jobs(path)
        for path in self.listed() if self.listed else ():
            yield from search.jobs(path)


def _until(end: float | None, jobs: Iterator[Job]) -> Iterator[Job]:
    for job in jobs:
        if end is not None and time.monotonic() >= end:
            raise TimeUp("--max-duration is reached while the images are listed", "give more time, or fewer images")
        yield job


def _is_same(one: Job, other: Job) -> bool:
    """Whether two jobs are of one image, by whatever path."""
    if one is other or os.path.abspath(one.path) == os.path.abspath(other.path):
        return True
    identity = _identity(one.path)
    return identity is not None and identity == _identity(other.path)


def _clash(first: Job, second: Job, name: str) -> UsageError:
    said = f"{printable(first.path)} and {printable(second.path)} would both be written as {printable(name)}.*"
    if first.path.name != second.path.name and first.path.parent == second.path.parent and first.rel != second.rel:
        return UsageError(said, "rename one of them, or run them into two folders with --out")
    return UsageError(said, "run them into two folders with --out, or name a folder that holds both with --root")


def names_in(file: IO[bytes], null: bool) -> Iterator[Path]:
    """The names in a list, one a line (of Unix or Windows) or NUL-ended; empty ones are passed over.

    Several may walk through the same open file at once. A byte order mark says that it is UTF-8, or that it is UTF-16.

    Raises
    ------
    UsageError
        A name cannot be one, as the list is of another form.
    """
    end, rest = b"\0" if null else b"\n", b""
    for chunk in _chunks(file):
        *whole, rest = (rest + chunk).split(end)
        yield from (_entry(name, null) for name in whole if name.strip(b"\r"))
        if len(rest) > LONGEST:
            break
    if rest:
        yield _entry(rest, null)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The content bit by bit, in UTF-8 where a mark at its beginning says what it is."""
    at = os.pread(file.fileno(), 3, 0)
    wide = at[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    decoder = codecs.getincrementaldecoder("utf-16")() if wide else None
    place = len(codecs.BOM_UTF8) if at == codecs.BOM_UTF8 else 0
    while chunk := os.pread(file.fileno(), 1 << 16, place):
        place += len(chunk)
        try:
            yield decoder.decode(chunk).encode() if decoder else chunk
        except UnicodeError as error:
            raise UsageError(
                f"--files-from: is no UTF-16, as its first bytes say: {error}", "save it as UTF-8"
            ) from error


def _entry(name: bytes, null: bool) -> Path:
    if not null and b"\0" in name:
        text = name.split(b"\0")[0]
        shown = "a name" if re.search(rb"[^\x20-\x7e]", text) else printable(shortened(printable(text), 40))
        said = f"--files-from: {shown} holds NUL bytes"
        raise UsageError(said, "add -0 if its names end in NUL; is it a list, and not an image?")
    if len(name) > LONGEST:
        ends = "NUL; leave out -0 if they are lines" if null else "a new line; add -0 if they end in NUL"
        raise UsageError(f"--files-from: a name of more than {LONGEST} bytes", f"names there end in {ends}")
    typed = os.fsdecode(name if null else name.removesuffix(b"\r"))
    try:
        return values.path(typed)
    except ValueError as error:
        raise UsageError(f"--files-from: {error}", "or leave it out of the list") from None


def _in_shard(rel: str, number: int, count: int) -> bool:
    if count == 1:
        return True
    return int.from_bytes(hashlib.sha256(os.fsencode(rel)).digest()[:8], "big") % count == number - 1


def _named(path: Path, root: str | None) -> str:
    """The name that the outputs of a path begin with: empty for a folder that is not itself part of it."""
    if root is None:
        return "" if os.path.isdir(path) else path.name
    if not os.path.isdir(root):
        raise UsageError(f"--root {printable(root)}: no such folder", near_path(root) or "check the path")
    full = os.path.abspath(path)
    for way in (os.path.abspath, os.path.realpath):  # the second one only where it must be: it looks at every folder
        place, base = os.path.join(way(os.path.dirname(full)), os.path.basename(full)), way(root)
        if place == base:
            return ""
        if place.startswith(base.rstrip("/") + "/"):
            return os.path.relpath(place, base)
    raise UsageError(
        f"{printable(path)} does not lie in --root {printable(root)}", "name a folder that holds all images"
    )


@dataclass
class _Search:
    """Walks through folders, and counts what it leaves out."""

    walk: Walk
    out: Identity | None
    left: LeftOut
    stdin: Path | None = None
    include: Globs = field(init=False)
    exclude: Globs = field(init=False)
    entered: set[Identity] = field(default_factory=set)  # folders, where links are followed

    def __post_init__(self) -> None:
        self.include, self.exclude = Globs(self.walk.include), Globs(self.walk.exclude)

    def jobs(self, path: Path) -> Iterator[Job]:
        """A file by itself; of a folder what is below it."""
        if not os.path.isdir(path):
            if self.exclude.matches(full_path(os.path.dirname(path)), path.name):
                self.left.add(Kind.EXCLUDED)
            else:
                copy = self.stdin if path == STDIN else None
                yield from self._paged(Job(path, path.name if copy else _named(path, self.walk.root), copy=copy))
        elif not _inside(path, self.out):
            self.entered.clear()
            yield from self._below(path)

    def _paged(self, job: Job) -> Iterator[Job]:
        """A job, or one for each of its pages: `scan.tif#1`, `scan.tif#2`, ..."""
        places = pages(job.file) if self.walk.pages == "all" else ()
        for number, place in enumerate(places, 1):
            yield replace(job, rel=f"{job.rel}#{number}", page=Page(number, place))
        if not places:
            yield job

    def _below(self, top: Path) -> Iterator[Job]:
        """Depth first and in name order; names are sorted folder by folder, and given back one by one."""
        begin = os.fspath(top)
        prefix, root = _named(top, self.walk.root), full_path(begin)
        ours = lies_in_output(begin)
        if ours:
            self.left.add(Kind.OUTPUT)
        open_folders = [(begin, "", self._opened(begin), ours)]
        while open_folders:
            folder, rel, names, ours = open_folders[-1]
            if isinstance(names, str):
                yield Job(Path(folder), "/".join(filter(None, (prefix, rel))) or top.name, names)
            if isinstance(names, str) or not names:
                open_folders.pop()
                continue
            name = names.pop()
            entry = _Entry.at(folder, name, f"{rel}/{name}" if rel else name)
            kind = self._kind(begin, root, entry)
            if kind is not None:
                self.left.add(kind, name)
            elif not entry.is_folder:
                if is_written(entry.path, ours):
                    self.left.add(Kind.WRITTEN)
                else:
                    yield from self._paged(Job(Path(entry.path), f"{prefix}/{entry.rel}" if prefix else entry.rel))
            elif _identity(entry.path) != self.out:
                below = self._opened(entry.path)
                new = not ours and is_output(entry.path, below)
                if new:
                    self.left.add(Kind.OUTPUT)
                open_folders.append((entry.path, entry.rel, below, ours or new))

    def _opened(self, folder: str) -> list[str] | str:
        """The names in a folder, the first one last; or why it cannot be listed."""
        if self.walk.follow_links and (identity := _identity(folder)):
            self.entered.add(identity)
        try:
            return sorted(os.listdir(folder), reverse=True)
        except OSError as error:
            return f"the folder cannot be listed: {error.strerror}"

    def _kind(self, top: str, root: str, entry: _Entry) -> Kind | None:
        """Why something in a folder is left out, if it is; `root` is the full path of `top`."""
        if is_hidden(entry.name):
            return Kind.HIDDEN
        if self.exclude.matches(root, entry.rel):
            return Kind.EXCLUDED
        if entry.unseen:
            return None
        if entry.is_folder:
            return Kind.SYSTEM if is_system(entry.folder, entry.name) else self._of_link(top, entry)
        if self.include and not self.include.matches(root, entry.rel):
            return Kind.UNMATCHED
        if has_image_name(entry.name):
            return None
        bare = not os.path.splitext(entry.name)[1]
        asked = self.include and (bare or self.include.spells_ending(root, entry.rel))
        return None if asked else Kind.NAME

    def _of_link(self, top: str, entry: _Entry) -> Kind | None:
        """Why a folder is left out for the way that leads to it: a link that is not followed, or to what is searched."""
        if entry.is_link and not self.walk.follow_links:
            return Kind.LINK
        again = self.walk.follow_links and _identity(entry.path) in self.entered
        again = again or entry.is_link and (_is_searched(top, entry.path) or _inside(Path(entry.path), self.out))
        return Kind.AGAIN if again else None


class _Entry(NamedTuple):
    """Something in a folder: `rel` is its path below the folder that was given. `unseen` may be anything: its path is too
    long, or the folder may be listed but not entered."""

    folder: str
    name: str
    rel: str
    path: str
    is_folder: bool
    is_link: bool
    unseen: bool

    @classmethod
    def at(cls, folder: str, name: str, rel: str) -> _Entry:
        path = f"{folder.rstrip('/')}/{name}"
        try:
            mode, unseen = os.lstat(path).st_mode, False
        except OSError as error:
            mode, unseen = 0, error.errno != errno.ENOENT
        is_link = stat.S_ISLNK(mode)
        return cls(folder, name, rel, path, stat.S_ISDIR(mode) or is_link and os.path.isdir(path), is_link, unseen)


def _is_searched(top: str, link: str) -> bool:
    """Whether a link leads to a folder below `top` that is searched under its own name."""
    inner = os.path.relpath(os.path.realpath(link), os.path.realpath(top))
    folder = top
    for name in inner.split("/"):
        if name == ".." or name != "." and is_hidden(name) or is_system(folder, name):
            return False
        folder = os.path.join(folder, name)
    return True


def _identity(folder: str | os.PathLike) -> Identity | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _inside(folder: Path, out: Identity | None) -> bool:
    """Whether a folder is OUT or lies below it, by whatever name."""
    try:
        real = Path(os.path.realpath(folder))
    except OSError:  # the working folder is gone
        return False
    return out is not None and any(_identity(place) == out for place in (real, *real.parents))
