"""Many random programs: `python tests/fuzz/run.py --count 2000 --seed 0 --time 600` prints what came of them.

`--minimise` prints the smallest program like each that is wrong, miscounted or crashed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "cases")]

from fuzz.grammar import program  # noqa: E402
from fuzz.judge import Verdict, judged, minimised  # noqa: E402

FAULTS = ("wrong", "crashed", "miscounted", "warned", "unwritten")
# Why a model of the grammar may be refused, in words of the message: nothing yet.
REASONS: tuple[str, ...] = ()


def verdict(seed: int) -> Verdict:
    try:
        return judged(program(seed))
    except Exception as error:  # the fuzzer's own fault: a program that cannot be written
        return Verdict("unwritten", f"{type(error).__name__}: {str(error)[:200]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time", type=float, default=float("inf"), help="seconds after which no other is begun")
    parser.add_argument("--minimise", action="store_true")
    asked = parser.parse_args()
    began, found = time.monotonic(), defaultdict(list)
    for seed in range(asked.seed, asked.seed + asked.count):
        if time.monotonic() - began > asked.time:
            break
        result = verdict(seed)
        found[result.kind].append((seed, result.detail))
        if result.kind != "equal":
            print(f"{seed} {program(seed).writer}: {result.kind}: {result.detail}", flush=True)
    print(f"\n{sum(map(len, found.values()))} programs in {time.monotonic() - began:.0f} s")
    for kind, rows in sorted(found.items()):
        if kind not in ("refused", "warned"):
            print(f"{kind}: {len(rows)}", *([] if kind == "equal" else [seed for seed, _ in rows]))
            continue
        for reason in sorted({detail for _, detail in rows}):
            seeds = [seed for seed, detail in rows if detail == reason]
            print(f"{kind}: {len(seeds)}", *seeds, f"({reason})")
    if asked.minimise:
        for kind in FAULTS[:-1]:
            for seed, _ in found[kind]:
                print(f"\n{seed}, {kind}:\n{minimised(program(seed), kind)!r}", flush=True)
    return any(found[kind] for kind in FAULTS)


if __name__ == "__main__":
    sys.exit(main())
