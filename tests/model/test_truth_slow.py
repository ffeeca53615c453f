"""The three modes on the large networks of keras.applications.

About 2 minutes of processor time, up to 2.5 GB a process. Run with `pytest -m slow tests/model/test_truth_slow.py`.
"""

from __future__ import annotations

import gc

import keras
import pytest
from models import application_case, images
from reference import MODES, attribution, difference

from gradviz_cli import load

# The ReLUs are counted in the block diagrams; the side is about the smallest that the architecture takes.
NETWORKS = [
    application_case("VGG16", {"Relu": 15}, side=32),
    application_case("ResNet50", {"Relu": 49}, side=32),
    application_case("MobileNetV2", {"Relu6": 35}, side=32, gain=5.0),
    application_case("DenseNet121", {"Relu": 121}, side=32),
    application_case("InceptionV3", {"Relu": 94}, side=75),
    application_case("Xception", {"Relu": 35}, side=71),
]


# Random images to choose from: in Xception few are clear of ties, and how many hangs on how the processor rounds.
DRAWN = 256
# With weights so large that caps are reached, float32 is 1e-4 off on bright images whatever the order of adding.
ROUNDED = ("MobileNetV2",)


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_all_modes_are_the_reference(case, tmp_path):
    reference = case.write(tmp_path / "model")
    batch = images(reference, case.shape, of=DRAWN)
    proof = "never" if case.name in ROUNDED else "auto"
    with load(tmp_path / "model", preprocess="raw", proof=proof) as model:
        got = {mode: model.explain(batch, mode=mode) for mode in MODES}
        counted = {kind: tuple(count) for kind, count in model.report.activations.items()}
    for mode in MODES:
        want = attribution(reference(mode), batch)
        assert got[mode].targets.tolist() == want.targets.tolist()
        # One that is nearly 0 is as far off as the numbers that it is the sum of.
        assert got[mode].scores == pytest.approx(want.scores, rel=1e-4, abs=1e-4 * float(abs(want.logits).max()))
        assert difference(got[mode].attribution, want.attribution) < 1e-4, mode
    assert difference(got["guided"].attribution, got["backprop"].attribution) > 1e-2
    assert counted == {kind: (n, n) for kind, n in case.patched.items()}
    del reference
    keras.backend.clear_session()
    gc.collect()
