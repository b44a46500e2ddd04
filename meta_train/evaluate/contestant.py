"""Who takes part in an evaluation, learned or not, through one interface.

One that is tuned has variants and a rate, and its θ is made of them. A schedule is

    α_t = α                                  constant
    α_t = α · ½(1 + cos(π · min(t/T, 1)))    cosine
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import LearnedOptimizer

RATE = "learning_rate"

Settings = Mapping[str, float]
Variants = Mapping[str, Callable[[int], Settings]]
Schedule = Callable[[jax.Array], jax.Array]


def params_as_trained(state: Any, params: Any) -> Any:
    """What most optimizers are scored by."""
    del state
    return params


class Contestant(NamedTuple):
    """One row of the table.

    ``identity``: JSON values that tell it from any other; ``variants``: {name: what it sets beside
    the rate, of a horizon}, none where there is nothing to tune; ``theta(settings)``: NumPy
    arrays, θ of ``optimizer``; ``scored(state, params)``: the parameters that a score is of.
    """

    name: str
    title: str
    learned: bool
    identity: Mapping[str, Any]
    optimizer: LearnedOptimizer
    theta: Callable[[Settings], Any]
    variants: Variants = MappingProxyType({})
    scored: Callable[[Any, Any], Any] = params_as_trained

    def settings(self, variant: str, learning_rate: float, horizon: int) -> Settings:
        """Of a variant at a rate, for a horizon of so many steps."""
        return {RATE: float(learning_rate), **self.variants[variant](horizon)}

    def label(self, variant: str) -> str:
        """The name of a variant in tables: ``adam/cosine``."""
        return f"{self.name}/{variant}"


SCHEDULES: Variants = {
    "constant": lambda horizon: {"cosine": 0.0, "horizon": float(horizon)},
    "cosine": lambda horizon: {"cosine": 1.0, "horizon": float(horizon)},
}
FIRST_SCHEDULE: Settings = {RATE: 1e-3, **SCHEDULES["constant"](1)}


def schedule_of(settings: Mapping[str, jax.Array]) -> Schedule:
    """α_t at the top of this file, as an optax schedule; the settings may be traced."""

    def learning_rate(count: jax.Array) -> jax.Array:
        done = jnp.minimum(count / settings["horizon"], 1.0)
        decay = 0.5 * (1 + jnp.cos(jnp.pi * done))
        return settings[RATE] * jnp.where(settings["cosine"] > 0, decay, 1.0)

    return learning_rate


def as_arrays(settings: Settings) -> dict[str, np.ndarray]:
    """Settings as the float32 scalars that a program takes."""
    return {name: np.asarray(value, np.float32) for name, value in settings.items()}
