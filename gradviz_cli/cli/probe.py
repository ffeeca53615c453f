"""What the model says of an image, or of a folder of them, under each pixel range: `gradviz inspect --image`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import printable
from gradviz_cli.images.listing import Inputs
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.plan.targets import Target, of_image
from gradviz_cli.process.protocol import GIVEN, Explain
from gradviz_cli.rules import PLAIN

MOST_IMAGES = 48  # of a folder, from all over it
MOST_NAMES = 100_000  # that are looked through for them
AT_ONCE = 8
EQUAL = 1e-6  # of the largest score: answers that differ by less are the same
WHOLE = ("uint8", "int32", "string")  # inputs that take 0..255 and nothing else

Json = dict[str, Any]


def probe(model: Explainer, image: Path) -> tuple[Json, Json | None]:
    """By choice of --preprocess: of a file the best class and its score, of a folder how many of its images are what their
    folders say. And of a folder how many images were asked.

    Raises
    ------
    UsageError
        No image can be read.
    """
    if image.is_dir():
        return _of_folder(model, image)
    try:
        fitted = model.decode(read_bytes(image, Limits())).fitted
    except ImageError as error:
        raise UsageError(f"{printable(image)}: {error.message}", "give another --image") from error
    answers = _answers(model, [fitted])
    told = {name: _one(found[0]) for name, found in answers.items()}
    for name, other in _equal(answers).items():
        told[name]["same_as"] = other
    return told, None


def _of_folder(model: Explainer, folder: Path) -> tuple[Json, Json]:
    below = list(islice(Inputs((folder,), Path("heatmaps")).jobs(), MOST_NAMES))
    wanted, fitted, unread = [], [], 0
    for job in below[:: -(-len(below) // MOST_IMAGES) or 1]:
        try:
            fitted.append(model.decode(read_bytes(job.path, Limits())).fitted)
            wanted.append(_folder_class(model, job.path))
        except ImageError:
            unread += 1
    if not fitted:
        raise UsageError(f"{printable(folder)}: holds no image that can be read", "give another --image")
    answers = _answers(model, fitted)
    same = _equal(answers)
    told = {name: _many(found, wanted, same.get(name)) for name, found in answers.items()}
    named = sum(one is not None for one in wanted)
    return told, {"found": len(below), "read": len(fitted), "unread": unread, "labelled": named}


def _folder_class(model: Explainer, path: Path) -> int | None:
    """The class that the name of the image's folder says."""
    try:
        return of_image((Target(parent=True),), model.labels, path)[0].index
    except ImageError:
        return None


Answers = dict[str, list[TargetResult | ImageError]]


def _answers(model: Explainer, fitted: Sequence[np.ndarray]) -> Answers:
    """The best class of each image, under each choice that the model input can be meant by."""
    whole = model.facts.input.dtype in WHOLE
    names = [name for name, preset in PREPROCESS.items() if preset.takes(model.facts.channels)]
    choices: dict[str, str | None] = {name: name for name in names if name == "raw" or not whole}
    if model.preset != PREPROCESS.get(model.facts.preprocess):
        choices[GIVEN] = None
    request = Explain((-1,), (PLAIN,))
    found: Answers = {name: [] for name in choices}
    for name, choice in choices.items():
        for start in range(0, len(fitted), AT_ONCE):
            for one in model.explain(fitted[start : start + AT_ONCE], request, choice):
                found[name].append(one if isinstance(one, ImageError) else one.targets[0])
    return found


def _one(found: TargetResult | ImageError) -> Json:
    if isinstance(found, ImageError):
        return {"error": found.message}
    return {name: getattr(found, name) for name in ("index", "label", "score", "output")}


def _many(found: Sequence[TargetResult | ImageError], wanted: Sequence[int | None], same: str | None) -> Json:
    """`dead`: the model does not tell the images apart, or calls images of several folders the same."""
    seen = [one for one in found if isinstance(one, TargetResult)]
    pairs = [(one.index, index) for one, index in zip(found, wanted, strict=True) if isinstance(one, TargetResult)]
    labelled = [(index, right) for index, right in pairs if right is not None]
    classes = {one.index for one in seen}
    outputs = [one.output for one in seen if one.output is not None]
    several = len({right for _, right in labelled}) > 1
    return {
        "right": sum(index == right for index, right in labelled) if labelled else None,
        "labelled": len(labelled),
        "classes": len(classes),
        "output": sum(outputs) / len(outputs) if outputs else None,
        "failed": len(found) - len(seen),
        "dead": not seen or len(seen) > 1 and len(classes) == 1 and (several or _close([seen[0]] * len(seen), seen)),
        "same_as": same,
    }


def _equal(answers: Answers) -> dict[str, str]:
    """Choice -> the one before it under which the model says the same of every image."""
    names = list(answers)
    found: dict[str, str] = {}
    for place, name in enumerate(names):
        other = next((other for other in names[:place] if _close(answers[other], answers[name])), None)
        if other:
            found[name] = other
    return found


def _close(some: Sequence[TargetResult | ImageError], others: Sequence[TargetResult | ImageError]) -> bool:
    return all(map(_alike, some, others))


def _alike(one: TargetResult | ImageError, other: TargetResult | ImageError) -> bool:
    if isinstance(one, ImageError) or isinstance(other, ImageError) or one.index != other.index:
        return False
    if one.score is None or other.score is None:
        return one.score is other.score
    return abs(one.score - other.score) <= EQUAL * max(abs(one.score), abs(other.score))


def lines(told: Mapping[str, Json], images: Json | None) -> Iterator[str]:
    """For people: a line for each choice."""
    if images:
        unread = f", {images['unread']} of those asked cannot be read" if images["unread"] else ""
        read = f"{images['read']} of {images['found']} images{unread}"
        hint = "" if images["labelled"] else "; no folder has the name of a label (--labels FILE)"
        yield f"probe       {read}, {images['labelled']} in a folder with the name of a label{hint}"
    width = max((len(name) for name in told), default=0)
    for name, one in told.items():
        option = f"--preprocess {name:{width}}" if name != GIVEN else f"as it is given{'':{max(0, width - 1)}}"
        marks = [f"same as {one['same_as']}"] if one.get("same_as") else []
        if one.get("dead"):
            marks.append("dead: one class for all of them")
        said = f"  ({'; '.join(marks)})" if marks else ""
        yield f"{option}  {_said(one)}{said}"


def _said(one: Json) -> str:
    if "error" in one:
        return str(one["error"])
    if "classes" not in one:
        return (
            f"class {one['index']} {one['label'] or ''}  score {_number(one['score'])}, output {_number(one['output'])}"
        )
    right = f"{one['right']} of {one['labelled']} right, " if one["right"] is not None else ""
    failed = f", {one['failed']} failed" if one["failed"] else ""
    return f"{right}{one['classes']} classes, mean output {_number(one['output'])}{failed}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
