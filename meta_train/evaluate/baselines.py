"""Hand-designed optimizers through the interface of learned ones.

θ is what is tuned: {"learning_rate": α, "cosine": 0 or 1, "horizon": T}, and

    α_t = α                                  constant
    α_t = α · ½(1 + cos(π · min(t/T, 1)))    cosine
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt import LearnedOptimizer

SCHEDULES = ("constant", "cosine")
MOMENTUM = 0.9


def hyperparameters(learning_rate: float, schedule: str, horizon: int) -> dict[str, float]:
    """θ of a baseline."""
    return {
        "learning_rate": float(learning_rate),
        "cosine": float(SCHEDULES.index(schedule)),
        "horizon": float(horizon),
    }


def _schedule(theta: Mapping[str, jax.Array]) -> Callable[[jax.Array], jax.Array]:
    def learning_rate(count: jax.Array) -> jax.Array:
        done = jnp.minimum(count / theta["horizon"], 1.0)
        decay = 0.5 * (1 + jnp.cos(jnp.pi * done))
        return theta["learning_rate"] * jnp.where(theta["cosine"] > 0, decay, 1.0)

    return learning_rate


def _baseline(
    name: str, make: Callable[[Callable[[jax.Array], jax.Array]], optax.GradientTransformation]
) -> LearnedOptimizer:
    def init(key: jax.Array) -> dict[str, Any]:
        del key
        return {k: jnp.float32(v) for k, v in hyperparameters(1e-3, "constant", 1).items()}

    def build(
        theta: Mapping[str, jax.Array], num_steps: Any = None
    ) -> optax.GradientTransformationExtraArgs:
        del num_steps  # the horizon of a schedule is tuned apart
        return optax.with_extra_args_support(make(_schedule(theta)))

    return LearnedOptimizer(name, {}, init, build)


BASELINES = {
    baseline.name: baseline
    for baseline in (
        _baseline("adam", optax.adam),
        _baseline("sgd_momentum", lambda rate: optax.sgd(rate, momentum=MOMENTUM)),
    )
}
