"""What is said of a learned optimizer over all tasks of a suite."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from meta_train.evaluate.baselines import BASELINES, REFERENCE
from meta_train.evaluate.learned import TUNED
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.report.rows import BOOTSTRAP_SEED, estimate_of, estimate_row, estimated
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.scores import (
    diverged_alone,
    final_loss_ratios,
    final_losses,
    speedups,
    steps_to_stay,
)
from meta_train.evaluate.statistics import (
    Estimate,
    Verdict,
    bootstrap,
    estimated_algoperf_scores,
    judge,
    performance_profile,
    probability_of_improvement,
    profile_integral,
)
from meta_train.evaluate.statistics.comparisons import FEWEST
from meta_train.evaluate.store import number

Kept = Sequence[tuple[Mapping[str, Any], TaskResult]]
"""Tasks, as of the report, that are there, and what was measured of them."""

PROFILE = tuple(round(float(t), 3) for t in np.linspace(0.5, 1.5, 41))
"""Ratios at which the performance profile is drawn."""


def aggregate_learned(
    name: str,
    tasks: Sequence[Mapping[str, Any]],
    results: Sequence[TaskResult],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Of all tasks on which both it and the reference are there; the rest is counted as missing.

    ``rows``: of `result_row` for the same tasks.
    """
    there = [name in r.chosen and REFERENCE in r.chosen and bool(r.ways) for r in results]
    kept = [(t, r) for t, r, here in zip(tasks, results, there, strict=True) if here]
    found = _counts(name, tasks, results) | {"tasks": len(kept)}
    if not kept:
        return found
    ratios = [final_loss_ratios(r.scored(name), r.scored(REFERENCE)) for _, r in kept]
    sped, censored = zip(*(speedups(r, name, task["steps"]) for task, r in kept), strict=True)
    judged = [row["learned"][name]["judgement"] for row, i in zip(rows, there, strict=True) if i]
    return {
        **found,
        **_both(ratios, sped),
        **_held_out(name, kept, ratios, sped),
        "speedups_censored": int(np.concatenate(censored).sum()),
        "seeds": min(map(len, ratios)),
        "judgement": _judged(ratios),
        "best_variant": _beside_best_variant(name, kept),
        "wins": judged.count(Verdict.WIN),
        "ties": judged.count(Verdict.TIE),
        "losses": judged.count(Verdict.LOSS),
        "probability_of_improvement": _improvement(name, kept),
        "probability_of_improvement_over_tasks": _over_tasks(
            ratios, partial(probability_of_improvement, *_losses_beside(REFERENCE, name, kept))
        ),
        "profile": _profile(ratios),
    }


def _counts(
    name: str, tasks: Sequence[Mapping[str, Any]], results: Sequence[TaskResult]
) -> dict[str, Any]:
    runs = [result.scored(name) for result in results if name in result.chosen]
    missing = [t for t, r in zip(tasks, results, strict=True) if name not in r.chosen]
    return {
        "tasks_of_suite": len(results),
        "missing_runs": sum(len(task["seeds"]) for task in missing),
        "diverged_runs": sum(int((~np.isfinite(final_losses(curves))).sum()) for curves in runs),
    }


def _held_out(
    name: str, kept: Kept, ratios: Sequence[np.ndarray], sped: Sequence[np.ndarray]
) -> dict[str, Any]:
    """The same of the tasks outside its meta-training, where there are some."""
    shifts = [task["shifts"][name.removesuffix(TUNED)] for task, _ in kept]
    chosen = [i for i, axes in enumerate(shifts) if axes]
    if not chosen:
        return {}
    both = _both([ratios[i] for i in chosen], [sped[i] for i in chosen])
    return {"held_out": {"tasks": len(chosen), **both}}


def _beside_best_variant(name: str, kept: Kept) -> dict[str, Any]:
    """The ratio to the reference with the schedule that is better on the scored seeds, which
    tuning cannot know.
    """
    ratios = [final_loss_ratios(r.scored(name), _best_variant(r)) for _, r in kept]
    return {"final_loss_ratio_iqm": estimate_of(ratios), "judgement": _judged(ratios)}


def _best_variant(result: TaskResult) -> Sequence[Curve]:
    labels = [BASELINES[REFERENCE].label(v) for v in result.tuned[REFERENCE].best]
    means = [final_losses(result.curves[label]).mean() for label in labels]
    return result.curves[labels[int(np.argmin(np.where(np.isfinite(means), means, np.inf)))]]


def _judged(ratios: Sequence[np.ndarray]) -> str:
    """What is to be said of all tasks together, by the rules of one."""
    diverged = sum(map(diverged_alone, ratios))
    return str(judge(estimated(ratios), min(map(len, ratios)), diverged))


def _both(ratios: Sequence[np.ndarray], sped: Sequence[np.ndarray]) -> dict[str, Any]:
    return {
        "final_loss_ratio_iqm": estimate_of(ratios),
        "final_loss_ratio_iqm_over_tasks": _over_tasks(ratios),
        "speedup_iqm": estimate_of(sped),
        "speedup_iqm_over_tasks": _over_tasks(sped),
    }


def _over_tasks(
    strata: Sequence[Any], statistic: Callable[..., Estimate] | None = None
) -> dict[str, float | None] | None:
    """The IQM, or a ``statistic``, with the tasks resampled too; None of fewer tasks than speak for
    others like them.
    """
    if len(strata) < FEWEST:
        return None
    made = statistic or partial(bootstrap, strata)
    return estimate_row(made(seed=BOOTSTRAP_SEED, over_strata=True))


def _profile(ratios: Sequence[np.ndarray]) -> dict[str, Any]:
    """Shares with pointwise intervals, and the integral."""
    shares = performance_profile(ratios, np.asarray(PROFILE), seed=BOOTSTRAP_SEED)
    integral = profile_integral(ratios, PROFILE[0], PROFILE[-1], seed=BOOTSTRAP_SEED)
    return {
        "ratios": list(PROFILE),
        "shares": [number(share.value) for share in shares],
        "low": [number(share.low) for share in shares],
        "high": [number(share.high) for share in shares],
        "integral": estimate_row(integral),
        "integral_over_tasks": _over_tasks(
            ratios, lambda **how: profile_integral(ratios, PROFILE[0], PROFILE[-1], **how)
        ),
    }


def _improvement(name: str, kept: Kept) -> dict[str, dict[str, float | None]]:
    """Over each other contestant, the mean of the tasks on which that is there."""
    found = {}
    others = {other: None for _, result in kept for other in result.chosen if other != name}
    for other in others:
        ours, theirs = _losses_beside(other, name, kept)
        found[other] = estimate_row(probability_of_improvement(ours, theirs, seed=BOOTSTRAP_SEED))
    return found


def _losses_beside(
    other: str, name: str, kept: Kept
) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    """Final losses of ours and of another's on every task that has both."""
    there = [result for _, result in kept if other in result.chosen]
    ours, theirs = ([final_losses(r.scored(c)) for r in there] for c in (name, other))
    return ours, theirs


def algoperf_scores(
    names: Sequence[str], tasks: Sequence[Mapping[str, Any]], results: Sequence[TaskResult]
) -> dict[str, Any]:
    """Of all contestants, on the tasks whose reference is there; a missing run reached nothing."""
    kept = [
        (task["task"], result)
        for task, result in zip(tasks, results, strict=True)
        if REFERENCE in result.chosen
    ]
    if not kept:
        return {"scores": {}, "times": {}}
    times = [np.stack([_times(name, result) for name in names]) for _, result in kept]
    estimated_scores = partial(estimated_algoperf_scores, times, seed=BOOTSTRAP_SEED)
    scores = {"scores": estimated_scores()}
    if len(kept) >= FEWEST:
        scores["scores_over_tasks"] = estimated_scores(over_strata=True)
    return {
        **{
            key: dict(zip(names, map(estimate_row, of_all), strict=True))
            for key, of_all in scores.items()
        },
        "times": {
            name: {
                task: number(float(np.median(own[i])))
                for (task, _), own in zip(kept, times, strict=True)
            }
            for i, name in enumerate(names)
        },
    }


def _times(name: str, result: TaskResult) -> np.ndarray:
    targets = final_losses(result.scored(REFERENCE))
    if name not in result.chosen:
        return np.full(len(targets), np.inf)
    return steps_to_stay(result.scored(name), targets)
