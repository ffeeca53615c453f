"""The process that decodes images: a crash or a hang of a decoder costs one image and not the run.

It is given bytes and gives back pixels; it needs no file and no network, and gives up both.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from gradviz_cli.process.sandbox import enter

if TYPE_CHECKING:
    from gradviz_cli.process.protocol import Decode, Decoded

FILE_LIMIT = 2**20  # bytes; it writes none


def main(argument: str) -> None:
    """Answer requests until the other side closes the pipe."""
    config = json.loads(argument)
    enter.enter(
        [], config["scratch"], parent=config["parent"], memory_limit=config["memory_limit"], file_limit=FILE_LIMIT
    )
    # Only now Pillow: what follows is bound by the sandbox.
    from gradviz_cli.process import wire

    fill = wire.fill_from(config["in"])
    while True:
        try:
            header, arrays = wire.receive(fill)
            wire.send(config["out"], *answer(header, arrays[0].tobytes()))
        except wire.Closed:
            return


def answer(header: dict, data: bytes) -> tuple[dict, tuple]:
    """One image: its size, its pixels as the model input, and with `pixels` the upright image itself."""
    from gradviz_cli.errors import ImageError
    from gradviz_cli.process.protocol import Decode, Failure, from_wire, to_wire

    try:
        found, arrays = _decoded(from_wire(header, Decode), data)
        return to_wire(found), arrays
    except ImageError as error:
        return to_wire(Failure(error.kind, error.message)), ()
    except MemoryError:
        return to_wire(Failure("memory", "decoding needs more memory than there is")), ()


def _decoded(request: Decode, data: bytes) -> tuple[Decoded, tuple]:
    import numpy as np

    from gradviz_cli.files.reading import Limits
    from gradviz_cli.images.arrays import check_picture, read_array
    from gradviz_cli.images.decode import picture
    from gradviz_cli.images.fit import Geometry, as_rgb, fit
    from gradviz_cli.images.frames import alone
    from gradviz_cli.process.protocol import PICTURE, Decoded

    limits = Limits(request.max_pixels, request.max_file_size)
    shape = request.height, request.width, request.channels
    geometry = Geometry(*shape, request.fit, request.alpha, request.channels_first)
    if request.page is not None:
        data = alone(data, request.page, limits)
    if found := read_array(data, limits, geometry):
        height, width, _ = found.planes.shape
        shown = (as_rgb(found.planes),) if request.pixels else ()
        return Decoded(height, width, found.held), (found.fitted, *shown)
    check_picture(geometry)
    least = max(geometry.height, geometry.width) if request.fast and not request.pixels else None
    image, (height, width), notes = picture(data, limits, least, geometry.alpha)
    fitted = fit(image, geometry)
    if not request.pixels:
        return Decoded(height, width, PICTURE, notes), (fitted,)
    colours = image if image.mode == "RGB" else image.convert("RGB")  # which copies what is RGB
    return Decoded(height, width, PICTURE, notes), (fitted, np.asarray(colours))


if __name__ == "__main__":
    main(sys.argv[1])
