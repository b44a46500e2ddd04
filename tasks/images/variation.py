"""Activations of hidden layers by name, and what varies between the tasks of one model."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Configuration

INIT_SCALES = (0.3, 3.0)  # of a varied family: log-uniform
NOISES = (0.0, 0.5)  # standard deviation that is added to standardised pixels: uniform
VARIED = "varied"
NEAR_ZERO = hk.initializers.TruncatedNormal(0.01)  # of last layers that are to say zero

Activation = Callable[[jax.Array], jax.Array]

DRAWN: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
"""Those that a varied family draws from."""

ACTIVATIONS: dict[str, Activation] = DRAWN | {
    "elu": jax.nn.elu,
    "leaky": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
}


def activation_name(option: str, default: str) -> str:
    """The activation that an option names, "varied" where tasks differ in it, or the default."""
    return option if option in (VARIED, *ACTIVATIONS) else default


def activation_of(cfg: Configuration, name: str) -> Activation:
    """The activation of this name; of "varied", the one that ``cfg`` holds."""
    if name == VARIED:
        return partial(jax.lax.switch, cfg["activation"], list(DRAWN.values()))
    return ACTIVATIONS[name]


def init_scale_of(cfg: Configuration) -> jax.Array | float:
    """What multiplies initial hidden weights; 1 where tasks do not differ in it."""
    return cfg.get("init_scale", 1.0)


def noised(images: jax.Array, cfg: Configuration) -> jax.Array:
    """Images with the Gaussian noise of a varied task, or as they are."""
    if "noise" not in cfg:
        return images
    return images + cfg["noise"] * jax.random.normal(hk.next_rng_key(), images.shape, images.dtype)


def scaled(scale: jax.Array | float, fan_in: int) -> Callable[[Sequence[int], Any], jax.Array]:
    """An initializer: truncated normal of standard deviation ``scale`` / √fan_in."""

    def init(shape: Sequence[int], dtype: Any) -> jax.Array:
        return scale * hk.initializers.TruncatedNormal(fan_in**-0.5)(shape, dtype)

    return init


def sample_variation(key: jax.Array) -> Configuration:
    """An activation, and the scale of the initial hidden weights (log-uniform)."""
    key_activation, key_scale = jax.random.split(key)
    return {
        "activation": jax.random.randint(key_activation, (), 0, len(DRAWN)),
        "init_scale": log_uniform(key_scale, INIT_SCALES),
    }


def sample_noisy_variation(key: jax.Array) -> Configuration:
    """`sample_variation`, and noise on the images."""
    key_variation, key_noise = jax.random.split(key)
    low, high = NOISES
    noise = jax.random.uniform(key_noise, (), minval=low, maxval=high)
    return sample_variation(key_variation) | {"noise": noise}


def log_uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """A scalar between the bounds whose logarithm is uniform."""
    low, high = np.log(bounds)
    return jnp.exp(jax.random.uniform(key, (), minval=low, maxval=high))


def nothing(key: jax.Array) -> Configuration:
    """The configuration of tasks that do not differ."""
    del key
    return {}
