"""Suites: lists of tasks to evaluate an optimizer on, with how long and on how many seeds."""

from collections.abc import Mapping
from typing import NamedTuple


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
                SuiteTask("fashion_mnist_8x8_mlp32", steps=20, seeds=4),
                SuiteTask("quadratic32", steps=20, seeds=4),
            ),
            tuning_seeds=2,
        ),
    )
}


class UnknownSuiteError(ValueError):
    """No suite has this name."""


def get_suite(name: str) -> Suite:
    """The suite of this name.

    Raises:
      UnknownSuiteError: with the legal names.
    """
    if name not in SUITES:
        raise UnknownSuiteError(f"unknown suite {name!r}; legal ones: {', '.join(SUITES)}")
    return SUITES[name]
