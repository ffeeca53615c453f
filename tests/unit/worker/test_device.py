"""What a GPU changes, on processors that are taken for one; on a real one see tests/model/test_gpu.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import CPU, WITNESSES, ModelOptions, Proof, Witness
from gradviz_cli.worker import inspection, model
from gradviz_cli.worker.graph import device
from gradviz_cli.worker.model import RACING, Model

MODES = ("backprop", "guided")
PROVED = Proof(tuple(Witness(name, said="it holds") for name in WITNESSES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def taken_for_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "on_gpu", lambda: True)


def loaded(folder: Path, together: int | None = None, proof: Proof | None = PROVED) -> Model:
    return Model(ModelOptions(str(folder), preprocess="raw"), MODES, together=together, proof=proof)


def pictures(one: Model, count: int) -> np.ndarray:
    shape = (count, *one.facts.size, one.facts.channels)
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def sizes_of_calls(one: Model, monkeypatch: pytest.MonkeyPatch, most: int = 1000) -> list[int]:
    """The images of each call from now on; of more than `most` memory runs out."""
    seen, explain = [], one._differentiator.explain

    def counted(images: np.ndarray, *more) -> object:
        seen.append(len(images))
        if len(images) > most:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return explain(images, *more)

    monkeypatch.setattr(one._differentiator, "explain", counted)
    return seen


@pytest.mark.parametrize("count", [1, 5, 8, 11])
def test_all_calls_have_the_same_size(count: int, folder: Path, taken_for_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, alone = loaded(folder, 5), loaded(folder, 1)
    images = pictures(alone, count)
    wanted = alone.explain(images, [-1, 2], MODES)
    sizes = sizes_of_calls(shared, monkeypatch)
    found = shared.explain(images, [-1, 2], MODES)
    assert sizes == [5] * -(-count // 5)
    for name in ("index", "rank", "score", "output"):
        assert getattr(found, name).shape == (count, 2)
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-5)
    for some, others in zip(found.gradients, wanted.gradients, strict=True):
        assert some.shape == others.shape == (2, *images.shape)
        np.testing.assert_allclose(some, others, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("proof", [None, Proof(PROVED.witnesses[:1])])
def test_unless_it_is_proved_images_are_alone(proof: Proof | None, folder: Path, taken_for_gpu, monkeypatch) -> None:
    """A batch norm in training mode would mix them."""
    one = loaded(folder, 16, proof)
    sizes = sizes_of_calls(one, monkeypatch)
    one.explain(pictures(one, 3), [0], MODES)
    assert sizes == [1, 1, 1]


def test_once_it_is_proved_they_share_a_call(folder: Path, taken_for_gpu, monkeypatch) -> None:
    one = Model(ModelOptions(str(folder), preprocess="raw"), MODES, together=4, proving=True)
    assert one.prove().complete
    sizes = sizes_of_calls(one, monkeypatch)
    one.explain(pictures(one, 3), [0], MODES)
    assert sizes == [4]


def test_a_method_that_was_not_asked_for_ahead_may_race_too(folder: Path, taken_for_gpu, monkeypatch) -> None:
    one, calls = loaded(folder, 4), []
    explain = one._differentiator.explain

    def refused(*given) -> object:
        if not calls:
            raise tf.errors.UnimplementedError(None, None, "Determinism is not yet supported for X.")
        return explain(*given)

    monkeypatch.setattr(one._differentiator, "explain", refused)
    monkeypatch.setattr(model, "allow_races", lambda: calls.append("allowed"))
    assert one.explain(pictures(one, 3), [0], MODES).index.shape == (3, 1) and calls == ["allowed"]
    calls.clear()
    with pytest.raises((ModelUnusable, tf.errors.UnimplementedError)):  # once, and not for ever
        one.explain(pictures(one, 3), [0], MODES)


def test_images_with_targets_of_their_own_are_alone(folder: Path, taken_for_gpu, monkeypatch) -> None:
    one = loaded(folder, 5)
    sizes = sizes_of_calls(one, monkeypatch)
    found = one.explain(pictures(one, 3), [0, 2, 1], MODES, own=True)
    assert sizes == [1, 1, 1] and found.index.T.tolist() == [[0, 2, 1]]


def test_as_many_as_suit_a_gpu_share_a_call_unless_it_is_said(folder: Path, taken_for_gpu, monkeypatch) -> None:
    one = loaded(folder)
    sizes = sizes_of_calls(one, monkeypatch)
    one.explain(pictures(one, 1), [0], MODES)
    assert sizes == [machine.gpu_batch(*one.facts.size, one.facts.channels)] == [32]


def test_where_memory_runs_out_fewer_share_a_call_from_then_on(folder: Path, taken_for_gpu, monkeypatch) -> None:
    one = loaded(folder, 16)
    sizes = sizes_of_calls(one, monkeypatch, most=5)
    images = pictures(one, 6)
    assert one.explain(images, [0], MODES).index.shape == (6, 1)
    assert sizes == [16, 16, 8, 4, 4]  # it is tried again when no other runs
    one.explain(images, [0], MODES)
    assert sizes[5:] == [4, 4]
    with pytest.raises(MemoryError):
        sizes_of_calls(one, monkeypatch, most=0)
        one.explain(images, [0], MODES)


def test_on_processors_each_image_is_alone_whatever_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = loaded(folder, 16)
    sizes = sizes_of_calls(one, monkeypatch)
    one.explain(pictures(one, 3), [0], MODES)
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize(
    ("error", "message", "warned"),
    [
        (tf.errors.UnimplementedError, "A deterministic GPU implementation of X is not currently available.", True),
        (tf.errors.UnimplementedError, "Determinism is not yet supported for X.", True),
        (tf.errors.UnimplementedError, "The Conv2D op currently only supports the NHWC format", False),
        (tf.errors.InvalidArgumentError, "not deterministic at all", False),
    ],
)
def test_what_cannot_have_the_same_bits_is_warned_of(
    error, message: str, warned: bool, folder: Path, taken_for_gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error(None, None, message)

    calls: list[str] = []
    monkeypatch.setattr(Model, "_compute_one", fail)
    monkeypatch.setattr(model, "allow_races", lambda: calls.append("allowed"))
    assert (RACING in loaded(folder).facts.warnings) == warned == bool(calls)


def test_a_gpu_that_is_there_for_nothing_is_said_when_it_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.on_gpu():
        pytest.skip("it is not there for nothing")
    said = {}
    for devices in ((), ("nvidia0",)):
        monkeypatch.setattr(machine, "gpu_devices", lambda devices=devices: devices)
        told = inspection.inspect(ModelOptions(str(folder), preprocess="raw"))
        said[devices] = [one for one in told.warnings if "GPU" in one]
        assert told.device == CPU
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        assert not any("GPU" in one for one in inspection.inspect(ModelOptions(str(folder), preprocess="raw")).warnings)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert said[()] == [] and len(said["nvidia0",]) == 1
