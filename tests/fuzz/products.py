"""Many random products of matrices with oneDNN on: `python tests/fuzz/products.py --count 500 [--as-it-is] [KIND ...]`.

Each is computed with its gradients, in child processes that may die, and compared with NumPy in float64. Without
--as-it-is they are rewritten first (`passes.products`): then none dies.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
# glibc's own watch over the heap: what was written beyond a block is found when the block is freed.
WATCH = Path("/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
AXES = (1, 1, 2, 3, 5, 13)
SIDES = (1, 2, 3, 4, 7, 16, 33, 50, 64)

Batch = tuple[int, ...]


def joint(draw: np.random.Generator) -> Batch:
    """Half of them one axis of length 1 behind a longer one, as a window or a head alone, where most deaths are."""
    if draw.random() < 0.5:
        return int(draw.integers(2, 20)), 1
    return tuple(int(size) for size in draw.choice(AXES, draw.integers(1, 5)))


def some(draw: np.random.Generator, batch: Batch) -> Batch:
    """What broadcasts to these axes."""
    ones = tuple(1 if draw.random() < 0.5 else size for size in batch)
    return ones[draw.integers(len(ones)) if draw.random() < 0.3 else 0 :]


def _matrix(draw: np.random.Generator) -> tuple[Batch, Batch]:
    return joint(draw), ()


def _left(draw: np.random.Generator) -> tuple[Batch, Batch]:
    return (), joint(draw)


def _ones(draw: np.random.Generator) -> tuple[Batch, Batch]:
    batch = joint(draw)
    return some(draw, batch), some(draw, batch)


def _equal(draw: np.random.Generator) -> tuple[Batch, Batch]:
    batch = joint(draw)
    return batch, batch


# Kind -> the batch axes of both sides, and whether it is written as an Einsum with dots on the first and second side.
KINDS: dict[str, tuple[Callable[[np.random.Generator], tuple[Batch, Batch]], tuple[bool, bool] | None]] = {
    "matrix": (_matrix, None),
    "left": (_left, None),
    "ones": (_ones, None),
    "equal": (_equal, None),
    "dots": (_matrix, (True, False)),
    "dots-left": (_left, (False, True)),
    "two-dots": (_ones, (True, True)),
    "equal-dots": (_equal, (True, True)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"one of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deaths", type=int, default=3, help="after which a kind is left")
    parser.add_argument("--as-it-is", action="store_true", help="leave the products as they are")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        return computed(asked.kinds[0], range(asked.child, asked.seed + asked.count), asked.as_it_is)
    dead = 0
    for kind in asked.kinds or KINDS:
        done, died = campaign(kind, asked.seed, asked.count, asked.deaths, asked.as_it_is)
        dead += len(died)
        print(f"{kind}: {done} products, {len(died)} deaths", *died, flush=True)
    return int(bool(dead))


def campaign(kind: str, seed: int, count: int, most: int = 1, as_it_is: bool = False) -> tuple[int, list[str]]:
    """How many products were computed, and where a child died of it or was wrong."""
    first, died = seed, list[str]()
    while first < seed + count and len(died) < most:
        command = [sys.executable, "-P" if sys.version_info > (3, 11) else "-s", __file__, kind]
        command += ["--seed", str(seed), "--count", str(count), "--child", str(first)]
        returncode, told, said = run(command + ["--as-it-is"] * as_it_is, limit=60 + count)
        begun = [line for line in told.splitlines() if line[:1].isdigit()]
        if returncode == 0:
            return count, died
        if not begun:
            raise RuntimeError(said[-2000:])
        died.append(f"[{begun[-1]}: {returncode} {reason(said)}]")
        first = int(begun[-1].split()[0]) + 1
    return first - seed, died


def run(command: list[str], limit: float) -> tuple[int | str, str, str]:
    """How a child ended, and what it said; one whose heap is broken may also stand still."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", **watched()}
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return "stands still", *((text or b"").decode() for text in (late.stdout, late.stderr))
    return child.returncode, child.stdout, child.stderr


def reason(said: str) -> str:
    """What glibc or this file says last, among what TensorFlow logs."""
    words = ("free", "malloc", "corrupted", "munmap", "wrong", "Error")
    return next((line[:80] for line in reversed(said.splitlines()) if any(word in line for word in words)), "")


def watched() -> dict[str, str]:
    return {"LD_PRELOAD": str(WATCH), "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"} if WATCH.exists() else {}


# -- in the child --------------------------------------------------------------------------------------------------------


def computed(kind: str, seeds: range, as_it_is: bool) -> int:
    """Compute these; says each before it is begun, as nothing is said behind it where it kills."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    for seed in seeds:
        x, y, turned = drawn(kind, seed)
        print(seed, x.shape, y.shape, *turned, flush=True)
        if not right(x, y, turned, KINDS[kind][1], as_it_is):
            raise SystemExit("wrong numbers")
    return 0


def drawn(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[bool, bool]]:
    """Both sides, and which of them is transposed in its product."""
    draw = np.random.default_rng([seed, list(KINDS).index(kind)])
    batches = KINDS[kind][0](draw)
    rows, between, columns = (int(draw.choice(SIDES)) for _ in range(3))
    turned = bool(draw.random() < 0.3), bool(draw.random() < 0.3)
    shapes = zip(batches, ((rows, between), (between, columns)), turned, strict=True)
    x, y = (draw.normal(size=(*batch, *(shape[::-1] if turn else shape))) for batch, shape, turn in shapes)
    return x, y, turned


def right(
    x: np.ndarray, y: np.ndarray, turned: tuple[bool, bool], dots: tuple[bool, bool] | None, as_it_is: bool = False
) -> bool:
    """Whether TensorFlow computes the product and its gradients."""
    found = by_tensorflow(x, y, turned, dots, as_it_is)
    return all(np.allclose(*pair, rtol=1e-3, atol=1e-3) for pair in zip(found, by_hand(x, y, turned), strict=True))


def by_tensorflow(x, y, turned, dots, as_it_is: bool) -> list[np.ndarray]:
    """The product, and the gradients of half of the sum of its squares."""
    import tensorflow as tf  # not in the parent
    from graphs import normal, question

    from gradviz_cli.worker.graph.graph import Graph
    from gradviz_cli.worker.passes.products import without_broadcasts

    with tf.Graph().as_default() as made:
        sides = [tf.compat.v1.placeholder(tf.float32, side.shape, name) for name, side in (("image", x), ("y", y))]
        if dots is None:
            product = tf.raw_ops.BatchMatMulV2(x=sides[0], y=sides[1], adj_x=turned[0], adj_y=turned[1])
        else:
            labels = [text[::-1] if turn else text for text, turn in zip(("ij", "jk"), turned, strict=True)]
            labels = [f"...{text}" if dotted else text for text, dotted in zip(labels, dots, strict=True)]
            product = tf.raw_ops.Einsum(inputs=sides, equation=f"{','.join(labels)}->...ik")
    nodes = {node.name: normal(node) for node in made.as_graph_def().node}
    graph = Graph(nodes, outputs=(product.name, product.name, "image:0"), feeds={"image:0": "image"})
    graph = graph if as_it_is else without_broadcasts(graph, question())
    with tf.Graph().as_default() as made:
        wanted = [graph.score, "image:0", "y:0"]
        score, *sides = tf.graph_util.import_graph_def(graph.graph_def(), return_elements=wanted, name="")
        gradients = tf.gradients(score, sides, score)
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1 + x.shape[-1] % 2)
    with tf.compat.v1.Session(graph=made, config=config) as session:
        for _ in range(2):
            found = session.run([score, *gradients], {"image:0": x, "y:0": y})
    return found


def by_hand(x, y, turned) -> list[np.ndarray]:
    one, other = (np.swapaxes(side, -1, -2) if turn else side for side, turn in zip((x, y), turned, strict=True))
    product = one @ other
    gradients = [product @ np.swapaxes(other, -1, -2), np.swapaxes(one, -1, -2) @ product]
    gradients = [np.swapaxes(one, -1, -2) if turn else one for one, turn in zip(gradients, turned, strict=True)]
    return [product, *(summed(one, side.shape) for one, side in zip(gradients, (x, y), strict=True))]


def summed(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Over the axes that were broadcast."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(tuple(i for i, size in enumerate(shape) if size < gradient.shape[i]), keepdims=True)


if __name__ == "__main__":
    sys.exit(main())
