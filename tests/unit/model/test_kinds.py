"""What is no SavedModel is named for what it is, whatever its name says."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.model.kinds import GRAPH, HDF5, KERAS, TAR, ZIP, form_of, kind_of, unusable


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("m/saved_model.pb"))
    return data.getvalue()


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (2, 2)).save(data, "PNG")
    return data.getvalue()


SAFETENSORS = (64).to_bytes(8, "little") + b'{"weight":{"dtype":"F32"'
LEVEL_DB = bytes(40) + bytes.fromhex("57fb808b247547db")
KERAS_JSON = json.dumps({"class_name": "Functional", "config": {"layers": []}}).encode()


@pytest.mark.parametrize(
    "name, data, what, line",
    [
        # content counts before the name
        ("m.onnx", b"\x08\x08\x12\x07pytorch", "ONNX", "onnx2tf -i"),
        ("model", b"\x08\x07\x12\x07pytorch", "ONNX", "onnx2tf -i"),
        ("m.onnx", b"external data", "ONNX", "onnx2tf"),
        ("m.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite", "export the model that it was made from"),
        ("m.pb", b"\x20\0\0\0TFL3", "TensorFlow Lite", "export"),
        ("m.pt", zipped("archive/data.pkl", "archive/data/0"), "PyTorch", "torch.onnx.export"),
        ("m.h5", zipped("resnet/data.pkl"), "PyTorch", "torch.onnx.export"),
        ("m.pth", b"\x80\x02\x8a\n", "PyTorch", "torch.onnx.export"),
        ("m.bin", b"\x80\x04\x95", "PyTorch", "torch.onnx.export"),
        ("m.pkl", b"\x80\x04\x95", "pickle", "torch.onnx.export"),
        ("m.mar", zipped("model.py"), "TorchServe", "torch.onnx.export"),
        ("m.safetensors", SAFETENSORS, "safetensors", "model.export"),
        ("model.ckpt-9.index", LEVEL_DB, "index of a checkpoint", "model.export"),
        ("renamed", LEVEL_DB, "index of a checkpoint", "model.export"),
        ("model.ckpt-9.data-00000-of-00001", bytes(9), "checkpoint", "model.export"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt-9"\n', "checkpoint", "model.export"),
        ("model.ckpt-9.meta", b"\x0a\x30\x12\x20", "checkpoint", "model.export"),
        ("weights.ckpt", bytes(9), "checkpoint", "model.export"),
        ("model.json", b'{"format": "layers-model", "modelTopology": {}}', "TensorFlow.js", "tensorflowjs_converter"),
        ("model.json", b'{"format": "graph-model", "modelTopology": {}}', "graph model", "tfjs_graph_converter"),
        ("model.json", KERAS_JSON, "without their weights", "load_weights"),
        ("config.json", b'{\n "architectures": ["ViT"],\n "model_type": "vit"}', "Hugging Face", "transformers"),
        ("m.mlmodel", b"\x08\x04\x12\x03abc", "Core ML", "export"),
        ("m.engine", b"ptrt\0\0", "TensorRT", "export"),
        ("m.plan", bytes(9), "TensorRT", "export"),
        ("m.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO", "export"),
        ("m.caffemodel", bytes(9), "Caffe", "export"),
        ("m.gguf", b"GGUF\3", "GGUF", "export"),
        ("m.npz", zipped("arr_0.npy"), "NumPy", "model.export"),
        ("m.bz2", b"BZh91AY&SY", "compressed", "unpack"),
        ("m.tar.xz", b"\xfd7zXZ\0", "compressed", "unpack"),
        ("other.pb", b"\x08\x01\x12\x80\x01", "under another name", "name it saved_model.pb"),
        ("photo.png", picture(), "it is an image", "MODEL comes first"),
        ("empty.pb", b"", "empty", "model.export"),
        ("notes.txt", b"hello", "no model that gradviz knows", "model.export"),
    ],
)
def test_named_with_what_helps(tmp_path: Path, name: str, data: bytes, what: str, line: str) -> None:
    (tmp_path / name).write_bytes(data)
    said = str(unusable(tmp_path / name))
    assert name in said and what in said and line in said and "\n" not in said
    assert form_of(tmp_path / name) is None


@pytest.mark.parametrize(
    "name, data, form",
    [
        ("m.keras", zipped("metadata.json", "config.json"), KERAS),
        ("renamed.zip", zipped("metadata.json", "config.json"), KERAS),
        ("m.keras", zipped("config.json", "metadata.json"), KERAS),
        ("m.keras", b"\x89HDF\r\n\x1a\n", HDF5),  # as Keras 2 wrote files of that name too
        ("m.h5", b"\x89HDF\r\n\x1a\n", HDF5),
        ("m", b"\x89HDF\r\n\x1a\n", HDF5),
        ("m.zip", zipped("m/saved_model.pb"), ZIP),
        ("m.tar", tarred(), TAR),
        ("download", b"\x1f\x8b\x08\0", TAR),
        ("m.pb", b"\n\x3a\n\x05input\x12\x0bPlaceholder", GRAPH),
        ("frozen", b"\n\x3a\n\x05input\x12\x0bPlaceholder", GRAPH),
        ("m.pbtxt", b'node {\n  name: "input"', GRAPH),
        ("m.pbtxt", b'# made by hand\n\nnode{ name: "input"', GRAPH),
    ],
)
def test_the_accepted_forms(tmp_path: Path, name: str, data: bytes, form: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert form_of(tmp_path / name) == form


def test_a_folder_is_named_for_what_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(SAFETENSORS)
    assert "its model.safetensors is safetensors weights" in str(unusable(folder))
    (folder / "config.json").write_bytes(b'{"model_type": "vit"}')
    (folder / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "its config.json is a configuration of Hugging Face" in str(unusable(folder))
    (folder / "config.json").unlink()
    assert f"{folder / 'tf_model.h5'} is an HDF5 file: give that" in str(unusable(folder))


def test_a_folder_inside_a_model_is_led_back(tmp_path: Path) -> None:
    (tmp_path / "m" / "variables").mkdir(parents=True)
    (tmp_path / "m" / "saved_model.pb").touch()
    assert f"give the folder around it: {tmp_path / 'm'}" in str(unusable(tmp_path / "m" / "variables"))


def test_a_bundle_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "m.mlpackage").mkdir()
    assert "Core ML" in str(unusable(tmp_path / "m.mlpackage"))


def test_what_is_special_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.keras")
    with pytest.raises(ModelUnusable, match="not a regular file"):
        kind_of(tmp_path / "m.keras")
    assert "holds no saved_model.pb" in str(unusable(tmp_path))
