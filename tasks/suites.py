"""Suites: lists of tasks, with how long and on how many seeds an optimizer is evaluated on them.

Beside those of `SUITES` there is one for every split of `tasks.holdout`, and ``held_out`` with all
that is held out along any axis: the offline fixed tasks of it, for their own horizons. The suite
``meta_train`` has the members of parametric families too.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tasks.base import TaskFamily
from tasks.catalogue import parametric_families, rows
from tasks.holdout import TASK_SPLITS, task_split


class SuiteTask(NamedTuple):
    """A family, the inner steps of a run (the horizon), and the number of scored seeds."""

    family: str
    steps: int
    seeds: int


class Suite(NamedTuple):
    """Tasks, and the number of seeds that baselines are tuned on (never scored)."""

    name: str
    tasks: tuple[SuiteTask, ...]
    tuning_seeds: int


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        # The task that the preset `demo` meta-trains on, with seeds enough to see a difference
        # of 1 %; then each axis it was held back from: architecture, loss, depth, horizon, data.
        Suite(
            "demo",
            (
                SuiteTask("fashion_mnist_8x8_mlp32", steps=100, seeds=64),
                SuiteTask("fashion_mnist_8x8_mlp32", steps=200, seeds=64),
                SuiteTask("fashion_mnist_8x8_mlp32", steps=400, seeds=16),
                SuiteTask("fashion_mnist_8x8_mlp32x32x32_tanh", steps=100, seeds=16),
                SuiteTask("fashion_mnist_8x8_softmax", steps=100, seeds=16),
                SuiteTask("fashion_mnist_8x8_conv16x32", steps=100, seeds=16),
                SuiteTask("fashion_mnist_8x8_autoencoder32x8x32", steps=100, seeds=16),
                SuiteTask("quadratic32", steps=100, seeds=16),
            ),
            tuning_seeds=8,
        ),
        Suite(
            "tiny",
            (
                SuiteTask("fashion_mnist_8x8_mlp32", steps=20, seeds=5),
                SuiteTask("quadratic32", steps=20, seeds=5),
            ),
            tuning_seeds=2,
        ),
    )
}


HELD_OUT = "held_out"
SPLIT_SEEDS, SPLIT_TUNING_SEEDS = 5, 3


class UnknownSuiteError(ValueError):
    """No suite has this name."""


def suite_names() -> tuple[str, ...]:
    """Of all suites."""
    return (*SUITES, *TASK_SPLITS, HELD_OUT)


def get_suite(name: str) -> Suite:
    """The suite of this name.

    Raises:
      UnknownSuiteError: with the legal names.
    """
    if name not in suite_names():
        raise UnknownSuiteError(f"unknown suite {name!r}; legal ones: {', '.join(suite_names())}")
    return SUITES[name] if name in SUITES else _suite_of_split(name)


def _suite_of_split(name: str) -> Suite:
    families = [row.make() for row in rows().values() if row.offline]
    if name == "meta_train":
        families += _members()
    chosen = [
        SuiteTask(family.name, family.metadata.horizon, SPLIT_SEEDS)
        for family in families
        if (split := task_split(family.metadata)) == name
        or (name == HELD_OUT and split.startswith(HELD_OUT))
    ]
    return Suite(name, tuple(chosen), SPLIT_TUNING_SEEDS)


def _members() -> Iterator[TaskFamily]:
    for family in parametric_families().values():
        if family.offline:
            yield from (family.member(index) for index in range(len(family.shapes)))
