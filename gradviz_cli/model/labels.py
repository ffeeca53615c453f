"""Names of the classes: a text file with one a line, or a JSON list or object."""

from __future__ import annotations

import json
from pathlib import Path

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes

SHIPPED = Path("assets.extra") / "labels.txt"
MAX_BYTES = 64 * 2**20


def read_labels(file: Path | None, model: Path) -> tuple[str, ...]:
    """Labels by class index: of `file`, else those that lie in the model, else none.

    A JSON object maps an index to a label; indices that it leaves out get an empty one.

    Raises
    ------
    UsageError
        The file cannot be read or holds something else.
    """
    if file is None:
        file = model / SHIPPED
        if not file.is_file():
            return ()
    try:
        text = read_bytes(file, Limits(max_file_size=MAX_BYTES)).decode("utf-8-sig")
        if file.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
            return _from_json(json.loads(text))
    except (ImageError, ValueError, RecursionError) as error:
        why = getattr(error, "message", None) or str(error)
        raise UsageError(f"--labels {file}: {why}", "give one label a line, or a JSON list or object") from error
    return tuple(line.strip() for line in text.splitlines())


def _from_json(found: object) -> tuple[str, ...]:
    if isinstance(found, list):
        return tuple(_name(value) for value in found)
    if isinstance(found, dict) and found and all(str(key).isdigit() for key in found):
        by_index = {int(key): _name(value) for key, value in found.items()}
        if max(by_index) < 10_000_000:
            return tuple(by_index.get(i, "") for i in range(max(by_index) + 1))
    raise ValueError("neither a list of labels nor an object from index to label")


def _name(value: object) -> str:
    """A label, also of ImageNet's ["n02123045", "tabby"]."""
    return str(value[-1]) if isinstance(value, list) and value else str(value)
