"""An LSTM (Hochreiter and Schmidhuber 1997) that predicts the next token of a sequence.

    i, f, g, o = W_x e_t + b_x + W_h h_{t−1} + b_h      (e_t the embedding of token t)
    c_t = σ(f)·c_{t−1} + σ(i)·tanh(g),    h_t = σ(o)·tanh(c_t)
    L_t = −log softmax(W_o h_t + b_o)[token t+1]

θ are the weights themselves: an update of θ is a step of training on truncated sequences. Two
bias vectors a gate, as in Vicol et al. 2021 (arXiv:2112.13835), where 50 tokens, an embedding
of 5 and 5 units make P = 790.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.problem import Theta, UnrolledProblem


class RecurrentState(NamedTuple):
    """h and c [units]; position, int32: tokens read."""

    hidden: jax.Array
    cell: jax.Array
    position: jax.Array


def initial_theta(
    key: jax.Array, *, tokens: int = 50, embedding: int = 5, units: int = 5
) -> dict[str, jax.Array]:
    """θ_0: the embedding from N(0, 1), all else uniform within ±1/√units.

    The four gates are stacked in the order i, f, g, o.
    """
    shapes = {
        "input_weights": (4 * units, embedding),
        "input_bias": (4 * units,),
        "hidden_weights": (4 * units, units),
        "hidden_bias": (4 * units,),
        "output_weights": (tokens, units),
        "output_bias": (tokens,),
    }
    bound = units**-0.5
    key_embedding, *keys = jax.random.split(key, 1 + len(shapes))
    drawn = {
        name: jax.random.uniform(k, shape, minval=-bound, maxval=bound)
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return {"embedding": jax.random.normal(key_embedding, (tokens, embedding)), **drawn}


def recurrent() -> UnrolledProblem:
    """The problem at the top of this file, from h_0 = c_0 = 0.

    θ is that of `initial_theta`; data are ``{"tokens": int32 [length + 1]}``, whose last token
    is only predicted. An episode is at most ``length`` steps long. Keys are not used.
    """

    def init(key: jax.Array, theta: Theta) -> RecurrentState:
        del key
        zeros = jnp.zeros(theta["hidden_weights"].shape[1], theta["hidden_weights"].dtype)
        return RecurrentState(zeros, zeros, jnp.zeros((), jnp.int32))

    def step(
        key: jax.Array, theta: Theta, state: RecurrentState, data: Mapping[str, jax.Array]
    ) -> tuple[RecurrentState, jax.Array]:
        del key
        token, following = (data["tokens"][state.position + ahead] for ahead in (0, 1))
        gates = (
            theta["input_weights"] @ theta["embedding"][token]
            + theta["input_bias"]
            + theta["hidden_weights"] @ state.hidden
            + theta["hidden_bias"]
        )
        i, f, g, o = jnp.split(gates, 4)
        cell = jax.nn.sigmoid(f) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        logits = theta["output_weights"] @ hidden + theta["output_bias"]
        loss = -jax.nn.log_softmax(logits)[following]
        return RecurrentState(hidden, cell, state.position + 1), loss

    return UnrolledProblem(init, step)
