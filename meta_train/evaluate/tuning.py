"""Tuning a baseline: every rate × schedule on seeds that are never scored."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from meta_train.evaluate.baselines import SCHEDULES, hyperparameters
from meta_train.evaluate.runs import RunSpec, Trainer

RATES = tuple(float(rate) for rate in 10.0 ** np.linspace(-5, 0, 16))  # thirds of decades
FIRST_TUNING_SEED = 1_000_000
WIDER_BY = 3  # rates, beyond an edge that is best
MOST_WIDENINGS = 3


class Tuned(NamedTuple):
    """What the tuning of one baseline on one task found.

    ``best``: {schedule: (rate, loss)}; ``chosen``: the schedule of the lower loss;
    ``ledger``: all of it as JSON values, with the grid, the seeds and the cost.
    """

    best: dict[str, tuple[float, float]]
    chosen: str
    ledger: dict[str, Any]


def tune(trainer: Trainer, *, baseline: str, steps: int, seeds: int) -> Tuned:
    """The rate of each schedule whose mean final loss on ``outer_validation`` is lowest.

    Where the best rate is on an edge of the grid, the grid is widened beyond it, three
    rates at a time and at most three times; a rate that still is on the edge is flagged.
    """
    rates = list(RATES)
    losses: dict[tuple[str, float], float] = {}
    for _ in range(1 + MOST_WIDENINGS):
        missing = [(s, r) for s in SCHEDULES for r in rates if (s, r) not in losses]
        losses |= _losses(trainer, missing, steps, seeds)
        best = {s: _best_rate(losses, s) for s in SCHEDULES}
        step = rates[1] / rates[0]
        below = min(best.values()) == rates[0]
        above = max(best.values()) == rates[-1]
        if not (below or above):
            break
        rates = (
            [rates[0] / step**i for i in range(WIDER_BY, 0, -1)] * below
            + rates
            + [rates[-1] * step**i for i in range(1, WIDER_BY + 1)] * above
        )
    tried = sorted({rate for _, rate in losses})
    chosen = min(SCHEDULES, key=lambda s: losses[s, best[s]])
    trials = len(losses)
    ledger = {
        "baseline": baseline,
        "steps": steps,
        "rates": tried,
        "schedules": list(SCHEDULES),
        "tuning_seeds": list(_seeds(seeds)),
        "trials": trials,
        "inner_steps": trials * seeds * steps,
        "best": {s: {"learning_rate": best[s], "loss": _json(losses[s, best[s]])} for s in best},
        "chosen": chosen,
        "on_edge": any(best[s] in (tried[0], tried[-1]) for s in SCHEDULES),
        "losses": {s: [_json(losses[s, rate]) for rate in tried] for s in SCHEDULES},
    }
    return Tuned({s: (best[s], losses[s, best[s]]) for s in SCHEDULES}, chosen, ledger)


def _losses(
    trainer: Trainer, trials: Sequence[tuple[str, float]], steps: int, seeds: int
) -> dict[tuple[str, float], float]:
    """Mean final loss of every trial; infinite where a run of it diverged."""
    specs = [
        RunSpec(seed, as_arrays(hyperparameters(rate, schedule, steps)), steps)
        for schedule, rate in trials
        for seed in _seeds(seeds)
    ]
    final = [curve.outer_validation[-1] for curve in trainer.train(specs)]
    means = np.reshape(final, (len(trials), seeds)).mean(axis=1)
    means = np.where(np.isfinite(means), means, np.inf)
    return dict(zip(trials, map(float, means), strict=True))


def as_arrays(theta: dict[str, float]) -> dict[str, np.ndarray]:
    """Hyperparameters as the float32 scalars that a trainer takes."""
    return {name: np.asarray(value, np.float32) for name, value in theta.items()}


def _best_rate(losses: dict[tuple[str, float], float], schedule: str) -> float:
    """The rate of the lowest loss; the smallest of them where several are lowest."""
    rates = sorted(rate for name, rate in losses if name == schedule)
    return min(rates, key=lambda rate: losses[schedule, rate])


def _seeds(count: int) -> range:
    return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + count)


def _json(value: float) -> float | None:
    return value if np.isfinite(value) else None
