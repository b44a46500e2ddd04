"""What is measured of one task: everyone tuned and scored, and how fast the reference is.

A contestant that is tuned is scored with every variant at its best rate; the one of the lowest
tuning loss stands for it. What is missing is said, and left out of nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.running import MissingRunsError, Run
from meta_train.evaluate.runs import Curve, RunSpec
from meta_train.evaluate.tuning import Grid, Tuned, tune
from meta_train.evaluate.ways import reference_ways


class TaskResult(NamedTuple):
    """What was measured on one task; S scored seeds.

    ``curves``: {label: [S] curves}; ``chosen``: {contestant: the label that stands for it};
    ``tuned``: {contestant: its tuning}; ``ways``: of `reference_ways`, from which speed-ups come;
    ``missing``: {contestant: what was not there}.
    """

    curves: Mapping[str, Sequence[Curve]]
    chosen: Mapping[str, str]
    tuned: Mapping[str, Tuned]
    ways: Sequence[Sequence[Curve]]
    missing: Mapping[str, str]

    def scored(self, name: str) -> Sequence[Curve]:
        """The curves [S] that stand for a contestant that is there."""
        return self.curves[self.chosen[name]]


def measure_task(
    run: Run, contestants: Sequence[Contestant], *, steps: int, seeds: int, grid: Grid
) -> TaskResult:
    """Tune, then train everyone on the scored seeds 0 … S − 1."""
    curves: dict[str, list[Curve]] = {}
    chosen: dict[str, str] = {}
    tuned: dict[str, Tuned] = {}
    ways: list[list[Curve]] = []
    missing: dict[str, str] = {}
    for contestant in contestants:
        try:
            if not contestant.variants:
                curves[contestant.name] = _scored(run, contestant, {}, steps, seeds, "scored")
                chosen[contestant.name] = contestant.name
                continue
            found = tune(run, contestant, steps=steps, grid=grid)
            for variant, (rate, _) in found.best.items():
                settings = contestant.settings(variant, rate, steps)
                curves[contestant.label(variant)] = _scored(
                    run, contestant, settings, steps, seeds, f"scored-{variant}"
                )
            tuned[contestant.name] = found
            chosen[contestant.name] = contestant.label(found.chosen)
            if contestant.name == REFERENCE:
                ways = reference_ways(run, contestant, found, steps, seeds)
        except MissingRunsError as error:
            missing[contestant.name] = str(error)
    return TaskResult(curves, chosen, tuned, ways, missing)


def _scored(
    run: Run,
    contestant: Contestant,
    settings: Mapping[str, float],
    steps: int,
    seeds: int,
    role: str,
) -> list[Curve]:
    return run(contestant, role, [RunSpec(seed, settings, steps) for seed in range(seeds)])
