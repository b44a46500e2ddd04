"""Statistics of sets of numbers: Zaheer et al. (Deep Sets), https://arxiv.org/abs/1703.06114.

    ŷ = ρ(pool_i φ(x_i))

`maximum`: x_i = m + z_i, m and z_i from N(0, 1); y is the maximum less its mean. `spread`:
x_i = eᵘ z_i, u ~ U(−1, 1); y is the logarithm of the standard deviation of the set. The loss is the
mean squared error, E y² for an answer of 0, as `STATISTICS` has it for sets of `SIZE` numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import Architecture, ModelName
from tasks.base import Batch, Configuration, Metrics, TaskFamily
from tasks.graphs.base import unordered_metadata
from tasks.readout import readout
from tasks.synthetic import synthetic_family

SIZE = 10
MEAN_OF_MAXIMUM = 1.538753  # of SIZE numbers from N(0, 1)
VARIANCE_OF_MAXIMUM = 0.344344


class Statistic(NamedTuple):
    """``make(z, shift, u)`` is the sets and their y, of numbers [B, SIZE], [B, 1] and [B, 1];
    ``square`` is E y².
    """

    make: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    square: float


def _maximum(z: jax.Array, shift: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    del u
    return z + shift, jnp.max(z + shift, axis=1) - MEAN_OF_MAXIMUM


def _spread(z: jax.Array, shift: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    del shift
    numbers = jnp.exp(u) * z
    return numbers, jnp.log(jnp.std(numbers, axis=1, ddof=1))


STATISTICS: Mapping[str, Statistic] = {
    "maximum": Statistic(_maximum, 1 + VARIANCE_OF_MAXIMUM),
    # E u² + E (½ log χ²₉/9)²: of half the logarithm of χ²₉/9, mean −0.0576 and variance 0.0622
    "spread": Statistic(_spread, 1 / 3 + 0.0576**2 + 0.0622),
}

POOLS: Mapping[str, Callable[..., jax.Array]] = {"mean": jnp.mean, "max": jnp.max}


def deep_sets(numbers: jax.Array, widths: Sequence[int], pool: str) -> jax.Array:
    """φ has ``widths``, ρ one hidden layer of the last of them. Shapes: [B, n] → [B]."""
    hidden = numbers[:, :, None]
    for i, width in enumerate(widths):
        hidden = jax.nn.relu(hk.Linear(width, name=f"element_{i}")(hidden))
    pooled = POOLS[pool](hidden, axis=1)
    return readout(jax.nn.relu(hk.Linear(widths[-1], name="set")(pooled)), 1)[:, 0]


def _make(widths: tuple[int, ...], option: str) -> Callable[[jax.Array], jax.Array]:
    return lambda numbers: deep_sets(numbers, widths, option or "mean")


ARCHITECTURES = {
    "deepsets": Architecture(
        "widths of the network of an element; how elements are pooled", "32x32", (1, None),
        tuple(POOLS), _make,
    ),
}  # fmt: skip


def set_family(name: str, statistic: str, model: ModelName) -> TaskFamily:
    """The problem of one of `STATISTICS` for one of `ARCHITECTURES`."""
    made = ARCHITECTURES[model.architecture].make(model.widths, model.option)
    make, square = STATISTICS[statistic]

    def draw(key: jax.Array, count: int) -> Batch:
        key_z, key_shift, key_u = jax.random.split(key, 3)
        numbers, target = make(
            jax.random.normal(key_z, (count, SIZE)),
            jax.random.normal(key_shift, (count, 1)),
            jax.random.uniform(key_u, (count, 1), minval=-1, maxval=1),
        )
        return {"input": numbers, "target": target}

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        del cfg
        return jnp.mean(jnp.square(made(batch["input"]) - batch["target"])), {}

    metadata = unordered_metadata(model, f"sets of {SIZE} numbers", square)
    return synthetic_family(name, metadata, draw, loss)
