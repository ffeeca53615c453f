"""Values of the variables: read from the checkpoint files, nothing of the model is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import tensorflow as tf

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.expand import Entry


def load(model: Path, variables: Iterable[str], entries: Mapping[str, Entry]) -> dict[str, tf.Tensor]:
    """Variable name -> its value, read once and straight into TensorFlow's memory.

    Raises
    ------
    ModelUnusable
        A variable that the graph needs is in no checkpoint, or the files are missing, torn or fail their checksum.
    """
    wanted = sorted(set(variables))
    if not wanted:
        return {}
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise ModelUnusable(
            f"the variable {missing[0]} ({len(missing)} of {len(wanted)}) is never restored from {model / 'variables'}",
            "export the model again, after training",
        )
    prefix = str(model / "variables" / "variables")
    dtypes = _dtypes(prefix)
    absent = [entries[name].key for name in wanted if entries[name].key not in dtypes]
    if absent:
        raise ModelUnusable(f"{prefix}.index has no entry {absent[0]}", "copy the whole variables folder again")
    try:
        values = tf.raw_ops.RestoreV2(
            prefix=prefix,
            tensor_names=[entries[name].key for name in wanted],
            shape_and_slices=[entries[name].part for name in wanted],
            dtypes=[dtypes[entries[name].key] for name in wanted],
        )
    except tf.errors.OpError as error:
        raise ModelUnusable(f"{prefix}.* cannot be read ({_first_line(error)})", "copy the model again") from error
    return dict(zip(wanted, values, strict=True))


def _dtypes(prefix: str) -> dict[str, tf.DType]:
    if not Path(prefix + ".index").is_file():
        raise ModelUnusable(f"{prefix}.index is missing", "copy the whole variables folder, not the .pb alone")
    try:
        return tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ModelUnusable(f"{prefix}.index cannot be read ({_first_line(error)})", "copy the model again") from error


def _first_line(error: Exception) -> str:
    return (getattr(error, "message", "") or str(error) or type(error).__name__).splitlines()[0][:200]
