"""Robust means and their intervals.

Interquartile mean and stratified bootstrap: Agarwal et al. 2021, arXiv:2108.13264. A percentile
bootstrap is too narrow for few values: its spread is that of the sample, √((n−1)/n) of what it
estimates, and normal where Student's is meant. So its percentiles are those further out (Hesterberg
2015, arXiv:1411.5279, "expanded percentile interval"):

    α/2 = Φ(−√(n / (n − 1)) · t_d),    d = Σ (n_i − 1)

n the size of the smallest stratum, t_d the 97.5 % quantile of Student's distribution with d degrees
of freedom. The interval stays within what resamples can be: that of a ratio is never negative.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
Z = 1.959963985
AT_ONCE = 1 << 24  # numbers, of resamples that are in memory together

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
StatisticOfDraws = Callable[[Sequence[np.ndarray], np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def interquartile_mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of the middle half of the last axis, by weight. Shapes: [..., n], [n] → [...].

    A value that lies across a quartile counts with the share of its weight inside. ``weights``
    may have the shape of ``values`` too.
    """
    values = np.asarray(values, float)
    weights = np.ones(values.shape[-1]) if weights is None else np.asarray(weights, float)
    weights = np.broadcast_to(weights, values.shape)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    share = np.take_along_axis(weights, order, axis=-1) / weights.sum(axis=-1, keepdims=True)
    above = np.cumsum(share, axis=-1)
    inside = np.clip(np.minimum(above, 0.75) - np.maximum(above - share, 0.25), 0, None)
    counted = np.where(inside > 0, ordered, 0)  # an infinity outside the middle half is nothing
    return (inside * counted).sum(axis=-1) / inside.sum(axis=-1)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the last axis. Shapes: [..., n], [n] or [..., n] → [...]."""
    weights = np.broadcast_to(weights, np.shape(values))
    return (np.asarray(values) * weights).sum(axis=-1) / weights.sum(axis=-1)


def bootstrap(
    strata: Sequence[np.ndarray],
    *,
    seed: int,
    statistic: Statistic = interquartile_mean,
    resamples: int = RESAMPLES,
    over_strata: bool = False,
) -> Estimate:
    """A statistic of pooled strata with its interval, as of `bootstrap_of_draws`.

    Args:
      strata: values of each stratum (the seeds of a task), [n_i], all finite; every stratum weighs
        as much as any other.
      seed, resamples, over_strata: as there.
      statistic: of values [..., n] and weights [..., n].
    """
    strata = [np.asarray(stratum, float) for stratum in strata]
    sizes = [len(stratum) for stratum in strata]

    def of_draws(draws: Sequence[np.ndarray], times: np.ndarray) -> np.ndarray:
        drawn = [stratum[draw] for stratum, draw in zip(strata, draws, strict=True)]
        weights = np.repeat(times / np.asarray(sizes), sizes, axis=1)
        return statistic(np.concatenate(drawn, axis=1), weights)[:, None]

    (estimate,) = bootstrap_of_draws(
        sizes, of_draws, seed=seed, resamples=resamples, over_strata=over_strata
    )
    return estimate


def bootstrap_of_draws(
    sizes: Sequence[int],
    statistic: StatisticOfDraws,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    over_strata: bool = False,
) -> list[Estimate]:
    """K statistics with their stratified-bootstrap intervals (expanded percentile).

    Every stratum is resampled within itself. With ``over_strata`` the strata are drawn with
    replacement too: the interval is then of tasks like these, not of these.

    Args:
      sizes: of the strata: n_i.
      statistic: of the places drawn of each stratum, [R, n_i], and of how often each stratum
        counts, [R, strata]; its values are [R, K].
      seed: of the resampling.
      resamples: number of bootstrap samples.
      over_strata: see above.

    With one value in a stratum nothing is known of the spread: low and high are infinite. With two
    to four of one stratum it cannot reach far enough: it covers 51, 75 and 88 % of the time.
    """
    once = np.ones((1, len(sizes)))
    values = [float(x) for x in statistic([np.arange(size)[None] for size in sizes], once)[0]]
    if (len(sizes) if over_strata else min(sizes)) == 1:
        return [Estimate(value, -math.inf, math.inf) for value in values]
    random = np.random.default_rng(seed)
    samples = []
    each = max(1, AT_ONCE // max(sum(sizes), max(sizes) ** 2))
    for first in range(0, resamples, each):
        count = min(each, resamples - first)
        draws = [random.integers(0, size, (count, size)) for size in sizes]
        times = np.broadcast_to(once, (count, len(sizes)))
        if over_strata:
            times = random.multinomial(len(sizes), once[0] / len(sizes), count).astype(float)
        samples.append(statistic(draws, times))
    outside = outside_of(sizes, over_strata)
    ends = np.quantile(np.concatenate(samples), [outside, 1 - outside], axis=0)
    return [
        Estimate(value, min(float(low), value), max(float(high), value))
        for value, low, high in zip(values, *ends, strict=True)
    ]


def outside_of(sizes: Sequence[int], over_strata: bool = False) -> float:
    """α/2 at the top of this file, of strata of these sizes; of the strata themselves where they
    are drawn.
    """
    if over_strata:
        n, freedom = len(sizes), len(sizes) - 1
    else:
        n, freedom = min(sizes), sum(size - 1 for size in sizes)
    x = math.sqrt(n / (n - 1)) * student_quantile(freedom)
    return 0.5 * math.erfc(x / math.sqrt(2))


def student_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's distribution: exact for one and two degrees of freedom, else
    Cornish–Fisher's series in 1/d (Abramowitz & Stegun 26.7.5), to 0.2 % from three on.
    """
    if freedom == 1:
        return 12.706204736
    if freedom == 2:
        return 4.302652730
    z, d = Z, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / d**i for i, term in enumerate(terms, 1))
