"""`gradviz inspect`: what a SavedModel offers, what would be patched, why a map would be blank."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gradviz_cli.batch.planning import model_from
from gradviz_cli.cli.config import given
from gradviz_cli.cli.options import Command, model_options
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.errors import ExitCode, ImageError, ProofFailed, UsageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import plain, printable
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.model import fingerprint
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.process.protocol import Explain, ModelOptions, Witness
from gradviz_cli.rules import PLAIN


@click.command(
    "inspect", cls=Command, common=("as_json", "image", "signature", "input", "output", "labels_file", "verbose")
)
@click.argument("model", metavar="MODEL", type=NamedPath())
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--image", type=NamedPath(), help="Show what the model says of an image under each --preprocess.")
@click.option("--labels", "labels_file", type=NamedPath(), help="One label a line, or JSON.")
@model_options
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also every check, activation and layer that could carry a class activation map.",
)
@click.pass_context
def command(
    context: click.Context, model: Path, as_json: bool, image: Path | None, verbose: bool, proof: str, **_: Any
) -> int:
    """Show what MODEL, a SavedModel folder, offers and what gradviz would patch. No image is needed."""
    asked, standing = given(context)
    for options in (asked, standing):
        options.pop("proof", None)
    chosen, labels = model_from(model, standing=standing, **asked)
    with stopping():
        told, problem = _ask(chosen, image, labels, proof)
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo("\n".join(map(plain, _lines(told, verbose))))
    return problem


def _ask(options: ModelOptions, image: Path | None, labels: tuple[str, ...], prove: str) -> tuple[dict[str, Any], int]:
    with Explainer(options, (PLAIN,), labels=labels, prove=prove) as model:
        found = model.inspect()
        told: dict[str, Any] = {**asdict(found), "proof": None, "fingerprint": fingerprint.of_model(Path(options.path))}
        code = ExitCode.OK
        if found.refused_ops and not options.trust_model:
            code = ExitCode.MODEL_REFUSED
        elif found.problem:
            code = ExitCode.MODEL_UNUSABLE
        if code is ExitCode.OK and (image is not None or prove != "never"):
            try:
                model.load()
            except ProofFailed as error:
                return {**told, "problem": str(error)}, int(error.code)
            if model.proof is not None:
                told["proof"] = asdict(model.proof)
                told["warnings"] = [*told["warnings"], *model.proof.warnings]
            if image is not None:
                told["preprocess_probe"] = _probe(model, image)
        return told, int(code)


def _probe(model: Explainer, image: Path) -> dict[str, Any]:
    """For each pixel range the best class and its score."""
    try:
        fitted = model.decode(read_bytes(image, Limits())).fitted
    except ImageError as error:
        raise UsageError(f"{printable(image)}: {error.message}", "give another --image") from error
    whole = model.facts.input.dtype in ("uint8", "int32", "string")
    probe: dict[str, Any] = {}
    for name, preset in PREPROCESS.items():
        if whole and name != "raw" or not preset.takes(model.facts.channels):
            continue
        found = next(model.explain([fitted], Explain((-1,), (PLAIN,)), name))
        if isinstance(found, ImageError):
            probe[name] = {"error": found.message}
        else:
            best = asdict(found.targets[0])
            probe[name] = {key: best[key] for key in ("index", "label", "score", "output")}
    return probe


def _lines(told: dict[str, Any], verbose: bool) -> list[str]:
    lines = ["signatures"]
    for name, signature in told["signatures"].items():
        for part in ("inputs", "outputs"):
            for key, tensor in signature[part].items():
                lines.append(f"  {name}  {part[:-1]:6}  {key}  {tensor['dtype']} {_dims(tensor['shape'])}")
    chosen = told["chosen"]
    if chosen:
        before = f", before {chosen['bypassed']} ({chosen['bypassed_as']} by its values)" if chosen["bypassed"] else ""
        lines += [
            f"chosen      {chosen['signature']} ({chosen['why']}): {chosen['input']['name']} -> {chosen['output']}",
            f"score       {chosen['score_tensor']}{before}",
        ]
        if chosen["reading"]:
            lines.append(f"read as     {chosen['reading']}")
        if chosen.get("size"):
            size = "x".join(map(str, [*chosen["size"], chosen["channels"]]))
            lines.append(
                f"images      {size}, {chosen['input']['layout']}, preprocess {chosen['preprocess']}, {chosen['classes'] or 'an unknown number of'} classes"
            )
    counts = [f"{count['patched']} of {count['reachable']} {name}" for name, count in told["activations"].items()]
    gates = f"; {told['gates_left']} gates left alone" if told["gates_left"] else ""
    lines.append(f"patched     {', '.join(counts) or 'nothing: there is no ReLU'}{gates}")
    lines += [f"  {line}" for line in _found(told["found"], verbose)]
    lines.append(f"gradient    {_gradient(told)}")
    lines.append(f"refused ops {', '.join(one['op'] for one in told['refused_ops']) or 'none'}")
    lines += _proof(told["proof"], verbose)
    layers = told["cam_layers"]
    if layers:
        shown = layers if verbose else layers[-1:]
        lines += [f"CAM layer   {one['tensor']} {_dims(one['shape'])}" for one in shown]
        if not verbose and len(layers) > 1:
            lines[-1] += f", the last of {len(layers)} (-v shows all)"
    lines += [f"warning     {warning}" for warning in told["warnings"]]
    if told["problem"]:
        lines.append(f"problem     {told['problem']}")
    for name, one in told.get("preprocess_probe", {}).items():
        if "error" in one:
            lines.append(f"--preprocess {name:7} {one['error']}")
            continue
        lines.append(
            f"--preprocess {name:7} class {one['index']} {one['label'] or ''}  score {one['score']:.4g}, output {one['output']:.4g}"
        )
    lines.append(f"fingerprint {told['fingerprint']}")
    return lines


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
    reaches = told["gradient"]["reaches_input"]
    if reaches is None:
        return "not tried"
    return (
        "reaches the image"
        if reaches
        else f"does not reach the image; cut at {told['gradient']['cut_at'] or 'see problem'}"
    )
