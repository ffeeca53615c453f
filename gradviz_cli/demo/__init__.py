"""The embedded default: a small model trained on scenes the project draws, and sample images to explain with it."""

from pathlib import Path

MODEL = Path(__file__).parent / "model"
IMAGES = Path(__file__).parent / "images"
