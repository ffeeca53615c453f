"""`gradviz inspect`: what a SavedModel offers, what would be patched, why a map would be blank."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from gradviz_cli.batch.planning import asks_for_labels, model_from
from gradviz_cli.cli.config import at_its_place, given, placed
from gradviz_cli.cli.line import doing
from gradviz_cli.cli.options import Command, mode_option, model_options
from gradviz_cli.cli.probe import lines as probe_lines
from gradviz_cli.cli.probe import probe
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.types import Location, NamedPath
from gradviz_cli.errors import ExitCode, ModelRefused, ModelUnusable, ProofFailed, UsageError
from gradviz_cli.files.near import check_path
from gradviz_cli.files.remote import Place
from gradviz_cli.files.text import plain, printable
from gradviz_cli.model import forms
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.process.protocol import CPU, ModelOptions, Witness
from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES


class _Inspect(Command):
    """Images are taken by `explain` as arguments, here by an option."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        try:
            return super().parse_args(context, args)
        except click.UsageError as error:
            extra = [word for word in words if not word.startswith("-") and f"({word}" in error.message]
            if type(error) is not click.UsageError or not extra:
                raise
            said = printable(extra[0])
            raise UsageError(
                f"inspect takes a MODEL alone, and not {said} behind it", f"for images give --image {said}"
            ) from error


@click.command(
    "inspect",
    cls=_Inspect,
    common=("as_json", "modes", "image", "signature", "input", "output", "labels_file", "verbose"),
)
@click.argument("model", metavar="MODEL", type=Location())
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@partial(mode_option, text=f"ReLU rule that `explain` is to obey; settles the exit code.  [default: {DEFAULT_MODE}]")
@click.option(
    "--image",
    type=NamedPath(),
    help="What the model says of an image, or of a folder of them, under each --preprocess.",
)
@model_options
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also every check, activation and layer that could carry a class activation map.",
)
@click.pass_context
def command(
    context: click.Context,
    model: Place,
    as_json: bool,
    modes: tuple[str, ...],
    image: Path | None,
    verbose: bool,
    proof: str,
    **_: Any,
) -> int:
    """Show whether MODEL can be explained, what it offers and what gradviz would patch. No image is needed.

    Exits as `explain` would.
    """
    asked, standing = given(context)
    for options in (asked, standing):
        options.pop("proof", None)
        options.pop("mode", None)
    if image is not None:
        check_path(image, "--image")
    with placed(context):
        chosen, labels = model_from(model, standing=standing, **asked)
    with stopping(), doing(f"starting TensorFlow, reading {printable(model)}"):
        asked_by = asks_for_labels({**standing, **asked})
        strict = tuple(RULES) if "all" in modes else modes or (DEFAULT_MODE,)
        told, code = _ask(chosen, image, labels, asked_by, proof, strict)
    if told["problem"]:
        told["problem"] = str(at_its_place(context, UsageError(told["problem"])))
    found = Path(chosen.path)
    told.update(
        model=str(found if isinstance(model, Path) else model),
        passed_over=[str(path) for path in forms.passed_over(found)],
    )
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        which = forms.chosen(model, found) if isinstance(model, Path) else []
        click.echo("\n".join(map(plain, _lines(told, verbose, which))))
    return code


# What is wrong with a model, as `explain` exits for it.
ADVICE = re.compile(r" \(`gradviz inspect MODEL --image [^)]*\)")
CODES = {error.__name__: error.code for error in (UsageError, ModelRefused, ModelUnusable)}


def _ask(
    options: ModelOptions, image: Path | None, labels: tuple[str, ...], asked_by: str, prove: str, modes: Sequence[str]
) -> tuple[dict[str, Any], int]:
    with Explainer(options, (PLAIN,), labels=labels, labels_asked=asked_by, prove=prove) as model:
        found = model.inspect()
        model.fit_labels(found.chosen.classes if found.chosen else None)
        told: dict[str, Any] = {**asdict(found), "proof": None, "fingerprint": model.fingerprint}
        told["warnings"] = [*told["warnings"], *filter(None, [model.misfit])]
        code = ExitCode.OK
        if found.problem:
            code = CODES.get(found.problem_kind or "", ExitCode.MODEL_UNUSABLE)
        elif not all(found.modes[mode].works for mode in modes):
            code = ExitCode.MODEL_UNUSABLE
        if not found.problem and (image is not None or prove != "never"):
            try:
                model.load()
                model.try_gradient()  # as no image may follow
            except ProofFailed as error:
                none = {mode: {"works": False, "why": error.message} for mode in told["modes"]}
                return {**told, "modes": none, "problem": str(error)}, int(error.code)
            if model.proof is not None:
                told["proof"] = asdict(model.proof)
                told["warnings"] = [*told["warnings"], *model.proof.warnings]
            if image is not None:
                told["preprocess_probe"], images = probe(model, image)
                told.update({"probe_images": images} if images else {})
                told["warnings"] = [ADVICE.sub("", warning) for warning in told["warnings"]]  # it is being followed
        return told, int(code)


def _lines(told: dict[str, Any], verbose: bool, chosen_model: Sequence[str] = ()) -> list[str]:
    lines = [*_verdict(told), *(f"model       {line}" for line in chosen_model), "signatures"]
    for name, signature in told["signatures"].items():
        for part in ("inputs", "outputs"):
            for key, tensor in signature[part].items():
                lines.append(f"  {name}  {part[:-1]:6}  {key}  {tensor['dtype']} {_dims(tensor['shape'])}")
    chosen = told["chosen"]
    if chosen:
        several = " (one of several: --output names another)" if "output" in chosen["guessed"] else ""
        before = f", before {chosen['bypassed']} ({chosen['bypassed_as']} by its values)" if chosen["bypassed"] else ""
        lines += [
            f"chosen      {chosen['signature']} ({chosen['why']}): {chosen['input']['name']} -> {chosen['output']}{several}",
            f"score       {chosen['score_tensor']}{before}",
        ]
        if chosen["reading"]:
            lines.append(f"read as     {chosen['reading']}")
        if chosen["size"]:
            lines.append(_images(chosen))
    lines.append(f"patched     {_patched(told)}")
    lines += [f"  {line}" for line in _found(told["found"], verbose)]
    lines.append(f"gradient    {_gradient(told)}")
    refused = ", ".join(one["op"] for one in told["refused_ops"])
    lines.append(f"refused ops {refused or ('none' if chosen else 'not looked for')}")
    lines += _proof(told["proof"], verbose)
    lines += _candidates(told, verbose)
    lines += [f"warning     {warning}" for warning in told["warnings"]]
    lines += probe_lines(told.get("preprocess_probe", {}), told.get("probe_images"))
    lines.append(f"fingerprint {told['fingerprint']}")
    return lines


def _verdict(told: dict[str, Any]) -> list[str]:
    """For each mode whether it can be explained, and why not; modes of the same verdict together."""
    if told["problem"]:
        return [f"verdict     no: {told['problem']}"]
    same: dict[tuple[bool | None, str], list[str]] = {}
    for mode, one in told["modes"].items():
        same.setdefault((one["works"], one["why"]), []).append(mode)
    said = (
        f"{', '.join(modes)} {'yes' if works else 'no'}{f', but {why}' if works and why else f': {why}' if why else ''}"
        for (works, why), modes in same.items()
    )
    return [f"verdict     {'; '.join(said)}"]


def _images(chosen: dict[str, Any]) -> str:
    """How pictures enter; what the model does not say is marked with the option that settles it."""
    guess = {name: f" (a guess: --{name.replace('_', '-')} settles it)" for name in chosen["guessed"]}
    size = "x".join(map(str, [*chosen["size"], chosen["channels"]])) + guess.get("input_size", "")
    preprocess = f"preprocess {chosen['preprocess']}{guess.get('preprocess', '')}"
    classes = f"{chosen['classes'] or 'an unknown number of'} classes"
    return f"images      {size}, {chosen['input']['layout']}, {preprocess}, {classes}"


MOST_NAMED = 4  # candidates in one line


def _candidates(told: dict[str, Any], verbose: bool) -> Iterator[str]:
    """What may be typed behind --input, --output and --cam-layer."""
    for option, found in told["candidates"].items():
        if verbose:
            yield from (f"--{option:9} '{one['name']}'  {_dims(one['shape'])}, {one['what']}" for one in found)
        elif found:
            more = f" and {len(found) - MOST_NAMED} more (-v)" if len(found) > MOST_NAMED else ""
            yield f"--{option:9} {', '.join(_typeable(one['name']) for one in found[:MOST_NAMED])}{more}"
    layers = told["cam_layers"]
    shown = layers if verbose else layers[-1:]
    more = f", the last of {len(layers)} (-v shows all)" if len(layers) > len(shown) else ""
    yield from (f"--cam-layer {one['tensor']}  {_dims(one['shape'])}{more}" for one in shown)


def _typeable(name: str) -> str:
    """As a shell takes it."""
    return f"'{name}'" if "[" in name else name


def _patched(told: dict[str, Any]) -> str:
    """What obeys the rule; of a model that nothing was chosen of, nothing is known."""
    if not told["chosen"]:
        return "not looked for"
    counts = [f"{count['patched']} of {count['reachable']} {name}" for name, count in told["activations"].items()]
    left = {"gates": told["gates_left"], "clips of the image": told["clips_left"]}
    alone = "".join(f"; {count} {what} left alone" for what, count in left.items() if count)
    others = ", ".join(f"{count} {op}" for op, count in told["without_rule"].items())
    return f"{', '.join(counts) or 'nothing: there is no ReLU'}{alone}{f'; no rule is for {others}' if others else ''}"


def _found(found: list[dict[str, Any]], verbose: bool) -> list[str]:
    """Each activation, or without -v one of each kind: where it is, and the values by which it was recognised."""
    kinds = {(one["type"], tuple(one["values"]), one["patched"]): one for one in reversed(found)}
    return [_activation(one) for one in (found if verbose else reversed(kinds.values()))]


def _activation(one: dict[str, Any]) -> str:
    place = f"{one['entry']} -> {one['exit']}" + (f" in {one['function']}" if one["function"] else "")
    said = f"f({_numbers(one['at'])}) = {_numbers(one['values'])}" if one["values"] else "of values that are not known"
    return f"{one['type']}{'' if one['patched'] else ' (plain gradient)'}: {said}, {place}"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _proof(proof: dict[str, Any] | None, verbose: bool) -> list[str]:
    if proof is None:
        return ["proof       not tried"]
    found = [Witness(**one) for one in proof["witnesses"]]
    asked = [one for one in found if one.value is not None or one.failed]
    held = f"proof       {sum(not one.failed for one in asked)} of {len(asked)} checks hold"
    told = [one for one in found if verbose or one.failed or one.name == "forward" and one.value is None]
    return [held, *(f"  {one}" for one in told)]


def _dims(shape: list[int | None] | None) -> str:
    return "of any rank" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _gradient(told: dict[str, Any]) -> str:
    found = told["gradient"]
    if found["reaches_input"] is None:
        return "not tried"
    if found["reaches_input"]:
        return "reaches the image" + (f", computed on {told['device']}" if told["device"] not in (None, CPU) else "")
    return "does not reach the image" + (f": {found['cut_at']} lets none through" if found["cut_at"] else "")
