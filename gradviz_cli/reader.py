"""The process that decodes images: a crash or a hang of a decoder costs one image and not the run."""

from __future__ import annotations

import hashlib
import json
import os
import sys

import numpy as np

from gradviz_cli import images, wire
from gradviz_cli.errors import ImageError


def main(argument: str) -> None:
    """Answer `read` requests until the other side closes the pipe."""
    config = json.loads(argument)
    fill = wire.fill_from(config["in"])
    while True:
        try:
            header, _ = wire.receive(fill)
            wire.send(config["out"], *answer(header))
        except wire.Closed:
            return


def answer(request: dict) -> tuple[dict, tuple[np.ndarray, ...]]:
    """Read one image: its size and hash, its pixels as the model input, and with `pixels` the upright image itself."""
    limits = images.Limits(request["max_pixels"], request["max_file_size"])
    try:
        data = images.read_bytes(os.fsencode(request["path"]), limits)
        picture = images.decode(data, limits)
        found = [images.fit(picture, images.Geometry(**request["geometry"]))]
        if request["pixels"]:
            found.append(np.asarray(picture.convert("RGB")))
        return {"size": [picture.height, picture.width], "sha256": hashlib.sha256(data).hexdigest()}, tuple(found)
    except ImageError as error:
        return {"error": {"kind": error.kind, "message": error.message}}, ()
    except MemoryError:
        return {"error": {"kind": "memory", "message": "decoding needs more memory than there is"}}, ()


if __name__ == "__main__":
    main(sys.argv[1])
