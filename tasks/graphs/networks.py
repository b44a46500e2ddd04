"""Networks that pass messages along the edges of graphs, a layer for each width.

    gcn    X ← φ(D^−½ (A + I) D^−½ X W + b),   D the degrees of A + I
    gin    X ← φ(W₂ φ(W₁ (X + A X / √n) + b₁) + b₂)
    gat    X ← φ(softmax_j(leaky(sᵀ W x_i + rᵀ W x_j)) W x_j + b),   j over i and its neighbours

Kipf and Welling, https://arxiv.org/abs/1609.02907; Xu et al., https://arxiv.org/abs/1810.00826;
Veličković et al., https://arxiv.org/abs/1710.10903. φ is ReLU, n the number of nodes.
"""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import Architecture

Layer = Callable[[jax.Array, jax.Array, int], jax.Array]
GraphNetwork = Callable[[jax.Array, jax.Array], jax.Array]
"""``network(nodes, adjacency)``: [B, n, d], [B, n, n] of 0 and 1 → [B, n, width]."""


def convolution(nodes: jax.Array, adjacency: jax.Array, width: int) -> jax.Array:
    """A layer of `gcn`. Shapes: [B, n, d], [B, n, n] → [B, n, width]."""
    joined = _with_loops(adjacency)
    scale = jax.lax.rsqrt(jnp.sum(joined, axis=2))
    normalized = joined * scale[:, :, None] * scale[:, None, :]
    return jax.nn.relu(hk.Linear(width, name="gcn")(normalized @ nodes))


def isomorphism(nodes: jax.Array, adjacency: jax.Array, width: int) -> jax.Array:
    """A layer of `gin`. Shapes: [B, n, d], [B, n, n] → [B, n, width]."""
    gathered = nodes + adjacency @ nodes / nodes.shape[1] ** 0.5
    hidden = jax.nn.relu(hk.Linear(width, name="gin_hidden")(gathered))
    return jax.nn.relu(hk.Linear(width, name="gin")(hidden))


def attention(nodes: jax.Array, adjacency: jax.Array, width: int) -> jax.Array:
    """A layer of `gat`, of one head. Shapes: [B, n, d], [B, n, n] → [B, n, width]."""
    values = hk.Linear(width, with_bias=False, name="gat_values")(nodes)
    parts = hk.Linear(2, with_bias=False, name="gat_scores")(values)
    scores = jax.nn.leaky_relu(parts[:, :, None, 0] + parts[:, None, :, 1])
    scores = jnp.where(_with_loops(adjacency) > 0, scores, jnp.finfo(scores.dtype).min)
    bias = hk.get_parameter("gat_bias", [width], init=jnp.zeros)
    return jax.nn.relu(jax.nn.softmax(scores) @ values + bias.reshape(1, 1, -1))


def _with_loops(adjacency: jax.Array) -> jax.Array:
    return adjacency + jnp.eye(adjacency.shape[1], dtype=adjacency.dtype)[None]


def _made(layer: Layer) -> Callable[[tuple[int, ...], str], GraphNetwork]:
    def make(widths: tuple[int, ...], option: str) -> GraphNetwork:
        del option

        def network(nodes: jax.Array, adjacency: jax.Array) -> jax.Array:
            for i, width in enumerate(widths):
                with hk.experimental.name_scope(f"layer_{i}"):
                    nodes = layer(nodes, adjacency, width)
            return nodes

        return network

    return make


def _row(summary: str, layer: Layer) -> Architecture:
    return Architecture(summary, "16x16", (1, None), (), _made(layer))


ARCHITECTURES = {
    "gcn": _row("widths of graph convolutions", convolution),
    "gin": _row("widths of graph isomorphism layers", isomorphism),
    "gat": _row("widths of layers of graph attention", attention),
}
