"""What a meta graph offers and which of it is meant: tags, signatures, inputs, outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef

from gradviz_cli.errors import UsageError
from gradviz_cli.files.near import did_you_mean, nearest
from gradviz_cli.worker.analysis.detections import scores_among
from gradviz_cli.worker.graph.question import Tensor, describe, names
from gradviz_cli.worker.read.objects import CALL, is_function, outermost
from gradviz_cli.worker.read.savedmodel import Saved

DEFAULT = "serving_default"
# Preferred in this order where a model has several; the last ones are functions of a model without signatures.
USUAL_SIGNATURES = (DEFAULT, "serve", "predict", "default", "image_classification", CALL, "call")
USUAL_OUTPUTS = ("logits", "probabilities", "probs", "scores", "predictions")
PROBABILITIES = frozenset({"Softmax", "Sigmoid"})


def choose_meta(saved: Saved, tag: str | None) -> MetaGraphDef:
    """The meta graph with that tag; without one the only one, else `serve`, else one that is not to train."""
    metas = saved.meta_graphs
    tags = [", ".join(meta.meta_info_def.tags) or "(none)" for meta in metas]
    if tag is not None:
        chosen = [meta for meta in metas if tag in meta.meta_info_def.tags]
        if not chosen:
            near = did_you_mean(nearest(tag, [one for meta in metas for one in meta.meta_info_def.tags]))
            raise UsageError(f"--tag {tag}: the model has {'; '.join(tags)}", near or "give one of these")
        return chosen[0]
    serving = [meta for meta in metas if "serve" in meta.meta_info_def.tags]
    if serving:
        return min(serving, key=lambda meta: len(meta.meta_info_def.tags))
    # A module of TensorFlow Hub has a graph to train beside one without tags.
    return min(metas, key=lambda meta: ("train" in meta.meta_info_def.tags, len(meta.meta_info_def.tags)))


def signatures(meta: MetaGraphDef) -> dict[str, SignatureDef]:
    """The signatures that take something in; TensorFlow's own entry for initialisation is left out."""
    return {
        name: signature
        for name, signature in sorted(meta.signature_def.items())
        if not name.startswith("__saved_model") and signature.inputs and signature.outputs
    }


def choose_signature(meta: MetaGraphDef, wanted: str | None) -> tuple[str, SignatureDef, str]:
    """(name, signature, why): the one named, else the usual one that takes pixels, else the only one that does; where
    none is, `serving_default`.
    """
    found = signatures(meta)
    if wanted is not None:
        if wanted not in found:
            near = did_you_mean(nearest(wanted, found))
            remedy = near or ("give one of these" if found else "leave it out, or name --input and --output")
            raise UsageError(f"--signature {wanted}: the model has {', '.join(found) or 'none'}", remedy)
        return wanted, found[wanted], "asked for"
    if len(found) == 1:
        return *next(iter(found.items())), "the only one"
    usable = {name: one for name, one in found.items() if any(map(could_be_image, tensors(one.inputs)))}
    closest = outermost(usable)
    usual = _usual(closest)
    if usual is not None:
        return usual, closest[usual], f"of {len(found)}, the usual one"
    if len(closest) == 1:
        which = "only" if len(usable) == 1 else "outermost"
        return *next(iter(closest.items())), f"of {len(found)}, the {which} one that takes pixels"
    if DEFAULT in found:
        return DEFAULT, found[DEFAULT], f"of {len(found)}, the usual one"
    left = closest or found
    kind = "functions and no signature" if any(map(is_function, left.values())) else "signatures"
    listed = ", ".join(_described(name, one) for name, one in left.items())
    raise UsageError(f"the model has several {kind}: {listed}", "choose one with --signature NAME")


def _usual(found: Mapping[str, SignatureDef]) -> str | None:
    """The one with a usual name; of functions of one part of a model the one that is called so there."""
    lasts = {name.rpartition("/")[2]: name for name in found}
    parts = {name.rpartition("/")[0] for name in found}
    named = lasts if len(parts) == 1 else {name: name for name in found}
    return next((named[name] for name in USUAL_SIGNATURES if name in named), None)


def _described(name: str, signature: SignatureDef) -> str:
    """The name; of a function also what it takes, as that is all that its traces differ in."""
    if not is_function(signature):
        return name
    takes = ", ".join(describe(tensor) for tensor in tensors(signature.inputs))
    return f"{name} ({takes}{', ' if signature.method_name else ''}{signature.method_name})"


def tensors(infos: Mapping) -> list[Tensor]:
    """The inputs or outputs of a signature, by key; sparse and composite ones are left out."""
    out = []
    for key, info in sorted(infos.items()):
        if not info.name:
            continue
        shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
        name = info.name if ":" in info.name else info.name + ":0"
        out.append(Tensor(key, name, tf.dtypes.as_dtype(info.dtype), shape))
    return out


def could_be_image(tensor: Tensor) -> bool:
    """Numbers of a rank that pictures have, or strings that may hold an encoded picture are not preferred."""
    if not (tensor.dtype.is_floating or tensor.dtype in (tf.uint8, tf.int32)):
        return False
    return tensor.shape is None or 2 <= len(tensor.shape) <= 4


def choose_input(inputs: list[Tensor], wanted: str | None) -> Tensor | None:
    """The input named (None when none has that name), else the only one, else the only one that looks like an image."""
    if wanted is not None:
        return next((tensor for tensor in inputs if wanted in names(tensor)), None)
    if len(inputs) == 1:
        return inputs[0]
    for fits in (
        lambda t: (t.dtype.is_floating or t.dtype == tf.uint8) and t.shape is not None and len(t.shape) == 4,
        could_be_image,
        lambda t: t.dtype == tf.string,
    ):
        fitting = [tensor for tensor in inputs if fits(tensor)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    keys = ", ".join(f"{tensor.key} {describe(tensor)}" for tensor in inputs)
    raise UsageError(f"the signature takes several inputs: {keys}", "name the image with --input NAME")


class End(NamedTuple):
    """What an output ends in: the operation, and what feeds it where that is a softmax or sigmoid, else its tensor."""

    op: str
    logits: str


def _said(end: End | None) -> str:
    """For who has to choose."""
    return f" (ends in a {end.op.lower()}, as scores of classes do)" if end and end.op in PROBABILITIES else ""


def choose_output(
    outputs: list[Tensor], wanted: str | None, told: Callable[[], Mapping[str, End]] | None = None
) -> Tensor | None:
    """The output named (None when none has that name), else the only one, else the only one of class scores.

    Parameters
    ----------
    told : callable, optional
        What outputs end in, by their keys; asked where it is not clear which one is meant.
    """
    if wanted is not None:
        return next((tensor for tensor in outputs if wanted in names(tensor)), None)
    floats = [tensor for tensor in outputs if tensor.dtype.is_floating]
    if len(floats) == 1:
        return floats[0]
    if not floats and outputs:
        return outputs[0]
    detected = scores_among(floats)
    if detected is not None:
        return detected
    for name in USUAL_OUTPUTS:
        for tensor in floats:
            if tensor.key == name:
                return tensor
    scores = [tensor for tensor in floats if tensor.shape is not None and len(tensor.shape) == 2]
    if len(scores) == 1:
        return scores[0]
    ends = told() if told else {}
    probable = [tensor for tensor in scores if tensor.key in ends and ends[tensor.key].op in PROBABILITIES]
    if probable and len({ends[tensor.key].logits for tensor in scores}) == 1:  # logits, and what is made of them
        return probable[0]
    keys = ", ".join(f"{tensor.key} {describe(tensor)}{_said(ends.get(tensor.key))}" for tensor in outputs)
    raise UsageError(f"the signature gives several outputs: {keys}", "choose one with --output NAME")


def parse_name(name: str) -> tuple[str, int | None, tuple[int, ...]]:
    """The tensor's name, the channel of `block5/Relu:0[..., 12]` and the position of `scores[0, 3, 4, ...]`."""
    channel = re.fullmatch(r"(.*?)\s*\[\s*(?:\.\.\.|:)?\s*,?\s*(\d+)\s*\]", name)
    if channel:
        return channel[1], int(channel[2]), ()
    position = re.fullmatch(r"(.*?)\s*\[\s*[0:]((?:\s*,\s*\d+)+)\s*,\s*(?:\.\.\.|:)\s*\]", name)
    if position:
        return position[1], None, tuple(map(int, re.findall(r"\d+", position[2])))
    _check_place(name)
    return name, None, ()


def _check_place(name: str) -> None:
    """Refuse brackets that say neither a channel nor a position; no tensor has any in its name."""
    found = re.fullmatch(r"(.*?)\s*\[([^\[\]]*)\]\s*", name)
    if not found:
        return
    tensor, parts = found[1], [part.strip() for part in found[2].split(",")]
    words = [part for part in parts if re.fullmatch("[A-Za-z]+", part)]
    if words:
        numbers = ", ".join(str(10 * place) if part in words else part for place, part in enumerate(parts))
        stand = f"{' and '.join(words)} stand{'s' if len(words) == 1 else ''} for {'a number' if len(words) == 1 else 'numbers'}"
        raise UsageError(f"--output '{name}': {stand}", f"write them out, as in --output '{tensor}[{numbers}]'")
    if len(parts) > 2 and all(part.isdigit() for part in parts):
        raise UsageError(
            f"--output '{name}': a position ends in `...`, and --target says the class",
            f"give --output '{tensor}[{', '.join(['0', *parts[1:-1]])}, ...]' -t {int(parts[-1])}",
        )
    raise UsageError(
        f"--output '{name}': the brackets name neither a channel nor a position",
        f"give --output '{tensor}[..., C]' or '{tensor}[0, y, x, ...]' with numbers for C, y and x",
    )
