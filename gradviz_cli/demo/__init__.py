"""The embedded default: a small model trained on scenes the project draws, and sample images to explain with it."""

from pathlib import Path

from gradviz_cli.model.forms import NAMED

NAME = "demo"
MODEL = NAMED[NAME]
IMAGES = Path(__file__).parent / "images"
