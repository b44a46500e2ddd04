"""What language models of one shape may differ in: their initial weights and noise in the text.

Each input token is replaced by one of another text of the minibatch with a drawn probability:
Xie et al., https://arxiv.org/abs/1703.02573.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Configuration
from tasks.text.architectures import SequenceModel

INIT_SCALES = (0.5, 2.0)  # log-uniform
NOISE_SHARES = (0.0, 0.2)  # uniform


class Variation(NamedTuple):
    """``sample(key) -> cfg``; ``model(cfg, model)`` and ``inputs(cfg, tokens)``, integers [B, L],
    are those of one of the tasks.
    """

    sample: Callable[[jax.Array], Configuration]
    model: Callable[[Configuration, SequenceModel], SequenceModel]
    inputs: Callable[[Configuration, jax.Array], jax.Array]


def scaled_init(scale: jax.Array, model: SequenceModel) -> SequenceModel:
    """The initial weights of all linear layers of the model are ``scale`` times what they were."""

    def create(make: Any, shape: Any, dtype: Any, init: Any, context: Any) -> jax.Array:
        value = make(shape, dtype, init)  # w, or w_i and w_h of a cell
        return scale * value if context.name.startswith("w") else value

    def apply(inputs: jax.Array) -> jax.Array:
        with hk.custom_creator(create):
            return model.apply(inputs)

    return model._replace(apply=apply)


def noised(share: jax.Array, tokens: jax.Array) -> jax.Array:
    """A ``share`` of the tokens comes from the next text of the batch, in scoring too."""
    replaced = jax.random.bernoulli(hk.next_rng_key(), share, tokens.shape)
    return jnp.where(replaced, jnp.roll(tokens, 1, axis=0), tokens)


def sample_init_scale(key: jax.Array) -> jax.Array:
    """Log-uniform within `INIT_SCALES`."""
    low, high = np.log(INIT_SCALES)
    return jnp.exp(jax.random.uniform(key, (), minval=low, maxval=high))


def _sample(key: jax.Array) -> Configuration:
    key_scale, key_noise = jax.random.split(key)
    low, high = NOISE_SHARES
    return {
        "init_scale": sample_init_scale(key_scale),
        "noise": jax.random.uniform(key_noise, (), minval=low, maxval=high),
    }


PLAIN = Variation(lambda key: {}, lambda cfg, model: model, lambda cfg, tokens: tokens)
VARIED = Variation(
    _sample,
    lambda cfg, model: scaled_init(cfg["init_scale"], model),
    lambda cfg, tokens: noised(cfg["noise"], tokens),
)
