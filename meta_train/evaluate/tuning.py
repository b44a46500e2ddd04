"""Tuning a contestant: every rate of every variant, on seeds that are never scored.

All contestants get the same rates, variants of the same number, and the same seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.running import Run
from meta_train.evaluate.runs import RunSpec
from meta_train.evaluate.store import number

FIRST_TUNING_SEED = 1_000_000
WIDER_BY = 3  # rates, beyond an edge that is best
MOST_WIDENINGS = 3


class Grid(NamedTuple):
    """The rates to begin with, evenly spaced in their logarithm, and the number of seeds."""

    rates: tuple[float, ...]
    seeds: int


class Tuned(NamedTuple):
    """What the tuning of one contestant on one task found.

    ``best``: {variant: (rate, loss)}; ``chosen``: the variant of the lowest loss; ``step``: the
    ratio of neighbouring rates; ``ledger``: all of it as JSON values, with grid, seeds and cost.
    """

    best: Mapping[str, tuple[float, float]]
    chosen: str
    step: float
    ledger: Mapping[str, Any]


def rates_of(per_decade: int, lowest: int, highest: int) -> tuple[float, ...]:
    """10^lowest … 10^highest, so many in a decade."""
    exponents = np.linspace(lowest, highest, (highest - lowest) * per_decade + 1)
    return tuple(float(f"{10**exponent:.6g}") for exponent in exponents)


def tune(run: Run, contestant: Contestant, *, steps: int, grid: Grid) -> Tuned:
    """The rate of each variant whose mean final loss on ``outer_validation`` is lowest.

    Where the best rate of a variant is on an edge of the grid, the grid of all of them is
    widened beyond it, three rates at a time and at most three times; what then still is on the
    edge is flagged.
    """
    rates, step = list(grid.rates), grid.rates[1] / grid.rates[0]
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + grid.seeds)
    variants = list(contestant.variants)
    losses: dict[tuple[str, float], float] = {}
    for widening in range(1 + MOST_WIDENINGS):
        missing = [(v, r) for v in variants for r in rates if (v, r) not in losses]
        losses |= _losses(run, contestant, f"tuning{widening}", missing, steps, seeds)
        best = {v: _best_rate(losses, v) for v in variants}
        below, above = min(best.values()) == rates[0], max(best.values()) == rates[-1]
        if not (below or above):
            break
        if widening < MOST_WIDENINGS:
            rates = _widened(rates, step, below, above)
    chosen = min(variants, key=lambda v: losses[v, best[v]])
    ledger = {
        "contestant": contestant.name,
        "steps": steps,
        "rates": rates,
        "variants": variants,
        "tuning_seeds": list(seeds),
        "trials": len(losses),
        "inner_steps": len(losses) * grid.seeds * steps,
        "best": {v: {"learning_rate": best[v], "loss": number(losses[v, best[v]])} for v in best},
        "chosen": chosen,
        "widened": widening,
        "on_edge": [v for v in variants if best[v] in (rates[0], rates[-1])],
        "losses": {v: [number(losses[v, rate]) for rate in rates] for v in variants},
    }
    return Tuned({v: (best[v], losses[v, best[v]]) for v in variants}, chosen, step, ledger)


def _widened(rates: Sequence[float], step: float, below: bool, above: bool) -> list[float]:
    lower = [_rounded(rates[0] / step**i) for i in range(WIDER_BY, 0, -1)] if below else []
    higher = [_rounded(rates[-1] * step**i) for i in range(1, WIDER_BY + 1)] if above else []
    return [*lower, *rates, *higher]


def _rounded(rate: float) -> float:
    return float(f"{rate:.6g}")


def _losses(
    run: Run,
    contestant: Contestant,
    role: str,
    trials: Sequence[tuple[str, float]],
    steps: int,
    seeds: Sequence[int],
) -> dict[tuple[str, float], float]:
    """Mean final loss of every trial; infinite where a run of it diverged."""
    specs = [
        RunSpec(seed, contestant.settings(variant, rate, steps), steps, curve=False)
        for variant, rate in trials
        for seed in seeds
    ]
    final = [curve.outer_validation[-1] for curve in run(contestant, role, specs)]
    means = np.reshape(final, (len(trials), len(seeds))).mean(axis=1)
    means = np.where(np.isfinite(means), means, np.inf)
    return dict(zip(trials, map(float, means), strict=True))


def _best_rate(losses: Mapping[tuple[str, float], float], variant: str) -> float:
    """The rate of the lowest loss; the smallest of them where several are lowest."""
    rates = sorted(rate for name, rate in losses if name == variant)
    return min(rates, key=lambda rate: losses[variant, rate])
