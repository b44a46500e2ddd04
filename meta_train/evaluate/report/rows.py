"""Rows of the report: one of each task, and one of each curve."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.scores import diverged_alone, final_loss_ratios, final_losses, speedups
from meta_train.evaluate.statistics import Estimate, bootstrap, judge, weighted_mean
from meta_train.evaluate.statistics.intervals import bootstrap_of_draws
from meta_train.evaluate.store import LOSSES, number

BOOTSTRAP_SEED = 0
RESAMPLES_OF_CURVES = 2_000  # to be drawn


def result_row(
    task: Mapping[str, Any], result: TaskResult, contestants: Sequence[Contestant]
) -> dict[str, Any]:
    """Final losses of everyone, and how each learned optimizer compares."""
    return {
        "task": task["task"],
        "seeds": len(task["seeds"]),
        "chosen": dict(result.chosen),
        "final": {label: final_row(curves) for label, curves in result.curves.items()},
        "learned": {
            contestant.name: learned_row(result, contestant.name, task["steps"])
            for contestant in contestants
            if contestant.learned and contestant.name in result.chosen
        },
    }


def final_row(curves: Sequence[Curve]) -> dict[str, Any]:
    """Of one label: losses at the end, the best on the way, the worst seed, divergences."""
    losses = final_losses(curves)
    diverged = int((~np.isfinite(losses)).sum())
    best = [np.nanmin(np.append(curve.test, np.inf)) for curve in curves]
    mean = (
        Estimate(np.nan, np.nan, np.nan)
        if diverged
        else estimated([losses], statistic=weighted_mean)
    )
    worst = int(np.argmax(np.where(np.isfinite(losses), losses, np.inf)))
    return {
        "test": estimate_row(mean),  # no mean that would hide a divergence
        "outer_validation": number(np.mean([curve.outer_validation[-1] for curve in curves])),
        "train": number(np.mean([curve.train[-1] for curve in curves])),
        "best_test": number(float(np.mean(best))),
        "worst_seed": worst,
        "worst_test": number(losses[worst]),
        "diverged": diverged,
        "runs": {
            split: [number(getattr(curve, split)[-1]) for curve in curves] for split in LOSSES
        },
    }


def learned_row(result: TaskResult, name: str, steps: int) -> dict[str, Any]:
    """A learned optimizer on one task, beside every baseline that is there."""
    ours = result.scored(name)
    ratios = {
        other: final_loss_ratios(ours, result.curves[label])
        for other, label in result.chosen.items()
        if other != name
    }
    estimates = {other: estimated([values]) for other, values in ratios.items()}
    row: dict[str, Any] = {
        "label": result.chosen[name],
        "final_loss_ratio": {other: estimate_row(found) for other, found in estimates.items()},
        "ratios": {other: [number(x) for x in values] for other, values in ratios.items()},
    }
    if REFERENCE in ratios:
        row["judgement"] = str(
            judge(estimates[REFERENCE], len(ours), diverged_alone(ratios[REFERENCE]))
        )
        row["seeds_won"] = int((ratios[REFERENCE] > 1).sum())
    if result.ways:
        found, censored = speedups(result, name, steps)
        row["speedup"] = estimate_of([found])
        row["speedups"] = [number(x) for x in found]
        row["speedups_censored"] = int(censored.sum())
    return row


def curve_rows(task: str, result: TaskResult) -> Iterator[dict[str, Any]]:
    """The mean curves of every label on each split, with 95 % intervals."""
    for label, curves in result.curves.items():
        finite = [curve for curve in curves if np.isfinite(curve.test).all()]
        row = {"task": task, "label": label, "diverged": len(curves) - len(finite)}
        if not finite:
            yield row | {"steps": [], "losses": {}}
            continue
        losses = {split: _mean_curve([getattr(c, split) for c in finite]) for split in LOSSES}
        yield row | {"steps": [int(step) for step in finite[0].steps], "losses": losses}


def _mean_curve(curves: Sequence[np.ndarray]) -> dict[str, list[float | None]]:
    values = np.stack(curves)

    def of_draws(draws: Sequence[np.ndarray], times: np.ndarray) -> np.ndarray:
        del times  # of one stratum
        return values[draws[0]].mean(axis=1)

    points = bootstrap_of_draws(
        [len(values)], of_draws, seed=BOOTSTRAP_SEED, resamples=RESAMPLES_OF_CURVES
    )
    mean, low, high = zip(*points, strict=True)
    return {"mean": numbers(mean), "low": numbers(low), "high": numbers(high)}


def estimated(strata: Sequence[np.ndarray], **how: Any) -> Estimate:
    """`bootstrap` with the seed of reports."""
    return bootstrap(strata, seed=BOOTSTRAP_SEED, **how)


def estimate_of(strata: Sequence[np.ndarray], **how: Any) -> dict[str, float | None]:
    """The interquartile mean of strata and its interval, as JSON."""
    return estimate_row(estimated(strata, **how))


def estimate_row(estimate: Estimate) -> dict[str, float | None]:
    """As JSON."""
    return {name: number(value) for name, value in estimate._asdict().items()}


def numbers(values: Iterable[float]) -> list[float | None]:
    """As JSON."""
    return [number(value) for value in values]
