"""Percentile bootstrap intervals, paired by resampling items. Pure functions of values and seed."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 1
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float
    items: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0.0 or self.high < 0.0


def draws(items: int, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """[resamples, items]: which items each resample holds."""
    return np.random.default_rng(seed).integers(0, items, size=(resamples, items))


def _estimate(value: float, resampled: Values, items: int) -> Estimate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high), items)


def mean(values: Values) -> Estimate:
    return _estimate(values.mean(), values[draws(len(values))].mean(axis=1), len(values))


def difference(one: Values, other: Values) -> Estimate:
    """Of the means, one - other; one[i] and other[i] are of the same item."""
    return mean(one - other)


def ratio(numerator: Values, denominator: Values) -> Estimate:
    """Of the sums."""
    chosen = draws(len(numerator))
    resampled = numerator[chosen].sum(axis=1) / denominator[chosen].sum(axis=1)
    return _estimate(numerator.sum() / denominator.sum(), resampled, len(numerator))


def reduction(before: Values, after: Values) -> Estimate:
    """The share by which the sum of `after` is lower than that of `before`."""
    chosen = draws(len(before))
    resampled = 1.0 - after[chosen].sum(axis=1) / before[chosen].sum(axis=1)
    return _estimate(1.0 - after.sum() / before.sum(), resampled, len(before))
