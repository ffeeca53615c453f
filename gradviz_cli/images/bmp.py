"""A BMP of few grays, whose palette Pillow leaves out."""

from __future__ import annotations

import struct

_HEAD = 14
_NO_GRAY = bytes((1, 2, 3, 0))


def with_its_palette(data: bytes) -> bytes:
    """The file with one more colour, where Pillow would take its palette for none.

    It leaves out a palette of black and white, or of the grays 0, 1, 2 and so on, and then reads pixels of 8 and of 4 bits
    as if they had 1, or 8. One colour more, which is no gray and no pixel has, keeps it.
    """
    if len(data) < _HEAD + 40:
        return data
    start, header = struct.unpack_from("<LL", data, 10)
    bits, colours = struct.unpack_from("<H", data, 28)[0], struct.unpack_from("<L", data, 46)[0]
    few = bits == 4 or (bits == 8 and 0 < colours <= 2)
    end = _HEAD + header + 4 * (colours or 1 << bits) if few else 0
    if header < 40 or not few or end > start or end > len(data):
        return data
    head = data[:10] + struct.pack("<L", start + 4) + data[14:46] + struct.pack("<L", (colours or 1 << bits) + 1)
    return head + data[50:end] + _NO_GRAY + data[end:]
