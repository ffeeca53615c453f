"""A page as PDF 1.7 (ISO 32000-1): words are words, their font comes along, pictures are compressed without loss.

The only font is the one that Pillow carries, the same as in a PNG. Letters that it lacks are shown as `draw.letters` spells
them, and who selects or searches the text finds those that were meant: each such line has them as its ActualText. The file
says nothing of when it was made, so the same figure has the same bytes.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterable

import numpy as np

from gradviz_cli.draw.letters import font_file, font_name
from gradviz_cli.figure.canvas import HAIRLINE, MARK, PAPER, Colour, Page, Shown, Words
from gradviz_cli.figure.truetype import Font

_HEAD = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n% " + MARK.encode() + b"\n"
_SYMBOLIC = 4  # flag of a font whose codes are glyphs


def pdf(page: Page) -> bytes:
    writer, font = _Writer(), Font(font_file(), "-".join(font_name()).replace(" ", ""))
    used = dict.fromkeys(letter for item in page.items if isinstance(item, Words) for letter in item.letters)
    pictures = [item for item in page.items if isinstance(item, Shown)]
    names = {id(shown): f"/P{k} {writer.picture(shown)} 0 R" for k, shown in enumerate(pictures)}
    resources = f"<< /Font << /F {_font(writer, font, used)} 0 R >> /XObject << {' '.join(names.values())} >> >>"
    drawn = _content(page, font, {key: name.split()[0] for key, name in names.items()})
    content = writer.stream("", "\n".join(drawn).encode())
    tree = writer.reserve()
    leaf = writer.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {page.width:.2f} {page.height:.2f}]"
        f" /Resources {resources} /Contents {content} 0 R >>"
    )
    writer.put(tree, f"<< /Type /Pages /Kids [{leaf} 0 R] /Count 1 >>")
    root = writer.add(f"<< /Type /Catalog /Pages {tree} 0 R /ViewerPreferences << /DisplayDocTitle true >> >>")
    info = f"<< /Title {_string(page.title)} /Subject {_string(page.description)} /Creator {_string(MARK)} >>"
    return writer.finished(root, writer.add(info))


class _Writer:
    """Numbered objects, and the table that says where each begins."""

    def __init__(self) -> None:
        self._objects: list[bytes] = []

    def reserve(self) -> int:
        self._objects.append(b"")
        return len(self._objects)

    def put(self, number: int, body: str | bytes) -> int:
        self._objects[number - 1] = body.encode("ascii") if isinstance(body, str) else body
        return number

    def add(self, body: str | bytes) -> int:
        return self.put(self.reserve(), body)

    def stream(self, entries: str, data: bytes) -> int:
        packed = zlib.compress(data, 6)
        head = f"<< {entries} /Filter /FlateDecode /Length {len(packed)} >>\nstream\n"
        return self.add(head.encode("ascii") + packed + b"\nendstream")

    def picture(self, shown: Shown) -> int:
        """An image: intensities through a palette, or colours."""
        height, width = shown.pixels.shape[:2]
        space = "/DeviceRGB"
        if shown.palette is not None:
            space = f"[/Indexed /DeviceRGB 255 <{shown.palette.tobytes().hex()}>]"
        entries = (
            f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace {space} /BitsPerComponent 8"
        )
        return self.stream(entries, np.ascontiguousarray(shown.pixels).tobytes())

    def finished(self, root: int, info: int) -> bytes:
        parts, places, place = [_HEAD], [], len(_HEAD)
        for number, body in enumerate(self._objects, 1):
            places.append(place)
            parts.append(b"%d 0 obj\n" % number + body + b"\nendobj\n")
            place += len(parts[-1])
        table = "".join(f"{each:010} 00000 n \n" for each in places)
        count = len(places) + 1
        parts.append(f"xref\n0 {count}\n0000000000 65535 f \n{table}".encode())
        parts.append(
            f"trailer\n<< /Size {count} /Root {root} 0 R /Info {info} 0 R >>\nstartxref\n{place}\n%%EOF\n".encode()
        )
        return b"".join(parts)


# ---- what is on the page


def _content(page: Page, font: Font, names: dict[int, str]) -> Iterable[str]:
    yield f"{_ink(PAPER)} rg 0 0 {page.width:.2f} {page.height:.2f} re f"
    yield f"{_ink(HAIRLINE)} RG 0.25 w"
    for item in page.items:
        if isinstance(item, Words):
            yield _words(item, font, page.height)
        else:
            left, bottom = item.x, page.height - item.y - item.height
            box = f"{item.width:.2f} 0 0 {item.height:.2f} {left:.2f} {bottom:.2f}"
            yield f"q {box} cm {names[id(item)]} Do Q"
            yield f"{left:.2f} {bottom:.2f} {item.width:.2f} {item.height:.2f} re S"


def _words(words: Words, font: Font, height: float) -> str:
    letters = words.letters
    width = sum(font.width(letter) for letter in letters) * words.size / 1000
    x = words.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[words.anchor]
    codes = "".join(f"{font.glyph(letter):04x}" for letter in letters)
    shown = f"BT {_ink(words.ink)} rg /F {words.size:.2f} Tf {x:.2f} {height - words.y:.2f} Td <{codes}> Tj ET"
    return shown if letters == words.meant else f"/Span << /ActualText {_string(words.meant)} >> BDC {shown} EMC"


def _ink(colour: Colour) -> str:
    return " ".join(f"{each / 255:.3f}" for each in colour)


def _string(text: str) -> str:
    """In hexadecimal, UTF-16 with its mark."""
    return f"<{(codecs.BOM_UTF16_BE + text.encode('utf-16-be')).hex()}>"


# ---- the font


def _font(writer: _Writer, font: Font, letters: Iterable[str]) -> int:
    """Codes are the numbers of glyphs; a table says which letters they are."""
    known = {font.glyph(letter): letter for letter in letters}
    file = writer.stream(f"/Length1 {len(font.data)}", font.data)
    descriptor = writer.add(
        f"<< /Type /FontDescriptor /FontName /{font.name} /Flags {_SYMBOLIC} /FontBBox [{' '.join(map(str, font.box))}]"
        f" /ItalicAngle 0 /Ascent {font.ascent} /Descent {font.descent} /CapHeight {font.ascent} /StemV 80"
        f" /FontFile2 {file} 0 R >>"
    )
    widths = " ".join(f"{glyph} [{font.width(letter):.0f}]" for glyph, letter in sorted(known.items()))
    inner = writer.add(
        f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /{font.name} /CIDToGIDMap /Identity /FontDescriptor {descriptor} 0 R"
        f" /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /DW 500 /W [{widths}] >>"
    )
    meaning = writer.stream("", _meaning(known).encode())
    return writer.add(
        f"<< /Type /Font /Subtype /Type0 /BaseFont /{font.name} /Encoding /Identity-H /DescendantFonts [{inner} 0 R]"
        f" /ToUnicode {meaning} 0 R >>"
    )


def _meaning(known: dict[int, str]) -> str:
    """The table from codes to letters (section 9.10.3), at most a hundred in a part."""
    lines = [f"<{glyph:04x}> <{letter.encode('utf-16-be').hex()}>" for glyph, letter in sorted(known.items())]
    parts = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    body = "\n".join(f"{len(part)} beginbfchar\n" + "\n".join(part) + "\nendbfchar" for part in parts)
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
        "1 begincodespacerange\n<0000> <ffff>\nendcodespacerange\n"
        f"{body}\nendcmap\nCMapName currentdict /CMap defineresource pop\nend\nend"
    )
