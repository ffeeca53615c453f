"""What PDF has to be told of a TrueType font: which glyph is a letter's, how wide each is, how high they reach.

Tables as in the OpenType specification 1.9: head, hhea, hmtx, cmap (format 4). The font is Pillow's own, no stranger's.
"""

from __future__ import annotations

import struct
from functools import cached_property

from gradviz_cli.errors import UsageError


class Font:
    """A font file, and its name in a document; numbers are thousandths of its size."""

    def __init__(self, data: bytes, name: str):
        self.data, self.name = data, name
        count = struct.unpack_from(">H", data, 4)[0]
        entries = (struct.unpack_from(">4sIII", data, 12 + 16 * k) for k in range(count))
        self._tables = {tag: start for tag, _, start, _ in entries}
        if data[:4] != b"\0\1\0\0" or b"glyf" not in self._tables:
            raise UsageError("no PDF can be written: this Pillow carries another font", "write a PNG or SVG")

    def _read(self, tag: bytes, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(f">{form}", self.data, self._tables[tag] + offset)

    @cached_property
    def _units(self) -> int:
        return self._read(b"head", "H", 18)[0]

    def _scaled(self, units: int) -> int:
        return round(1000 * units / self._units)

    @property
    def box(self) -> tuple[int, ...]:
        return tuple(map(self._scaled, self._read(b"head", "4h", 36)))

    @property
    def ascent(self) -> int:
        return self._scaled(self._read(b"hhea", "h", 4)[0])

    @property
    def descent(self) -> int:
        return self._scaled(self._read(b"hhea", "h", 6)[0])

    @cached_property
    def _glyphs(self) -> dict[int, int]:
        """Code point -> glyph."""
        for k in range(self._read(b"cmap", "H", 2)[0]):
            start = self._read(b"cmap", "HHI", 4 + 8 * k)[2]
            if self._read(b"cmap", "H", start)[0] == 4:
                return self._segments(start)
        raise UsageError("no PDF can be written: this Pillow's font has no table of letters", "write a PNG or SVG")

    def _segments(self, start: int) -> dict[int, int]:
        count = self._read(b"cmap", "H", start + 6)[0] // 2
        ends, firsts, deltas, ranges = (
            self._read(b"cmap", f"{count}H", start + 14 + 2 * count * k + (2 if k else 0)) for k in range(4)
        )
        found = {}
        for k, (first, end, delta, offset) in enumerate(zip(firsts, ends, deltas, ranges, strict=True)):
            for code in range(first, min(end, 0xFFFE) + 1):
                glyph = code
                if offset:
                    place = start + 16 + 2 * count * 3 + 2 * k + offset + 2 * (code - first)
                    glyph = self._read(b"cmap", "H", place)[0]
                    if not glyph:
                        continue
                found[code] = (glyph + delta) % 65536
        return found

    def glyph(self, letter: str) -> int:
        return self._glyphs.get(ord(letter), 0)

    def width(self, letter: str) -> float:
        last = self._read(b"hhea", "H", 34)[0] - 1
        return self._scaled(self._read(b"hmtx", "H", 4 * min(self.glyph(letter), last))[0])
