"""What exists in the wild, a row each: explained, and equal to an independent gradient; or refused, in so many words.

`python tests/test_wild.py` prints the table.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from reference import difference
from wild import ROWS, Map, Refusal

from gradviz_cli.worker.model import Model, Options

BOUND = 1e-4  # relative L2


def gradient(function, x) -> np.ndarray:
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(tf.cast(function(x), tf.float32))
    return tape.gradient(value, x).numpy()


def measure(folder: Path, want: Map) -> float:
    """Relative L2 distance of the worst mode and image; asserts all else that is due."""
    model = Model(Options(path=str(folder), **{"modes": ("backprop",), **want.options}))
    found = model.explain(want.pixels, [want.target], list(want.modes))
    facts = model.facts
    if want.activations is not None:
        assert (dict(facts.activations), facts.gates) == (dict(want.activations), want.gates)
    for name, value in want.facts.items():
        assert getattr(facts, name) == value, name
    assert len(facts.warnings) == len(want.warnings), facts.warnings
    for fragment, warning in zip(want.warnings, facts.warnings, strict=True):
        assert fragment in warning
    truths = {mode: gradient(want.score(mode), want.wrt(want.pixels)) for mode in want.modes}
    np.testing.assert_allclose(found.score[:, 0], want.score("backprop")(want.wrt(want.pixels)), rtol=1e-3, atol=1e-5)
    if "guided" in truths and "backprop" in truths:  # or the row would not notice an activation that is not patched
        assert difference(truths["guided"], truths["backprop"]) > 1e-2
    distances = [difference(maps[0], truths[mode]) for mode, maps in zip(want.modes, found.gradients, strict=True)]
    return max(distances)


def refusal(folder: Path, want: Refusal) -> str:
    """The words of the error that is due."""
    with pytest.raises(want.error) as caught:
        Model(Options(path=str(folder), **{"modes": want.modes, **want.options}))
    assert type(caught.value) is want.error
    text = str(caught.value)
    for word in want.words:
        assert word in text, text
    assert caught.value.remedy
    return text


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row, tmp_path):
    want = row.build(tmp_path / "model")
    if isinstance(want, Refusal):
        refusal(tmp_path / "model", want)
    else:
        assert measure(tmp_path / "model", want) < BOUND


def main(words) -> None:
    print("| property | result |\n|---|---|")
    for row in ROWS:
        if not any(word in str(row) for word in words or [""]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "model"
            try:
                want = row.build(place)
                if isinstance(want, Map):
                    said = f"explained, {measure(place, want):.1e}"
                else:
                    said = f"{want.error.__name__}: {refusal(place, want)}".replace(folder, "")
            except (Exception, pytest.fail.Exception) as error:
                import traceback
                said = f"FAIL {type(error).__name__}: {str(error)[:1500]}"
                if "-v" in sys.argv: traceback.print_exc()
        print(f"| {row} | {said} |", flush=True)


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word != "-v"])
