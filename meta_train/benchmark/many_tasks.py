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
    """Seconds of a run's beginning: data read and tasks checked, then programs compiled; and what
    both took of the processors' time, which other processes on the machine do not lengthen much.
    """

    assembled: float
    compiled: float
    processor: float


def measure(config: MetaTrainConfig) -> tuple[Beginning, Beginning]:
    """Put the run together and compile it, from an empty cache and from the full one."""
    with empty_compilation_cache():
        return _begin(config), _begin(config)


def _begin(config: MetaTrainConfig) -> Beginning:
    jax.clear_caches()
    started, busy = time.perf_counter(), time.process_time()
    run = assemble(config)
    state = jax.block_until_ready(run.training.init(run.key_init))
    assembled = time.perf_counter()
    run.training.compiled(state, run.key_updates, run.data)
    return Beginning(
        assembled - started, time.perf_counter() - assembled, time.process_time() - busy
    )


def main() -> int:
    """Measure, print, and write the file."""
    rule = RULE.value
    constants = CONSTANTS.get(rule, "{}")
    config = dataclasses.replace(PRESET, task=TASKS.value, rule=rule, constants=constants)
    check_config(config)
    set_up_jax()
    cold, cached = measure(config)
    print(f"{len(tasks_of(config))} tasks on {usable_cores()} cores")
    for name, found in (("an empty", cold), ("a full", cached)):
        print(
            f"from {name} cache: {found.assembled + found.compiled:.1f} s, {found.compiled:.1f} of "
            f"them to compile; {found.processor:.1f} s of processors"
        )
    if JSON.value:
        figures = {"cold": cold._asdict(), "cached": cached._asdict()}
        facts = {"tasks": TASKS.value.split(","), "rule": rule, "cores": usable_cores()}
        write_json(Path(JSON.value), facts | figures)
    return 0


if __name__ == "__main__":
    run_command(main)
