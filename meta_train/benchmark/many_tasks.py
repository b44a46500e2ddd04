"""How long a run on many tasks takes to begin, from an empty compilation cache and from a full one:

python -m meta_train.benchmark.many_tasks --tasks=NAME,NAME --json=FILE

Without --tasks, on thirty families of different models and sizes that need no network. Goal: under
five minutes and under one, on two cores.
"""

import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from meta_train.assemble import assemble
from meta_train.benchmark.families import THIRTY
from meta_train.benchmark.throughput import empty_compilation_cache
from meta_train.command_line import run_command
from meta_train.config import MetaTrainConfig, check_config, tasks_of
from meta_train.files import write_json
from meta_train.presets import CONSTANTS
from meta_train.presets import TASKS as PRESET
from meta_train.runtime import set_up_jax, usable_cores

TASKS = flags.DEFINE_string("tasks", ",".join(THIRTY), "Families of tasks.")
RULE = flags.DEFINE_string("rule", PRESET.rule, "An update rule.")
JSON = flags.DEFINE_string("json", None, "File for the figures.")


class Beginning(NamedTuple):
    """Seconds: data read and tasks checked, programs compiled; from an empty cache and a full
    one.
    """

    tasks: int
    cores: int
    assembled_cold: float
    compiled_cold: float
    assembled_cached: float
    compiled_cached: float

    @property
    def cold(self) -> float:
        """All of it, from an empty cache."""
        return self.assembled_cold + self.compiled_cold

    @property
    def cached(self) -> float:
        """All of it, from a full cache."""
        return self.assembled_cached + self.compiled_cached


def measure(config: MetaTrainConfig) -> Beginning:
    """Put the run together and compile it, twice."""
    with empty_compilation_cache():
        cold = _begin(config)
        cached = _begin(config)
    return Beginning(len(tasks_of(config)), usable_cores(), *cold, *cached)


def _begin(config: MetaTrainConfig) -> tuple[float, float]:
    jax.clear_caches()
    started = time.perf_counter()
    run = assemble(config)
    state = jax.block_until_ready(run.training.init(run.key_init))
    assembled = time.perf_counter()
    run.training.compiled(state, run.key_updates, run.data)
    return assembled - started, time.perf_counter() - assembled


def main() -> int:
    """Measure, print, and write the file."""
    rule = RULE.value
    constants = CONSTANTS.get(rule, "{}")
    config = dataclasses.replace(PRESET, task=TASKS.value, rule=rule, constants=constants)
    check_config(config)
    set_up_jax()
    figures = measure(config)
    print(
        f"{figures.tasks} tasks on {figures.cores} cores: {figures.cold:.1f} s from an empty "
        f"cache ({figures.compiled_cold:.1f} of them to compile), {figures.cached:.1f} s from a "
        f"full one ({figures.compiled_cached:.1f})"
    )
    if JSON.value:
        write_json(Path(JSON.value), {**figures._asdict(), "rule": config.rule})
    return 0


if __name__ == "__main__":
    run_command(main)
