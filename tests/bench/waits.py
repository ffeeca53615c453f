"""Who waits for whom in a run of `gradviz explain`: `python waits.py MODEL IMAGES... [OPTION...]`, told as one JSON line.

The stages of the pipeline are timed from outside, in a run like any other.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections import defaultdict

START = time.perf_counter()

from gradviz_cli import cli  # noqa: E402
from gradviz_cli.batch import pipeline, publisher, stages  # noqa: E402
from gradviz_cli.draw import pictures  # noqa: E402
from gradviz_cli.files import whole  # noqa: E402

SPANS: dict[str, list[tuple[float, float]]] = defaultdict(list)
PROCESSES: dict[str, float] = defaultdict(float)


def timed(owner, name: str, label: str) -> None:
    """Let a function note when it was at work."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*given, **named):
        start = time.perf_counter() - START
        try:
            return inner(*given, **named)
        finally:
            SPANS[label].append((start, time.perf_counter() - START))

    setattr(owner, name, outer)


def note_processes(explainer) -> None:
    """Processor seconds of the children, before they are ended."""
    children = {
        "decoders": explainer._decoders._children,
        "worker": [explainer._model._child] if explainer._model._child else [],
    }
    for label, each in children.items():
        for child in each:
            with open(f"/proc/{child.pid}/stat") as file:
                words = file.read().rsplit(")", 1)[1].split()
            PROCESSES[label] += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def told() -> dict:
    """Milestones, busy seconds by stage and process, and how long the worker stood still between its batches."""
    load, calls, total = SPANS["load"], SPANS["explain"], time.perf_counter() - START
    gaps = [later[0] - earlier[1] for earlier, later in zip(calls, calls[1:], strict=False)]
    return {
        "total": total,
        "worker asked to load": load[0][0],
        "model loaded": load[0][1],
        "first batch begins": calls[0][0],
        "first batch": calls[0][1] - calls[0][0],
        "other batches, mean": (calls[-1][1] - calls[0][1] - sum(gaps)) / max(1, len(calls) - 1),
        "worker stood still between batches": sum(gaps),
        "after the last batch": total - calls[-1][1],
        "images read when the model was loaded": sum(end < load[0][1] for _, end in SPANS["read"]),
        "busy": {label: sum(end - start for start, end in spans) for label, spans in SPANS.items()},
        "processor": {"command": sum(os.times()[:2]), **PROCESSES},
    }


def main() -> int:
    timed(stages.Differentiator, "_load", "load")
    timed(stages.Reader, "_prepare", "read")
    timed(stages.Decoding, "source", "of it in decoders")
    timed(stages.Differentiator, "_attributions", "explain")
    timed(stages.Drawer, "_draw", "draw")
    timed(pictures, "unfit", "of it resampling")
    timed(pictures, "encode_png", "of it encoding")
    timed(whole, "stage", "of it writing")
    timed(publisher.Publisher, "_publish", "publish")
    timed(publisher.Publisher, "_ready", "of it syncing")
    close = pipeline.Pipeline.close

    def closing(stopped, *given):
        note_processes(stopped.explainer)
        close(stopped, *given)

    pipeline.Pipeline.close = closing
    code = cli.main(["explain", *sys.argv[1:]])
    print(json.dumps(told()))
    return code


if __name__ == "__main__":
    sys.exit(main())
