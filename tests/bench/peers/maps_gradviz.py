"""gradviz: every estimator, and how far a smoothed map is said to be off; the model in this process, as the worker has it."""

import sys
from pathlib import Path

import numpy as np
from maps import SAMPLES, arguments, baselines, inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gradviz_cli.estimators import ESTIMATORS, Estimation, Method
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model

if __name__ == "__main__":
    folder, out, _ = arguments()
    images = inputs(folder)
    methods = tuple(Method("backprop", name).name for name in ESTIMATORS if ESTIMATORS[name].taps in ("", "cam"))
    model = Model(ModelOptions(str(folder / "saved_model"), preprocess="raw"), methods)
    print(folder.name, model.facts.taps[0].tensors[0], file=sys.stderr)
    found = model.explain(images, [-1], methods, estimation=Estimation(samples=SAMPLES), baselines=baselines(images))
    maps = {}
    for name, each, numbers in zip(methods, found.gradients, found.numbers, strict=True):
        one = ESTIMATORS[Method.of(name).estimator]
        maps[one.name] = each[0] if one.at_input else each[0, ..., 0]
        maps.update({f"{one.name}: {said}": numbers[0, :, place] for place, said in enumerate(one.numbers)})
    np.savez(out, **maps)
