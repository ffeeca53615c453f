"""TOML files of options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 20


def read_toml(file: Path) -> dict[str, Any]:
    """The file's table; raises UsageError that names it."""
    try:
        data = read_bytes(file, Limits(max_file_size=MAX_BYTES))
        return tomllib.loads(data.decode("utf-8"))
    except ImageError as error:
        raise UsageError(f"{file}: {error.message}", "check the path") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: {error}", "see https://toml.io") from error
