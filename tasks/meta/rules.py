"""Update rules that are small enough to be trained as tasks, in Haiku.

momentum   m ← β m + g,  u = −α m,  with α = exp(p₀), β = sigmoid(p₁)
schedule   u_t = −exp(p_t) g,  a rate for every step
mlp        u = −RATE · network(g, m) for each entry by itself, m a mean of decay 0.9
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.images.perceptrons import mlp
from tasks.meta.unrolls import Rule

FIRST_RATE, FIRST_MOMENTUM = 1e-3, 0.0  # what training begins with: next to nothing
RATE = 0.1
DECAY = 0.9
SMALL = hk.initializers.RandomNormal(1e-2)


def momentum(steps: int, shape: tuple[int, ...], widths: tuple[int, ...]) -> tuple[Rule, Any]:
    """Gradient descent with momentum; its two hyperparameters are trained."""
    del steps, widths
    log_rate = hk.get_parameter("log_rate", [], init=hk.initializers.Constant(jnp.log(FIRST_RATE)))
    logit = hk.get_parameter("momentum", [], init=hk.initializers.Constant(FIRST_MOMENTUM))

    def rule(gradient: jax.Array, mean: jax.Array) -> tuple[jax.Array, Any]:
        mean = jax.nn.sigmoid(logit) * mean + gradient
        return -jnp.exp(log_rate) * mean, mean

    return rule, jnp.zeros(shape)


def schedule(steps: int, shape: tuple[int, ...], widths: tuple[int, ...]) -> tuple[Rule, Any]:
    """Gradient descent whose rate is trained for every step."""
    del shape, widths
    first = hk.initializers.Constant(jnp.log(FIRST_RATE))
    log_rates = hk.get_parameter("log_rates", [steps], init=first)

    def rule(gradient: jax.Array, count: jax.Array) -> tuple[jax.Array, Any]:
        return -jnp.exp(log_rates[count]) * gradient, count + 1

    return rule, jnp.asarray(0, jnp.int32)


def network(steps: int, shape: tuple[int, ...], widths: tuple[int, ...]) -> tuple[Rule, Any]:
    """A per-parameter perceptron of the gradient and its mean."""
    del steps

    def rule(gradient: jax.Array, mean: jax.Array) -> tuple[jax.Array, Any]:
        mean = DECAY * mean + (1 - DECAY) * gradient
        inputs = jnp.stack([gradient.ravel(), mean.ravel()], axis=1)
        update = -RATE * apply(params, inputs).reshape(gradient.shape)
        return update, mean

    forward = hk.without_apply_rng(
        hk.transform(lambda inputs: mlp(inputs, widths, 1, jnp.tanh, last_init=SMALL))
    )
    params = hk.lift(forward.init, name="rule")(
        hk.next_rng_key() if hk.running_init() else None, jnp.zeros((1, 2))
    )
    apply = forward.apply
    return rule, jnp.zeros(shape)


RULES = {"momentum": momentum, "schedule": schedule, "mlp": network}
