"""The Markdown that this project ships, taken apart: pages, blocks of code, tables, links."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gradviz_cli import demo

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = (README, *sorted(DOCS.glob("*.md")))  # all that is for who uses it


class Block(NamedTuple):
    """A fenced block: the page's path, its language, its text."""

    page: Path
    language: str
    text: str


class Table(NamedTuple):
    """A table: the titles of its columns, and rows of cells."""

    page: Path
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def column(self, place: int = 0) -> list[str]:
        return [row[place] for row in self.rows]

    def names(self, place: int = 0) -> list[str]:
        """What stands there as code, in order."""
        return [name for cell in self.column(place) for name in code(cell)]


def blocks(language: str = "") -> list[Block]:
    return [
        Block(page, found, text)
        for page in PAGES
        for found, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)
        if not language or found == language
    ]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def tables() -> list[Table]:
    return [table for page in PAGES for table in _tables(page)]


def _tables(page: Path) -> Iterator[Table]:
    for lines in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.M):
        head, rule, *rows = [_cells(line) for line in lines.splitlines()]
        assert all(re.fullmatch(":?-+:?", cell) for cell in rule), f"{page.name}: {lines[:80]}"
        assert all(len(row) == len(head) for row in rows), f"{page.name}: {lines[:80]}"
        yield Table(page, head, rows)


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1])


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def lines(block: Block) -> list[str]:
    """The commands of a block for the shell, without what is said behind them."""
    return [line for line in (_bare(line) for line in block.text.splitlines()) if line]


def _bare(line: str) -> str:
    return re.sub(r"(^|\s)# .*$", "", line).strip()


def words(line: str) -> list[str]:
    """The words behind `gradviz` in a line, up to a pipe; none where it is not called."""
    found = shlex.split(line)
    start = found.index("gradviz") + 1 if "gradviz" in found else len(found)
    end = next((place for place in range(start, len(found)) if found[place] in ("|", "<", ">", "||")), len(found))
    return found[start:end]


def arrange(folder: Path) -> Path:
    """What the examples speak of: MODEL with a label `tabby`, images, arrays, and the files that a page shows."""
    shutil.copytree(demo.MODEL, folder / "MODEL")
    labels = folder / "MODEL" / "assets.extra" / "labels.txt"
    labels.write_text(labels.read_text().replace("leaf", "tabby"))
    (folder / "model").symlink_to("MODEL")
    for name in ("cat.jpg", "photos/cat.jpg", "photos/2024/cat.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(demo.IMAGES / "leaf-on-water.jpg", folder / name)
    (folder / "sample_images").symlink_to(demo.IMAGES)
    (folder / "frames").mkdir()
    np.save(folder / "frames" / "a.npy", np.asarray(Image.open(folder / "cat.jpg").convert("RGB").resize((128, 128))))
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    pages[0].save(folder / "scan.tif", save_all=True, append_images=pages[1:])
    for block in blocks("toml"):
        if name := re.match(r"# (\S+\.toml)\n", block.text):
            (folder / name[1]).write_text(block.text)
    return folder
