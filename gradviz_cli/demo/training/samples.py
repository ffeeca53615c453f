"""Draw the sample images: `python -m gradviz_cli.demo.training.samples [DIR...]`.

Without a folder they go where the package keeps them. The seeds are fixed; the bytes of a file also depend on the
version of Pillow and of its JPEG library.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from gradviz_cli.demo import IMAGES
from gradviz_cli.demo.training import scenes

# Name of the file: its seed, width and height. The name also says what is shown: CLASS-on-PATTERN.
SAMPLES = {
    "arrow-on-wood.jpg": (113, 400, 300),
    "crescent-on-clouds.jpg": (115, 384, 288),
    "cross-on-dots.png": (103, 384, 288),
    "disc-on-gradient.jpg": (121, 384, 288),
    "flower-on-weave.jpg": (118, 288, 384),
    "heart-on-marble.jpg": (116, 384, 288),
    "leaf-on-water.jpg": (119, 432, 288),
    "ring-on-checks.png": (111, 320, 320),
    "star-on-stripes.jpg": (119, 384, 288),
    "triangle-on-grain.jpg": (110, 384, 256),
}


def picture(name: str) -> scenes.Picture:
    """Draw the sample with this file name."""
    seed, width, height = SAMPLES[name]
    kind, pattern = name.split(".")[0].split("-on-")
    scene = scenes.compose(seed, aspect=width / height, kind=kind, pattern=pattern, grain=0.012)
    return scenes.draw(scene, min(width, height))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gradviz_cli.demo.training.samples", description="Draw the sample images."
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[IMAGES], metavar="DIR")
    for folder in parser.parse_args().folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in SAMPLES:
            Image.fromarray(picture(name).image).save(folder / name, quality=90, optimize=True)


if __name__ == "__main__":
    main()
