"""How many triangles a random graph has, from its edges alone.

    y = (∛(T / C(n, 3)) − m) / s,    A_ij ~ Bernoulli(p) with p ~ U(0.1, 0.6) for each graph

T counts triangles; m and s are the mean and the standard deviation of p, which the root is near to
in a large graph. The loss is the mean squared error, `SQUARE` for an answer of 0.
"""

import math

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Batch, Configuration, Metrics, TaskFamily
from tasks.graphs.base import unordered_metadata
from tasks.graphs.networks import ARCHITECTURES
from tasks.readout import readout
from tasks.synthetic import synthetic_family

NODES = 16
DENSITIES = (0.1, 0.6)
SQUARE = 1.21  # E y²: more than 1, for sparse graphs have no triangle at all


def triangle_family(name: str, model: ModelName) -> TaskFamily:
    """The problem for one of `ARCHITECTURES`; what nodes have learned is averaged."""
    network = ARCHITECTURES[model.architecture].make(model.widths, model.option)

    def draw(key: jax.Array, count: int) -> Batch:
        return random_graphs(key, count)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        del cfg
        adjacency = batch["adjacency"]
        nodes = jnp.ones((*adjacency.shape[:2], 1), adjacency.dtype)
        pooled = network(nodes, adjacency).mean(axis=1)
        hidden = jax.nn.relu(hk.Linear(model.widths[-1], name="graph")(pooled))
        return jnp.mean(jnp.square(readout(hidden, 1)[:, 0] - batch["target"])), {}

    metadata = unordered_metadata(model, f"random graphs of {NODES} nodes", SQUARE)
    return synthetic_family(name, metadata, draw, loss)


def random_graphs(key: jax.Array, count: int) -> Batch:
    """``adjacency`` [count, n, n] and ``target`` [count], y at the top of this file."""
    key_density, key_edge = jax.random.split(key)
    low, high = DENSITIES
    density = jax.random.uniform(key_density, (count, 1, 1), minval=low, maxval=high)
    edge = jax.random.uniform(key_edge, (count, NODES, NODES)) < density
    above = jnp.triu(edge.astype(jnp.float32), 1)
    adjacency = above + jnp.swapaxes(above, 1, 2)
    triangles = jnp.sum(adjacency @ adjacency * adjacency, axis=(1, 2)) / 6
    root = jnp.cbrt(triangles / math.comb(NODES, 3))
    mean, deviation = (low + high) / 2, (high - low) / math.sqrt(12)
    return {"adjacency": adjacency, "target": (root - mean) / deviation}
