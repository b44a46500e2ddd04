"""Inner steps a second of a meta-training run, against what this machine could do at best.

The compiled meta-step, a matrix product and a copy take turns, so that a busy machine slows them
alike; figures are medians over the turns, and the fraction of the floor is the median of the
fractions of the turns.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from learned_opt.benchmark import take_turns
from meta_train.assemble import Run, assemble
from meta_train.benchmark.floor import inner_step_flops
from meta_train.benchmark.machine import copy, matrix_product
from meta_train.benchmark.parts import shares_of_parts
from meta_train.config import MetaTrainConfig, check_config
from meta_train.meta_training import MetaState
from meta_train.presets import CONSTANTS
from tasks import TaskFamily

WINDOWS_AN_EPISODE = 10
UPDATES = 3  # a call


class Throughput(NamedTuple):
    """Of one configuration; seconds, FLOP/s and bytes.

    ``inner_steps_per_second``: of all particles; ``update_seconds``: of one update of θ;
    ``part_seconds``: how they divide, see `parts`; ``nominal_flops``: of an update;
    ``product_flops_per_second``, ``copy_bytes_per_second``: the machine's, in the same turns;
    ``floor_fraction``: nominal operations a second ÷ the product's;
    ``compile_seconds_cold``, ``compile_seconds_cached``: the latter from the persistent cache;
    ``temporary_bytes``: of the program; ``peak_memory_bytes``: so far, of a device or the process.
    """

    task: str
    rule: str
    particles: int
    window: int
    batch: int
    devices: int
    device_kind: str
    block: int
    inner_steps_per_second: float
    update_seconds: float
    part_seconds: Mapping[str, float]
    nominal_flops: float
    product_flops_per_second: float
    copy_bytes_per_second: float
    floor_fraction: float
    compile_seconds_cold: float
    compile_seconds_cached: float
    temporary_bytes: int
    peak_memory_bytes: int


def configuration(task: str, rule: str, particles: int, window: int) -> MetaTrainConfig:
    """A run by PES with episodes of `WINDOWS_AN_EPISODE` windows; ConfigError where none is."""
    length = WINDOWS_AN_EPISODE * window
    config = MetaTrainConfig(
        task=task,
        rule=rule,
        constants=CONSTANTS.get(rule, "{}"),
        particles=particles,
        window=window,
        length_min=length,
        length_max=length,
    )
    check_config(config)
    return config


def measure(config: MetaTrainConfig, family: TaskFamily, turns: int) -> Throughput:
    """Compile the run twice, once from the cache, let it take turns, and trace it."""
    run = assemble(config, family)
    compiled, cold, cached = _compile_twice(run)
    (product_call, product_flops), (copy_call, copy_bytes) = matrix_product(), copy()
    advance = caller(run, compiled, run.training.init(run.key_init), UPDATES)
    product, copied, updates = take_turns([product_call, copy_call, advance], turns)
    updates = updates / UPDATES
    peak = peak_memory()  # before the trace, which holds its events
    steps = config.particles * config.window
    flops = steps * inner_step_flops(family, run.optimizer)
    seconds = float(np.median(updates))
    shares = shares_of_parts(compiled, caller(run, compiled, run.training.init(run.key_init), 1))
    return Throughput(
        task=family.name,
        rule=config.rule,
        particles=config.particles,
        window=config.window,
        batch=family.metadata.batch_size,
        devices=run.mesh.size,
        device_kind=str(run.mesh.devices.flat[0].device_kind),
        block=run.block,
        inner_steps_per_second=steps / seconds,
        update_seconds=seconds,
        part_seconds={part: share * seconds for part, share in shares.items()},
        nominal_flops=flops,
        product_flops_per_second=product_flops / float(np.median(product)),
        copy_bytes_per_second=copy_bytes / float(np.median(copied)),
        floor_fraction=float(np.median(flops / product_flops * product / updates)),
        compile_seconds_cold=cold,
        compile_seconds_cached=cached,
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
        peak_memory_bytes=peak,
    )


def peak_memory() -> int:
    """Bytes that were used at most: of a device that says so, or else of this process."""
    of_devices = [device.memory_stats() or {} for device in jax.local_devices()]
    if peaks := [
        stats["peak_bytes_in_use"] for stats in of_devices if "peak_bytes_in_use" in stats
    ]:
        return max(peaks)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def caller(run: Run, compiled: Any, state: MetaState, updates: int) -> Callable[[], Any]:
    """A call that makes so many updates, from ``state`` and then from where it stopped."""
    count = jnp.asarray(updates, jnp.int32)
    held = [state]

    def call() -> Any:
        held[0], metrics = compiled(held[0], count, run.key_updates, run.data)
        return metrics

    return call


def _compile_twice(run: Run) -> tuple[Any, float, float]:
    """The compiled update, and the seconds it took: all of them, and with a full cache."""
    state = jax.eval_shape(run.training.init, run.key_init)
    count = jax.ShapeDtypeStruct((), jnp.int32)

    def seconds_of_compiling() -> tuple[Any, float]:
        jax.clear_caches()
        started = time.perf_counter()
        compiled = run.training.advance.lower(state, count, run.key_updates, run.data).compile()
        return compiled, time.perf_counter() - started

    with empty_compilation_cache():
        _, cold = seconds_of_compiling()
        compiled, cached = seconds_of_compiling()
    return compiled, cold, cached


@contextmanager
def empty_compilation_cache() -> Iterator[None]:
    """Within, programs are kept in a folder of their own."""
    before = jax.config.values["jax_compilation_cache_dir"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            jax.config.update("jax_compilation_cache_dir", folder)
            compilation_cache.reset_cache()
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", before)
            compilation_cache.reset_cache()
