"""The community of each node of a stochastic block model, where some nodes tell theirs.

    P(A_ij = 1) = p within a community, q between two;    x_i = [1, told_i · onehot(c_i)]

Holland et al., https://doi.org/10.1016/0378-8733(83)90021-7. The loss is the mean cross-entropy
over all nodes, log C where nothing is known of C communities.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Batch, Configuration, Metrics, TaskFamily
from tasks.graphs.base import unordered_metadata
from tasks.graphs.networks import ARCHITECTURES
from tasks.images.objectives import classification
from tasks.readout import readout
from tasks.synthetic import synthetic_family

NODES = 16
COMMUNITIES = 3
WITHIN, BETWEEN, TOLD = 0.6, 0.1, 0.5


def _constant(key: jax.Array) -> Configuration:
    del key
    values = {"within": WITHIN, "between": BETWEEN, "told": TOLD}
    return jax.tree.map(jnp.float32, values)


def sample_contrast(key: jax.Array) -> Configuration:
    """Densities from dense and clear to sparse and blurred, and the share of nodes that tell."""
    keys = jax.random.split(key, 3)
    return {
        "within": jax.random.uniform(keys[0], (), minval=0.4, maxval=0.8),
        "between": jax.random.uniform(keys[1], (), minval=0.02, maxval=0.2),
        "told": jax.random.uniform(keys[2], (), minval=0.3, maxval=0.7),
    }


def community_family(
    name: str,
    model: ModelName,
    *,
    sample: Callable[[jax.Array], Configuration] = _constant,
) -> TaskFamily:
    """The problem for one of `ARCHITECTURES`; ``sample`` draws p, q and the share told."""
    network = ARCHITECTURES[model.architecture].make(model.widths, model.option)

    def draw(key: jax.Array, count: int) -> Batch:
        key_label, key_edge, key_told = jax.random.split(key, 3)
        return {
            "label": jax.random.randint(key_label, (count, NODES), 0, COMMUNITIES),
            "edge": jax.random.uniform(key_edge, (count, NODES, NODES)),
            "told": jax.random.uniform(key_told, (count, NODES)),
        }

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        nodes, adjacency = block_model(cfg, batch)
        logits = readout(network(nodes, adjacency), COMMUNITIES)
        labels = {"label": batch["label"].reshape(-1)}
        return classification(logits.reshape(-1, COMMUNITIES), labels)

    data = f"block models of {NODES} nodes"
    metadata = unordered_metadata(model, data, math.log(COMMUNITIES))
    return synthetic_family(name, metadata, draw, loss, sample)


def block_model(cfg: Configuration, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The nodes [B, n, 1 + COMMUNITIES] and the adjacency [B, n, n] that uniform numbers give.

    The number above the diagonal decides on the edge between two nodes.
    """
    label, edge = batch["label"], batch["edge"]
    same = label[:, :, None] == label[:, None, :]
    above = jnp.triu((edge < jnp.where(same, cfg["within"], cfg["between"])).astype(edge.dtype), 1)
    told = (batch["told"] < cfg["told"]).astype(edge.dtype)[:, :, None]
    shown = told * jax.nn.one_hot(label, COMMUNITIES, dtype=edge.dtype)
    nodes = jnp.concatenate([jnp.ones_like(told), shown], axis=2)
    return nodes, above + jnp.swapaxes(above, 1, 2)
