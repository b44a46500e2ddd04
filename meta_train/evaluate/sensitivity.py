"""How a learned optimizer stands other runs than those it is scored on: one axis at a time.

    horizon            so many times the steps; a schedule knows it
    num_steps          told so many times the steps that there are
    step multiplier    updates so many times as large
    width, depth       of the hidden layers
    batch              examples of a minibatch
    reparametrisation  the network in coordinates of so many times the size

Beside it the reference at the rate and schedule that it was tuned to on the task itself: neither
is tuned again. What is shown is its final loss ÷ ours on the same seeds.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.report.rows import estimate_of
from meta_train.evaluate.running import MissingRunsError, Run
from meta_train.evaluate.runs import RunSpec
from meta_train.evaluate.scores import final_loss_ratios, final_losses
from meta_train.evaluate.store import number
from meta_train.evaluate.tuning import Tuned
from meta_train.evaluate.varied import settings_of, varied
from tasks import TaskFamily, get_family

SEEDS = 5
PERCEPTRON = re.compile(r"(?P<head>.+_\d+x\d+_mlp)(?P<widths>\d+(x\d+)*)(?P<rest>(_\w+)?(\+.*)?)")
FACTORS: Mapping[str, Sequence[float]] = {
    "horizon": (0.25, 0.5, 1, 2, 4, 10),
    "num_steps": (0.25, 0.5, 1, 2, 4),
    "step multiplier": (0.25, 0.5, 1, 2, 4),
    "width": (0.25, 1, 4),
    "depth": (1, 2, 4),
    "batch": (0.25, 1, 4),
    "reparametrisation": (0.1, 1, 10),
}
"""Levels of each axis; those of the last four are programs of their own, seconds each."""


class Variation(NamedTuple):
    """One level of an axis: the family to train on, and what is changed of a run."""

    axis: str
    level: float
    family: str
    batch_size: int | None = None
    horizon: float = 1
    settings: Mapping[str, float] = {}

    @property
    def task(self) -> str:
        """The name that its runs are kept by."""
        batch = f", batch {self.batch_size}" if self.batch_size else ""
        return f"{self.family}{batch}"


def variations(name: str, batch_size: int) -> Iterator[Variation]:
    """All levels of the axes that the task of this name can be varied along: a perceptron's all."""
    perceptron = is_perceptron(name)
    for axis, factors in FACTORS.items():
        for level in factors:
            if axis == "horizon":
                yield Variation(axis, level, name, horizon=level)
            elif axis in ("num_steps", "step multiplier"):
                setting = {"num_steps": "num_steps", "step multiplier": "multiplier"}[axis]
                yield Variation(axis, level, name, settings={setting: float(level)})
            elif axis == "batch" and perceptron:
                size = None if level == 1 else max(1, round(level * batch_size))
                yield Variation(axis, level, name, size)
            elif axis == "reparametrisation":
                changed = name if level == 1 else f"{name}+reparametrize_global:{level}:{level}"
                yield Variation(axis, level, changed)
            elif perceptron:
                yield Variation(axis, level, _other_layers(name, axis, level))


def is_perceptron(name: str) -> bool:
    """Whether it is a task on a multilayer perceptron, by its name."""
    return PERCEPTRON.fullmatch(name) is not None


def _other_layers(name: str, axis: str, level: float) -> str:
    """``…_mlp32x32_tanh`` with other hidden layers."""
    match = PERCEPTRON.fullmatch(name)
    assert match is not None
    widths = match["widths"].split("x")
    if axis == "width":
        widths = [str(max(1, round(level * int(width)))) for width in widths]
    else:
        widths = [widths[0]] * int(level)
    return f"{match['head']}{'x'.join(widths)}{match['rest']}"


def measure_sensitivity(
    learned: Contestant,
    reference: Contestant,
    result: TaskResult,
    task: Any,
    run_of: Callable[[Variation], Run],
    let_go: Callable[[Variation], None],
) -> list[dict[str, Any]]:
    """A row for every variation: the ratio of final losses, and both losses.

    Args:
      learned: as it was saved.
      reference: what it is compared with, tuned on ``task`` in ``result``.
      task: an `EvaluatedTask`.
      run_of: makes runs of a variation.
      let_go: is told that a family is not needed any more.
    """
    tuned = result.tuned[reference.name]
    changed = varied(learned)
    rows = []
    found = list(variations(task.family, task.facts["batch_size"]))
    for variation, after in zip(found, [*found[1:], None], strict=True):
        row = {"optimizer": learned.name, "task": task.name, "axis": variation.axis,
               "level": variation.level}  # fmt: skip
        try:
            row |= _compared(changed, reference, tuned, task, variation, run_of(variation))
        except MissingRunsError as error:
            row["missing"] = str(error)
        rows.append(row)
        if after is None or after.task != variation.task:
            let_go(variation)
    return rows


def _compared(
    learned: Contestant,
    reference: Contestant,
    tuned: Tuned,
    task: Any,
    variation: Variation,
    run: Run,
) -> dict[str, Any]:
    steps = max(1, round(variation.horizon * task.steps))
    seeds = range(min(SEEDS, task.seeds))
    ours = run(learned, "sensitivity", _specs(settings_of(**variation.settings), seeds, steps))
    rate = reference.settings(tuned.chosen, tuned.best[tuned.chosen][0], steps)
    theirs = run(reference, "sensitivity", _specs(rate, seeds, steps))
    return {
        "ratio": estimate_of([final_loss_ratios(ours, theirs)]),
        "loss": number(final_losses(ours).mean()),
        "reference_loss": number(final_losses(theirs).mean()),
    }


def _specs(settings: Mapping[str, float], seeds: Sequence[int], steps: int) -> list[RunSpec]:
    return [RunSpec(seed, settings, steps) for seed in seeds]


def family_of(variation: Variation) -> TaskFamily:
    """The family of a variation."""
    return get_family(variation.family, batch_size=variation.batch_size)
