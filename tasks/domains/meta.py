"""Meta-training itself as a task: an update rule is trained through an unroll, or by evolution."""

from functools import partial

import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform
from tasks.base import Batch, Configuration, Metrics, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.evolution import evolved
from tasks.haiku_task import haiku_task
from tasks.meta.rules import RULES
from tasks.meta.unrolls import unrolled_loss
from tasks.synthetic import drawing, load

BATCH_SIZE, HORIZON, DIMENSION = 16, 200, 8
CONDITION = 10.0  # of the curvatures within a quadratic
PAIRS, SIGMA = 16, 0.05
NOISES, LARGEST = (1e-3, 0.1), (0.3, 2.0)  # of tasks that vary: log-uniform


def meta_family(
    name: str,
    rule: str,
    steps: int,
    widths: tuple[int, ...] = (),
    noises: tuple[float, float] = NOISES,
    largest: tuple[float, float] = LARGEST,
    by_evolution: bool = False,
) -> TaskFamily:
    """Rules of one kind on unrolls of ``steps``; noise and largest curvature are drawn."""

    def sample(key: jax.Array) -> Configuration:
        key_noise, key_largest = jax.random.split(key)
        return {
            "noise": log_uniform(key_noise, noises),
            "largest": log_uniform(key_largest, largest),
        }

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        made, state = RULES[rule](steps, batch["start"].shape, tuple(widths))
        curvature = cfg["largest"] * CONDITION ** -batch["exponent"]
        noise = cfg["noise"] * batch["noise"]
        return unrolled_loss(made, state, batch["start"], curvature, noise), {}

    def draw(key: jax.Array, count: int) -> Batch:
        keys = jax.random.split(key, 3)
        return {
            "start": jax.random.normal(keys[0], (count, DIMENSION)),
            "exponent": jax.random.uniform(keys[1], (count, DIMENSION)),
            "noise": jax.random.normal(keys[2], (count, steps, DIMENSION)),
        }

    example = {
        "start": jnp.ones((2, DIMENSION)),
        "exponent": jnp.zeros((2, DIMENSION)),
        "noise": jnp.zeros((2, steps, DIMENSION)),
    }

    def build(cfg: Configuration) -> Task:
        task = haiku_task(partial(loss, cfg), example)
        return evolved(task, SIGMA, PAIRS) if by_evolution else task

    metadata = TaskMetadata(
        "meta-training", rule, "tanh" if widths else "none", "synthetic", tuple(widths),
        BATCH_SIZE, HORIZON, 1.0,
    )  # fmt: skip
    return TaskFamily(name, metadata, load, sample, build, *drawing(draw, BATCH_SIZE))


def _row(name: str, rule: str, steps: int, rate: float, *widths: int, **how: bool) -> Row:
    make = partial(
        meta_family, name, rule, steps, widths, noises=(0.01, 0.01), largest=(1.0, 1.0), **how
    )
    return Row(name, make, AdamTarget(rate, 60, 0.6))


ROWS = (
    _row("meta_momentum", "momentum", 10, 1e-1),
    _row("meta_schedule", "schedule", 10, 1e-1),
    _row("meta_mlp16", "mlp", 10, 1e-2, 16),
    _row("meta_momentum_evolved", "momentum", 10, 1e-1, by_evolution=True),
)

FAMILIES = (
    ParametricFamily(
        "meta_quadratics",
        "update rules on quadratics; their noise and curvature vary",
        (
            {"rule": "momentum", "steps": 10},
            {"rule": "schedule", "steps": 20},
            {"rule": "mlp", "steps": 10, "widths": [8]},
        ),
        meta_family,
        AdamTarget(1e-1, 60, 0.6),
    ),
)
