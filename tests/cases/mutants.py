"""Damaged files: bytes replaced, flipped, removed or inserted."""

from __future__ import annotations

import zlib

import numpy as np


def mutant(data: bytes, random: np.random.Generator) -> bytes:
    """A few bytes replaced, flipped, removed or inserted, half of them near the start."""
    data = bytearray(data)
    for _ in range(random.integers(1, 6)):
        end = len(data) if random.random() < 0.5 else min(len(data), 200)
        at, how = int(random.integers(0, end)), random.integers(0, 4)
        if how == 0:
            data[at] = random.integers(0, 256)
        elif how == 1:
            data[at] ^= 1 << random.integers(0, 8)
        elif how == 2:
            del data[at : at + int(random.integers(1, 20))]
        else:
            data[at:at] = random.bytes(int(random.integers(1, 20)))
        if len(data) < 16:
            break
    return bytes(data)


def with_sound_checksums(data: bytes) -> bytes:
    """A PNG whose chunks carry the right CRC again, so that a mutant gets past it."""
    data, start = bytearray(data), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            break
        data[end - 4 : end] = zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big")
        start = end
    return bytes(data)
