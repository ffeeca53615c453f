"""The README's pictures: one panel, and a sheet of every style in every mode, from what `gradviz explain` wrote.

Run as `python -m gradviz_cli.demo.sheet OUT`, OUT being the folder of

    gradviz explain gradviz_cli/demo/model gradviz_cli/demo/images -o OUT -m all --style heatmap --style gray \
        --style signed --style rgb --style overlay --style panel
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gradviz_cli import demo
from gradviz_cli.draw.styles import STYLES
from gradviz_cli.rules import RULES

SAMPLES = ("arrow-on-wood.jpg", "heart-on-marble.jpg", "star-on-stripes.jpg")
ROW = "leaf-on-water.jpg"
PICTURES = Path(__file__).parent / "pictures"
CELL, GAP, LABEL = (192, 144), 6, 20
INK, PAPER = (24, 24, 27), (255, 255, 255)


def main(out: Path) -> None:
    """Write `pictures/modes.png` and `pictures/styles.jpg`."""
    PICTURES.mkdir(exist_ok=True)
    Image.open(out / f"{ROW}.panel.png").convert("RGB").save(PICTURES / "modes.png", optimize=True)
    sheet(out).save(PICTURES / "styles.jpg", quality=88)


def sheet(out: Path) -> Image.Image:
    """A row for each sample and mode, a column for each style, the input first."""
    columns = ["input", *STYLES]
    rows = [(sample, mode) for sample in SAMPLES for mode in RULES]
    width = LABEL * 4 + len(columns) * (CELL[0] + GAP)
    page = Image.new("RGB", (width, LABEL + len(rows) * (CELL[1] + GAP)), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for column, title in enumerate(columns):
        pen.text((LABEL * 4 + column * (CELL[0] + GAP), 2), title, INK, font)
    for row, (sample, mode) in enumerate(rows):
        top = LABEL + row * (CELL[1] + GAP)
        pen.text((2, top + CELL[1] // 2 - 8), mode, INK, font)
        for column, title in enumerate(columns):
            suffix = "" if title == "heatmap" else f".{title}"
            path = demo.IMAGES / sample if title == "input" else out / f"{sample}.{mode}{suffix}.png"
            picture = Image.open(path).convert("RGB").resize(CELL, Image.Resampling.LANCZOS)
            page.paste(picture, (LABEL * 4 + column * (CELL[0] + GAP), top))
    return page


if __name__ == "__main__":
    main(Path(sys.argv[1]))
