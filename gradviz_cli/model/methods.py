"""What has to be known of methods before their maps are read, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradviz_cli.estimators import Method, estimators_of
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.rules import PLAIN


def odd(methods: Sequence[str], preprocess: str) -> Iterator[str]:
    """What these methods say other than what their names promise, with an input in this range."""
    asked = estimators_of(methods)
    preset = PREPROCESS.get(preprocess)
    if "input-x-gradient" in asked and preset is not None and preset.low == 0 and not preset.mean:
        yield (
            f"input-x-gradient: with --preprocess {preprocess} the number 0 is black and not absent, so dark pixels get no "
            "attribution whatever they do; -e integrated-gradients has a baseline"
        )
    patched = [mode for mode in asked.get("integrated-gradients", ()) if mode != PLAIN]
    if patched:
        name = Method(patched[0], "integrated-gradients").name
        yield (
            f"{name}: the parts do not sum to the difference of the scores, as {patched[0]} is not the gradient; "
            f"-m {PLAIN} settles it"
        )
