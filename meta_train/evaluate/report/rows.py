"""Rows of the report: one of each task, and one of each curve."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.scores import final_loss_ratios, final_losses, speedups
from meta_train.evaluate.statistics import Estimate, bootstrap, judge, weighted_mean
from meta_train.evaluate.statistics.intervals import student_quantile
from meta_train.evaluate.store import LOSSES, number

BOOTSTRAP_SEED = 0


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
        "runs": [number(loss) for loss in losses],
    }


def learned_row(result: TaskResult, name: str, steps: int) -> dict[str, Any]:
    """A learned optimizer on one task, beside every baseline that is there."""
    ours = result.curves[result.chosen[name]]
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
        row["judgement"] = str(judge(estimates[REFERENCE], len(ours)))
        row["seeds_won"] = int((ratios[REFERENCE] > 1).sum())
    if result.ways:
        found, censored = speedups(result.ways, final_losses(ours), steps)
        row["speedup"] = estimate_of([found])
        row["speedups"] = [number(x) for x in found]
        row["speedups_censored"] = int(censored.sum())
    return row


def curve_rows(task: str, result: TaskResult) -> Iterator[dict[str, Any]]:
    """The mean curves of every label, with 95 % intervals of the test loss (Student's)."""
    for label, curves in result.curves.items():
        finite = [curve for curve in curves if np.isfinite(curve.test).all()]
        row = {"task": task, "label": label, "diverged": len(curves) - len(finite)}
        if not finite:
            yield row | {name: [] for name in ("steps", "low", "high", *LOSSES)}
            continue
        test = np.stack([curve.test for curve in finite])
        mean = test.mean(axis=0)
        spread = 0 * mean
        if len(finite) > 1:
            scale = student_quantile(len(finite) - 1) / np.sqrt(len(finite))
            spread = scale * test.std(axis=0, ddof=1)
        yield row | {
            "steps": [int(step) for step in finite[0].steps],
            "test": numbers(mean),
            "low": numbers(mean - spread),
            "high": numbers(mean + spread),
            "outer_validation": numbers(np.mean([c.outer_validation for c in finite], axis=0)),
            "train": numbers(np.mean([c.train for c in finite], axis=0)),
        }


def estimated(strata: Sequence[np.ndarray], **how: Any) -> Estimate:
    """`bootstrap` with the seed of reports."""
    return bootstrap(strata, seed=BOOTSTRAP_SEED, **how)


def estimate_of(strata: Sequence[np.ndarray], **how: Any) -> dict[str, float | None]:
    """The interquartile mean of strata and its interval, as JSON."""
    return estimate_row(estimated(strata, **how))


def estimate_row(estimate: Estimate) -> dict[str, float | None]:
    """As JSON."""
    return {name: number(value) for name, value in estimate._asdict().items()}


def numbers(values: np.ndarray) -> list[float | None]:
    """As JSON."""
    return [number(value) for value in values]
