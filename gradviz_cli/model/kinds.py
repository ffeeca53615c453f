"""What a file or folder given as MODEL is: told by its first bytes, then by its name. Nothing is unpacked or parsed.

What is no SavedModel is named for what it is, with the line that makes one of it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.files.text import printable

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
# The forms of a single file that are accepted.
ZIP, TAR, KERAS, HDF5, GRAPH = "zip", "tar", "keras", "hdf5", "graph"
ARCHIVES = (ZIP, TAR)
MADE_BY_KERAS = (KERAS, HDF5)

EXPORT = "give the folder that `model.export(...)` or `tf.saved_model.save` wrote"
_HEAD, _TAIL = 4096, 8
_LISTED = 2000  # names in a folder that are looked at


class Kind(NamedTuple):
    """A kind of file. `head` and `name` are regular expressions for its first bytes and the end of its name, `tail` are
    its last bytes; `form` is one of the accepted ones, else `remedy` says what makes a SavedModel of it."""

    what: str
    remedy: str = ""
    form: str | None = None
    head: bytes | None = None
    tail: bytes | None = None
    name: str | None = None


_PYTORCH = "in PyTorch torch.onnx.export(model, example, 'model.onnx'); then onnx2tf -i model.onnx -o model -osd, and give model"
_WEIGHTS = "build the model in its own code, load these weights, and model.export('folder')"
_ONNX = "onnx2tf -i FILE -o model -osd, and give the folder model"
_OTHER = "export the model that it was made from as a SavedModel"
_FIRST = rb"PK\x03\x04.{26}"  # of a zip, up to the name of its first file

# The first that fits. Content comes first; a name counts where no content speaks.
KINDS = (
    Kind(
        "a configuration of Hugging Face",
        "in Python load it with transformers, and export it with tf.saved_model.save or to ONNX",
        head=rb'\s*\{.*"(model_type|architectures)"\s*:',
    ),
    Kind("a Keras file", form=KERAS, head=_FIRST + rb"metadata\.json"),
    Kind("a PyTorch file", _PYTORCH, head=_FIRST + rb"[^/]{1,200}/(data\.pkl|version|byteorder|\.format_version)"),
    Kind("NumPy arrays", _WEIGHTS, head=_FIRST + rb"[^/]{1,200}\.npy"),
    Kind("a Keras file", form=KERAS, head=_FIRST, name=r"\.keras"),
    Kind("a PyTorch file", _PYTORCH, head=_FIRST, name=r"\.(pt|pth|ckpt|bin)"),
    Kind("an archive of TorchServe", _PYTORCH, head=_FIRST, name=r"\.mar"),
    Kind("a zip archive", form=ZIP, head=rb"PK(\x03\x04|\x05\x06)"),
    Kind("a gzip or tar archive", form=TAR, head=rb"\x1f\x8b\x08|.{257}ustar"),
    # xz is left out: what it says of itself decides how much memory unpacking takes.
    Kind("a bzip2 archive", form=TAR, head=rb"BZh[1-9]", name=r"\.(tar\.bz2|tbz2?)"),
    Kind(
        "compressed data",
        "unpack it, and give the folder that holds saved_model.pb",
        head=rb"BZh[1-9]|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!|\x28\xb5\x2f\xfd",
    ),
    Kind("an HDF5 file", form=HDF5, head=rb"\x89HDF\r\n\x1a\n"),
    Kind("a model of TensorFlow Lite", "it has no gradients: " + _OTHER, head=rb".{4}TFL3"),
    Kind("safetensors weights", _WEIGHTS, head=rb".{5}\0\0\0\{"),
    Kind("GGUF weights", _OTHER, head=rb"GGUF"),
    Kind("an engine of TensorRT", "it holds no graph: " + _OTHER, head=rb"[pf]trt"),
    Kind("a PyTorch file", _PYTORCH, head=rb"\x80[\x02-\x05]", name=r"\.(pt|pth|ckpt|bin)"),
    Kind("a pickle of Python", _PYTORCH, head=rb"\x80[\x02-\x05]"),
    Kind("a model of OpenVINO", _OTHER, head=rb"\s*(<\?xml[^>]*>\s*)?<net\s"),
    Kind("the state of a checkpoint", _WEIGHTS, head=rb"model_checkpoint_path:"),
    Kind("the index of a checkpoint", _WEIGHTS, tail=b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"),
    Kind(
        "a graph model of TensorFlow.js",
        "tfjs_graph_converter FOLDER model --output_format tf_saved_model, and give model",
        head=rb'\s*\{.*"format"\s*:\s*"graph-model"',
    ),
    Kind(
        "a model of TensorFlow.js",
        "tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras FILE model.h5, and give model.h5",
        head=rb'\s*\{.*"(modelTopology|weightsManifest)"',
    ),
    Kind(
        "the layers of a Keras model without their weights",
        "in Python keras.models.model_from_json(...), load_weights(...), then export('folder')",
        head=rb'\s*\{.*"class_name"\s*:.*"config"\s*:|\s*\{.*"config"\s*:.*"class_name"\s*:',
    ),
    Kind("a frozen graph", form=GRAPH, head=rb"(#[^\n]*\n|\s)*node\s*\{"),
    # Their content begins like that of others.
    Kind("a Core ML model", _OTHER, name=r"\.(mlmodel|mlpackage|mlmodelc)"),
    Kind("a part of a checkpoint", _WEIGHTS, name=r"(\.data-\d{5}-of-\d{5}|\.index|\.meta|\.ckpt(-\d+)?|checkpoint)"),
    # Files of ONNX and SavedModels begin alike, but for the version: 1 of a SavedModel.
    Kind("an ONNX model", _ONNX, head=rb"\x08[\x02-\x3f][\x12\x1a\x22\x2a\x3a\x42]"),
    Kind(
        "the graph of a SavedModel under another name",
        "name it saved_model.pb, with its folder variables beside it, and give their folder",
        head=rb"\x08\x01\x12|saved_model_schema_version",
    ),
    Kind("a frozen graph", form=GRAPH, head=rb"\x0a.{1,5}\x0a", name=r"\.(pb|graphdef|pbtxt)"),
    Kind("a frozen graph", form=GRAPH, head=rb"\x0a.{1,5}\x0a.{0,300}(Placeholder|Const)"),
    # Only the name says it.
    Kind("an ONNX model", _ONNX, name=r"\.onnx"),
    Kind("a model of TensorFlow Lite", "it has no gradients: " + _OTHER, name=r"\.tflite"),
    Kind("a PyTorch file", _PYTORCH, name=r"\.(pt|pth|torchscript)"),
    Kind("an engine of TensorRT", "it holds no graph: " + _OTHER, name=r"\.(engine|trt|plan)"),
    Kind("a pickle of Python", _PYTORCH, name=r"\.(pkl|pickle|joblib)"),
    Kind("a model of OpenVINO", _OTHER, name=r"_openvino_model|\.xml"),
    Kind("a model of Caffe", _OTHER, name=r"\.(caffemodel|prototxt)"),
    Kind("a model of PaddlePaddle", _OTHER, name=r"\.(pdmodel|pdiparams)"),
    Kind("weights of Darknet", _WEIGHTS, name=r"\.weights"),
)


def is_saved_model(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in GRAPHS)


def kind_of(file: Path) -> Kind | None:
    """What a file is, None where nothing says so; a folder only by its name.

    Raises
    ------
    ModelUnusable
        It cannot be read, or is special: neither a FIFO nor a device is opened.
    """
    head, tail = (b"", b"") if file.is_dir() else _ends(file)
    return next((kind for kind in KINDS if _is(kind, head, tail, file.name)), None)


def form_of(file: Path) -> str | None:
    """Which of the accepted forms a file has, if any."""
    kind = kind_of(file)
    return kind.form if kind is not None else None


# Models that come with gradviz, each by the name that may be typed for it.
NAMED = {"demo": Path(__file__).parents[1] / "demo" / "model"}


def goes_before(model: Path) -> str:
    """What a path says that has the name of a model of ours."""
    return f"goes before the model of that name that comes with gradviz ({printable(NAMED[os.fspath(model)])})"


def unusable(model: Path) -> ModelUnusable:
    """What to say of a path that is no form of a model."""
    wrong = _unusable(model)
    if os.fspath(model) not in NAMED:
        return wrong
    return ModelUnusable(f"{wrong.message}, and {goes_before(model)}", wrong.remedy)


def _unusable(model: Path) -> ModelUnusable:
    shown = printable(model)
    kind = kind_of(model)
    if kind is not None and kind.form is None:
        return ModelUnusable(f"{shown} is {kind.what}, no SavedModel", _remedy(kind, model))
    if not model.is_dir():
        return ModelUnusable(f"{shown} is no model that gradviz knows{_instead(model)}", EXPORT)
    if is_saved_model(model.parent):
        return ModelUnusable(
            f"{shown} holds no saved_model.pb", f"give the folder around it: {printable(model.parent)}"
        )
    for file, kind in _inside(model):
        if kind.form is not None:
            given = "give that, if the model is in it" if kind.form in ARCHIVES else "give that"
            return ModelUnusable(f"{shown} holds no saved_model.pb", f"{printable(file)} is {kind.what}: {given}")
        what = f"{shown} holds no saved_model.pb; its {printable(file.name)} is {kind.what}"
        return ModelUnusable(what, _remedy(kind, file))
    return ModelUnusable(f"{shown} holds no saved_model.pb", EXPORT)


def open_regular(file: Path) -> BinaryIO:
    """A regular file, opened for reading; never waits for a pipe.

    Raises
    ------
    ModelUnusable
        It cannot be read, or is special.
    """
    try:
        if stat.S_ISREG(os.stat(file).st_mode):
            handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return os.fdopen(handle, "rb")
            os.close(handle)
    except OSError as error:
        message = f"{printable(file)} cannot be read: {error.strerror}"
        raise ModelUnusable(message, "check the path and its permissions") from error
    raise ModelUnusable(f"{printable(file)} is not a regular file", EXPORT)


def _ends(file: Path) -> tuple[bytes, bytes]:
    with open_regular(file) as opened:
        head = opened.read(_HEAD)
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - _TAIL))
        return head, opened.read(_TAIL)


def _is(kind: Kind, head: bytes, tail: bytes, name: str) -> bool:
    said = [
        kind.head is None or re.match(kind.head, head, re.DOTALL) is not None,
        kind.tail is None or tail.endswith(kind.tail),
        kind.name is None or re.search(f"({kind.name})$", name, re.IGNORECASE) is not None,
    ]
    return all(said)


def _remedy(kind: Kind, file: Path) -> str:
    return kind.remedy.replace("FILE", printable(file)).replace("FOLDER", printable(file.parent))


def _inside(folder: Path) -> Iterator[tuple[Path, Kind]]:
    """Files of a folder that are of some kind: accepted ones first, then in the order of the kinds."""
    found = [(KINDS.index(kind), file, kind) for file in _names(folder) if (kind := _kind_or_none(file)) is not None]
    # What says what the whole folder is comes first, then what can be given.
    found.sort(key=lambda one: (one[0] > 0, one[2].form is None, one[0], one[1].name))
    yield from ((file, kind) for _, file, kind in found)


def _names(folder: Path) -> Iterable[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [Path(entry.path) for entry in islice(entries, _LISTED) if not entry.name.startswith(".")]
    return []


def _kind_or_none(file: Path) -> Kind | None:
    try:
        return kind_of(file)
    except ModelUnusable:
        return None


def _instead(file: Path) -> str:
    """What it is instead."""
    from gradviz_cli.images.formats import looks_like_image  # most runs have a model, and Pillow takes its time

    head, _ = _ends(file)
    if not head:
        return ": it is empty"
    return " (it is an image: MODEL comes first, then IMAGES)" if looks_like_image(head) else ""
