"""A JPEG that ends before its end mark: is every scan in it, and what it looks like with an end."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # none of those that stand within pixels
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _LAST = 0xDA, 0xD9


def ended(data: bytes, filling: bytes) -> bytes:
    """The file with filling where pixels may be missing, and an end; zeros and ones at its end are no pixels."""
    return data.rstrip(b"\0").rstrip(b"\xff") + filling * 64 + _END


def has_end(data: bytes) -> bool:
    """Whether its end mark is there; what follows it, as in the photos that phones make move, is no part of it."""
    return data.endswith(_END) or any(data[at + 1] == _LAST for at in _markers(data))


def has_every_scan(data: bytes) -> bool:
    """Whether each coefficient of each component, up to its last bit, is in a scan that has at least begun.

    A progressive JPEG paints the whole picture again and again: one that ends early may have all rows, and no detail.
    """
    components, finest = 0, {}
    for at in _markers(data):
        if data[at + 1] in _FRAMES and at + 10 < len(data):
            components = data[at + 9]
        if data[at + 1] == _SCAN:
            finest.update(_refined(data, at))
    return bool(components) and len(finest) == 64 * components and not any(finest.values())


def _markers(data: bytes) -> Iterator[int]:
    """Where the parts of a JPEG begin, up to its end; those of pictures inside its parts (thumbnails) are passed over."""
    at = 2
    while marker := _MARKER.search(data, at):
        yield (at := marker.start())
        if data[at + 1] == _LAST or at + 4 > len(data):
            return
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _refined(data: bytes, at: int) -> dict[tuple[int, int], int]:
    """(component, coefficient) -> lowest bit that is known after a scan."""
    count = data[at + 4] if at + 4 < len(data) else 255
    tail = at + 5 + 2 * count
    if tail + 3 > len(data):
        return {}
    first, last, bits = data[tail : tail + 3]
    return {(data[at + 5 + 2 * i], k): bits & 15 for i in range(count) for k in range(first, min(last, 63) + 1)}
