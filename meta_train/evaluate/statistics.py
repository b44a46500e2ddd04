"""Robust means and their intervals.

Interquartile mean and stratified bootstrap: Agarwal et al. 2021, arXiv:2108.13264.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def interquartile_mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of the middle half of the last axis, by weight. Shapes: [..., n], [n] → [...].

    A value that lies across a quartile counts with the share of its weight inside.
    """
    values = np.asarray(values, float)
    n = values.shape[-1]
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    share = weights[order] / weights.sum()
    above = np.cumsum(share, axis=-1)
    inside = np.clip(np.minimum(above, 0.75) - np.maximum(above - share, 0.25), 0, None)
    counted = np.where(inside > 0, ordered, 0)  # an infinity outside the middle half is nothing
    return (inside * counted).sum(axis=-1) / inside.sum(axis=-1)


def bootstrap(
    strata: Sequence[np.ndarray],
    *,
    seed: int,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray] = interquartile_mean,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic of pooled strata with its stratified-bootstrap interval (percentile).

    Every stratum (the seeds of a task) is resampled within itself and weighs as much as
    any other. The interval is widened by √(n/(n−1)), n the size of the smallest stratum,
    which the bootstrap's spread falls short of.

    Args:
      strata: values of each stratum, [n_i], all finite.
      seed: of the resampling.
      statistic: of values [..., n] and weights [n].
      resamples: number of bootstrap samples.
    """
    strata = [np.asarray(stratum, float) for stratum in strata]
    weights = np.concatenate([np.full(len(s), 1 / len(s)) for s in strata])
    value = float(statistic(np.concatenate(strata), weights))
    random = np.random.default_rng(seed)
    drawn = [s[random.integers(0, len(s), (resamples, len(s)))] for s in strata]
    samples = statistic(np.concatenate(drawn, axis=1), weights)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    smallest = min(map(len, strata))
    wider = np.sqrt(smallest / (smallest - 1)) if smallest > 1 else 1.0
    return Estimate(value, value - wider * (value - low), value + wider * (high - value))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the last axis. Shapes: [..., n], [n] → [...]."""
    return np.asarray(values) @ (weights / weights.sum())
