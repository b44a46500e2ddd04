"""What an update costs as one thing after another grows.

All runs of an axis take turns with the machine's matrix product, so that a busy machine slows them
alike; figures are medians over the turns.
"""

import dataclasses
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from learned_opt.benchmark import take_turns
from meta_train.assemble import assemble
from meta_train.benchmark.families import THIRTY
from meta_train.benchmark.floor import inner_step_flops
from meta_train.benchmark.machine import matrix_product
from meta_train.benchmark.throughput import UPDATES, caller, configuration
from meta_train.config import ConfigError, MetaTrainConfig, check_config, tasks_of


class Point(NamedTuple):
    """One run of an axis: its value there, and medians over the turns.

    ``nominal_flops`` of an update, in operations; ``floor_fraction``: nominal operations a
    second ÷ the matrix product's; ``compile_seconds``: with whatever cache there was.
    """

    axis: str
    value: int
    task: str
    inner_steps_per_second: float
    update_seconds: float
    nominal_flops: float
    floor_fraction: float
    compile_seconds: float


def runs_of(axis: str, values: Sequence[int], base: MetaTrainConfig) -> list[MetaTrainConfig]:
    """The configuration of every run of an axis.

    Raises:
      ConfigError: a run cannot be made with a value.
    """
    configs = [_with(axis, value, base) for value in values]
    for config in configs:
        check_config(config)
    return configs


def _with(axis: str, value: int, base: MetaTrainConfig) -> MetaTrainConfig:
    if axis == "particles":
        return dataclasses.replace(base, particles=value)
    if axis == "window":
        return configuration(base.task, base.rule, base.particles, value)
    if axis == "width":
        return dataclasses.replace(base, task=of_width(base.task, value))
    others = [task for task in THIRTY if task != base.task]
    if not 1 <= value <= len(others) + 1:
        raise ConfigError(f"--tasks={value}: must be 1 to {len(others) + 1}")
    return dataclasses.replace(base, task=",".join([base.task, *others][:value]))


def of_width(task: str, width: int) -> str:
    """The name of the task with this width in the place of all its hidden widths or channels."""
    match = re.fullmatch(r"(.*_(?:mlp|conv|autoencoder))(\d+(?:x\d+)*)(.*)", task)
    if match is None:
        raise ConfigError(f"--task={task!r} has no hidden widths to vary; give --width=")
    widths = "x".join([str(width)] * len(match[2].split("x")))
    return match[1] + widths + match[3]


def measure(axis: str, values: Sequence[int], base: MetaTrainConfig, turns: int) -> list[Point]:
    """Compile all runs of an axis, and let them take turns with a matrix product."""
    configs = runs_of(axis, values, base)
    ceiling, product_flops = matrix_product()
    calls: list[Any] = [ceiling]
    flops, compiling = [], []
    for config in configs:
        run = assemble(config)
        per_step = sum(inner_step_flops(family, run.optimizer) for family in run.families)
        flops.append(config.particles * config.window * per_step)
        state = run.training.init(run.key_init)
        started = time.perf_counter()
        advance = run.training.compiled(state, run.key_updates, run.data)
        compiling.append(time.perf_counter() - started)
        calls.append(caller(run, advance, state, UPDATES))
    product, *updates = take_turns(calls, turns)
    points = []
    for i, (config, value, taken) in enumerate(zip(configs, values, updates, strict=True)):
        seconds = taken / UPDATES
        steps = config.particles * config.window * len(tasks_of(config))
        points.append(
            Point(
                axis=axis,
                value=value,
                task=config.task,
                inner_steps_per_second=steps / float(np.median(seconds)),
                update_seconds=float(np.median(seconds)),
                nominal_flops=flops[i],
                floor_fraction=float(np.median(flops[i] / product_flops * product / seconds)),
                compile_seconds=compiling[i],
            )
        )
    return points


def as_text(point: Point) -> str:
    """A line for a terminal."""
    return (
        f"{point.axis:>9} {point.value:>4}: {1e3 * point.update_seconds:8.1f} ms an update, "
        f"{point.inner_steps_per_second:8,.0f} inner steps a second, "
        f"{100 * point.floor_fraction:3.0f} % of the floor"
    )
