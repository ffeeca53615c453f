"""Values of the variables: read from the checkpoint files, nothing of the model is run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.graph.words import first_line
from gradviz_cli.worker.read.entries import Entry

INCOMPLETE = "the copy is not complete: copy the whole variables folder again"
FOREIGN = "graph and variables are of two exports: copy both from one, or export the model again"
MAX_SHARDS = 10_000
MANY = 2**22  # numbers; fewer are read by one thread


def load(model: Path, variables: Iterable[str], entries: Mapping[str, Entry]) -> dict[str, tf.Tensor]:
    """Variable name -> its value, read once and straight into TensorFlow's memory.

    Raises
    ------
    ModelUnusable
        A variable that the graph needs is in no checkpoint or has another shape there, or the files are missing, torn
        or fail their checksum.
    """
    wanted = sorted(set(variables))
    if not wanted:
        return {}
    if model.is_file():
        what = f"{model} is a graph that is not frozen: it has no value for the variable {wanted[0]}"
        raise ModelUnusable(what, "freeze it (convert_variables_to_constants), or export a SavedModel")
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise ModelUnusable(
            f"the variable {missing[0]} ({len(missing)} of {len(wanted)}) is never restored from {model / 'variables'}",
            "export the model again, after training",
        )
    prefix = str(model / "variables" / "variables")
    lost = f"so the variable {wanted[0]} has no value ({len(wanted)} variables in all)"
    dtypes, shapes = _index(prefix, lost)
    keys = {entries[name].key for name in wanted}
    absent = [name for name in wanted if entries[name].key not in dtypes]
    if absent:
        raise ModelUnusable(
            f"{prefix}.index has no entry {entries[absent[0]].key} for the variable {absent[0]} "
            f"({len(absent)} of {len(wanted)} are not there)",
            FOREIGN,
        )
    _check_content(prefix, keys, dtypes, shapes, lost)
    try:
        values = _restored(prefix, [entries[name] for name in wanted], dtypes, shapes)
    except tf.errors.OpError as error:
        raise ModelUnusable(f"{prefix}.* cannot be read ({first_line(error)})", "copy the model again") from error
    return {name: _fitting(prefix, name, one, entries[name]) for name, one in zip(wanted, values, strict=True)}


def _restored(prefix: str, wanted: Sequence[Entry], dtypes: Mapping, shapes: Mapping) -> list[tf.Tensor]:
    """The values in order, read by two threads: to copy a large file and take its checksum keeps more than one busy."""

    def restored(part: Sequence[Entry]) -> list[tf.Tensor]:
        names, slices = [one.key for one in part], [one.part for one in part]
        types = [dtypes[one.key] for one in part]
        found = tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, dtypes=types)
        return list(found)

    sizes = np.cumsum([math.prod(map(int, shapes[one.key])) for one in wanted])
    half = int(np.searchsorted(sizes, sizes[-1] / 2)) + 1
    if sizes[-1] < MANY or half == len(wanted):
        return restored(wanted)
    with ThreadPoolExecutor(1) as beside:
        second = beside.submit(restored, wanted[half:])
        return [*restored(wanted[:half]), *second.result()]


def _fitting(prefix: str, name: str, value: tf.Tensor, entry: Entry) -> tf.Tensor:
    """The value, which the graph was made for one of the kind of."""
    sizes = entry.shape if entry.reshaped else None
    if sizes is not None and math.prod(sizes) == value.shape.num_elements():
        value = tf.reshape(value, sizes)
    if (entry.dtype and value.dtype.as_datatype_enum != entry.dtype) or not entry.fits(value.shape):
        raise ModelUnusable(
            f"{prefix}.index: the entry {entry.key} holds {value.dtype.name} {list(value.shape)}, "
            f"the variable {name} of the graph is {entry.described}",
            FOREIGN,
        )
    return value


def _index(prefix: str, lost: str) -> tuple[dict[str, tf.DType], dict[str, list[int]]]:
    """Type and shape of every entry."""
    if not Path(prefix + ".index").is_file():
        raise ModelUnusable(f"{prefix}.index is missing, {lost}", "copy the whole variables folder, not the .pb alone")
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)  # its modern form brings in a hundred modules
        return reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError, TypeError, LookupError) as error:
        raise ModelUnusable(f"{prefix}.index cannot be read ({first_line(error)})", "copy the model again") from error


def _check_content(prefix: str, keys: Iterable[str], dtypes: Mapping, shapes: Mapping, lost: str) -> None:
    """The index may promise anything: only numbers are read, and no more of them than the files beside it can hold."""
    need = 0
    for key in sorted(keys):
        dtype = dtypes[key]
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex or dtype.is_quantized):
            raise ModelUnusable(
                f"{prefix}.index: the entry {key} holds {dtype.name}, no numbers", "export the model again"
            )
        need += math.prod(map(int, shapes[key])) * dtype.size
    have = sum(_size(shard, lost) for shard in _shards(prefix, lost))
    if need > have:
        raise ModelUnusable(f"{prefix}.data-* hold {have} bytes, the variables need {need}", INCOMPLETE)


def _shards(prefix: str, lost: str) -> list[str]:
    """The files of values. Their names are tried, not listed: the sandbox lets files be read and no folder."""
    for count in range(1, MAX_SHARDS):
        if os.path.lexists(f"{prefix}.data-00000-of-{count:05d}"):
            return [f"{prefix}.data-{number:05d}-of-{count:05d}" for number in range(count)]
    raise ModelUnusable(f"{prefix}.data-00000-of-* is missing, {lost}", INCOMPLETE)


def _size(shard: str, lost: str) -> int:
    try:
        return os.stat(shard).st_size
    except OSError as error:
        raise ModelUnusable(f"{shard} is missing ({error.strerror}), {lost}", INCOMPLETE) from error
