"""What a SavedModel offers and what would be patched, as plain data; no image is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gradviz_cli.errors import GradvizError, ModelUnusable
from gradviz_cli.process.protocol import Options
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.analysis.cam import cam_layers
from gradviz_cli.worker.graph.question import Reading
from gradviz_cli.worker.model import Model
from gradviz_cli.worker.passes import mark
from gradviz_cli.worker.read import objects, savedmodel, signatures
from gradviz_cli.worker.read.question import read


def inspect(options: Options) -> dict[str, Any]:
    """The contract's `inspect --json`, but for the fingerprint.

    Raises
    ------
    ModelUnusable
        The folder cannot be read at all; whatever else is wrong is part of the answer.
    """
    saved = savedmodel.read(Path(options.path))
    meta = objects.with_signatures(signatures.choose_meta(saved, options.tag))
    told: dict[str, Any] = {
        "tags": [sorted(one.meta_info_def.tags) for one in saved.meta_graphs],
        "tensorflow_version": meta.meta_info_def.tensorflow_version,
        "signatures": {name: _signature(one) for name, one in signatures.signatures(meta).items()},
        "chosen": None,
        "activations": {},
        "gates_left": 0,
        "gradient": {"reaches_input": None, "cut_at": None},
        "cam_layers": [],
        "refused_ops": [],
        "warnings": list(saved.warnings),
        "problem": None,
    }
    try:
        found = read(options)
        _narrowed(told, found, options)
        _differentiated(told, found, options)
    except GradvizError as error:
        told["problem"] = str(error)
    return told


def _signature(definition) -> dict[str, Any]:
    return {
        part: {
            tensor.key: {"tensor": tensor.name, "dtype": tensor.dtype.name, "shape": _shape(tensor.shape)}
            for tensor in signatures.tensors(infos)
        }
        for part, infos in (("inputs", definition.inputs), ("outputs", definition.outputs))
    }


def _shape(shape: tuple[int, ...] | None) -> list[int | None] | None:
    return None if shape is None else [None if size < 0 else size for size in shape]


def _narrowed(told: dict[str, Any], found: Reading, options: Options) -> None:
    """What follows from the graph alone."""
    told["chosen"] = {
        "signature": found.signature,
        "why": found.why,
        "input": {
            "name": found.image.key,
            "shape": _shape(found.image.shape),
            "dtype": found.image.dtype.name,
            "layout": None,
        },
        "output": found.output.key,
        "score_tensor": found.score,
        "bypassed": found.bypassed,
    }
    told["refused_ops"] = [
        {"op": op, "node": node} for op, node in policy.refused_ops(found.flat, options.allow_ops).items()
    ]
    report = mark.patch(found.flat, found.path, options.activations)[1]
    told["activations"] = {
        name: {"reachable": seen, "patched": done} for name, (seen, done) in sorted(report.activations.items())
    }
    told["gates_left"] = report.gates


def _differentiated(told: dict[str, Any], found: Reading, options: Options) -> None:
    """What only building the gradient tells."""
    if told["refused_ops"] and not options.trust_model:
        op = told["refused_ops"][0]
        told["problem"] = (
            f"op {op['op']} (node {op['node']}) is outside the allowed set; --allow-op or --trust-model lets it run"
        )
        return
    policy.judge(found.flat, options.allow_ops, options.trust_model)  # before TensorFlow sees the graph
    told["cam_layers"] = cam_layers(found)
    try:
        facts = Model(replace(options, modes=("backprop",))).facts
    except ModelUnusable as error:
        told["gradient"] = {"reaches_input": False, "cut_at": getattr(error, "cut_at", None)}
        raise
    told["gradient"]["reaches_input"] = True
    told["chosen"]["input"].update(layout=facts.input["layout"], encoding=facts.input["encoding"])
    told["chosen"].update(
        size=list(facts.size), channels=facts.channels, preprocess=facts.preprocess, classes=facts.classes
    )
    told["warnings"] = list(facts.warnings)
