"""The numbers of a map from its `.npy`: exactly the file that its picture says, and in the one form that a run writes.

Nothing is unpickled and no header is evaluated; sizes are checked before memory is taken.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

from gradviz_cli.errors import ImageError
from gradviz_cli.figure.maps import Map
from gradviz_cli.files.reading import Limits, read_bytes

LARGEST = 2**30  # bytes; a model input of 9,000 x 9,000 pixels has fewer
_HEADER = re.compile(
    rb"\x93NUMPY\x01\0(?P<length>..)\{'descr': '<f4', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,7}, \d{1,7}(, \d{1,7})?)\), \} *\n",
    re.DOTALL,
)
GONE = "the .npy is gone"


def read(found: Map) -> np.ndarray:
    """The attribution, float32 [h, w, c].

    Raises
    ------
    ImageError
        `missing`, `changed`, `damaged` and those of `read_bytes`: says what is wrong with the array.
    """
    if found.sha256 is None:
        raise ImageError("missing", "drawn without --raw")
    try:
        data = read_bytes(found.path, Limits(max_file_size=LARGEST))
    except ImageError as error:
        why = GONE if error.kind == "missing" else f"the .npy {error.message.removeprefix('the file ')}"
        raise ImageError(error.kind, why) from error
    if hashlib.sha256(data).hexdigest() != found.sha256:
        raise ImageError("changed", "the .npy is not the one that the picture was drawn from")
    return _array(data)


def _array(data: bytes) -> np.ndarray:
    head = _HEADER.match(data)
    if head is None or 10 + int.from_bytes(head["length"], "little") != head.end():
        raise ImageError("damaged", "the .npy is none of a map: float32 [h, w] or [h, w, c]")
    shape = tuple(map(int, head["shape"].split(b", ")))
    shape = (*shape, 1)[:3]  # a class activation map has no channels
    if min(shape) < 1 or 4 * shape[0] * shape[1] * shape[2] != len(data) - head.end():
        raise ImageError("damaged", f"the .npy says {list(shape)}, and holds another number of values")
    return np.frombuffer(data, "<f4", offset=head.end()).reshape(shape)
