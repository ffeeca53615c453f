"""gradviz in the steady state. Modes as everywhere, `all` for the three at once, `deconv:given` with the class given.

python gradviz_peer.py steady FOLDER           the model in this process, as the worker calls it
python gradviz_peer.py steady FOLDER remote    through the worker process, as the command calls it
"""

import sys

from common import main

MODES = ("backprop", "deconv", "guided")


def load(folder, mode):
    """Targets are left to the model (top1) unless the mode says `given`."""
    name, _, given = mode.partition(":")
    modes = MODES if name == "all" else (name,)
    explain = (_remote if REMOTE else _here)(folder / "saved_model", modes)

    def classes(images):
        return explain(images, -1)[0]

    def gradient(images, classes):
        # One call is for one class: it is given where all images of the batch share it, as the first image's.
        return explain(images, int(classes[0]) if given else -1)[1]

    return classes, gradient


def _here(path, modes):
    from gradviz_cli.worker.model import Model, Options

    model = Model(Options(str(path), preprocess="raw", modes=modes))

    def explain(images, target):
        found = model.explain(images, [target], list(modes))
        return found.index[:, 0], found.gradients[0][0]

    return explain


def _remote(path, modes):
    import numpy as np

    from gradviz_cli.plan import ModelOptions
    from gradviz_cli.remote import RemoteModel

    model = RemoteModel(ModelOptions(path=str(path), preprocess="raw"), modes)
    model.load()

    def explain(images, target):
        rows = model.explain(images, [target])
        return np.array([row.index[0] for row in rows]), np.stack(
            [row.gradients[modes[0]][0] for row in rows]
        )

    return explain


REMOTE = sys.argv[3:] == ["remote"]
if __name__ == "__main__":
    if not REMOTE:
        import tensorflow  # noqa: F401
    main(load)
