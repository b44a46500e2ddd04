"""What is said of a learned optimizer over all tasks of a suite."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.learned import TUNED
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.report.rows import BOOTSTRAP_SEED, estimate_of, estimate_row
from meta_train.evaluate.scores import (
    final_loss_ratios,
    final_losses,
    speedups,
    steps_to_targets,
)
from meta_train.evaluate.statistics import (
    Verdict,
    estimated_algoperf_scores,
    performance_profile,
    probability_of_improvement,
    profile_integral,
)
from meta_train.evaluate.statistics.comparisons import FEWEST
from meta_train.evaluate.store import number

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
    runs = [r.curves[r.chosen[name]] for r in results if name in r.chosen]
    found: dict[str, Any] = {
        "tasks": len(kept),
        "tasks_of_suite": len(results),
        "missing_runs": sum(len(t["seeds"]) for t, r in zip(tasks, results, strict=True)
                            if name not in r.chosen),
        "diverged_runs": sum(int((~np.isfinite(final_losses(curves))).sum()) for curves in runs),
    }  # fmt: skip
    if not kept:
        return found
    ours = [result.curves[result.chosen[name]] for _, result in kept]
    theirs = [result.curves[result.chosen[REFERENCE]] for _, result in kept]
    ratios = [final_loss_ratios(x, y) for x, y in zip(ours, theirs, strict=True)]
    sped = [
        speedups(result.ways, final_losses(curves), task["steps"])[0]
        for (task, result), curves in zip(kept, ours, strict=True)
    ]
    found |= _both(ratios, sped)
    saved = name.removesuffix(TUNED)
    shifts = [task["shifts"][saved] for task, _ in kept]
    held_out = [i for i, axes in enumerate(shifts) if axes]
    if held_out:
        held = _both([ratios[i] for i in held_out], [sped[i] for i in held_out])
        found["held_out"] = {"tasks": len(held_out), **held}
    verdicts = [
        row["learned"][name]["judgement"] for row, here in zip(rows, there, strict=True) if here
    ]
    found |= {
        "wins": verdicts.count(Verdict.WIN),
        "ties": verdicts.count(Verdict.TIE),
        "losses": verdicts.count(Verdict.LOSS),
        "probability_of_improvement": _improvement(name, kept),
        "profile": _profile(ratios),
    }
    return found


def _both(ratios: Sequence[np.ndarray], sped: Sequence[np.ndarray]) -> dict[str, Any]:
    return {
        "final_loss_ratio_iqm": estimate_of(ratios),
        "final_loss_ratio_iqm_over_tasks": _over_tasks(ratios),
        "speedup_iqm": estimate_of(sped),
        "speedup_iqm_over_tasks": _over_tasks(sped),
    }


def _over_tasks(strata: Sequence[np.ndarray]) -> dict[str, float | None] | None:
    """None of fewer tasks than speak for others like them."""
    return estimate_of(strata, over_strata=True) if len(strata) >= FEWEST else None


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
    }


def _improvement(
    name: str, kept: Sequence[tuple[Mapping[str, Any], TaskResult]]
) -> dict[str, dict[str, float | None]]:
    """Over each other contestant, the mean of the tasks on which that is there."""
    found = {}
    others = {other: None for _, result in kept for other in result.chosen if other != name}
    for other in others:
        pairs = [
            (final_losses(r.curves[r.chosen[name]]), final_losses(r.curves[r.chosen[other]]))
            for _, r in kept
            if other in r.chosen
        ]
        ours, theirs = zip(*pairs, strict=True)
        found[other] = estimate_row(probability_of_improvement(ours, theirs, seed=BOOTSTRAP_SEED))
    return found


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
    scores = estimated_algoperf_scores(times, seed=BOOTSTRAP_SEED)
    return {
        "scores": dict(zip(names, map(estimate_row, scores), strict=True)),
        "times": {
            name: {
                task: number(float(np.median(own[i])))
                for (task, _), own in zip(kept, times, strict=True)
            }
            for i, name in enumerate(names)
        },
    }


def _times(name: str, result: TaskResult) -> np.ndarray:
    targets = final_losses(result.curves[result.chosen[REFERENCE]])
    if name not in result.chosen:
        return np.full(len(targets), np.inf)
    return steps_to_targets(result.curves[result.chosen[name]], targets)
