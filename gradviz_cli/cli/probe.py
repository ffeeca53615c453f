"""What the model says of an image, or of a folder of them, under each pixel range: `gradviz inspect --image`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import printable
from gradviz_cli.images.aside import LeftOut
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.listing import Inputs
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.images.sources import content
from gradviz_cli.model.explainer import AS_THEY_ARE, WHOLE, Explainer, like_levels
from gradviz_cli.plan.plan import Job, Walk
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.plan.targets import Target, of_image
from gradviz_cli.process.protocol import GIVEN, NUMBERS, Explain
from gradviz_cli.rules import PLAIN

MOST_IMAGES = 48  # of a folder, from all over it
MOST_NAMES = 100_000  # that are looked through for them
AT_ONCE = 8
EQUAL = 1e-6  # of the largest score: answers that differ by less are the same
BLIND = 0.01  # of the largest score: what a range that the model sees nothing in may change
LEAST_LABELLED, MOSTLY = 4, 0.8  # images in folders, and the part of them that has to agree, before labels are doubted
ARRAY_NAMES = ("*.npy", "*.npz")

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
        read = model.decode(read_bytes(image, Limits()))
    except ImageError as error:
        raise UsageError(
            f"--image {printable(image)}: {error.message}", near_path(image) or "give another --image"
        ) from error
    others = _others(read)
    answers = _answers(model, [read, *others])
    told = {name: _one(found[0], bool(others) and _is_blind(found)) for name, found in answers.items()}
    told[AS_THEY_ARE].update({"ready": True} if _are_ready([read]) else {})
    for name, other in _equal({name: found[:1] for name, found in answers.items()}).items():
        told[name]["same_as"] = other
    return told, None


def _others(read: Pixels) -> list[Pixels]:
    """Pictures in place of one: its negative, noise and black; a model that says the same of them sees nothing. None in place
    of numbers that are no levels."""
    if _are_ready([read]):
        return []
    fitted = read.fitted
    noise = np.random.default_rng(0).integers(0, 256, fitted.shape).astype(fitted.dtype)
    return [read._replace(fitted=one) for one in ((255 - fitted).astype(fitted.dtype), noise, np.zeros_like(fitted))]


def _is_blind(found: Sequence[TargetResult | ImageError]) -> bool:
    """Whether the model says the same of an image and of others that have nothing in common with it."""
    seen = [one for one in found if isinstance(one, TargetResult) and one.score is not None]
    if len(seen) < len(found) or len({one.index for one in seen}) > 1:
        return False
    scores = [one.score or 0.0 for one in seen]
    return max(scores) - min(scores) <= BLIND * max(map(abs, scores))


def _of_folder(model: Explainer, folder: Path) -> tuple[Json, Json]:
    below = _images(folder)
    wanted, read, wrong = [], [], ""
    unread = 0
    for job in below[:: -(-len(below) // MOST_IMAGES) or 1]:
        try:
            read.append(model.decode(content(job, Limits())[0]))
            wanted.append(_folder_class(model, str(job.path)))
        except ImageError as error:
            unread += 1
            wrong = wrong or f" ({printable(job.path)}: {error.message})"
    if not read:
        raise UsageError(f"--image {printable(folder)}: holds no image that can be read{wrong}", "give another --image")
    answers = _answers(model, read)
    same = _equal(answers)
    told = {name: _many(found, wanted, same.get(name)) for name, found in answers.items()}
    told[AS_THEY_ARE].update({"ready": True} if _are_ready(read) else {})
    named = sum(one is not None for one in wanted)
    return told, {"found": len(below), "read": len(read), "unread": unread, "labelled": named}


def _images(folder: Path) -> list[Job]:
    """The images of a folder; its arrays where it holds nothing else."""
    lefts = LeftOut(), LeftOut()
    for left, walk in zip(lefts, (Walk(), Walk(include=ARRAY_NAMES)), strict=True):
        if found := list(islice(Inputs((folder,), Path("heatmaps"), walk=walk).jobs(left), MOST_NAMES)):
            return found
    why = f": {lefts[0]}" if str(lefts[0]) else ""
    raise UsageError(f"--image {printable(folder)}: holds no image{why}", "give another --image")


def _folder_class(model: Explainer, path: str) -> int | None:
    """The class that the name of the image's folder says."""
    try:
        return of_image((Target(parent=True),), model.labels, path)[0].index
    except ImageError:
        return None


Answers = dict[str, list[TargetResult | ImageError]]


def _are_ready(read: Sequence[Pixels]) -> bool:
    """Whether files of numbers can only be meant as they are."""
    return any(one.held == NUMBERS and not like_levels(one.fitted) for one in read)


def _answers(model: Explainer, read: Sequence[Pixels]) -> Answers:
    """The best class of each image, under each choice that the model input can be meant by. Numbers that are no levels of
    0..255 are of the model's range already."""
    fitted = [one.fitted for one in read]
    ready = _are_ready(read)
    whole = model.facts.input.dtype in WHOLE
    names = [name for name, preset in PREPROCESS.items() if preset.takes(model.facts.channels)]
    choices: dict[str, str | None] = {name: name for name in names if name == AS_THEY_ARE or not (whole or ready)}
    if not ready and model.preset != PREPROCESS.get(model.facts.preprocess):
        choices[GIVEN] = None
    request = Explain((-1,), (PLAIN,))
    found: Answers = {name: [] for name in choices}
    for name, choice in choices.items():
        for start in range(0, len(fitted), AT_ONCE):
            for one in model.explain(fitted[start : start + AT_ONCE], request, choice):
                found[name].append(one if isinstance(one, ImageError) else one.targets[0])
    return found


def _one(found: TargetResult | ImageError, dead: bool) -> Json:
    if isinstance(found, ImageError):
        return {"error": found.message}
    return {**{name: getattr(found, name) for name in ("index", "label", "score", "output")}, "dead": dead}


def _many(found: Sequence[TargetResult | ImageError], wanted: Sequence[int | None], same: str | None) -> Json:
    """`dead`: the model does not tell the images apart, or calls images of several folders the same."""
    seen = [one for one in found if isinstance(one, TargetResult)]
    pairs = [(one.index, index) for one, index in zip(found, wanted, strict=True) if isinstance(one, TargetResult)]
    labelled = [(index, right) for index, right in pairs if right is not None]
    classes = {one.index for one in seen}
    outputs = [one.output for one in seen if one.output is not None]
    several = len({right for _, right in labelled}) > 1
    return {
        "grouped": _grouped(labelled),
        "right": sum(index == right for index, right in labelled) if labelled else None,
        "labelled": len(labelled),
        "classes": len(classes),
        "output": sum(outputs) / len(outputs) if outputs else None,
        "failed": len(found) - len(seen),
        "dead": not seen or len(seen) > 1 and len(classes) == 1 and (several or _close([seen[0]] * len(seen), seen)),
        "same_as": same,
    }


def _grouped(labelled: Sequence[tuple[int | None, int]]) -> int | None:
    """How many images are of the class that most of their folder are, where each folder has another such class."""
    folders: dict[int, Counter[int | None]] = {}
    for index, right in labelled:
        folders.setdefault(right, Counter())[index] += 1
    most = [found.most_common(1)[0] for found in folders.values()]
    several = len(most) > 1 and len({index for index, _ in most}) == len(most)
    return sum(count for _, count in most) if several else None


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
        if one.get("ready"):
            marks.append("the only choice: the numbers are no levels of 0..255")
        if one.get("dead"):
            marks.append(
                f"dead: {'one class for all of them' if images else 'its negative, noise and black get the same'}"
            )
        said = f"  ({'; '.join(marks)})" if marks else ""
        yield f"{option}  {_said(one)}{said}"
    if images:
        yield "mean output is that of the class that wins: a wrong range may have a higher one"
        yield from filter(None, (_tie(told), _doubt(told)))


def _tie(told: Mapping[str, Json]) -> str:
    """What is said of choices that are right as often as the best."""
    rights = {name: one["right"] for name, one in told.items() if one["right"] and not one["same_as"]}
    best = [name for name, right in rights.items() if right == max(rights.values())]
    if len(best) < 2 or all(told[name]["dead"] for name in best):
        return ""
    right = f"{rights[best[0]]} of {told[best[0]]['labelled']} right"
    return f"{', '.join(best[:-1])} and {best[-1]}: {right} under each; nothing tells them apart here"


def _doubt(told: Mapping[str, Json]) -> str:
    """What is said of labels under which few are right, though the model tells images apart."""
    labelled = max((one["labelled"] for one in told.values()), default=0)
    few = all(2 * one["right"] < labelled for one in told.values() if one["right"] is not None)
    if labelled < LEAST_LABELLED or not few or all(one["dead"] for one in told.values()):
        return ""
    grouped = max(one["grouped"] or 0 for one in told.values())
    if grouped >= MOSTLY * labelled:
        return (
            f"{grouped} of {labelled} go by their folders, but to other classes than the labels say: "
            "are the labels in the order of the model's classes?"
        )
    return "few are right under any choice: are these the labels of this model, in the order of its classes?"


def _said(one: Json) -> str:
    if "error" in one:
        return str(one["error"])
    if "classes" not in one:
        return (
            f"class {one['index']} {one['label'] or ''}  score {_number(one['score'])}, output {_number(one['output'])}"
        )
    right = f"{one['right']} of {one['labelled']} right, " if one["right"] is not None else ""
    failed = f", {one['failed']} failed" if one["failed"] else ""
    classes = "one class for all" if one["classes"] == 1 else f"{one['classes']} different classes"
    return f"{right}{classes}, mean output {_number(one['output'])}{failed}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
