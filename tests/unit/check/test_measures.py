"""Likeness of maps, against values by hand and formulas written out."""

from __future__ import annotations

import numpy as np
import pytest

from gradviz_cli.check import measures


def fields(seed: int, shape=(12, 9)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=shape), random.normal(size=shape)


def test_cosine_is_of_directions_and_not_of_sizes() -> None:
    one = np.array([[[1.0, 2.0]]])
    assert measures.cosine(one, 3e-200 * one) == pytest.approx(1)
    assert measures.cosine(one, -one) == pytest.approx(-1)
    assert measures.cosine(one, np.array([[[2.0, -1.0]]])) == pytest.approx(0)
    assert measures.cosine(one, 0 * one) == 0


def test_spearman_goes_by_ranks_with_ties_in_the_middle() -> None:
    one = np.array([1.0, 2, 2, 3])
    assert np.allclose(measures._ranks(one), [1, 2.5, 2.5, 4])
    assert measures.spearman(one, np.exp(one)) == pytest.approx(1)
    # Ranks 1 2.5 2.5 4 and 4 3 1 2, less their mean: -1.5 0 0 1.5 and 1.5 .5 -1.5 -.5; their product is -3.
    assert measures.spearman(one, np.array([9.0, 7, 1, 3])) == pytest.approx(-3 / np.sqrt(4.5 * 5))
    assert measures.spearman(one, np.ones(4)) == 0


def test_ssim_is_the_formula_over_every_window() -> None:
    one, other = (np.clip(each, 0, None) for each in fields(3))
    a, b = measures._unit(one), measures._unit(other)
    found = []
    for y in range(a.shape[0] - 6):
        for x in range(a.shape[1] - 6):
            p, q = a[y : y + 7, x : x + 7].ravel(), b[y : y + 7, x : x + 7].ravel()
            (var_p, both), (_, var_q) = np.cov(p, q)
            light = (2 * p.mean() * q.mean() + 1e-4) / (p.mean() ** 2 + q.mean() ** 2 + 1e-4)
            found.append(light * (2 * both + 9e-4) / (var_p + var_q + 9e-4))
    assert measures.ssim(one, other) == pytest.approx(np.mean(found))
    assert measures.ssim(one, 5 * one) == pytest.approx(1), "of any scale"


def test_maps_smaller_than_a_window_are_compared_too() -> None:
    one, other = fields(4, (3, 1))
    assert measures.ssim(one, one) == pytest.approx(1)
    assert np.isfinite(measures.ssim(one, other))


def test_edges_are_where_an_image_changes() -> None:
    image = np.zeros((6, 8, 3))
    image[:, 4:] = 10
    edges = measures.sobel(image)
    assert edges.shape == (6, 8)
    assert np.all(edges[:, 3:5] == 40) and not edges[:, :3].any() and not edges[:, 5:].any()
    assert np.allclose(measures.sobel(image.transpose(1, 0, 2)), edges.T)


def test_opposite_maps_are_alike_and_dead_ones_are_none() -> None:
    one = np.random.default_rng(1).normal(size=(8, 8, 3))
    assert measures.likeness([(one, -one), (one, one)]).cosine == pytest.approx(1)
    assert measures.likeness([]) == measures.Likeness(None, None, None)
    assert measures.alive(one) and not measures.alive(0 * one) and not measures.alive(one * np.nan)
