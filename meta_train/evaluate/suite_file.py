"""Suites of an evaluation: by name, by tasks, or by a TOML file with thresholds.

    name = "nightly"
    tuning_seeds = 3

    [[tasks]]
    family = "fashion_mnist_8x8_mlp32"
    steps = 200
    seeds = 5

    [[thresholds]]
    measure = "final_loss_ratio_iqm"
    of = "low"
    at_least = 1.0

A threshold is of every learned optimizer as it was saved.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meta_train.config import ConfigError
from tasks import UnknownTaskError, get_family
from tasks.suites import Suite, SuiteTask, get_suite, suite_names

SUFFIX = ".toml"
ESTIMATES = (
    "final_loss_ratio_iqm",
    "speedup_iqm",
    "held_out_final_loss_ratio_iqm",
    "held_out_speedup_iqm",
    "probability_of_improvement",
    "profile_integral",
    "algoperf_score",
)
COUNTS = ("losses", "diverged_runs", "missing_runs")
MEASURES = (*ESTIMATES, *COUNTS)
"""What a threshold may be of."""
ESTIMATED = ("value", "low", "high")
"""What of `ESTIMATES`; counts have no interval."""
SEEDS, TUNING_SEEDS = 5, 3


class EvaluatedSuite(NamedTuple):
    """A suite, and what a learned optimizer must reach on it to pass."""

    suite: Suite
    thresholds: Sequence[Mapping[str, Any]]


def find_suite(text: str, *, download: bool = False) -> EvaluatedSuite:
    """The suite that ``--suite`` names: of a file, of `suite_names`, or TASK or TASK@STEPS, ….

    Raises:
      ConfigError: there is none, and why.
      DataUnavailableError: the data of a task cannot be read here.
    """
    if text.endswith(SUFFIX):
        return read_suite(Path(text).expanduser(), download=download)
    if text in suite_names():
        return EvaluatedSuite(get_suite(text), ())
    try:
        tasks = tuple(_task(part.strip(), download) for part in text.split(","))
    except UnknownTaskError as error:
        raise ConfigError(
            f"--suite={text!r} is no suite (legal ones: {', '.join(suite_names())}), no {SUFFIX} "
            f"file, and no list of tasks: {error}"
        ) from None
    _check_different("--suite:", tasks)
    return EvaluatedSuite(Suite(text, tasks, TUNING_SEEDS), ())


def _task(text: str, download: bool) -> SuiteTask:
    name, _, steps = text.partition("@")
    if steps and not (steps.isdecimal() and int(steps) > 0):
        raise ConfigError(f"--suite: the steps of {text!r} must be a whole number above 0")
    family = get_family(name, download=download)
    return SuiteTask(name, int(steps) if steps else family.metadata.horizon, SEEDS)


def read_suite(path: Path, *, download: bool = False) -> EvaluatedSuite:
    """A suite of a TOML file.

    Raises:
      ConfigError: it cannot be read, or says what cannot be.
      DataUnavailableError: the data of a task cannot be read here.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--suite={str(path)!r} cannot be read ({error})") from None
    told = f"--suite={str(path)!r}:"
    _only(told, values, ("name", "tuning_seeds", "tasks", "thresholds"))
    tasks = values.get("tasks", [])
    if not (isinstance(tasks, list) and tasks and all(isinstance(task, dict) for task in tasks)):
        raise ConfigError(f"{told} it has no [[tasks]]; name at least one with its family")
    suite = Suite(
        str(values.get("name", path.stem)),
        tuple(_task_of(told, task, download) for task in tasks),
        _count(told, values, "tuning_seeds", TUNING_SEEDS),
    )
    _check_different(told, suite.tasks)
    thresholds = values.get("thresholds", [])
    if not isinstance(thresholds, list):
        raise ConfigError(f"{told} `thresholds` must be tables, each under [[thresholds]]")
    for threshold in thresholds:
        _check_threshold(told, threshold)
    return EvaluatedSuite(suite, thresholds)


def _task_of(told: str, task: Mapping[str, Any], download: bool) -> SuiteTask:
    _only(told, task, ("family", "steps", "seeds"))
    name = str(task.get("family", ""))
    try:
        family = get_family(name, download=download)
    except UnknownTaskError as error:
        raise ConfigError(f"{told} the `family` of a task: {error}") from None
    horizon = family.metadata.horizon
    return SuiteTask(name, _count(told, task, "steps", horizon), _count(told, task, "seeds", SEEDS))


def _check_different(told: str, tasks: Sequence[SuiteTask]) -> None:
    seen = set()
    for task in tasks:
        if task[:2] in seen:
            raise ConfigError(f"{told} {task.family!r} with {task.steps} steps is there twice")
        seen.add(task[:2])


def _count(told: str, values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{told} `{name}`={value!r} must be a whole number above 0")
    return value


def _check_threshold(told: str, threshold: Any) -> None:
    if not isinstance(threshold, dict):
        raise ConfigError(f"{told} `thresholds` must be tables, each under [[thresholds]]")
    _only(told, threshold, ("measure", "of", "at_least", "at_most"))
    measure, of = threshold.get("measure"), threshold.get("of", "value")
    if measure not in MEASURES:
        raise ConfigError(f"{told} the `measure`={measure!r}: must be one of {', '.join(MEASURES)}")
    if of not in ESTIMATED:
        raise ConfigError(f"{told} `of`={of!r}: must be one of {', '.join(ESTIMATED)}")
    if of != "value" and measure in COUNTS:
        raise ConfigError(f"{told} `of`={of!r}: {measure!r} has no interval; leave `of` out")
    bounds = [threshold[name] for name in ("at_least", "at_most") if name in threshold]
    if not bounds or not all(map(_is_number, bounds)):
        raise ConfigError(
            f"{told} the threshold of {measure!r} needs a number `at_least` or `at_most`"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _only(told: str, values: Mapping[str, Any], legal: Sequence[str]) -> None:
    if unknown := sorted(set(values) - set(legal)):
        raise ConfigError(f"{told} unknown keys {unknown}; legal ones: {', '.join(legal)}")
