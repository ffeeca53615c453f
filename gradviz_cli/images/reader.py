"""The process that decodes images: a crash or a hang of a decoder costs one image and not the run.

It is given bytes and gives back pixels; it needs no file and no network, and gives up both.
"""

from __future__ import annotations

import json
import sys

from gradviz_cli.process.sandbox import enter

# Far more than the largest image within the default limits needs; a decoder that wants more is being fooled.
MEMORY_LIMIT = 4 * 2**30


def main(argument: str) -> None:
    """Answer requests until the other side closes the pipe."""
    config = json.loads(argument)
    enter.enter([], config["scratch"], parent=config["parent"], memory_limit=MEMORY_LIMIT)
    # Only now Pillow: what follows is bound by the sandbox.
    from gradviz_cli.process import wire

    fill = wire.fill_from(config["in"])
    while True:
        try:
            header, arrays = wire.receive(fill)
            wire.send(config["out"], *answer(header, arrays[0].tobytes()))
        except wire.Closed:
            return


def answer(request: dict, data: bytes) -> tuple[dict, tuple]:
    """One image: its size, its pixels as the model input, and with `pixels` the upright image itself."""
    import numpy as np

    from gradviz_cli.errors import ImageError
    from gradviz_cli.files.reading import Limits
    from gradviz_cli.images import decode
    from gradviz_cli.images.fit import Geometry, fit

    try:
        limits, geometry = Limits(**request["limits"]), Geometry(**request["geometry"])
        if request["fast"] and not request["pixels"]:
            picture, size = decode.decode_small(data, limits, max(geometry.height, geometry.width))
        else:
            picture = decode.decode(data, limits)
            size = picture.height, picture.width
        found = [fit(picture, geometry)]
        if request["pixels"]:
            found.append(np.asarray(picture.convert("RGB")))
        return {"size": list(size)}, tuple(found)
    except ImageError as error:
        return {"error": {"kind": error.kind, "message": error.message}}, ()
    except MemoryError:
        return {"error": {"kind": "memory", "message": "decoding needs more memory than there is"}}, ()


if __name__ == "__main__":
    main(sys.argv[1])
