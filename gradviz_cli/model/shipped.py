"""A model in one piece, for a machine that does not see its files: packed there, kept under its fingerprint here."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.files import cache
from gradviz_cli.model import fingerprint


def packed(model: Path) -> bytes:
    """All files that the fingerprint of a model is of; links are followed. Raises as `fingerprint.of_model`."""
    names = fingerprint.files(model) if model.is_dir() else [""]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
        for name in names:
            archive.add(model / name, os.path.join(model.name, name) if name else model.name, recursive=False)
    return content.getvalue()


def unpacked(data: bytes, model: str) -> Path:
    """Where the model of that fingerprint lies on this machine.

    Raises
    ------
    ModelUnusable
        It is another one.
    OutputError
        There is no room for it.
    """
    folder = cache.kept(f"shipped-{model}", lambda folder: _unpack(data, folder))
    (path,) = (one for one in folder.iterdir() if one.name != cache.LISTING)
    if fingerprint.of_model(path) != model:
        raise ModelUnusable(f"{folder} holds another model than its name says", "remove that folder")
    return path


def _unpack(data: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            place, source = Path(os.path.normpath(folder / member.name)), archive.extractfile(member)
            if source is None or folder not in place.parents:
                raise ModelUnusable("the model that was sent is none", "it is damaged: run again")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read())
