"""From the IMAGES of the command line to jobs: files, folders in name order, each with the name of its outputs."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from gradviz_cli.errors import NoImages, TimeUp, UsageError
from gradviz_cli.files import objects
from gradviz_cli.files.names import Fold, as_it_is
from gradviz_cli.files.near import check_path, near_path
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.remote import Place, Remote, full_name
from gradviz_cli.files.text import printable, shortened
from gradviz_cli.images.aside import Kind, LeftOut, is_hidden, is_system
from gradviz_cli.images.formats import has_image_name, may_have_pages
from gradviz_cli.images.frames import pages
from gradviz_cli.images.globs import Globs, folded, full_path
from gradviz_cli.images.repeats import repeated
from gradviz_cli.images.trees import Disk, Entry, Identity, Store, Tree, identity
from gradviz_cli.plan import values
from gradviz_cli.plan.outputs import WHOLE
from gradviz_cli.plan.plan import Job, Page, Walk

Names = Callable[[str], Iterable[str]]
LONGEST = 4096  # bytes of a path that a system takes
# An image that comes through stdin: its path, which is there on every system, so that its outputs are no orphans.
STDIN = Path("/dev/stdin")
_COPY_IT = "copy it to this machine, or leave out --pages all"


@dataclass(frozen=True)
class Inputs:
    """The images of a run; walked through as often as needed, one at a time, so that a million names need no list.

    A folder is searched recursively in name order, for files that are named as images or that --include asks for. A
    file that is named stands for itself, whatever its name. An image that is given more than once is one.

    Attributes
    ----------
    paths : tuple of Path or Remote
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

    paths: tuple[Place, ...]
    out: Place
    listed: Callable[[], Iterator[Place]] | None = None
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
            if isinstance(path, Remote):
                _check_there(path, self.walk.root)
                continue
            unread = "*" in str(path) or "?" in str(path)  # a shell leaves a pattern as it is that no file matches
            check_path(
                path, remedy="no file matches; give the folder, and --include 'PATTERN'" if unread else "check the path"
            )
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
        if inside := self._said_inside():
            return inside
        left = LeftOut()
        for _ in self._all(left):
            pass
        why = "; ".join(filter(None, (str(left), left.remedy, self._meant_include())))
        places = ", ".join(map(printable, self.paths[:3]))
        return f"no image was found: {why}" if why else f"no image was found{' in ' + places if places else ''}"

    def check_outside(self) -> None:
        """Raises NoImages where nothing is named but folders in OUT, which are not searched."""
        folders = [path for path in self.paths if isinstance(path, Path) and _is_below(path, self.out)]
        if folders and len(folders) == len(self.paths) and not self.listed:
            raise NoImages(self._said_inside(), "give --out another folder")

    def _said_inside(self) -> str:
        """What is said of a folder that is OUT or lies in it; nothing where none does."""
        inside = next((path for path in self.paths if _is_below(path, self.out)), None)
        where = f"it is --out {printable(self.out)} or lies in it"
        return f"no image was found: {printable(inside)} is not searched, as {where}" if inside else ""

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
        search = _Search(self.walk, self.out, left, self.stdin)
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
    if one is other or full_name(one.path) == full_name(other.path):
        return True
    if isinstance(one.path, Remote) or isinstance(other.path, Remote):
        return False
    found = identity(one.path)
    return found is not None and found == identity(other.path)


def _clash(first: Job, second: Job, name: str) -> UsageError:
    said = f"{printable(first.path)} and {printable(second.path)} would both be written as {printable(name)}.*"
    if first.path.name != second.path.name and first.path.parent == second.path.parent and first.rel != second.rel:
        return UsageError(said, "rename one of them, or run them into two folders with --out")
    return UsageError(said, "run them into two folders with --out, or name a folder that holds both with --root")


def names_in(file: IO[bytes], null: bool) -> Iterator[Place]:
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


def _entry(name: bytes, null: bool) -> Place:
    if not null and b"\0" in name:
        text = name.split(b"\0")[0]
        shown = "a name" if not text or re.search(rb"[^\x20-\x7e]", text) else printable(shortened(printable(text), 40))
        said = f"--files-from: {shown} holds NUL bytes"
        raise UsageError(said, "add -0 if its names end in NUL; is it a list, and not an image?")
    if len(name) > LONGEST:
        ends = "NUL; leave out -0 if they are lines" if null else "a new line; add -0 if they end in NUL"
        raise UsageError(f"--files-from: a name of more than {LONGEST} bytes", f"names there end in {ends}")
    typed = os.fsdecode(name if null else name.removesuffix(b"\r"))
    try:
        return values.location(typed)
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
        raise UsageError(
            f"--root {printable(root)}: no such folder", near_path(root, os.path.isdir) or "check the path"
        )
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


def _ways(path: Place, is_folder: bool, root: str | None) -> Iterator[tuple[str, str]]:
    """A folder, in full, and the path below it of what is named, as patterns are compared with them: its own folder, as that of
    `photos/*`; and --root or the working folder, below which the folders on the way count too. To a file that lies elsewhere
    all of them count; where a folder lies elsewhere is no matter."""
    if isinstance(path, Remote):
        yield folded(str(path.parent)), path.name
        base = Remote.of(root) if root else None
        below = path.below(base) if isinstance(base, Remote) else None
        if below or not is_folder:
            yield (folded(str(base)), below) if below else (f"{path.scheme}:/", path.path)
        return
    if path.name not in ("", ".."):
        yield full_path(os.path.dirname(path)), path.name
    if path == STDIN:
        return
    below = _named(path, root) if root else _below_here(path)
    if below:
        yield full_path(root or "."), below
    elif below is None and not is_folder:
        yield "", os.path.abspath(path).lstrip("/")


def _below_here(path: Path) -> str | None:
    """Its path from the working folder: empty for that itself, None where it does not lie there."""
    try:
        rel = os.path.relpath(path)
    except OSError:  # the working folder is gone
        return None
    return None if rel.split("/")[0] == ".." else rel if rel != "." else ""


def _name_of_object(place: Remote, is_folder: bool, root: str | None) -> str:
    """The same of an object or a folder of a store."""
    if root is None:
        return "" if is_folder else place.name
    above = Remote.of(root)
    rel = place.below(above) if isinstance(above, Remote) else None
    if rel is None:
        raise UsageError(
            f"{printable(place)} does not lie in --root {printable(root)}", "name a folder that holds all images"
        )
    return rel


def _check_there(place: Remote, root: str | None) -> None:
    """Raise UsageError where there is nothing for sure; what cannot be reached fails as an image."""
    is_folder = False
    try:
        is_folder = objects.look(place).is_folder
    except StoreError as error:
        if error.kind == "missing":
            raise UsageError(f"no such object or folder: {printable(place)}: {error.reason}", error.remedy) from error
    _name_of_object(place, is_folder, root)


@dataclass
class _Search:
    """Walks through folders, and counts what it leaves out."""

    walk: Walk
    out: Place
    left: LeftOut
    stdin: Path | None = None
    include: Globs = field(init=False)
    exclude: Globs = field(init=False)
    entered: set[Identity] = field(default_factory=set)  # folders, where links are followed

    def __post_init__(self) -> None:
        self.include, self.exclude = Globs(self.walk.include), Globs(self.walk.exclude)

    def jobs(self, path: Place) -> Iterator[Job]:
        """A file by itself; of a folder what is below it."""
        if isinstance(path, Remote):
            yield from self._of_store(path)
            return
        is_folder = os.path.isdir(path)
        if self._is_excluded(path, is_folder):
            self.left.add(Kind.EXCLUDED)
        elif not is_folder:
            copy = self.stdin if path == STDIN else None
            yield from self._paged(Job(path, path.name if copy else _named(path, self.walk.root), copy=copy))
        elif not _is_below(path, self.out):
            self.entered.clear()
            tree = Disk(identity(self.out) if isinstance(self.out, Path) else None)
            yield from self._below(tree, os.fspath(path), _named(path, self.walk.root), path.name)

    def _of_store(self, place: Remote) -> Iterator[Job]:
        """What is named as an image is taken for one, without a question to the store for each of a list."""
        is_folder, trouble = False, None
        if not has_image_name(place.name):
            try:
                is_folder = objects.look(place).is_folder
            except StoreError as error:
                trouble = f"cannot be read: {error}"
        prefix = _name_of_object(place, is_folder, self.walk.root)
        if self._is_excluded(place, is_folder):
            self.left.add(Kind.EXCLUDED)
        elif not is_folder:
            yield from self._paged(Job(place, prefix, trouble))
        elif not _is_below(place, self.out):
            yield from self._below(Store(place, self.out), str(place), prefix, place.name)

    def _is_excluded(self, path: Place, is_folder: bool) -> bool:
        """Whether what is named is left out: itself, or for a folder on the way to it."""
        if not self.exclude:
            return False
        return any(self.exclude.matches(*way) for way in _ways(path, is_folder, self.walk.root))

    def _paged(self, job: Job) -> Iterator[Job]:
        """A job, or one for each of its pages: `scan.tif#1`, `scan.tif#2`, ..."""
        file, every = job.file, self.walk.pages == "all"
        if every and isinstance(file, Remote) and may_have_pages(file.name):  # to count them takes most of its bytes
            yield replace(job, trouble=f"its pages are not counted in a store: {_COPY_IT}")
            return
        places = pages(file) if every and isinstance(file, Path) else ()
        for number, place in enumerate(places, 1):
            yield replace(job, rel=f"{job.rel}#{number}", page=Page(number, place))
        if not places:
            yield job

    def _below(self, tree: Tree, begin: str, prefix: str, name_of_top: str) -> Iterator[Job]:
        """Depth first and in name order; names are sorted folder by folder, and given back one by one."""
        root, ours = tree.full_path(begin), tree.lies_in_output(begin)
        if ours:
            self.left.add(Kind.OUTPUT)
        open_folders = [(begin, "", self._opened(tree, begin), ours)]
        while open_folders:
            folder, rel, names, ours = open_folders[-1]
            if isinstance(names, str):
                yield tree.job(folder, "/".join(filter(None, (prefix, rel))) or name_of_top, names)
            if isinstance(names, str) or not names:
                open_folders.pop()
                continue
            name = names.pop()
            entry = tree.entry(folder, name, f"{rel}/{name}" if rel else name)
            kind = self._kind(begin, root, entry)
            if kind is not None:
                self.left.add(kind, entry.name, partial(tree.head, entry.path))
            elif not entry.is_folder:
                if tree.is_written(entry.path, ours):
                    self.left.add(Kind.WRITTEN)
                else:
                    yield from self._paged(tree.job(entry.path, f"{prefix}/{entry.rel}" if prefix else entry.rel))
            elif not tree.is_out(entry.path):
                below = self._opened(tree, entry.path)
                new = not ours and tree.is_output(entry.path, below)
                if new:
                    self.left.add(Kind.OUTPUT)
                open_folders.append((entry.path, entry.rel, below, ours or new))

    def _opened(self, tree: Tree, folder: str) -> list[str] | str:
        if self.walk.follow_links and (found := identity(folder)):
            self.entered.add(found)
        return tree.names(folder)

    def _kind(self, top: str, root: str, entry: Entry) -> Kind | None:
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

    def _of_link(self, top: str, entry: Entry) -> Kind | None:
        """Why a folder is left out for the way that leads to it: a link that is not followed, or to what is searched."""
        if entry.is_link and not self.walk.follow_links:
            return Kind.LINK
        again = self.walk.follow_links and identity(entry.path) in self.entered
        again = again or entry.is_link and (_is_searched(top, entry.path) or _is_below(Path(entry.path), self.out))
        return Kind.AGAIN if again else None


def _is_searched(top: str, link: str) -> bool:
    """Whether a link leads to a folder below `top` that is searched under its own name."""
    inner = os.path.relpath(os.path.realpath(link), os.path.realpath(top))
    folder = top
    for name in inner.split("/"):
        if name == ".." or name != "." and is_hidden(name) or is_system(folder, name):
            return False
        folder = os.path.join(folder, name)
    return True


def _is_below(folder: Place, out: Place) -> bool:
    """Whether a folder is OUT or lies below it, by whatever name."""
    if isinstance(folder, Remote) or isinstance(out, Remote):
        return isinstance(folder, Remote) and isinstance(out, Remote) and folder.below(out) is not None
    return os.path.isdir(folder) and _inside(folder, identity(out))


def _inside(folder: Path, out: Identity | None) -> bool:
    """Whether a folder is OUT or lies below it, by whatever name."""
    try:
        real = Path(os.path.realpath(folder))
    except OSError:  # the working folder is gone
        return False
    return out is not None and any(identity(place) == out for place in (real, *real.parents))
