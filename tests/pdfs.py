"""A small reader of the PDFs that gradviz writes, after ISO 32000-1: the table of objects, streams, text and pictures."""

from __future__ import annotations

import re
import zlib

import numpy as np


class Pdf:
    """Objects are found by the table at the end, as a viewer does."""

    def __init__(self, data: bytes):
        start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", data)[1])
        head = re.match(rb"xref\n0 (\d+)\n", data[start:])
        entries = data[start + head.end() :][: 20 * int(head[1])]
        places = [int(entries[20 * k : 20 * k + 10]) for k in range(1, int(head[1]))]
        self.objects: dict[int, bytes] = {}
        for number, place in enumerate(places, 1):
            begin = re.match(rb"%d 0 obj\n" % number, data[place:])
            assert begin, number
            self.objects[number] = data[place + begin.end() : data.index(b"\nendobj\n", place)]
        self.trailer = data[start:]

    def follow(self, body: bytes, key: str) -> bytes:
        return self.objects[int(re.search(rb"/%s \[?(\d+) 0 R" % key.encode(), body)[1])]

    @property
    def page(self) -> bytes:
        root = self.follow(self.trailer, "Root")
        return self.follow(self.follow(root, "Pages"), "Kids")

    @property
    def size(self) -> tuple[float, float]:
        return tuple(map(float, re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", self.page).groups()))

    @property
    def info(self) -> dict[str, str]:
        body = self.follow(self.trailer, "Info")
        found = re.findall(rb"/(\w+) <([0-9a-f]*)>", body)
        return {key.decode(): bytes.fromhex(value.decode()).decode("utf-16") for key, value in found}

    @staticmethod
    def stream(body: bytes) -> bytes:
        length = int(re.search(rb"/Length (\d+) >>\nstream\n", body)[1])
        begin = body.index(b">>\nstream\n") + 10
        assert body[begin + length :] == b"\nendstream"
        return zlib.decompress(body[begin : begin + length])

    @property
    def content(self) -> str:
        return self.stream(self.follow(self.page, "Contents")).decode()

    def lines(self) -> list[str]:
        """The texts as who selects them gets them."""
        table = self.stream(self.follow(self.follow(self.page, "F"), "ToUnicode")).decode()
        letters = {
            int(code, 16): bytes.fromhex(text).decode("utf-16-be")
            for code, text in re.findall("<(....)> <(....)>", table)
        }
        found = []
        for meant, codes in re.findall(
            r"(?:/ActualText <([0-9a-f]+)> >> BDC )?BT [^<]*<([0-9a-f]*)> Tj ET", self.content
        ):
            shown = "".join(letters[int(codes[k : k + 4], 16)] for k in range(0, len(codes), 4))
            found.append(bytes.fromhex(meant).decode("utf-16") if meant else shown)
        return found

    def pictures(self) -> list[np.ndarray]:
        """uint8 [h, w, 3] each, in the order in which they are drawn."""
        names = dict(re.findall(rb"/(P\d+) (\d+) 0 R", self.page))
        return [
            self._picture(self.objects[int(names[name.encode()])]) for name in re.findall(r"/(P\d+) Do", self.content)
        ]

    def _picture(self, body: bytes) -> np.ndarray:
        width, height = (int(re.search(rb"/%s (\d+)" % key, body)[1]) for key in (b"Width", b"Height"))
        levels = np.frombuffer(self.stream(body), np.uint8).reshape(height, width, -1)
        palette = re.search(rb"/Indexed /DeviceRGB 255 <([0-9a-f]+)>", body)
        if palette is None:
            return levels
        return np.frombuffer(bytes.fromhex(palette[1].decode()), np.uint8).reshape(256, 3)[levels[..., 0]]
