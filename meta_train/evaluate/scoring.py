"""One task of a suite: tuned baselines and a learned optimizer on the same seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from meta_train.evaluate.baselines import SCHEDULES, hyperparameters
from meta_train.evaluate.runs import Curve, RunSpec, Trainer
from meta_train.evaluate.tuning import RATES, Tuned, as_arrays, tune
from tasks.suites import SuiteTask

LEARNED = "learned"
REFERENCE = "adam"
STRETCHES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # horizons of the reference's schedule
LONGEST = max(STRETCHES)
SMALLEST_LOSS = 1e-12  # a ratio of two losses below is one of rounding errors


class TaskResult(NamedTuple):
    """What was measured on one task; S scored seeds.

    ``curves``: {optimizer: [S] curves}, a baseline under ``NAME`` with its better schedule and
    under ``NAME/SCHEDULE`` with each; ``tuned``: {baseline: tuning}; ``speedups`` [S] and
    ``censored`` [S]: see `speedups_over_reference`.
    """

    task: SuiteTask
    curves: Mapping[str, list[Curve]]
    tuned: Mapping[str, Tuned]
    speedups: np.ndarray
    censored: np.ndarray


def score_task(
    task: SuiteTask,
    trainers: Mapping[str, Trainer],
    theta: Any,
    *,
    tuning_seeds: int,
) -> TaskResult:
    """Tune the baselines, then train everything on the scored seeds 0 … S − 1.

    ``trainers``: {"learned" or a baseline: its trainer}; ``theta``: of the learned rule.
    """
    seeds = range(task.seeds)
    curves = {LEARNED: _train(trainers[LEARNED], theta, seeds, task.steps)}
    tuned = {}
    for name, trainer in trainers.items():
        if name == LEARNED:
            continue
        tuned[name] = tune(trainer, baseline=name, steps=task.steps, seeds=tuning_seeds)
        for schedule in SCHEDULES:
            rate, _ = tuned[name].best[schedule]
            best = as_arrays(hyperparameters(rate, schedule, task.steps))
            curves[f"{name}/{schedule}"] = _train(trainer, best, seeds, task.steps)
        curves[name] = curves[f"{name}/{tuned[name].chosen}"]
    speedups, censored = speedups_over_reference(
        trainers[REFERENCE], tuned[REFERENCE], final_losses(curves[LEARNED]), task
    )
    return TaskResult(task, curves, tuned, speedups, censored)


def final_losses(curves: Sequence[Curve]) -> np.ndarray:
    """Test loss at the end of every run. Shape [S]."""
    return np.asarray([curve.test[-1] for curve in curves], float)


def final_loss_ratios(learned: Sequence[Curve], baseline: Sequence[Curve]) -> np.ndarray:
    """The baseline's final loss ÷ ours on each seed; above 1 ours is lower. Shape [S].

    A run of ours that diverged counts 0; a diverged run of the baseline counts with the
    loss it started from. Losses are taken to be at least `SMALLEST_LOSS`.
    """
    ours, theirs = final_losses(learned), final_losses(baseline)
    start = np.asarray([curve.test[0] for curve in baseline], float)
    theirs = np.where(np.isfinite(theirs), theirs, start)
    ratios = np.maximum(theirs, SMALLEST_LOSS) / np.maximum(ours, SMALLEST_LOSS)
    return np.where(np.isfinite(ours), ratios, 0.0)


def speedups_over_reference(
    trainer: Trainer, tuned: Tuned, losses: np.ndarray, task: SuiteTask
) -> tuple[np.ndarray, np.ndarray]:
    """Steps that the tuned reference needs to reach our final losses ÷ our horizon.

    On each seed, the quickest of its constant rates (the tuned one and its two neighbours on
    the grid, four horizons long) and of its tuned schedule stretched to `STRETCHES` horizons.

    Returns:
      speed-ups [S], 0 where ours diverged; and where the reference never got there, bool
      [S]: the speed-up is then at least the four horizons that stand for it.
    """
    step = RATES[1] / RATES[0]
    constant, cosine = (tuned.best[schedule][0] for schedule in SCHEDULES)
    longest = round(LONGEST * task.steps)
    ways = [
        (as_arrays(hyperparameters(rate, "constant", longest)), longest)
        for rate in (constant / step, constant, constant * step)
    ] + [
        (as_arrays(hyperparameters(cosine, "cosine", steps)), steps)
        for steps in (max(1, round(stretch * task.steps)) for stretch in STRETCHES)
    ]
    specs = [RunSpec(seed, *way) for way in ways for seed in range(task.seeds)]
    curves = trainer.train(specs)
    needed = np.reshape(
        [steps_to_reach(c, losses[spec.seed]) for c, spec in zip(curves, specs, strict=True)],
        (len(ways), task.seeds),
    ).min(axis=0)
    censored = np.isinf(needed) & np.isfinite(losses)
    speedups = np.where(censored, LONGEST, needed / task.steps)
    return np.where(np.isfinite(losses), speedups, 0.0), censored


def steps_to_reach(curve: Curve, loss: float) -> float:
    """Steps after which the test loss is first at or below ``loss``, interpolated; or inf."""
    reached = np.flatnonzero(curve.test <= loss)
    if not np.isfinite(loss) or len(reached) == 0:
        return np.inf
    after = reached[0]
    if after == 0:
        return 0.0
    x, y = curve.steps[after - 1 : after + 1], curve.test[after - 1 : after + 1]
    if not np.isfinite(y[0]):
        return float(x[1])
    return float(x[0] + (x[1] - x[0]) * (y[0] - loss) / (y[0] - y[1]))


def _train(trainer: Trainer, theta: Any, seeds: Sequence[int], steps: int) -> list[Curve]:
    return trainer.train([RunSpec(seed, theta, steps) for seed in seeds])
