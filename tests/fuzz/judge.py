"""One program, written, explained by gradviz, and held against the oracle."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import grammar as g
from fuzz import oracle
from fuzz.spelled import SPELLINGS
from fuzz.writers import write
from reference import difference

from gradviz_cli.errors import GradvizError, ModelUnusable
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model

BOUND = 1e-3  # relative L2 of a map, relative distance of a score
CLEAR = 2e-5  # how clear of all corners an image has to be, relative to the size of the numbers there
# Heads that are no plain probability: the output itself may be explained as well as the logit behind it.
EITHER = ("percent", "averaged")


@dataclass(frozen=True)
class Verdict:
    """`kind`: equal, refused, wrong, crashed, miscounted, warned (equal, with a warning that is not expected), unclear
    (no image is clear of corners)."""

    kind: str
    detail: str = ""


def judged(program: g.Program, prove: str = "auto") -> Verdict:
    """Write and explain a program, which gradviz has to prove first: a proof that fails is a fault of its own."""
    drawn = clear_images(program)
    if drawn is None:
        return Verdict("unclear", "no image is clear of corners")
    with tempfile.TemporaryDirectory() as folder:
        write(program, Path(folder) / "model")
        return _explained(program, drawn, ModelOptions(str(Path(folder) / "model"), **options(program)), prove)


def options(program: g.Program) -> dict[str, Any]:
    chosen: dict[str, Any] = {"preprocess": "raw"}
    if program.head.kind == "two":
        chosen["output"] = "scores"
    if program.head.kind == "segmentation":
        chosen["box_of"] = 0  # summed over the positions that the class wins, as the oracle does
    return chosen


def _explained(program: g.Program, pixels: np.ndarray, chosen: ModelOptions, prove: str) -> Verdict:
    patched, left, gates = counts(program)
    modes = oracle.MODES if patched else ("backprop",)
    try:
        model = Model(chosen, modes, verified=True)
        proof = model.prove() if prove != "never" else None
        found = model.explain(pixels.astype(np.float32), [-1], list(modes))
    except GradvizError as error:
        return Verdict("refused", f"{type(error).__name__}: {error}".replace(chosen.path, "MODEL"))
    except Exception as error:  # whatever it is, it is a fault of gradviz
        return Verdict("crashed", f"{type(error).__name__}: {error}"[:300])
    if not np.isfinite(found.score).all() and proof and not proof.witnesses[0].failed:
        return Verdict("unclear", "the model overflows in float32, as TensorFlow's own run does")
    if not patched and not _refuses_rules(chosen):
        return Verdict("wrong", "guided without a ReLU is not refused")
    facts = model.facts
    bypassed = program.head.kind not in EITHER or facts.bypassed is not None
    want = oracle.truth(program, pixels, bypassed, modes)
    said = _wrong(found, want, modes)
    if said:
        return Verdict("wrong", said)
    seen = {name: count - done for name, (count, done) in facts.activations.items() if count > done}
    done = sum(done for _, done in facts.activations.values())
    if (done, seen, facts.gates) != (patched, left, gates):
        return Verdict("miscounted", f"{done} ReLUs, {seen}, {facts.gates} gates; expected {patched}, {left}, {gates}")
    said = [*facts.warnings, *(proof.warnings if proof else ())]
    if len(said) != (program.head.kind == "averaged") or any("softmax" not in one for one in said):
        return Verdict("warned", "; ".join(said))
    return Verdict("equal")


def _refuses_rules(chosen: ModelOptions) -> bool:
    """Guided backpropagation of a network without a ReLU would be the plain gradient under a wrong name."""
    try:
        Model(chosen, ("guided",))
    except ModelUnusable:
        return True
    return False


def _wrong(found: Any, want: oracle.Truth, modes: Sequence[str]) -> str:
    """What differs; empty where nothing does."""
    if found.index.shape[0] != len(want.index):
        return f"{found.index.shape[0]} rows for {len(want.index)} images"
    if found.index[:, 0].tolist() != want.index.tolist():
        return f"class {found.index[:, 0].tolist()}, expected {want.index.tolist()}"
    if not np.allclose(found.score[:, 0], want.score, rtol=BOUND, atol=1e-4):
        return f"score {found.score[:, 0].tolist()}, expected {want.score.tolist()}"
    distances = {mode: _distance(maps[0], want.maps[mode]) for mode, maps in zip(modes, found.gradients, strict=True)}
    far = {mode: float(f"{distance:.2g}") for mode, distance in distances.items() if not distance < BOUND}
    return f"maps off by {far}" if far else ""


def _distance(got: np.ndarray, want: np.ndarray) -> float:
    """Relative L2 of the worst image; one whose map is zero has to be zero."""
    live = [row for row in range(len(want)) if np.abs(want[row]).max() > 1e-12]
    dead = np.abs(np.delete(got, live, 0)).max(initial=0.0)
    return max(difference(got[live], want[live]) if live else 0.0, float(dead > 1e-9))


# --- images -----------------------------------------------------------------------------------------------------------


def clear_images(program: g.Program, count: int = 2, tries: int = 24) -> np.ndarray | None:
    """Images [N, H, W, C] that bring no activation, pooling or decision near a corner."""
    draw = np.random.default_rng([program.seed, 1])
    low, high = program.span
    pixels = draw.uniform(low, high, (tries, *program.size))
    pixels = np.floor(pixels) if high > 100 else pixels.astype(np.float32).astype(np.float64)
    kept: list[np.ndarray] = []
    for batch in np.split(pixels, 4):
        clear = oracle.truth(program, batch, modes=()).margin > CLEAR
        kept.extend(batch[clear])
        if len(kept) >= count:
            return np.array(kept[:count])
    return None


# --- what a report should say -----------------------------------------------------------------------------------------


def steps_in(value: Any) -> Iterator[Any]:
    """All steps of a program, also those inside others."""
    if isinstance(value, tuple):
        for one in value:
            yield from steps_in(one)
    elif hasattr(value, "__dataclass_fields__"):
        yield value
        for place in fields(value):
            yield from steps_in(getattr(value, place.name))


def counts(program: g.Program) -> tuple[int, dict[str, int], int]:
    """ReLUs that obey, type -> activations that do not, gates."""
    found: Counter[str] = Counter()
    for step in steps_in((*program.steps, *program.head.tail)):
        if isinstance(step, g.Act):
            found[SPELLINGS[step.spelling].counts] += 1
        elif isinstance(step, g.Squeeze) and step.gate == "hard":
            found["gate"] += 1
    relus, gates = found.pop("relu", 0), found.pop("gate", 0)
    found.pop("", None)
    return relus, dict(found), gates


# --- smaller programs -------------------------------------------------------------------------------------------------


def smaller(program: g.Program) -> Iterator[g.Program]:
    """Programs with one thing less, or one thing plainer, the largest step first."""
    for steps in _without_one(program.steps):
        yield replace(program, steps=steps)
    for front in _without_one(program.front):
        if program.image != "uint8" or front:
            yield replace(program, front=front)
    plain = {"layout": "NHWC", "batch": None, "dtype": "float32", "weights": "constant", "size": (8, 8, 3)}
    for name, value in plain.items():
        if getattr(program, name) != value and not (name == "weights" and program.writer.startswith("keras")):
            changed = {name: value}
            if name == "dtype" and program.image != "uint8":
                changed["image"] = "float32"
            yield replace(program, **changed)
    if program.head.kind != "logits":
        yield replace(program, head=replace(program.head, kind="logits"))
    for tail in _without_one(program.head.tail):
        yield replace(program, head=replace(program.head, tail=tail))
    if program.writer != "module":
        yield replace(program, writer="module", weights="constant", dtype=program.dtype.removeprefix("mixed_"))


def _without_one(steps: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The steps without one of them, or with one of them made smaller."""
    for place, step in enumerate(steps):
        before, after = steps[:place], steps[place + 1 :]
        yield before + after
        for body in _bodies(step):
            yield before + body + after
        if isinstance(step, g.Residual | g.Loop | g.Mapped | g.Nested):
            yield from ((*before, replace(step, body=body), *after) for body in _without_one(step.body) if body)
        if isinstance(step, g.Act) and step.spelling != "relu":
            yield (*before, replace(step, spelling="relu", native=False), *after)


def _bodies(step: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(step, g.Residual | g.Loop | g.Mapped | g.Nested):
        yield step.body
    elif isinstance(step, g.Branches):
        yield from step.bodies
    elif isinstance(step, g.Cond):
        yield from (step.yes, step.no)
    elif isinstance(step, g.Turned | g.Squeeze):
        yield (step.act,)
    elif isinstance(step, g.Split):
        yield from ((step.first,), (step.second,))


def minimised(program: g.Program, kind: str, judge: Callable[[g.Program], Verdict] = judged) -> g.Program:
    """The smallest program that is found to be judged alike, one step at a time."""
    while True:
        for candidate in smaller(program):
            try:
                same = judge(candidate).kind == kind
            except Exception:  # no program: steps that do not fit
                continue
            if same:
                program = candidate
                break
        else:
            return program
