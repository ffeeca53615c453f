"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from children import as_nobody, python

from gradviz_cli.errors import ExitCode, OutputError
from gradviz_cli.files import whole
from gradviz_cli.files.whole import (
    _REMEDIES,
    TEMPORARY,
    StagedFiles,
    discard,
    discard_all,
    publish,
    stage,
    sweep,
    write_whole,
)

OLD = b"what was there before"


def listing(folder) -> list[bytes]:
    return sorted(os.listdir(os.fsencode(folder)))


@pytest.mark.parametrize(
    "name",
    [b"a.png", b"caf\xe9\xff.png", b"new\nline", b"-o.png", b"n" * 255, "猫".encode() * 85, b" ", b"~"],
    ids=range(8),
)
def test_write_whole(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    for data, sync in ((b"first", True), (b"", False), (b"x" * 3_000_000, True)):
        write_whole(path, data, sync=sync)
        assert Path(os.fsdecode(path)).read_bytes() == data
        assert listing(tmp_path) == [name]
    write_whole(os.fsdecode(path), b"as str")
    write_whole(Path(os.fsdecode(path)), b"as path")
    assert Path(os.fsdecode(path)).read_bytes() == b"as path"


def test_write_whole_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("plain", b"1")
    write_whole(b"./dot", b"2")
    assert listing(tmp_path) == [b"dot", b"plain"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_mode_follows_the_umask(tmp_path, umask):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    path.chmod(0o600)
    before = os.umask(umask)
    try:
        write_whole(path, b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_link_is_replaced_not_followed(tmp_path):
    target, folder = tmp_path / "target", tmp_path / "folder"
    target.write_bytes(OLD)
    folder.mkdir()
    for to in (target, folder, tmp_path / "nothing"):
        link = tmp_path / "link.png"
        link.unlink(missing_ok=True)
        link.symlink_to(to)
        write_whole(link, b"new")
        assert link.read_bytes() == b"new" and not link.is_symlink()
    assert target.read_bytes() == OLD and listing(folder) == []
    assert listing(tmp_path) == [b"folder", b"link.png", b"target"]


def test_hard_link_keeps_its_content(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(OLD)
    os.link(first, second)
    write_whole(first, b"new")
    assert first.read_bytes() == b"new" and second.read_bytes() == OLD


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)])
def test_what_is_no_file_stays(tmp_path, make, no_hang):
    path = tmp_path / "there.png"
    make(path)
    before = path.lstat()
    with pytest.raises(OutputError) as caught:
        write_whole(path, b"new")
    assert str(path) in caught.value.message and "move it away" in caught.value.remedy
    assert caught.value.code == ExitCode.OUTPUT
    assert path.lstat() == before and listing(tmp_path) == [b"there.png"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("gone/a.png", "the folder is gone"),
        ("file/a.png", "Not a directory"),
        ("n" * 256, "shorter name"),
        ("nul\0.png", "null"),
        ("/proc/a.png", "cannot be written"),
        ("/dev/null", "not a regular file"),
        ("new\nline/a.png", r"new\\nline"),
    ],
)
def test_where_nothing_can_be_written(tmp_path, name, word):
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(OutputError, match=word) as caught:
        write_whole(os.path.join(tmp_path, name), b"new")
    assert str(caught.value).isprintable()
    assert listing(tmp_path) == [b"file"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_failure_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutputError) as caught:
            write_whole(path, b"new")
    assert str(path) in caught.value.message and os.strerror(number) in caught.value.message
    assert caught.value.remedy and caught.value.code == 7
    assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_interrupt_leaves_nothing(tmp_path, monkeypatch, stop, call):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)

    def fail(*_, **__):
        assert len(listing(tmp_path)) == 2  # the temporary is there
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(stop):
            write_whole(path, b"new")
    assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]


def test_file_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    said, replace, fsync = [], os.replace, os.fsync

    def note_replace(*names, **folders):
        said.append("rename")
        replace(*names, **folders)

    def note_fsync(fd):
        said.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"{os.fstat(fd).st_size} bytes")
        fsync(fd)

    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(os, "fsync", note_fsync)
    write_whole(tmp_path / "a", b"12345")
    write_whole(tmp_path / "b", b"12345", sync=False)
    assert said == ["5 bytes", "rename", "folder", "rename"]


def test_disk_full(tmp_path):
    """A limit on the size of files stops the writing half-way."""
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    code = """if True:
        import os, resource, sys
        from gradviz_cli.errors import OutputError
        from gradviz_cli.files.whole import write_whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_whole(sys.argv[1], bytes(1_000_000))
        except OutputError as error:
            print(error)
            sys.exit(error.code)
    """
    result = python(code, str(path))
    assert result.returncode == 7 and result.stderr == b""
    assert os.fsencode(path) in result.stdout and b"ulimit -f" in result.stdout
    assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]


def test_full_file_system(tmp_path):
    """A tmpfs of 64 kB, where this process may mount one."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        path = tmp_path / "a.png"
        path.write_bytes(OLD)
        with pytest.raises(OutputError, match="free some space"):
            write_whole(path, bytes(1_000_000))
        assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_folder_without_permission(open_folder):
    path = os.path.join(open_folder, "a.png")
    Path(path).write_bytes(OLD)
    os.chmod(open_folder, 0o555)

    def write():
        try:
            write_whole(path, b"new")
            return "written"
        except OutputError as error:
            return error

    said = as_nobody(write)
    os.chmod(open_folder, 0o755)
    assert said == f"{path}: cannot be written: Permission denied; {_REMEDIES[errno.EACCES]}"
    assert Path(path).read_bytes() == OLD and listing(open_folder) == [b"a.png"]


def test_folder_that_may_be_written_but_not_read(open_folder):
    os.chmod(open_folder, 0o733)
    path = os.path.join(open_folder, "a.png")
    assert as_nobody(lambda: write_whole(path, b"new")) == "None"
    assert Path(path).read_bytes() == b"new"


def test_sigkill_at_any_moment(tmp_path):
    """The file is always one of the two whole ones, and the next run sweeps what is left."""
    path = tmp_path / "a.png"
    contents = (b"a" * 200_000, b"b" * 300_000)
    path.write_bytes(contents[0])
    random, left = np.random.default_rng(17), 0
    for attempt in range(400):
        if attempt >= 40 and left:  # on a busy machine few of the first ones had begun to write
            break
        if (child := os.fork()) == 0:
            while True:
                for data in contents:
                    write_whole(path, data, sync=False)
        time.sleep(random.uniform(0.001, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_bytes() in contents
        left += sweep(tmp_path)
        assert listing(tmp_path) == [b"a.png"]
    assert left > 0


def test_sweep_takes_only_its_own(tmp_path):
    stale = f"{TEMPORARY}0123456789abcdef.tmp"
    keep = [
        "a.png",
        ".gradviz.lock",
        ".gradviz-notes.tmp",
        f"x{stale}",
        f"{stale}x",
        ".gradviz-0123456789ABCDEF.tmp",
    ]
    for name in (stale, f"{TEMPORARY}{'f' * 16}.tmp", *keep):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / stale).write_bytes(b"x")
    (tmp_path / f"{TEMPORARY}{'0' * 16}.tmp").mkdir()
    (tmp_path / f"{TEMPORARY}{'1' * 16}.tmp").symlink_to(tmp_path / "a.png")
    assert sweep(tmp_path) == 2
    assert sweep(os.fsencode(tmp_path)) == 0
    assert len(listing(tmp_path)) == len(keep) + 3 and (tmp_path / "below" / stale).exists()
    assert sweep(tmp_path / "nothing") == 0


def test_the_two_halves(tmp_path) -> None:
    """All bytes are there before the name is; a file that is discarded leaves the old one."""
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    staged = stage(path, b"new")
    assert path.read_bytes() == OLD and len(listing(tmp_path)) == 2
    publish(staged)
    assert path.read_bytes() == b"new" and listing(tmp_path) == [b"a.png"]
    discard(stage(path, b"newer"))
    assert path.read_bytes() == b"new" and listing(tmp_path) == [b"a.png"]


def test_all_that_is_unpublished_goes_at_once(tmp_path) -> None:
    for name in ("a", "b", "c"):
        stage(tmp_path / name, b"x")
    write_whole(tmp_path / "d", b"x", sync=False)
    discard_all()
    assert listing(tmp_path) == [b"d"]


def test_publishing_where_the_folder_is_gone(tmp_path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    staged = stage(folder / "a.png", b"new")
    folder.rename(tmp_path / "moved")
    with pytest.raises(OutputError, match="the folder is gone"):
        publish(staged)
    discard_all()  # knows of nothing any more
    assert not folder.exists()


def test_sweeping_below_follows_no_link(tmp_path) -> None:
    stale = f"{TEMPORARY}0123456789abcdef.tmp"
    for folder in ("out", "out/deep/er", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / stale).write_bytes(b"x")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    assert sweep(tmp_path / "out", below=True) == 2
    assert (tmp_path / "elsewhere" / stale).exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync(tmp_path, monkeypatch, number: int) -> None:
    """As with folders: nothing better can be had there."""

    def unknown(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", unknown)
    monkeypatch.setattr(whole, "_without_sync", set())
    assert whole.can_sync(tmp_path)
    write_whole(tmp_path / "a.png", b"new")
    assert not whole.can_sync(tmp_path) and (tmp_path / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "give write permission"),
        (errno.ESTALE, "mount it again"),
        (errno.EIO, "the system's log"),
        (errno.ENOLCK, "choose another folder"),
    ],
)
def test_what_a_file_system_refuses_is_named_rightly(tmp_path, number: int, remedy: str) -> None:
    with pytest.raises(OutputError) as caught, whole.writing(tmp_path / "a.png"):
        raise OSError(number, os.strerror(number))
    assert remedy in caught.value.remedy and os.strerror(number) in caught.value.message
    assert ("space" in caught.value.remedy) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ELOOP])
def test_a_link_that_leads_nowhere_is_named(tmp_path, number: int) -> None:
    link = tmp_path / "maps"
    link.symlink_to(tmp_path / "disk")
    for path in (link, link / "sub"):
        with pytest.raises(OutputError, match=f"{link} is a link to what is not there") as caught, whole.writing(path):
            raise OSError(number, os.strerror(number))
        assert "remove it" in caught.value.remedy
    with pytest.raises(OutputError, match=os.strerror(number)), whole.writing(tmp_path / "other"):
        raise OSError(number, os.strerror(number))


def test_a_link_that_is_not_followed_is_named_as_one(tmp_path) -> None:
    """As a manifest that somebody moved to another disk: to the system these are too many levels."""
    (tmp_path / "manifest").touch()
    link, said = tmp_path / "link", "link: cannot be written: it is a link; move it"
    link.symlink_to(tmp_path / "manifest")
    with pytest.raises(OutputError, match=said) as caught, whole.writing(link):
        os.open(link, os.O_RDWR | os.O_NOFOLLOW)
    assert caught.value.__cause__.errno == errno.ELOOP


@pytest.mark.parametrize("inside", [False, True])
def test_nothing_is_written_through_a_link_below_out(tmp_path, inside: bool) -> None:
    """It may lead out of the folder, or to where another image is written."""
    out = tmp_path / "out"
    elsewhere = out / "b" if inside else tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "a").symlink_to(elsewhere)
    (tmp_path / "by another name").symlink_to(out)
    for root in (out, tmp_path / "by another name"):  # OUT itself may be a link
        with pytest.raises(OutputError, match="is a link to .*; remove it"), StagedFiles(root) as files:
            files.add(root / "plain" / "x.png", b"x")
            files.add(root / "a" / "deep" / "x.png", b"x")
        assert os.listdir(elsewhere) == [] and os.listdir(out / "plain") == []


def test_what_a_killed_probe_left_is_swept(tmp_path) -> None:
    for letter in ("\u00e9", "e\u0301"):
        (tmp_path / f"{TEMPORARY}{letter}-0123456789abcdef.tmp").touch()
    assert sweep(tmp_path) == 2 and listing(tmp_path) == []
