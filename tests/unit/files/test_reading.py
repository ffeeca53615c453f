"""Opening and reading: regular files only, and their limits."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from children import as_nobody
from odd_images import RGB, saved

from gradviz_cli.draw.png import read_text
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, _open_regular, read_bytes

LIMITS = Limits()


def test_file_limit_is_exact(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, Limits(max_file_size=1000)) == b"x" * 1000
    with pytest.raises(ImageError) as caught:
        read_bytes(path, Limits(max_file_size=999))
    assert caught.value.kind == "too-large" and "--max-file-size" in caught.value.message


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
