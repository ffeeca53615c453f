"""Opening and reading: regular files only, and their limits."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from children import as_nobody
from odd_images import RGB, saved

from gradviz_cli.draw.png import read_text
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, _open_regular, hash_file, read_bytes, read_named, read_stamped, stamp_of

LIMITS = Limits()


def test_file_limit_is_exact(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, Limits(max_file_size=1000)) == b"x" * 1000
    with pytest.raises(ImageError) as caught:
        read_bytes(path, Limits(max_file_size=999))
    assert caught.value.kind == "too-large" and "--max-file-size" in caught.value.message


def test_hashes_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    stamp = stamp_of((tmp_path / "a").stat())
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(tmp_path / "a", 3) == (sha256, stamp) and hash_file(tmp_path / "a", 2) is None
    assert hash_file(tmp_path, 9) is None and hash_file(tmp_path / "none", 9) is None
    (tmp_path / "long").write_bytes(bytes(5_000_000))
    assert hash_file(tmp_path / "long", 2**30)[0] == hashlib.sha256(bytes(5_000_000)).hexdigest()
    assert read_stamped(tmp_path / "a", LIMITS) == (b"abc", stamp)


@pytest.mark.parametrize("change", ["bytes", "bytes, and the times put back", "moved over it", "touched"])
def test_a_stamp_changes_with_the_file(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = path.stat()
    time.sleep(0.02)  # a kernel counts in steps of some milliseconds
    if change == "touched":
        os.utime(path)
    elif change == "moved over it":
        (tmp_path / "b").write_bytes(b"xyz")
        (tmp_path / "b").rename(path)
    else:
        path.write_bytes(b"xyz")
    if change != "bytes":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stamp_of(path.stat()) != stamp_of(before)


@pytest.mark.parametrize(("age", "known"), [(0.5, False), (10, True)])
def test_a_clock_of_seconds_cannot_tell_what_comes_at_once(tmp_path: Path, age: float, known: bool) -> None:
    at = (int(time.time() - age)) * 1_000_000_000
    found = stamp_of(SimpleNamespace(st_size=3, st_mtime_ns=at, st_ctime_ns=at))
    assert found == ((3, at, at) if known else None)
    assert stamp_of(SimpleNamespace(st_size=3, st_mtime_ns=at, st_ctime_ns=at + 1)) is not None


def test_a_file_that_changes_while_it_is_read_has_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    pread = os.pread

    def slow(*given):
        os.utime(path, (1, 1))
        return pread(*given)

    monkeypatch.setattr(os, "pread", slow)
    assert hash_file(path, 9)[1] is None


@pytest.mark.parametrize("name", ["nul\0byte.png", b"nul\0byte.png", "not-there", "x" * 256])
def test_names_that_cannot_exist_are_missing(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name if isinstance(name, bytes) else name.encode())
    for kind in (path, os.fsdecode(path)):
        with pytest.raises(ImageError) as caught:
            read_bytes(kind, LIMITS)
        assert caught.value.kind == "missing"


def test_fifo_that_takes_the_place_of_a_file(tmp_path, monkeypatch, no_hang):
    """The name changes hands between the look and the opening."""
    good, fifo = tmp_path / "good", tmp_path / "fifo"
    good.write_bytes(b"x")
    os.mkfifo(fifo)
    status = os.stat(good)
    monkeypatch.setattr(os, "stat", lambda *_: status)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageError) as caught:
        read_bytes(fifo, LIMITS)
    assert caught.value.kind == "not-a-file" and "FIFO" in caught.value.message
    assert len(os.listdir("/proc/self/fd")) == before


def test_fifo_is_not_touched(tmp_path, no_hang):
    """A writer that waits for a reader goes on waiting."""
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    for read in (lambda: read_bytes(fifo, LIMITS), lambda: read_text(fifo)):
        opened = threading.Event()

        def wait(opened=opened):
            os.close(os.open(fifo, os.O_WRONLY))
            opened.set()

        writer = threading.Thread(target=wait, daemon=True)
        writer.start()
        time.sleep(0.05)
        try:
            assert read() is None
        except ImageError as error:
            assert error.kind == "not-a-file"
        assert not opened.wait(0.05)
        os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))  # let the writer go
        writer.join(5)


def test_file_without_permission(open_folder):
    path = os.path.join(open_folder, "locked.png")
    Path(path).write_bytes(saved(RGB, "PNG"))
    os.chmod(path, 0)

    def read():
        try:
            return len(read_bytes(path, LIMITS))
        except ImageError as error:
            return f"{error.kind}: {error.message}"

    assert as_nobody(read) == "unreadable: cannot be opened: Permission denied"


def test_descriptors_are_closed_on_exec(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    fd, size = _open_regular(path)
    assert size == 1 and not os.get_inheritable(fd)
    os.close(fd)


@pytest.fixture
def piped():
    """Bytes -> the path of a pipe that brings them, as a shell makes one for `<(...)`."""
    ends = []

    def path(data: bytes) -> Path:
        end, other = os.pipe()
        ends.append(end)
        os.write(other, data)
        os.close(other)
        return Path(f"/dev/fd/{end}")

    yield path
    for end in ends:
        os.close(end)


def test_a_person_may_name_a_pipe(piped, tmp_path: Path, no_hang) -> None:
    assert read_named(piped(b"abc"), Limits(max_file_size=3)) == b"abc"
    (tmp_path / "a").write_bytes(b"abc")
    assert read_named(tmp_path / "a", LIMITS) == b"abc"
    os.mkfifo(tmp_path / "fifo")
    for path, limits, kind in (
        (piped(b"abc"), Limits(max_file_size=2), "too-large"),
        (piped(b""), LIMITS, "empty"),
        (os.devnull, LIMITS, "empty"),
        ("/dev/zero", LIMITS, "not-a-file"),
        (tmp_path / "fifo", LIMITS, "not-a-file"),
        (tmp_path, LIMITS, "not-a-file"),
        (tmp_path / "none", LIMITS, "missing"),
    ):
        with pytest.raises(ImageError) as caught:
            read_named(path, limits)
        assert caught.value.kind == kind
