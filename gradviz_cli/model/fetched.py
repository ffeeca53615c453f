"""MODEL in a store: its files are copied here once, and kept (`files/cache.py`) under what the store names their content by.

From then on it is a model of this machine, so that the same bytes have the same fingerprint wherever they came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.errors import GradvizError, ModelRefused, ModelUnusable, UsageError
from gradviz_cli.files import cache, objects
from gradviz_cli.files.objects import Found, StoreError
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.files.text import printable
from gradviz_cli.model import choice
from gradviz_cli.model.fingerprint import MAX_BYTES, MAX_FILES, PARTS
from gradviz_cli.model.kinds import EXPORT, GRAPHS, form_of, unusable

# How far a folder is searched for the one model below it.
MAX_DEPTH, MAX_ENTRIES = 6, 20_000


class _Part(NamedTuple):
    """A file of the model: where it goes below the copy, and where it is."""

    rel: str
    found: Found


def here(model: Place) -> Path:
    """A path of this machine that holds what MODEL does.

    Raises
    ------
    UsageError
        There is nothing, or several models.
    ModelUnusable, ModelRefused
        It cannot be had, or is far too large.
    """
    if isinstance(model, Path):
        return model
    with _reaching(model):
        top = _graph_or_folder(model)
        parts = _parts(top)
    _check_size(top, parts)
    copy = cache.kept(f"fetched-{_key(top, parts)}", lambda folder: _fill(folder / top.name, top, parts)) / top.name
    with named(model, copy):
        if not copy.is_dir() and form_of(copy) is None:
            raise unusable(copy)
    return copy


def check_out(model: Remote, out: str) -> None:
    """Refuse an output folder among the files of a model. Raises UsageError."""
    place = Remote.of(out)
    if isinstance(place, Remote) and place.below(model) is not None:
        raise UsageError(
            f"--out {printable(place)} is the model or lies in it", "give a folder of its own, beside the model"
        )


@contextmanager
def named(model: Place, copy: Path) -> Iterator[None]:
    """What is said of the copy inside is said of the model."""
    try:
        yield
    except GradvizError as error:
        if isinstance(model, Remote):
            error.message = error.message.replace(str(copy), str(model))
            error.args = (error.message,)
        raise


@contextmanager
def _reaching(model: Remote) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        if error.kind == "missing":
            raise UsageError(f"no such model: {printable(model)}: {error.reason}", error.remedy) from error
        raise ModelUnusable(f"{printable(model)}: cannot be read: {error.reason}", error.remedy) from error


def _graph_or_folder(model: Remote) -> Remote:
    """A file that is no SavedModel's graph by itself; else the folder of the model that is meant."""
    if not objects.look(model).is_folder:
        return model.parent if model.name in GRAPHS else model
    found = list(_search(model))
    if not found:
        raise ModelUnusable(f"{printable(model)} holds no saved_model.pb", EXPORT)

    def such_as(one: choice.Parts) -> str:
        return f"name the one that is meant, such as {printable('/'.join((str(model), *one)))}"

    parts = choice.only(found, printable(model), such_as)
    return Remote(model.scheme, "/".join((model.path, *parts)))


def _search(top: Remote) -> Iterator[choice.Parts]:
    """The SavedModels below a folder."""
    todo: list[choice.Parts] = [()]
    seen = 0
    while todo:
        parts = todo.pop()
        found = objects.entries(Remote(top.scheme, "/".join((top.path, *parts))))
        seen += len(found)
        if any(one.place.name in GRAPHS and not one.is_folder for one in found):
            yield parts
        elif seen > MAX_ENTRIES:
            raise UsageError(
                f"{printable(top)} is too large to be searched for its models", "name the one that is meant"
            )
        elif len(parts) < MAX_DEPTH:
            todo += [(*parts, one.place.name) for one in found if one.is_folder and not one.place.name.startswith(".")]


def _parts(top: Remote) -> list[_Part]:
    """Of a folder what a SavedModel is made of; other data may lie beside it."""
    found = objects.look(top)
    if not found.is_folder:
        return [_Part("", found)]
    parts: list[_Part] = []
    for one in objects.entries(top):
        if one.place.name in PARTS:
            below = objects.everything(one.place) if one.is_folder else [one]
            parts += [_Part(rel, part) for part in below if (rel := part.place.below(top))]
    return sorted(parts)


def _check_size(top: Remote, parts: Sequence[_Part]) -> None:
    if sum(part.found.size for part in parts) > MAX_BYTES or len(parts) > MAX_FILES:
        raise ModelRefused(
            f"{printable(top)} is larger than {MAX_BYTES >> 30} GiB or {MAX_FILES} files", "no model of images is"
        )


def _key(top: Remote, parts: Sequence[_Part]) -> str:
    """Of its files as the store has them; never the same again where the store does not tell one content from another."""
    told = [[part.rel, part.found.size, part.found.tag, part.found.stamp] for part in parts]
    if not all(part.found.stamp for part in parts):
        told.append(secrets.token_hex(16))  # type: ignore[arg-type]
    return hashlib.sha256(json.dumps([str(top), told]).encode()).hexdigest()


def _fill(copy: Path, top: Remote, parts: Sequence[_Part]) -> None:
    for part in parts:
        path = copy / part.rel if part.rel else copy
        if any(name in ("", ".", "..") for name in part.rel.split("/")) and part.rel:
            raise ModelRefused(f"{printable(part.found.place)}: no file can have this name", "rename it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _reaching(part.found.place):
            objects.fetch(part.found.place, os.fspath(path))
        if path.stat().st_size != part.found.size:
            raise _changed(top)
    with _reaching(top):
        if _parts(top) != list(parts):
            raise _changed(top)


def _changed(top: Remote) -> ModelUnusable:
    return ModelUnusable(f"{printable(top)} changed while it was read", "wait until it is copied, and run again")
