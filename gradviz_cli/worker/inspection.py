"""What a SavedModel offers and what would be patched, as plain data; no image is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gradviz_cli.errors import GradvizError, ModelUnusable
from gradviz_cli.process.protocol import (
    Chosen,
    Count,
    GradientFacts,
    Inspection,
    ModelOptions,
    RefusedOp,
    SignatureInfo,
    TensorInfo,
)
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.analysis.cam import cam_layers
from gradviz_cli.worker.graph.question import Reading
from gradviz_cli.worker.model import Model
from gradviz_cli.worker.passes import mark
from gradviz_cli.worker.read import objects, savedmodel, signatures
from gradviz_cli.worker.read.question import read


def inspect(options: ModelOptions) -> Inspection:
    """The contract's `inspect --json`, but for the fingerprint.

    Raises
    ------
    ModelUnusable
        The folder cannot be read at all; whatever else is wrong is part of the answer.
    """
    saved = savedmodel.read(Path(options.path))
    meta = objects.with_signatures(signatures.choose_meta(saved, options.tag))
    told = Inspection(
        tags=tuple(tuple(sorted(one.meta_info_def.tags)) for one in saved.meta_graphs),
        tensorflow_version=meta.meta_info_def.tensorflow_version,
        signatures={name: _signature(one) for name, one in signatures.signatures(meta).items()},
        warnings=saved.warnings,
    )
    try:
        found = read(options)
        told = _narrowed(told, found, options)
        return _differentiated(told, found, options)
    except _Cut as cut:
        gradient = GradientFacts(False, getattr(cut.error, "cut_at", None))
        return replace(cut.told, gradient=gradient, problem=str(cut.error))
    except GradvizError as error:
        return replace(told, problem=str(error))


class _Cut(Exception):
    """No gradient can be built; what is known all the same."""

    def __init__(self, told: Inspection, error: ModelUnusable):
        super().__init__(str(error))
        self.told, self.error = told, error


def _signature(definition) -> SignatureInfo:
    return SignatureInfo(_tensors(definition.inputs), _tensors(definition.outputs))


def _tensors(infos: Mapping) -> dict[str, TensorInfo]:
    found = signatures.tensors(infos)
    return {tensor.key: TensorInfo(tensor.name, tensor.dtype.name, tensor.open_shape) for tensor in found}


def _narrowed(told: Inspection, found: Reading, options: ModelOptions) -> Inspection:
    """What follows from the graph alone."""
    report = mark.patch(found.flat, found.path, options.activations)[1]
    refused = policy.refused_ops(found.flat, options.allow_ops)
    return replace(
        told,
        chosen=Chosen(found.signature, found.why, found.image.facts, found.output.key, found.score, found.bypassed),
        refused_ops=tuple(RefusedOp(op, node) for op, node in refused.items()),
        activations={name: Count(*counts) for name, counts in sorted(report.activations.items())},
        gates_left=report.gates,
    )


def _differentiated(told: Inspection, found: Reading, options: ModelOptions) -> Inspection:
    """What only building the gradient tells."""
    if told.refused_ops and not options.trust_model:
        first = told.refused_ops[0]
        remedy = "--allow-op or --trust-model lets it run"
        return replace(told, problem=f"op {first.op} (node {first.node}) is outside the allowed set; {remedy}")
    policy.judge(found.flat, options.allow_ops, options.trust_model)  # before TensorFlow sees the graph
    told = replace(told, cam_layers=tuple(cam_layers(found)))
    try:
        facts = Model(options, ("backprop",)).facts
    except ModelUnusable as error:
        raise _Cut(told, error) from error
    assert told.chosen is not None  # `_narrowed` has set it
    chosen = replace(
        told.chosen,
        input=facts.input,
        size=facts.size,
        channels=facts.channels,
        preprocess=facts.preprocess,
        classes=facts.classes,
    )
    return replace(told, chosen=chosen, gradient=GradientFacts(True), warnings=facts.warnings)
