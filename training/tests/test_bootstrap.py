"""Intervals of cases that are known."""

import numpy as np
import pytest

from ccoe_eval import bootstrap


def test_a_constant_has_no_width():
    estimate = bootstrap.mean(np.full(40, 0.25))
    assert (estimate.value, estimate.low, estimate.high) == (0.25, 0.25, 0.25)


def test_a_coin_has_the_width_of_the_normal_approximation():
    values = np.array([0.0, 1.0] * 100)
    estimate = bootstrap.mean(values)
    half = 1.96 * 0.5 / np.sqrt(200)
    assert estimate.value == 0.5
    assert estimate.low == pytest.approx(0.5 - half, abs=0.01)
    assert estimate.high == pytest.approx(0.5 + half, abs=0.01)


def test_pairing_takes_off_what_both_share():
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2, 200).astype(float)
    same = bootstrap.difference(base, base)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    better = bootstrap.difference(base + 0.1, base)
    assert better.low == pytest.approx(0.1) and better.significant


def test_the_seed_fixes_the_interval():
    values = np.random.default_rng(4).random(50)
    assert bootstrap.mean(values) == bootstrap.mean(values)


def test_ratios_are_of_sums():
    bits, size = np.array([8.0, 24.0]), np.array([8.0, 8.0])
    assert bootstrap.ratio(bits, size).value == 2.0
    halved = bootstrap.reduction(bits, bits / 2)
    assert (halved.value, halved.low, halved.high) == (0.5, 0.5, 0.5)
