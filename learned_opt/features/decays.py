"""Decays that are part of θ: β = 1 − (1 − β₀)·exp(10·offset), with an offset of 0 at first.

In the parametrisation log(1−β)/10 (Metz et al. 2022, https://arxiv.org/abs/2203.11860).
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from learned_opt.features.statistics import Decays

SPEED = 10.0
MODULE = "decays"


class DecayOffsets(hk.Module):
    """The offsets of decays, by the names of `Decays`."""

    def __init__(self, initial: Decays):
        super().__init__(name=MODULE)
        self.initial = initial

    def __call__(self) -> Decays:
        """The decays, [decays] each, in [0, 1]."""
        return Decays(
            *(
                _decay(hk.get_parameter(name, [len(values)], init=jnp.zeros), values)
                for name, values in self.initial._asdict().items()
            )
        )


def _decay(offsets: jax.Array, initial: Any) -> jax.Array:
    share = 1 - jnp.asarray(initial, jnp.float32)
    return jnp.clip(1 - share * jnp.exp(SPEED * offsets), 0.0, 1.0)


def init_offsets(initial: Decays) -> hk.MutableParams:
    """Offsets of 0."""
    return _functions(initial).init(None)


def learned_decays(theta: Any, initial: Decays) -> Decays:
    """The decays at the top of this file, of a θ that has the offsets among others."""
    return _functions(initial).apply({MODULE: theta[MODULE]}, None)


def _functions(initial: Decays) -> hk.Transformed:
    return hk.transform(lambda: DecayOffsets(initial)())
