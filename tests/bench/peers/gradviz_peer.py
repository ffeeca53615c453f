"""gradviz in the steady state. Modes as everywhere, `all` for the three at once; `deconv:given` is --no-scores.

python gradviz_peer.py steady FOLDER           the model in this process, as the worker calls it
python gradviz_peer.py steady FOLDER remote    through the worker process, as the command calls it
"""

import os
import sys

import numpy as np
from common import main

MODES = ("backprop", "deconv", "guided")
GIVEN = 7  # any class will do


def load(folder, mode):
    """The model finds the class (top1) unless the mode says `given`; then it is that of the first image for all of them."""
    name, _, given = mode.partition(":")
    modes = MODES if name == "all" else (name,)
    explain = (_remote if REMOTE else _here)(folder / "saved_model", modes, scores=not given)

    def classes(images):
        return np.zeros(len(images), int) + GIVEN if given else explain(images, -1)[0]

    def gradient(images, classes):
        return explain(images, int(classes[0]) if given else -1)[1]

    return classes, gradient


def _here(path, modes, scores):
    from gradviz_cli.process.protocol import ModelOptions
    from gradviz_cli.worker.model import Model

    model = Model(ModelOptions(str(path), preprocess="raw"), modes)

    def explain(images, target):
        found = model.explain(images, [target], list(modes), scores)
        return found.index[:, 0], found.gradients[0][0]

    return explain


def _remote(path, modes, scores):
    from gradviz_cli.model.remote import RemoteModel
    from gradviz_cli.process.protocol import Explain, ModelOptions

    model = RemoteModel(ModelOptions(path=str(path), preprocess="raw"), modes)
    model.load()

    def explain(images, target):
        rows = list(model.explain(images, Explain((int(target),), tuple(modes), scores)))
        return np.array([row.index[0] for row in rows]), np.stack([row.gradients[modes[0]][0] for row in rows])

    return explain


REMOTE = sys.argv[3:] == ["remote"]
if __name__ == "__main__":
    if not REMOTE:
        from gradviz_cli.process.sandbox.environment import ONEDNN, scrubbed_environment

        # TensorFlow reads it when it is imported.
        os.environ |= {name: value for name, value in scrubbed_environment("").items() if name == ONEDNN}
        import tensorflow  # noqa: F401
    main(load)
