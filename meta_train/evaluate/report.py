"""From what was measured to the report as data: JSON values, and nothing drawn yet."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from learned_opt import OptimizerFormatError, PortableOptimizer
from meta_train.evaluate.baselines import BASELINES, SCHEDULES
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.scoring import (
    LEARNED,
    LONGEST,
    REFERENCE,
    TaskResult,
    final_loss_ratios,
    final_losses,
)
from meta_train.evaluate.statistics import Estimate, bootstrap, weighted_mean
from meta_train.runtime import provenance
from tasks import TaskFamily, family_facts

BOOTSTRAP_SEED = 0
NOTES = (
    "Final loss: test loss at the end of the horizon. Ratio: the tuned baseline's final loss ÷ the "
    "learned optimizer's on the same seed (above 1 is better); a diverged run of the learned "
    "optimizer counts 0, one of the baseline counts with the loss it started from.",
    "Speed-up: steps that tuned Adam needs to reach the learned optimizer's final loss ÷ the "
    f"horizon; where Adam did not get there in {LONGEST:g} horizons it counts {LONGEST:g}.",
    "Baselines are tuned on seeds that are not scored, by their loss on the outer-validation "
    "split. Intervals are 95 % bootstrap intervals over seeds; IQM is the mean of the middle half.",
)


AXES = ("domain", "architecture", "activation", "data", "widths", "batch_size")
"""What a task can lie outside meta-training in, beside its horizon."""


class Envelope(NamedTuple):
    """What an optimizer has met: its tasks by `AXES`, and the bounds of its horizons."""

    tasks: Sequence[Mapping[str, Any]]
    horizons: tuple[float, float]


def read_envelope(optimizer: PortableOptimizer) -> Envelope:
    """The envelope in a manifest; of one that says nothing of it, an empty one.

    Raises:
      OptimizerFormatError: the manifest's ``meta_training`` cannot be read so.
    """
    met = optimizer.manifest["meta_training"]
    tasks, horizons = met.get("tasks", []), met.get("horizons", (0, 0))
    if not (isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks)):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.tasks`={tasks!r}: must be a list of objects with "
            f"{', '.join(AXES)}"
        )
    pair = isinstance(horizons, list | tuple) and len(horizons) == 2
    if not (pair and all(isinstance(steps, int | float) for steps in horizons)):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.horizons`={horizons!r}: must be two numbers of inner "
            "steps, the shortest and the longest"
        )
    return Envelope(tasks, tuple(horizons))


def make_report(
    optimizer: PortableOptimizer,
    source: str,
    suite: str,
    results: Sequence[tuple[TaskFamily, TaskResult]],
) -> dict[str, Any]:
    """The report: keys ``provenance``, ``tasks``, ``baselines``, ``runs``, ``aggregates``."""
    envelope = read_envelope(optimizer)
    tasks = [_task_row(family, result, envelope) for family, result in results]
    return {
        "provenance": {
            "optimizer": {
                "source": source,
                "rule": optimizer.manifest["rule"],
                "constants": optimizer.manifest["constants"],
                "manifest_sha256": optimizer.manifest["sha256"],
                "meta_training": optimizer.manifest["meta_training"],
            },
            "suite": suite,
            "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
            "evaluation": provenance(),
        },
        "notes": list(NOTES),
        "tasks": tasks,
        "baselines": [
            {"task": row["task"], **tuned.ledger}
            for row, (_, result) in zip(tasks, results, strict=True)
            for tuned in result.tuned.values()
        ],
        "runs": [
            run
            for row, (_, result) in zip(tasks, results, strict=True)
            for run in _runs(row["task"], result)
        ],
        "aggregates": _aggregates(tasks, [result for _, result in results]),
    }


def _task_row(family: TaskFamily, result: TaskResult, envelope: Envelope) -> dict[str, Any]:
    row = {
        "task": f"{family.name} @ {result.task.steps}",
        "family": family.name,
        "steps": result.task.steps,
        "seeds": list(range(result.task.seeds)),
        **family_facts(family),
    }
    return row | {"shifts": distribution_shifts(row, envelope)}


def distribution_shifts(row: Mapping[str, Any], envelope: Envelope) -> list[str]:
    """The axes on which a task lies outside what the optimizer was meta-trained on."""
    shifts = [axis for axis in AXES if row[axis] not in [task.get(axis) for task in envelope.tasks]]
    low, high = envelope.horizons
    return shifts + ["horizon"] * (not low <= row["steps"] <= high)


def _runs(task: str, result: TaskResult) -> list[dict[str, Any]]:
    rows = []
    for name, curves in result.curves.items():
        if name in BASELINES:
            continue  # its two schedules stand for it
        for seed, curve in enumerate(curves):
            row = {
                "task": task,
                "optimizer": name,
                "seed": seed,
                "final_test": _number(curve.test[-1]),
                "final_outer_validation": _number(curve.outer_validation[-1]),
                "final_train": _number(curve.train[-1]),
                "best_test": _number(np.nanmin(np.append(curve.test, np.inf))),
                "diverged": not np.isfinite(curve.test[-1]),
                "steps": curve.steps.tolist(),
                "test": [_number(loss) for loss in curve.test],
                "outer_validation": [_number(loss) for loss in curve.outer_validation],
                "train": [_number(loss) for loss in curve.train],
            }
            if name == LEARNED:
                row["speedup"] = _number(result.speedups[seed])
                row["speedup_is_a_lower_bound"] = bool(result.censored[seed])
            rows.append(row)
    return rows


def _aggregates(
    tasks: Sequence[Mapping[str, Any]], results: Sequence[TaskResult]
) -> dict[str, Any]:
    ratios = [_ratios(result, REFERENCE) for result in results]
    speedups = [result.speedups for result in results]
    held_out = [i for i, row in enumerate(tasks) if row["shifts"]]
    aggregates: dict[str, Any] = {
        "final_loss_ratio_iqm": _estimate(ratios),
        "speedup_iqm": _estimate(speedups),
    }
    if held_out:
        aggregates["held_out"] = {
            "final_loss_ratio_iqm": _estimate([ratios[i] for i in held_out]),
            "speedup_iqm": _estimate([speedups[i] for i in held_out]),
        }
    aggregates["tasks"] = [
        _task_aggregates(row, result) for row, result in zip(tasks, results, strict=True)
    ]
    return aggregates


def _task_aggregates(row: Mapping[str, Any], result: TaskResult) -> dict[str, Any]:
    names = [LEARNED, *(f"{name}/{s}" for name in result.tuned for s in SCHEDULES)]
    ratio = _ratios(result, REFERENCE)
    return {
        "task": row["task"],
        "shifts": row["shifts"],
        "final_test": {name: _final(result.curves[name]) for name in names},
        "final_loss_ratio": {
            name: _estimate([_ratios(result, name)]) for name in [REFERENCE, *names[1:]]
        },
        "speedup": _estimate([result.speedups]),
        "speedups_censored": int(result.censored.sum()),
        "wins": int((ratio > 1).sum()),
        "seeds": result.task.seeds,
        "reference_schedule": result.tuned[REFERENCE].chosen,
    }


def _ratios(result: TaskResult, baseline: str) -> np.ndarray:
    return final_loss_ratios(result.curves[LEARNED], result.curves[baseline])


def _final(curves: Sequence[Curve]) -> dict[str, Any]:
    losses = final_losses(curves)
    finite = losses[np.isfinite(losses)]
    diverged = len(losses) - len(finite)
    if diverged or len(finite) == 0:  # no mean that would hide it
        return {"value": None, "low": None, "high": None, "diverged": diverged}
    return _estimate([losses], weighted_mean) | {"diverged": 0}


def _estimate(strata: Sequence[np.ndarray], statistic: Any = None) -> dict[str, float | None]:
    arguments = {} if statistic is None else {"statistic": statistic}
    estimate: Estimate = bootstrap(strata, seed=BOOTSTRAP_SEED, **arguments)
    return {name: _number(value) for name, value in estimate._asdict().items()}


def _number(value: float) -> float | None:
    """Seven digits of a number; null where it is not finite."""
    return float(f"{value:.7g}") if np.isfinite(value) else None
