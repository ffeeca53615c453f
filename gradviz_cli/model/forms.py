"""What may be given as MODEL: a SavedModel folder, or what stands for one without a doubt.

    as typed -> `resolve` -> a SavedModel folder, or a file -> `home`, with its labels -> `ready`, for a worker

What is unpacked or turned into a graph is kept (`files/cache.py`) under the content of the file that was given, which is
the model's fingerprint too: a run with nothing to do needs neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gradviz_cli.errors import GradvizError, ModelUnusable, UsageError
from gradviz_cli.files import cache
from gradviz_cli.files.near import did_you_mean, near_path, nearest
from gradviz_cli.files.reach import closed_folder
from gradviz_cli.files.text import printable
from gradviz_cli.images.formats import has_image_name
from gradviz_cli.model import choice, fingerprint
from gradviz_cli.model.kinds import (
    ARCHIVES,
    GRAPH,
    GRAPHS,
    MADE_BY_KERAS,
    NAMED,
    form_of,
    goes_before,
    is_saved_model,
    unusable,
)
from gradviz_cli.version import __version__

# How far a folder is searched for the one model below it.
MAX_DEPTH, MAX_ENTRIES = 6, 20_000
# Raised when a file of Keras is turned into another graph than before.
CONVERSION = 1
_MAKERS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "keras", "tf_keras")

Convert = Callable[[Path, str], bytes]  # a file and its form -> the bytes of a SavedModel's graph


def named(model: Path) -> Path:
    """Where the model lies that comes with gradviz under this name; the path itself where something of that name is here."""
    return model if os.path.lexists(model) else NAMED.get(os.fspath(model), model)


def short_name(model: str) -> str:
    """What people call a model by: the last part of its path, or the name of one that comes with gradviz."""
    return next((name for name, path in NAMED.items() if os.fspath(path) == model), os.path.basename(model))


def resolve(model: Path) -> Path:
    """The SavedModel folder that a path or a name means, or the file that stands for one. What is neither is given back as it
    is.

    Raises
    ------
    UsageError
        There is no such path, or several models lie below it.
    ModelUnusable
        It is the name of a checkpoint's files, or behind a folder that may not be entered.
    """
    model = named(model)
    closed = closed_folder(model)
    if closed is not None:
        what = f"{printable(model)} cannot be read: the folder {printable(closed)} may not be entered"
        raise ModelUnusable(what, "give yourself permission (chmod u+rx)")
    if not os.path.exists(model):
        raise _missing(model)
    folder = model.parent if model.name in GRAPHS and not model.is_dir() else model
    if not folder.is_dir():
        return model
    if not is_saved_model(folder):
        return _below(folder)
    graph = folder / GRAPHS[0]  # which may be a frozen graph under this name
    return graph if graph.is_file() and form_of(graph) == GRAPH else folder


def check_out(model: Path, found: Path, out: Path) -> None:
    """Refuse an output folder among the files of a model: what is written there would become a part of it.

    Parameters
    ----------
    model, found : Path
        As typed, and what `resolve` made of it.

    Raises
    ------
    UsageError
        OUT is the model, lies in it, or is the folder around it that was given as the model.
    """
    place, typed, real = (Path(os.path.realpath(path)) for path in (out, model, found))
    around = [real, *real.parents]
    between = around[: around.index(typed) + 1] if typed in around else [real]
    if not (place in between or real.is_dir() and place.is_relative_to(real)):
        return
    where = (
        "the model" if place == real else "in the model" if place.is_relative_to(real) else "the folder of the model"
    )
    verb = "lies" if where.startswith("in ") else "is"
    raise UsageError(
        f"--out {printable(out)} {verb} {where} {printable(found)}", "give a folder of its own: --out heatmaps"
    )


def passed_over(model: Path) -> tuple[Path, ...]:
    """Versions beside a resolved one, and higher, that hold no SavedModel: not complete yet, it may be."""
    if not choice.is_version(model.name):
        return ()
    beside = [name for name, _ in _folders(model.parent) if choice.is_version(name) and int(name) > int(model.name)]
    paths = (model.parent / name for name in sorted(beside, key=int))
    return tuple(path for path in paths if not is_saved_model(path))


def chosen(model: Path, found: Path) -> list[str]:
    """What was taken for MODEL where that is another path than was typed, and what was not; for people."""
    ours = NAMED.get(os.fspath(model))
    if ours is not None:
        how = f"it {goes_before(model)}" if os.path.lexists(model) else "it comes with gradviz"
        return [f"{printable(os.path.abspath(found))}: {how}"]
    if not model.is_dir() or os.path.abspath(model) == os.path.abspath(found):
        return []
    rest = [f"{printable(path)} is passed over: it holds no saved_model.pb" for path in passed_over(found)]
    return ["; ".join([f"{printable(found)}, found in {printable(model)}", *rest])]


def home(model: Path) -> Path:
    """Where the labels and settings of a resolved model lie: its folder; an archive is unpacked. Raises as `archive.unpack`."""
    if model.is_file() and form_of(model) in ARCHIVES:
        return _unpacked(model)
    return model


def ready(model: Path, convert: Convert, variant: str = "") -> Path:
    """The folder or frozen graph that a worker reads of a resolved model.

    Parameters
    ----------
    convert : callable
        Turns a file of Keras into the bytes of saved_model.pb.
    variant : str
        What else the result depends on.

    Raises
    ------
    ModelUnusable
        It is none of the forms of a model; or what unpacking it, or `convert`, raises.
    """
    if is_ready(model):
        return model
    form = form_of(model) if not model.is_dir() else None
    if form in ARCHIVES:
        return _unpacked(model)
    if form in MADE_BY_KERAS:
        return _converted(model, form, convert, variant)
    raise unusable(model)


def is_ready(model: Path) -> bool:
    """Whether a worker reads a resolved model itself, so that `ready` has nothing to do."""
    return is_saved_model(model) or (not model.is_dir() and form_of(model) == GRAPH)


def check_order(model: Path, images: Sequence[Path]) -> None:
    """Raise UsageError where MODEL is none, but one of IMAGES is: the arguments are swapped; or where a second model is
    named among the images."""
    if not os.path.exists(named(model)):
        return
    if _is_model(model):
        second = next((path for path in images if is_saved_model(path) and not _holds_images(path)), None)
        if second is not None:
            raise UsageError(
                f"{printable(second)} is a model too, and a run explains one",
                f"give it a run of its own: gradviz explain {shlex.quote(printable(second))} IMAGES... --out FOLDER",
            )
        return
    found = [path for path in images if os.path.exists(named(path)) and _is_model(path)]
    if len(found) == 1:
        others = [model, *(path for path in images if path != found[0])]
        shown = " ".join(shlex.quote(printable(path)) for path in (found[0], *others[:5]))
        raise UsageError(
            f"{printable(model)} is no model, but {printable(found[0])} is one",
            f"MODEL comes first: gradviz explain {shown}{' ...' if len(others) > 5 else ''}",
        )


def _holds_images(folder: Path) -> bool:
    with suppress(OSError):
        return any(map(has_image_name, os.listdir(folder)))
    return False


def _is_model(path: Path) -> bool:
    """Whether a path is a model beyond doubt, without looking into an archive."""
    with suppress(GradvizError):
        found = resolve(path)
        return is_saved_model(found) or (found.is_file() and form_of(found) is not None)
    return False


def _missing(model: Path) -> GradvizError:
    shown = printable(model)
    if os.path.exists(f"{model}.index"):
        what = f"{shown} is the name of a checkpoint, which holds weights and no graph"
        return ModelUnusable(what, "build the model in its own code, load these weights, and model.export('folder')")
    return UsageError(
        f"no such model: {shown}", near_path(model) or did_you_mean(nearest(shown, NAMED)) or "check the path"
    )


def _below(folder: Path) -> Path:
    """The model that is meant below a folder; the folder itself where there is none."""
    found, searched = _search(folder)
    if not found:
        return folder
    if not searched:
        first = printable(folder.joinpath(*found[0]))
        raise UsageError(
            f"{printable(folder)} is too large to be searched for its models", f"name one, such as {first}"
        )

    def such_as(one: choice.Parts) -> str:
        return f"name the one that is meant, such as {printable(folder.joinpath(*one))}"

    return folder.joinpath(*choice.only(found, printable(folder), such_as))


def _search(folder: Path) -> tuple[list[choice.Parts], bool]:
    """The SavedModels below a folder, in name order, and whether all of it was looked at."""
    found: list[choice.Parts] = []
    todo: list[choice.Parts] = [()]
    seen = 0
    while todo:
        parts = todo.pop()
        for name, is_link in _folders(folder.joinpath(*parts)):
            seen += 1
            if seen > MAX_ENTRIES:
                return sorted(found), False
            inner = (*parts, name)
            if is_saved_model(folder.joinpath(*inner)):
                found.append(inner)
            elif len(inner) < MAX_DEPTH and not is_link:
                todo.append(inner)
    return sorted(found), True


def _folders(folder: Path) -> Iterator[tuple[str, bool]]:
    """Names of the folders in a folder, without hidden ones, and whether each is a link: of those only versions."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                is_link = entry.is_symlink()
                if entry.name.startswith(".") or is_link and not choice.is_version(entry.name):
                    continue
                if entry.is_dir():
                    yield entry.name, is_link


def _unpacked(file: Path) -> Path:
    from gradviz_cli.model.archive import unpack  # most models are folders

    return _kept(file, "unpacked", lambda folder: unpack(file, folder))


def _converted(file: Path, form: str, convert: Convert, variant: str) -> Path:
    def fill(folder: Path) -> None:
        (folder / GRAPHS[0]).write_bytes(convert(file, form))

    return _kept(file, "converted", fill, CONVERSION, __version__, variant, form, *map(_version, _MAKERS))


def _kept(file: Path, how: str, fill: Callable[[Path], None], *facts: object) -> Path:
    """The folder that is made of a file, once for each content of it."""
    content = fingerprint.of_file(file)

    def fill_of_this(folder: Path) -> None:
        fill(folder)
        if fingerprint.of_file(file) != content:
            raise ModelUnusable(f"{printable(file)} changed while it was read", "wait until it is copied")

    key = hashlib.sha256(json.dumps([content, *facts]).encode()).hexdigest()
    return cache.kept(f"{how}-{key}", fill_of_this)


def _version(package: str) -> str | None:
    from importlib import metadata  # most models are no files of Keras, and a run with nothing to do is short

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
