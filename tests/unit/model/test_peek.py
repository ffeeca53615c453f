"""The shape of the image input, read off the bytes of a graph written here by hand in the wire format."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradviz_cli.model.peek import input_shape


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def shape(*sizes: int) -> bytes:
    return b"".join(field(2, field(1, size)) for size in sizes)


def signature(**inputs: bytes) -> bytes:
    """SignatureDef: a map from key to TensorInfo, whose field 3 is the shape."""
    return b"".join(field(1, field(1, key.encode()) + field(2, field(3, one))) for key, one in inputs.items())


def write(folder: Path, **signatures: bytes) -> Path:
    entries = b"".join(field(5, field(1, name.encode()) + field(2, one)) for name, one in signatures.items())
    (folder / "saved_model.pb").write_bytes(field(1, 1) + field(2, entries))
    return folder


IMAGE = signature(x=shape(-1, 224, 160, 3))


def test_the_only_signature(tmp_path: Path) -> None:
    assert input_shape(write(tmp_path, other=IMAGE), None, None) == (-1, 224, 160, 3)


def test_the_usual_one_of_several(tmp_path: Path) -> None:
    write(tmp_path, serving_default=IMAGE, other=signature(x=shape(1, 2, 3, 4)))
    assert input_shape(tmp_path, None, None) == (-1, 224, 160, 3)
    assert input_shape(tmp_path, "other", None) == (1, 2, 3, 4)
    assert input_shape(tmp_path, "third", None) is None


def test_several_inputs_need_a_name(tmp_path: Path) -> None:
    write(tmp_path, serving_default=signature(a=shape(1, 8, 8, 3), b=shape(1, 9, 9, 3), c=shape(1, 7)))
    assert input_shape(tmp_path, None, None) is None
    assert input_shape(tmp_path, None, "b") == (1, 9, 9, 3)


@pytest.mark.parametrize("content", [b"", b"\xff" * 50, b"\x12\xff\xff\xff\x7f", field(2, b"\x2a\x05abc"), b"\x0b"])
def test_bytes_that_are_no_graph_settle_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    assert input_shape(tmp_path, None, None) is None


def test_no_file(tmp_path: Path) -> None:
    assert input_shape(tmp_path, None, None) is None


def test_a_file_of_a_million_fields_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(field(1, 1) * 1_000_000 + field(2, field(5, b"")))
    assert input_shape(tmp_path, None, None) is None
