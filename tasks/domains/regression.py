"""Linear regression and softmax regression on Gaussian designs.

y = aᵀw* + σ n,  a ~ N(0, H),  H of eigenvalues κ^(−i/(D−1)),  w* such that aᵀw* ~ N(0, 1)

Every model is linear and starts at 0.
"""

import math
from collections.abc import Callable
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform
from tasks.base import Batch, Configuration, Metrics, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.haiku_task import haiku_task
from tasks.synthetic import drawing, load

BATCH_SIZE, HORIZON = 64, 200
DEGREES_OF_FREEDOM = 1.5  # of Student's t: the variance is infinite
HUBER_INITIAL_LOSS = 0.425  # E huber(y), y ~ N(0, 1): the noise adds little
CLASSES, SEPARATION = 10, 3.0

Residual = Callable[[jax.Array], jax.Array]


def half_square(error: jax.Array) -> jax.Array:
    """½ e²."""
    return 0.5 * jnp.square(error)


def huber(error: jax.Array) -> jax.Array:
    """½ e² where |e| < 1, |e| − ½ elsewhere (Huber 1964)."""
    clipped = jnp.clip(error, -1, 1)
    return clipped * (error - 0.5 * clipped)


def linear_family(
    name: str,
    dimension: int,
    conditions: tuple[float, float] = (1.0, 1e3),
    noises: tuple[float, float] = (1e-2, 0.3),
) -> TaskFamily:
    """Least squares; κ and σ are log-uniform between their bounds."""
    return _regression(
        name, dimension, conditions, noises, half_square, jax.random.normal, "least squares", 0.5
    )


def huber_family(name: str, dimension: int) -> TaskFamily:
    """Huber's loss of targets with heavy-tailed noise."""
    noise = partial(jax.random.t, df=DEGREES_OF_FREEDOM)
    return _regression(
        name, dimension, (10.0, 10.0), (0.1, 0.1), huber,
        lambda key, shape: noise(key, shape=shape), "huber regression", HUBER_INITIAL_LOSS,
    )  # fmt: skip


def _regression(
    name: str,
    dimension: int,
    conditions: tuple[float, float],
    noises: tuple[float, float],
    penalty: Residual,
    draw_noise: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    architecture: str,
    initial_loss: float,
) -> TaskFamily:
    def sample(key: jax.Array) -> Configuration:
        key_condition, key_noise, key_weights = jax.random.split(key, 3)
        condition = log_uniform(key_condition, conditions)
        spectrum = condition ** -jnp.linspace(0.0, 1.0, dimension)
        weights = jax.random.normal(key_weights, (dimension,))
        weights /= jnp.sqrt(jnp.sum(spectrum * jnp.square(weights)))
        return {"spectrum": spectrum, "weights": weights, "noise": log_uniform(key_noise, noises)}

    def build(cfg: Configuration) -> Task:
        def loss(batch: Batch) -> tuple[jax.Array, Metrics]:
            inputs = batch["input"] * jnp.sqrt(cfg["spectrum"])[None]
            target = inputs @ cfg["weights"] + cfg["noise"] * batch["noise"]
            output = hk.Linear(1, w_init=jnp.zeros)(inputs)[:, 0]
            return jnp.mean(penalty(output - target)), {}

        return haiku_task(loss, draw(jax.random.key(0), 1))

    def draw(key: jax.Array, count: int) -> Batch:
        key_input, key_noise = jax.random.split(key)
        inputs = jax.random.normal(key_input, (count, dimension))
        return {"input": inputs, "noise": draw_noise(key_noise, (count,))}

    metadata = TaskMetadata(
        "linear regression", architecture, "none", "synthetic", (dimension,), BATCH_SIZE, HORIZON,
        initial_loss,
    )  # fmt: skip
    return TaskFamily(name, metadata, load, sample, build, *drawing(draw, BATCH_SIZE))


def mixture_family(name: str, dimension: int) -> TaskFamily:
    """Softmax regression on `CLASSES` Gaussians with means of norm about `SEPARATION`."""

    def sample(key: jax.Array) -> Configuration:
        means = jax.random.normal(key, (CLASSES, dimension))
        return {"means": SEPARATION * dimension**-0.5 * means}

    def build(cfg: Configuration) -> Task:
        def loss(batch: Batch) -> tuple[jax.Array, Metrics]:
            inputs = jnp.asarray(cfg["means"])[batch["label"]] + batch["input"]
            logits = jax.nn.log_softmax(hk.Linear(CLASSES, w_init=jnp.zeros)(inputs))
            of_label = jnp.take_along_axis(logits, batch["label"][:, None], axis=1)
            return -jnp.mean(of_label), {}

        return haiku_task(loss, draw(jax.random.key(0), 1))

    def draw(key: jax.Array, count: int) -> Batch:
        key_input, key_label = jax.random.split(key)
        label = jax.random.randint(key_label, (count,), 0, CLASSES)
        return {"input": jax.random.normal(key_input, (count, dimension)), "label": label}

    metadata = TaskMetadata(
        "linear regression", "softmax regression", "none", "synthetic", (dimension,), BATCH_SIZE,
        HORIZON, math.log(CLASSES),
    )  # fmt: skip
    return TaskFamily(name, metadata, load, sample, build, *drawing(draw, BATCH_SIZE))


def _row(name: str, make: Callable[..., TaskFamily], share: float, *how: object) -> Row:
    return Row(name, partial(make, name, *how), AdamTarget(5e-2, 40, share))


ROWS = (
    _row("linear_regression32", linear_family, 0.7, 32, (10.0, 10.0), (0.1, 0.1)),
    _row("linear_regression64_ill", linear_family, 0.8, 64, (1e4, 1e4), (0.1, 0.1)),
    _row("huber_regression32", huber_family, 0.8, 32),
    _row("gaussian_mixture_softmax32", mixture_family, 0.7, 32),
)

FAMILIES = (
    ParametricFamily(
        "linear_regressions",
        "least squares; condition and noise vary",
        tuple({"dimension": dimension} for dimension in (8, 32, 128)),
        linear_family,
        AdamTarget(5e-2, 60, 0.8),
    ),
)
