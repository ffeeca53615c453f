"""gradviz: every estimator that draws nothing, and what it records; the model in this process, as the worker has it."""

import sys
from pathlib import Path

import numpy as np
from maps import SAMPLES, arguments, baselines, inputs, layer_of

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gradviz_cli.estimators import ESTIMATORS, Estimation, Method
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.rules import PLAIN
from gradviz_cli.worker.model import Model

if __name__ == "__main__":
    folder, out, _ = arguments()
    images = inputs(folder)
    kinds = ("", "cam" if layer_of(folder) else "attention")
    names = [name for name, one in ESTIMATORS.items() if one.taps in kinds and "noise" not in one.options]
    methods = tuple(Method("backprop", name).name for name in names)
    model = Model(ModelOptions(str(folder / "saved_model"), preprocess="raw"), methods)
    print(folder.name, model.facts.taps[0].tensors[0], file=sys.stderr)
    found = model.explain(images, [-1], methods, estimation=Estimation(samples=SAMPLES), baselines=baselines(images))
    maps = {}
    for name, each, numbers in zip(methods, found.gradients, found.numbers, strict=True):
        one = ESTIMATORS[Method.of(name).estimator]
        maps[one.name] = each[0] if one.at_input else each[0, ..., 0]
        maps.update({f"{one.name}: {said}": numbers[0, :, place] for place, said in enumerate(one.numbers)})
    if folder.name.endswith("float32"):
        starts, shares = baselines(images), ((np.arange(SAMPLES) + 0.5) / SAMPLES).astype(np.float32)
        points = [b + shares[:, None, None, None] * (x - b) for x, b in zip(images, starts, strict=True)]
        parts = zip(points, found.index[:, 0], strict=True)
        maps["points"] = np.concatenate(
            [model.explain(part, [int(one)], (PLAIN,)).gradients[0][0] for part, one in parts]
        )
    np.savez(out, **maps)
