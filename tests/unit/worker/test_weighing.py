"""Products in which one tensor weighs another, in every order of axes: by hand, without a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from graphs import node

from gradviz_cli.worker.analysis.weighing import Weighing, are_weights, weighings

SIZES = {"b": 1, "h": 2, "g": 3, "q": 5, "k": 5, "d": 4, "i": 2, "j": 3, "l": 2, "m": 3}
RANDOM = np.random.default_rng(2)


def einsum(equation: str) -> tuple[Weighing, np.ndarray, np.ndarray]:
    """The first operand of an equation as what weighs the second, and both."""
    terms = equation.partition("->")[0].split(",")
    held = {
        name: RANDOM.uniform(size=[SIZES[one] for one in term]) for name, term in zip(("a", "v"), terms, strict=True)
    }
    found = next(weighings(node("product", "Einsum", "a", "v", equation=equation), held))
    return found, held["a"], held["v"]


EQUATIONS = ["bhqk,bkhd->bqhd", "bqkh,bkhd->bqhd", "bkhq,bhkd->bhqd", "hbkq,bkhd->bqhd", "bhqk,bkd->bqhd", "qk,kd->dq"]


@pytest.mark.parametrize("equation", [*EQUATIONS, "bghqk,bkgd->bqghd", "bhijlm,blmhd->bijhd", "blhmij,blmhd->bijhd"])
def test_weights_to_itself_give_each_place_its_own_number(equation: str) -> None:
    one, _, values = einsum(equation)
    terms, _, result = equation.partition("->")
    theirs = terms.split(",")[1]
    mixed = np.einsum(equation, one.to_itself(), values)
    own = {"k": "q", "l": "i", "m": "j"}
    moved = "".join(own.get(letter, letter) for letter in theirs)
    shared = "".join(letter for letter in result if letter not in moved)  # heads that share their values
    want = np.einsum(f"{moved},{shared}->{result}", values, np.ones([SIZES[letter] for letter in shared]))
    assert np.array_equal(mixed, want)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_turned_weights_have_what_attends_and_what_is_attended_to_last(equation: str) -> None:
    one, weights, values = einsum(equation)
    letters = equation.partition(",")[0]
    assert "".join(letters[axis] for axis in one.turn)[-2:] == "qk"
    changed = values.copy()
    np.moveaxis(changed, equation.partition("->")[0].split(",")[1].index("k"), 0)[3] += 1
    assert np.flatnonzero(one.changes(values, changed)).tolist() == [3]


def of_matrices(first: bool, second: bool) -> Iterator[Weighing]:
    sides = [(5, 4) if first else (4, 5), (3, 5) if second else (5, 3)]
    held = {name: np.ones((2, *side)) for name, side in zip("av", sides, strict=True)}
    return weighings(node("product", "BatchMatMulV2", "a", "v", adj_x=first, adj_y=second), held)


@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False), (True, True)])
def test_each_operand_of_a_product_of_matrices_may_weigh_the_other(first: bool, second: bool) -> None:
    one, other = of_matrices(first, second)
    assert (one.weights, one.values, one.summed, one.over) == ("a", "v", (1 if first else 2,), (2 if second else 1,))
    assert (other.weights, other.values, other.summed, other.over) == ("v", "a", one.over, one.summed)
    assert one.keys == 5 and one.sums == 4 and one.queries == ()


def test_weights_sum_to_one_along_what_is_summed_and_nowhere_else() -> None:
    one, weights, _ = einsum("bqkh,bkhd->bqhd")
    assert are_weights(one, tf.nn.softmax(weights, axis=2).numpy())
    assert not are_weights(one, tf.nn.softmax(weights, axis=1).numpy())
    assert not are_weights(one, tf.nn.softmax(weights, axis=2).numpy() * 1.01)
    assert not are_weights(one, tf.nn.softmax(weights, axis=2).numpy() * 6 - 1)


def test_an_ellipsis_stands_for_the_axes_that_both_have() -> None:
    held = {"a": np.ones((2, 3, 5, 5)), "v": np.ones((3, 5, 4))}
    one, _ = weighings(node("product", "Einsum", "a", "v", equation="...qk,...kd->...qd"), held)
    assert (one.free, one.queries, one.summed, one.over) == ((0, 2), (2,), (3,), (1,))
