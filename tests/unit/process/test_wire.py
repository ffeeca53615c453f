"""Messages over a pipe: what is sent arrives, and what is none is refused before memory is taken for it."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest

from gradviz_cli.process import wire


def over_a_pipe(header: dict, *arrays: np.ndarray, most: int = wire.MAX_ARRAYS) -> tuple[dict, tuple]:
    """Send in a thread, as a pipe holds less than a message may."""
    reader, writer = os.pipe()
    sender = threading.Thread(target=wire.send, args=(writer, header, arrays))
    sender.start()
    try:
        return wire.receive(wire.fill_from(reader), most)
    finally:
        sender.join()
        os.close(reader)
        os.close(writer)


def given(data: bytes) -> Callable[[memoryview], None]:
    """A `fill` from bytes."""
    place = iter(data)

    def fill(buffer: memoryview) -> None:
        for i in range(len(buffer)):
            try:
                buffer[i] = next(place)
            except StopIteration:
                raise wire.Closed from None

    return fill


def framed(header: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(200_000, dtype=np.int32),  # more than a pipe holds
        np.zeros((2, 0, 3), np.uint8),
        np.array(7, np.int32),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1, ::2],  # not contiguous
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_arrives(array: np.ndarray) -> None:
    header, (found,) = over_a_pipe({"type": "x", "n": [1, None, "é\n"]}, array)
    assert header == {"type": "x", "n": [1, None, "é\n"]}
    assert found.dtype == array.dtype and found.shape == array.shape and np.array_equal(found, array)


def test_several_arrays_and_messages_keep_their_order() -> None:
    reader, writer = os.pipe()
    for i in range(3):
        wire.send(writer, {"i": i}, (np.full(2, i, np.uint8), np.full(3, 10 + i, np.int32)))
    for i in range(3):
        header, (first, second) = wire.receive(wire.fill_from(reader))
        assert header == {"i": i} and first.tolist() == [i] * 2 and second.tolist() == [10 + i] * 3
    os.close(writer)
    with pytest.raises(wire.Closed):
        wire.receive(wire.fill_from(reader))
    os.close(reader)


def test_the_frame_is_a_length_and_json() -> None:
    reader, writer = os.pipe()
    wire.send(writer, {"a": 1}, (np.array([1, 2], np.int32),))
    data = os.read(reader, 4096)
    os.close(reader), os.close(writer)
    (length,) = struct.unpack("<Q", data[:8])
    assert json.loads(data[8 : 8 + length]) == {"a": 1, "arrays": [{"dtype": "int32", "shape": [2]}]}
    assert data[8 + length :] == struct.pack("<ii", 1, 2)


def test_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(wire.Closed):
        wire.send(writer, {})
    os.close(writer)


def test_a_pipe_that_is_full_is_waited_for() -> None:
    """`ready` is asked for as long as the pipe takes nothing, and may end the wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    array, got = np.arange(300_000, dtype=np.uint8), bytearray()
    wire.send(writer, {}, (array,), lambda: got.extend(os.read(reader, 1 << 16)))
    os.close(writer)
    while chunk := os.read(reader, 1 << 16):
        got += chunk
    os.close(reader)
    assert bytes(got).endswith(array.tobytes()) and len(got) > len(array)

    def tired() -> None:
        raise TimeoutError

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(TimeoutError):
        wire.send(writer, {}, (array,), tired)
    os.close(reader), os.close(writer)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", wire.MAX_HEADER + 1),
        struct.pack("<Q", 2**64 - 1),
        framed(b"nonsense"),
        framed(b"\xff\xfe"),
        framed(b"[]"),
        framed(b"7"),
        framed(b"{}"),
        framed(b"[" * 100_000),
        *[
            framed(json.dumps({"arrays": arrays}).encode())
            for arrays in (
                7,
                [7],
                [{}],
                [{"dtype": "object", "shape": [1]}],
                [{"dtype": "float64", "shape": [1]}],
                [{"dtype": "uint8", "shape": 3}],
                [{"dtype": "uint8", "shape": ["x"]}],
                [{"dtype": "uint8", "shape": [-1]}],
                [{"dtype": "uint8", "shape": [-1, -1]}],
                [{"dtype": "uint8", "shape": [2**62, 4]}],
                [{"dtype": "uint8", "shape": [101]}],
                [{"dtype": "float32", "shape": [26]}],
                [{"dtype": "uint8", "shape": [60]}] * 2,
                [{"dtype": "uint8", "shape": [1] * 99}],
                [{"dtype": "uint8", "shape": [float("inf")]}],
            )
        ],
    ],
    ids=lambda data: repr(data[8:50]),
)
def test_what_is_no_message_or_too_large_is_garbled(data: bytes) -> None:
    with pytest.raises(wire.Garbled):
        wire.receive(given(data), most=100)


def test_the_limit_is_exact() -> None:
    _, (found,) = over_a_pipe({}, np.zeros(25, np.float32), most=100)
    assert found.nbytes == 100


@pytest.mark.parametrize("end", range(0, 60, 7))
def test_a_message_that_is_cut_off_never_comes(end: int) -> None:
    data = framed(b'{"arrays": [{"dtype": "uint8", "shape": [20]}]}', bytes(20))
    wire.receive(given(data))
    with pytest.raises(wire.Closed):
        wire.receive(given(data[:end]))


def test_plain_reaches_every_text() -> None:
    told = {"a\n": ["\x1b[2J", {"\u202e": "é猫"}, 1.5, None, True]}
    assert wire.plain(told) == {"a\\n": ["\\x1b[2J", {"\\u202e": "é猫"}, 1.5, None, True]}
