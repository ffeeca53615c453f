"""stdout and stderr as they may be: closed, full, of another encoding, without a reader."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest

from gradviz_cli import cli
from gradviz_cli.cli import explain, stderr
from gradviz_cli.cli.stdout import print_paths
from gradviz_cli.errors import ExitCode, OutputError, UsageError


class Stream(io.TextIOWrapper):
    """A text stream over bytes that are kept."""

    def __init__(self, encoding: str = "utf-8"):
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_names_come_out_byte_for_byte(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    stream = Stream("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    names = [b"caf\xe9.png", "猫.png".encode(), b"new\nline"]
    print_paths([Path(os.fsdecode(name)) for name in names], end)
    assert stream.bytes.getvalue() == b"".join(name + end for name in names)


def test_a_closed_stdout_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="stdout cannot be written") as caught:
        print_paths([Path("a")])
    assert caught.value.code == ExitCode.OUTPUT and caught.value.remedy


def test_a_full_stdout_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        with pytest.raises(OutputError, match="No space left"):
            print_paths([Path("a")])
        sys.stdout.detach()


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [["--version"], ["explain", "--help"], ["inspect", "nothing"]])
def test_a_full_stdout_ends_whatever_prints(
    monkeypatch: pytest.MonkeyPatch, capsys, buffered: bool, arguments: list[str]
) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        raw = io.BufferedWriter(full) if buffered else full
        stream = io.TextIOWrapper(raw, write_through=not buffered)
        monkeypatch.setattr(sys, "stdout", stream)
        code = cli.main(arguments)
        assert sys.stdout is stream
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            stream.close()
    printing = arguments != ["inspect", "nothing"]
    assert code == (ExitCode.OUTPUT if printing else ExitCode.USAGE)
    assert ("stdout cannot be written: No space left on device; give it" in capsys.readouterr().err) is printing


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOSPC, ExitCode.OUTPUT, "a file: cannot be written: No space left on device; free some space"),
        (errno.EDQUOT, ExitCode.OUTPUT, "a file: cannot be written: Disk quota exceeded; free some space"),
        (errno.EBADF, ExitCode.BUG, "internal error: OSError: [Errno 9]"),
        (errno.EIO, ExitCode.OUTPUT, "a file: cannot be read or written: Input/output error; a disk or"),
    ],
)
def test_what_another_file_refuses_is_not_said_of_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys, number: int, code: ExitCode, said: str
) -> None:
    def refused(*arguments: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cli.gradviz, "main", refused)
    assert cli.main(["figure", "x"]) == code
    assert capsys.readouterr().err.startswith(f"gradviz: {said}")


@pytest.mark.parametrize("closed", [None, Path("/srv/home")])
def test_what_this_user_may_not_reach_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys, closed: Path | None) -> None:
    def refused(*arguments: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "heatmaps")

    monkeypatch.setattr(cli.gradviz, "main", refused)
    monkeypatch.setattr(cli, "closed_folder", lambda path: closed)
    assert cli.main(["figure", "x"]) == ExitCode.OUTPUT
    said = capsys.readouterr().err
    assert said.startswith("gradviz: heatmaps: cannot be reached: Permission denied")
    assert ("the folder /srv/home may not be entered" in said) == (closed is not None)


def test_a_file_that_is_missing_unasked_is_one(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def missing(*arguments: object, **more: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr(cli.gradviz, "main", missing)
    assert cli.main(["figure", "x"]) == ExitCode.BUG and "please report it" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """`| head` is no error of ours to explain."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as gone:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(gone, write_through=True))
        with pytest.raises(BrokenPipeError):
            print_paths([Path("a")])
        sys.stdout.detach()


def test_stderr_spells_what_its_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    stderr.say("a 猫 é")
    assert stream.bytes.getvalue() == b"a \\u732b \\xe9\n"


def test_stderr_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Stream()
    closed.close()
    for stream in (None, closed, object()):
        monkeypatch.setattr(sys, "stderr", stream)
        stderr.say("a")
        assert not stderr.is_terminal()


def test_a_line_is_text_or_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    stderr.tell("error", "image", "gradviz: a: b", image="a")
    stderr.speak_json(True)
    try:
        assert stderr.speaks_json()
        stderr.tell("error", "image", "gradviz: a: b\nc", image="a\nb")
    finally:
        stderr.speak_json(False)
    text, line = stream.bytes.getvalue().decode().splitlines()
    assert text == "gradviz: a: b"
    found = json.loads(line)
    assert found.pop("time") and found == {"level": "error", "event": "image", "image": "a\nb"}


def test_the_width_without_a_terminal_is_that_of_a_page() -> None:
    reader, writer = os.pipe()
    held = os.dup(2)
    os.dup2(writer, 2)
    try:
        found = stderr.width()
    finally:
        os.dup2(held, 2)
        for fd in (reader, writer, held):
            os.close(fd)
    assert found == 80


def test_a_list_without_an_end_does_not_fill_the_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(explain, "MOST_LISTED", 100_000)
    with pytest.raises(UsageError, match="--files-from /dev/zero: more than"), explain._list("/dev/zero", False):
        pass
    (tmp_path / "list").write_bytes(b"a\n" * 50_000)
    with explain._list(str(tmp_path / "list"), False) as names:
        assert sum(1 for _ in names()) == 50_000


@pytest.mark.parametrize(
    ("stdin", "arguments", "said"),
    [
        (None, ["-"], "-: stdin is closed; give it an image"),
        (
            io.StringIO(),
            ["-", "--files-from", "-"],
            "stdin cannot be an image .-. and the list of --files-from -; give one",
        ),
    ],
)
def test_stdin_is_one_thing_or_the_other(monkeypatch: pytest.MonkeyPatch, stdin, arguments: list, said: str) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError, match=said):
        explain.command.main(["model", *arguments], standalone_mode=False)


def test_a_working_folder_that_was_removed_is_none(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(cli.gradviz, "main", lambda *arguments, **more: os.getcwd())
    assert cli.main(["figure", "x"]) == ExitCode.OUTPUT
    assert capsys.readouterr().err == (
        "gradviz: the working folder was removed; go to another one (cd), or name all places in full\n"
    )
